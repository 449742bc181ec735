"""The loading of training chunks, with and without a cache, against what a step needs, and the memory of its workers.

Scenes of --vertices are made (rooms side by side, a dozen different ones, each file on disk in its own right) in a
temporary folder on the disk that TMPDIR names, 1.8 MB each at 150,000 vertices, and deleted afterwards. A round is an
epoch of every DataLoader, with and without the cache in turn, all built as train_scannet.py does; the first epoch reads
files that the page cache was told to drop, and fills the cache. Workers that share the cores with the step, as on the
CPU, take from it what one process needs for its chunks. Memory is read, and the page cache dropped, on Linux only.
"""

import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

import ops
from data.datasets import ChunkBatches, SceneFile, TrainingChunks, scene_files
from data.labels import SCANNET20, histogram
from data.rooms import rooms
from data.scenes import Scene, SceneError, read_manifest, write_scene
from models import pointnet2
from scripts.benchmarks import memory, step, timing
from training.arguments import choose_device, whole_number
from training.loader import chunk_loader, share_cache

SEED = 0
STEPS = (10, 20, 40)  # ms
DISTINCT = 12  # scenes that are generated; the others are copies of them under names of their own
CHUNKS_TIMED = 32  # of the making of one chunk in this process
FIRST_EPOCHS = ("cold_chunks_per_second", "filling_chunks_per_second")  # keys of a row
MEMORY = ("first_mb", "last_mb", "peak_mb", "cached_own_mb")
GAP = 0.3  # m between the rooms of a scene


