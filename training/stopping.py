"""How a run ends before its time: at an error with one line, at SIGTERM or SIGINT after a step that is saved."""

import argparse
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable

from training import ranks
from training.checkpoint import CheckpointError

# Seconds that a loader process outlives SIGTERM: more than the last step takes, and a cluster gives
GRACE = 60


class TrainingError(Exception):
    """The message says what is wrong and what to do."""


def run_command(
    parse: Callable[[list[str]], argparse.Namespace],
    work: Callable[[argparse.Namespace, "StopRequest"], int],
    argv: list[str] | None,
    errors: tuple[type[Exception], ...],
    if_interrupted: str = "the same command with --resume auto goes on from the last checkpoint",
) -> int:
    """Parses the flags once for all ranks and works. Returns the exit code; the errors end a run with one line."""
    stop = StopRequest()
    try:
        with ranks.process_group():
            return work(ranks.on_rank_0(parse, sys.argv[1:] if argv is None else argv), stop)
    except (TrainingError, CheckpointError, OSError, *errors) as error:
        print(error_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if ranks.rank() == 0:
            print(f"interrupted; {if_interrupted}", file=sys.stderr)
        return 130
    finally:
        stop.restore_handlers()
        for process in multiprocessing.active_children() if os.name == "posix" else ():  # of a loader that an error's
            os.kill(process.pid, signal.SIGALRM)  # traceback still holds; ignore_signals has arranged what this does


def error_line(error: Exception) -> str:
    """One line; of an error in a loader process, whose message torch wraps in its traceback, the last one."""
    return "error: " + re.sub(r"^[\w.]+Error: ", "", str(error).strip().splitlines()[-1])


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
    """For DataLoader(worker_init_fn=...): a signal to a whole job is for the process that trains to handle.

    Its loader processes would otherwise die of it at once, and the training process of their death. SIGTERM ends them
    GRACE seconds later, for it is also how Python ends those that are left when it exits, and it waits for them. They
    end with the training process: what they have ready, which nobody takes any more, would keep them forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))  # any other status torch reports as a failure
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(0)
