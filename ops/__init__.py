"""The point operators of PointNet++ (Qi et al., 2017) as functions of torch tensors, and the choice of what runs them.

    import ops
    index = ops.furthest_point_sample(xyz, 1024)

Rows throughout: xyz is (B, N, 3) float32 in metres, indices are int64. Shapes: B clouds, N points, M centres (or known
points), S neighbours, C channels. Shapes, dtypes and devices are checked and raise ValueError. Values are not: NaN or
infinite coordinates give indices that mean nothing, though in range, and an index given must be in range.
Everything works under torch.compile(fullgraph=True).

ops/reference.py defines each operator in plain torch and serves any device. For CPU tensors ops/cpu.cpp finds the same
indices, ties and duplicates included, 30 to 400 times faster on a chunk of 8192 points; for CUDA tensors the Triton
kernels of ops/gpu.py do. Grouping and interpolation are plain torch throughout: C++ gained too little there to pay for
its lines, and nobody has measured a gain on a GPU.
"""

import importlib
import warnings

import torch
from torch import Tensor

from ops import cpu, reference

CHOICES = ("auto", "triton", "cpu", "reference", "pointnet2_ops")
MODULES = {"cpu": "ops.cpu", "triton": "ops.gpu", "pointnet2_ops": "ops.pointnet2"}  # imported when asked for
WITHOUT = {  # what the reference costs in their stead
    "cpu": "on the CPU some 100 times slower than C++",
    "triton": "on the GPU thousands of launches instead of one",
}
MAX_POINTS = 2**29  # a cloud; the kernels count points in 32 bits, and those for the GPU coordinates

_serving = None  # device type -> the module that serves its tensors; chosen by use(), at the latest at the first call
_description = ""


def use(name: str) -> None:
    """Choose what finds the indices: "cpu" (C++), "triton", "pointnet2_ops" (both CUDA), "reference" (plain torch), or
    "auto": C++ for CPU tensors and Triton for CUDA tensors, where they can be had. The reference serves all others.

    Compiles if need be. Where that fails, a choice by name raises ops.cpu.CompileError; "auto" warns, in one line, and
    goes on with the reference. ValueError for any other name. pointnet2_ops is for comparisons: it breaks ties
    otherwise, rounds otherwise, and skips points within 3.2 cm of the origin when it samples.
    """
    global _serving, _description
    if name not in CHOICES:
        raise ValueError(f"no ops implementation {name!r}: choose one of {', '.join(CHOICES)}")
    if name == "auto":
        wanted = ["triton", "cpu"] if torch.cuda.is_available() else ["cpu"]
    else:
        wanted = [] if name == "reference" else [name]
    serving, described = {}, []
    for implementation in wanted:
        try:
            module, origin = load(implementation)
            serving[module.DEVICE] = module
            described.append(f"{implementation} ({origin})")
        except cpu.CompileError as error:
            if name != "auto":
                raise
            described.append(f"reference (plain torch, {WITHOUT[implementation]}: {error})")
            warnings.warn(f"ops: {described[-1]}", RuntimeWarning, stacklevel=2)
    _serving, _description = serving, ", ".join(described) or "reference (plain torch)"


def load(implementation: str):
    """The module of one of MODULES, ready for use, and where its kernels come from. Raises ops.cpu.CompileError."""
    module = importlib.import_module(MODULES[implementation])
    return module, module.load()


def describe() -> str:
    """One line for a program's start: what finds the indices, and why."""
    if _serving is None:
        use("auto")
    return f"ops: {_description}"


def serves(tensor: Tensor):
    """The module that finds indices for tensors on this one's device: ops.cpu, ops.gpu, ops.reference..."""
    if _serving is None:
        use("auto")
    return _serving.get(tensor.device.type, reference)


def serve_without_waiting(tensor: Tensor) -> bool:
    """Whether the host need not wait for a result on this tensor's GPU to find the indices: they are Triton's."""
    return serves(tensor).__name__ == MODULES["triton"] and tensor.is_cuda


def _check_clouds(**clouds: Tensor) -> None:
    """Each (B, points, 3) float32 with at least one cloud and one point; all of one B and on one device."""
    first = next(iter(clouds.values()))
    for name, cloud in clouds.items():
        if cloud.dim() != 3 or cloud.shape[2] != 3 or cloud.dtype != torch.float32:
            raise ValueError(f"{name} must be (B, points, 3) float32, got {tuple(cloud.shape)} {cloud.dtype}")
        if cloud.shape[0] < 1 or not 1 <= cloud.shape[1] <= MAX_POINTS:
            raise ValueError(f"{name} must hold a cloud or more of 1 to {MAX_POINTS} points, got {tuple(cloud.shape)}")
        if cloud.shape[0] != first.shape[0] or cloud.device != first.device:
            shapes = ", ".join(f"{name} {tuple(cloud.shape)} on {cloud.device}" for name, cloud in clouds.items())
            raise ValueError(f"clouds must be as many and on the same device: {shapes}")


def _check_index(features: Tensor, index: Tensor) -> None:
    if features.dim() != 3 or not features.is_floating_point():
        raise ValueError(f"features must be (B, points, C) floating, got {tuple(features.shape)} {features.dtype}")
    if index.dim() != 3 or index.dtype != torch.int64:
        raise ValueError(f"index must be int64 with 3 dimensions, got {tuple(index.shape)} {index.dtype}")
    if index.shape[0] != features.shape[0]:
        raise ValueError(f"index must hold features' {features.shape[0]} clouds, got {index.shape[0]}")


@torch.library.custom_op("latentgnn_scannet::furthest_point_sample", mutates_args=())
def _furthest_point_sample(xyz: Tensor, m: int) -> Tensor:
    return serves(xyz).furthest_point_sample(xyz, m)


@_furthest_point_sample.register_fake
def _(xyz, m):
    return xyz.new_empty((xyz.shape[0], m), dtype=torch.int64)


@torch.library.custom_op("latentgnn_scannet::ball_query", mutates_args=())
def _ball_query(radius: float, nsample: int, xyz: Tensor, centres: Tensor) -> Tensor:
    return serves(xyz).ball_query(radius, nsample, xyz, centres)


@_ball_query.register_fake
def _(radius, nsample, xyz, centres):
    return xyz.new_empty((xyz.shape[0], centres.shape[1], nsample), dtype=torch.int64)


@torch.library.custom_op("latentgnn_scannet::three_nn", mutates_args=())
def _three_nn(unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    return serves(unknown).three_nn(unknown, known)


@_three_nn.register_fake
def _(unknown, known):
    return unknown.new_empty(unknown.shape), unknown.new_empty(unknown.shape, dtype=torch.int64)


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

    features (B, N, C) of any floating dtype, index (B, M, S) int64 in [0, N) -> (B, M, S, C). Differentiable in
    features.
    """
    _check_index(features, index)
    return reference.group_points(features, index)
