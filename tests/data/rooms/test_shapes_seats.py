"""Seats and beds."""

import numpy as np
import pytest

from data.rooms.scanned import NYU40
from data.rooms.shapes import beds, seats
from data.rooms.surfaces import bounds

SEEDS = range(40)
MAKERS = (
    seats.chair, seats.armchair, seats.stool, seats.bench, seats.sofa, seats.ottoman, beds.bed, beds.bunk, beds.crib
)  # fmt: skip
# medians of 23 real scans: length, width, bottom, top; metres
REAL = {
    seats.chair: (0.80, 0.68, 0.02, 0.76),
    seats.sofa: (1.60, 0.83, 0.01, 0.74),
    beds.bed: (2.41, 2.07, 0.04, 1.37),
}


@pytest.fixture(scope="module", params=MAKERS, ids=lambda make: make.__name__)
def drawn(request):
    return request.param, [request.param(np.random.default_rng(seed)) for seed in SEEDS]


def as_bytes(piece):
    return [(t.name, s.xyz.tobytes(), s.faces.tobytes()) for t in piece.things for s in t.surfaces]


def extent(thing):
    xyz = np.concatenate([surface.xyz for surface in thing.surfaces])
    return xyz.min(0), xyz.max(0)


def test_a_seed_gives_one_piece_and_seeds_differ(drawn):
    make, pieces = drawn
    assert all(as_bytes(make(np.random.default_rng(seed))) == as_bytes(pieces[seed]) for seed in SEEDS)
    assert len({(piece.width, piece.depth) for piece in pieces}) == len(SEEDS)


def test_a_piece_stands_on_its_footprint(drawn):
    for piece in drawn[1]:
        low, high = bounds(piece.things)
        assert -0.01 <= low[2] <= 0.05 and np.isfinite([low, high]).all()
        assert np.abs([low[0] + piece.width / 2, high[0] - piece.width / 2, low[1], high[1] - piece.depth]).max() < 0.03


def test_things_have_names_of_nyu40_and_sound_triangles(drawn):
    for piece in drawn[1]:
        for thing in piece.things:
            assert thing.name in NYU40
            assert all(0 <= s.faces.min() and s.faces.max() < len(s.xyz) for s in thing.surfaces)


@pytest.mark.parametrize("make", REAL, ids=lambda make: make.__name__)
def test_median_sizes_are_those_of_real_scans(make):
    sizes = []
    for seed in SEEDS:
        low, high = extent(make(np.random.default_rng(seed)).things[0])
        sizes.append([*sorted((high - low)[:2], reverse=True), low[2], high[2]])
    real = np.array(REAL[make])
    assert (np.abs(np.median(sizes, axis=0) - real) <= np.maximum(real / 3, 0.05)).all(), np.median(sizes, axis=0)


@pytest.mark.parametrize("make", (seats.chair, seats.armchair, beds.bed), ids=lambda make: make.__name__)
def test_the_back_or_head_is_at_the_wall(make):
    at_wall = []
    for seed in SEEDS:
        piece = make(np.random.default_rng(seed))
        xyz = np.concatenate([surface.xyz for surface in piece.things[0].surfaces])
        at_wall.append(xyz[xyz[:, 2] > 0.95 * xyz[:, 2].max(), 1].mean() < piece.depth / 2)
    assert np.mean(at_wall) > 0.8


@pytest.mark.parametrize("make", (seats.sofa, beds.bed), ids=lambda make: make.__name__)
def test_pillows_lie_on_what_they_belong_to(make):
    seen = 0
    for seed in SEEDS:
        what, *others = make(np.random.default_rng(seed)).things
        low, high = extent(what)
        for thing in others:
            if thing.name == "pillow":
                a, b = extent(thing)
                assert a[2] > 0.15 and a[2] < high[2]
                assert (low[:2] < (a + b)[:2] / 2).all() and ((a + b)[:2] / 2 < high[:2]).all()
                seen += 1
    assert seen > 20
