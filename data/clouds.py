"""Clouds of anybody's own, a file a scan, as arrays in the file's order: PLY, NPY, NPZ, LAS and LAZ.

V points, F triangles. What a file holds is found by name: NAMES and LABELS. An NPY array without names has the columns
x y z, x y z r g b or x y z r g b label. Only the coordinates are needed.
"""

import dataclasses
import math
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.labels import LabelError, as_labels
from data.ply import placed, ply_triangles, read_ply
from data.scans import Scan, ScanError
from data.scenes import SCENE_NAME

NAMES = {  # the first that are all there count: three properties, or one of (V, 3)
    "xyz": (("x", "y", "z"), ("xyz",), ("points",), ("coord",)),
    "colour": (("red", "green", "blue"), ("colour",), ("color",), ("rgb",)),
    "normal": (("nx", "ny", "nz"), ("normal",), ("normals",)),
    "intensity": (("intensity",), ("scalar_intensity",), ("scalar_Intensity",)),
}
MEASURED = ("colour", "normal", "intensity")  # beside xyz: the fields of a scene that are read
LABELS = ("label", "labels", "class", "classification", "scalar_label", "scalar_Label", "scalar_Classification")
SCALAR = "scalar_"  # CloudCompare's prefix of a property of its own, which it writes as float, whole numbers too
INSTALL = "pip install -r scripts/requirements-formats.txt"
PACKED = 100  # times its size that a compressed file may declare; real clouds shrink to a third or a twentieth
FREE = 2**26  # bytes that any file may declare
VLR = 54  # bytes of the shortest record before the points of a LAS file
COMPRESSED = 128  # in its point format
PREDICTED = "_pred"  # ends the names of what scripts/predict.py writes
CUT = 0.75  # of a scan's length is for training


class Stored(NamedTuple):
    """What a file holds, as it is stored: nothing is checked but that the file is large enough."""

    columns: Mapping[str, np.ndarray | None]  # by name; None: the format always has it, and nothing was recorded
    faces: np.ndarray | None = None  # (F, 3) int32
    of_faces: tuple[str, ...] = ()  # properties of the faces
    step: float | None = None  # metres, of coordinates that are multiples of it


def read_cloud(path, label_property: str | None = None) -> Scan:
    """The scan in one file. Labels are in the property of that name, by default in the first of LABELS that is there.

    Colours are 0 to 255, 0 to 65535 as uint16 (if none is above 255, they are taken for 0 to 255) or 0 to 1 as floats.
    Intensities are scaled by the range of their unsigned type, or are floats from 0 to 1; others are left out, as the
    notes say. Labels are integers, or whole floats where there are no integers: in CloudCompare's properties, and in
    NPY arrays without names. Classifications, intensities or colours of a LAS file that are all 0 were never recorded.
    Memory is bounded by the file's size, whatever it declares; lazrs may take 4 GB for a damaged LAZ file. Raises
    ScanError.
    """
    path = Path(path)
    with _refusing(path):
        stored = read_stored(path)
        if (columns := _columns(path, stored.columns, "xyz", 3)) is None:
            wanted = ", ".join(" ".join(names) for names in NAMES["xyz"])
            raise ScanError(f"{path}: has no coordinates ({wanted}), only {_told(stored.columns)}")
        xyz, offset, step = placed(path, columns)
        notes = []
        arrays = {field: values_of(field, path, stored.columns, len(xyz), notes) for field in MEASURED}
        name, label = _labels(path, stored, label_property)
        if label is None and name:
            notes.append(f"{path}: '{name}' is 0 throughout, never classified: the cloud has no labels")
        elif label is not None and len(label) != len(xyz):
            raise ScanError(f"{path}: '{name}' has {len(label)} labels for {len(xyz)} points")
        step = step if stored.step is None else stored.step
        return Scan(path.stem, xyz, step, label, faces=stored.faces, offset=offset, notes=tuple(notes), **arrays)


