"""What repeats in a batch of clouds, and operators on rows (R, C) that need not repeat it, for the CPU.

Points drawn with replacement, and the padding of balls, make most rows of a textbook PointNet++ copies of others. Rows
that stand for several carry their number in `copies`. Everything here runs in ops/rows.cpp; where `ready` says no, a
network computes all rows with plain torch.

Shapes: B clouds, N points, M centres, S neighbours, C channels, R distinct points, P pairs of a centre and a neighbour.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

import ops
from ops import cpu

DTYPES = (torch.float32, torch.float64)  # of the kernels
WORD = 64  # random bits in one of the generator's numbers


def ready(tensor: Tensor) -> bool:
    """Whether these operators can run: C++ was found, the tensor is a CPU's and holds values, which it does not where
    torch compiles, traces or, in torch.func, transforms."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not (recorded or torch._C._are_functorch_transforms_active()) and ops.serves(tensor) is cpu


class Distinct(NamedTuple):
    """The distinct points among B x N, cloud after cloud."""

    row: Tensor  # (B, N) int64, the number of each point among the distinct ones
    first: Tensor  # (R,) int64, where each distinct point stands first among the B N points
    copies: Tensor | None  # (R,) float32, how often; None for once


class Pairs(NamedTuple):
    """Each centre's distinct neighbours, in the order of the ball query, centre after centre."""

    row: Tensor  # (P,) int64, the neighbour
    centre: Tensor  # (P,) int64, the centre among B M
    start: Tensor  # (B M + 1,) int64: the pairs of centre i are start[i] to start[i + 1] - 1
    copies: Tensor | None  # (P,) float32, in how many of the S slots; None for one


def distinct_points(points: Tensor) -> Distinct:
    """points (B, N, K) floating. Points are equal if all their bits are; unless `ready`, each is called distinct."""
    B, N, K = points.shape
    if not ready(points):
        row = torch.arange(B * N, device=points.device)
        return Distinct(row.view(B, N), row, None)
    words = points.detach().to(torch.promote_types(points.dtype, torch.float32)).contiguous().view(torch.int32)
    row, first = points.new_empty(B, N, dtype=torch.int64), points.new_empty(B * N, dtype=torch.int64)
    number = torch.empty(1, dtype=torch.int64)
    cpu.call("batch_distinct_points", words, B, N, words.shape[2], row, first, number)
    first = first[: number.item()].clone()
    return Distinct(row, first, torch.bincount(row.flatten(), minlength=len(first)).float())


def distinct_neighbours(index: Tensor, row: Tensor) -> Pairs:
    """Neighbours (B, M, S) int64 among points whose numbers are row (B, N) int64, rising from cloud to cloud.
    Unless `ready`, every slot is a pair."""
    B, M, S = index.shape
    slots = B * M * S
    if not ready(index):
        row = row.gather(1, index.flatten(1)).flatten()
        centre = torch.arange(B * M, device=index.device).repeat_interleave(S)
        return Pairs(row, centre, torch.arange(0, slots + 1, S, device=index.device), None)
    rows, centre, start = index.new_empty(slots), index.new_empty(slots), index.new_empty(B * M + 1)
    copies = torch.empty(slots)
    cpu.call("batch_distinct_neighbours", index.contiguous(), row, B, row.shape[1], M, S, rows, centre, copies, start)
    pairs = int(start[-1])
    return Pairs(rows[:pairs], centre[:pairs], start, copies[:pairs])


def gather(features: Tensor, row: Tensor) -> Tensor:
    """features (R, C), row (P,) int64 in [0, R) -> (P, C). Differentiable in features."""
    if ready(features) and features.dtype in DTYPES:
        return _Gather.apply(features, row, None)
    return features.index_select(0, row)


