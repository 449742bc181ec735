"""The public operators: their checks, gradients, what torch.compile sees, the choice of implementation."""

import warnings

import pytest
import torch

import ops


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def restore_choice():
    before = ops._for_cpu_tensors, ops._description
    yield
    ops._for_cpu_tensors, ops._description = before


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
    "no points": (lambda: ops.furthest_point_sample(torch.zeros(2, 0, 3), 2), "1 to 2147483647 points"),
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
    with pytest.raises(ValueError, match="no ops implementation 'triton': choose one of auto, cpu, reference"):
        ops.use("triton")


def test_the_reference_can_be_chosen_and_said(generator, restore_choice):
    ops.use("reference")
    assert ops.describe() == "ops: reference (plain torch)"
    assert ops._for_cpu_tensors is ops.reference
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
