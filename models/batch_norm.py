"""Batch norm and ReLU on rows, one of which may stand for several equal ones, and the maximum over neighbours.

Shapes: R rows, C channels, P pairs of a centre and a neighbour, G centres.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.sync_batch_norm import SyncBatchNorm1d, over_ranks, update_running_statistics
from ops import rows
from training import ranks


def batch_norm_relu(x: Tensor, norm: nn.BatchNorm1d, copies: Tensor | None = None) -> Tensor:
    """relu(norm(x)) of rows x (R, C), as if each row stood there as often as copies (R,) says, None for once.

    mean = sum_r n_r x_r / sum_r n_r, and so the variance, over the rows of all ranks if norm is a SyncBatchNorm1d.
    Updates the running statistics of `norm` in training mode.
    Raises ValueError in training mode when there is a single row, which has no variance.
    """
    if not rows.ready(x):
        if x.device.type != "cpu":
            return F.relu(norm(x))
        if not norm.training:  # the arithmetic of ops/rows.cpp: the same bits
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            return F.relu((x.to(norm.weight.dtype) - norm.running_mean) * scale + norm.bias)
        columns = x.t().unsqueeze(0).contiguous()  # (1, C, R): of rows, torch's statistics are 100 times less accurate
        return F.relu(norm(columns))[0].t().contiguous()
    x = x.to(norm.weight.dtype)  # from half precision under autocast
    return rows.NormaliseReLU.apply(*_prepare(x, norm, copies))


def batch_norm_relu_max(x: Tensor, norm: nn.BatchNorm1d, start: Tensor, copies: Tensor | None) -> Tensor:
    """The maximum of batch_norm_relu(x) over the pairs start[i] to start[i + 1] - 1 of each centre i:
    x (P, C), start (G + 1,) int64 rising, no centre without a pair -> (G, C)."""
    if not rows.ready(x):
        return batch_norm_relu(x, norm).unflatten(0, (start.shape[0] - 1, -1)).amax(1)  # equally many pairs a centre
    x = x.to(norm.weight.dtype)
    return rows.NormaliseReLUMax.apply(*_prepare(x, norm, copies), start)


def _prepare(x: Tensor, norm: nn.BatchNorm1d, copies: Tensor | None) -> tuple:
    """What both operators start from: x, scale, shift, mean, 1 / std, copies, the number of rows that mean and std are
    of, and what adds up a tensor over the ranks if those rows are of all ranks."""
    x, copies = x.contiguous(), None if copies is None else copies.to(x.dtype)
    synchronised = isinstance(norm, SyncBatchNorm1d)
    if norm.training:
        moments = rows.moments(x.detach(), copies)
        mean, variance, total = over_ranks(moments) if synchronised else moments
        if total < 2:
            raise ValueError(f"batch norm needs more than 1 row in training mode, got {tuple(x.shape)}")
        update_running_statistics(norm, mean, variance, total)
    else:
        mean, variance, total = norm.running_mean, norm.running_var, float("inf")
    sum_over_ranks = ranks.sum_over_ranks if synchronised and norm.training else None
    return x, norm.weight, norm.bias, mean, (variance + norm.eps).rsqrt(), copies, total, sum_over_ranks


def set_batch_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Sets the weight of the newest batch in the running statistics of every batch norm in `model`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
