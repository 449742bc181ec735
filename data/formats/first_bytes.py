"""What a file is by its first bytes, whatever its name says."""

from pathlib import Path
from typing import NamedTuple

HEAD = 512  # bytes that are looked at


class Kind(NamedTuple):
    name: str  # with its article, as in a message
    ending: str = ""  # of the formats that are read here


# Where, what stands there, and the kind. Sources: the formats' own specifications, and file(1)'s magic numbers
SIGNATURES = (
    (0, b"ply\n", Kind("a PLY file", ".ply")),
    (0, b"ply\r", Kind("a PLY file", ".ply")),
    (0, b"LASF", Kind("a LAS or LAZ file", ".las")),
    (0, b"ASTM-E57", Kind("an E57 file", ".e57")),
    (0, b"# .PCD", Kind("a PCD file", ".pcd")),
    (0, b"VERSION 0.7\n", Kind("a PCD file", ".pcd")),
    (0, b"VERSION .7\n", Kind("a PCD file", ".pcd")),
    (0, b"\x93NUMPY", Kind("an NPY file", ".npy")),
    (0, b"PK\x03\x04", Kind("a ZIP archive", ".npz")),
    (0, b"\x89PNG\r\n\x1a\n", Kind("a PNG picture")),
    (0, b"\xff\xd8\xff", Kind("a JPEG picture")),
    (0, b"GIF8", Kind("a GIF picture")),
    (0, b"BM", Kind("a BMP picture")),
    (0, b"II*\x00", Kind("a TIFF picture")),
    (0, b"MM\x00*", Kind("a TIFF picture")),
    (8, b"WEBP", Kind("a WebP picture")),
    (4, b"ftyp", Kind("a video or a HEIC picture")),
    (0, b"%PDF", Kind("a PDF document")),
    (0, b"glTF", Kind("glTF (GLB)")),
    (0, b"DRACO", Kind("a Draco file")),
    (0, b"Kaydara FBX", Kind("an FBX file")),
    (0, b"solid ", Kind("an STL file")),
    (0, b"#VRML", Kind("a VRML file")),
    (0, b"#ROSBAG", Kind("a ROS bag")),
    (0, b"\x89MCAP", Kind("an MCAP recording")),
    (0, b"BLENDER", Kind("a Blender file")),
    (0, b"# vtk", Kind("a VTK file")),
    (0, b"OFF\n", Kind("an OFF file")),
    (0, b"COFF\n", Kind("an OFF file")),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file")),
    (0, b"SQLite format 3", Kind("an SQLite database")),
    (0, b"PAR1", Kind("a Parquet table")),
    (0, b"\x1f\x8b", Kind("a gzip archive")),
    (0, b"BZh", Kind("a bzip2 archive")),
    (0, b"\xfd7zXZ\x00", Kind("an xz archive")),
    (0, b"(\xb5/\xfd", Kind("a Zstandard archive")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7-Zip archive")),
    (0, b"Rar!", Kind("a RAR archive")),
    (257, b"ustar", Kind("a tar archive")),
    (0, b"\x7fELF", Kind("a program")),
    (0, b"MZ", Kind("a Windows program")),
    (0, b"\x80\x02", Kind("a Python pickle")),
    (0, b"\x80\x04", Kind("a Python pickle")),
    (0, b"\x80\x05", Kind("a Python pickle")),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer, not the file itself")),
)
STARTS = ((b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "an XML file"), (b"{", "JSON"))
SAME = {".laz": ".las"}  # endings of one kind


def kind_of(path: Path) -> Kind | None:
    """The kind of a file by its first bytes, None for one that is not known. Raises OSError."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not head:
        return Kind("an empty file")
    if not head.strip(b"\0"):
        return Kind("a file of zeros")
    for place, mark, kind in SIGNATURES:
        if head.startswith(mark, place):
            return kind
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    name = next((name for start, name in STARTS if text.startswith(start)), None)
    if name == "JSON" and b'"asset"' in text:
        name = "glTF"
    return Kind(name) if name else None


def mistaken(path: Path) -> str:
    """What is wrong with the name of a file, by its first bytes, and what to do; "" if nothing is. Raises OSError."""
    kind, ending = kind_of(path), path.suffix.lower()
    if kind is None or kind.ending == SAME.get(ending, ending):
        return ""
    if kind.ending == ".npz":
        return f"is {kind.name} by its first bytes; unpack it, or name it .npz if NumPy wrote it"
    if kind.ending:
        return f"is {kind.name} under the name {ending or 'of no ending'}; rename it to {kind.ending}"
    return f"is {kind.name} by its first bytes; give a point cloud or a mesh"
