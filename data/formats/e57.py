"""E57 files in, by pye57, whose core is libE57Format. V points."""

import struct
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from data.formats.stored import Stored, check_unpacked, library

CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
INVALID = ("cartesianInvalidState", "sphericalInvalidState")
MEASURED = {  # field -> name of the column
    "colorRed": "red",
    "colorGreen": "green",
    "colorBlue": "blue",
    "intensity": "intensity",
    "nor:normalX": "nx",
    "nor:normalY": "ny",
    "nor:normalZ": "nz",
    "rowIndex": "row",
    "columnIndex": "column",
    "timeStamp": "time",
}
EXACT = (*CARTESIAN, *SPHERICAL, "timeStamp")  # fields that need doubles
HEADER = struct.Struct("<8sIIQQQQ")  # mark, version, length of the file, place and length of the XML, bytes of a page
CHECKSUM = 4  # bytes at the end of each page
DEEPEST = 100  # elements of the XML inside each other; files have some 10


def read_e57(path: Path) -> Stored:
    """All scans of an E57 file, one behind the other, each where its pose puts it; x, y and z are doubles.

    Of more scans than one, the column `scan` tells them apart, from 0 on. Points that the scanner calls invalid are
    left out, as the notes say. Raises ScanError or whatever pye57 does.
    """
    pye57 = library(path, "pye57")
    _check_header(path)
    image = pye57.libe57.ImageFile(str(path), "r")  # pye57.E57 would remove some files that it cannot read
    try:
        headers = [pye57.ScanHeader(scan) for scan in image.root()["data3D"]]
        fields = [_fields(pye57, header) for header in headers]
        check_unpacked(path, sum(_size(header, of) for header, of in zip(headers, fields, strict=True)))
        scans = [_scan(pye57, image, header, of) for header, of in zip(headers, fields, strict=True)]
    finally:
        image.close()
    notes, ignored = [], sorted({name for header in headers for name in header.point_fields} - _KNOWN)
    if invalid := sum(left_out for _, left_out in scans):
        notes.append(f"{path}: {invalid} points that the scanner calls invalid are left out")
    if ignored:
        notes.append(f"{path}: fields that are not read: {', '.join(ignored)[:300]}")
    common = [name for name in scans[0][0] if all(name in columns for columns, _ in scans)] if scans else []
    columns = {name: np.concatenate([columns[name] for columns, _ in scans]) for name in common}
    if len(scans) > 1:
        columns["scan"] = np.repeat(np.arange(len(scans), dtype=np.int32), [len(of["x"]) for of, _ in scans])
    return Stored(columns, notes=tuple(notes))


_KNOWN = {*CARTESIAN, *SPHERICAL, *INVALID, *MEASURED}


def _fields(pye57, header):
    """{field: dtype} of a scan's fields that are read."""
    places = CARTESIAN if {*CARTESIAN} <= {*header.point_fields} else SPHERICAL
    wanted = (*places, *INVALID, *MEASURED)
    prototype = pye57.libe57.StructureNode(header.points.prototype())
    return {name: _dtype(pye57, name, prototype[name]) for name in wanted if name in header.point_fields}


def _dtype(pye57, name, node):
    """The type that holds a field's values."""
    if name in EXACT:
        return np.dtype("f8")
    if not isinstance(node, pye57.libe57.IntegerNode):
        return np.dtype("f4")
    low, high = node.minimum(), node.maximum()
    types = ("u1", "u2", "i4") if low >= 0 else ("i1", "i2", "i4")
    return next((np.dtype(t) for t in types if np.iinfo(t).min <= low <= high <= np.iinfo(t).max), np.dtype("f8"))


def _size(header, fields):
    return header.point_count * sum(dtype.itemsize for dtype in fields.values())


def _scan(pye57, image, header, fields):
    """({name: (V,)}, number of invalid points) of one scan."""
    columns = {name: np.empty(header.point_count, dtype) for name, dtype in fields.items()}
    buffers = pye57.libe57.VectorSourceDestBuffer()
    for name, values in columns.items():
        buffers.append(pye57.libe57.SourceDestBuffer(image, name, values, len(values), True, True))
    if header.point_count and (found := header.points.reader(buffers).read()) != header.point_count:
        raise ValueError(f"{header.point_count} points are declared, there are {found}")
    valid = np.ones(header.point_count, bool)
    for name in INVALID:
        valid &= columns.pop(name, 0) == 0
    if not valid.all():
        columns = {name: values[valid] for name, values in columns.items()}
    places = CARTESIAN if CARTESIAN[0] in columns else SPHERICAL
    xyz = np.stack([columns.pop(name) for name in places], axis=1)
    if places is SPHERICAL:
        xyz = pye57.utils.convert_spherical_to_cartesian(xyz)
    measured = {MEASURED[name]: values for name, values in columns.items()}
    if header.has_pose():
        turn = header.rotation_matrix
        xyz = xyz @ turn.T + header.translation
        if {"nx", "ny", "nz"} <= measured.keys():
            normal = np.stack([measured[name] for name in ("nx", "ny", "nz")], axis=1) @ turn.T.astype("f4")
            measured |= dict(zip(("nx", "ny", "nz"), normal.T, strict=True))
    return dict(zip("xyz", xyz.T, strict=True)) | measured, int(np.count_nonzero(~valid))


def _check_header(path):
    """Raise ValueError for what would make libE57Format and its XML parser take any amount of memory."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        _, _, _, length, start, xml, page = HEADER.unpack(stream.read(HEADER.size))
        if length != size or start + xml > size or not CHECKSUM < page <= size:
            raise ValueError(f"{length} bytes are declared, XML at byte {start}; the file has {size} bytes")
        first = start // page * page
        stream.seek(first)
        pages = stream.read(size - first)
    text = b"".join(pages[at : at + page - CHECKSUM] for at in range(0, len(pages), page))
    text = text[start - first :][:xml]
    if b"<!DOCTYPE" in text or not text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<?xml", b"<e57Root")):
        raise ValueError("its XML has a document type, or is none")
    depth = 0
    for event, element in ElementTree.iterparse(BytesIO(text), ("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEEPEST:
            raise ValueError(f"its XML is more than {DEEPEST} elements deep")
        if event == "end":
            element.clear()
