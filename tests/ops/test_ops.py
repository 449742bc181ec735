"""The public operators: their checks, gradients, what torch.compile sees, the choice of implementation."""

import importlib
import sys
import types
import warnings
from contextlib import nullcontext

import pytest
import torch
from clouds import assert_equal_to_reference, make_cloud

import ops


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def restore_choice():
    before = ops._serving, ops._description
    yield
    ops._serving, ops._description = before


def cloud(generator, *shape):
    return torch.rand(*shape, 3, generator=generator)


def inverse_distance(distance):
    weight = 1 / distance.clamp(min=1e-10)
    return weight / weight.sum(dim=2, keepdim=True)


def through_all_ops(xyz, features, m):
    """Every op once, as a network uses them: (B, N, 3), (B, N, C) -> (B, N, C)."""
    index = ops.furthest_point_sample(xyz, m)  # (B, m)
    centres = ops.group_points(xyz, index[:, :, None])[:, :, 0]  # (B, m, 3)
    neighbours = ops.ball_query(0.4, 8, xyz, centres)  # (B, m, 8)
    pooled = ops.group_points(features, neighbours).amax(dim=2)  # (B, m, C)
    distance, nearest = ops.three_nn(xyz, centres)  # (B, N, 3)
    return ops.three_interpolate(pooled, nearest, inverse_distance(distance))


XYZ, INDEX = torch.zeros(2, 8, 3), torch.zeros(2, 4, 3, dtype=torch.int64)
BAD_CALLS = {
    "not rows of 3": (lambda: ops.furthest_point_sample(torch.zeros(2, 8, 4), 2), r"xyz must be .* got \(2, 8, 4\)"),
    "no batch": (lambda: ops.furthest_point_sample(torch.zeros(8, 3), 2), r"xyz must be .* got \(8, 3\)"),
    "float64 points": (lambda: ops.furthest_point_sample(XYZ.double(), 2), "float32, got .* torch.float64"),
    "no points": (lambda: ops.furthest_point_sample(torch.zeros(2, 0, 3), 2), "1 to 536870912 points"),
    "no clouds": (lambda: ops.three_nn(torch.zeros(0, 4, 3), torch.zeros(0, 4, 3)), "a cloud or more"),
    "m of 0": (lambda: ops.furthest_point_sample(XYZ, 0), "m must be at least 1, got 0"),
    "no known points": (lambda: ops.three_nn(XYZ, torch.zeros(2, 0, 3)), "known must hold"),
    "clouds disagree": (lambda: ops.three_nn(XYZ, XYZ[:1]), r"unknown \(2, 8, 3\) on cpu, known \(1, 8, 3\) on cpu"),
    "devices disagree": (lambda: ops.ball_query(0.1, 4, XYZ, XYZ.to("meta")), "same device"),
    "radius of 0": (lambda: ops.ball_query(0.0, 4, XYZ, XYZ), "radius above 0"),
    "radius NaN": (lambda: ops.ball_query(float("nan"), 4, XYZ, XYZ), "radius above 0"),
    "nsample of 0": (lambda: ops.ball_query(0.1, 0, XYZ, XYZ), "nsample must be at least 1"),
    "integer features": (lambda: ops.group_points(XYZ.long(), INDEX), "features must be"),
    "int32 index": (lambda: ops.group_points(XYZ, INDEX.int()), "index must be int64"),
    "flat index": (lambda: ops.group_points(XYZ, INDEX[:, 0]), "index must be int64 with 3 dimensions"),
    "index of one cloud": (lambda: ops.group_points(XYZ, INDEX[:1]), "features' 2 clouds, got 1"),
    "four neighbours": (lambda: ops.three_interpolate(XYZ, INDEX.repeat(1, 1, 2), INDEX.float()), r"\(B, N, 3\)"),
    "weights of another shape": (lambda: ops.three_interpolate(XYZ, INDEX, torch.zeros(2, 5, 3)), r"\(B, N, 3\)"),
}


