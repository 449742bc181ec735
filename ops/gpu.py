"""Triton kernels for CUDA tensors: the indices of ops/reference.py, ties and duplicates included.

Triton comes with torch's CUDA builds. It compiles a kernel at its first launch, in a second or so, and needs a C
compiler and Python.h for that. With TRITON_INTERPRET=1 in the environment before triton is first imported, its
interpreter runs the same kernels on CPU tensors, slowly: how they are tested without a GPU.

Why the results are exact: a squared distance is computed as the reference does, and never fused into multiply-adds; its
bits, read as an integer, rise with its value, so that integer comparisons decide, the lower index first where equal.
"""

import contextlib
import os
import sysconfig
from pathlib import Path
from shutil import which

import torch

from ops.cpu import CompileError

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise CompileError(f"no triton ({error}): it comes with torch's CUDA builds, or: pip install triton") from error

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"  # of the tensors that the kernels take

REGISTER_POINTS = 8192  # the largest cloud that furthest point sampling keeps in the registers of one block
POINTS_PER_WARP = 256
MAX_WARPS = 16
TILE_POINTS = 4096  # of a larger cloud, worked on at a time
BALL_CENTRES, BALL_POINTS = 4, 128  # pairs that one warp looks at at a time
UNKNOWN_POINTS, UNKNOWN_WARPS = 128, 4  # of three_nn: one thread a point

INFINITY_BITS = tl.constexpr(0x7F800000)
LARGEST_INT32 = tl.constexpr(0x7FFFFFFF)

_works = False


def load() -> str:
    """Make sure that a kernel compiles and runs; returns what it runs on. Raises CompileError, saying why it cannot."""
    global _works
    if not _works:
        try:
            furthest_point_sample(torch.zeros(1, 2, 3, device=DEVICE), 2).tolist()  # tolist waits for the result
            _works = True
        except Exception as error:  # of Triton, the C compiler, the driver or torch: of many types
            reason = _missing() or (str(error).splitlines() or [type(error).__name__])[0]
            raise CompileError(f"Triton {triton.__version__} does not run: {reason}") from error
    return f"Triton {triton.__version__}, {'interpreted' if DEVICE == 'cpu' else torch.cuda.get_device_name()}"


def _missing() -> str:
    """What Triton needs to make its launcher and is not there, or nothing."""
    if not (os.environ.get("CC") or which("gcc") or which("clang")):
        return "no C compiler (install gcc, or name one in CC)"
    header = Path(sysconfig.get_config_var("INCLUDEPY")) / "Python.h"
    return "" if header.exists() else f"no {header} (install Python's development files, such as python3-dev)"


# Compiled once for all sizes and addresses, not anew for a size of 1 or one that 16 divides.
_kernel = triton.jit(
    do_not_specialize=["N", "M", "m", "S", "groups"],
    do_not_specialize_on_alignment=["xyz", "columns", "nearest", "centres", "unknown", "known", "distance", "index"],
)


@triton.jit
def _load(points, row, mask):
    """x, y and z of rows of points (..., 3). What the mask leaves out is undefined."""
    points += 3 * row
    return tl.load(points, mask=mask), tl.load(points + 1, mask=mask), tl.load(points + 2, mask=mask)


@triton.jit
def _store(rows, row, a, b, c, mask):
    rows += 3 * row
    tl.store(rows, a, mask=mask)
    tl.store(rows + 1, b, mask=mask)
    tl.store(rows + 2, c, mask=mask)


@triton.jit
def _squared_distance(ax, ay, az, bx, by, bz):
    dx = ax - bx
    dy = ay - by
    dz = az - bz
    return (dx * dx + dy * dy) + dz * dz


@triton.jit
def _furthest(nearest, point):
    """Of points with distances `nearest`, at least 0 or -1: the one furthest away, the lower index where equal."""
    bits = nearest.to(tl.int32, bitcast=True)  # of -1: a negative integer
    return tl.min(tl.where(bits == tl.max(bits, axis=0), point, LARGEST_INT32), axis=0)


