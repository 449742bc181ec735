import numpy as np

from data import augment


def test_rotation_keeps_height_and_length():
    xyz = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    turned = augment.rotate_about_z(xyz, 0.7)
    assert turned.dtype == np.float32
    np.testing.assert_array_equal(turned[:, 2], xyz[:, 2])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(xyz, axis=1), rtol=1e-6)
    np.testing.assert_allclose(augment.rotate_about_z(np.float32([[1, 0, 0]]), np.pi / 2), [[0, 1, 0]], atol=1e-7)


def test_dropped_points_become_weightless_copies_of_point_0():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(8192, 3)).astype(np.float32)
    classes, weight = rng.integers(21, size=8192), np.ones(8192, dtype=np.float32)
    shares = []
    for seed in range(40):
        p, c, w = augment.drop_points(points, classes, weight, np.random.default_rng(seed))
        dropped = w == 0
        np.testing.assert_array_equal(p[dropped], np.broadcast_to(points[0], (dropped.sum(), 3)))
        assert (c[dropped] == classes[0]).all()
        np.testing.assert_array_equal(p[~dropped], points[~dropped])
        assert p.dtype == np.float32 and w.dtype == np.float32
        shares.append(dropped.mean())
    assert max(shares) <= augment.MAX_DROPOUT + 0.02
    assert 0.3 < np.mean(shares) < 0.6 and min(shares) < 0.15 and max(shares) > 0.7
