"""What every context layer has in common, beside what is special to it: its start, layouts, precision, bad input."""

import copy

import pytest
import torch
from drawn import cloud, drawn

from models.context import CONTEXTS, has_option

LAYERS = [name for name in CONTEXTS if name != "none"]
OF_NODES = [name for name in LAYERS if has_option(name, "latent_nodes")]


def make(name, channels=16, **options):
    nodes = {"latent_nodes": 3} if name in OF_NODES else {}
    return CONTEXTS[name](channels, **{**nodes, **options}).eval()


@pytest.fixture
def x():
    return cloud(2, 12, 16).float()


@pytest.mark.parametrize("name", LAYERS)
def test_starts_as_the_identity(name, x):
    assert torch.equal(make(name).train()(x), x)


@pytest.mark.parametrize("name", LAYERS)
def test_layouts_maps_and_volumes_agree(name, x):
    rows = drawn(make(name))(x)
    assert not torch.equal(rows, x)
    torch.testing.assert_close(drawn(make(name, layout="channels_first"))(x.mT).mT, rows)
    for shape in ((3, 4), (2, 3, 2)):
        torch.testing.assert_close(drawn(make(name))(x.mT.unflatten(2, shape)), rows.mT.unflatten(2, shape))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(name, dtype, x):
    layer = drawn(make(name)).to(dtype)
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    assert torch.equal(y, copy.deepcopy(layer).float()(x.to(dtype).float()).to(dtype))


@pytest.mark.parametrize("name", LAYERS)
def test_bad_input_is_named(name, x):
    layer = make(name)
    with pytest.raises(ValueError, match=f"{type(layer).__name__} takes points"):
        layer(x[..., :3])
    with pytest.raises(ValueError, match=f"{type(layer).__name__}.*float64.*float32"):
        layer(x.double())
    with pytest.raises(ValueError, match=f"{type(layer).__name__}: layout must be one of"):
        make(name, layout="columns")


@pytest.mark.parametrize("name", OF_NODES)
def test_bad_sizes_are_named(name):
    with pytest.raises(ValueError, match="latent_?nodes? .*0"):
        make(name, latent_nodes=0)
    with pytest.raises(ValueError, match="channels.*18.*stride.*4"):
        make(name, channels=18)
