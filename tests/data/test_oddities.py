import numpy as np
import pytest

from data.oddities import oddities
from data.rooms.meshes import box_mesh

FINE = 1e-7  # m between neighbouring float32 numbers


@pytest.fixture(scope="module")
def room():
    """(V, 3) vertices of a room of 4 m x 3 m x 2.2 m."""
    shell = box_mesh(np.array([4.0, 3.0, 2.2]), np.full(3, 0.3), np.random.default_rng(0), inside_out=True)
    return shell.xyz.astype(np.float32)


def told(*arguments):
    return [what for what, _ in oddities(*arguments)]


def test_nothing_is_odd_about_a_room(room):
    assert told(room, FINE) == told(room + 1000, FINE) == []


@pytest.mark.parametrize(
    "size", [(1.5, 2.0, 2.4), (1.8, 2.2, 2.4), (1.5, 6.0, 2.5)], ids=["bathroom", "bathroom", "corridor"]
)
def test_low_rooms_may_have_walls_that_are_larger_than_the_floor(size):
    shell = box_mesh(np.array(size), np.full(3, 0.3), np.random.default_rng(0), inside_out=True)
    assert told(shell.xyz.astype(np.float32), FINE) == []


def test_strays_are_counted_and_do_not_count_as_the_room(room):
    stray = np.float32([[40, 1, 1], [2, 1, -300]])
    (what,) = told(np.concatenate([room, stray]), FINE)
    assert what.startswith("2 vertices lie far from all others") and f"number {len(room)}" in what
    assert told(np.concatenate([room, np.float32([[7, 1, 1]])]), FINE) == []  # beyond a door


def test_coarse_coordinates(room):
    (what,) = told(room, 0.25)
    assert "steps of 0.25 m" in what


@pytest.mark.parametrize("vertices", [1, 2, 5])
def test_few_vertices_are_small_and_nothing_else(vertices):
    (what,) = told(np.linspace(0, 0.4, 3 * vertices, dtype=np.float32).reshape(-1, 3), FINE)
    assert "small" in what


def test_both_axes_and_the_unit_are_advised_in_the_files_own_terms(room):
    """A room of 220 m with y up, read with --scale 10."""
    found = oddities(room[:, [1, 2, 0]] * 100, FINE, 10.0, "x")
    assert [advice for _, advice in found] == [
        "if these are centimetres, give --scale 0.1",
        "if z is up, give --up=z (or -z)",
    ]


def test_a_scan_without_height_is_flat(room):
    (flat,) = [oddity.what for oddity in oddities(room * np.float32([1, 1, 0]), 0.0) if "flat" in oddity.what]
    assert "one height" in flat
