"""Times this project's parts beside their alternatives, in one run, as ratios.

    python scripts/benchmark.py ops [--threads T] [--rounds R] [--json FILE]

ops: the point operators at the four levels of PointNet++ SSG: the C++ through the public functions, the plain torch
reference, and whatever of torch-quickfps, fpsample, pykdtree and SciPy is installed (none is a dependency). In every
round all run once, in shuffled order. The table has the median and the quartiles of the rounds, in ms for one cloud,
and the median as a multiple of the C++'s.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import ops
from data.chunks import POINTS_PER_CHUNK as POINTS
from models.pointnet2 import CENTRES, SSG
from ops import reference

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
        "furthest_point_sample": {
            "C++": lambda: ops.furthest_point_sample(xyz, m),
            "reference": lambda: reference.furthest_point_sample(xyz, m),
        },
        "ball_query": {
            "C++": lambda: ops.ball_query(radius, NSAMPLE, xyz, centres),
            "reference": lambda: reference.ball_query(radius, NSAMPLE, xyz, centres),
        },
        "three_nn": {
            "C++": lambda: ops.three_nn(xyz, centres)[1],
            "reference": lambda: reference.three_nn(xyz, centres)[1],
        },
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


def installed(module: str):
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def alternate(calls: dict, rounds: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Milliseconds per cloud of each call in each round, after one call that does not count."""
    times = {name: [] for name in calls}
    for counts in [False] + [True] * rounds:
        for name in rng.permutation(list(calls)):
            start = time.perf_counter()
            calls[name]()
            if counts:
                times[name].append(1e3 * (time.perf_counter() - start) / CLOUDS)
    return times


def same_indices(result, expected: torch.Tensor) -> str:
    """Whether a contestant's answer is the reference's; "-" if it answers another question."""
    return "-" if isinstance(result, list) else "yes" if np.array_equal(np.asarray(result), expected) else "no"


def benchmark_ops(args) -> dict:
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # pykdtree reads it when it is imported
    torch.set_num_threads(args.threads)
    try:
        ops.use("cpu")
    except ops.cpu.CompileError as error:
        sys.exit(f"benchmark ops compares with the C++ kernels, which are not to be had here: {error}")
    print(f"{ops.describe()}; {args.threads} threads, {CLOUDS} clouds, {args.rounds} rounds\n")
    print(
        "| points | operator | by | ms a cloud | quartiles | x C++ | same indices |\n|---:|---|---|---:|---:|---:|---|"
    )
    rng = np.random.default_rng(0)
    rows = []
    xyz = torch.from_numpy(np.stack([room_chunk(rng) for _ in range(CLOUDS)]))
    for m, radius in LEVELS:
        centres = ops.group_points(xyz, ops.furthest_point_sample(xyz, m)[:, :, None])[:, :, 0]
        sizes = f"{xyz.shape[1]} -> {m}"
        for operator, calls in contestants(xyz, centres, radius, args.threads).items():
            expected = calls["reference"]()
            times = alternate(calls, args.rounds, rng)
            for name, values in times.items():
                low, median, high = np.percentile(values, [25, 50, 75])
                ratio = median / np.median(times["C++"])
                same = same_indices(calls[name](), expected)
                rows.append(dict(sizes=sizes, operator=operator, by=name, ms=values, ratio=ratio, same_indices=same))
                print(f"| {sizes} | {operator} | {name} | {median:.3f} | {low:.3f}-{high:.3f} | {ratio:.1f} | {same} |")
        xyz = centres
    return {"ops": ops.describe(), "threads": args.threads, "clouds": CLOUDS, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("ops", help="the point operators beside the reference and installed peers")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--rounds", type=int, default=9)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write every single time to FILE")
    command.set_defaults(run=benchmark_ops)
    args = parser.parse_args()
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")
    print(f"python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}")
    result = args.run(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
