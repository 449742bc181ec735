"""The surfaces of a cloud or a mesh as small cells of equal size, each with the direction it faces.

n points, F triangles, k cells. No unit is assumed: cells are a share of the scan's size. Density does not matter: a
cell counts once, however many points are in it.
"""

from typing import NamedTuple

import numpy as np

from data.chunks import cube_keys

# Chosen by hand, where no source is given
END = 0.01  # of the points at either end of an axis, which do not decide how large the scan is
MARGIN = 0.5  # of the scan's size beyond that, outside of which points are not looked at
DRAWN = 150_000  # points drawn on triangles
FINEST = 1 / 256  # of the scan's diagonal: edge of the first cells
COARSER, COARSEST = 1.2, 1 / 4  # times the edge, until there are few enough, or it is this share of the diagonal
MOST_CELLS = 12_000
MERGED = 2.5  # first cells in a cell, on average, so that neighbouring cells touch
FEWEST_BESIDE = 8  # occupied cells of the 27 around a cell that has a direction; a plane passes 9
FLAT = 0.09  # variance across a patch / the lesser one along it, at most
NOT_A_LINE = 0.2  # the lesser variance along a patch / the greater one, at least


class Patches(NamedTuple):
    xyz: np.ndarray  # (k, 3) float64, means of the cells' points
    normal: np.ndarray  # (k, 3) float64 of length 1, of either sign; 0 where a cell is not part of a flat patch
    area: np.ndarray  # (k,) float64, in units of edge^2, of a flat patch; elsewhere 1
    edge: float  # of a cell


def patches(xyz: np.ndarray, triangles: np.ndarray | None, rng: np.random.Generator) -> Patches | None:
    """The patches of a scan xyz (n, 3) float64, finite; None of one that has no size.

    Args: triangles (F, 3) or None: where there are some, points are drawn on them evenly, and the vertices not used.
    """
    low, high = np.quantile(xyz, [END, 1 - END], axis=0)
    margin = MARGIN * (high - low).max()
    near = np.ones(len(xyz), dtype=bool)
    for axis in range(3):  # a column at a time: numpy takes 10 times as long over rows of three
        near &= (xyz[:, axis] >= low[axis] - margin) & (xyz[:, axis] <= high[axis] + margin)
    size = float(np.linalg.norm(high - low))
    if not size > 0:
        return None
    drawn = None if triangles is None else _drawn(xyz, triangles[near[triangles].all(axis=1)], rng)
    edge = FINEST * size
    fine, place = _cells(xyz[near] if drawn is None else drawn, edge)
    most, cells = min(MOST_CELLS, len(fine) / MERGED), fine
    while len(cells) > most and edge < COARSEST * size:
        edge *= COARSER
        cells, place = _cells(fine, edge)
    normal, area = _directions(cells, place)
    return Patches(cells, normal, area, edge)


def _drawn(xyz, triangles, rng):
    """(DRAWN, 3) points on the triangles, as many on each as its area wants; None if they have no area."""
    a, b, c = (xyz[triangles[:, corner]] for corner in range(3))
    area = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    if not len(area) or not 0 < area[-1] < np.inf:
        return None
    at = np.searchsorted(area, (np.arange(DRAWN) + rng.random(DRAWN)) / DRAWN * area[-1], side="right")
    at = np.minimum(at, len(area) - 1)
    s, t = rng.random((2, DRAWN, 1))
    s, t = np.where(s + t > 1, 1 - s, s), np.where(s + t > 1, 1 - t, t)
    return a[at] + s * (b[at] - a[at]) + t * (c[at] - a[at])


def _cells(points, edge):
    """Means (k, 3) of the points in each cell, and the cells' places (k, 3) int64 on the grid."""
    keys, cell = np.unique(cube_keys(points, edge), return_inverse=True)
    count = np.bincount(cell)
    means = np.stack([np.bincount(cell, points[:, axis]) / count for axis in range(3)], axis=1)
    low = points.min(axis=0)
    return means, np.floor((means - low) / edge).astype(np.int64)


def _directions(cells, place):
    """Normals (k, 3) and areas (k,) of the cells (k, 3), from the 27 around each."""
    place = place - place.min(axis=0) + 1  # with a cell free on every side
    wide = place.max(axis=0) + 2
    key = (place[:, 0] * wide[1] + place[:, 1]) * wide[2] + place[:, 2]
    order = np.argsort(key)
    cells_in_order, key_in_order = cells[order], key[order]
    count = np.zeros(len(cells))
    total, square = np.zeros((len(cells), 3)), np.zeros((len(cells), 3, 3))
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            for k in (-1, 0, 1):
                wanted = key + (i * wide[1] + j) * wide[2] + k
                found = np.minimum(np.searchsorted(key_in_order, wanted), len(key) - 1)
                there = key_in_order[found] == wanted
                offset = np.where(there[:, None], cells_in_order[found] - cells, 0)
                count += there
                total += offset
                square += offset[:, :, None] * offset[:, None]
    mean = total / count[:, None]
    spread, axes = np.linalg.eigh(square / count[:, None, None] - mean[:, :, None] * mean[:, None])
    flat = (count >= FEWEST_BESIDE) & (spread[:, 0] <= FLAT * spread[:, 1]) & (spread[:, 1] > NOT_A_LINE * spread[:, 2])
    normal = np.where(flat[:, None], axes[:, :, 0], 0)
    # A plane passes |nx| + |ny| + |nz| cells for each edge^2 of it
    return normal, np.where(flat, 1 / np.maximum(np.abs(normal).sum(axis=1), 1), 1.0)
