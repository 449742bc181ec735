"""Time and memory of context layers against the number of points, forward and backward, as a table and a picture.

The layer of the first set abstraction (64 channels, d = 80) on one cloud. Memory is the most that a fresh process holds
beyond what it held before its first step, with the input and without; on Linux only. Forms that make an N x N matrix
stop at --dense-points, the others at --points. --picture FILE draws both on logarithmic axes.
"""

import multiprocessing
from pathlib import Path

import torch

from scripts.benchmarks import latentgnn, memory, timing
from training.arguments import whole_number

FIRST = 1024  # points; four times as many in every further size
NAMES = {  # of benchmarks/latentgnn.py's layers: name -> whether it makes an N x N matrix
    latentgnn.OURS: False,
    "LatentGNN, K = 3": False,
    "non-local, reordered": False,
    latentgnn.SOFTMAX: False,
    latentgnn.DENSE: True,
}
SLOW = latentgnn.SOFTMAX  # grows as N x N in time, though not in memory


def add_arguments(parser) -> None:
    most = "the most where time or memory grow as N x N"
    parser.add_argument("--points", type=whole_number(FIRST), default=2**18, help="the most")
    parser.add_argument("--dense-points", type=whole_number(FIRST), default=2**14, help=most)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="PNG to draw")


def run(args) -> dict:
    rows = []
    print("| layer | N | ms (quartiles) | us a point | MB |\n|---|---:|---:|---:|---:|")
    for name, is_dense in NAMES.items():
        points = FIRST
        while points <= (args.dense_points if is_dense or name == SLOW else args.points):
            seconds, megabytes = in_a_fresh_process(name, points, args.threads, args.rounds)
            rows.append(dict(layer=name, points=points, seconds=seconds, mb=megabytes))
            per_point = 1e6 * timing.median(seconds) / points
            memory = "-" if megabytes is None else f"{megabytes:.0f}"
            print(f"| {name} | {points:,} | {timing.spread(seconds)} | {per_point:.1f} | {memory} |", flush=True)
            points *= 4
    if args.picture:
        draw(args.picture, rows)
        print(f"\npicture: {args.picture}")
    return {"channels": latentgnn.CHANNELS, "latent_nodes": latentgnn.LATENT_NODES, "rows": rows}


def in_a_fresh_process(name: str, points: int, threads: int, rounds: int) -> tuple[list[float], float | None]:
    """Seconds of every round, and the peak of the memory of the first in MB: in a process of its own, because what an
    earlier form freed may stay with the process that ran it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (name, points, threads, rounds))


def measure(name: str, points: int, threads: int, rounds: int) -> tuple[list[float], float | None]:
    torch.set_num_threads(threads)
    x = torch.randn(1, points, latentgnn.CHANNELS, generator=torch.Generator().manual_seed(latentgnn.SEED))
    call = latentgnn.step(latentgnn.layers()[name], x)
    latentgnn.step(latentgnn.layers()[name], x[:, :FIRST])()  # what the first step of all loads stays
    memory.reset_peak()
    before = memory.peak()
    call()
    megabytes = before and memory.peak() - before
    return timing.alternate({name: call}, rounds)[name], megabytes


def draw(path: Path, rows: list[dict]) -> None:
    from matplotlib.figure import Figure  # here: it would count in the memory that other subjects measure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for number, name in enumerate(NAMES):
        of_layer = [row for row in rows if row["layer"] == name]
        points = [row["points"] for row in of_layer]
        style = dict(marker="o", markersize=4, color=f"C{number}", linewidth=2.5 if name == latentgnn.OURS else 1.5)
        time_axes.loglog(points, [timing.median(row["seconds"]) for row in of_layer], label=name, **style)
        if of_layer and of_layer[0]["mb"] is not None:
            memory_axes.loglog(points, [max(row["mb"], 0.1) for row in of_layer], **style)
    time_axes.set(title="time of a step, forward and backward", xlabel="points N", ylabel="seconds")
    memory_axes.set(title="memory of a step", xlabel="points N", ylabel="MB")
    for axes in (time_axes, memory_axes):
        axes.grid(True, which="major", alpha=0.3)
    figure.legend(*time_axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
