"""Cells of planes, boxes and lines: their directions, their areas, and that density does not count."""

import numpy as np
import pytest

from data.patches import MOST_CELLS, patches
from data.rooms.meshes import box_mesh

SIZE = np.array([4.0, 3.0, 2.5])


def found(xyz, triangles=None):
    return patches(xyz, triangles, np.random.default_rng(0))


@pytest.fixture(scope="module")
def box():
    """(V, 3) float64 vertices 5 cm apart and (F, 3) triangles of an empty room."""
    shell = box_mesh(SIZE, np.full(3, 0.05), np.random.default_rng(0), inside_out=True)
    return shell.xyz.astype(np.float64), shell.faces


def test_a_box_has_six_sides_of_their_areas(box):
    seen = found(*box)
    facing = np.array([seen.area[np.abs(seen.normal[:, axis]) > 0.99].sum() for axis in range(3)])
    assert len(seen.xyz) <= MOST_CELLS
    np.testing.assert_allclose(facing / facing.sum(), 1 / SIZE / (1 / SIZE).sum(), rtol=0.08)


def test_an_oblique_plane_faces_one_way_and_keeps_its_area():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    seen = found(np.random.default_rng(0).random((200_000, 3)) * [4, 3, 0] @ turn.T)
    flat = seen.normal.any(axis=1)
    assert flat.mean() > 0.9 and (np.abs(seen.normal[flat] @ turn[:, 2]) > 0.99).all()
    assert seen.area.sum() * seen.edge**2 == pytest.approx(12, rel=0.25)


def test_density_does_not_count(box):
    """The floor has 50 times the points: it is no larger for that."""
    floor = box[0][box[0][:, 2] < 0.01]
    shaken = np.repeat(floor, 50, axis=0) + np.random.default_rng(0).normal(0, 0.02, (50 * len(floor), 3)) * [1, 1, 0]
    once, often = found(box[0]), found(np.concatenate([box[0], shaken]))
    shares = [seen.area[seen.xyz[:, 2] < 0.05].sum() / seen.area.sum() for seen in (once, often)]
    assert shares[1] == pytest.approx(shares[0], rel=0.1)


def test_triangles_count_rather_than_vertices(box):
    """A few large triangles: what is between their corners is seen too."""
    corners = SIZE * np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))])
    seen = found(corners, triangles)
    assert seen.area.sum() * seen.edge**2 == pytest.approx(2 * (SIZE.prod() / SIZE).sum(), rel=0.2)


@pytest.mark.parametrize("shape", [[0, 0, 0], [4, 0, 0]], ids=["a point", "a line"])
def test_what_is_no_surface_has_no_direction(shape):
    seen = found(np.random.default_rng(0).random((5000, 3)) * shape)
    assert seen is None or not seen.normal.any()


def test_far_points_do_not_set_the_size(box):
    far = np.concatenate([box[0], [[900.0, 0, 0], [0, 0, -4000]]])
    assert found(far).edge == pytest.approx(found(box[0]).edge, rel=0.01)
