import numpy as np
import pytest

from data.oddities import odd_scan, oddities
from data.rooms.meshes import box_mesh

FINE = 1e-7  # m between neighbouring float32 numbers


@pytest.fixture(scope="module")
def shell():
    """A room of 4 m x 3 m x 2.2 m: vertices (V, 3) float64 and triangles, 5 cm apart."""
    return box_mesh(np.array([4.0, 3.0, 2.2]), np.full(3, 0.05), np.random.default_rng(0), inside_out=True)


@pytest.fixture(scope="module")
def room(shell):
    """Its vertices as float32."""
    return shell.xyz.astype(np.float32)


def told(*arguments, **options):
    return [what for what, _ in oddities(*arguments, **options)]


def test_nothing_is_odd_about_a_room(room):
    assert told(room, FINE, spacing=0.05) == told(room + 1000, FINE) == odd_scan(room, FINE) == []


@pytest.mark.parametrize(
    "size", [(1.5, 2.0, 2.4), (1.8, 2.2, 2.4), (1.5, 12.0, 2.5)], ids=["bathroom", "bathroom", "corridor"]
)
def test_rooms_may_have_walls_that_are_larger_than_the_floor(size):
    shell = box_mesh(np.array(size), np.full(3, 0.3), np.random.default_rng(0), inside_out=True)
    assert odd_scan(shell.xyz.astype(np.float32), FINE, shell.faces) == []


def test_how_a_scan_stands_is_told_once(shell):
    """In centimetres, with three strays: what is found of the unit is not told as a height too."""
    strays = np.array([[4000.0, 100, 100], [200, 100, -30000], [100, -4000, 0]])
    found = odd_scan(np.concatenate([shell.xyz * 100, strays]), FINE, shell.faces)
    unit, stray = [oddity.what for oddity in found]
    assert "centimetre" in unit and stray == "3 vertices lie metres from all others"


def test_coarse_coordinates(room):
    (what,) = told(room, 0.25)
    assert "steps of 0.25 m" in what


@pytest.mark.parametrize("vertices", [1, 2, 5])
def test_few_vertices_are_small_and_nothing_else(vertices):
    (what,) = told(np.linspace(0, 0.4, 3 * vertices, dtype=np.float32).reshape(-1, 3), FINE, spacing=0.05)
    assert "small" in what


@pytest.mark.parametrize(("scale", "unit", "flag"), [(100, "centimetre", "0.01"), (1000, "millimetre", "0.001")])
def test_the_unit_is_advised_unless_it_was_given(room, scale, unit, flag):
    (tall,) = oddities(room * scale, FINE)
    assert "tall" in tall.what and tall.advice == f"if its unit is the {unit}, give --scale {flag}"
    given = ("--scale", "--spacing")
    assert oddities(room * scale, FINE, given=given) == oddities(room / 10, FINE, given=given) == []


def test_a_scan_without_height_is_flat(room):
    (flat,) = [oddity.what for oddity in oddities(room * np.float32([1, 1, 0]), 0.0) if "flat" in oddity.what]
    assert "one height" in flat


def test_density(room):
    dense = np.repeat(room, 60, axis=0)
    (what,) = told(dense, FINE)
    assert what.startswith("dense") and told(dense, FINE, given=("--spacing",)) == []
    assert told(dense, FINE, used=np.arange(0, len(dense), 60), spacing=0.05) == []


def test_too_sparse_for_the_network():
    """One vertex in 10 cm for a network that knows 5; a network yet to be trained knows no spacing."""
    shell = box_mesh(np.array([4.0, 3.0, 2.2]), np.full(3, 0.1), np.random.default_rng(0), inside_out=True)
    (sparse,) = oddities(shell.xyz, FINE, given=("--spacing",), spacing=0.05)
    assert sparse.what.startswith("sparse") and "5 cm" in sparse.advice and "--" not in sparse.advice
    assert oddities(shell.xyz, FINE) == oddities(shell.xyz, FINE, spacing=0.1) == []
