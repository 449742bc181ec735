"""The folder of a training run: who trains in it, what that goes on from, and what it says there."""

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import ops
from data.atomic_write import replacing
from training import checkpoint, ranks
from training.arguments import precision
from training.stopping import TrainingError

NOT_SETTINGS = ("config", "name", "out", "resume")  # where a run goes, not what it is
LOCK = "lock"  # in the run folder: who trains there


class Found(NamedTuple):
    """A checkpoint to go on from."""

    path: Path
    state: dict  # its entries
    notice: str  # what there is to say of it, or ""


def refuse_run_folder(args: argparse.Namespace) -> None:
    """What is wrong with --out, --resume and --batch-size, before anything is made: TrainingError."""
    if args.batch_size % ranks.world_size():
        raise TrainingError(
            f"--batch-size {args.batch_size} is of all {ranks.world_size()} ranks together: use a multiple"
        )
    files = [path for path in args.out.rglob("*") if path.is_file() and path.name != LOCK]
    if files and not args.resume:
        raise TrainingError(f"{args.out} is not empty; go on with --resume auto, or choose another --out")


def open_run_folder(
    args: argparse.Namespace, network: Any, config: dict, free: Sequence[str], parser: argparse.ArgumentParser
) -> Found | None:
    """Makes the run folder and locks it. What is found there to resume; None for a new run.

    TrainingError if that is of a run with other settings, but for the `free` ones. Settings are the fields of
    `network`, a dataclass, and `config`, which the parser's flags gave. Those that a checkpoint does not name
    have their defaults.
    """
    checkpoints = args.out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    lock(args.out)
    for orphan in [*args.out.glob("*.tmp"), *checkpoints.glob("*.tmp")]:  # of a process that was killed as it wrote
        orphan.unlink()
    found = checkpoint.read_newest(checkpoints) if args.resume else None
    if found:
        path, state, _ = found = Found(*found)
        ours = _as_json({**dataclasses.asdict(network), **config, "world_size": ranks.world_size()})
        defaults = {field.name: field.default for field in dataclasses.fields(network)}
        defaults |= {name: parser.get_default(name) for name in config}
        named = {**state["model_config"], **state["config"], "world_size": state.get("world_size")}
        saved = _as_json(defaults | named)
        differing = [
            f"{key} was {saved.get(key)!r}, is {ours[key]!r}"
            for key in ours
            if key not in free and saved.get(key) != ours[key]
        ]
        if differing:
            advice = "Use its settings or another --out"
            if "init_from" in config:
                advice += f"; --init-from {path} starts a new run from its weights"
            raise TrainingError(f"{path} is of another run: {'; '.join(differing)}. {advice}")
    return found


def _as_json(settings: dict) -> dict:
    """The same with lists for tuples, to compare settings from wherever they come."""
    return json.loads(json.dumps(settings, default=str))


def lock(folder: Path) -> None:
    """Refuses a folder in which another process trains. The lock ends with this process, however that ends.

    A POSIX record lock: loader processes do not inherit it, and network file systems know it.
    """
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # stays open: to close it would end the lock
    try:
        import fcntl  # not on Windows

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = os.read(file, 1000).decode(errors="replace")
        raise TrainingError(f"{folder}: {owner} trains there; wait for its end, or choose another --out") from None
    except (ImportError, OSError) as error:
        print(f"{folder} cannot be locked ({error}): start no second run in it", file=sys.stderr)
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {platform.node()}".encode())


def run_folder_of(path: Path) -> Path:
    """The folder of the run that a checkpoint or an export is of; of one that was moved, the folder it lies in."""
    folder = path.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def environment(device: torch.device) -> dict:
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": ranks.world_size(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": precision(),
        "ops": ops.describe(),
    }


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


class RunLog:
    """What a run says: on screen and in log.txt, as numbers in metrics.jsonl and in TensorBoard. Rank 0 says it."""

    def __init__(self, folder: Path, kept_epochs: int, kept_steps: int):
        """On resumption, numbers from after the checkpoint are taken back: they will be written again."""
        self.silent = ranks.rank() != 0
        if self.silent:
            return
        path = folder / "metrics.jsonl"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        with replacing(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines if _is_kept(line, kept_epochs, kept_steps)))
        self.metrics_file = open(path, "a", buffering=1)
        self.log_file = open(folder / "log.txt", "a", buffering=1, encoding="utf-8")
        self.board = None
        with self._board_may_fail():
            self.board = SummaryWriter(folder / "tensorboard", purge_step=kept_epochs + 1)

    def say(self, text: str) -> None:
        if not self.silent:
            tqdm.write(text)
            self._write(self.log_file, text)

    def step(self, epoch: int, step: int, loss: float) -> None:
        if not self.silent:
            self._write(self.metrics_file, json.dumps({"epoch": epoch, "part": "step", "step": step, "loss": loss}))

    def record(self, epoch: int, part: str, values: dict[str, float]) -> None:
        if self.silent:
            return
        self._write(self.metrics_file, json.dumps({"epoch": epoch, "part": part, **values}))
        self.show(lambda board: [board.add_scalar(f"{part}/{name}", value, epoch) for name, value in values.items()])

    def show(self, draw: Callable[[SummaryWriter], None]) -> None:
        """Lets `draw` add pictures and clouds to TensorBoard, on rank 0; what it raises does not stop the run."""
        if self.silent:
            return
        with self._board_may_fail():
            if self.board:
                draw(self.board)
                self.board.flush()

    def stopped(self, step: int) -> None:
        """The last that a stopped run says."""
        self.say(f"stopped after step {step}; rerun the same command with --resume auto to go on")
        self.close()

    def close(self) -> None:
        if self.silent:
            return
        with self._board_may_fail():
            if self.board:
                self.board.close()
        self.metrics_file.close()
        self.log_file.close()

    @contextmanager
    def _board_may_fail(self) -> Iterator[None]:
        """TensorBoard's numbers are in metrics.jsonl too: training goes on without it, and says so once."""
        try:
            yield
        except Exception as error:  # its writer is a thread, which hands on whatever ended it
            self.board = None
            self.say(f"warning: nothing more is written for TensorBoard ({error}); metrics.jsonl goes on")

    def _write(self, file: TextIO, line: str) -> None:
        try:
            file.write(line + "\n")
        except OSError as error:
            raise TrainingError(f"{file.name}: cannot be written ({error.strerror}); --resume auto goes on") from error


def _is_kept(line: str, epochs: int, steps: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:  # a crash cut it off
        return False
    return entry["step"] <= steps if entry["part"] == "step" else entry["epoch"] <= epochs
