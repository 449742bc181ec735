"""Crops of a scene: the random training chunk, and the tiles that cover a whole scene.

Pure functions of points and an explicit generator. V vertices of a scene, N points drawn; metres, +z up. A crop is a
core of 1.5 x 1.5 m and full height, and around it a context that is seen but neither trained on nor scored.
Source: the original PointNet++ ScanNet code (2017); `covering_draws` serves ScanNet's benchmark instead.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CHUNK_SIZE = 1.5  # m, along x and y
CONTEXT = 0.2  # m, on every side
POINTS_PER_CHUNK = 8192
CORE_MARGIN = 0.01  # m, training chunk
MAX_TRIES = 10
MIN_LABELLED = 0.7  # share of the crop's points that are in one of the 20 classes
OCCUPANCY_GRID = np.array([31, 31, 62])  # cells along x, y, z of the core
MIN_OCCUPIED = 0.02
TILE_CORE_MARGIN = 0.001  # m, evaluation tile
MIN_CORE_DRAWN = 0.01  # share of a tile's drawn points


class Draw(NamedTuple):
    """N points drawn from one crop."""

    index: np.ndarray  # (N,) int64, vertices of the scene
    core: np.ndarray  # (N,) bool


def training_draw(
    xyz: np.ndarray, classes: np.ndarray, rng: np.random.Generator, num_points: int = POINTS_PER_CHUNK
) -> Draw:
    """Draw a training chunk around a random vertex.

    Up to 10 centres are tried for a crop in which enough is labelled (before drawing) and enough of the core's cells
    are occupied; the last one is taken as it is.

    Args:
        xyz: (V, 3) float32, V >= 1. classes: (V,) in 0..20, 0 is unlabelled.
    """
    bottom, top = xyz[:, 2].min(), xyz[:, 2].max()
    for _ in range(MAX_TRIES):
        centre = xyz[rng.integers(len(xyz))].astype(np.float64)
        core_low, core_high = centre - CHUNK_SIZE / 2, centre + CHUNK_SIZE / 2
        core_low[2], core_high[2] = bottom, top
        crop = np.flatnonzero(_inside(xyz, core_low, core_high, CONTEXT))
        crop_xyz = xyz[crop]
        core = _inside(crop_xyz, core_low, core_high, CORE_MARGIN)
        labelled = np.mean(classes[crop] > 0)
        if labelled >= MIN_LABELLED and _occupied(crop_xyz[core], core_low, core_high) >= MIN_OCCUPIED:
            break
    drawn = rng.integers(len(crop), size=num_points)
    return Draw(crop[drawn], core[drawn])


def tile_draws(xyz: np.ndarray, rng: np.random.Generator, num_points: int = POINTS_PER_CHUNK) -> Iterator[Draw]:
    """One draw from each tile of a scene, for the whole-scene evaluation of PointNet++.

    Tiles start at the scene's minimum. A tile with under 1 % core among its drawn points is left out.
    Args: xyz (V, 3) float32, V >= 1.
    """
    low, height, tile_of = _tiles(xyz)
    occupied = np.unique(tile_of, axis=0)
    near = occupied[:, None] + np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])  # a core has a margin
    near = near[((near >= 0) & (near <= occupied.max(0))).all(2)]
    for tile in np.unique(near, axis=0):
        core_low, core_high = _tile_box(low, height, tile)
        crop = np.flatnonzero(_inside(xyz, core_low, core_high, CONTEXT))
        if len(crop) == 0:
            continue
        index = crop[rng.integers(len(crop), size=num_points)]
        core = _inside(xyz[index], core_low, core_high, TILE_CORE_MARGIN)
        if core.mean() >= MIN_CORE_DRAWN:
            yield Draw(index, core)


def covering_draws(xyz: np.ndarray, rng: np.random.Generator, num_points: int = POINTS_PER_CHUNK) -> Iterator[Draw]:
    """Draws in which every vertex of the scene is at least once a core point, and of one tile only.

    The first draw from a tile is random, as in training, and misses about a fifth of the core; the following ones
    hold what is still missing, filled up at random and in random order, so that the density stays that of training.
    Args: xyz (V, 3) float32, V >= 1.
    """
    low, height, tile_of = _tiles(xyz)
    for tile in np.unique(tile_of, axis=0):
        in_tile = (tile_of == tile).all(1)
        missing = np.flatnonzero(in_tile)
        crop = np.flatnonzero(_inside(xyz, *_tile_box(low, height, tile), CONTEXT))
        index = crop[rng.integers(len(crop), size=num_points)]
        while True:
            yield Draw(index, in_tile[index])
            missing = np.setdiff1d(missing, index)
            if len(missing) == 0:
                break
            index = crop[rng.integers(len(crop), size=num_points)]
            index[: len(missing)] = missing[:num_points]
            rng.shuffle(index)


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
    cell = np.clip(np.floor((xyz - low) / size * OCCUPANCY_GRID).astype(np.int64), 0, OCCUPANCY_GRID - 1)
    occupied = np.zeros(OCCUPANCY_GRID, dtype=bool)
    occupied[tuple(cell.T)] = True
    return occupied.mean()


def _tiles(xyz: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """The scene's minimum (3,) float64 and height, and for each vertex the column and row of its tile, (V, 2) int64."""
    low, high = xyz.min(0).astype(np.float64), xyz.max(0).astype(np.float64)
    last = np.maximum(np.ceil((high - low)[:2] / CHUNK_SIZE).astype(np.int64), 1) - 1
    tile_of = np.clip(np.floor((xyz[:, :2] - low[:2]) / CHUNK_SIZE).astype(np.int64), 0, last)
    return low, high[2] - low[2], tile_of


def _tile_box(low: np.ndarray, height: float, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    core_low = low + np.array([tile[0] * CHUNK_SIZE, tile[1] * CHUNK_SIZE, 0])
    return core_low, core_low + np.array([CHUNK_SIZE, CHUNK_SIZE, height])
