"""PCD files in, as ASCII, binary and compressed, by pypcd4."""

import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np

from data.formats.stored import Stored, check_unpacked, library

MOST_HEADER = 65536  # bytes
MOST_VALUES = 4096  # of a point; the largest descriptors of features have some 1,000
PACKED_COLOURS = ("rgb", "rgba")  # one number of 4 bytes: blue, green, red, alpha
VERSION = "0.7"  # which pypcd4 reads; .5 and .6 differ in what may be left out
# Of a header, in their order; pypcd4 stops after ten lines
KEYWORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
PADDING = "#"  # begins the names that pypcd4 gives to fields called _


def read_pcd(path: Path) -> Stored:
    """A PCD file's fields by name, packed colours as red, green, blue and alpha. Raises ScanError or whatever pypcd4
    and NumPy do."""
    pypcd4 = library(path, "pypcd4")
    with path.open("rb") as stream, tempfile.TemporaryFile() as mended:
        header, lines = _checked_header(path, stream, pypcd4)
        mended.write("".join(f"{line}\n" for line in lines).encode())
        shutil.copyfileobj(stream, mended)
        mended.seek(0)
        rows = np.atleast_1d(pypcd4.PointCloud.from_fileobj(mended).pc_data)  # a single row of text has no length
    if rows.shape != (header.points,):
        raise ValueError(f"the header declares {header.points} points, there are {rows.size}")
    columns = {}
    for name in rows.dtype.names:
        values = rows[name]
        if name in PACKED_COLOURS and values.dtype.itemsize == 4:
            blue, green, red, alpha = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 4).T
            columns |= {"red": red, "green": green, "blue": blue} | ({"alpha": alpha} if name == "rgba" else {})
        elif not name.startswith(PADDING):
            columns[name] = values
    return Stored(columns)


def _checked_header(path, stream, pypcd4):
    """pypcd4's header, once what it declares was compared with the file's size, and its lines as pypcd4 takes them:
    of version 0.7, with COUNT. The stream is left where the points begin. Raise ValueError."""
    size, lines = path.stat().st_size, {}
    while "DATA" not in lines:
        line = stream.readline(MOST_HEADER)
        if not line or stream.tell() > MOST_HEADER:
            raise ValueError("it has no header that ends with DATA")
        keyword, _, values = line.decode("utf-8").strip().partition(" ")
        if keyword and not keyword.startswith("#"):
            lines["FIELDS" if keyword == "COLUMNS" else keyword] = values
    lines = {"COUNT": " ".join("1" for _ in lines.get("FIELDS", "").split())} | lines | {"VERSION": VERSION}
    lines = [f"{keyword} {lines[keyword]}" for keyword in KEYWORDS if keyword in lines]
    header = pypcd4.MetaData.parse_header(lines)
    lengths = {len(header.fields), len(header.size), len(header.type), len(header.count)}
    if len(lengths) > 1 or sum(header.count) > MOST_VALUES:
        raise ValueError("FIELDS, SIZE, TYPE and COUNT do not go together")
    start, rest = stream.tell(), size - stream.tell()
    is_ascii = header.data.value == "ascii"
    declared = header.points * (2 * sum(header.count) if is_ascii else header.build_dtype().itemsize)
    if header.data.value.startswith("binary_") and header.points:
        check_unpacked(path, declared)
        packed, unpacked = struct.unpack("<II", stream.read(8))
        if unpacked != declared or packed > rest:
            raise ValueError(f"{packed} bytes that unpack to {unpacked} are declared, not {rest} to {declared}")
        stream.seek(start)
    elif declared > rest + 1:  # of text, a digit and a blank each; the last blank may be missing
        raise ValueError(f"the header declares {header.points} points, the file has {size} bytes")
    return header, lines
