"""What training chunks are cut from, unpacked once, in one file that all processes of a machine map.

The file has no name, so that it ends with the last process that has it open, however that ends. It begins with the
number of vertices of each scene, 0 while the scene is absent; a scene is written by whichever process reads it first,
before its number. Two that write the same scene write the same bytes. V vertices, F extra channels.
"""

import mmap
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.floor_grid import SQUARES, FloorGrid, grid_of

SPARE = 2**30  # bytes that are left free, for checkpoints and others
PAGE = 4096  # bytes; where scenes begin
COUNT = np.dtype(np.int64)


class Seen(NamedTuple):
    """The vertices of a scene that the network may see, in the scene's order."""

    xyz: np.ndarray  # (V, 3) float32
    features: np.ndarray  # (V, F) float32
    classes: np.ndarray  # (V,) of whole numbers; 0 is none of the classes
    trained: np.ndarray  # (V,) bool: the loss counts it
    grid: FloorGrid | None = None  # of xyz


class SceneCache:
    """Scenes by their number. `path`: of `make_file`, for the same scenes and channels."""

    def __init__(self, path: Path, vertices: Sequence[int], channels: int):
        self.folder, self.channels = path.parent, channels
        self.starts = _starts(vertices, channels)
        self._open(os.open(path, os.O_RDWR))

    def _open(self, descriptor: int) -> None:
        self.descriptor, self.close = descriptor, weakref.finalize(self, os.close, descriptor)
        self.map = mmap.mmap(descriptor, self.starts[-1], mmap.MAP_SHARED, mmap.PROT_READ)

    def __getstate__(self) -> dict:
        """For a process that is not forked, to which the open file goes along."""
        from multiprocessing.reduction import DupFd  # not on Windows, which has no cache

        kept = {name: value for name, value in vars(self).items() if name not in ("close", "map")}
        return {**kept, "descriptor": DupFd(self.descriptor)}

    def __setstate__(self, state: dict) -> None:
        descriptor = state.pop("descriptor")
        vars(self).update(state)
        self._open(descriptor.detach())

    def read(self, scene: int) -> Seen | None:
        """What `write` was given, in arrays that cannot be written to; None if the scene is not there."""
        (vertices,) = np.frombuffer(os.pread(self.descriptor, COUNT.itemsize, scene * COUNT.itemsize), COUNT)
        if not vertices:
            return None
        arrays, offset = [], self.starts[scene]
        for dtype, shape in _layout(int(vertices), self.channels):
            arrays.append(np.ndarray(shape, dtype, self.map, offset))
            offset += arrays[-1].nbytes
        extent, first, order, *columns = arrays
        return Seen(*columns, FloorGrid(order, first, extent))

    def write(self, scene: int, seen: Seen) -> None:
        """Keeps a scene, and its grid. Where the disk is too full for it, that is said once, and no other is kept."""
        if os.pread(self.descriptor, 1, self._is_full) != b"\0":
            return
        grid = grid_of(seen.xyz)
        arrays = [grid.extent, grid.first, grid.order, seen.xyz, seen.features, seen.classes, seen.trained]
        offset = self.starts[scene]
        try:
            free = os.fstatvfs(self.descriptor)
            if free.f_bavail * free.f_frsize < SPARE + sum(array.nbytes for array in arrays):
                raise OSError(f"less than {SPARE / 1e9:.1f} GB would be left")
            for array, (dtype, _) in zip(arrays, _layout(len(seen.xyz), self.channels), strict=True):
                offset = self._put(np.ascontiguousarray(array, dtype), offset)
            self._put(np.array([len(seen.xyz)], COUNT), scene * COUNT.itemsize)
        except OSError as error:
            with suppress(OSError):
                os.pwrite(self.descriptor, b"\1", self._is_full)
            why = f"the cache in {self.folder} takes no more scenes ({error.strerror or error})"
            print(f"{why}: each chunk of the others unpacks its own", file=sys.stderr, flush=True)

    @property
    def _is_full(self) -> int:
        """Where it is marked."""
        return (len(self.starts) - 1) * COUNT.itemsize

    def _put(self, array: np.ndarray, offset: int) -> int:
        """Writes it there. Not by way of the map, as a process that does so on a full disk is killed."""
        left = memoryview(array.reshape(-1).view(np.uint8))
        while left:
            written = os.pwrite(self.descriptor, left, offset)
            left, offset = left[written:], offset + written
        return offset


def bytes_of(vertices: Sequence[int], channels: int) -> int:
    """What a cache of scenes with at most so many vertices, each with so many channels beside xyz, can grow to."""
    return _starts(vertices, channels)[-1]


def make_file(vertices: Sequence[int], channels: int) -> Path:
    """A file without scenes in the temporary folder, for SceneCache to open; then unlink it.

    Raises OSError where that cannot be, or the disk has less than `bytes_of` and SPARE left.
    """
    folder, (head, *_, size) = tempfile.gettempdir(), _starts(vertices, channels)
    if not hasattr(os, "pwrite"):
        raise OSError("this system has no files without a name")
    if (free := shutil.disk_usage(folder).free) < size + SPARE:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB left; TMPDIR chooses another folder")
    descriptor, path = tempfile.mkstemp(prefix="scenes-", dir=folder)
    try:
        os.pwrite(descriptor, bytes(head), 0)  # so that a full disk has room for the mark
        os.truncate(descriptor, size)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return Path(path)


def _starts(vertices: Sequence[int], channels: int) -> list[int]:
    """Where each scene begins, and where the file ends: behind the numbers of vertices and one byte, in whole pages."""
    sizes = [sum(np.dtype(d).itemsize * int(np.prod(s)) for d, s in _layout(count, channels)) for count in vertices]
    sizes = [len(vertices) * COUNT.itemsize + 1, *sizes]
    return np.cumsum([-(-size // PAGE) * PAGE for size in sizes]).tolist()


def _layout(vertices: int, channels: int) -> list[tuple[type, tuple[int, ...]]]:
    """Types and shapes of a scene's arrays, one behind the other: those of the grid, then those of Seen."""
    grid = [(np.float32, (2, 3)), (np.int32, (SQUARES**2 + 1,)), (np.int32, (vertices,))]
    columns = [(np.float32, (vertices, 3)), (np.float32, (vertices, channels))]
    return grid + columns + [(np.uint16, (vertices,)), (np.bool_, (vertices,))]