def gather_dropout(features: Tensor, row: Tensor, p: float) -> Tensor:
    """Dropout of gather(features, row): features (R, C), row (P,) int64 -> (P, C), each value 0 with probability p.

    Where `ready`, with p = 1/2 and C a multiple of 64, a value's fate is one random bit of torch's generator: torch
    itself draws a number for each, which takes longer than a layer.
    """
    if ready(features) and features.dtype in DTYPES and p == 0.5 and features.shape[1] % WORD == 0:
        coins = torch.empty(len(row) * features.shape[1] // WORD, dtype=torch.int64).random_(-(2**63), None)
        return _Gather.apply(features, row, coins)
    return F.dropout(gather(features, row), p)


class _Gather(torch.autograd.Function):
    """Rows of features; with coins, 0 where a bit of theirs is 0 and twice the value where it is 1."""

    @staticmethod
    def forward(ctx, features, row, coins):
        ctx.save_for_backward(row, coins)
        ctx.rows = len(features)
        if coins is None:
            return features.index_select(0, row)
        kept = features.new_empty(len(row), features.shape[1])
        _call("take_rows", features.contiguous(), row, coins, *kept.shape, kept)
        return kept

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        row, coins = ctx.saved_tensors
        total = grad.new_empty(ctx.rows, grad.shape[1])
        _call("add_rows", grad.contiguous(), row, coins, len(grad), *total.shape, total)
        return total, None, None


class Moments(NamedTuple):
    """Mean (C,) and biased variance (C,) over a number of rows, copies counted."""

    mean: Tensor
    variance: Tensor
    total: float


def moments(x: Tensor, copies: Tensor | None) -> Moments:
    """x (R, C), copies (R,) or None for one of each."""
    R, C = x.shape
    mean, variance, total = x.new_empty(C), x.new_empty(C), torch.empty(1, dtype=torch.float64)
    _call("statistics", x, copies, R, C, mean, variance, total)
    return Moments(mean, variance, total.item())


class NormaliseReLU(torch.autograd.Function):
    """relu((x - mean) / std * scale + shift) of x (R, C); mean, std and total are those of x, or constants if the total
    is infinite.

    The gradient through mean and std reaches every row in proportion to its copies, with x^ = (x - mean) / std:
    scale / std (g - copies (sum g + x^ sum(g x^)) / total). Where x is one rank's share of the rows that mean, std and
    total are of, sum_over_ranks adds up a tensor over the ranks, in place; else it is None.
    """

    @staticmethod
    def forward(ctx, x, scale, shift, mean, inverse_std, copies, total, sum_over_ranks):
        factor = scale * inverse_std
        y = torch.empty_like(x)
        _call("normalise_relu", x, mean, factor, shift, *x.shape, y)
        ctx.save_for_backward(x, shift, mean, inverse_std, factor, copies)
        ctx.total, ctx.sum_over_ranks = total, sum_over_ranks
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, shift, mean, inverse_std, factor, copies = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        total, product = torch.empty_like(mean), torch.empty_like(mean)  # sums of g, and of g (x - mean)
        _call("normalise_relu_sums", grad, x, mean, factor, shift, *x.shape, total, product)
        constant, slope = _through_statistics(ctx, total, product, inverse_std)
        _call("normalise_relu_backward", grad, x, mean, factor, shift, copies, constant, slope, *x.shape, grad_x)
        return grad_x, product * inverse_std, total, None, None, None, None, None


class NormaliseReLUMax(torch.autograd.Function):
    """The maximum of NormaliseReLU(x) over the rows of each centre: x (P, C), start (G + 1,) -> (G, C).

    A whole channel rises or falls with x, so the maximum, or the minimum where scale < 0, is found in x first, and only
    one row a centre is normalised.
    """

    @staticmethod
    def forward(ctx, x, scale, shift, mean, inverse_std, copies, total, sum_over_ranks, start):
        factor, shape = scale * inverse_std, (len(start) - 1, x.shape[1])
        y, which = x.new_empty(shape), x.new_empty(shape, dtype=torch.int32)
        _call("maximum", x, start, mean, factor, shift, *shape, y, which)
        ctx.save_for_backward(x, y, which, start, mean, inverse_std, factor, copies)
        ctx.total, ctx.sum_over_ranks = total, sum_over_ranks
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, y, which, start, mean, inverse_std, factor, copies = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        total, product = torch.empty_like(mean), torch.empty_like(mean)
        _call("maximum_sums", grad, y, x, which, mean, *y.shape, total, product)
        constant, slope = _through_statistics(ctx, total, product, inverse_std)
        statistics = (mean, factor, copies, constant, slope)
        _call("maximum_backward", grad, y, x, which, start, *statistics, *y.shape, grad_x)
        return grad_x, product * inverse_std, total, None, None, None, None, None, None


def _through_statistics(ctx, total: Tensor, product: Tensor, inverse_std: Tensor) -> tuple[Tensor, Tensor]:
    """sum g / rows and sum g (x - mean) / std^2 / rows, (C,) each, from this rank's sums."""
    if ctx.sum_over_ranks:
        total, product = ctx.sum_over_ranks(torch.stack([total, product]))
    return total / ctx.total, product * inverse_std**2 / ctx.total


def _call(function: str, values: Tensor, *arguments) -> None:
    cpu.call(f"{function}_{str(values.dtype).removeprefix('torch.')}", values, *arguments)
