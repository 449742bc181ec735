"""How far long work is: a bar on a terminal, a line now and then in a log, and a word first where it takes minutes."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
# Chosen by hand
LONG = 120.0  # s from which on it is said how long the work takes
FEWEST, MEASURED = 3, 2.0  # items and seconds after which that can be told
EVERY = 30.0  # s between lines in a log


def tracked(items: Sequence[Item], name: str, unit: str, silent: bool = False) -> Iterator[Item]:
    """The items, one after the other, while stderr shows how far they are, in `unit`, a plural, of the work `name`.

    `silent`: nothing is shown.
    """
    if silent:
        yield from items
        return
    shown, told, said = sys.stderr.isatty(), False, time.monotonic()
    with tqdm(total=len(items), desc=name, unit=unit, leave=False, disable=not shown) as bar:
        for done, item in enumerate(items):
            now = time.monotonic()
            if done <= 1:
                start = now  # the first item is slower, and not measured
            each = (now - start) / max(done - 1, 1)
            left = _minutes(each * (len(items) - done))
            if not told and done >= FEWEST and now - start >= MEASURED:
                told = True
                if each * len(items) > LONG:
                    bar.write(f"{name} takes {left}: {len(items)} {unit} of {each:.2g} s each", file=sys.stderr)
            elif not shown and now - said >= EVERY:
                said = now
                bar.write(f"{name}: {done} of {len(items)} {unit} done, {left} to go", file=sys.stderr)
            yield item
            bar.update()


def _minutes(seconds):
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} s"
