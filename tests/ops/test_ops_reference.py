"""The reference against loops over single points, and against cases worked out by hand."""

import numpy as np
import pytest
import torch

from ops import reference


def room(seed, n, lattice=False, clouds=1):
    """(clouds, n, 3) float32; on a lattice of 0.25 m most distances have equals."""
    xyz = np.random.default_rng(seed).uniform(0, 2, (clouds, n, 3)).astype(np.float32)
    return torch.from_numpy(np.round(xyz * 4) / 4 if lattice else xyz)


def squared_distances(a, b):
    """(len(a), len(b)) float32, one rounding at a time."""
    dx, dy, dz = (a[:, None, k] - b[None, :, k] for k in range(3))
    return (dx * dx + dy * dy) + dz * dz


@pytest.mark.parametrize("lattice", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_every_op_against_plain_loops(n, lattice):
    clouds, others = room(n, n, lattice, clouds=2), room(n + 1, 7, lattice, clouds=2)
    m, radius, nsample = min(n, 9), 0.5, 4
    sampled = reference.furthest_point_sample(clouds, m)
    balls = reference.ball_query(radius, nsample, clouds, others)
    distance, nearest = reference.three_nn(others, clouds)
    for b in range(2):
        xyz, centres = clouds[b].numpy(), others[b].numpy()
        between = squared_distances(xyz, xyz)
        chosen = [0]
        while len(chosen) < m:
            remaining = between[chosen].min(axis=0)
            chosen.append(min(i for i in range(n) if remaining[i] == remaining.max()))
        assert sampled[b].tolist() == chosen

        to_centres = squared_distances(centres, xyz)
        for j in range(len(centres)):
            inside = [i for i in range(n) if to_centres[j, i] < np.float32(radius) * np.float32(radius)][:nsample]
            assert balls[b, j].tolist() == inside + [inside[0] if inside else 0] * (nsample - len(inside))
            ranked = sorted(range(n), key=lambda i: (to_centres[j, i], i))[:3]
            assert nearest[b, j].tolist() == ranked + [0] * (3 - len(ranked))
            assert distance[b, j].tolist() == [float(to_centres[j, i]) for i in ranked] + [np.inf] * (3 - len(ranked))


def test_furthest_point_sample_takes_the_lower_of_equals_and_repeats_0_when_all_are_taken():
    square = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]], dtype=torch.float32)
    assert reference.furthest_point_sample(square, 6).tolist() == [[0, 3, 1, 2, 0, 0]]


def test_furthest_point_sample_is_nested():
    xyz = room(5, 200, clouds=1)
    order = reference.furthest_point_sample(xyz, 64)
    reordered = xyz[:, order[0]]
    assert reference.furthest_point_sample(reordered, 16).tolist() == [list(range(16))]


def test_furthest_point_sample_skips_no_point_near_the_origin():
    xyz = torch.tensor([[[0, 0, 0], [0.001, 0, 0], [0, 0.002, 0]]])
    assert reference.furthest_point_sample(xyz, 3).tolist() == [[0, 2, 1]]


def test_ball_query_leaves_the_sphere_itself_out_and_squares_the_radius_in_float32():
    centre = torch.zeros(1, 1, 3)
    on_the_sphere = torch.tensor([[[0.1, 0, 0], [np.nextafter(np.float32(0.1), np.float32(0)), 0, 0]]])
    assert reference.ball_query(0.1, 2, on_the_sphere, centre).tolist() == [[[1, 1]]]


def test_interpolation_and_grouping_against_indexing():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 6, 5, generator=generator)
    index = torch.randint(6, (2, 4, 3), generator=generator)
    weight = torch.rand(2, 4, 3, generator=generator)
    grouped = torch.stack([rows[i] for rows, i in zip(features, index, strict=True)])  # (B, N, 3, C)
    assert torch.equal(reference.group_points(features, index), grouped)
    expected = (grouped.double() * weight[..., None].double()).sum(dim=2)
    torch.testing.assert_close(reference.three_interpolate(features, index, weight).double(), expected)
