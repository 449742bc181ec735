"""What repeats in a batch of clouds, and operators on rows (R, C) that need not repeat it, for the CPU.

Points drawn with replacement, and the padding of balls, make most rows of a textbook PointNet++ copies of others. How
many a row stands for is its `multiplicity`. Everything here runs in ops/rows.cpp; where `ready` says no, a network
computes all rows with plain torch.

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
    """The R distinct points among B x N, cloud after cloud: of(points)[inverse] equals points."""

    inverse: Tensor  # (B, N) int64, the number of each point among the distinct ones
    first: Tensor | None  # (R,) int64, where each distinct point stands first among the B N points; None where all are
    multiplicity: Tensor | None  # (R,) float32, how often it is there; None for once

    def of(self, values: Tensor) -> Tensor:
        """Values of the points (B, N, ...) -> of the distinct points (R, ...)."""
        values = values.flatten(0, 1)  # (B N, ...)
        return values if self.first is None else values[self.first]

    def to_points(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Features of the distinct points (R, C) -> of the points (B N, C), with dropout as in `gather`."""
        if self.first is None:
            return F.dropout(features, dropout)
        return gather(features, self.inverse.flatten(), dropout)


class Pairs(NamedTuple):
    """Each centre's distinct neighbours, in the order of the ball query, centre after centre."""

    neighbour: Tensor  # (P,) int64, its number among the distinct points
    centre: Tensor | None  # (P,) int64, the centre among B M; None where each has all S slots
    multiplicity: Tensor | None  # (P,) float32, in how many of the S slots; None for one
    start: Tensor  # (B M + 1,) int64: the pairs of centre i are start[i] to start[i + 1] - 1

    def from_centres(self, points: Tensor, centres: Tensor) -> Tensor:
        """Distinct points (R, 3), centres (B M, 3) -> each neighbour seen from its centre (P, 3)."""
        neighbours = points[self.neighbour]  # (P, 3)
        if self.centre is None:
            return (neighbours.unflatten(0, (centres.shape[0], -1)) - centres.unsqueeze(1)).flatten(0, 1)
        return neighbours - centres[self.centre]


def distinct_points(points: Tensor) -> Distinct:
    """points (B, N, K) floating. Points are equal if all their bits are; unless `ready`, each is called distinct."""
    if not ready(points):
        return every_point(points)
    B, N, _ = points.shape
    words = points.detach().to(torch.promote_types(points.dtype, torch.float32)).contiguous().view(torch.int32)
    inverse, first = points.new_empty(B, N, dtype=torch.int64), points.new_empty(B * N, dtype=torch.int64)
    number = torch.empty(1, dtype=torch.int64)
    cpu.call("batch_distinct_points", words, B, N, words.shape[2], inverse, first, number)
    first = first[: number.item()].clone()
    return Distinct(inverse, first, torch.bincount(inverse.flatten(), minlength=len(first)).float())


def every_point(points: Tensor) -> Distinct:
    """points (B, N, K), each called distinct."""
    number = torch.arange(points.shape[0] * points.shape[1], device=points.device)
    return Distinct(number.view(points.shape[:2]), None, None)


def distinct_neighbours(index: Tensor, inverse: Tensor) -> Pairs:
    """Neighbours (B, M, S) int64 among points whose numbers are inverse (B, N) int64, rising from cloud to cloud.
    Unless `ready`, every slot is a pair."""
    B, M, S = index.shape
    slots = B * M * S
    if not ready(index):
        neighbour = inverse.gather(1, index.flatten(1)).flatten()
        return Pairs(neighbour, None, None, torch.arange(0, slots + 1, S, device=index.device))
    found = Pairs(index.new_empty(slots), index.new_empty(slots), torch.empty(slots), index.new_empty(B * M + 1))
    cpu.call("batch_distinct_neighbours", index.contiguous(), inverse, B, inverse.shape[1], M, S, *found)
    pairs = int(found.start[-1])
    return Pairs(*(tensor[:pairs] for tensor in found[:3]), found.start)


