import ast
import copy
import io
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from models import latentgnn
from models.latentgnn import LAYOUTS, LatentGNN
from models.textbook import latentgnn_affinities, latentgnn_forward, latentgnn_graph

VARIANTS = [
    {},
    {"kernels": 2},
    {"kernels": 3, "weight": "latent"},
    {"kernels": 3, "l2v_norm": "points"},
    {"kernels": 2, "symmetric": True},
    {"symmetric": True, "weight": "latent"},
    {"weight": None, "kernels": 2},
    {"weight": "latent", "l2v_norm": "points"},
    {"norm": None, "kernels": 2},
    {"residual": False, "stride": 2},
    {"kernels": 2, "learned_temperature": True},
    {"kernels": 2, "signed": True},
    {"signed": True, "l2v_norm": "points", "norm": None},
    {"kernels": 2, "symmetric": True, "signed": True, "learned_temperature": True},
]
WAYS = [{}, {"learned_temperature": True, "signed": True}]  # through the layer, which compilers have to follow


def make(channels=16, latent_nodes=6, dtype=torch.float64, scale=0.7, **options):
    """A layer whose every parameter and running statistic matters: none at its initial 0 or 1."""
    torch.manual_seed(0)
    layer = LatentGNN(channels, latent_nodes, **options).to(dtype)
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        if layer.weight_side is not None:
            layer.weight.mul_(30)  # away from the noise
        if layer.scale is not None:
            layer.scale.fill_(scale)
        if layer.logit_scale is not None:
            layer.logit_scale.uniform_(0.5, 1.5)
    return layer


