"""A cloud or mesh as a network is given it: finite vertices, no strays, metres from the minimum, +z up.

V vertices of the file, n of them seen, k of these that the network is given.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from plyfile import PlyData

from data.columns import KEPT, NAMES, values_of
from data.formats.plys import colours_from_faces
from data.oddities import oddities, sizes
from data.ply import MAX_EXTENT, coordinate_step, ply_column, ply_triangles, vertex_normals
from data.scans import ScanError
from data.standing import Standing, find_standing, placed_upright, standing_as_told, turned

FAR = 1e15  # from here on coordinates are marks of points without any; doubles have steps of 12 cm there


class Placed(NamedTuple):
    path: Path
    ply: PlyData  # with an element vertex that has x, y and z
    xyz: np.ndarray  # (n, 3) float32, metres, +z up, from the minimum
    seen: np.ndarray  # (V,) bool, those of xyz
    standing: Standing  # how they stood in the file


def place(
    path: Path,
    ply: PlyData,
    left_out: np.ndarray | None = None,
    up: str | None = None,
    scale: float | None = None,
    as_is: bool = False,
) -> Placed:
    """The vertices that have finite coordinates, are not left out (V,) bool, and do not lie metres from all others.

    up, one of data.standing.UPS, and scale, metres in a unit of the file: None to find out, unless `as_is`. Raises
    ScanError.
    """
    original = np.stack([ply_column(path, ply, "vertex", axis, "fiu") for axis in "xyz"], axis=1)
    seen = ((original > -FAR) & (original < FAR)).all(axis=1)
    if left_out is not None:
        seen &= ~left_out
    if not seen.any():
        faint = "; all others are faint splats" if left_out is not None else ""
        raise ScanError(f"{path}: there is no vertex with finite coordinates{faint}")
    xyz = original[seen].astype(np.float64)
    standing = standing_as_told(up, scale) if as_is else find_standing(xyz, _triangles(path, ply, seen), up, scale)
    if standing.stray is not None:
        xyz, seen[seen] = xyz[~standing.stray], ~standing.stray
    xyz = placed_upright(xyz, standing)
    xyz = xyz - xyz.min(axis=0)  # in float64: coordinates on the globe have no millimetres left in float32
    if xyz.max() > MAX_EXTENT:
        advice = "if they are in millimetres, give --scale 0.001" if scale is None else "give a smaller --scale"
        advice += "; if a few vertices are far away, remove them"
        raise ScanError(f"{path}: the coordinates span {sizes(xyz)} m, and rooms are expected; {advice}")
    return Placed(path, ply, xyz.astype(np.float32), seen, standing)


def field(placed: Placed, name: str) -> np.ndarray:
    """(n, ...) of a scene's field, "colour", "normal" or "intensity". Raises ScanError if the file has none."""
    path, ply, _, seen, standing = placed
    vertex = ply["vertex"]
    if name == "colour" and (colour := colours_from_faces(path, ply)) is not None:
        return colour[seen]
    columns, notes = {}, []
    for key in (key for names in NAMES[name] for key in names):
        stored = KEPT + key if KEPT + key in vertex else key  # the scan's own, where that beside it is a prediction's
        if stored in vertex:
            columns[key] = vertex[stored][seen]
    values = values_of(name, path, columns, int(seen.sum()), notes)
    if values is None and name == "normal" and len(faces := ply_triangles(path, ply, len(vertex))):
        values = vertex_normals(np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64), faces)[seen]
    if values is None:
        wanted = " or ".join(", ".join(names) for names in NAMES[name])
        more = ", or the mesh its triangles" if name == "normal" else ""
        text = "; ".join(notes) if notes else f"give the vertices {wanted}{more}"
        raise ScanError(f"{path}: a {name} of each vertex is needed; {text}")
    for note in notes:
        print(f"note: {note}")
    if name == "normal":
        return turned(np.nan_to_num(values), standing.rotation).astype(np.float32)
    return values


def warnings(placed: Placed, first: np.ndarray, given: tuple[str, ...], spacing: float | None) -> list[str]:
    """What is odd, each with advice. first (k,): what the network is given; given, spacing: as `oddities` has them."""
    vertex, seen = placed.ply["vertex"], placed.seen
    step = placed.standing.scale * coordinate_step([vertex[axis][seen] for axis in "xyz"])
    doubts = (*placed.standing.doubts, *oddities(placed.xyz, step, given, first, spacing))
    return [f"{what}: {advice}" for what, advice in doubts]


def _triangles(path, ply, seen):
    """(F, 3) of the vertices seen (V,), numbered among themselves; None for a cloud, or faces that are no triangles."""
    try:
        triangles = ply_triangles(path, ply, len(seen))
    except ScanError:
        return None
    return (np.cumsum(seen) - 1)[triangles[seen[triangles].all(axis=1)]]
