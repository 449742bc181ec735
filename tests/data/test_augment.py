import numpy as np
import pytest

from data import augment
from data.augment import Chunk

FEATURES = ("normal", "height")  # x y z, nx ny nz, height


def chunk(seed=0, points=2_000, vertices=600):
    """Points drawn from so many vertices, as a scene's are."""
    rng = np.random.default_rng(seed)
    of_vertices = rng.normal(size=(vertices, 7)).astype(np.float32)
    vertex = rng.integers(vertices, size=points)
    return Chunk(of_vertices[vertex], rng.integers(21, size=points), np.ones(points, np.float32), vertex)


def test_rotation_keeps_height_and_length():
    xyz = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    turned = augment.rotate_about_z(xyz, 0.7)
    assert turned.dtype == np.float32
    np.testing.assert_array_equal(turned[:, 2], xyz[:, 2])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(xyz, axis=1), rtol=1e-6)
    np.testing.assert_allclose(augment.rotate_about_z(np.float32([[1, 0, 0]]), np.pi / 2), [[0, 1, 0]], atol=1e-7)


def test_dropped_points_become_weightless_copies_of_point_0():
    whole, shares = chunk(1, points=8192, vertices=8192), []
    for seed in range(40):
        points, classes, weight, vertex = augment.drop_points(whole, (), np.random.default_rng(seed))
        dropped = weight == 0
        np.testing.assert_array_equal(points[dropped], np.broadcast_to(whole.points[0], (dropped.sum(), 7)))
        assert (classes[dropped] == whole.classes[0]).all() and (vertex[dropped] == whole.vertex[0]).all()
        np.testing.assert_array_equal(points[~dropped], whole.points[~dropped])
        assert points.dtype == np.float32 and weight.dtype == np.float32
        shares.append(dropped.mean())
    assert max(shares) <= augment.MAX_DROPOUT + 0.02
    assert 0.3 < np.mean(shares) < 0.6 and min(shares) < 0.15 and max(shares) > 0.7


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_an_augmentation_is_seeded_and_leaves_its_argument_alone(name):
    given = chunk()
    kept = [array.copy() for array in given]
    one, same, other = (augment.AUGMENTATIONS[name](given, FEATURES, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(map(np.array_equal, given, kept))
    assert all(map(np.array_equal, one, same)) and not np.array_equal(one.points, other.points)
    assert all(a.dtype == b.dtype and a.shape == b.shape for a, b in zip(one, given, strict=True))


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_points_that_are_one_vertex_stay_equal(name):
    done = augment.AUGMENTATIONS[name](chunk(), FEATURES, np.random.default_rng(0))
    _, first, copy = np.unique(done.vertex, return_index=True, return_inverse=True)
    assert len(first) < len(copy)
    np.testing.assert_array_equal(done.points, done.points[first][copy])


def test_turning_and_flipping_move_positions_and_normals_alike():
    given = chunk()
    for move in (augment.rotate, augment.flip):
        seen = set()
        for seed in range(8):
            points = move(given, FEATURES, np.random.default_rng(seed)).points
            matrix, *_ = np.linalg.lstsq(given.points[:, :3].astype(float), points[:, :3].astype(float), rcond=None)
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
            np.testing.assert_allclose(given.points[:, 3:6] @ matrix, points[:, 3:6], atol=1e-5)
            np.testing.assert_array_equal(points[:, [2, 6]], given.points[:, [2, 6]])
            seen.add(round(np.linalg.det(matrix)))
        assert seen == ({1} if move is augment.rotate else {1, -1})


def test_scaling_moves_positions_and_heights_and_no_normals():
    given, factors = chunk(), []
    for seed in range(200):
        points = augment.scale(given, FEATURES, np.random.default_rng(seed)).points
        factors.append(points[0, 0] / given.points[0, 0])
        np.testing.assert_allclose(points[:, [0, 1, 2, 6]], given.points[:, [0, 1, 2, 6]] * factors[-1], rtol=1e-5)
        np.testing.assert_array_equal(points[:, 3:6], given.points[:, 3:6])
    low, high = augment.SCALES
    assert low <= min(factors) < low + 0.01 and high - 0.01 < max(factors) <= high + 1e-6


def test_jitter_is_of_a_few_millimetres_and_heights_have_their_own():
    given, sigmas = chunk(vertices=20_000, points=20_000), []
    for seed in range(30):
        moved = augment.jitter(given, FEATURES, np.random.default_rng(seed)).points - given.points
        assert not moved[:, 3:6].any()
        assert abs(np.corrcoef(moved[:, 2], moved[:, 6])[0, 1]) < 0.05
        spread = moved[:, [0, 1, 2, 6]].std(axis=0)
        np.testing.assert_allclose(spread, spread.mean(), rtol=0.1)
        sigmas.append(spread.mean())
    assert 0 <= min(sigmas) < 0.001 and 0.007 < max(sigmas) < augment.MAX_JITTER * 1.03
