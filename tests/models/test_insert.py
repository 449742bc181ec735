import copy
import pickle
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from models.insert import insert_context
from models.latentgnn import LatentGNN

PATHS = {"sequential": "body.layer1", "with a forward of its own": "body.layer2", "plain": "body.layer2.conv"}


class Block(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x))


class OwnForward(nn.Sequential):
    def __init__(self, channels_in, channels_out):
        super().__init__(OrderedDict(conv=nn.Conv2d(channels_in, channels_out, 1)))

    def forward(self, x):
        return torch.tanh(self.conv(x))


class Network(nn.Module):
    """A small network shaped like a detector's backbone: stages as nn.Sequential and not."""

    def __init__(self, channels=8):
        super().__init__()
        self.body = nn.ModuleDict(
            {"layer1": nn.Sequential(Block(3, channels), nn.BatchNorm2d(channels)), "layer2": OwnForward(channels, 8)}
        )
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        x = self.body["layer2"](self.body["layer1"](images))
        return self.head(x.mean((2, 3)))


def network(seed=0):
    torch.manual_seed(seed)
    return Network()


def layer(scale=0.0):
    block = LatentGNN(8, latent_nodes=3, stride=2, norm=None)
    nn.init.constant_(block.scale, scale)
    return block


def with_context(*paths, scale=0.7):
    model = network()
    insert_context(model, {path: layer(scale) for path in paths})
    return model


IMAGES = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))
each_stage = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


@each_stage
def test_a_fresh_layer_changes_nothing_and_keeps_every_key(path):
    plain, model = network(), with_context(path, scale=0.0)
    assert torch.equal(model(IMAGES), plain(IMAGES))
    old, new = plain.state_dict(), model.state_dict()
    assert all(torch.equal(new[key], old[key]) for key in old)
    added = new.keys() - old.keys()
    assert added == {f"{path}.context.{key}" for key in layer().state_dict()}
    missing, unexpected = model.load_state_dict(network(seed=1).state_dict(), strict=False)
    assert set(missing) == added and not unexpected


@each_stage
def test_the_output_of_the_stage_goes_through_the_layer(path):
    model, seen = with_context(path), []
    block = model.get_submodule(path).context
    block.register_forward_hook(lambda block, inputs, output: seen.append((inputs[0], output)))
    outputs = []
    model.get_submodule(path).register_forward_hook(lambda stage, inputs, output: outputs.append(output))
    model(IMAGES)
    (given, made), (output,) = seen[0], outputs
    assert len(seen) == 1 and output is made and not torch.equal(made, given)
    torch.testing.assert_close(made, block(given))


def test_several_layers_at_once():
    model = with_context(*PATHS.values())
    assert sum(isinstance(module, LatentGNN) for module in model.modules()) == 3
    assert not torch.equal(model(IMAGES), with_context(PATHS["sequential"])(IMAGES))


def test_a_sequential_with_named_children_loses_none():
    model = nn.Sequential(OrderedDict([("1", nn.Conv2d(3, 8, 1)), ("2", nn.ReLU())]))
    insert_context(model, {"": layer()})
    assert list(model._modules) == ["1", "2", "context"]


def test_the_layer_takes_the_mode_of_its_stage():
    model = network().eval()
    insert_context(model, {PATHS["sequential"]: layer()})
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("body.layer9", "'body.layer9' is no module of the Network: .*layer9.*named_modules"),
        ("body.layer1.0.conv.weight", "is no module of the Network"),
        ("body.layer2.conv", "'body.layer2.conv' .Conv2d. already has something called 'context'"),
        ("head.alias", "'head.alias' .Sequential. already has"),
    ],
)
def test_a_wrong_path_or_a_second_layer_raises_before_anything_changes(wrong, message):
    model = with_context("body.layer2.conv")
    model.head.alias = model.body["layer1"]  # one module, two paths
    keys, expected = list(model.state_dict()), model(IMAGES)
    with pytest.raises(ValueError, match=message):
        insert_context(model, {"body.layer1": layer(0.7), wrong: layer(0.7)})
    assert list(model.state_dict()) == keys and torch.equal(model(IMAGES), expected)
    insert_context(model, {"body.layer1": layer(0.7)})  # the right one still can be


class TwoOutputs(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.container = container

    def forward(self, x):
        return self.container({"out": x, "aux": x})


@pytest.mark.parametrize("container", [dict, tuple])
@pytest.mark.parametrize("path", ["1", "1.0"], ids=["sequential", "plain"])
def test_a_stage_that_returns_no_single_tensor_is_named(path, container):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(TwoOutputs(container)))
    insert_context(model, {path: layer(0.7)})
    with pytest.raises(ValueError, match=f"'{path}' returned a {container.__name__}, .*LatentGNN.*give the path"):
        model(IMAGES)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copied_network_uses_its_own_layers(copied):
    model = with_context(*PATHS.values())
    twin = copied(model)
    assert torch.equal(twin(IMAGES), model(IMAGES))
    before = model(IMAGES)
    with torch.no_grad():
        for path in PATHS.values():
            twin.get_submodule(path).context.scale.fill_(5)
    assert torch.equal(model(IMAGES), before)
    for path in PATHS.values():
        model.get_submodule(path).context.scale.data.fill_(5)
    assert torch.equal(twin(IMAGES), model(IMAGES))


@pytest.mark.parametrize("scale", [0.0, 0.7])
def test_compiles_without_graph_breaks(scale):
    model = with_context(*PATHS.values(), scale=scale)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), model(IMAGES))


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_distributed_training_finds_no_unused_parameters(process_group):
    model = DistributedDataParallel(with_context(*PATHS.values(), scale=0.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the second step raises if a parameter had no gradient in the first
        optimizer.zero_grad()
        model(IMAGES).square().sum().backward()
        optimizer.step()
    assert all(model.module.get_submodule(path).context.scale.item() != 0 for path in PATHS.values())
    model.module.get_submodule(PATHS["plain"])._forward_hooks.clear()  # as if the layer were never called:
    with pytest.raises(RuntimeError, match="did not receive grad"):
        for _ in range(2):
            model(IMAGES).sum().backward()


@pytest.mark.parametrize(
    ("stage", "channels", "latent_nodes", "expected"),
    [("layer2", 512, 150, 59_777), ("layer3", 1024, 100, 213_505), ("layer4", 2048, 50, 815_617)],
)
def test_parameters_added_to_a_resnet(stage, channels, latent_nodes, expected):
    """Counts of the paper's Table 1: stride 16, asymmetric, with W, without norm; nothing is allocated."""
    with torch.device("meta"):
        model = nn.ModuleDict({stage: nn.Sequential(nn.Conv2d(3, channels, 1))})
        before = sum(p.numel() for p in model.parameters())
        insert_context(model, {stage: LatentGNN(channels, latent_nodes, stride=16, norm=None)})
        maps = model[stage](torch.empty(2, 3, 50, 72))
    assert maps.shape == (2, channels, 50, 72) and maps.device.type == "meta"
    assert sum(p.numel() for p in model.parameters()) - before == expected
