import copy
import dataclasses
import io
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.func import functional_call, grad

import ops
from models import pointnet2, textbook
from models.batch_norm import set_batch_norm_momentum
from models.context import CONTEXTS
from models.pointnet2 import PointNet2, PointNet2Config, build

VARIANTS = [
    {},
    {"grouping": "msg", "extra_channels": 3},
    {"context": "non_local"},
    {"context": "latentgnn"},
    {"context": "latentgnn", "kernels": 3, "weight": "latent", "extra_channels": 1},
]
LEVELS = ((64, 80), (128, 40), (256, 20), (512, 10))  # C and d of the context layers
tracing = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def make(seed=0, **options):
    """A network without dropout whose context layers are not at the identity."""
    model = build(PointNet2Config(21, **options), seed)
    model.dropout.p = 0.0
    for name, parameter in model.named_parameters():
        if name.endswith(".scale") or (parameter == 0).all() and name.endswith("weight"):
            nn.init.constant_(parameter, 0.5)
    return model


def room(clouds, points, extra=0, seed=0):
    """Points on the sides of a 1.5 x 1.5 x 2.5 m box, a tenth of them copies of point 0, with random features."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(clouds, points, 3, generator=generator)
    side = torch.randint(3, (clouds, points, 1), generator=generator)
    xyz = xyz.scatter(2, side, 0.0) * torch.tensor([1.5, 1.5, 2.5]) - torch.tensor([2.0, 0.5, 0.0])
    copies = torch.rand(clouds, points, 1, generator=generator) < 0.1
    return torch.cat([torch.where(copies, xyz[:, :1], xyz), torch.randn(clouds, points, extra, generator=generator)], 2)


def results(model, forward, points, upstream):
    """Logits, gradients of all parameters and running statistics of a copy of the model."""
    model = copy.deepcopy(model)
    logits = forward(model, points)
    gradients = torch.autograd.grad(logits, list(model.parameters()), upstream)
    return {
        "logits": logits.detach(),
        "gradients": torch.cat([gradient.flatten() for gradient in gradients]),
        "buffers": torch.cat([buffer.flatten().double() for buffer in model.buffers()]),
    }


def relative_error(got, expected):
    return ((got.double() - expected).norm() / expected.norm()).item()


def compare(model, points):
    """Errors of the production form and of the textbook form, in float32, against the textbook form in float64."""
    upstream = torch.randn(*points.shape[:2], model.config.num_classes, generator=torch.Generator().manual_seed(1))
    double = copy.deepcopy(model).double()
    exact = results(double, textbook.pointnet2_forward, points.double(), upstream.double())
    runs = [results(model, form, points, upstream) for form in (PointNet2.__call__, textbook.pointnet2_forward)]
    return [{key: relative_error(run[key], exact[key]) for key in exact} for run in runs]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_equals_the_textbook_network(few_centres, either_form, options, training):
    model = make(**options).double().train(training)
    points = room(2, 150, model.config.extra_channels).double()
    upstream = torch.randn(2, 21, 150, generator=torch.Generator().manual_seed(1), dtype=torch.float64).mT
    expected = results(model, textbook.pointnet2_forward, points, upstream)
    for key, got in results(model, PointNet2.__call__, points, upstream).items():
        assert relative_error(got, expected[key]) < 1e-9, key


def test_full_size_float32_is_as_accurate_as_the_textbook_network():
    model = make(context="latentgnn").eval()
    production, textbook = compare(model, room(1, 1500))
    assert production["logits"] < max(1e-5, 3 * textbook["logits"])
    # a ReLU or a maximum that falls the other way changes a gradient as a whole, in either form
    assert production["gradients"] < max(1e-4, 3 * textbook["gradients"])


def test_float32_training_step_is_close(few_centres):
    production, textbook = compare(make(context="latentgnn"), room(4, 200))
    assert production["logits"] < max(1e-4, 3 * textbook["logits"])
    assert production["buffers"] < max(1e-5, 3 * textbook["buffers"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 965_173),
        ({"context": "non_local"}, 965_173 + 698_240),
        ({"context": "mean_feature"}, 965_173 + 64**2 + 128**2 + 256**2 + 512**2),
        ({"context": "double_attention"}, 965_173 + sum(C * C // 2 + C // 4 + 2 * d * (C + 1) for C, d in LEVELS)),
        ({"context": "induced_points"}, 965_173 + sum(21 * C * C // 16 + (8 + d) * C // 4 for C, d in LEVELS)),
        ({"context": "latentgnn"}, 965_173 + 297_084),
        ({"context": "latentgnn", "kernels": 3}, 965_173 + 537_324),
        ({"extra_channels": 3}, 965_173 + 3 * 32 + 3 * 128),
    ],
)
def test_parameters(options, expected):
    assert sum(p.numel() for p in build(PointNet2Config(21, **options), 0).parameters()) == expected


@pytest.mark.parametrize("context", CONTEXTS)
def test_fresh_context_layers_change_nothing(few_centres, context):
    plain, points = build(PointNet2Config(21), 0).eval(), room(2, 150)
    model = build(PointNet2Config(21, context=context), 1)
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("context") for name in missing)
    assert torch.equal(model.eval()(points), plain(points))


def test_levels_of_the_original_network():
    assert pointnet2.CENTRES == (1024, 256, 64, 16)
    for level, radius in enumerate((0.1, 0.2, 0.4, 0.8)):
        ssg, msg = (
            build(PointNet2Config(21, grouping=g), 0).get_submodule(f"sa{level + 1}").scales for g in ("ssg", "msg")
        )
        assert [(s.radius, s.neighbours) for s in ssg] == [(radius, 32)]
        assert [(s.radius, s.neighbours) for s in msg] == [(radius / 2, 16), (radius, 32)]


def test_msg_levels(few_centres):
    model = make(grouping="msg")
    assert [sa.out_channels for sa in (model.sa1, model.sa2, model.sa3, model.sa4)] == [96, 256, 512, 1024]
    assert model(room(2, 100)).shape == (2, 100, 21)


def test_normalisation_of_each_part():
    model = make(context="latentgnn")
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)}
    for name, module in norms.items():
        assert module.eps == (1e-5 if name.startswith("context") else 1e-3), name
    set_batch_norm_momentum(model, 0.5)
    assert {module.momentum for module in norms.values()} == {0.5}
    assert not model.classifier.bias.any()


@pytest.mark.parametrize("points", [1, 2, 5, 200])
def test_fewer_points_than_centres(points):
    """As if the points were drawn with replacement: centres that repeat change nothing but the latent graph."""
    model, cloud = make().eval(), room(1, points)
    with torch.no_grad():
        logits = model(cloud)
        assert torch.isfinite(logits).all()
        torch.testing.assert_close(model(torch.cat([cloud, cloud], 1))[:, :points], logits, rtol=1e-3, atol=1e-3)
        assert torch.isfinite(make(context="latentgnn").eval()(cloud)).all()


def test_order_of_points_does_not_matter():
    """To a set abstraction whose balls hold fewer points than it takes."""
    wide = (pointnet2.Scale(0.1, 200, (8,)), pointnet2.Scale(0.5, 200, (8,)))
    torch.manual_seed(0)
    layer = pointnet2.SetAbstraction(0, wide).eval()
    xyz = room(1, 200)
    order = torch.randperm(200)
    shuffled = layer(xyz[:, order], None, xyz[:, :9])
    torch.testing.assert_close(shuffled, layer(xyz, None, xyz[:, :9]))


def test_clouds_are_independent_in_evaluation(few_centres):
    model, points = make(context="latentgnn", kernels=2).eval(), room(3, 100)
    torch.testing.assert_close(model(points)[1:2], model(points[1:2]), rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only(few_centres):
    model, points = build(PointNet2Config(21), 0), room(2, 100)
    assert model.dropout.p == 0.5
    assert not torch.equal(copy.deepcopy(model)(points), copy.deepcopy(model)(points))
    model.eval()
    assert torch.equal(model(points), model(points))


@pytest.mark.parametrize("context", ["latentgnn", "non_local"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.03), (torch.float16, 0.01)])
def test_autocast_trains(few_centres, dtype, bound, context):
    model, points = make(context=context), room(2, 150)
    with torch.autocast("cpu", dtype=dtype):
        loss = model(points).float().square().mean()
    (loss / 64).backward()  # float16 overflows at 65504: gradients are scaled, as a GradScaler would
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    model.eval()  # in training mode fresh batch norms magnify rounding a thousand times
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        logits = model(points)
    assert relative_error(logits, model(points).double()) < bound


def test_compiles_without_graph_breaks(few_centres):
    model, points = make(context="latentgnn"), room(2, 100)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(points).sum().backward()
    model.eval()  # in training mode fresh batch norms magnify rounding a thousand times
    torch.testing.assert_close(compiled(points), model(points), rtol=1e-4, atol=1e-5)


@tracing
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_saved_trace_is_the_network(few_centres, options, dtype):
    model, file = make(**options).eval().to(dtype), io.BytesIO()
    points = room(2, 100, model.config.extra_channels).to(dtype)
    torch.jit.save(torch.jit.trace(model, points, check_trace=False), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(points), model(points), rtol=1e-5, atol=1e-6)


@tracing
def test_a_trace_in_training_mode_is_made(few_centres):
    """An autograd.Function around ctypes would end the interpreter."""
    model, points = make(context="latentgnn"), room(2, 100)
    assert torch.jit.trace(model, points, check_trace=False)(points).requires_grad


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_exports_with_any_number_of_clouds_and_points(few_centres, options):
    model = make(**options).eval()
    extra, dynamic = model.config.extra_channels, {0: Dim("B"), 1: Dim("N", max=ops.MAX_POINTS)}
    exported = torch.export.export(model, (room(2, 100, extra),), dynamic_shapes=(dynamic,)).module()
    for clouds, points in ((2, 100), (3, 170), (1, 30)):
        cloud = room(clouds, points, extra)
        torch.testing.assert_close(exported(cloud), model(cloud), rtol=1e-5, atol=1e-6)


def test_gradients_by_torch_func(few_centres):
    model, points = make(context="latentgnn").eval(), room(2, 100)
    parameters = dict(model.named_parameters())

    def loss(parameters):
        return functional_call(model, parameters, (points,)).square().mean()

    got, expected = grad(loss)(parameters), torch.autograd.grad(loss(parameters), list(parameters.values()))
    assert (
        relative_error(torch.cat([g.flatten() for g in got.values()]), torch.cat([g.flatten() for g in expected]))
        < 1e-4
    )


@tracing
def test_onnx_is_refused(few_centres):
    with pytest.raises(ValueError, match="ONNX"):
        torch.onnx.export(make().eval(), (room(2, 100),), io.BytesIO(), dynamo=False)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_computed_with_in_float32(few_centres, either_form, dtype, context):
    half, points = make(context=context).eval().to(dtype), room(2, 150).to(dtype)
    expected = copy.deepcopy(half).float()(points.float()).to(dtype)
    assert torch.equal(half(points), expected)
    with torch.autocast("cpu", dtype=dtype):
        assert make(context=context).eval()(points).dtype == dtype  # float32 weights
    with pytest.raises(ValueError, match=f"{dtype}.*autocast.*--amp"):
        half.train()(points)


@pytest.mark.parametrize(
    ("weights", "points"), [("float32", "float64"), ("float64", "float32"), ("float32", "float16")]
)
def test_points_of_another_dtype_raise_and_name_both(weights, points):
    with pytest.raises(ValueError, match=f"PointNet2.*torch.{points}.*torch.{weights}"):
        make().to(getattr(torch, weights))(room(1, 50).to(getattr(torch, points)))


def test_rebuilt_from_its_configuration(few_centres):
    config = PointNet2Config(
        21, context="latentgnn", kernels=2, latent_nodes=(8, 4, 2, 1), extra_channels=2, weight=None
    )
    rebuilt = PointNet2Config(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert rebuilt == config and hash(rebuilt) == hash(config)
    model, other, points = build(config, 0).eval(), build(rebuilt, 1).eval(), room(1, 100, 2)
    assert not torch.equal(other(points), model(points))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(points), model(points))


@pytest.mark.parametrize("grouping", pointnet2.GROUPINGS)
def test_radii_are_those_of_the_balls(few_centres, grouping):
    """Half of all coordinates and of all radii are the same neighbours, at half the distances."""
    radii = tuple(radius / 2 for radius in PointNet2Config(21).radii)
    model, small = make(grouping=grouping), make(grouping=grouping, radii=list(radii))
    assert small.config == PointNet2Config(21, grouping=grouping, radii=radii) and hash(small.config)
    assert all(scale.radius in (radii[0], radii[0] / 2) for scale in small.sa1.scales)
    for level in (1, 2, 3, 4):
        for mlp in small.get_submodule(f"sa{level}").mlps:
            mlp.linears[0].weight.data[:, :3] *= 2
    points = room(2, 150)
    torch.testing.assert_close(small(points / 2), model(points), rtol=1e-5, atol=1e-5)
    assert relative_error(model(points / 2), model(points)) > 1e-3


def test_a_configuration_from_before_a_field_is_the_default():
    earlier = {"num_classes": 21, "extra_channels": 0, "grouping": "ssg", "context": "latentgnn", "affinity": "dot"}
    earlier |= {"latent_nodes": [80, 40, 20, 10], "kernels": 3, "stride": 4, "symmetric": False, "weight": "visible"}
    assert PointNet2Config(**earlier) == PointNet2Config(21, context="latentgnn", kernels=3)


def test_every_option_says_what_a_flag_needs():
    """A help of one line, and of a choice all values, each of which makes a network."""
    own = {"num_classes", "extra_channels", "context"}  # follow from the data and from --model
    fields = {field.name: field for field in dataclasses.fields(PointNet2Config)}
    assert {name for name, field in fields.items() if "help" not in field.metadata} == own
    for name in fields.keys() - own:
        assert fields[name].metadata["help"].strip() and "\n" not in fields[name].metadata["help"]
        context = "non_local" if name in pointnet2.options_of("non_local") else "latentgnn"
        for choice in fields[name].metadata.get("choices", ()):
            build(PointNet2Config(21, context=context, **{name: choice}), 0)
    assert PointNet2Config(21, weight="none") == PointNet2Config(21, weight=None)
    assert not set(pointnet2.options_of("none")) & fields.keys()
    assert set(pointnet2.options_of("latentgnn")) == fields.keys() - own - {"grouping", "radii", "affinity"}


def test_networks_know_nothing_of_training():
    code = (
        "import models.mask_rcnn, models.textbook, sys; assert not any(m.startswith('training') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("context", CONTEXTS)
def test_devices_other_than_the_cpu_have_a_way_through(context):
    """On the meta device nothing is computed, but every branch for devices other than the CPU is taken."""
    model = build(PointNet2Config(21, context=context), 0).to("meta")
    logits = model(torch.empty(2, 3000, 3, device="meta"))
    logits.sum().backward()
    assert logits.shape == (2, 3000, 21) and logits.device.type == "meta"
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_seed_decides_the_weights_alone():
    config = PointNet2Config(21, context="latentgnn")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build(config, 0).state_dict()
    assert torch.equal(torch.rand(3), expected)
    second, other = build(config, 0).state_dict(), build(config, 1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["sa1.mlps.0.linears.0.weight"], other["sa1.mlps.0.linears.0.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"context": "attention"},
            r"context must be one of \('none', 'mean_feature', 'non_local', 'double_attention', 'induced_points', "
            r"'latentgnn'\), got 'attention'",
        ),
        ({"grouping": "grid"}, "grouping must be one of"),
        ({"context": "non_local", "affinity": "gauss"}, "affinity must be one of"),
        ({"context": "latentgnn", "l2v_norm": "channels"}, "l2v_norm must be one of"),
        ({"context": "latentgnn", "weight": "both"}, "weight must be one of"),
        ({"context": "latentgnn", "kernels": 0}, "kernels must be at least 1"),
        ({"context": "latentgnn", "latent_nodes": (80, 40, 20, 0)}, "latent_nodes must be at least 1"),
        ({"latent_nodes": (80, 40, 20)}, "latent_nodes must be 4 numbers"),
        ({"radii": (0.1, 0.2, 0.4)}, "radii must be 4 numbers"),
        ({"radii": (0.1, 0.2, 0.4, 0.0)}, "radii must be positive"),
        ({"radii": (0.1, 0.2, 0.4, float("nan"))}, "radii must be positive"),
        ({"radii": (0.1, 0.2, 0.4, float("inf"))}, "radii must be positive"),
    ],
)
def test_bad_configurations_raise(options, message):
    with pytest.raises(ValueError, match=message):
        build(PointNet2Config(21, **options), 0)


def test_stride_that_does_not_divide_the_channels_raises():
    with pytest.raises(ValueError, match="multiple of stride"):
        build(PointNet2Config(21, context="latentgnn", stride=3), 0)


@pytest.mark.parametrize("shape", [(2, 50), (2, 50, 6), (2, 0, 3), (2, 3, 50)])
def test_bad_shapes_raise(shape):
    with pytest.raises(ValueError, match="PointNet2 takes points"):
        make()(torch.zeros(shape))


def test_a_single_point_in_training_raises():
    with pytest.raises(ValueError, match="more than 1 (row|value)"):
        make().train()(torch.zeros(1, 1, 3))
