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
        (i, last_i), (j, last_j) = _square_of(np.stack([low, high], axis=1), self.extent)
        first = self.first[:-1].reshape(SQUARES, SQUARES)[i : last_i + 1, j]
        end = self.first[1:].reshape(SQUARES, SQUARES)[i : last_i + 1, last_j]
        return np.concatenate([self.order[a:b] for a, b in zip(first.tolist(), end.tolist(), strict=True)])


def grid_of(xyz: np.ndarray) -> FloorGrid:
    """The grid of (V, 3) float32, V >= 1."""
    axes = np.ascontiguousarray(xyz.T)  # (3, V): numpy reads rows several times faster than columns
    extent = np.stack([axes.min(axis=1), axes.max(axis=1)])
    i, j = _square_of(axes[:2], extent)  # (V,) each
    square = (i * SQUARES + j).astype(np.uint16)
    counts = np.bincount(square, minlength=SQUARES**2)
    order = np.argsort(square, kind="stable")  # which numpy does by digits, in linear time
    return FloorGrid(order.astype(np.int32), np.concatenate([[0], counts.cumsum()]).astype(np.int32), extent)


def _square_of(xy: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(2, n) int64 of (2, n): never less for a larger coordinate, in float64 too, so that no crop misses a vertex."""
    low, high = extent[:, :2, None].astype(np.float64)  # (2, 1) each
    square = (xy - low) / np.maximum(high - low, LEAST_EXTENT) * SQUARES
    return np.clip(square, 0, SQUARES - 1).astype(np.int64)
