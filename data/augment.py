"""Training augmentation of one chunk, each with an explicit generator. Source: the original PointNet++ code (2017)."""

import numpy as np

MAX_DROPOUT = 0.875


def rotate_about_z(vectors: np.ndarray, angle: float) -> np.ndarray:
    """Rotate (..., 3) float32 positions or normals about +z by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=np.float32)
    return vectors @ rotation


def drop_points(
    points: np.ndarray, classes: np.ndarray, weight: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn a random share, U[0, 0.875], of the points into copies of point 0 with weight 0.

    Args: points (N, 3 + F), classes (N,), weight (N,). Returns copies of the three.
    """
    dropped = rng.random(len(points)) < rng.uniform(0, MAX_DROPOUT)
    first = np.where(dropped, 0, np.arange(len(points)))
    return points[first], classes[first], np.where(dropped, 0, weight).astype(weight.dtype)
