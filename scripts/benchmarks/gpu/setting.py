"""What each part of the GPU's benchmark is given, and how it fills its rows: within its time, each with figures or with
the reason why there are none."""

import gc
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from data.datasets import SceneFile
from scripts.benchmarks import timing
from training.progress import tracked

SEED = 0
OUT_OF_MEMORY, LEFT_OUT = "out of memory", "left out: the part's time was over"  # what a row's "error" can be
MOST_WORKERS = 16  # of a loader; each holds some 250 MB
FIRST_CALLS = 3  # which compile kernels, choose algorithms and capture graphs; the most memory is theirs


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    clouds: int = 16  # of the point operators
    chunk: int = 8192  # points of a chunk
    batches: tuple[int, ...] = (16, 64, 4)  # chunks a step; those that matter most first
    compared: int = 8  # steps, eager and captured
    points: tuple[int, ...] = (1024, 4096, 16_384, 65_536, 262_144)  # N of the layer alone
    scenes: int = 64  # as many as a batch of the paper has chunks
    vertices: int = 150_000  # of a scene: ScanNet's mean
    fed: int = 16  # chunks of a batch, of loaders and on each of several GPUs
    seconds: float = 4.0  # of each loader
    steps: int = 30  # on each number of GPUs
    schedule_batch: int = 64
    schedule_steps: int = 100


SMALL = Sizes(1, 512, (2,), 3, (64, 256), 2, 3000, 2, 0.2, 2, 2, 3)


@dataclass(frozen=True)
class Setting:
    device: torch.device
    sizes: Sizes
    rounds: int
    scenes: list[SceneFile]  # none, for a part that reads none
    ends: float = math.inf  # of time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """For all that the GPU has been given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def take_turns(self, calls: dict[str, Callable], rounds: int | None = None) -> dict[str, list[float]]:
        """Seconds of each call in each round (timing.alternate)."""
        return timing.alternate(calls, rounds or self.rounds, self.wait)

    def rows(self, name: str, keys: Iterable[dict], measure: Callable[..., dict]) -> list[dict]:
        """Each key | measure(**key); of what fails, or comes after the end, key | {"error": why}."""
        made = []
        for key in tracked(list(keys), name, "rows"):
            late = time.monotonic() > self.ends
            made.append(key | ({"error": LEFT_OUT} if late else self.attempt(measure, **key)))
        return made

    def attempt(self, measure: Callable[..., dict], *args, **kwargs) -> dict:
        """What it returns, or {"error": why}: one size or form that fails does not end the part."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
        try:
            return measure(*args, **kwargs)
        except Exception as error:
            if isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error):  # as a capture says it
                return {"error": OUT_OF_MEMORY}
            return {"error": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[-1]}"}

    def first_calls(self, call: Callable) -> dict:
        """Makes them. The most memory that they took of a GPU beyond what there was, in MB: of tensors, and of the
        device, of which torch keeps what is free and what graphs own. On the CPU there is one call, and {}."""
        if not self.on_gpu:
            call()
            return {}
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)
        for _ in range(FIRST_CALLS):
            call()
        tensors, held = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return {"tensors_mb": (tensors - before[0]) / 1e6, "device_mb": (held - before[1]) / 1e6}


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
