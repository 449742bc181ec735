"""The shared MLP of PointNet++ on rows (..., C): one small network applied to every point, as plain matrix products.

Also how batch norm works on rows, and its momentum. Shapes: R rows, C channels.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPS = 1e-3  # of batch norm, in the original PointNet++ code (TensorFlow's default)
BLOCK_VALUES = 2**18  # of rows worked on at a time: 1 MiB of float32, half of a core's cache on current CPUs


class SharedMLP(nn.Module):
    """Linear without bias, batch norm and ReLU, for each pair of neighbouring numbers in `channels`.

    Set abstraction and feature propagation apply the first linear layer on their own, because it commutes with
    gathering and with interpolation, and continue with `after_first_linear`.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(c, eps=EPS) for c in channels[1:])
        for linear in self.linears:
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels[0]) -> (..., channels[-1])."""
        return self.after_first_linear(self.linears[0](x))

    def after_first_linear(self, x: Tensor) -> Tensor:
        """(..., channels[1]) -> (..., channels[-1])."""
        rows = batch_norm_relu(x.flatten(0, -2), self.norms[0])  # (R, channels[1])
        for linear, norm in zip(self.linears[1:], self.norms[1:], strict=True):
            rows = batch_norm_relu(linear(rows), norm)  # (R, C)
        return rows.unflatten(0, x.shape[:-1])


def batch_norm_relu(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """relu(norm(x)) of rows (R, C), with accurate statistics on the CPU; updates the running statistics of `norm`.

    torch adds up the statistics of rows one row after the other on the CPU: with 262,144 rows they are 100 times less
    accurate than in the layout (B, C, N). Here they are summed block by block, which is accurate, and fast as well: a
    block stays in the cache from one operation to the next.

    Raises ValueError in training mode when there is a single row, which has no variance.
    """
    if not norm.training or x.device.type != "cpu":
        return F.relu(norm(x))
    if len(x) < 2:
        raise ValueError(f"batch norm needs more than 1 row in training mode, got {tuple(x.shape)}: use larger clouds")
    y, mean, variance = _BatchNormReLU.apply(x.to(norm.weight.dtype), norm.weight, norm.bias, norm.eps)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (len(x) / (len(x) - 1)), norm.momentum)  # unbiased, as nn.BatchNorm1d
    return y


class _BatchNormReLU(torch.autograd.Function):
    """Rows (R, C), scale (C), shift (C) -> relu of the normalised rows (R, C), their mean (C) and variance (C)."""

    @staticmethod
    def forward(ctx, x, scale, shift, eps):
        y = torch.empty_like(x)
        mean = torch.stack([block.sum(0) for block in _blocks(x)]).sum(0) / len(x)
        variance = torch.stack([(block - mean).square_().sum(0) for block in _blocks(x)]).sum(0) / len(x)  # biased
        inverse_std = (variance + eps).rsqrt()
        for x_block, y_block in zip(_blocks(x), _blocks(y), strict=True):
            torch.sub(x_block, mean, out=y_block).mul_(scale * inverse_std).add_(shift).relu_()
        ctx.save_for_backward(x, y, scale, mean, inverse_std)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _grad_mean, _grad_variance):
        x, y, scale, mean, inverse_std = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        sums, products = [], []
        for g, x_block, y_block, out in zip(_blocks(grad), _blocks(x), _blocks(y), _blocks(grad_x), strict=True):
            torch.ops.aten.threshold_backward.grad_input(g, y_block, 0, grad_input=out)  # through the ReLU
            sums.append(out.sum(0))
            products.append((x_block - mean).mul_(out).sum(0))
        grad_shift = torch.stack(sums).sum(0)
        grad_scale = torch.stack(products).sum(0) * inverse_std
        # scale * inverse_std * (g - mean(g) - x^ mean(g x^)), with x^ = (x - mean) * inverse_std
        for x_block, out in zip(_blocks(x), _blocks(grad_x), strict=True):
            projection = (x_block - mean).mul_(grad_scale * inverse_std / len(x)).add_(grad_shift / len(x))
            out.sub_(projection).mul_(scale * inverse_std)
        return grad_x, grad_scale, grad_shift, None


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(1, BLOCK_VALUES // rows.shape[1]))


def set_batch_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Sets the weight of the newest batch in the running statistics of every batch norm in `model`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
