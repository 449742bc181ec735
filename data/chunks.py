"""Crops of a scene: the random training chunk, and the tiles that cover a whole scene.

Pure functions of points and an explicit generator. V vertices of a scene, N points drawn; metres, +z up. A crop is
points drawn from a box: a core of 1.5 x 1.5 m, or of another `size`, and full height, and around it a context that is
seen but neither trained on nor scored.
Source: the original PointNet++ ScanNet code (2017); `covering_crops` serves ScanNet's benchmark instead, `dealt_crops`
prediction.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data.floor_grid import FloorGrid

CHUNK_SIZE = 1.5  # m, along x and y
CONTEXT = 0.2  # m, on every side
POINTS_PER_CHUNK = 8192
CORE_MARGIN = 0.01  # m, training chunk
MAX_TRIES = 10
MIN_LABELLED = 0.7  # share of the box's points that are in one of the classes
OCCUPANCY_GRID = np.array([31, 31, 62])  # cells along x, y, z of the core
MIN_OCCUPIED = 0.02
TILE_CORE_MARGIN = 0.001  # m, evaluation tile
CUBE_EDGES = (0.75, 1.25)  # of those by which a training chunk is thinned, in units of the spacing
LEAST_SPACING = 0.001  # m
MIN_CORE_DRAWN = 0.01  # share of a tile's drawn points
FULL_WEIGHT = 2 * CONTEXT  # from the side of a tile and its context on: there the network sees 0.4 m on every side
LEAST_WEIGHT = 0.02  # on the side itself


class Crop(NamedTuple):
    """N points drawn from a box of the scene."""

    index: np.ndarray  # (N,) int64, vertices of the scene
    core: np.ndarray  # (N,) bool
    weight: np.ndarray | None = None  # (N,) float32, of what the network says of each: of `dealt_crops`
    turn: np.ndarray | None = None  # (3, 3) float32, by which vectors are multiplied from the right before it sees them


def training_crop(
    xyz: np.ndarray,
    classes: np.ndarray,
    rng: np.random.Generator,
    num_points: int = POINTS_PER_CHUNK,
    size: float = CHUNK_SIZE,
    spacing: float = 0.0,
    grid: FloorGrid | None = None,
) -> Crop:
    """A training chunk around a random vertex. With a spacing, in metres, its points are drawn from `thin` vertices.

    Up to 10 centres are tried for a box in which enough is labelled (before drawing) and enough of the core's cells
    are occupied; the last one is taken as it is.

    Args:
        xyz: (V, 3) float32, V >= 1. classes: (V,), 0 is unlabelled.
        grid: of xyz; the crop is the same, and of a scene in memory only its surroundings are looked at.
    """
    bottom, top = grid.extent[:, 2] if grid else (xyz[:, 2].min(), xyz[:, 2].max())
    for _ in range(MAX_TRIES):
        centre = xyz[rng.integers(len(xyz))].astype(np.float64)
        core_low, core_high = centre - size / 2, centre + size / 2
        core_low[2], core_high[2] = bottom, top
        box = _box(xyz, core_low, core_high, grid)
        box_xyz = xyz.take(box, axis=0)
        core = _inside(box_xyz, core_low, core_high, CORE_MARGIN)
        labelled = np.count_nonzero(classes[box]) / len(box)
        if labelled >= MIN_LABELLED and _occupied(box_xyz[core], core_low, core_high) >= MIN_OCCUPIED:
            break
    if spacing:
        seen = thin(box_xyz, spacing, rng)
        box, core = box[seen], core[seen]
    drawn = rng.integers(len(box), size=num_points)
    return Crop(box[drawn], core[drawn])


def tile_crops(
    xyz: np.ndarray, rng: np.random.Generator, num_points: int = POINTS_PER_CHUNK, size: float = CHUNK_SIZE
) -> Iterator[Crop]:
    """A crop of each tile of a scene, for the whole-scene evaluation of PointNet++.

    Tiles start at the scene's minimum. A tile with under 1 % core among its drawn points is left out.
    Args: xyz (V, 3) float32, V >= 1.
    """
    for tile in _tiles(xyz, size):
        drawn = rng.integers(len(tile.index), size=num_points)
        core = tile.core[drawn]
        if core.mean() >= MIN_CORE_DRAWN:
            yield Crop(tile.index[drawn], core)


def covering_crops(
    xyz: np.ndarray, rng: np.random.Generator, num_points: int = POINTS_PER_CHUNK, size: float = CHUNK_SIZE
) -> Iterator[Crop]:
    """Crops in which every vertex of the scene is at least once a core point, and of one tile only.

    The first crop of a tile is random, as in training, and misses about a fifth of the core; in the following ones
    vertices that are still missing take the places of random core points, so that density, context and order stay those
    of training.
    Args: xyz (V, 3) float32, V >= 1.
    """
    for tile in _tiles(xyz, size):
        missing = np.flatnonzero(tile.in_tile)
        if len(missing) == 0:
            continue
        drawn = rng.integers(len(tile.index), size=num_points)
        while True:
            yield Crop(tile.index[drawn], tile.in_tile[drawn])
            seen = np.zeros(len(tile.index), dtype=bool)
            seen[drawn] = True
            missing = missing[~seen[missing]]
            if len(missing) == 0:
                break
            drawn = rng.integers(len(tile.index), size=num_points)
            places = np.flatnonzero(tile.in_tile[drawn]) if tile.in_tile[drawn].any() else np.zeros(1, dtype=np.int64)
            held = min(len(missing), len(places))
            drawn[rng.choice(places, size=held, replace=False)] = rng.choice(missing, size=held, replace=False)


def dealt_crops(
    xyz: np.ndarray, rng: np.random.Generator, num_points: int = POINTS_PER_CHUNK, size: float = CHUNK_SIZE
) -> Iterator[Crop]:
    """Crops that deal out the vertices of each tile and its context in random order, none twice before all were seen.

    All count, by their weight: it grows with the distance from the nearest side, behind which the network sees nothing.
    Where a tile has fewer vertices than a crop has points, they fill it up again, with weight 0.
    Args: xyz (V, 3) float32, V >= 1.
    """
    for tile in _tiles(xyz, size):
        if not tile.in_tile.any():
            continue
        inside = xyz[tile.index, :2] - (tile.low - CONTEXT)
        inside = np.minimum(inside, size + 2 * CONTEXT - inside).min(axis=1)  # (n,) m from the nearest side
        weight = np.clip(inside / FULL_WEIGHT, LEAST_WEIGHT, 1).astype(np.float32)
        order = rng.permutation(len(tile.index))
        filling = np.arange(num_points) >= len(order)
        for drawn in np.resize(order, (-(-len(order) // num_points), num_points)):
            yield Crop(tile.index[drawn], tile.core[drawn], np.where(filling, np.float32(0), weight[drawn]))


def check_spacing(spacing: float, name: str) -> None:
    """Raises ValueError, which names it so, for a spacing in metres that is neither 0 nor at least LEAST_SPACING."""
    if spacing and not LEAST_SPACING <= spacing < float("inf"):
        raise ValueError(f"{name} is {spacing}; it has to be 0 or at least {LEAST_SPACING} m")


def cubes(xyz: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """The first vertex (k,) in each occupied cube, and the number (n,) of the cube that each of the vertices is in.

    Args: xyz (n, 3), n >= 1, within 1000 m; edge of the cubes in metres, 0: each vertex is alone.
    """
    if not edge:
        return np.arange(len(xyz)), np.arange(len(xyz))
    _, first, cube = np.unique(cube_keys(xyz, edge), return_index=True, return_inverse=True)
    return first, cube


def cube_keys(xyz: np.ndarray, edge: float, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """(n,) int64: a number for the cube of that edge, from the minimum on, that each of xyz (n, 3), n >= 1, is in.

    shift: (3,) in edges, at least 0, of the grid from the minimum.
    """
    axes = np.ascontiguousarray(xyz.T, dtype=np.float64)  # numpy reads rows several times faster than columns
    low = axes.min(axis=1, keepdims=True)
    i, j, k = np.floor((axes - low) / edge + np.reshape(shift, (-1, 1))).astype(np.int64)
    return (i * (j.max() + 1) + j) * (k.max() + 1) + k


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """The first index of each of (N,) keys >= 0, in the keys' order: numbers sort faster than keys with indices."""
    if keys.max() >= 2**63 // len(keys) - 1:  # too large for that
        return np.unique(keys, return_index=True)[1]
    key, index = np.divmod(np.sort(keys * len(keys) + np.arange(len(keys))), len(keys))
    return index[np.diff(key, prepend=-1) > 0]


