"""train_scannet.py or eval_scannet.py on draws of 1,024 points, each of which takes milliseconds, and with a fault.

    [torchrun ...] with_fault.py train_scannet "in_step(5, kill_9)" flags of train_scannet.py...

The fault is Python code, which runs before and finds the names below.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

import eval_scannet
import train_scannet
from data import chunks
from training import checkpoint, inference, validation

RANK = int(os.environ.get("RANK", "0"))


def before(module: object, name: str, act: Callable, condition: Callable[..., bool] = lambda *args: True) -> None:
    """Calls act(*args) before each call module.name(*args) whose arguments meet the condition."""
    real = getattr(module, name)

    def with_fault(*args, **kwargs):
        if condition(*args):
            act(*args)
        return real(*args, **kwargs)

    setattr(module, name, with_fault)


def nth(number: int, condition: Callable[..., bool] = lambda *args: True) -> Callable[..., bool]:
    """True at the n-th call that meets the condition."""
    met = iter(range(1, 1000))
    return lambda *args: condition(*args) and next(met) == number


def in_step(number: int, act: Callable) -> None:
    """Calls act() between forward and backward of this process's n-th step."""
    before(train_scannet, "weighted_cross_entropy_sum", lambda *args: act(), nth(number))


def after_scene(number: int, act: Callable) -> None:
    """Calls act() when this process has evaluated its n-th scene."""
    before(inference.SceneScore, "result", lambda *args: act(), nth(number))


def at_replace(number: int, name: str, act: Callable) -> None:
    """Calls act() before the n-th time that a file is renamed to `name`."""
    before(os, "replace", lambda *args: act(), nth(number, lambda old, new: Path(new).name == name))


def kill_9() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def sigterm_to_the_group() -> None:
    os.killpg(0, signal.SIGTERM)


def sleep() -> None:
    time.sleep(1000)


def limit_files(size: int) -> Callable:
    """No file can grow beyond so many bytes, as if the disk were full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def write_half_of_last_and_die(number: int) -> None:
    def act(path: Path, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        kill_9()

    before(Path, "write_bytes", act, nth(number, lambda path, content: path.name == "last.pt.tmp"))


def nan_in_step(number: int) -> None:
    real, steps = train_scannet.weighted_cross_entropy_sum, iter(range(1, 1000))

    def with_fault(*args):
        total, count = real(*args)
        return total * (float("nan") if next(steps) == number else 1), count

    train_scannet.weighted_cross_entropy_sum = with_fault


def say_what_is_evaluated() -> None:
    def say(model: torch.nn.Module, *args: object) -> None:
        print(f"evaluates {checkpoint.weights_sha256(model)}", flush=True)

    before(validation, "evaluate", say)


def forbid_writing_in(folder: str) -> None:
    """What opens a file for writing there, makes, renames or removes one, raises an exception."""

    def audit(event: str, args: tuple) -> None:
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.truncate", "os.link", "os.symlink")
        writes |= event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND))
        if writes and isinstance(args[0], str | Path) and str(args[0]).startswith(folder):
            raise PermissionError(f"rank {RANK} writes: {event} {args}")

    sys.addaudithook(audit)


if __name__ == "__main__":
    for draw in (chunks.training_crop, chunks.tile_crops, chunks.covering_crops):
        draw.__defaults__ = (1024, chunks.CHUNK_SIZE)
    exec(sys.argv[2])
    sys.exit({"train_scannet": train_scannet, "eval_scannet": eval_scannet}[sys.argv[1]].main(sys.argv[3:]))