def values_of(
    field: str, path, columns: Mapping[str, np.ndarray | None], points: int, notes: list[str]
) -> np.ndarray | None:
    """(V, ...) of a scene's field in MEASURED, from a file's columns by name; None if it has none. Raises ScanError.

    notes: to which is added what was left out, and what was taken for what.
    """
    if (found := _columns(path, columns, field, 1 if field == "intensity" else 3, points)) is None:
        return None
    if field == "intensity":
        return _fractions(path, found[0], notes)
    values = np.stack(found, axis=1)
    return _bytes(path, values, notes) if field == "colour" else _unit(values.astype(np.float64))


def read_labels(path, label_property: str | None = None) -> tuple[str | None, np.ndarray | None]:
    """The property that holds `read_cloud`'s labels, and the labels (V,) uint16; None if there are none."""
    with _refusing(Path(path)):
        return _labels(path, read_stored(path), label_property)


def read_stored(path) -> Stored:
    """The arrays of a file, many of them read only when they are used. Raises ScanError, or whatever a library does."""
    path = Path(path)
    if not path.is_file():  # nor a pipe, which would be waited for
        raise ScanError(f"{path}: missing")
    if (ending := path.suffix.lower()) not in READERS:
        raise ScanError(f"{path}: has none of the endings {', '.join(READERS)}")
    return READERS[ending](path)


def find_clouds(scans: Path) -> dict[str, Path]:
    """Scene name -> file, in the folder and those below: Area_5/office.ply is Area_5_office. Raises ValueError."""
    if not scans.is_dir():
        raise ValueError(f"--scans {scans}: no such folder")
    clouds, paths = {}, sorted(scans.rglob("*"))
    there = {path.stem for path in paths}
    for path in paths:
        parts = path.relative_to(scans).with_suffix("").parts
        hidden = any(part.startswith(".") for part in parts)  # macOS puts a ._room.ply beside room.ply
        if hidden or path.suffix.lower() not in READERS or path.is_dir():
            continue
        if path.stem.endswith(PREDICTED) and path.stem.removesuffix(PREDICTED) in there:
            print(f"{path}: is a prediction by its name, and left out")
            continue
        if not SCENE_NAME.fullmatch(name := "_".join(parts)):
            wanted = "letters, digits, '_', '-' and '.' alone, at most 200 with those of its folders"
            raise ValueError(f"{path}: '{name}' cannot be the name of a scene; rename it to {wanted}")
        if name in clouds:
            raise ValueError(f"{clouds[name]} and {path} would both be the scene '{name}'; rename one")
        clouds[name] = path
    if not clouds:
        raise ValueError(f"--scans {scans}: has no file that ends in {', '.join(READERS)}")
    return dict(sorted(clouds.items()))


def cut(scan: Scan, part: str) -> Scan:
    """The part "train" or "val" of a scan: what lies in the first CUT of the longer of its sides x and y, or behind.

    Triangles that cross the cut are in neither. Raises ScanError.
    """
    axis = int(np.argmax(np.ptp(scan.xyz[:, :2], axis=0)))
    along = scan.xyz[:, axis].astype(np.float64)
    place = along.min() + CUT * np.ptp(along)
    kept = (along <= place) == (part == "train")
    if not kept.any():
        raise ScanError(f"{scan.name}: has no length along x or y, so it cannot be cut in two")
    fields = {name: getattr(scan, name) for name in ("xyz", "label", "colour", "normal", "intensity")}
    fields = {name: values[kept] for name, values in fields.items() if values is not None}
    if scan.faces is not None:
        whole = scan.faces[kept[scan.faces].all(axis=1)]
        fields["faces"] = (np.cumsum(kept) - 1)[whole].astype(np.int32)
    at = place + (0 if scan.offset is None else scan.offset[axis])
    note = (
        f"cut at {'xy'[axis]} = {at:.2f} m: {100 * CUT:.0f} % of the length are for training, the rest for validation"
    )
    return dataclasses.replace(scan, notes=(*scan.notes, note) if part == "train" else (), **fields)


