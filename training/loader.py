"""Feeds the training step: a cache of scenes for each machine, processes that cut chunks, copies ahead of the step."""

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.datasets import ChunkBatches, TrainingChunks
from data.scene_cache import SceneCache, bytes_of, make_file
from training import ranks
from training.stopping import ignore_signals

CACHES = ("auto", "none")
ON_DEVICE = ("points", "classes", "weight")  # of a batch: what a step computes with
UNPACKING = "each chunk unpacks its scene"


def chunk_loader(chunks: TrainingChunks, batches: ChunkBatches, workers: int, device: torch.device) -> DataLoader:
    """Batches of chunks for steps on that device, from so many processes."""
    return DataLoader(
        chunks,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_signals,
    )


def share_cache(chunks: TrainingChunks, choice: str) -> list[str]:
    """Gives the chunks a cache of their scenes that all ranks of a machine share, if that is "auto" and there is room.

    Returns what there is to say of it, on every rank. All ranks have to call this.
    """
    if choice == "none":
        return [f"no cache of scenes: {UNPACKING}"]
    machine = platform.node(), os.environ.get("GROUP_RANK")  # torchrun's number of the machine
    first = ranks.gather_from_ranks(machine).index(machine)
    made, note = _make(chunks) if first == ranks.rank() else (None, "")
    path = ranks.gather_from_ranks(made)[first]
    try:
        if path:
            chunks.cache = SceneCache(path, *chunks.cache_sizes())
    except OSError as error:
        note = f"no cache of scenes in rank {ranks.rank()} ({error}): {UNPACKING}"
    finally:
        notes = ranks.gather_from_ranks(note)  # after which all have opened it
        if made:
            made.unlink()
    return [note for note in dict.fromkeys(notes) if note]


def _make(chunks: TrainingChunks) -> tuple[Path | None, str]:
    sizes = chunks.cache_sizes()
    size = f"up to {-(-bytes_of(*sizes) // 10**6):,} MB"
    try:
        path = make_file(*sizes)
    except OSError as error:
        return None, f"no cache of scenes, which would be {size} ({error}): {UNPACKING}"
    return path, f"cache of scenes: {size} in {path.parent}, for as long as the run lasts"


def ahead(batches: Iterable[dict[str, Tensor]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The same batches. On a GPU each is there already, copied on a stream of its own while the step before was done.

    Args: batches in pinned memory, if the device is a GPU.
    """
    if device.type != "cuda":
        yield from batches
        return
    copying, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copying):
            copied = {name: batch[name].to(device, non_blocking=True) for name in ON_DEVICE}
        following = batch | copied, copying.record_event()
        if waiting:
            yield _arrived(*waiting, device)
        waiting = following
    if waiting:
        yield _arrived(*waiting, device)


def _arrived(batch: dict[str, Tensor], copied: torch.cuda.Event, device: torch.device) -> dict[str, Tensor]:
    """The batch, for what the current stream does from here on."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for name in ON_DEVICE:
        batch[name].record_stream(current)  # so that its memory is not given to a copy before the step is done
    return batch
