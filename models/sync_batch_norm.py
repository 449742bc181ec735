"""Batch norm whose statistics are of the rows of all ranks, on any device: torch's nn.SyncBatchNorm refuses the CPU."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d of (R, C) or (B, C, N), in training mode over all ranks, which may have unequal numbers of rows.

    Every rank's running statistics are the same. Rows that stand for several: models/batch_norm.py.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))  # from half precision under autocast
        rows = wide if x.dim() == 2 else wide.transpose(1, 2)  # (..., C)
        axes = tuple(range(x.dim() - 1))
        total = sum_over_ranks(rows.new_full((1,), rows[..., 0].numel()))  # not new_tensor, which waits for the GPU
        mean = _SumOverRanks.apply(rows.sum(axes)) / total  # (C,)
        rows = rows - mean
        variance = _SumOverRanks.apply(rows.square().sum(axes)) / total  # (C,)
        update_running_statistics(self, mean.detach(), variance.detach(), total)
        rows = torch.addcmul(self.bias, rows, self.weight * (variance + self.eps).rsqrt())
        return (rows if x.dim() == 2 else rows.transpose(1, 2)).to(x.dtype)


def synchronise(model: nn.Module) -> None:
    """Makes every nn.BatchNorm1d of the network a SyncBatchNorm1d. Its parameters and their names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = SyncBatchNorm1d


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Replaces the tensor by its sum over the ranks, if there are several; returns it. All ranks have to call this."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def over_ranks(mean: Tensor, variance: Tensor, total: float) -> tuple[Tensor, Tensor, float]:
    """Of the rows of all ranks, from those of each rank's: the same bits on all. All ranks have to call this."""
    if not dist.is_initialized():
        return mean, variance, total
    own = torch.cat([mean, variance, torch.tensor([total], dtype=torch.float64)])  # (2 C + 1,) float64
    parts = own.new_zeros(dist.get_world_size(), len(own))
    parts[dist.get_rank()] = own
    means, variances, totals = sum_over_ranks(parts).tensor_split([len(mean), 2 * len(mean)], 1)
    total = totals.sum()
    mean_of_all = (totals * means).sum(0) / total  # (C,)
    variance_of_all = (totals * (variances + (means - mean_of_all).square())).sum(0) / total  # (C,)
    return mean_of_all.to(mean.dtype), variance_of_all.to(mean.dtype), total.item()


def update_running_statistics(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, total: Tensor | float) -> None:
    """mean, variance (C,) of a batch of so many rows; the running variance is unbiased, as nn.BatchNorm1d's."""
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (total / (total - 1)), norm.momentum)


class _SumOverRanks(torch.autograd.Function):
    """What every rank adds to the sum gets the gradients of what all ranks do with it: their sum."""

    @staticmethod
    def forward(ctx, x):
        return sum_over_ranks(x.clone())

    backward = forward