def read_part(path, label_property: str | None, part: str) -> Scan:
    """A part of the scan in one file, as of `cut`."""
    return cut(read_cloud(path, label_property), part)


def _read_ply(path):
    ply = read_ply(path)
    if "vertex" not in ply:
        raise ScanError(f"{path}: the PLY file has no element 'vertex'")
    vertex, faces = ply["vertex"], ply_triangles(path, ply, ply["vertex"].count)
    of_faces = tuple(prop.name for prop in ply["face"].properties) if "face" in ply else ()
    columns = {prop.name: vertex[prop.name] for prop in vertex.properties}
    return Stored(columns, faces if len(faces) else None, of_faces)


def _read_npy(path):
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
        columns["label"] = _whole(array[:, 6])
    return Stored(columns)


def _read_npz(path):
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_unpacked(path, sum(member.file_size for member in members))
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


def _read_las(path):
    try:
        import laspy
    except ModuleNotFoundError as error:
        raise ScanError(f"{path}: LAS and LAZ files need laspy; {INSTALL}") from error
    size = path.stat().st_size
    with path.open("rb") as stream:
        _check_las(stream, size)
    # not lazrs's parallel reader: a damaged file makes it take any amount of memory
    with laspy.open(path, read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs) as reader:
        header = reader.header
        declared = header.point_count * header.point_format.size
        if not header.are_points_compressed and declared > size - header.offset_to_point_data:
            raise ValueError(f"the header declares {header.point_count} points, the file has {size} bytes")
        _check_unpacked(path, declared)
        if header.are_points_compressed and not laspy.LazBackend.Lazrs.is_available():
            raise ScanError(f"{path}: LAZ files need lazrs; {INSTALL}")
        points = reader.read_points(-1)
    if len(points) != header.point_count:
        raise ValueError(f"the header declares {header.point_count} points, there are {len(points)}")
    columns = {name: points[name] for name in (*"xyz", *header.point_format.dimension_names)}
    for names in (("classification",), ("intensity",), ("red", "green", "blue")):
        if all(name in columns and not np.any(columns[name]) for name in names):
            columns |= dict.fromkeys(names)
    return Stored(columns, step=float(np.abs(header.scales).max()))


READERS = {".ply": _read_ply, ".npy": _read_npy, ".npz": _read_npz, ".las": _read_las, ".laz": _read_las}


def _columns(path, all_columns, what, width, points=None):
    """The `width` columns (V,) of numbers that hold "xyz", "colour", ...; None if there are none. Raise ScanError."""
    for names in NAMES[what]:
        columns = [all_columns.get(name) for name in names]
        if any(column is None for column in columns):
            continue
        columns = [np.asarray(column) for column in columns]
        if columns[0].shape[1:] == (width,):
            columns = list(columns[0].T)
        shapes, points = {column.shape for column in columns}, points or len(columns[0])
        if len(columns) != width or shapes != {(points,)}:
            raise ScanError(f"{path}: {_told(names)}: {width} columns of {points} numbers are needed, not of {shapes}")
        if wrong := [str(column.dtype) for column in columns if column.dtype.kind not in "fiu"]:
            raise ScanError(f"{path}: {_told(names)}: numbers are needed, not {wrong[0]}")
        return columns
    return None


