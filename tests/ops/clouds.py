"""Clouds that are easy to get wrong, and what it means to be equal to the reference on one."""

import numpy as np
import torch

from ops import reference


def make_cloud(kind, clouds, n, seed):
    """(clouds, n, 3) float32 of one of KINDS."""
    rng = np.random.default_rng([seed, n])
    xyz = rng.uniform(-1, 1, (clouds, n, 3))
    if kind == "lattice":
        xyz = np.round(xyz * 4) / 4
    elif kind == "duplicates":
        xyz = xyz[:, rng.integers(0, max(1, n // 4), n)]
    elif kind == "one place":
        xyz = np.repeat(xyz[:, :1], n, axis=1)
    elif kind == "far away":
        xyz = xyz + 1e4
    elif kind == "line":
        xyz = xyz * [1, 0, 0]
    elif kind == "outlier":
        xyz[:, n // 2] = 1e6
    elif kind == "tiny":  # squares underflow
        xyz = xyz * 1e-22
    elif kind == "huge":  # squares overflow
        xyz = xyz * 1e25
    return torch.from_numpy(xyz.astype(np.float32))


KINDS = ["uniform", "lattice", "duplicates", "one place", "far away", "line", "outlier", "tiny", "huge"]


def assert_equal_to_reference(kernels, xyz, others, m, radius, nsample):
    """All three ops of a module; others (B, M, 3) are the centres of balls, and unknown and known points in turn."""
    xyz_there, others_there = xyz.to(kernels.DEVICE), others.to(kernels.DEVICE)
    index = kernels.furthest_point_sample(xyz_there, m)
    assert torch.equal(index.cpu(), reference.furthest_point_sample(xyz, m))
    index = kernels.ball_query(radius, nsample, xyz_there, others_there)
    assert torch.equal(index.cpu(), reference.ball_query(radius, nsample, xyz, others))
    for there, here in [((others_there, xyz_there), (others, xyz)), ((xyz_there, others_there), (xyz, others))]:
        distance, index = kernels.three_nn(*there)
        expected_distance, expected_index = reference.three_nn(*here)
        assert torch.equal(index.cpu(), expected_index)
        assert torch.equal(distance.cpu(), expected_distance)
