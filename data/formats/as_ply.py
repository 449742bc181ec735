"""A file of any format as a PLY file in memory, for scripts/predict.py to write back, and what it writes. V points."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from plyfile import PlyData, PlyElement

from data.columns import NAMES, PREDICTED, coordinates_of
from data.formats.las import LAS
from data.formats.plys import face_colours, face_corners, faint_splats, with_usual_names
from data.formats.reading import READERS, check_name, read_stored
from data.formats.stored import Stored, refusing
from data.ply import read_ply

WIDEST = 64  # numbers a point of an array that is kept
PARTS = {  # names of the columns of an array (V, 3)
    **dict.fromkeys(("colour", "color", "colours", "colors", "rgb"), ("red", "green", "blue")),
    **dict.fromkeys(("normal", "normals"), ("nx", "ny", "nz")),
}
NAME = re.compile(r"[^!-~]+")  # what no name in a PLY header can have


class Input(NamedTuple):
    """What is predicted, and written back with the prediction."""

    ply: PlyData  # with an element vertex that has x, y and z
    notes: tuple[str, ...]  # what is to be said of it, a line each
    left_out: np.ndarray | None  # (V,) bool, points that get no class; None: all get one


def read_input(path: Path) -> Input:
    """The points of a file in its order, with everything that its reader gives, coordinates as they are stored.

    Of PLY files every element and property is kept; points and coordinates by another name get the usual one. Raises
    ScanError.
    """
    with refusing(path):
        check_name(path)
        if path.suffix.lower() != ".ply":
            stored = read_stored(path)
            ply, notes = as_ply(path, stored)
            return Input(ply, stored.notes + notes, stored.faint)
        ply = with_usual_names(path, read_ply(path, any_lists=True))
        if face_colours(ply):
            face_corners(path, ply)  # so that it fails before the work
        faint, notes = faint_splats(path, ply)
        return Input(ply, notes, faint)


def as_ply(path: Path, stored: Stored) -> tuple[PlyData, tuple[str, ...]]:
    """The columns of a file as vertices, its triangles as faces, and notes on what PLY cannot hold. Raises ScanError.

    Numbers keep their type, but integers of 8 bytes, which become shorter ones or doubles, and floats of 2 bytes.
    """
    places = coordinates_of(path, stored.columns)
    vertices, columns, left_out = len(places[0]), dict(zip("xyz", map(_for_ply, places), strict=True)), []
    held = next(names for names in NAMES["xyz"] if all(name in stored.columns for name in names))
    for name, values in stored.columns.items():
        if name in held or values is None:  # nothing was recorded
            continue
        values = np.asarray(values)
        width = values.shape[1] if values.ndim == 2 else 1
        if values.shape[:1] != (vertices,) or values.ndim > 2 or width > WIDEST or values.dtype.kind not in "fiub":
            left_out.append(name)
            continue
        parts = (name,) if width == 1 else PARTS.get(name) if width == 3 else None
        parts = parts or tuple(f"{name}_{number}" for number in range(width))
        for part, column in zip(parts, values.reshape(vertices, width).T, strict=True):
            columns[_free_name(part, columns)] = _for_ply(column)
    table = np.empty(vertices, [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    elements = [PlyElement.describe(table, "vertex")]
    if stored.faces is not None:
        rows = np.empty(len(stored.faces), [("vertex_indices", "i4", (3,))])
        rows["vertex_indices"] = stored.faces
        elements.append(PlyElement.describe(rows, "face"))
    notes = (f"{path}: not in the output, as it is no number a point: {', '.join(left_out)[:300]}",) if left_out else ()
    return PlyData(elements, byte_order="<"), notes


def outputs(source: Path, out: Path | None) -> tuple[Path, Path | None]:
    """The PLY file to write for an input, and of LAS and LAZ files the LAS or LAZ file beside it, else None.

    Args: out: the name of either; None: <input>_pred, with the input's own ending for the second. Raises ValueError.
    """
    own = source.suffix.lower() if source.suffix.lower() in LAS else None
    out = out or source.with_name(f"{source.stem}{PREDICTED}.ply")
    ending = out.suffix.lower()
    if ending in LAS and not own:
        raise ValueError(f"--out {out}: only of a LAS or LAZ file; give a name that ends in .ply")
    if ending in READERS.keys() - {".ply", *LAS}:
        raise ValueError(f"--out {out}: predictions are PLY files; give a name that ends in .ply")
    if ending in LAS:
        return out.with_suffix(".ply"), out
    return out, out.with_name(out.name.removesuffix(out.suffix if ending == ".ply" else "") + own) if own else None


def _free_name(name, taken):
    """The name as PLY's header can hold it, and none of those taken."""
    name = usual = NAME.sub("_", name) or "_"
    number = 2
    while name in taken:
        name, number = f"{usual}_{number}", number + 1
    return name


def _for_ply(column):
    """Numbers (V,) as a type that PLY has."""
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind == "b":
        return column.astype(np.uint8)
    if kind == "f":
        return column.astype(f"f{min(max(size, 4), 8)}")
    if size < 8:
        return column.astype(column.dtype.newbyteorder("="))
    low, high = column.min(), column.max()
    fit = (t for t in ("i4", "u4") if np.iinfo(t).min <= low <= high <= np.iinfo(t).max)
    return column.astype(next(fit, "f8"))
