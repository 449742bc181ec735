"""models/row_context.py: what all layers on rows have in common: start, layouts, precision, export, bad input."""

import copy
import io

import pytest
import torch
from drawn import cloud, drawn
from torch.export import Dim

from models.context import CONTEXTS, has_option
from models.row_context import RowContext

LAYERS = [name for name, layer in CONTEXTS.items() if issubclass(layer, RowContext)]
OF_NODES = [name for name in LAYERS if has_option(name, "latent_nodes")]


def make(name, channels=16, **options):
    nodes = {"latent_nodes": 3} if name in OF_NODES else {}
    return CONTEXTS[name](channels, **{**nodes, **options}).eval()


@pytest.fixture
def x():
    return cloud(2, 12, 16).float()


def test_there_are_four():
    assert LAYERS == ["mean_feature", "non_local", "double_attention", "induced_points"]


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
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_exports_and_traces_with_any_number_of_clouds_and_points(name, x):
    layer, file = drawn(make(name)), io.BytesIO()
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: Dim("B"), 1: Dim("N")},)).module()
    torch.jit.save(torch.jit.trace(layer, x), file)
    file.seek(0)
    traced = torch.jit.load(file)
    for shape in ((2, 12, 16), (3, 40, 16), (1, 5, 16)):
        other = cloud(*shape).float()
        for form in (exported, traced):
            torch.testing.assert_close(form(other), layer(other))


@pytest.mark.parametrize("name", LAYERS)
def test_bad_input_is_named(name, x):
    layer = make(name)
    with pytest.raises(ValueError, match=f"{type(layer).__name__} takes points"):
        layer(x[..., :3])
    with pytest.raises(ValueError, match=f"{type(layer).__name__}.*float64.*float32"):
        layer(x.double())
    with pytest.raises(ValueError, match=f"{type(layer).__name__}: layout must be one of"):
        make(name, layout="columns")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {"latent_nodes": 0}, "latent_nodes must be at least 1, got 0") for name in OF_NODES),
        *((name, {"stride": 0}, "stride must be at least 1, got 0") for name in OF_NODES),
        ("double_attention", {"channels": 18}, r"channels \(18\) must be a positive multiple of 4"),
        ("double_attention", {"channels": 0}, r"channels \(0\) must be a positive multiple of 4"),
        ("induced_points", {"channels": 8}, r"channels \(8\) must be a positive multiple of 16"),
    ],
)
def test_bad_sizes_are_named(name, options, message):
    with pytest.raises(ValueError, match=f"{CONTEXTS[name].__name__}: {message}"):
        make(name, **options)
