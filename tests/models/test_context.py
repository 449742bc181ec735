import copy

import pytest
import torch
from torch import nn

from models import textbook
from models.context import CONTEXTS, build_context
from models.mask_rcnn import MaskRCNNConfig, context_layers
from models.pointnet2 import PointNet2, PointNet2Config, build, options_of
from scripts import complexity
from training import checkpoint

CHANNELS = (64, 128, 256, 512)  # behind sa1 to sa4


class MeanFeature(nn.Module):
    """Adds to each point some maps of the mean feature."""

    def __init__(self, channels: int, kernels: int = 1):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(channels, channels) for _ in range(kernels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, N, C)"""
        mean = x.mean(1, keepdim=True)
        return x + sum(linear(mean) for linear in self.maps)


@pytest.fixture
def config(few_centres, monkeypatch):
    monkeypatch.setitem(CONTEXTS, "mean", MeanFeature)
    return PointNet2Config(21, context="mean", kernels=2)


@pytest.fixture
def points():
    return torch.rand(2, 150, 3, generator=torch.Generator().manual_seed(0))


def train_a_step(model, optimizer, points):
    torch.manual_seed(1)  # dropout
    loss = nn.functional.cross_entropy(model.train()(points).flatten(0, 1), torch.arange(300) % 21)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_a_layer_of_ones_own_is_trained_saved_resumed_and_published(config, points, tmp_path):
    model = build(config, 0)
    before, optimizer = copy.deepcopy(model.context4), torch.optim.Adam(model.parameters(), lr=1e-3)
    train_a_step(model, optimizer, points)
    assert all((p != q).any() for p, q in zip(model.context4.parameters(), before.parameters(), strict=True))

    checkpoint.save(tmp_path / checkpoint.LAST, model, config={}, optimizer=optimizer.state_dict())
    _, state, _ = checkpoint.read_newest(tmp_path)
    resumed = PointNet2(PointNet2Config(**state["model_config"]))
    resumed.load_state_dict(state["model"])
    optimizer_of_resumed = torch.optim.Adam(resumed.parameters(), lr=1e-3)
    optimizer_of_resumed.load_state_dict(state["optimizer"])
    train_a_step(model, optimizer, points)
    train_a_step(resumed, optimizer_of_resumed, points)
    assert checkpoint.weights_sha256(resumed) == checkpoint.weights_sha256(model)

    checkpoint.export(tmp_path / "export", model)
    published = checkpoint.load(tmp_path / "export")
    assert published.config == config and torch.equal(published(points), model.eval()(points))


def test_a_layer_of_ones_own_is_counted(config):
    counted, plain = complexity.count(config, points=200), complexity.count(PointNet2Config(21), points=200)
    assert counted["parameters"] - plain["parameters"] == sum(2 * (c * c + c) for c in CHANNELS)
    assert counted["conv_macs"] - plain["conv_macs"] == sum(2 * c * c for c in CHANNELS)  # of one mean
    assert counted["product_macs"] == plain["product_macs"]


def test_a_layer_of_ones_own_is_in_the_textbook_network(config, points):
    model = build(config, 0).double().eval()
    logits = model(points.double())
    torch.testing.assert_close(textbook.pointnet2_forward(model, points.double()), logits, rtol=1e-9, atol=1e-9)
    for parameter in model.context1.parameters():
        nn.init.zeros_(parameter)
    assert (model(points.double()) - logits).abs().max() > 1e-3


def test_options_are_the_fields_that_the_constructor_names(config):
    assert options_of("mean") == ("kernels",)
    assert [len(build(config, 0).get_submodule(f"context{level}").maps) for level in (1, 2, 3, 4)] == [2] * 4
    assert len(build_context(config, 8, kernels=5, stride=3).maps) == 5


def test_mask_rcnn_takes_layers_from_the_same_table(config):
    layers = context_layers(MaskRCNNConfig(context="mean", stages=(3, 4), kernels=3))
    assert [(path, type(layer), len(layer.maps)) for path, layer in layers.items()] == [
        ("backbone.body.layer2", MeanFeature, 3),
        ("backbone.body.layer3", MeanFeature, 3),
    ]
    assert not context_layers(MaskRCNNConfig(context="none"))


def test_an_option_that_the_configuration_does_not_have_is_named(monkeypatch):
    class Heads(nn.Module):
        def __init__(self, channels, heads):
            super().__init__()

    monkeypatch.setitem(CONTEXTS, "heads", Heads)
    with pytest.raises(ValueError, match="'heads' cannot be made.*heads"):
        PointNet2(PointNet2Config(21, context="heads"))


def test_a_layer_may_take_the_radii_and_they_stay_an_option_of_every_network(monkeypatch):
    class OfRadii(nn.Identity):
        def __init__(self, channels, radii):
            super().__init__()
            self.radii = radii

    monkeypatch.setitem(CONTEXTS, "of_radii", OfRadii)
    assert PointNet2(PointNet2Config(21, context="of_radii")).context1.radii == (0.1, 0.2, 0.4, 0.8)
    assert "radii" not in options_of("of_radii")
