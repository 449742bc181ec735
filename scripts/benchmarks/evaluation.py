"""Evaluation of whole scenes: seconds and memory by size, where the time goes, and what batches and workers do.

Scenes are generated rooms side by side; the network is LatentGNN, K = 1, with random weights, on the CPU. A scene is
read, cut into tiles for both protocols, passed through the network, and scored. "Reading" includes the tiling, and
"scoring" is all that is neither reading nor the network. Matrix products are torch's own: their share of the network
is that of their time in a profile of torch's operators. Memory is the most that the process held, without workers (on
Linux only).
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import ops
from data.datasets import SceneFile, SceneTiles, WholeScenes
from data.labels import SCANNET20
from models import pointnet2
from scripts.benchmarks import memory, timing
from scripts.benchmarks.loader import rooms_side_by_side, write_file
from training.arguments import whole_number
from training.inference import evaluate

SEED = 0
CPU = torch.device("cpu")
SIZES = (0.25, 0.5, 1, 2)  # of --vertices
LARGEST_ROOM = 80_000  # vertices of a generated room, at most
MATRIX_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
PROFILED_DRAWS = 8


def add_arguments(parser) -> None:
    parser.add_argument("--vertices", type=whole_number(4), default=150_000, help="of a scene")
    parser.add_argument("--scenes", type=whole_number(1), default=2, help="of the comparison with the plain form")


def run(args) -> dict:
    config = pointnet2.PointNet2Config(SCANNET20.num_classes, context="latentgnn", kernels=1)
    model = pointnet2.build(config, SEED).eval()
    with tempfile.TemporaryDirectory() as folder:
        by_size = [make_scene(Path(folder), 0, int(args.vertices * size)) for size in SIZES]
        files = [make_scene(Path(folder), 1 + k, args.vertices) for k in range(args.scenes)]
        rows = measure_sizes(model, by_size, args.rounds)
        forms = compare_forms(model, files, args.rounds)
        products = share_of_matrix_products(model, WholeScenes(files, SEED)[0])

    print(f"{ops.describe()}; LatentGNN, K = 1, on the CPU\n")
    print("| vertices | draws | s a scene (quartiles) | us a vertex | reading | network | scoring | peak MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        whole = timing.median(row["seconds"])
        parts = [timing.median(row[part]) for part in ("reading", "network", "scoring")]
        row["not_matrix_products"] = 1 - products * parts[1] / whole
        memory = f"{row['peak_mb']:.0f}" if row["peak_mb"] else "-"
        print(
            f"| {row['vertices']:,} | {row['draws']} | {timing.spread(row['seconds'], unit=1, digits=2)} "
            f"| {1e6 * whole / row['vertices']:.1f} | {' | '.join(f'{100 * part / whole:.1f} %' for part in parts)} "
            f"| {memory} |"
        )
    others = ", ".join(f"{100 * row['not_matrix_products']:.0f}" for row in rows)
    print(f"\nmatrix products: {100 * products:.0f} % of the network; not matrix products: {others} % of the whole\n")
    print(f"| {args.scenes} scenes of {args.vertices:,} vertices | s a scene (quartiles) | x faster |\n|---|---:|---:|")
    plain = timing.median(next(iter(forms.values())))
    for form, seconds in forms.items():
        ratio = plain / timing.median(seconds)
        print(f"| {form} | {timing.spread(seconds, unit=args.scenes, digits=2)} | {ratio:.2f} |")
    about = dict(ops=ops.describe(), scenes=args.scenes)
    return about | dict(sizes=rows, forms=forms, matrix_products_of_network=products)


def make_scene(folder: Path, number: int, vertices: int) -> SceneFile:
    """A scene file of rooms; another number, other rooms."""
    xyz, label, _ = rooms_side_by_side(12 * number, vertices + LARGEST_ROOM)
    kept = np.sort(np.argsort(xyz[:, 0])[:vertices])  # a straight cut through the last room
    black = np.zeros((vertices, 3), dtype=np.uint8)
    return write_file(folder, f"scene{number:04d}_{vertices}", xyz[kept], label[kept], black)


def timed(call: Callable, seconds: list[float]) -> Callable:
    """The same call; each adds its seconds to the list."""

    def timed_call(*args):
        start = time.perf_counter()
        result = call(*args)
        seconds.append(time.perf_counter() - start)
        return result

    return timed_call


def measure_sizes(model: nn.Module, files: list[SceneFile], rounds: int) -> list[dict]:
    """A row for each scene: the seconds of every round and of its parts, and the peak of the process's memory."""
    rows = []
    for file in files:  # the smallest first: memory that the allocator keeps would count for those after it
        memory.reset_peak()
        evaluate(model, WholeScenes([file], SEED), CPU)
        rows.append({"vertices": file.vertices, "peak_mb": memory.peak(), "reading": [], "network": [], "scoring": []})

    def parts_into(file: SceneFile, row: dict) -> None:
        reading, network, start = [], [], time.perf_counter()
        reader = mock.patch.object(WholeScenes, "__getitem__", timed(WholeScenes.__getitem__, reading))
        with reader, mock.patch.object(model, "forward", timed(model.forward, network)):
            evaluate(model, WholeScenes([file], SEED), CPU)
        row["draws"] = len(network)  # the CPU takes one at a time
        row["reading"].append(sum(reading))
        row["network"].append(sum(network))
        row["scoring"].append(time.perf_counter() - start - sum(reading) - sum(network))

    calls = {str(k): lambda k=k: parts_into(files[k], rows[k]) for k in range(len(files))}
    for row, seconds in zip(rows, timing.alternate(calls, rounds).values(), strict=True):
        row["seconds"] = seconds
        for part in ("reading", "network", "scoring"):
            row[part] = row[part][1:]  # without the round that is not counted
    return rows


def compare_forms(model: nn.Module, files: list[SceneFile], rounds: int) -> dict[str, list[float]]:
    """Seconds of all scenes in every round, the plain form first."""

    def score(files: list[SceneFile], batch_size: int, workers: int = 0) -> None:
        evaluate(model, WholeScenes(files, SEED), CPU, batch_size, workers)

    calls = {
        "scene after scene, 8 draws at a time": lambda: [score([file], 8) for file in files],
        "together, 8 draws at a time": lambda: score(files, 8),
        "together, 1 draw at a time": lambda: score(files, 1),
        "together, 1 draw at a time, 1 worker": lambda: score(files, 1, 1),
    }
    return timing.alternate(calls, rounds)


@torch.inference_mode()
def share_of_matrix_products(model: nn.Module, scene: SceneTiles) -> float:
    """Of the time of torch's operators in the network, draw by draw as evaluate() does."""
    clouds = [torch.from_numpy(scene.points[draw.index])[None] for draw in scene.tiles[:PROFILED_DRAWS]]
    model(clouds[0])
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for cloud in clouds:
            model(cloud)
    operators = profiled.key_averages()
    products = sum(operator.self_cpu_time_total for operator in operators if operator.key in MATRIX_PRODUCTS)
    return products / sum(operator.self_cpu_time_total for operator in operators)
