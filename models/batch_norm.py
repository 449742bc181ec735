"""Batch norm and ReLU on rows, one of which may stand for several equal ones, and the maximum over groups of rows.

Shapes: R rows, C channels, G groups.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.sync_batch_norm import SyncBatchNorm1d, over_ranks, sum_over_ranks, update_running_statistics
from ops import rows


def batch_norm_relu(
    x: Tensor, norm: nn.BatchNorm1d, multiplicity: Tensor | None = None, start: Tensor | None = None
) -> Tensor:
    """relu(norm(x)) of rows x (R, C), as if each row stood there as often as its multiplicity (R,), None for once.

    With start (G + 1,) int64 rising, the maximum of that over the rows start[i] to start[i + 1] - 1 of each group i,
    none of which is empty -> (G, C).
    mean = sum_r n_r x_r / sum_r n_r, and so the variance, over the rows of all ranks if norm is a SyncBatchNorm1d.
    Updates the running statistics of `norm` in training mode.
    Raises ValueError in training mode when there is a single row, which has no variance.
    """
    if not rows.ready(x):
        y = _in_torch(x, norm)
        return y if start is None else y.unflatten(0, (start.shape[0] - 1, -1)).amax(1)  # groups of one size
    x = x.to(norm.weight.dtype).contiguous()  # from half precision under autocast
    multiplicity = None if multiplicity is None else multiplicity.to(x.dtype)
    mean, variance, total, add_up = norm.running_mean, norm.running_var, float("inf"), None
    if norm.training:
        mean, variance, total = rows.moments(x.detach(), multiplicity)
        if isinstance(norm, SyncBatchNorm1d):
            (mean, variance, total), add_up = over_ranks(mean, variance, total), sum_over_ranks
        if total < 2:
            raise ValueError(f"batch norm needs more than 1 row in training mode, got {tuple(x.shape)}")
        update_running_statistics(norm, mean, variance, total)
    statistics = mean, (variance + norm.eps).rsqrt(), multiplicity, total
    return rows.NormaliseReLU.apply(x, norm.weight, norm.bias, *statistics, add_up, start)


def _in_torch(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    if x.device.type != "cpu":
        return F.relu(norm(x))
    if not norm.training:  # the arithmetic of ops/rows.cpp: the same bits
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return F.relu((x.to(norm.weight.dtype) - norm.running_mean) * scale + norm.bias)
    columns = x.t().unsqueeze(0).contiguous()  # (1, C, R): of rows, torch's statistics are 100 times less accurate
    return F.relu(norm(columns))[0].t().contiguous()


def set_batch_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Sets the weight of the newest batch in the running statistics of every batch norm in `model`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