@_kernel
def _sample_in_registers(xyz, index, N, m, BLOCK: tl.constexpr):
    """One cloud of xyz (B, N <= BLOCK, 3) -> its row of index (B, m)."""
    cloud = tl.program_id(0).to(tl.int64)
    xyz += cloud * N * 3
    index += cloud * m
    point = tl.arange(0, BLOCK)
    exists = point < N
    x, y, z = _load(xyz, point, exists)
    nearest = tl.where(exists, float("inf"), -1.0)  # the minimum with a distance stays -1 in the padding
    chosen = 0
    tl.store(index, chosen)
    for i in range(1, m):
        cx, cy, cz = _load(xyz, chosen, None)
        nearest = tl.minimum(nearest, _squared_distance(x, y, z, cx, cy, cz))
        chosen = _furthest(nearest, point)
        tl.store(index + i, chosen)


@_kernel
def _sample_in_tiles(columns, nearest, index, N, m, BLOCK: tl.constexpr):
    """One cloud of columns (B, 3, N), with nearest (B, N) at infinity to work in -> its row of index (B, m)."""
    cloud = tl.program_id(0).to(tl.int64)
    xs = columns + cloud * 3 * N
    ys = xs + N
    zs = ys + N
    nearest += cloud * N
    index += cloud * m
    lane = tl.arange(0, BLOCK)
    chosen = 0
    tl.store(index, chosen)
    for i in range(1, m):
        cx = tl.load(xs + chosen)
        cy = tl.load(ys + chosen)
        cz = tl.load(zs + chosen)
        furthest = tl.full((BLOCK,), -1.0, tl.float32)  # in each lane, over the tiles
        furthest_point = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, N, BLOCK):
            point = start + lane
            exists = point < N
            x = tl.load(xs + point, mask=exists, other=0.0)
            y = tl.load(ys + point, mask=exists, other=0.0)
            z = tl.load(zs + point, mask=exists, other=0.0)
            distance = tl.load(nearest + point, mask=exists, other=-1.0)
            distance = tl.minimum(distance, _squared_distance(x, y, z, cx, cy, cz))
            tl.store(nearest + point, distance, mask=exists)
            further = distance > furthest  # not >=: the lower index of equals stays
            furthest = tl.where(further, distance, furthest)
            furthest_point = tl.where(further, point, furthest_point)
        chosen = _furthest(furthest, furthest_point)
        tl.store(index + i, chosen)
        tl.debug_barrier()  # `nearest` is read again: without it Triton promises no order of a store and a later load


