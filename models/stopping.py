"""How a run ends before its time: at an error with one line, at SIGTERM or SIGINT after a step that is saved."""

import argparse
import signal
import sys
import time
from collections.abc import Callable

from models import distributed
from models.checkpoint import CheckpointError


class TrainingError(Exception):
    """The message says what is wrong and what to do."""


def run(
    parse: Callable[[list[str]], argparse.Namespace],
    train: Callable[[argparse.Namespace, "StopRequest"], int],
    argv: list[str] | None,
    errors: tuple[type[Exception], ...],
) -> int:
    """Parses the flags once for all ranks and trains. Returns the exit code; the errors end a run with one line."""
    stop = StopRequest()
    try:
        with distributed.ranks():
            return train(distributed.of_rank_0(parse, sys.argv[1:] if argv is None else argv), stop)
    except (TrainingError, CheckpointError, OSError, *errors) as error:
        print(error_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume auto goes on from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        stop.restore_handlers()


def error_line(error: Exception) -> str:
    """One line; of an error in a loader process, whose message torch wraps in its traceback, the last one."""
    return "error: " + str(error).strip().splitlines()[-1].removeprefix("data.scenes.SceneError: ")


def fail(message: str) -> None:
    raise TrainingError(message)


class StopRequest:
    """Whether SIGTERM or SIGINT asked this process to stop: the number of the signal, or 0."""

    def __init__(self):
        self.signal, self.time, self.handlers = 0, 0.0, {}

    def listen(self) -> None:
        """From here on such a signal does not end the process, but is noted. Before, there is nothing to save."""
        self.handlers = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore_handlers(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """Of a run that was told to stop; SIGTERM's where it was another rank that was told."""
        return 128 + (self.signal or signal.SIGTERM)

    def _note(self, number: int, frame: object) -> None:
        # Ctrl-C comes twice under torchrun, from the terminal and from torchrun itself; later on it is the user again
        if self.signal and number == signal.SIGINT and time.monotonic() > self.time + 2:
            raise KeyboardInterrupt
        if not self.signal:
            self.signal, self.time = number, time.monotonic()


def ignore_signals(worker: int) -> None:
    """For DataLoader(worker_init_fn=...): a signal to the whole process group is for the process that trains to handle.

    Its loader processes would otherwise die of it at once, and the training process of their death.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
