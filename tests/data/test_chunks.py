import numpy as np
import pytest

from data import chunks


def room(seed=0, vertices=20_000, size=(4.0, 3.2, 2.5)):
    """A floor and two walls, (V, 3) float32."""
    rng = np.random.default_rng(seed)
    xyz = rng.random((vertices, 3)) * size
    surface = rng.integers(3, size=vertices)
    xyz[surface == 0, 2] = 0
    xyz[surface == 1, 0] = 0
    xyz[surface == 2, 1] = 0
    return xyz.astype(np.float32)


def test_training_draw_stays_in_one_crop_and_marks_its_core():
    xyz = room()
    draw = chunks.training_crop(xyz, np.ones(len(xyz), dtype=np.uint8), np.random.default_rng(0))
    assert draw.index.shape == draw.core.shape == (chunks.POINTS_PER_CHUNK,)
    points = xyz[draw.index]
    extent = points.max(0) - points.min(0)
    assert (extent[:2] <= chunks.CHUNK_SIZE + 2 * chunks.CONTEXT + 1e-5).all()
    core = points[draw.core]
    assert ((core.max(0) - core.min(0))[:2] <= chunks.CHUNK_SIZE + 2 * chunks.CORE_MARGIN + 1e-5).all()
    outside = points[~draw.core]
    middle = (core.max(0) + core.min(0)) / 2
    assert len(outside) and (np.abs(outside - middle)[:, :2].max(1) > chunks.CHUNK_SIZE / 4).all()
    assert len(np.unique(draw.index)) < len(draw.index)  # with replacement


def textbook_training_draw(xyz, classes, rng):
    """The definition, over all three axes and in float64."""
    xyz = xyz.astype(np.float64)
    for _ in range(10):
        centre = xyz[rng.integers(len(xyz))]
        low, high = centre - 0.75, centre + 0.75
        low[2], high[2] = xyz[:, 2].min(), xyz[:, 2].max()
        crop = ((xyz >= low - 0.2) & (xyz <= high + 0.2)).all(1)
        core = ((xyz >= low - 0.01) & (xyz <= high + 0.01)).all(1)
        cells = np.clip((xyz[core] - low) / np.maximum(high - low, 1e-6) * (31, 31, 62), 0, (30, 30, 61))
        occupied = len(set(map(tuple, cells.astype(int)))) / (31 * 31 * 62)
        if (classes[crop] > 0).mean() >= 0.7 and occupied >= 0.02:
            break
    index = rng.choice(np.flatnonzero(crop), size=8192)
    return index, core[index]


@pytest.mark.parametrize("seed", range(8))
def test_training_draw_is_the_textbooks(seed):
    rng = np.random.default_rng(seed)
    xyz = room(seed, vertices=6_000, size=(3.0, 2.5, 2.5))
    xyz = np.round(xyz, 2 if seed % 2 else 6)  # on a grid, vertices lie on the faces of boxes and cells
    classes = (rng.random(len(xyz)) < (0.69, 0.71, 0.9)[seed % 3]).astype(np.uint8)
    index, core = textbook_training_draw(xyz, classes, np.random.default_rng(seed))
    draw = chunks.training_crop(xyz, classes, np.random.default_rng(seed))
    np.testing.assert_array_equal(draw.index, index)
    np.testing.assert_array_equal(draw.core, core)


def test_the_faces_of_a_box_are_not_rounded_to_float32():
    low, tenth = np.zeros(3), np.full(3, 0.1)  # float32 has 0.1 as 0.100000001
    assert not chunks._inside(np.full((1, 3), 0.1, np.float32), low, tenth, margin=0).any()


def test_training_draw_looks_for_a_labelled_crop():
    xyz = room(vertices=80_000, size=(12.0, 2.0, 2.5))
    classes = (xyz[:, 0] > 9).astype(np.uint8)  # a quarter of the room is labelled
    hits = 0
    for seed in range(40):
        draw = chunks.training_crop(xyz, classes, np.random.default_rng(seed))
        hits += classes[draw.index].mean() > 0.6
    assert hits >= 28  # one try finds it in a fifth of the cases, ten in nine of ten


def test_training_draw_takes_the_last_crop_if_none_fits():
    xyz = room()
    draw = chunks.training_crop(xyz, np.zeros(len(xyz), dtype=np.uint8), np.random.default_rng(0))
    assert len(draw.index) == chunks.POINTS_PER_CHUNK


@pytest.mark.parametrize("vertices", [1, 2, 40])
def test_tiny_scenes_are_one_chunk_and_one_tile(vertices):
    xyz = room(vertices=vertices, size=(0.4, 0.3, 0.2))
    draw = chunks.training_crop(xyz, np.ones(vertices, dtype=np.uint8), np.random.default_rng(0))
    assert draw.core.all() and draw.index.max() < vertices
    assert len(list(chunks.tile_crops(xyz, np.random.default_rng(0)))) == 1
    covered = np.concatenate([d.index for d in chunks.covering_crops(xyz, np.random.default_rng(0))])
    assert set(covered) == set(range(vertices))


def test_occupancy_counts_cells():
    low, high = np.zeros(3), np.array([1.5, 1.5, 3.0])
    centres = (np.array([[0, 0, 0], [1, 0, 0], [30, 30, 61]]) + 0.5) / chunks.OCCUPANCY_GRID * high
    assert chunks._occupied(np.repeat(centres, 5, axis=0), low, high) == pytest.approx(3 / (31 * 31 * 62))


