"""What every reader of this folder returns, and the bounds that each of them keeps. V points, F triangles."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from data.scans import ScanError

INSTALL = "pip install -r scripts/requirements-formats.txt"
PACKED = 100  # times its size that a compressed file may declare; real clouds shrink to a third or a twentieth
FREE = 2**26  # bytes that any file may declare
PANIC = "PanicException"  # of libraries in Rust, no Exception of Python's


class Stored(NamedTuple):
    """What a file holds, as it is stored: nothing is checked but that the file is large enough."""

    columns: Mapping[str, np.ndarray | None]  # by name; None: the format always has it, and nothing was recorded
    faces: np.ndarray | None = None  # (F, 3) int32
    of_faces: tuple[str, ...] = ()  # properties of the faces
    step: float | None = None  # metres, of coordinates that are multiples of it
    notes: tuple[str, ...] = ()  # what was left out, and what was taken for what, a line each
    faint: np.ndarray | None = None  # (V,) bool, of Gaussian splats: those that nobody sees


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Raises as ScanError whatever is raised within, by libraries that raise what they like."""
    try:
        yield
    except ScanError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        cause = " ".join(f"{type(error).__name__}: {str(error)[:300]}".split())
        kind = path.suffix[1:].upper()
        raise ScanError(f"{path}: truncated, damaged or no {kind} file ({cause}); export or copy it again") from error


def check_unpacked(path: Path, declared: int) -> None:
    """Raises ValueError if the file declares more bytes in memory than a file of its size is believed to hold."""
    if declared > max(FREE, PACKED * path.stat().st_size):
        raise ValueError(f"declares {declared} bytes, more than {PACKED} times its own; save it uncompressed")


def library(path: Path, name: str) -> ModuleType:
    """The module that reads the file. Raises ScanError without it, which says how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        kind = path.suffix[1:].upper()
        raise ScanError(f"{path}: {kind} files need {error.name or name}; {INSTALL}") from error
