"""Wavefront OBJ files in: vertices, their colours, and faces as triangles, by NumPy. V vertices, F triangles.

Not by a library of meshes: the one that is kept up and has wheels for every Python here, trimesh, splits vertices by
their texture's coordinates, so the file's order is lost.
"""

import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from data.formats.stored import Stored

COLUMNS = {3: (), 4: ("w",), 6: ("red", "green", "blue"), 7: ("w", "red", "green", "blue")}  # beside x, y and z


def read_obj(path: Path) -> Stored:
    """Vertices and triangles in the file's order; polygons are cut into triangles, as in data/ply.py.

    Normals are read where there is one a vertex and no face, as clouds have them. Textures are not. Raises ValueError.
    """
    vertex = _numbers(_rows(path, "v"))
    if not len(vertex):
        raise ValueError("it has no line of a vertex")
    if vertex.shape[1] not in COLUMNS:
        raise ValueError(f"its vertices have {vertex.shape[1]} numbers, not 3, or 6 with colours")
    columns = dict(zip((*"xyz", *COLUMNS[vertex.shape[1]]), vertex.T, strict=True))
    columns.pop("w", None)  # a weight of rational curves
    faces = _numbers(_triangles(path), np.int64)
    if len(faces):
        if not 1 <= faces.min() <= faces.max() <= len(vertex):
            raise ValueError(f"faces refer to vertices {faces.min()} to {faces.max()} of {len(vertex)}")
        return Stored(columns, (faces - 1).astype(np.int32))
    normal = _numbers(_rows(path, "vn"))
    if normal.shape == (len(vertex), 3):
        columns |= dict(zip(("nx", "ny", "nz"), normal.T, strict=True))
    return Stored(columns)


def _rows(path, keyword) -> Iterator[str]:
    """What stands behind the keyword, of each line that begins with it."""
    starts = (f"{keyword} ", f"{keyword}\t")
    with path.open(encoding="latin-1") as lines:  # in which every byte is a character
        for line in lines:
            if line.startswith(starts):
                yield line[len(keyword) :]


def _triangles(path) -> Iterator[str]:
    """The corners of each triangle, from 1 on. A face's are `7`, `7/1`, `7/1/2` or `7//2`, or count back from -1."""
    vertices = 0
    with path.open(encoding="latin-1") as lines:
        for line in lines:
            if line.startswith(("v ", "v\t")):
                vertices += 1
            elif line.startswith(("f ", "f\t")):
                corners = line.partition("#")[0].split()[1:]
                if "/" in line:
                    corners = [corner.partition("/")[0] for corner in corners]
                if "-" in line:
                    corners = [str(vertices + 1 + int(corner)) if corner[0] == "-" else corner for corner in corners]
                for second, third in zip(corners[1:], corners[2:], strict=False):
                    yield f"{corners[0]} {second} {third}"


def _numbers(rows, dtype=np.float64):
    """(n, columns) of rows of text; (0, 3) if there are none. Raise ValueError."""
    first = next(rows, None)
    if first is None:
        return np.zeros((0, 3), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there are no numbers in them
        return np.loadtxt(chain([first], rows), dtype, ndmin=2)
