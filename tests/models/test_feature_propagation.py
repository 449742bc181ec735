import copy

import pytest
import torch

from models.feature_propagation import FeaturePropagation, inverse_distance_weights
from models.textbook import feature_propagation_forward
from ops.rows import distinct_points


@pytest.mark.parametrize("skip_channels", [0, 4])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_textbook_form(either_form, sum_of_copies, skip_channels, training):
    torch.manual_seed(0)
    layer = FeaturePropagation(6, skip_channels, (8, 5)).double().train(training)
    xyz, coarse_xyz = torch.rand(2, 50, 3), torch.rand(2, 9, 3)
    xyz[:, :9] = coarse_xyz  # distance 0
    xyz[:, 30:40] = xyz[:, 20:21]  # ten copies of a point
    skip = torch.randn(2, 50, skip_channels, dtype=torch.float64)
    skip[:, 30:36] = skip[:, 20:21]  # six of them the same point altogether
    skip.requires_grad_()
    coarse = torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
    other = copy.deepcopy(layer)
    distinct = distinct_points(torch.cat([xyz.double(), skip.detach()], 2))
    rows = distinct.of(skip) if skip_channels else None
    fast = layer(xyz, coarse_xyz, rows, coarse, distinct)[distinct.inverse]
    textbook = feature_propagation_forward(other, xyz, coarse_xyz, skip.transpose(1, 2), coarse.transpose(1, 2))
    # interpolation weights are float32 in both forms and sum to 1 only within its rounding, in both alike
    torch.testing.assert_close(fast, textbook.transpose(1, 2), rtol=1e-10, atol=1e-11)
    upstream = torch.randn(2, 5, 50, dtype=torch.float64).transpose(1, 2)
    inputs = [coarse, skip] if skip_channels else [coarse]
    fast_gradients = torch.autograd.grad(fast, [*layer.parameters(), *inputs], upstream)
    gradients = torch.autograd.grad(textbook.transpose(1, 2), [*other.parameters(), *inputs], upstream)
    if skip_channels:  # which of several copies the gradient goes to makes no difference
        fast_gradients, gradients = ([*g[:-1], sum_of_copies(g[-1], distinct)] for g in (fast_gradients, gradients))
    torch.testing.assert_close(fast_gradients, gradients, rtol=1e-8, atol=1e-9)


def test_every_point_may_be_given(either_form):
    torch.manual_seed(0)
    layer, xyz, coarse_xyz = FeaturePropagation(6, 4, (8, 5)).double(), torch.rand(2, 50, 3), torch.rand(2, 9, 3)
    skip, coarse = torch.randn(2, 50, 4).double(), torch.randn(2, 9, 6).double()
    expected = feature_propagation_forward(copy.deepcopy(layer), xyz, coarse_xyz, skip.mT, coarse.mT).mT
    torch.testing.assert_close(layer(xyz, coarse_xyz, skip, coarse), expected, rtol=1e-10, atol=1e-11)


def test_weights_are_inverse_squared_distances():
    coarse_xyz = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [9, 0, 0]]])
    xyz = torch.tensor([[[2.0, 0, 0], [1, 0, 0]]])
    index, weight = inverse_distance_weights(xyz, coarse_xyz)
    assert index.tolist() == [[[1, 2, 0], [1, 0, 2]]]
    torch.testing.assert_close(weight[0, 0], torch.tensor([4 / 9, 4 / 9, 1 / 9]))
    torch.testing.assert_close(weight[0, 1], torch.tensor([1.0, 1e-10, 0.25e-10]))  # d = 0 counts as 1e-5 m


def test_weights_of_copies_are_equal():
    _, weight = inverse_distance_weights(torch.ones(1, 2, 3), torch.ones(1, 4, 3))
    torch.testing.assert_close(weight, torch.full((1, 2, 3), 1 / 3))
