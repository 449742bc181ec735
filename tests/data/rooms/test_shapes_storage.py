import numpy as np
import pytest

from data.rooms.scanned import NYU40
from data.rooms.shapes import clutter, parts, storage, tables
from data.rooms.surfaces import bounds

MAKERS = [
    tables.table, tables.desk, storage.cabinet, storage.dresser, storage.night_stand, storage.bookshelf,
    storage.wall_shelves, storage.tv_stand, clutter.floor_piece, clutter.radiator,
]  # fmt: skip
SEEDS = range(40)
UNSEEN = 0.08  # of a foot, by a camera: a scan's bottom may be this much higher
# medians of 23 real scans: length, width, bottom, top; metres
REAL = {
    tables.table: (0.96, 0.65, 0.03, 0.67),
    tables.desk: (1.98, 0.74, 0.03, 0.90),
    storage.cabinet: (1.11, 0.57, 0.07, 1.85),
    clutter.floor_piece: (0.56, 0.32, 0.03, 0.67),  # otherfurniture
}


def draw(make, seeds=SEEDS):
    return [make(np.random.default_rng(seed)) for seed in seeds]


def xyz_of(thing):
    return np.concatenate([surface.xyz for surface in thing.surfaces])


def size(thing):
    """Length and width from above (its frame has the main axes), bottom and top."""
    xyz = xyz_of(thing)
    return *sorted(np.ptp(xyz[:, :2], axis=0))[::-1], xyz[:, 2].min(), xyz[:, 2].max()


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_piece_is_sound(make):
    for piece in draw(make):
        low, high = bounds(piece.things)
        assert all(thing.name in NYU40 for thing in piece.things)
        assert np.isfinite([low, high]).all()
        assert low[2] >= -0.01
        assert low[0] >= -piece.width / 2 - 0.03 and high[0] <= piece.width / 2 + 0.03
        assert low[1] >= -0.03 and high[1] <= piece.depth + 0.03
        for thing in piece.things:
            for surface in thing.surfaces:
                assert 0 <= surface.faces.min() and surface.faces.max() < len(surface.xyz)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_seed_gives_one_piece_and_seeds_differ(make):
    once, again = draw(make), draw(make)
    as_bytes = [[(t.name, s.xyz.tobytes(), s.faces.tobytes()) for t in p.things for s in t.surfaces] for p in once]
    assert as_bytes == [
        [(t.name, s.xyz.tobytes(), s.faces.tobytes()) for t in p.things for s in t.surfaces] for p in again
    ]
    assert len({(p.width, p.depth) for p in once}) == len(SEEDS)


@pytest.mark.parametrize("make", REAL, ids=lambda make: make.__name__)
def test_medians_are_those_of_real_scans(make):
    main = "otherfurniture" if make is clutter.floor_piece else make.__name__
    things = [next((t for t in piece.things if t.name == main), None) for piece in draw(make, range(160))]
    median = np.median([size(t) for t in things if t is not None], axis=0)
    real = np.array(REAL[make])
    assert (np.abs(median - real) <= np.maximum([0.05, 0.05, UNSEEN, 0.05], real / 3)).all(), median


def test_on_top_keeps_to_its_place():
    for seed in SEEDS:
        things = clutter.on_top(np.random.default_rng(seed), -0.5, 0.5, 0.1, 0.6, 0.7, 6, height=0.3)
        assert len(things) <= 6
        for thing in things:
            low, high = bounds([thing])
            assert (low >= (-0.501, 0.099, 0.69)).all() and (high <= (0.501, 0.601, 1.02)).all()


def test_on_top_fills_a_wide_top():
    assert np.mean([len(clutter.on_top(np.random.default_rng(s), 0, 3, 0, 1, 0.7, 5)) for s in SEEDS]) > 4


@pytest.mark.parametrize("kind", tables.TABLES)
def test_a_table_is_as_long_and_high_as_its_kind(kind):
    length0, length1, _, _, height0, height1, _ = tables.TABLES[kind]
    for seed in range(8):
        top = xyz_of(tables.table(np.random.default_rng(seed), kind).things[0])
        assert length0 - 0.01 <= np.ptp(top[:, 0]) <= 1.4 * length1
        assert top[:, 2].max() >= height0
        assert top[:, 2].max() <= height1 + 0.7  # what lies on it may be annotated with it


def test_what_is_annotated_with_its_owner_is_not_lost():
    rng = np.random.default_rng(0)
    things = clutter.on_top(rng, 0, 3, 0, 1, 0.7, 8)
    surfaces = sum(len(thing.surfaces) for thing in things)
    for share, alone in ((0.0, len(things)), (1.0, 0)):
        owner, *others = parts.annotated_with(rng, things[0]._replace(name="desk", surfaces=[]), things, share)
        assert owner.name == "desk" and len(others) == alone
        assert sum(len(thing.surfaces) for thing in (owner, *others)) == surfaces