def gather(features: Tensor, row: Tensor, dropout: float = 0.0) -> Tensor:
    """features (R, C), row (P,) int64 in [0, R) -> (P, C), each value 0 with probability `dropout`. Differentiable.

    Where `ready`, for 1/2 and C a multiple of 64, a value's fate is one random bit of torch's generator: torch itself
    draws a number for each, which takes longer than a layer.
    """
    if not ready(features) or features.dtype not in DTYPES:
        return F.dropout(features.index_select(0, row), dropout)
    if dropout == 0.5 and features.shape[1] % WORD == 0:
        coins = torch.empty(len(row) * features.shape[1] // WORD, dtype=torch.int64).random_(-(2**63), None)
        return _Gather.apply(features, row, coins)
    return F.dropout(_Gather.apply(features, row, None), dropout)


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


def moments(x: Tensor, multiplicity: Tensor | None) -> tuple[Tensor, Tensor, float]:
    """x (R, C), multiplicity (R,) or None for one of each -> mean (C,), biased variance (C,), number of rows, equal
    ones counted."""
    mean, variance, total = x.new_empty(x.shape[1]), x.new_empty(x.shape[1]), torch.empty(1, dtype=torch.float64)
    _call("statistics", x, multiplicity, *x.shape, mean, variance, total)
    return mean, variance, total.item()


class NormaliseReLU(torch.autograd.Function):
    """relu((x - mean) / std * scale + shift) of x (R, C); with start (G + 1,), the maximum over the rows start[i] to
    start[i + 1] - 1 of each group -> (G, C). mean, std and total are those of x, or constants if the total is infinite.

    A whole channel rises or falls with x, so the maximum, or the minimum where scale < 0, is found in x first, and only
    one row a group is normalised.

    The gradient through mean and std reaches every row in proportion to its multiplicity, with x^ = (x - mean) / std:
    scale / std (g - multiplicity (sum g + x^ sum(g x^)) / total). Where x is one rank's share of the rows that mean,
    std and total are of, sum_over_ranks adds up a tensor over the ranks, in place; else it is None.
    """

    @staticmethod
    def forward(ctx, x, scale, shift, mean, inverse_std, multiplicity, total, sum_over_ranks, start):
        factor, which, best = scale * inverse_std, None, None
        if start is None:
            y = torch.empty_like(x)
            _call("normalise_relu", x, mean, factor, shift, *x.shape, y)
        else:
            y = best = x.new_empty(len(start) - 1, x.shape[1])
            which = torch.empty_like(y, dtype=torch.int32)
            _call("maximum", x, start, mean, factor, shift, *y.shape, y, which)
        ctx.save_for_backward(x, best, which, start, shift, mean, inverse_std, factor, multiplicity)
        ctx.total, ctx.sum_over_ranks = total, sum_over_ranks
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, best, which, start, shift, mean, inverse_std, factor, multiplicity = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        total, product = torch.empty_like(mean), torch.empty_like(mean)  # this rank's sums of g, and of g (x - mean)
        if start is None:
            _call("normalise_relu_sums", grad, x, mean, factor, shift, *x.shape, total, product)
        else:
            _call("maximum_sums", grad, best, x, which, mean, *best.shape, total, product)
        sums = ctx.sum_over_ranks(torch.stack([total, product])) if ctx.sum_over_ranks else (total, product)
        through = multiplicity, sums[0] / ctx.total, sums[1] * inverse_std**2 / ctx.total  # (C,) each of these two
        if start is None:
            _call("normalise_relu_backward", grad, x, mean, factor, shift, *through, *x.shape, grad_x)
        else:
            _call("maximum_backward", grad, best, x, which, start, mean, factor, *through, *best.shape, grad_x)
        return grad_x, product * inverse_std, total, *[None] * 6


def _call(function: str, values: Tensor, *arguments) -> None:
    cpu.call(f"{function}_{str(values.dtype).removeprefix('torch.')}", values, *arguments)