def add_arguments(parser) -> None:
    parser.add_argument("--scenes", type=whole_number(1), default=1201, help="default: ScanNet's training scenes")
    parser.add_argument("--vertices", type=whole_number(1), default=150_000, help="of a scene")
    parser.add_argument("--data", type=Path, help="measure these preprocessed scenes instead; nothing is deleted")
    parser.add_argument("--workers", type=whole_number(0), nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--batch-size", type=whole_number(1), default=16)
    parser.add_argument("--device", default="auto", help="of the training step")


def run(args) -> dict:
    device = choose_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if args.data:
                scenes = scene_files(args.data, read_manifest(args.data), ["train"])
            else:
                scenes = make_scenes(Path(folder), args.scenes, args.vertices)
            chunks, cached = TrainingChunks(scenes, SEED), TrainingChunks(scenes, SEED)
        except SceneError as error:
            sys.exit(f"benchmark loader: {error}")
        (note,) = share_cache(cached, "auto")
        if not cached.cache:
            sys.exit(f"benchmark loader: {note}")
        print(note)
        loaders = measure_loaders(chunks, cached, args)
        making = time_chunk(chunks, cached, args.rounds)
        steps = time_step(chunks, args.batch_size, device, args.rounds)
        vertices = [scene.vertices for scene in chunks.scenes]

    need = args.batch_size / timing.median(steps)
    whole, reading, short = (timing.median(making[name]) for name in ("chunk", "reading", "cached"))
    print(f"{len(vertices)} scenes of {min(vertices):,} to {max(vertices):,} vertices; {ops.describe()}")
    print(f"one chunk in one process: {1e3 * whole:.1f} ms, {100 * reading / whole:.0f} % of it reading the file")
    print(f"the same with the cache: {1e3 * short:.1f} ms, {whole / short:.1f} times as fast")
    print(
        f"one step (forward, loss, backward; LatentGNN, K = 1; {device}) of {args.batch_size} chunks: "
        f"{timing.spread(steps, unit=1)} s, so it needs {need:.1f} chunks/s\n"
    )
    for row in loaders:
        row["times_need"] = timing.median(row["cached_chunks_per_second"]) / need
    print_loaders(loaders)
    about = dict(ops=ops.describe(), device=str(device), batch_size=args.batch_size, vertices=vertices)
    about |= dict(rows=loaders, chunk_seconds=making, step_seconds=steps, need_chunks_per_second=need)
    return about | {"workers": print_workers(loaders, args.batch_size)}


def print_loaders(rows: list[dict]) -> None:
    print(
        "| workers | chunks/s (quartiles) | with the cache | ratio | x need | from disk, and filling the cache "
        "| MB a worker: first epoch, last, peak; own with the cache |\n|---:|---:|---:|---:|---:|---:|---:|"
    )
    for row in rows:
        rates, cached = row["chunks_per_second"], row["cached_chunks_per_second"]
        ratio = timing.median(cached) / timing.median(rates)
        disk, held = ([f"{row[key]:.0f}" for key in keys if row.get(key)] for keys in (FIRST_EPOCHS, MEMORY))
        print(
            f"| {row['workers']} | {timing.spread(rates, unit=1)} | {timing.spread(cached, unit=1)} | {ratio:.1f} "
            f"| {row['times_need']:.1f} | {', '.join(disk) or '-'} | {', '.join(held) or '-'} |"
        )


def print_workers(rows: list[dict], batch_size: int) -> list[dict]:
    """How many workers, each as fast as in the row with the fewest, feed steps of several lengths."""
    row = min(rows, key=lambda row: (row["workers"] == 0, row["workers"]))
    one, cached = (
        timing.median(row[key]) / max(row["workers"], 1) for key in ("chunks_per_second", "cached_chunks_per_second")
    )
    found = []
    print(
        f"\n| a step of {batch_size} chunks takes | needs chunks/s | workers | with the cache |\n|---:|---:|---:|---:|"
    )
    for milliseconds in STEPS:
        need = 1e3 * batch_size / milliseconds
        found.append(
            dict(step_ms=milliseconds, need=need, workers=math.ceil(need / one), cached=math.ceil(need / cached))
        )
        print(f"| {milliseconds} ms | {need:,.0f} | {found[-1]['workers']} | {found[-1]['cached']} |")
    return found


def make_scenes(folder: Path, scenes: int, vertices: int) -> list[SceneFile]:
    """Scene files of rooms, each a file in its own right; exits if the disk is too small for them."""
    rng, files, made, first_room = np.random.default_rng(SEED), [], [], 0
    for k in tqdm(range(scenes), desc="making scenes", unit="scene", disable=None):
        if k < DISTINCT:
            xyz, label, first_room = rooms_side_by_side(first_room, vertices)
            made.append((xyz, label, rng.integers(256, size=(vertices, 3), dtype=np.uint8)))
        files.append(write_file(folder, f"scene{k:04d}_00", *made[k % DISTINCT]))
        needed, free = files[-1].path.stat().st_size * (scenes - k - 1), shutil.disk_usage(folder).free
        if needed > free:
            sys.exit(
                f"benchmark loader: {scenes} scenes need {needed / 1e9:.1f} GB more in {folder.parent}, which has "
                f"{free / 1e9:.1f} GB left; set TMPDIR to a folder on another disk, or ask for fewer --scenes"
            )
    return files


def write_file(folder: Path, name: str, xyz: np.ndarray, label: np.ndarray, colour: np.ndarray) -> SceneFile:
    """A scene as preprocessing writes it: xyz (V, 3) float32, label (V,) uint16 and colour (V, 3) uint8."""
    path = folder / f"{name}.h5"
    write_scene(path, Scene(name, xyz, label, colour))
    return SceneFile(name, path, len(xyz), histogram(label))


def rooms_side_by_side(first: int, vertices: int) -> tuple[np.ndarray, np.ndarray, int]:
    """xyz (V, 3) float32 and label (V,) uint16 of the synthetic rooms from `first` on, and the first that is left."""
    places, labels, width = [], [], 0.0
    while sum(map(len, labels)) < vertices:
        plan = rooms.plan_room(SEED, "train", first)
        xyz, _, label, *_ = rooms.annotated_room(plan, np.random.default_rng(plan.seed))
        labels.append(label.astype(np.uint16))
        places.append(xyz + [width - xyz[:, 0].min(), 0, 0])
        width = places[-1][:, 0].max() + GAP
        first += 1
    return np.concatenate(places)[:vertices].astype(np.float32), np.concatenate(labels)[:vertices], first


def time_chunk(chunks: TrainingChunks, cached: TrainingChunks, rounds: int) -> dict[str, list[float]]:
    """Seconds of making one chunk, of reading its scene alone, and with a filled cache, in this process."""
    keys = [(0, k, k % len(chunks)) for k in range(CHUNKS_TIMED)]
    calls = {
        "chunk": lambda: [chunks[key] for key in keys],
        "reading": lambda: [chunks.scenes[scene].read_points(chunks.features) for _, _, scene in keys],
        "cached": lambda: [cached[key] for key in keys],
    }
    return {name: [s / len(keys) for s in seconds] for name, seconds in timing.alternate(calls, rounds).items()}


def measure_loaders(chunks: TrainingChunks, cached: TrainingChunks, args) -> list[dict]:
    """A row for each number of workers: chunks a second in every round, and the workers' memory.

    The first of them that has the cache fills it, in an epoch that is not counted.
    """
    epochs = {
        f"{workers} {name}": Epochs(of, args.batch_size, workers)
        for workers in args.workers
        for name, of in (("plain", chunks), ("cached", cached))
    }
    first = {name: first_epoch(epoch) for name, epoch in epochs.items()}
    held = {name: epoch.memory({"first_mb": memory.NOW}) for name, epoch in epochs.items()}
    seconds, rows = timing.alternate(epochs, args.rounds), []
    for workers in args.workers:
        plain, with_cache = f"{workers} plain", f"{workers} cached"
        row = {"workers": workers, "cold_chunks_per_second": first[plain]} | held[plain]
        row["filling_chunks_per_second"] = None if rows else first[with_cache]
        row["chunks_per_second"] = [epochs[plain].chunks / s for s in seconds[plain]]
        row["cached_chunks_per_second"] = [epochs[with_cache].chunks / s for s in seconds[with_cache]]
        row |= epochs[plain].memory({"last_mb": memory.NOW, "peak_mb": memory.PEAK})
        rows.append(row | epochs[with_cache].memory({"cached_own_mb": memory.OWN}))
    return rows


def first_epoch(epoch: "Epochs") -> float | None:
    """Chunks a second of one that reads its scenes from the disk; None where the page cache cannot be dropped."""
    cold = drop_from_page_cache(epoch.loader.dataset.scenes)
    start = time.perf_counter()
    epoch()
    return epoch.chunks / (time.perf_counter() - start) if cold else None


class Epochs:
    """A training DataLoader; each call takes one more epoch of batches from it."""

    def __init__(self, chunks: TrainingChunks, batch_size: int, workers: int):
        self.batches, self.epoch, self.pids = ChunkBatches(len(chunks), batch_size, SEED), 0, []
        self.chunks = len(self.batches) * batch_size
        self.loader = chunk_loader(chunks, self.batches, workers, torch.device("cpu"))

    def __call__(self) -> None:
        self.epoch += 1
        self.batches.set_epoch(self.epoch)
        before = set(multiprocessing.active_children())
        for _ in self.loader:
            pass
        self.pids = self.pids or [process.pid for process in set(multiprocessing.active_children()) - before]

    def memory(self, entries: dict[str, str]) -> dict[str, float]:
        """Those entries of the worker that has most, in MB, by these names; nothing without workers or Linux."""
        if not self.pids or sys.platform != "linux":
            return {}
        return {name: max(memory.megabytes(entry, pid) for pid in self.pids) for name, entry in entries.items()}


def drop_from_page_cache(scenes: list[SceneFile]) -> bool:
    """Has the system forget the files' content, so that it is read from the disk; False where it cannot be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.sync()  # only what is on disk can be forgotten
    for scene in scenes:
        descriptor = os.open(scene.path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


def time_step(chunks: TrainingChunks, batch_size: int, device: torch.device, rounds: int) -> list[float]:
    """Seconds of forward, loss and backward on one batch in every round, the first step not counted."""
    ops.use("auto")
    config = pointnet2.PointNet2Config(SCANNET20.num_classes, context="latentgnn", kernels=1)
    model = pointnet2.build(config, SEED).to(device).train()
    batch = next(iter(DataLoader(chunks, batch_sampler=ChunkBatches(len(chunks), batch_size, SEED))))

    def step_on_device() -> None:
        step.step(model, step.ours, {key: batch[key].to(device) for key in ("points", "classes", "weight")})
        next(model.parameters()).grad.sum().item()  # waits for a GPU

    torch.manual_seed(SEED)  # dropout
    return timing.alternate({"step": step_on_device}, rounds)["step"]