def cloud(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def results(layer, forward, x, upstream):
    """Output, gradients of the input and of every parameter, and the buffers afterwards, of a copy of the layer."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    y = forward(layer, x)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], upstream)
    return [y.detach(), *gradients, *layer.buffers()]


@pytest.mark.parametrize("cached", [0, latentgnn.CACHED], ids=["moments", "batch norm"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_equals_the_textbook_forms(options, dense, training, cached, monkeypatch):
    monkeypatch.setattr(latentgnn, "CACHED", cached)
    layer, x = make(**options).train(training), cloud(2, 40, 16)
    upstream = cloud(2, 16, 40, seed=2).transpose(1, 2)  # a view: torch's 4-D batch norm would get this wrong
    fast = results(layer, lambda layer, x: layer(x), x, upstream)
    textbook = results(layer, lambda layer, x: latentgnn_forward(layer, x, dense=dense), x, upstream)
    torch.testing.assert_close(fast, textbook, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cached", [0, latentgnn.CACHED], ids=["moments", "batch norm"])
def test_float32_is_close_to_float64(cached, monkeypatch):
    monkeypatch.setattr(latentgnn, "CACHED", cached)
    layer, x = make(kernels=2), cloud(2, 500, 16)
    expected, got = layer(x), layer.float()(x.float())
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


def test_input_layout_does_not_change_the_gradient():
    layer, x = make(channels=8, dtype=torch.float32), cloud(2, 300, 8, dtype=torch.float32)
    transposed = x.transpose(1, 2).contiguous().transpose(1, 2)
    upstream = cloud(2, 300, 8, dtype=torch.float32, seed=2)
    rows = results(layer, lambda layer, x: layer(x), x, upstream)
    columns = results(layer, lambda layer, x: layer(x), transposed, upstream.mT.contiguous().mT)
    torch.testing.assert_close(rows, columns, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"kernels": 2, "weight": "latent"}, {"symmetric": True}, WAYS[1]], ids=str)
def test_gradcheck(options):
    layer, x = make(channels=4, latent_nodes=2, stride=2, **options), cloud(2, 4, 4).requires_grad_()
    parameters = dict(layer.named_parameters())

    def function(x, *values):
        return functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters.values()))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 297_084),
        ({"kernels": 3}, 537_324),
        ({"weight": None}, 274_844),
        ({"weight": "latent"}, 297_084),
        ({"kernels": 3, "learned_temperature": True, "signed": True}, 537_324 + 4 * 3),
    ],
)
def test_parameters_of_the_four_layers(options, expected):
    sizes = zip((64, 128, 256, 512), (80, 40, 20, 10), strict=True)
    layers = [LatentGNN(channels, d, **options) for channels, d in sizes]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == expected


def test_fresh_layer_is_the_identity():
    layer, x = LatentGNN(16, 6, kernels=2), cloud(2, 50, 16, dtype=torch.float32).requires_grad_()
    y = layer(x)
    assert torch.equal(y, x)
    y.sum().backward()
    assert layer.scale.grad.abs() > 0
    assert all(not p.grad.any() for name, p in layer.named_parameters() if name != "scale")


@pytest.mark.parametrize("options", [{"kernels": 2}, {"symmetric": True, "signed": True}], ids=str)
def test_a_learned_temperature_starts_as_the_layer_without(options):
    torch.manual_seed(0)
    plain = LatentGNN(16, 6, **options)
    torch.manual_seed(0)
    learned, x = LatentGNN(16, 6, learned_temperature=True, **options), cloud(2, 50, 16, dtype=torch.float32)
    added = learned.state_dict().keys() - plain.state_dict().keys()
    assert added == {"logit_scale"} and not plain.state_dict().keys() - learned.state_dict().keys()
    assert all(torch.equal(value, learned.state_dict()[name]) for name, value in plain.state_dict().items())
    for layer in (plain, learned):
        nn.init.constant_(layer.scale, 0.5)
        layer(x).square().sum().backward()
    assert torch.equal(plain(x), learned(x))
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, learned.get_parameter(name).grad), name
    assert learned.logit_scale.grad.all()


def test_a_signed_layer_has_the_keys_of_one_that_is_not():
    assert LatentGNN(16, 6, signed=True).state_dict().keys() == LatentGNN(16, 6).state_dict().keys()


def test_a_high_factor_of_the_cosines_leaves_each_latent_node_its_own_message():
    layer, x = make(learned_temperature=True, signed=True), cloud(2, 40, 16).transpose(1, 2)
    nn.init.constant_(layer.logit_scale, 10.0)
    x_v2l, psi_v2l, _ = latentgnn_affinities(layer, x)
    f = latentgnn_graph(layer, 0, x_v2l, psi_v2l[:, 0])[1]
    torch.testing.assert_close(f, torch.eye(6, dtype=torch.float64).expand(2, 6, 6))


def test_initial_weight_is_small():
    weight = LatentGNN(512, 10).weight
    assert weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(weight.mean().item()) < 1e-3


@pytest.mark.parametrize("options", [{}, {"kernels": 2, "weight": "latent"}, {"l2v_norm": "points"}], ids=str)
def test_permuting_points_permutes_the_output(options):
    layer, x = make(**options), cloud(2, 60, 16)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 16, 5, 7), (2, 16, 3, 5, 7)])
def test_maps_equal_points(shape):
    layer, maps = make(kernels=2), cloud(*shape)
    points = maps.flatten(2).transpose(1, 2)
    expected = layer(points).transpose(1, 2).reshape(shape)
    torch.testing.assert_close(layer(maps), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(maps.transpose(2, 3)), expected.transpose(2, 3), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_decides_where_as_many_points_as_channels_have_theirs(layout):
    rows, layer, x = make(), make(layout=layout), cloud(2, 16, 16)
    expected = rows(x) if layout == "rows" else rows(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    maps = cloud(2, 16, 5, 7)
    assert torch.equal(make(layout=layout)(maps), make()(maps))


@pytest.mark.parametrize(("layout", "shape"), [("rows", (2, 16, 50)), ("channels_first", (2, 50, 16))])
def test_points_in_another_layout_raise_and_name_it(layout, shape):
    with pytest.raises(ValueError, match=f'layout="{layout}".*{re.escape(str(shape))}'):
        make(layout=layout)(cloud(*shape))


def test_single_point_in_evaluation():
    layer = make().eval()
    assert torch.isfinite(layer(cloud(1, 1, 16))).all()


def test_single_point_in_training_raises():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make().train()(cloud(1, 1, 16))


def test_single_point_without_norm_trains():
    make(norm=None).train()(cloud(1, 1, 16)).sum().backward()


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_equal_and_zero_points_stay_finite(options):
    for x in (torch.zeros(2, 30, 16), torch.ones(2, 30, 16), cloud(2, 1, 16, dtype=torch.float32).expand(-1, 30, -1)):
        layer, x = make(dtype=torch.float32, **options), x.clone().requires_grad_()
        y = layer(x)
        y.sum().backward()
        assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()


def test_copies_scale_the_latent_features_alone():
    """Every point twice: Z grows by the square root of 2, so the output of the points does, when nothing follows it."""
    layer, x = make(weight=None, norm=None, residual=False), cloud(1, 30, 16)
    torch.testing.assert_close(layer(torch.cat([x, x], 1))[:, :30], layer(x) * 2**0.5, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32(dtype, options):
    layer = make(dtype=torch.float32, **options)
    x = cloud(2, 200, 16, dtype=torch.float32) * 1e-3  # squares below float16's range
    expected = copy.deepcopy(layer)(x)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(copy.deepcopy(layer)(x), expected)
        half = x.to(dtype).requires_grad_()
        y = layer(half)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), layer(half.float()).to(dtype).float())
    y.float().sum().backward()
    assert torch.isfinite(half.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_computed_with_in_float32(dtype, training, options):
    half = make(kernels=2, dtype=dtype, **options).train(training)
    x = cloud(2, 40, 16, dtype=dtype).requires_grad_()
    wide, calls = copy.deepcopy(half).float(), []
    half.register_forward_hook(lambda layer, inputs, output: calls.append(output.dtype))
    y, expected = half(x), wide(x.detach().float())
    assert torch.equal(y, expected.to(dtype)) and calls == [dtype]
    y.sum().backward()
    expected.to(dtype).sum().backward()
    assert torch.isfinite(x.grad).all()
    for (name, ours), theirs in zip(half.named_parameters(), wide.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad.to(dtype)), name
    for (name, ours), theirs in zip(half.named_buffers(), wide.buffers(), strict=True):
        assert torch.equal(ours, theirs.to(ours.dtype)), name


@pytest.mark.parametrize(
    ("weights", "points"),
    [("float32", "float64"), ("float64", "float32"), ("bfloat16", "float32"), ("float16", "bfloat16")],
)
def test_points_of_another_dtype_raise_and_name_both(weights, points):
    with pytest.raises(ValueError, match=f"LatentGNN.*torch.{points}.*torch.{weights}"):
        make(dtype=getattr(torch, weights)).eval()(cloud(2, 40, 16, dtype=getattr(torch, points)))


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiles_without_graph_breaks(dtype, options):
    layer, x = make(kernels=2, dtype=dtype, **options).eval(), cloud(2, 40, 16, dtype=dtype)
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_trace_is_the_layer(dtype, options):
    layer, x, file = make(kernels=2, dtype=dtype, **options).eval(), cloud(2, 40, 16, dtype=dtype), io.BytesIO()
    torch.jit.save(torch.jit.trace(layer, x), file)
    file.seek(0)
    assert torch.equal(torch.jit.load(file)(x), layer(x))


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_exports_with_any_number_of_clouds_and_points(options):
    layer, (B, N) = make(dtype=torch.float32, **options).eval(), map(torch.export.Dim, "BN")
    exported = torch.export.export(layer, (cloud(2, 40, 16).float(),), dynamic_shapes=({0: B, 1: N},)).module()
    x = cloud(3, 70, 16).float()
    torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_gradients_of_each_cloud_by_torch_func(options):
    """In evaluation mode, or without batch norm; the second cloud is of equal points."""
    layer, x = make(**options).train(options.get("norm", nn.BatchNorm1d) is None), cloud(3, 20, 16)
    x[1] = x[1, :1]
    parameters = dict(layer.named_parameters())

    def loss(parameters, points):
        return functional_call(layer, parameters, (points[None],)).square().sum()

    gradients = vmap(grad(loss), (None, 0))(parameters, x)
    for i, points in enumerate(x):
        expected = torch.autograd.grad(loss(parameters, points), list(parameters.values()))
        got = tuple(gradient[i] for gradient in gradients.values())
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_torch_func_keeps_the_gradient_of_zeros_finite(options):
    layer = make(norm=None, **options)
    assert torch.isfinite(grad(lambda x: layer(x).sum())(torch.zeros(2, 30, 16, dtype=torch.float64))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 30}, "multiple of stride"),
        ({"channels": 0}, "multiple of stride"),
        ({"latent_nodes": 0}, "latent_nodes must be at least 1"),
        ({"kernels": 0}, "kernels must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"l2v_norm": "channels"}, "l2v_norm must be one of"),
        ({"weight": "both"}, "weight must be one of"),
        ({"symmetric": True, "l2v_norm": "points"}, "symmetric"),
        ({"layout": "columns"}, "layout must be one of"),
    ],
)
def test_bad_options_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentGNN(**{"channels": 16, "latent_nodes": 4, **arguments})


@pytest.mark.parametrize("shape", [(2, 16), (2, 50, 12), (2, 12, 16, 16), (2, 16, 2, 2, 2, 2)])
def test_bad_shapes_raise(shape):
    with pytest.raises(ValueError, match="LatentGNN"):
        make()(cloud(*shape))


def test_needs_nothing_but_torch():
    tree = ast.parse(Path(latentgnn.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"torch"}
