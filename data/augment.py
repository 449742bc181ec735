"""Training augmentation of one chunk, each with an explicit generator. N points, F feature channels.

A new one is a function and a line in AUGMENTATIONS. Sources: the original PointNet++ code (2017) for rotation and
dropout; the others are usual for scans, with ranges that have not been tuned.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data.features import POINT_FEATURES, columns_of

MAX_DROPOUT = 0.875
SCALES = (0.9, 1.1)
MAX_JITTER = 0.008  # m


class Chunk(NamedTuple):
    points: np.ndarray  # (N, 3 + F) float32
    classes: np.ndarray  # (N,) int64
    weight: np.ndarray  # (N,), 0 for what is not trained on
    vertex: np.ndarray  # (N,) of the scene: those drawn more than once are equal


def drop_points(chunk: Chunk, features: Sequence[str], rng: np.random.Generator) -> Chunk:
    """A random share, U[0, 0.875], of the points become copies of point 0 with weight 0."""
    dropped = rng.random(len(chunk.points)) < rng.uniform(0, MAX_DROPOUT)
    first = np.where(dropped, 0, np.arange(len(chunk.points)))
    weight = np.where(dropped, 0, chunk.weight).astype(chunk.weight.dtype)
    return Chunk(chunk.points.take(first, axis=0), chunk.classes[first], weight, chunk.vertex[first])


def rotate(chunk: Chunk, features: Sequence[str], rng: np.random.Generator) -> Chunk:
    """Turned about +z by U[0, 2 pi)."""
    angle, points = rng.uniform(0, 2 * np.pi), chunk.points.copy()
    for columns in columns_moved(features, "turns"):
        points[:, columns] = rotate_about_z(points[:, columns], angle)
    return chunk._replace(points=points)


def flip(chunk: Chunk, features: Sequence[str], rng: np.random.Generator) -> Chunk:
    """Mirrored or not, in x and in y, each with probability 1/2."""
    signs = np.array([*rng.choice([-1, 1], 2), 1], dtype=np.float32)
    points = chunk.points.copy()
    for columns in columns_moved(features, "turns"):
        points[:, columns] *= signs
    return chunk._replace(points=points)


def scale(chunk: Chunk, features: Sequence[str], rng: np.random.Generator) -> Chunk:
    """Larger or smaller by U[0.9, 1.1]."""
    factor, points = np.float32(rng.uniform(*SCALES)), chunk.points.copy()
    for columns in columns_moved(features, "scales"):
        points[:, columns] *= factor
    return chunk._replace(points=points)


def jitter(chunk: Chunk, features: Sequence[str], rng: np.random.Generator) -> Chunk:
    """Vertices moved by N(0, s) along each axis, with s from U[0, 8 mm] a chunk; heights have noise of their own.

    Points that are one vertex stay equal, as they are where scans are drawn from with replacement.
    """
    _, vertex = np.unique(chunk.vertex, return_inverse=True)
    sigma, points = rng.uniform(0, MAX_JITTER), chunk.points.copy()
    for columns in columns_moved(features, "scales"):
        noise = rng.normal(0, sigma, (vertex.max() + 1, columns.stop - columns.start))
        points[:, columns] += noise.astype(np.float32)[vertex]
    return chunk._replace(points=points)


AUGMENTATIONS: dict[str, Callable[[Chunk, Sequence[str], np.random.Generator], Chunk]] = {  # in this order
    "dropout": drop_points,
    "rotate": rotate,
    "flip": flip,
    "scale": scale,
    "jitter": jitter,
}


def rotate_about_z(vectors: np.ndarray, angle: float) -> np.ndarray:
    """Rotate (..., 3) float32 positions or normals about +z by an angle in radians."""
    return vectors @ turn_about_z(angle)


def turn_about_z(angle: float) -> np.ndarray:
    """(3, 3) float32: vectors times it are turned about +z by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=np.float32)


def columns_moved(features: Sequence[str], moved_by: str) -> list[slice]:
    """The columns of xyz, and of the features that are moved so: "turns" or "scales"."""
    moved = [columns for name, columns in columns_of(features).items() if getattr(POINT_FEATURES[name], moved_by)]
    return [slice(0, 3), *moved]
