"""The loading of training chunks against what a training step needs, in chunks a second, and the memory of its workers.

Scenes of --vertices are made (rooms side by side, a dozen different ones, each file on disk in its own right) in a
temporary folder on the disk that TMPDIR names, 1.8 MB each at 150,000 vertices, and deleted afterwards. A round is an
epoch of every DataLoader, all built as train_scannet.py does; the first epoch reads files that the page cache was told
to drop. Workers that share the cores with the step, as on the CPU, take from it what one process needs for its chunks.
Memory is read, and the cache dropped, on Linux only.
"""

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

SEED = 0
DISTINCT = 12  # scenes that are generated; the others are copies of them under names of their own
CHUNKS_TIMED = 32  # of the making of one chunk in this process
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
            chunks = TrainingChunks(scenes, SEED)
        except SceneError as error:
            sys.exit(f"benchmark loader: {error}")
        making = time_chunk(chunks, args.rounds)
        loaders = measure_loaders(chunks, args)
        steps = time_step(chunks, args.batch_size, device, args.rounds)
        vertices = [scene.vertices for scene in chunks.scenes]

    need = args.batch_size / timing.median(steps)
    whole, reading = (timing.median(making[name]) for name in ("chunk", "reading"))
    print(f"{len(vertices)} scenes of {min(vertices):,} to {max(vertices):,} vertices; {ops.describe()}")
    print(f"one chunk in one process: {1e3 * whole:.1f} ms, {100 * reading / whole:.0f} % of it reading the file")
    print(
        f"one step (forward, loss, backward; LatentGNN, K = 1; {device}) of {args.batch_size} chunks: "
        f"{timing.spread(steps, unit=1)} s, so it needs {need:.1f} chunks/s\n"
    )
    print("| workers | chunks/s (quartiles) | x need | chunks/s from disk | MB a worker: first epoch, last, peak |")
    print("|---:|---:|---:|---:|---:|")
    for row in loaders:
        rates, cold = row["chunks_per_second"], row["cold_chunks_per_second"]
        row["times_need"] = timing.median(rates) / need
        held = ", ".join(f"{row[key]:.0f}" for key in ("first_mb", "last_mb", "peak_mb")) if "peak_mb" in row else "-"
        print(
            f"| {row['workers']} | {timing.spread(rates, unit=1)} | {row['times_need']:.1f} "
            f"| {f'{cold:.1f}' if cold else '-'} | {held} |"
        )
    about = dict(ops=ops.describe(), device=str(device), batch_size=args.batch_size, vertices=vertices)
    return about | dict(rows=loaders, chunk_seconds=making, step_seconds=steps, need_chunks_per_second=need)


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


def time_chunk(chunks: TrainingChunks, rounds: int) -> dict[str, list[float]]:
    """Seconds of making one chunk, and of reading its scene alone, in this process."""
    keys = [(0, k, k % len(chunks)) for k in range(CHUNKS_TIMED)]
    calls = {
        "chunk": lambda: [chunks[key] for key in keys],
        "reading": lambda: [chunks.scenes[scene].read_points(chunks.features) for _, _, scene in keys],
    }
    return {name: [s / len(keys) for s in seconds] for name, seconds in timing.alternate(calls, rounds).items()}


def measure_loaders(chunks: TrainingChunks, args) -> list[dict]:
    """A row for each number of workers: chunks a second in every round, and the workers' memory."""
    epochs = {str(workers): Epochs(chunks, args.batch_size, workers) for workers in args.workers}
    rows = []
    for epoch in epochs.values():
        cold = drop_from_page_cache(chunks.scenes)
        start = time.perf_counter()
        epoch()
        rate = epoch.chunks / (time.perf_counter() - start)
        row = {"workers": epoch.loader.num_workers, "cold_chunks_per_second": rate if cold else None}
        rows.append(row | epoch.memory("first"))
    for row, (workers, seconds) in zip(rows, timing.alternate(epochs, args.rounds).items(), strict=True):
        row["chunks_per_second"] = [epochs[workers].chunks / s for s in seconds]
        row |= epochs[workers].memory("last")
    return rows


class Epochs:
    """A training DataLoader; each call takes one more epoch of batches from it."""

    def __init__(self, chunks: TrainingChunks, batch_size: int, workers: int):
        self.batches, self.epoch, self.pids = ChunkBatches(len(chunks), batch_size, SEED), 0, []
        self.chunks = len(self.batches) * batch_size
        self.loader = DataLoader(  # as train_scannet.py builds it
            chunks, batch_sampler=self.batches, num_workers=workers, persistent_workers=workers > 0
        )

    def __call__(self) -> None:
        self.epoch += 1
        self.batches.set_epoch(self.epoch)
        before = set(multiprocessing.active_children())
        for _ in self.loader:
            pass
        self.pids = self.pids or [process.pid for process in set(multiprocessing.active_children()) - before]

    def memory(self, when: str) -> dict[str, float]:
        """Resident memory of the largest worker, now and at most, in MB; nothing without workers or Linux."""
        if not self.pids or sys.platform != "linux":
            return {}
        now, most = (max(memory.megabytes(entry, pid) for pid in self.pids) for entry in (memory.NOW, memory.PEAK))
        return {f"{when}_mb": now, "peak_mb": most}


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