def furthest_point_sample(xyz, m):
    xyz = xyz.contiguous()
    B, N, _ = xyz.shape
    index = xyz.new_empty(B, m, dtype=torch.int64)
    if N <= REGISTER_POINTS:
        block = max(POINTS_PER_WARP, triton.next_power_of_2(N))
        warps = min(MAX_WARPS, block // POINTS_PER_WARP)
        _launch(_sample_in_registers, B, xyz, index, N, m, BLOCK=block, num_warps=warps)
    else:
        columns = xyz.transpose(1, 2).contiguous()  # (B, 3, N): neighbouring threads read neighbouring numbers
        nearest = xyz.new_full((B, N), torch.inf)
        _launch(_sample_in_tiles, B, columns, nearest, index, N, m, BLOCK=TILE_POINTS, num_warps=MAX_WARPS)
    return index


@_kernel
def _ball_query(xyz, centres, index, squared_radius, N, M, S, groups, CENTRES: tl.constexpr, POINTS: tl.constexpr):
    """CENTRES of the centres (B, M, 3), in `groups` groups a cloud, and all of xyz (B, N, 3) -> index (B, M, S)."""
    cloud = (tl.program_id(0) // groups).to(tl.int64)
    centre = tl.program_id(0) % groups * CENTRES + tl.arange(0, CENTRES)
    asked = centre < M
    row = cloud * M + centre
    cx, cy, cz = _load(centres, row, asked)
    xyz += cloud * N * 3
    slots = index + row[:, None] * S
    found = tl.where(asked, 0, S)  # behind the last centre no slot is free, so nothing is stored
    first = tl.zeros((CENTRES,), tl.int32)
    start = 0
    unfinished = 1  # centres with free slots
    while (start < N) & (unfinished > 0):
        point = (start + tl.arange(0, POINTS))[None, :]
        exists = point < N
        x, y, z = _load(xyz, point, exists)
        distance = _squared_distance(cx[:, None], cy[:, None], cz[:, None], x, y, z)  # (CENTRES, POINTS)
        inside = (distance < squared_radius) & exists
        hits = inside.to(tl.int32)
        slot = found[:, None] + tl.cumsum(hits, axis=1) - 1  # of a point inside
        tl.store(slots + slot, tl.broadcast_to(point, (CENTRES, POINTS)), mask=inside & (slot < S))
        lowest = tl.min(tl.where(inside, point, LARGEST_INT32), axis=1)
        first = tl.where((found == 0) & (lowest < LARGEST_INT32), lowest, first)
        found += tl.sum(hits, axis=1)
        unfinished = tl.sum((found < S).to(tl.int32), axis=0)
        start += POINTS
    for start in range(0, S, POINTS):
        slot = (start + tl.arange(0, POINTS))[None, :]
        padding = (slot >= found[:, None]) & (slot < S)
        tl.store(slots + slot, tl.broadcast_to(first[:, None], (CENTRES, POINTS)), mask=padding)


def ball_query(radius, nsample, xyz, centres):
    xyz, centres = xyz.contiguous(), centres.contiguous()
    B, N, _ = xyz.shape
    M = centres.shape[1]
    index = xyz.new_empty(B, M, nsample, dtype=torch.int64)
    squared_radius = torch.tensor(radius, dtype=torch.float32).square().item()
    groups = triton.cdiv(M, BALL_CENTRES)
    sizes = dict(CENTRES=BALL_CENTRES, POINTS=BALL_POINTS, num_warps=1)
    _launch(_ball_query, B * groups, xyz, centres, index, squared_radius, N, M, nsample, groups, **sizes)
    return index


@_kernel
def _three_nn(unknown, known, distance, index, N, M, groups, POINTS: tl.constexpr):
    """POINTS of unknown (B, N, 3), in `groups` groups a cloud, and all of known (B, M, 3) -> their rows of distance and
    index (B, N, 3)."""
    cloud = (tl.program_id(0) // groups).to(tl.int64)
    point = tl.program_id(0) % groups * POINTS + tl.arange(0, POINTS)
    exists = point < N
    row = cloud * N + point
    x, y, z = _load(unknown, row, exists)
    known += cloud * M * 3
    d1 = tl.full((POINTS,), LARGEST_INT32, tl.int32)  # bits of the distances, above those of infinity: none yet
    d2 = d1
    d3 = d1
    i1 = tl.zeros((POINTS,), tl.int32)
    i2 = i1
    i3 = i1
    for k in tl.range(0, M, loop_unroll_factor=4):
        kx, ky, kz = _load(known, k, None)
        d = _squared_distance(x, y, z, kx, ky, kz).to(tl.int32, bitcast=True)
        before1 = d < d1  # not <=: the lower index of equals stays
        before2 = d < d2
        before3 = d < d3
        i3 = tl.where(before2, i2, tl.where(before3, k, i3))
        d3 = tl.where(before2, d2, tl.where(before3, d, d3))
        i2 = tl.where(before1, i1, tl.where(before2, k, i2))
        d2 = tl.where(before1, d1, tl.where(before2, d, d2))
        i1 = tl.where(before1, k, i1)
        d1 = tl.where(before1, d, d1)
    d1 = tl.minimum(d1, INFINITY_BITS).to(tl.float32, bitcast=True)
    d2 = tl.minimum(d2, INFINITY_BITS).to(tl.float32, bitcast=True)
    d3 = tl.minimum(d3, INFINITY_BITS).to(tl.float32, bitcast=True)
    _store(distance, row, d1, d2, d3, exists)
    _store(index, row, i1, i2, i3, exists)


def three_nn(unknown, known):
    unknown, known = unknown.contiguous(), known.contiguous()
    B, N, _ = unknown.shape
    M = known.shape[1]
    distance, index = unknown.new_empty(B, N, 3), unknown.new_empty(B, N, 3, dtype=torch.int64)
    groups = triton.cdiv(N, UNKNOWN_POINTS)
    sizes = dict(POINTS=UNKNOWN_POINTS, num_warps=UNKNOWN_WARPS)
    _launch(_three_nn, B * groups, unknown, known, distance, index, N, M, groups, **sizes)
    return distance, index


def _launch(kernel, programs, *arguments, **options):
    """On the first tensor's GPU, which need not be the current one, and without fused multiply-adds, which round once
    where the reference rounds twice."""
    tensor = arguments[0]
    with torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext():
        kernel[(programs,)](*arguments, **options, enable_fp_fusion=False)
