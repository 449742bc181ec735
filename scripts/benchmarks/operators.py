"""The point operators at the four levels of PointNet++ SSG, in milliseconds for one cloud.

The C++ through the public functions, the plain torch reference, and whatever of torch-quickfps, fpsample, pykdtree and
SciPy is installed (none is a dependency).
"""

import functools
import importlib
import sys
from collections.abc import Callable

import numpy as np
import torch

import ops
from data.chunks import POINTS_PER_CHUNK as POINTS
from models.pointnet2 import CENTRES, SSG
from ops import reference
from scripts.benchmarks import timing

CLOUDS = 2
SIDE, HEIGHT, NOISE, STRAY = 1.5, 3.0, 0.005, 0.04  # of a chunk: metres, metres, metres, share of points
LEVELS = [(m, scale.radius) for m, (scale,) in zip(CENTRES, SSG, strict=True)]  # centres and ball radius (m)
NSAMPLE = SSG[0][0].neighbours
FPSAMPLE_HEIGHT = 5  # of its kd-tree: the fastest of 3, 5, 7 for 8192 -> 1024


def room_chunk(rng: np.random.Generator) -> np.ndarray:
    """A corner of a room, (8192, 3) float32 in metres, random order: floor, a wall or two and boxes, points by area."""
    x, y, z = np.diag([SIDE, SIDE, HEIGHT])
    rectangles = [(0 * x, x, y), (0 * x, x, z)]  # corner, side, side
    if rng.random() < 0.5:
        rectangles.append((0 * x, y, z))
    for _ in range(rng.integers(1, 4)):
        corner, (a, b, c) = rng.uniform(0, SIDE / 2, 3), np.diag(rng.uniform(0.3, 0.8, 3))
        for side1, side2, depth in [(a, b, c), (a, c, b), (b, c, a)]:
            rectangles += [(corner, side1, side2), (corner + depth, side1, side2)]
    corner, side1, side2 = (np.array(column) for column in zip(*rectangles, strict=True))
    area = np.linalg.norm(np.cross(side1, side2), axis=1)
    which = rng.choice(len(area), POINTS, p=area / area.sum())
    u, v = rng.random((2, POINTS, 1))
    xyz = corner[which] + u * side1[which] + v * side2[which] + rng.normal(0, NOISE, (POINTS, 3))
    stray = rng.random(POINTS) < STRAY
    xyz[stray] = rng.random((stray.sum(), 3)) * [SIDE, SIDE, HEIGHT]
    return xyz.astype(np.float32)


def contestants(xyz: torch.Tensor, centres: torch.Tensor, radius: float, threads: int) -> dict:
    """{operator: {name: call}} for xyz (B, N, 3) and centres (B, M, 3); of a peer that is not installed, nothing."""
    m = centres.shape[1]
    found = {
        operator: {"C++": functools.partial(call, ops), "reference": functools.partial(call, reference)}
        for operator, call in calls_of(xyz, centres, radius).items()
    }
    sample, ball, nearest = found.values()
    pairs = list(zip(xyz.numpy(), centres.numpy(), strict=True))
    if package := installed("torch_quickfps"):
        sample["torch-quickfps"] = lambda: package.sample_idx(xyz, m, start_idx=0)
    if fpsample := installed("fpsample"):
        sample["fpsample"] = lambda: np.stack([fpsample.fps_sampling(x, m, start_idx=0) for x, _ in pairs])
        sample["fpsample kdline, start of its own"] = lambda: [
            fpsample.bucket_fps_kdline_sampling(x, m, h=FPSAMPLE_HEIGHT) for x, _ in pairs
        ]
    if kdtree := installed("pykdtree.kdtree"):
        ball["pykdtree, nearest first"] = lambda: [
            kdtree.KDTree(x).query(c, k=NSAMPLE, distance_upper_bound=radius) for x, c in pairs
        ]
        nearest["pykdtree"] = lambda: np.stack([kdtree.KDTree(c).query(x, k=3)[1] for x, c in pairs])
    if spatial := installed("scipy.spatial"):
        ball["SciPy, neither cut nor padded"] = lambda: [
            spatial.cKDTree(x).query_ball_point(c, radius, return_sorted=True, workers=threads) for x, c in pairs
        ]
        nearest["SciPy"] = lambda: np.stack([spatial.cKDTree(c).query(x, k=3, workers=threads)[1] for x, c in pairs])
    return found


def calls_of(xyz: torch.Tensor, centres: torch.Tensor, radius: float) -> dict[str, Callable]:
    """{operator: call(module) -> indices} for xyz (B, N, 3) and centres (B, M, 3)."""
    return {
        "furthest_point_sample": lambda by: by.furthest_point_sample(xyz, centres.shape[1]),  # (B, M)
        "ball_query": lambda by: by.ball_query(radius, NSAMPLE, xyz, centres),  # (B, M, S)
        "three_nn": lambda by: by.three_nn(xyz, centres)[1],  # (B, N, 3)
    }


def installed(module: str):
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def same_indices(result, expected: torch.Tensor) -> str:
    """Whether a contestant's answer is the reference's; "-" if it answers another question."""
    return "-" if isinstance(result, list) else "yes" if np.array_equal(np.asarray(result), expected) else "no"


def run(args) -> dict:
    try:
        ops.use("cpu")
    except ops.cpu.CompileError as error:
        sys.exit(f"benchmark ops compares with the C++ kernels, which cannot be used here: {error}")
    print(f"{ops.describe()}; {CLOUDS} clouds\n")
    print("| points | operator | by | ms a cloud (quartiles) | x C++ | same indices |\n|---:|---|---|---:|---:|---|")
    rng = np.random.default_rng(0)
    rows = []
    xyz = torch.from_numpy(np.stack([room_chunk(rng) for _ in range(CLOUDS)]))
    for m, radius in LEVELS:
        centres = ops.group_points(xyz, ops.furthest_point_sample(xyz, m)[:, :, None])[:, :, 0]
        sizes = f"{xyz.shape[1]} -> {m}"
        for operator, calls in contestants(xyz, centres, radius, args.threads).items():
            expected = calls["reference"]()
            times = timing.alternate(calls, args.rounds)
            for name, seconds in times.items():
                ratio = timing.median(seconds) / timing.median(times["C++"])
                same = same_indices(calls[name](), expected)
                row = dict(sizes=sizes, operator=operator, by=name, ms=[1e3 * s / CLOUDS for s in seconds])
                rows.append(row | dict(ratio=ratio, same_indices=same))
                cost = timing.spread(seconds, unit=1e-3 * CLOUDS, digits=3)
                print(f"| {sizes} | {operator} | {name} | {cost} | {ratio:.1f} | {same} |")
        xyz = centres
    return {"ops": ops.describe(), "clouds": CLOUDS, "rows": rows}
