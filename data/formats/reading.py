"""The formats that are read, by the endings of their names."""

from pathlib import Path

from data.formats.arrays import read_npy, read_npz
from data.formats.e57 import read_e57
from data.formats.first_bytes import mistaken
from data.formats.las import read_las
from data.formats.obj import read_obj
from data.formats.pcd import read_pcd
from data.formats.plys import read_any_ply
from data.formats.stored import Stored
from data.formats.text import TEXT, read_text
from data.scans import ScanError

READERS = {
    ".ply": read_any_ply,
    ".pcd": read_pcd,
    ".las": read_las,
    ".laz": read_las,
    ".e57": read_e57,
    ".obj": read_obj,
    **dict.fromkeys(TEXT, read_text),
    ".npy": read_npy,
    ".npz": read_npz,
}


def read_stored(path) -> Stored:
    """The arrays of a file, many of them read only when they are used. Raises ScanError, or whatever a library does."""
    path = Path(path)
    check_name(path)
    return READERS[path.suffix.lower()](path)


def check_name(path: Path) -> None:
    """Raises ScanError if there is no such file, or its name or first bytes are of no format that is read."""
    if not path.is_file():  # nor a pipe, which would be waited for
        raise ScanError(f"{path}: missing")
    what = mistaken(path)
    if path.suffix.lower() not in READERS:
        raise ScanError(f"{path}: {what or 'has none of the endings ' + ', '.join(READERS)}")
    if what:
        raise ScanError(f"{path}: {what}")
