"""PLY files in: meshes and clouds by property name, in the file's order, with bounds on whatever a header declares."""

import io
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from plyfile import PlyData, PlyElement, PlyListProperty, PlyParseError

from data.scans import ScanError

# The list properties that are read, and their lengths, which let plyfile map the file, 100 x faster than row by row
LISTS = {"face": {"vertex_indices": 3, "vertex_index": 3, "texcoord": 6}}
SHORT_COUNTS = ("uchar", "uint8", "char", "int8")  # types of a list's length
RGB = ("red", "green", "blue")
MAX_HEADER = 65536  # bytes of a PLY header; ScanNet's have 300
MAX_CORNERS = 16  # of a face; larger ones are hardly the surface of a scan
MAX_EXTENT = 1000.0  # metres; a scan that spans more is not in metres, or has stray vertices
FINE_STEP = 0.001  # metres; coarser coordinates lose the detail that a network looks at


class Mesh(NamedTuple):
    """As of Scan."""

    xyz: np.ndarray
    colour: np.ndarray | None
    faces: np.ndarray
    offset: np.ndarray | None
    step: float


def read_mesh(path) -> Mesh:
    """A PLY mesh, or a cloud (F = 0); polygons are cut into triangles. Colours are uchar red, green, blue, or none.

    Properties are found by name, any byte order or ASCII. Memory is bounded by the file's size, whatever its header
    declares. Raises ScanError.
    """
    ply = read_ply(path)
    columns = [ply_column(path, ply, "vertex", key, "fiu") for key in "xyz"]
    xyz, offset, step = placed(path, columns)
    colour = None
    if any(key in ply["vertex"] for key in RGB):
        colour = np.stack([ply_column(path, ply, "vertex", key, "u") for key in RGB], axis=1)
        if colour.dtype != np.uint8:
            raise ScanError(f"{path}: colours are {colour.dtype}, not uchar")
    return Mesh(xyz, colour, ply_triangles(path, ply, len(xyz)), offset, step)


def placed(path, columns) -> tuple[np.ndarray, np.ndarray | None, float]:
    """xyz (V, 3) float32, offset and step, as of Scan, from the columns (V,) x, y and z of a file. Raises ScanError."""
    exact = np.stack(columns, axis=1).astype(np.float64)
    if not len(exact):
        raise ScanError(f"{path}: there are no vertices")
    with np.errstate(over="ignore"):  # beyond float32 is inf
        finite = np.isfinite(exact.astype(np.float32)).all(axis=1)
    if not finite.all():
        raise ScanError(f"{path}: {np.count_nonzero(~finite)} vertices have NaN or infinite coordinates; remove them")
    if (extent := float(np.ptp(exact, axis=0).max())) > MAX_EXTENT:
        advice = "coordinates have to be in metres, and vertices that are far away removed"
        raise ScanError(f"{path}: spans {extent:.3g} m, more than {MAX_EXTENT:.0f}: {advice}")
    return *near_origin(exact), coordinate_step(columns)


def near_origin(exact) -> tuple[np.ndarray, np.ndarray | None]:
    """xyz (V, 3) float32 and offset (3,) float64 of coordinates (V, 3) float64: xyz + offset is `exact`.

    Whole metres are taken off, down to the minimum, where steps of float32 would be above FINE_STEP, as those of map
    coordinates are; elsewhere the offset is None.
    """
    if np.spacing(np.float32(np.abs(exact).max())) <= FINE_STEP:
        return exact.astype(np.float32), None
    offset = np.floor(exact.min(axis=0))
    return (exact - offset).astype(np.float32), offset


def in_place(xyz, offset) -> np.ndarray:
    """The coordinates (V, 3) that `near_origin` made xyz and offset of: float64 where it moved them, else xyz."""
    return xyz if offset is None else xyz + offset


def coordinate_step(columns) -> float:
    """The largest distance of neighbouring numbers that columns (V,) of coordinates could hold; 0 for integers."""
    return max(float(np.spacing(np.abs(c).max())) if c.dtype.kind == "f" else 0.0 for c in columns)


