"""Crops that deal out a whole scene, and votes of turned scenes."""

import numpy as np
import pytest

from data import chunks
from data.augment import columns_moved
from data.tiles import SceneTiles, with_votes

POINTS, SIZE = 400, 1.5


@pytest.fixture
def scene():
    """3 x 2 m with normals: 1,500 points, most of them in one corner."""
    rng = np.random.default_rng(0)
    xyz = rng.random((1_500, 3)) ** [3, 3, 1] * [3, 2, 2]
    normal = rng.normal(size=(1_500, 3))
    points = np.concatenate([xyz, normal / np.linalg.norm(normal, axis=1, keepdims=True)], axis=1)
    return SceneTiles("room", points.astype(np.float32), None, [], [], turning=columns_moved(["normal"], "turns"))


def voted(scene, votes, seed=0, spacing=0.0):
    cubes = chunks.cubes(scene.points[:, :3], spacing)
    return with_votes(scene, np.random.default_rng(seed), POINTS, SIZE, *cubes, votes)


def test_crops_deal_out_every_vertex_before_one_comes_again(scene):
    xyz = scene.points[:, :3]
    crops = list(chunks.dealt_crops(xyz, np.random.default_rng(0), POINTS, SIZE))
    low = xyz[:, :2].min(axis=0)
    expected = {}  # tile -> vertices in it and its context
    for i, j in np.unique(np.floor((xyz[:, :2] - low) / SIZE), axis=0):
        start = low + SIZE * np.array([i, j])
        expected[i, j] = np.flatnonzero(((xyz[:, :2] >= start - 0.2) & (xyz[:, :2] <= start + SIZE + 0.2)).all(axis=1))
    sizes = [len(index) for index in expected.values()]
    assert min(sizes) < POINTS < 2 * POINTS < max(sizes), "a tile with fewer vertices than points, and one with many"
    assert len(crops) == sum(-(-size // POINTS) for size in sizes) and {len(crop.index) for crop in crops} == {POINTS}
    counted = np.concatenate([crop.index[crop.weight > 0] for crop in crops])
    times = np.bincount(counted, minlength=len(xyz))
    assert times.min() >= 1
    for crop in crops:
        assert len(np.unique(crop.index[crop.weight > 0])) == np.count_nonzero(crop.weight)
        assert len(np.unique(crop.index)) == min(POINTS, np.count_nonzero(crop.weight)), "what fills up is seen already"


def test_what_is_near_a_side_counts_less(scene):
    grid = np.stack(np.meshgrid(np.arange(0, 1.5, 0.05), np.arange(0, 1.5, 0.05)), -1).reshape(-1, 2)
    xyz = np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)
    (crop,) = chunks.dealt_crops(xyz, np.random.default_rng(0), len(xyz), SIZE)
    side = np.minimum(xyz[crop.index, :2], SIZE - xyz[crop.index, :2]).min(axis=1) + 0.2
    np.testing.assert_allclose(crop.weight, np.clip(side / 0.4, 0, 1), atol=1e-5)


def test_each_vote_shows_all_of_it_turned(scene):
    """Of 4 votes every one sees all vertices, in another quadrant, every second one mirrored, normals as positions."""
    votes, angles = 4, []
    covering = voted(scene, votes).covering
    turns = np.unique([crop.turn for crop in covering], axis=0)
    assert len(turns) == votes
    assert sorted(np.linalg.det(turns).round(4)) == [-1, -1, 1, 1]
    for turn in turns:
        crops = [crop for crop in covering if np.array_equal(crop.turn, turn)]
        seen = np.concatenate([crop.index[crop.weight > 0] for crop in crops])
        assert len(np.unique(seen)) == len(scene.points)
        for crop in crops:
            before, after = scene.points[crop.index], scene.points_of(crop)
            np.testing.assert_allclose(after[:, :3], before[:, :3] @ turn, atol=1e-5)
            np.testing.assert_allclose(after[:, 3:], before[:, 3:] @ turn, atol=1e-5)
            np.testing.assert_array_equal(after[:, 2], before[:, 2])
        angles.append(np.degrees(np.arctan2(*turn[1, 1::-1] * np.linalg.det(turn))) % 360)
    assert len(set((np.array(angles) // 90).round())) > 1
    np.testing.assert_allclose(np.diff(np.sort(np.array(angles) % 90)), 90 / votes, atol=0.01)


def test_a_seed_decides_the_order_and_nothing_else(scene):
    one, same, other = (voted(scene, 2, seed).covering for seed in (0, 0, 1))
    assert all(np.array_equal(a.index, b.index) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a.index, b.index) for a, b in zip(one, other, strict=True))
    assert all(np.array_equal(a.turn, b.turn) for a, b in zip(one, other, strict=True))


def test_with_a_spacing_one_vertex_a_cube_is_shown(scene):
    first, cube = chunks.cubes(scene.points[:, :3], 0.3)
    found = voted(scene, 2, spacing=0.3)
    assert set(np.concatenate([crop.index for crop in found.covering])) == set(first)
    assert np.array_equal(found.stand_in, first[cube])