def _labels(path, stored, label_property):
    """(name, (V,) uint16), (name, None) where the property is there and empty, or (None, None)."""
    wanted = (label_property,) if label_property else LABELS
    name = next((name for name in wanted if name in stored.columns), None)
    if name is None and (of_faces := [name for name in wanted if name in stored.of_faces]):
        raise ScanError(f"{path}: '{of_faces[0]}' is a property of the faces; labels have to be the points', one each")
    if name is None and label_property:
        raise ScanError(f"{path}: has no property '{label_property}'; it has {_told(stored.columns)}")
    if name is None or (values := stored.columns[name]) is None:
        return name, None
    values = np.asarray(values)
    try:
        return name, as_labels(_whole(values) if name.startswith(SCALAR) else values, f"'{name}'")
    except LabelError as error:
        raise ScanError(f"{path}: {error}") from error


def _whole(values):
    """Floats as integers, if they are whole ones; else as they are."""
    with np.errstate(invalid="ignore"):  # of infinite ones
        return values.astype(np.int64) if values.dtype.kind == "f" and (values % 1 == 0).all() else values


def _bytes(path, values, notes):
    """Colours (V, 3) of any range as uint8. Raise ScanError."""
    low, high, dtype = values.min(), values.max(), values.dtype
    if dtype.kind == "f" and 0 <= low <= high <= 1:
        return np.rint(255 * values).astype(np.uint8)
    if dtype == np.uint16 and high > 255:
        return np.rint(values / 257).astype(np.uint8)  # 65535 is 255 * 257
    if not (0 <= low <= high <= 255 and (dtype.kind != "f" or (values % 1 == 0).all())):
        wanted = "0 to 255, 0 to 65535 as uint16, or 0 to 1 as floats"
        raise ScanError(f"{path}: colours go from {low} to {high} as {dtype}; they have to be {wanted}")
    if dtype == np.uint16:
        notes.append(f"{path}: colours have 16 bits and stay below 256, so they are taken for 0 to 255")
    return values.astype(np.uint8)


def _unit(normal):
    """(V, 3) float32 of unit length; (0, 0, 0) stays, and NaN becomes 0."""
    normal = np.nan_to_num(normal, posinf=0, neginf=0)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return (normal / np.where(length > 0, length, 1)).astype(np.float32)


def _fractions(path, values, notes):
    """Intensities (V,) as float32 from 0 to 1, or None."""
    low, high, dtype = values.min(), values.max(), values.dtype
    if dtype.kind == "u":
        return (values / np.iinfo(dtype).max).astype(np.float32)
    if dtype.kind == "f" and 0 <= low <= high <= 1:
        return values.astype(np.float32)
    wanted = "unsigned integers, or floats from 0 to 1"
    notes.append(f"{path}: intensities go from {low} to {high} as {dtype} and are left out; they have to be {wanted}")
    return None


def _check_las(stream, size):
    """Raise ValueError for counts that laspy and lazrs would allocate memory for, and the file cannot have."""

    def number(place, count, origin=0):
        stream.seek(place, origin)
        return int.from_bytes(stream.read(count), "little", signed=count == 8)

    first, records = number(96, 4), number(100, 4)
    if max(first, VLR * records) > size:
        raise ValueError(f"{records} records and points from byte {first} on are declared, the file has {size} bytes")
    if number(104, 1) & COMPRESSED:
        table = number(first, 8)  # where that of the chunks is; -1: the file's end says so
        if (chunks := number((number(-8, 8, 2) if table == -1 else table) + 4, 4)) > size:
            raise ValueError(f"{chunks} chunks of points are declared, the file has {size} bytes")


def _check_unpacked(path, declared):
    if declared > max(FREE, PACKED * path.stat().st_size):
        raise ValueError(f"declares {declared} bytes, more than {PACKED} times its own; save it uncompressed")


def _told(names):
    return ", ".join(names)[:300]


@contextmanager
def _refusing(path):
    """Raise as ScanError whatever is raised within."""
    try:
        yield
    except ScanError:
        raise
    except Exception as error:  # the libraries that read these files raise what they like
        cause = f"{type(error).__name__}: {str(error)[:300]}"
        raise ScanError(f"{path}: truncated, damaged or no {path.suffix[1:].upper()} file ({cause})") from error
