"""PLY files in by other names than usual, with colours on their faces, or of Gaussian splats. V vertices, F faces."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyListProperty

from data.columns import KEPT, NAMES, values_of
from data.formats.stored import Stored
from data.ply import RGB, like_element, ply_triangles, read_ply
from data.scans import ScanError

POINTS = ("vertex", "point", "points", "vertices")  # names of the element of points
CORNERS = ("vertex_index", "vertex_indices")
SPLATS = ("f_dc_0", "opacity")  # properties by which Gaussian splats are known; Kerbl et al., SIGGRAPH 2023
FAINT = 0.1  # splats below this opacity are hardly seen
PACKED = "packed_position"  # of splats in SuperSplat's compressed form


def read_any_ply(path: Path) -> Stored:
    """A PLY file's columns by name; colours that the faces alone have are those of their corners. Raises ScanError."""
    ply = with_usual_names(path, read_ply(path))
    vertex, faces = ply["vertex"], ply_triangles(path, ply, ply["vertex"].count)
    of_faces = tuple(prop.name for prop in ply["face"].properties) if "face" in ply else ()
    columns = {prop.name: vertex[prop.name] for prop in vertex.properties}
    if (colour := colours_from_faces(path, ply)) is not None:
        columns |= dict(zip(RGB, colour.T, strict=True))
    faint, notes = faint_splats(path, ply)
    return Stored(columns, faces if len(faces) else None, of_faces, notes=notes, faint=faint)


def with_usual_names(path: Path, ply: PlyData) -> PlyData:
    """`ply`, read from `path`, with its points as the element vertex and their coordinates as x, y and z.

    All else is as it was. Raises ScanError if there are no points.
    """
    name = next((name for name in POINTS if name in ply), None)
    if name is None:
        has = ", ".join(element.name for element in ply.elements)
        raise ScanError(f"{path}: the PLY file has no element 'vertex' or 'point', only {has[:300] or 'none'}")
    element, (usual, *others) = ply[name], NAMES["xyz"]
    if PACKED in element:
        raise ScanError(f"{path}: Gaussian splats in a compressed form; export them as an uncompressed PLY file")
    rows, there = element.data, {*element.data.dtype.names}
    found = next((names for names in others if len(names) == 3 and {*names} <= there), None)
    if found and not {*usual} & there:
        new = dict(zip(found, usual, strict=True))
        rows = rows.astype([(new.get(old, old), rows.dtype[old]) for old in rows.dtype.names])
    elif name == "vertex":
        return ply
    element = like_element(rows, element, "vertex")
    elements = [element if other.name == name else other for other in ply.elements]
    return PlyData(elements, ply.text, ply.byte_order, comments=ply.comments, obj_info=ply.obj_info)


def faint_splats(path: Path, ply: PlyData) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(V,) bool, the Gaussian splats that hardly anybody sees, and what is to be said; None and () of other files."""
    vertex = ply["vertex"]
    if not all(name in vertex for name in SPLATS):
        return None, ()
    with np.errstate(over="ignore"):
        opacity = 1 / (1 + np.exp(-np.asarray(vertex["opacity"], np.float32)))
    faint = ~(opacity >= FAINT)  # or NaN
    return faint, (f"{path}: Gaussian splats, {np.count_nonzero(faint)} of {len(faint)} fainter than {FAINT}",)


def colours_from_faces(path: Path, ply: PlyData) -> np.ndarray | None:
    """(V, 3) uint8, means over the faces around a vertex; None where the faces have no colours or the vertices their
    own. Those that an earlier prediction kept count first. Raises ScanError."""
    if not (names := face_colours(ply)) or any(KEPT + name in ply["vertex"] for name in RGB):
        return None
    of_vertices = any(all(name in ply["vertex"] for name in names) for names in NAMES["colour"])
    if names == RGB and of_vertices:
        return None
    columns = {own: ply["face"][name] for own, name in zip(RGB, names, strict=True)}
    colour = values_of("colour", path, columns, ply["face"].count, [])
    corners, of_face = face_corners(path, ply)
    vertices, face = ply["vertex"].count, np.repeat(np.arange(len(of_face)), of_face)
    faces = np.maximum(np.bincount(corners, minlength=vertices), 1)
    sums = [np.bincount(corners, colour[face, channel], minlength=vertices) for channel in range(3)]
    return np.rint(np.stack(sums, axis=1) / faces[:, None]).astype(np.uint8)


def labels_of_faces(path: Path, ply: PlyData, label: np.ndarray) -> np.ndarray | None:
    """(F,) the commonest of the labels (V,) of a face's first three corners, the first one's if all differ.

    None if the faces have no colours, 0 for a face of no corners. Raises ScanError.
    """
    if not face_colours(ply):
        return None
    corners, of_face = face_corners(path, ply)
    start = np.cumsum(of_face) - of_face
    of_corners = np.append(label[corners], np.zeros(1, label.dtype))  # the last one stands for none
    first, second, third = (of_corners[np.where(of_face > 0, start + np.clip(of_face - 1, 0, k), -1)] for k in range(3))
    return np.where(second == third, second, first)


def face_corners(path: Path, ply: PlyData) -> tuple[np.ndarray, np.ndarray]:
    """The vertices of all faces behind each other (sum,) int64, and how many each face has (F,). Raises ScanError."""
    name = next((name for name in CORNERS if name in ply["face"]), None)
    if name is None or not isinstance(ply["face"].ply_property(name), PlyListProperty):
        raise ScanError(f"{path}: its faces have colours and no list of vertices ({' or '.join(CORNERS)})")
    rows = ply["face"].data[name]
    if rows.dtype.kind == "O":
        of_face = np.fromiter(map(len, rows), np.int64, len(rows))
        rows = np.concatenate([np.zeros(0, np.int64), *rows])
    else:
        of_face = np.full(len(rows), rows.shape[1], np.int64)
    vertices = ply["vertex"].count
    if rows.dtype.kind not in "iu" or rows.size and not 0 <= rows.min() <= rows.max() < vertices:
        raise ScanError(f"{path}: faces refer to other vertices than the {vertices} that there are")
    return rows.ravel().astype(np.int64), of_face


def face_colours(ply: PlyData) -> tuple[str, ...]:
    """Names of the faces' colours, those first that an earlier prediction kept; () if they have none."""
    for names in (tuple(KEPT + name for name in RGB), RGB):
        if "face" in ply and all(name in ply["face"] for name in names):
            return names
    return ()
