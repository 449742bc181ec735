"""NumPy's files in: NPY and NPZ. Arrays without names have the columns x y z, x y z r g b or x y z r g b label."""

import math
import zipfile
from pathlib import Path

import numpy as np

from data.columns import whole
from data.formats.stored import Stored, check_unpacked
from data.scans import ScanError


def read_npy(path: Path) -> Stored:
    """An NPY file, a structured array or a table of numbers. Raises ScanError or ValueError."""
    array = np.lib.format.open_memmap(path, mode="r")  # which fails if the file is shorter than declared
    if array.dtype.names:
        return Stored({name: array[name] for name in array.dtype.names})
    if array.ndim != 2 or array.shape[1] not in (3, 6, 7):
        wanted = "(V, 3) x y z, (V, 6) x y z r g b or (V, 7) x y z r g b label"
        raise ScanError(f"{path}: has shape {array.shape}; an array without names has to be {wanted}")
    columns = {"xyz": array[:, :3]}
    if array.shape[1] > 3:
        columns["rgb"] = array[:, 3:6]
    if array.shape[1] > 6:
        columns["label"] = whole(array[:, 6])
    return Stored(columns)


def read_npz(path: Path) -> Stored:
    """An NPZ file of arrays by name, read as they are used. Raises ScanError or whatever zipfile and NumPy do."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_unpacked(path, sum(member.file_size for member in members))
        for member in members:
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                major, _ = np.lib.format.read_magic(stream)
                read_header = getattr(np.lib.format, f"read_array_header_{min(major, 2)}_0")  # 3.0 is 2.0 in UTF-8
                shape, _, dtype = read_header(stream)
                size = stream.tell() + math.prod(shape) * dtype.itemsize
            if size != member.file_size and not dtype.hasobject:  # objects are pickled, and not loaded
                raise ValueError(f"{member.filename} declares {size} bytes and has {member.file_size}")
    return Stored(np.load(path, allow_pickle=False))
