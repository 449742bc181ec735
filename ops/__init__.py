"""The point operators of PointNet++ (Qi et al., 2017) as functions of torch tensors, and the choice of what runs them.

    import ops
    index = ops.furthest_point_sample(xyz, 1024)

Rows throughout: xyz is (B, N, 3) float32 in metres, indices are int64. Shapes: B clouds, N points, M centres (or known
points), S neighbours, C channels. Sizes and dtypes are checked and raise ValueError; values are not: coordinates must be
finite (with NaN or infinity the indices mean nothing, but stay in range). All of it works under torch.compile.
ops/reference.py defines each operator; the C++ of ops/cpu.py gives the same indices, ties and duplicates included.
"""

import torch
from torch import Tensor

from ops import reference

IMPLEMENTATIONS = ("auto", "cpu", "reference")
MAX_POINTS = 2**31 - 1  # a cloud; point indices are 32 bits wide inside the kernels

_kernels = reference


def use(name: str) -> None:
    """Choose the implementation: "cpu" (C++ for CPU tensors), "reference" (plain torch), "auto" (the fastest there is)."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"ops implementation {name!r} is unknown: choose one of {', '.join(IMPLEMENTATIONS)}")


def describe() -> str:
    return "ops: reference (plain torch)"


def _check_clouds(**clouds: Tensor) -> None:
    """Each is (B, at least 1 point, 3) float32, all of one B and on one device."""
    first = next(iter(clouds.values()))
    for name, cloud in clouds.items():
        if cloud.dim() != 3 or cloud.shape[2] != 3 or cloud.dtype != torch.float32:
            raise ValueError(f"{name} must be (B, points, 3) float32, got {tuple(cloud.shape)} {cloud.dtype}")
        if not 1 <= cloud.shape[1] <= MAX_POINTS:
            raise ValueError(f"{name} must hold 1 to {MAX_POINTS} points a cloud, got {cloud.shape[1]}")
        if cloud.shape[0] != first.shape[0] or cloud.device != first.device:
            raise ValueError(f"{' and '.join(clouds)} must have one number of clouds and one device")


def _check_index(features: Tensor, index: Tensor) -> None:
    if features.dim() != 3 or not features.is_floating_point():
        raise ValueError(
            f"features must be (B, points, C) floating point, got {tuple(features.shape)} {features.dtype}"
        )
    if index.dim() != 3 or index.dtype != torch.int64 or index.shape[0] != features.shape[0]:
        raise ValueError(
            f"index must be int64 of 3 dimensions with features' {features.shape[0]} clouds, "
            f"got {tuple(index.shape)} {index.dtype}"
        )


@torch.library.custom_op("latentgnn_scannet::furthest_point_sample", mutates_args=())
def _furthest_point_sample(xyz: Tensor, m: int) -> Tensor:
    return _kernels.furthest_point_sample(xyz, m)


@_furthest_point_sample.register_fake
def _(xyz, m):
    return xyz.new_empty((xyz.shape[0], m), dtype=torch.int64)


@torch.library.custom_op("latentgnn_scannet::ball_query", mutates_args=())
def _ball_query(radius: float, nsample: int, xyz: Tensor, centres: Tensor) -> Tensor:
    return _kernels.ball_query(radius, nsample, xyz, centres)


@_ball_query.register_fake
def _(radius, nsample, xyz, centres):
    return xyz.new_empty((xyz.shape[0], centres.shape[1], nsample), dtype=torch.int64)


@torch.library.custom_op("latentgnn_scannet::three_nn", mutates_args=())
def _three_nn(unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    return _kernels.three_nn(unknown, known)


@_three_nn.register_fake
def _(unknown, known):
    return torch.empty_like(unknown), torch.empty_like(unknown, dtype=torch.int64)


def furthest_point_sample(xyz: Tensor, m: int) -> Tensor:
    """m points of each cloud, each the furthest from those before it.

    xyz (B, N, 3) float32, metres -> (B, m) int64. The first is point 0; of equally distant points the lower index is
    taken; no point is skipped. m > N is allowed: once every distance is 0 the rest are index 0. Not differentiable.
    """
    _check_clouds(xyz=xyz)
    if m < 1:
        raise ValueError(f"m must be at least 1, got {m}")
    return _furthest_point_sample(xyz.detach(), m)


def ball_query(radius: float, nsample: int, xyz: Tensor, centres: Tensor) -> Tensor:
    """For each centre the first nsample points, in index order, nearer than radius.

    xyz (B, N, 3), centres (B, M, 3) float32, radius in metres -> (B, M, nsample) int64. A point is inside where
    d^2 < float32(radius)^2. With fewer points inside, the first repeats; with none, all are 0. Not differentiable.
    """
    _check_clouds(xyz=xyz, centres=centres)
    if nsample < 1 or not radius > 0:
        raise ValueError(f"nsample must be at least 1 and radius above 0, got {nsample} and {radius}")
    return _ball_query(float(radius), nsample, xyz.detach(), centres.detach())


def three_nn(unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The three known points nearest to each unknown point, nearest first, of equal ones the lower index first.

    unknown (B, N, 3), known (B, M, 3) float32, metres -> squared distances (B, N, 3) float32 and indices (B, N, 3)
    int64. With M < 3 the missing neighbours have distance infinity and index 0, so an inverse-distance weight of theirs
    is exactly 0. Not differentiable.
    """
    _check_clouds(unknown=unknown, known=known)
    return _three_nn(unknown.detach(), known.detach())


def three_interpolate(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """The weighted sum of three rows of features for each point.

    features (B, M, C) of any floating dtype, index (B, N, 3) int64 in [0, M), weight (B, N, 3), cast to features' dtype
    -> (B, N, C). Differentiable in features and weight.
    """
    _check_index(features, index)
    if index.shape[2] != 3 or weight.shape != index.shape:
        raise ValueError(f"index and weight must be (B, N, 3), got {tuple(index.shape)} and {tuple(weight.shape)}")
    return reference.three_interpolate(features, index, weight.to(features.dtype))


def group_points(features: Tensor, index: Tensor) -> Tensor:
    """The rows of features that index names.

    features (B, N, C) of any floating dtype, index (B, M, S) int64 in [0, N) -> (B, M, S, C). Differentiable in features.
    """
    _check_index(features, index)
    return reference.group_points(features, index)
