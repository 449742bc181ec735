"""A raw scan as every reader gives it: arrays in the order of the file. V vertices or points, F triangles."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

NAMED = 10  # unknown categories that are named


class ScanError(Exception):
    """A raw scan, or a table that goes with it, that cannot be read: the message names the file and the cause."""


@dataclass(frozen=True)
class Scan:
    """What a scan lacks is None."""

    name: str
    xyz: np.ndarray  # (V, 3) float32, metres, +z up
    step: float  # metres between neighbouring coordinates that the file could hold
    label: np.ndarray | None = None  # (V,) uint16, ids of the label space
    colour: np.ndarray | None = None  # (V, 3) uint8 RGB
    normal: np.ndarray | None = None  # (V, 3) float32, unit length
    intensity: np.ndarray | None = None  # (V,) float32 in [0, 1]
    faces: np.ndarray | None = None  # (F, 3) int32, vertex indices
    offset: np.ndarray | None = None  # (3,) float64: xyz + offset are the file's coordinates; None: xyz are
    axis_alignment: np.ndarray | None = None  # (4, 4) float64, turns walls parallel to x and y; not applied
    unknown: Counter = field(default_factory=Counter)  # instances by category, of those that the label table lacks
    notes: tuple[str, ...] = ()  # faults that were dealt with, a line each, with file and place


def named_categories(unknown: Counter, categories: Iterable[str]) -> str:
    """The commonest categories that the label table lacks, how often each, and which of its own was probably meant.

    Args: unknown: instances by category; categories: those of the table.
    """
    in_lower_case = {name.casefold(): name for name in categories}

    def told(category, count):
        meant = in_lower_case.get(category.casefold())
        return f"{category!r} ({count}{f', {meant!r} is probably meant' if meant else ''})"

    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    return ", ".join(told(*entry) for entry in unknown.most_common(NAMED)) + more