def thin(xyz: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """(k,) ascending: a random vertex of each cube that has any of (n, 3) vertices.

    The cubes' edge is U[0.75, 1.25] of the spacing, in metres, and their grid shifted at random.
    """
    edge, shift, order = spacing * rng.uniform(*CUBE_EDGES), rng.random(3), rng.permutation(len(xyz))
    return np.sort(order[first_of_each(cube_keys(xyz, edge, shift)[order])])


class _Tile(NamedTuple):
    """The n >= 1 vertices of a tile and its context."""

    index: np.ndarray  # (n,) int64, ascending
    core: np.ndarray  # (n,) bool: at most 1 mm outside the tile, so that neighbours share the vertices on their border
    in_tile: np.ndarray  # (n,) bool: in this tile and in no other
    low: np.ndarray  # (2,) m: where the tile starts


def _tiles(xyz: np.ndarray, size: float) -> Iterator[_Tile]:
    """The crops of a scene (V, 3) in order of column and row; tiles that have nothing in or near them are left out.

    Every vertex is looked at once a column of tiles, and those of the column once a tile. Coordinates are float64, so
    that no border is rounded.
    """
    x, y = np.ascontiguousarray(xyz[:, :2].T, dtype=np.float64)
    x_start, y_start = x.min(), y.min()
    column_of, columns = _slabs(x - x_start, size)
    row_of, rows = _slabs(y - y_start, size)
    tile_of = column_of * rows + row_of
    occupied = np.stack(np.divmod(np.unique(tile_of), rows), axis=1)
    near = occupied[:, None] + np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])  # what a context may reach
    near = np.unique(near[((near >= 0) & (near < [columns, rows])).all(2)], axis=0)
    for column in np.unique(near[:, 0]):
        strip = np.flatnonzero(_in_slab(x, column, x_start, size, CONTEXT))
        strip_y = y[strip]
        for row in near[near[:, 0] == column, 1]:
            index = strip[_in_slab(strip_y, row, y_start, size, CONTEXT)]
            if len(index) > 0:
                core_x = _in_slab(x[index], column, x_start, size, TILE_CORE_MARGIN)
                core_y = _in_slab(y[index], row, y_start, size, TILE_CORE_MARGIN)
                low = np.array([x_start + column * size, y_start + row * size])
                yield _Tile(index, core_x & core_y, tile_of[index] == column * rows + row, low)


