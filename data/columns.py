"""What the columns of a file mean, found by their names: NAMES and LABELS. V points."""

from collections.abc import Mapping

import numpy as np

from data.labels import LabelError, as_labels
from data.scans import ScanError

NAMES = {  # the first that are all there count: three properties, or one of (V, 3)
    "xyz": (("x", "y", "z"), ("X", "Y", "Z"), ("xyz",), ("points",), ("coord",)),
    # red, green and blue come last: those of a prediction have these names, and stand beside the scan's own
    "colour": (
        ("r", "g", "b"),
        ("R", "G", "B"),
        ("diffuse_red", "diffuse_green", "diffuse_blue"),
        ("f_dc_0", "f_dc_1", "f_dc_2"),
        ("colour",),
        ("color",),
        ("colours",),
        ("colors",),
        ("rgb",),
        ("red", "green", "blue"),
    ),
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"), ("normal",), ("normals",)),
    "intensity": (("intensity",), ("scalar_intensity",), ("scalar_Intensity",)),
}
MEASURED = ("colour", "normal", "intensity")  # beside xyz: the fields of a scene that are read
LABELS = ("label", "labels", "class", "classification", "scalar_label", "scalar_Label", "scalar_Classification")
SCALAR = "scalar_"  # CloudCompare's prefix of a property of its own, which it writes as float, whole numbers too
KEPT = "input_"  # before the name of what a prediction took the place of
PREDICTED = "_pred"  # ends the names of files that scripts/predict.py writes
SPLAT = "f_dc_"  # before the colours of Gaussian splats: the constant term of spherical harmonics
SPLAT_SCALE = 0.28209479177387814  # 1 / (2 sqrt(pi)), that term's basis function; Kerbl et al., SIGGRAPH 2023
BYTES_FROM = 16.0  # fractions of 255 go no higher, not even overexposed ones: floats above are from 0 to 255


def values_of(
    field: str, path, columns: Mapping[str, np.ndarray | None], points: int, notes: list[str]
) -> np.ndarray | None:
    """(V, ...) of a scene's field in MEASURED, from a file's columns by name; None if it has none. Raises ScanError.

    notes: to which is added what was left out, and what was taken for what.
    """
    if (found := columns_of(path, columns, field, 1 if field == "intensity" else 3, points)) is None:
        return None
    if field == "intensity":
        return _fractions(path, found[0], notes)
    values = np.stack(found, axis=1)
    return _bytes(path, values, notes) if field == "colour" else _unit(values.astype(np.float64))


def coordinates_of(path, columns: Mapping[str, np.ndarray | None]) -> list[np.ndarray]:
    """x, y and z (V,) of a file's columns by name. Raises ScanError if it has none."""
    if (found := columns_of(path, columns, "xyz", 3)) is None:
        wanted = ", ".join(" ".join(names) for names in NAMES["xyz"])
        raise ScanError(f"{path}: has no coordinates ({wanted}), only {told(columns)}")
    return found


def columns_of(path, all_columns, what, width, points=None):
    """The `width` columns (V,) of numbers that hold "xyz", "colour", ...; None if there are none. Raises ScanError."""
    for names in NAMES[what]:
        columns = [all_columns.get(name) for name in names]
        if any(column is None for column in columns):
            continue
        columns = [np.asarray(column) for column in columns]
        if columns[0].shape[1:] == (width,):
            columns = list(columns[0].T)
        shapes, points = {column.shape for column in columns}, points or len(columns[0])
        if len(columns) != width or shapes != {(points,)}:
            raise ScanError(f"{path}: {told(names)}: {width} columns of {points} numbers are needed, not of {shapes}")
        if wrong := [str(column.dtype) for column in columns if column.dtype.kind not in "fiu"]:
            raise ScanError(f"{path}: {told(names)}: numbers are needed, not {wrong[0]}")
        if names[0].startswith(SPLAT):
            columns = [np.clip(0.5 + SPLAT_SCALE * column, 0, 1) for column in columns]
        return columns
    return None


def labels_of(path, stored, label_property):
    """(name, (V,) uint16), (name, None) where the property is there and empty, or (None, None). Raises ScanError.

    stored: as of data/formats/stored.py. label_property: the only name to look for; None: the first of LABELS.
    """
    wanted = (label_property,) if label_property else LABELS
    name = next((name for name in wanted if name in stored.columns), None)
    if name is None and (of_faces := [name for name in wanted if name in stored.of_faces]):
        raise ScanError(f"{path}: '{of_faces[0]}' is a property of the faces; labels have to be the points', one each")
    if name is None and label_property:
        raise ScanError(f"{path}: has no property '{label_property}'; it has {told(stored.columns)}")
    if name is None or (values := stored.columns[name]) is None:
        return name, None
    values = np.asarray(values)
    try:
        return name, as_labels(whole(values) if name.startswith(SCALAR) else values, f"'{name}'")
    except LabelError as error:
        raise ScanError(f"{path}: {error}") from error


def whole(values):
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
    is_byte = dtype.kind != "f" or high > BYTES_FROM or (values % 1 == 0).all()
    if not (0 <= low <= high <= 255 and is_byte):
        wanted = "0 to 255, 0 to 65535 as uint16, or 0 to 1 as floats"
        raise ScanError(f"{path}: colours go from {low} to {high} as {dtype}; they have to be {wanted}")
    if dtype == np.uint16:
        notes.append(f"{path}: colours have 16 bits and stay below 256, so they are taken for 0 to 255")
    return (np.rint(values) if dtype.kind == "f" else values).astype(np.uint8)


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


def told(names) -> str:
    """Names in a message, cut where there are very many."""
    return ", ".join(names)[:300]
