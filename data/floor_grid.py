"""Which vertices of a scene stand on which square of its floor, so that a crop looks at those near it alone.

V vertices, metres, +z up.
"""

from typing import NamedTuple

import numpy as np

SQUARES = 32  # along x, and along y: 0.2 m of a room of 6 m, where a crop of 1.9 m looks at a fifth more than it takes
LEAST_EXTENT = 1e-6  # m, of a scene that is flat along an axis


class FloorGrid(NamedTuple):
    order: np.ndarray  # (V,) int32: the vertices square by square
    first: np.ndarray  # (SQUARES**2 + 1,) int32: where in `order` those of each square begin, and V
    extent: np.ndarray  # (2, 3) float32: the lowest and the highest coordinates

    def near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(n,) int32, in the squares' order: all vertices from low to high along x and y, and some beside them.

        Args: low, high (2,) float64.
        """
        (i, last_i), (j, last_j) = _square_of(np.stack([low, high]), self.extent).T
        first = self.first[:-1].reshape(SQUARES, SQUARES)[i : last_i + 1, j]
        end = self.first[1:].reshape(SQUARES, SQUARES)[i : last_i + 1, last_j]
        return np.concatenate([self.order[a:b] for a, b in zip(first.tolist(), end.tolist(), strict=True)])


def grid_of(xyz: np.ndarray) -> FloorGrid:
    """The grid of (V, 3) float32, V >= 1."""
    extent = np.stack([xyz.min(axis=0), xyz.max(axis=0)])
    square = _square_of(xyz[:, :2], extent) @ [SQUARES, 1]  # (V,)
    counts = np.bincount(square, minlength=SQUARES**2)
    order = np.argsort(square.astype(np.uint16), kind="stable")  # which numpy sorts by digits, in linear time
    return FloorGrid(order.astype(np.int32), np.concatenate([[0], counts.cumsum()]).astype(np.int32), extent)


def _square_of(xy: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(n, 2) int64 of (n, 2): never less for a larger coordinate, in float64 too, so that no crop misses a vertex."""
    low, high = extent[:, :2].astype(np.float64)
    square = np.floor((xy - low) / np.maximum(high - low, LEAST_EXTENT) * SQUARES)
    return np.clip(square, 0, SQUARES - 1).astype(np.int64)
