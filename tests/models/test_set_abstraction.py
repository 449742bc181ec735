import copy

import pytest
import torch

from models.set_abstraction import Scale, SetAbstraction
from models.textbook import set_abstraction_forward
from ops.rows import distinct_points

SCALES = {"ssg": (Scale(0.3, 8, (6, 5)),), "msg": (Scale(0.15, 4, (6, 5)), Scale(0.3, 8, (7, 4, 3)))}


@pytest.mark.parametrize("channels", [0, 4])
@pytest.mark.parametrize("grouping", SCALES)
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_textbook_form(either_form, sum_of_copies, grouping, channels, training):
    torch.manual_seed(0)
    layer = SetAbstraction(channels, SCALES[grouping]).double().train(training)
    xyz = torch.rand(2, 100, 3).double()
    xyz[:, 50:60] = xyz[:, 40:41]  # ten copies of a point
    features = torch.randn(2, 100, channels, dtype=torch.float64)
    features[:, 50:56] = features[:, 40:41]  # six of them the same point altogether
    features.requires_grad_()
    other, centres = copy.deepcopy(layer), xyz[:, 30:50]
    distinct = distinct_points(torch.cat([xyz, features.detach()], 2))
    fast = layer(xyz, distinct.of(features) if channels else None, centres, distinct)  # (B, M, C')
    textbook = set_abstraction_forward(other, xyz, features.transpose(1, 2), centres).transpose(1, 2)
    assert fast.shape == (2, 20, layer.out_channels)
    torch.testing.assert_close(fast, textbook, rtol=1e-10, atol=1e-11)
    upstream = torch.randn(2, layer.out_channels, 20, dtype=torch.float64).transpose(1, 2)
    inputs = [features] if channels else []
    fast_gradients = torch.autograd.grad(fast, [*layer.parameters(), *inputs], upstream)
    gradients = torch.autograd.grad(textbook, [*other.parameters(), *inputs], upstream)
    if channels:  # which of several copies the gradient goes to makes no difference
        fast_gradients, gradients = ([*g[:-1], sum_of_copies(g[-1], distinct)] for g in (fast_gradients, gradients))
    torch.testing.assert_close(fast_gradients, gradients, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("grouping", SCALES)
def test_every_point_may_be_given(either_form, grouping):
    """As the levels behind the first do: their points are few, and all are computed."""
    torch.manual_seed(0)
    layer, xyz, features = SetAbstraction(4, SCALES[grouping]).double(), torch.rand(2, 60, 3), torch.randn(2, 60, 4)
    xyz, features, centres = xyz.double(), features.double(), xyz[:, :9].double()
    expected = set_abstraction_forward(copy.deepcopy(layer), xyz, features.mT, centres).mT
    torch.testing.assert_close(layer(xyz, features, centres), expected, rtol=1e-10, atol=1e-11)


def test_moving_the_cloud_changes_nothing():
    torch.manual_seed(0)
    layer, xyz = SetAbstraction(0, SCALES["ssg"]).eval(), (torch.rand(1, 64, 3) * 64).round() / 64
    centres = xyz[:, :8]
    offset = torch.tensor([16.0, -8.0, 4.0])  # exact in float32, as are the coordinates
    assert torch.equal(layer(xyz, None, centres), layer(xyz + offset, None, centres + offset))