def read_ply(path, any_lists=False) -> PlyData:
    """A PLY file, binary or ASCII, once its header was compared with its size. Raises ScanError.

    Lists can only be a face's, those in LISTS, of up to 255 values, so that memory is bounded by the file's size
    whatever it declares. With `any_lists` they can be any. Lists of another length than in LISTS are read row by row, a
    second for 200,000.
    """
    path = Path(path)
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise ScanError(f"{path}: missing")
        header = _read_header(path, any_lists)
        with tempfile.TemporaryFile() if header.mended else path.open("rb") as file:
            if header.mended:  # plyfile takes its own spelling alone
                with path.open("rb") as original:
                    original.seek(header.size)
                    file.write(header.mended)
                    shutil.copyfileobj(original, file)
                file.seek(0)
            stream = io.TextIOWrapper(file, encoding="ascii", newline="") if header.text else file
            try:
                ply = PlyData.read(stream, known_list_len=LISTS)
            except PlyParseError:
                if header.text or not (header.short_lists or any_lists):
                    raise
                stream.seek(0)
                ply = PlyData.read(stream)
            if stream.read().strip():
                raise ValueError("there are data after the last element, so the header's counts are wrong")
    except (PlyParseError, OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise ScanError(f"{path}: truncated, or not a PLY file ({error}); export or copy it again") from error
    return ply


def like_element(table: np.ndarray, element: PlyElement, name: str) -> PlyElement:
    """An element of that name with the rows of `table`, whose lists have the types that those of `element` have."""
    lists = [prop for prop in element.properties if isinstance(prop, PlyListProperty)]
    lengths, values = ({prop.name: getattr(prop, of) for prop in lists} for of in ("len_dtype", "val_dtype"))
    return PlyElement.describe(table, name, len_types=lengths, val_types=values, comments=element.comments)


def ply_column(path, ply, element, name, kinds) -> np.ndarray:
    """One property of `ply`, read from `path`, as an array; `kinds` are the dtype kinds accepted. Raises ScanError."""
    try:
        values = np.asarray(ply[element].data[name])
    except (KeyError, ValueError) as error:
        raise ScanError(f"{path}: the PLY file has no {element} property '{name}'") from error
    if values.dtype.kind not in kinds:
        raise ScanError(f"{path}: {element} property '{name}' has the wrong type ({values.dtype})")
    return values


def ply_triangles(path, ply, vertices) -> np.ndarray:
    """(F, 3) int32 vertex indices of the faces of `ply`, read from `path`; F = 0 for a cloud. Raises ScanError.

    A polygon of up to MAX_CORNERS corners becomes the triangles of its first corner with each edge that it is not on.
    """
    if "face" not in ply:
        return np.zeros((0, 3), np.int32)
    names = [prop.name for prop in ply["face"].properties]
    name = "vertex_index" if "vertex_index" in names else "vertex_indices"
    faces = ply_column(path, ply, "face", name, "iuO")
    corners = ply["face"].ply_property(name)
    if not isinstance(corners, PlyListProperty) or corners.val_dtype.startswith("f"):
        raise ScanError(f"{path}: face property '{name}' is not a list of integers")
    if faces.dtype.kind == "O":  # a list a row
        faces = _fans(path, faces)
    if faces.size and not 0 <= faces.min() <= faces.max() < vertices:
        raise ScanError(f"{path}: faces refer to vertices {faces.min()} to {faces.max()} of {vertices}")
    return faces.astype(np.int32)


def vertex_normals(xyz, faces) -> np.ndarray:
    """(V, 3) float32 unit normals from xyz (V, 3) and faces (F, 3): means over a vertex's triangles weighted by area.

    A vertex without a triangle, or with triangles of no area only, gets (0, 0, 0).
    """
    a, b, c = (xyz[faces[:, corner]].astype(np.float64) for corner in range(3))
    normal = np.cross(b - a, c - a)  # (F, 3), as long as twice the area
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), minlength=len(xyz)) for axis in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length > 0, length, 1)).astype(np.float32)


class _Header(NamedTuple):
    """What matters of a PLY header before plyfile reads it."""

    text: bool  # the file is ASCII
    short_lists: bool  # no list can have more than 255 values
    size: int  # bytes
    mended: bytes | None  # the same in ASCII and without indentation, where that is needed


def _read_header(path, any_lists):
    """The header of a PLY file. Raise ValueError if it declares more than the file can hold.

    plyfile allocates what the header declares before it reads it. Lines and words are split as plyfile does.
    """
    with path.open("rb") as stream:
        head, size = stream.read(MAX_HEADER), path.stat().st_size
    newline = b"\r\n" if head[3:5] == b"\r\n" else head[3:4]
    lines = [line.strip() for line in head.split(newline)[:-1]] if newline else []
    if b"end_header" not in lines:
        raise ValueError(f"no header of at most {MAX_HEADER} bytes")
    end = 1 + lines.index(b"end_header")
    raw = newline.join(head.split(newline)[:end]) + newline
    lines = [
        line.decode("ascii", "replace" if line.startswith((b"comment", b"obj_info")) else "strict").replace(
            "\ufffd", "?"
        )
        for line in lines[:end]
    ]
    mended = "".join(line + newline.decode("ascii") for line in lines).encode("ascii")
    text, short_lists, element, rows, values = False, True, "", 0, 0
    for line in lines:
        words = line.split()
        if words[:2] == ["format", "ascii"]:
            text = True
        elif words[:1] == ["element"]:
            element, rows = words[1], int(words[2])
            if not 0 <= rows <= size:
                raise ValueError(f"the header declares {rows} rows of '{element}', the file has {size} bytes")
        elif words[:2] == ["property", "list"]:
            known = LISTS.get(element, {})
            if words[-1] not in known and not any_lists:
                lists = ", ".join(LISTS["face"])
                raise ValueError(f"'{element}' has the list '{words[-1]}'; only a face can have lists: {lists}")
            values += rows  # their lengths
            short_lists = short_lists and words[2] in SHORT_COUNTS
        elif words[:1] == ["property"]:
            values += rows
    if values > size:
        raise ValueError(f"the header declares {values} values, the file has {size} bytes")
    return _Header(text, short_lists, len(raw), mended if mended != raw else None)


def _fans(path, faces):
    """(F, 3) int64 triangles of polygons, one (corners,) array a row."""
    corners = np.fromiter(map(len, faces), np.int64, len(faces))
    if len(faces) and not 3 <= corners.min() <= corners.max() <= MAX_CORNERS:
        odd = next(row for row, count in enumerate(corners) if not 3 <= count <= MAX_CORNERS)
        raise ScanError(f"{path}: face {odd} has {corners[odd]} corners, not 3 to {MAX_CORNERS}; use triangles")
    triangles = corners - 2  # of each face
    flat = np.concatenate([np.zeros(0, np.int64), *faces])
    first = np.repeat(np.cumsum(corners) - corners, triangles)
    second = first + 1 + np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return flat[np.stack([first, second, second + 1], axis=1)]
