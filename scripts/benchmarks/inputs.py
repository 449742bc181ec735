"""A training step on chunks of other sizes and spacings, beside the paper's: what --spacing, --points and 3 m cost.

    python scripts/benchmark.py inputs [--threads T] [--batch-size 8]

step: forward, loss and backward with LatentGNN, K = 1. chunk: one is read, cut, thinned, augmented. distinct: the mean
number of vertices that a chunk holds once its points are drawn.
"""

import functools
from pathlib import Path

import numpy as np

from data.datasets import TrainingChunks, scene_files
from data.rooms.default import default_rooms
from data.scenes import read_manifest
from scripts.benchmarks import timing
from scripts.benchmarks.step import SEED, network, ours, step, training_batch
from training.arguments import whole_number
from training.recipes import RECIPES

MODERN = RECIPES["modern"]
THINNED = {"spacing": MODERN["spacing"], "augment": MODERN["augment"]}
INPUTS = {  # arguments of TrainingChunks
    "paper: 1.5 m, 8192 of all vertices": {},
    "1.5 m at 5 cm, 8192": THINNED,
    "modern: 1.5 m at 5 cm, 4096": THINNED | {"points": MODERN["points"]},
    "3 m, 8192 of all vertices": {"chunk_size": 3.0},
    "3 m at 5 cm, 8192": THINNED | {"chunk_size": 3.0},
    "3 m at 5 cm, 4096": THINNED | {"chunk_size": 3.0, "points": MODERN["points"]},
}


def add_arguments(parser) -> None:
    parser.add_argument("--data", type=Path, help="preprocessed scenes (default: generated rooms)")
    parser.add_argument("--batch-size", type=whole_number(1), default=8)


def run(args) -> dict:
    data = args.data or default_rooms()
    scenes = scene_files(data, read_manifest(data), ["train"])
    steps, cuts, distinct = {}, {}, {}
    for name, options in INPUTS.items():
        chunks = TrainingChunks(scenes, SEED, **options)
        batch = training_batch(chunks, args.batch_size)
        steps[name] = functools.partial(step, network({"context": "latentgnn"}), ours, batch)
        cuts[name] = functools.partial(chunks.__getitem__, (1, 0, 0))
        distinct[name] = float(np.mean([len(np.unique(points, axis=0)) for points in batch["points"].numpy()]))
    seconds, cut = timing.alternate(steps, args.rounds), timing.alternate(cuts, args.rounds)
    first = timing.median(next(iter(seconds.values())))
    print("| chunks | step, ms (quartiles) | paper's / this | distinct | chunk, ms |\n|---|---:|---:|---:|---:|")
    for name in INPUTS:
        print(
            f"| {name} | {timing.spread(seconds[name], digits=0)} | {first / timing.median(seconds[name]):.2f} | "
            f"{distinct[name]:,.0f} | {timing.spread(cut[name])} |"
        )
    return {"steps": seconds, "chunks": cut, "distinct": distinct}