@pytest.mark.parametrize("call, message", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_indices_out_of_range_of_all_clouds_raise(generator):
    with pytest.raises((IndexError, RuntimeError)):
        ops.group_points(XYZ, INDEX + 99)


def test_opcheck(generator):
    xyz, centres = cloud(generator, 2, 40), cloud(generator, 2, 5)
    namespace = torch.ops.latentgnn_scannet
    torch.library.opcheck(namespace.furthest_point_sample, (xyz, 7))
    torch.library.opcheck(namespace.ball_query, (0.3, 6, xyz, centres))
    torch.library.opcheck(namespace.three_nn, (xyz, centres))
    torch.library.opcheck(namespace.three_nn, (xyz.transpose(0, 1), centres.new_zeros(40, 2, 3)))  # not contiguous


def test_compile_with_static_and_dynamic_shapes(generator):
    torch._dynamo.reset()
    compiled = torch.compile(through_all_ops, fullgraph=True, backend="aot_eager", dynamic=True)
    for n, m in [(30, 8), (41, 12), (64, 16)]:
        xyz = cloud(generator, 2, n)
        features = torch.randn(2, n, 5, generator=generator, requires_grad=True)
        expected = through_all_ops(xyz, features, m)
        actual = compiled(xyz, features, m)
        torch.testing.assert_close(actual, expected)
        direction = torch.randn(expected.shape, generator=generator)
        gradients = [torch.autograd.grad(out, features, direction)[0] for out in (actual, expected)]
        torch.testing.assert_close(*gradients)
    static = torch.compile(through_all_ops, fullgraph=True, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(static(xyz, features, m), expected)


def test_gradients_of_grouping_and_interpolation(generator):
    features = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    index = torch.randint(6, (2, 5, 3), generator=generator)  # with repeats: their gradients add up
    assert torch.autograd.gradcheck(lambda f: ops.group_points(f, index), features)
    assert torch.autograd.gradcheck(lambda f, w: ops.three_interpolate(f, index, w), (features, weight))


def test_geometry_takes_points_that_need_gradients_and_passes_none(generator):
    xyz = cloud(generator, 1, 20).requires_grad_()
    distance, index = ops.three_nn(xyz, xyz)
    assert not distance.requires_grad and not index.requires_grad
    assert not ops.furthest_point_sample(xyz, 4).requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_features_keep_their_dtype(generator, dtype):
    features = torch.randn(2, 6, 4, generator=generator).to(dtype)
    index = torch.randint(6, (2, 5, 3), generator=generator)
    assert ops.group_points(features, index).dtype == dtype
    assert ops.three_interpolate(features, index, torch.rand(2, 5, 3, generator=generator)).dtype == dtype


def test_interpolation_from_fewer_than_three_points(generator):
    known = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    distance, index = ops.three_nn(torch.tensor([[[0.5, 0, 0], [0, 0, 0]]]), known)
    weight = inverse_distance(distance)
    assert weight[0, 0].tolist() == [0.5, 0.5, 0.0]  # the missing third weighs nothing
    features = torch.tensor([[[2.0], [4.0]]])
    torch.testing.assert_close(ops.three_interpolate(features, index, weight), torch.tensor([[[3.0], [2.0]]]))


def test_an_unknown_implementation_is_refused():
    with pytest.raises(
        ValueError, match="no ops implementation 'cuda': choose one of auto, triton, cpu, reference, pointnet2_ops"
    ):
        ops.use("cuda")


def test_the_reference_can_be_chosen_and_said(generator, restore_choice):
    ops.use("reference")
    assert ops.describe() == "ops: reference (plain torch)"
    assert ops.serves(XYZ) is ops.reference
    assert ops.furthest_point_sample(cloud(generator, 1, 9), 2).shape == (1, 2)


def test_auto_falls_back_with_one_line_and_cpu_raises(generator, restore_choice, monkeypatch):
    def no_compiler():
        raise ops.cpu.CompileError("no C++ compiler found (tried c++, g++, clang++)")

    monkeypatch.setattr(ops.cpu, "load", no_compiler)
    with pytest.raises(ops.cpu.CompileError):
        ops.use("cpu")
    with pytest.warns(RuntimeWarning, match="no C.. compiler found") as caught:
        ops.use("auto")
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert "some 100 times slower" in ops.describe()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        ops.furthest_point_sample(cloud(generator, 1, 9), 2)


def test_auto_on_a_gpu_without_working_triton_warns_once_and_keeps_the_cpus_kernels(restore_choice, monkeypatch):
    def load(name):
        if name == "triton":
            raise ops.cpu.CompileError("no C compiler (install gcc, or name one in CC)")
        return ops.cpu, "C++"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ops, "load", load)
    with pytest.warns(RuntimeWarning) as caught:
        ops.use("auto")
    (warning,) = caught
    line = (
        "reference (plain torch, on the GPU thousands of launches instead of one: no C compiler (install gcc, or name"
    )
    assert str(warning.message).startswith(f"ops: {line}") and "\n" not in str(warning.message)
    assert ops.describe() == str(warning.message) + ", cpu (C++)"
    assert ops.serves(XYZ) is ops.cpu and ops.serves(XYZ.to("meta")) is ops.reference


def test_what_is_asked_for_by_name_raises_where_it_cannot_be_had(restore_choice, monkeypatch):
    ops.use("reference")
    for module, name, message in [
        (
            "triton",
            "triton",
            r"no triton \(import of triton halted; .*\): it comes with torch's CUDA builds, or: pip install",
        ),
        (
            "pointnet2_ops",
            "pointnet2_ops",
            r"pointnet2_ops cannot be imported \(.*\): pip install --no-build-isolation",
        ),
    ]:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
        monkeypatch.delitem(sys.modules, ops.MODULES[name], raising=False)
        with pytest.raises(ops.cpu.CompileError, match=message) as caught:
            ops.use(name)
        assert "\n" not in str(caught.value)
    assert ops.describe() == "ops: reference (plain torch)"  # the choice from before


def test_pointnet2_ops_is_called_in_its_order_of_arguments(restore_choice, monkeypatch):
    """With a stand-in that answers as the package does: int32 indices, centres first."""

    def standing_in(function, *order):
        def call(*arguments):
            result = function(*(arguments[k] for k in order))
            return (result[0], result[1].int()) if isinstance(result, tuple) else result.int()

        return call

    package = types.ModuleType("pointnet2_ops")
    package._ext = types.SimpleNamespace(
        furthest_point_sampling=standing_in(ops.reference.furthest_point_sample, 0, 1),
        ball_query=standing_in(ops.reference.ball_query, 2, 3, 1, 0),
        three_nn=standing_in(ops.reference.three_nn, 0, 1),
    )
    monkeypatch.setitem(sys.modules, "pointnet2_ops", package)
    monkeypatch.delitem(sys.modules, "ops.pointnet2", raising=False)
    adapter = importlib.import_module("ops.pointnet2")
    with pytest.raises(ops.cpu.CompileError, match="needs a GPU") if not torch.cuda.is_available() else nullcontext():
        ops.use("pointnet2_ops")
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(adapter, "DEVICE", "cpu")
    assert_equal_to_reference(adapter, make_cloud("lattice", 2, 50, 0), make_cloud("lattice", 2, 9, 1), 7, 0.5, 4)
    monkeypatch.delitem(sys.modules, "ops.pointnet2")
