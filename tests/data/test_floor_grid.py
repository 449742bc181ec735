"""The squares of the floor: a crop by way of them is the one without them, and they find no more than is near."""

import numpy as np
import pytest

from data import chunks
from data.floor_grid import SQUARES, grid_of


def hall(vertices, size=(9.0, 5.0, 2.5), digits=2):
    """(V, 3) float32 on a grid of that many digits: vertices lie on the faces of boxes and of squares."""
    return np.round(np.random.default_rng(0).random((vertices, 3)) * size - 3, digits).astype(np.float32)


@pytest.mark.parametrize(
    "xyz",
    [hall(30_000), hall(3_000, size=(40, 1, 3), digits=1), hall(1_000, size=(0, 2, 0)), hall(1), hall(5)],
    ids=["hall", "corridor", "wall", "one vertex", "five"],
)
def test_a_crop_by_squares_is_the_one_of_all_vertices(xyz):
    grid, label_rng = grid_of(xyz), np.random.default_rng(1)
    classes = (label_rng.random(len(xyz)) < 0.7).astype(np.uint16)  # so that some boxes are refused
    for seed in range(12):
        for size, spacing in [(1.5, 0.0), (3.0, 0.1)]:
            every, near = (
                chunks.training_crop(xyz, classes, np.random.default_rng(seed), 500, size, spacing, of)
                for of in (None, grid)
            )
            np.testing.assert_array_equal(near.index, every.index)
            np.testing.assert_array_equal(near.core, every.core)
            assert near.index.dtype == every.index.dtype


def test_near_is_all_of_a_box_and_little_else():
    xyz = hall(30_000)
    grid = grid_of(xyz)
    assert sorted(grid.order) == list(range(30_000)) and grid.first[-1] == 30_000
    for low in [(-3.0, -3.0), (0.0, 0.0), (4.5, 1.0), (-50.0, -50.0)]:
        low = np.array(low)
        near, inside = grid.near(low, low + 1.9), ((xyz[:, :2] >= low) & (xyz[:, :2] <= low + 1.9)).all(1)
        assert set(np.flatnonzero(inside)) <= set(near) and len(set(near)) == len(near)
        edge = np.array([9, 5]) / SQUARES + 0.01
        margin = ((xyz[near, :2] >= low - edge) & (xyz[near, :2] <= low + 1.9 + edge)).all(1)
        assert margin.all() or (low < -10).all()  # outside the scene, its nearest square