def _slabs(offset: np.ndarray, size: float) -> tuple[np.ndarray, int]:
    """In which slab of `size` each of (V,) offsets from the scene's minimum lies, (V,) int64; the number of slabs."""
    count = max(int(np.ceil(offset.max() / size)), 1)
    return np.minimum(np.floor(offset / size).astype(np.int64), count - 1), count


def _in_slab(values: np.ndarray, slab: int, start: float, size: float, margin: float) -> np.ndarray:
    """(n,) bool: the coordinates in a slab grown by margin on both sides."""
    low = start + slab * size
    return (values >= low - margin) & (values <= low + size + margin)


def _box(xyz: np.ndarray, low: np.ndarray, high: np.ndarray, grid: FloorGrid | None) -> np.ndarray:
    """(n,) int64 ascending: the vertices in the box with its context."""
    if not grid:
        return np.flatnonzero(_inside(xyz, low, high, CONTEXT))
    near = grid.near(low[:2] - CONTEXT, high[:2] + CONTEXT)
    found = np.zeros(len(xyz), dtype=bool)  # a byte each, to have them in the scene's order without sorting
    found[near[_inside(xyz.take(near, axis=0), low, high, CONTEXT)]] = True
    return np.flatnonzero(found)


def _inside(xyz: np.ndarray, low: np.ndarray, high: np.ndarray, margin: float) -> np.ndarray:
    """(V,) bool: the points in the box of full height grown by margin along x and y.

    low and high are float64, and compared as arrays of one element: numpy 1 would round a scalar to float32. A column
    at a time: over rows of two or three numbers numpy takes 10 times as long.
    """
    x_low, y_low = np.split(low[:2] - margin, 2)
    x_high, y_high = np.split(high[:2] + margin, 2)
    x, y = xyz[:, 0], xyz[:, 1]
    return (x >= x_low) & (x <= x_high) & (y >= y_low) & (y <= y_high)


def _occupied(xyz: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the box's cells that hold a point."""
    size = np.maximum(high - low, 1e-6)  # a flat scene has no height
    low, size, cells = low[:, None], size[:, None], OCCUPANCY_GRID[:, None]
    axes = np.ascontiguousarray(xyz.T, dtype=np.float64)
    i, j, k = np.clip(((axes - low) / size * cells).astype(np.int64), 0, cells - 1)
    occupied = np.zeros(OCCUPANCY_GRID.prod(), dtype=bool)
    occupied[(i * OCCUPANCY_GRID[1] + j) * OCCUPANCY_GRID[2] + k] = True
    return np.count_nonzero(occupied) / occupied.size