def test_tiles_cover_the_plane_once():
    xyz = room(size=(4.0, 3.2, 2.5))
    tiles = list(chunks.tile_crops(xyz, np.random.default_rng(0)))
    assert len(tiles) == 3 * 3
    owners = np.zeros(len(xyz), dtype=int)
    for tile in tiles:
        owners[np.unique(tile.index[tile.core])] += 1
        core = xyz[tile.index[tile.core]]
        assert ((core.max(0) - core.min(0))[:2] <= chunks.CHUNK_SIZE + 2 * chunks.TILE_CORE_MARGIN + 1e-5).all()
    edge = np.abs(xyz[:, :2] - np.round(xyz[:, :2] / chunks.CHUNK_SIZE) * chunks.CHUNK_SIZE) < 0.01
    assert owners[~edge.any(1)].max() == 1


def test_tiles_with_little_core_are_left_out():
    xyz = room(vertices=5_000, size=(1.5, 1.5, 2.5))
    straggler = np.array([[1.502, 0.7, 1.0]], dtype=np.float32)  # a second tile whose core is this vertex alone
    tiles = list(chunks.tile_crops(np.concatenate([xyz, straggler]), np.random.default_rng(0)))
    assert len(tiles) == 1


def test_a_far_stray_vertex_costs_no_more_than_its_own_tile():
    """Only tiles that hold something are visited: 600 x 600 empty ones lie between the room and the stray vertex."""
    xyz = np.concatenate([room(vertices=2_000, size=(1.4, 1.4, 2.5)), np.float32([[900, 900, 0]])])
    assert len(list(chunks.tile_crops(xyz, np.random.default_rng(0)))) == 2
    assert len(list(chunks.covering_crops(xyz, np.random.default_rng(0)))) <= 3


def test_covering_draws_reach_every_vertex_in_tiles_of_another_size():
    xyz = (np.random.default_rng(0).random((9_000, 3)) * [7, 4, 2]).astype(np.float32)
    draws = list(chunks.covering_crops(xyz, np.random.default_rng(0), num_points=2_000, size=3.0))
    offset = xyz[:, :2].astype(float) - xyz[:, :2].min(0)
    tiles = [np.floor(offset[draw.index[draw.core]] / 3).astype(int) for draw in draws]
    assert all((tile == tile[0]).all() for tile in tiles)
    assert len(np.unique([tile[0] for tile in tiles], axis=0)) == 6
    assert len(np.unique(np.concatenate([draw.index[draw.core] for draw in draws]))) == len(xyz)


def test_covering_draws_of_many_missing_vertices_are_spread_over_the_tile():
    """Vertices are in order of x; each draw still holds as many of a tile's left half as of its right one, and of the
    context its share."""
    xyz = (np.random.default_rng(0).random((40_000, 3)) * [3, 1.5, 1]).astype(np.float32)
    xyz = xyz[np.argsort(xyz[:, 0])]
    draws = list(chunks.covering_crops(xyz, np.random.default_rng(0), num_points=2_000))
    assert len(draws) > 16
    for draw in draws:
        assert draw.core.mean() == pytest.approx(1.5 / 1.7, abs=0.04)
        x = xyz[draw.index[draw.core], 0] % 1.5
        assert 0.45 < (x < 0.75).mean() < 0.55
    assert len(np.unique(np.concatenate([draw.index[draw.core] for draw in draws]))) == len(xyz)


def test_covering_draws_reach_every_vertex_in_one_tile_only():
    xyz = room(vertices=60_000)
    tile_of_vertex = np.full(len(xyz), -1)
    draws = list(chunks.covering_crops(xyz, np.random.default_rng(0)))
    for draw in draws:
        tile = np.floor(xyz[draw.index[draw.core]] / chunks.CHUNK_SIZE).astype(int)[:, :2]
        assert (tile == tile[0]).all()
        mine = tile[0] @ [100, 1]
        seen = tile_of_vertex[draw.index[draw.core]]
        assert ((seen == -1) | (seen == mine)).all()
        tile_of_vertex[draw.index[draw.core]] = mine
    assert (tile_of_vertex >= 0).all()
    first, second = draws[0], draws[1]
    missing = np.setdiff1d(first.index[first.core], second.index)
    assert len(draws) > 9 and len(missing)  # the second draw of a tile is not a copy of the first


def test_the_same_generator_gives_the_same_draws():
    xyz = room()
    for draw in (
        lambda rng: [chunks.training_crop(xyz, np.ones(len(xyz), dtype=np.uint8), rng)],
        lambda rng: list(chunks.tile_crops(xyz, rng)),
        lambda rng: list(chunks.covering_crops(xyz, rng)),
    ):
        once, again, other = (draw(np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert all(np.array_equal(a.index, b.index) for a, b in zip(once, again, strict=True))
        assert not np.array_equal(once[0].index, other[0].index)


@pytest.mark.parametrize("scale", [1, 2**45])
def test_the_first_of_each_key(scale):
    keys = scale * np.random.default_rng(0).integers(0, 1000, 5_000)
    _, first = np.unique(keys, return_index=True)
    assert np.array_equal(chunks.first_of_each(keys), first)
    assert (scale == 1) == (int(keys.max()) * len(keys) < 2**63)
