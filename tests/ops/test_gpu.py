"""The Triton kernels: equal to the reference to the last index. On a GPU, or under Triton's interpreter on the CPU."""

import warnings

import pytest
import torch
from clouds import KINDS, assert_equal_to_reference, make_cloud
from hypothesis import given, settings
from hypothesis import strategies as st

import ops
from ops import __main__ as ops_main
from ops import reference
from ops.cpu import CompileError

try:
    from ops import gpu
except CompileError as error:
    pytest.skip(str(error), allow_module_level=True)

if gpu.DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip(
        "needs a GPU, or TRITON_INTERPRET=1 in a process of its own: `make test` has one", allow_module_level=True
    )

# NumPy, which interprets, warns where a GPU does not
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    n=st.integers(1, 150),
    m=st.integers(1, 20),
    radius=st.sampled_from([1e-30, 3e-23, 1e-6, 0.1, 0.25, 0.7, 5.0, 1e10, 1e30, float("inf")]),
    nsample=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_equal_on_every_kind_of_cloud(kinds, n, m, radius, nsample, seed):
    xyz = make_cloud(kinds[0], 2, n, seed)
    others = xyz[:, :m] if seed % 2 else make_cloud(kinds[1], 2, m, seed)  # half the time points of the cloud itself
    assert_equal_to_reference(gpu, xyz, others, m, radius, nsample)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_on_each_kind_of_cloud(kind):
    assert_equal_to_reference(gpu, make_cloud(kind, 2, 60, seed=3), make_cloud(kind, 2, 6, seed=4), 70, 0.5, 9)


@pytest.mark.parametrize("n", [1, 2, 3, 127, 128, 129, 257])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_equal_at_awkward_sizes(n, m):
    """Fewer points than neighbours, than centres of a program, than three known points; tiles with one point over."""
    xyz = make_cloud("uniform", 3, n, seed=7)
    assert_equal_to_reference(gpu, xyz, xyz[:, :m], m=n + 3 if n < 9 else m, radius=0.5, nsample=150)


@pytest.mark.parametrize("kind", ["uniform", "lattice", "duplicates", "one place"])
@pytest.mark.parametrize("n", [256, 1000, 4096, 8191, 8192, 8193, 20_001])
def test_sampling_in_registers_and_in_tiles(kind, n):
    xyz = make_cloud(kind, 2, n, seed=9)
    index = gpu.furthest_point_sample(xyz.to(gpu.DEVICE), 40)
    assert torch.equal(index.cpu(), reference.furthest_point_sample(xyz, 40))


@pytest.mark.parametrize("kind", ["duplicates", "tiny", "huge"])
def test_more_points_are_sampled_than_there_are(kind):
    xyz = make_cloud(kind, 2, 300, seed=9)
    index = gpu.furthest_point_sample(xyz.to(gpu.DEVICE), 350)
    assert torch.equal(index.cpu(), reference.furthest_point_sample(xyz, 350))


def test_sampling_knows_no_largest_distance():
    xyz = torch.tensor([[[0.0, 0, 0], [2e5, 0, 0], [3e5, 0, 0]]])
    assert gpu.furthest_point_sample(xyz.to(gpu.DEVICE), 3).tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("kind", ["uniform", "duplicates", "one place"])
def test_a_search_through_20001_points(kind):
    xyz = make_cloud(kind, 1, 20_001, seed=5)
    centres = xyz[:, [0, 7, 20_000]]
    index = gpu.ball_query(0.1, 32, xyz.to(gpu.DEVICE), centres.to(gpu.DEVICE))
    assert torch.equal(index.cpu(), reference.ball_query(0.1, 32, xyz, centres))
    found = gpu.three_nn(xyz.to(gpu.DEVICE), centres.to(gpu.DEVICE))
    expected = reference.three_nn(xyz, centres)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


def test_balls_that_are_empty_full_and_padded():
    xyz = torch.tensor([[[9.0, 0, 0], [1, 0, 0], [1.25, 0, 0], [8, 0, 0], [1, 0, 0]]])
    centres = torch.tensor([[[5.0, 5, 5], [1, 0, 0], [8, 0, 0], [9, 0, 0], [1.25, 0, 0]]])
    index = gpu.ball_query(1.0, 3, xyz.to(gpu.DEVICE), centres.to(gpu.DEVICE))  # 8 is on the sphere about 9: outside
    assert index.tolist() == [[[0, 0, 0], [1, 2, 4], [3, 3, 3], [0, 0, 0], [1, 2, 4]]]


def test_of_equally_near_points_the_lower_index_is_taken():
    known = torch.tensor([[2.0, 1, 1, 1, 1], [1, 2, 2, 2, 1], [2, 2, 1, 1, 2], [1, 2, 3, 3, 3], [1, 2, 3, 3, 2]])
    known = torch.stack([known, torch.zeros(5, 5), torch.zeros(5, 5)], dim=2)  # (5 clouds, 5 points, 3)
    unknown = torch.zeros(5, 1, 3)
    distance, index = gpu.three_nn(unknown.to(gpu.DEVICE), known.to(gpu.DEVICE))
    assert index.tolist() == [[[1, 2, 3]], [[0, 4, 1]], [[2, 3, 0]], [[0, 1, 2]], [[0, 1, 4]]]
    assert distance.tolist() == [[[1, 1, 1]], [[1, 1, 4]], [[1, 1, 4]], [[1, 4, 9]], [[1, 4, 4]]]


@pytest.mark.parametrize("radius", [0.1, 0.35, 0.7, 1.3])
def test_the_last_bit_of_a_distance_and_of_a_squared_radius_decide(radius):
    steps = torch.arange(-8, 9, dtype=torch.int32)
    x = (torch.tensor(radius).view(torch.int32) + steps).view(torch.float32)  # the radius and its neighbours in float32
    xyz = torch.stack([x, torch.zeros(17), torch.zeros(17)], dim=1)[None]
    assert_equal_to_reference(gpu, xyz, torch.zeros(1, 1, 3), m=17, radius=radius, nsample=17)


def test_equal_at_the_scale_of_the_float32_grid():
    # At 1e4 m float32 steps are 1 mm: points a few steps apart, balls of a few steps, everything tied.
    xyz = make_cloud("uniform", 2, 200, seed=1) * 0.005 + 1e4
    assert_equal_to_reference(gpu, xyz, xyz[:, ::20], m=100, radius=0.003, nsample=16)


def test_inputs_need_not_be_contiguous_or_aligned():
    xyz = make_cloud("uniform", 3, 100, seed=4)
    columns = xyz.transpose(1, 2).contiguous().to(gpu.DEVICE).transpose(1, 2)
    assert not columns.is_contiguous()
    assert torch.equal(gpu.furthest_point_sample(columns, 9).cpu(), reference.furthest_point_sample(xyz, 9))
    assert_equal_to_reference(gpu, xyz[1:, 1:], xyz[1:, ::7], m=10, radius=0.4, nsample=8)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("all_points", [False, True])
def test_values_that_are_not_finite_give_indices_in_range(value, all_points):
    xyz = make_cloud("uniform", 2, 140, seed=5)
    xyz[:, slice(None) if all_points else slice(0, 140, 3)] = value
    xyz, few = xyz.to(gpu.DEVICE), make_cloud("uniform", 2, 9, seed=6).to(gpu.DEVICE)
    for unknown, known in [(xyz, xyz[:, :2]), (xyz[:, :1], few), (few, xyz)]:
        for index in (
            gpu.furthest_point_sample(known, 20),
            gpu.ball_query(0.5, 8, known, unknown),
            gpu.three_nn(unknown, known)[1],
        ):
            assert 0 <= index.min() and index.max() < known.shape[1]


# ---- Behind the public functions.


@pytest.fixture
def use_triton():
    before = ops._serving, ops._description
    ops.use("triton")
    yield
    ops._serving, ops._description = before


def test_the_choice_is_said(use_triton):
    assert ops.describe().startswith("ops: triton (Triton ")
    assert ops.serves(torch.zeros(1, device=gpu.DEVICE)) is gpu


def test_python_m_ops_includes_the_kernels():
    (entry,) = (entry for name, entry in ops_main.implementations().items() if name.startswith("triton (Triton "))
    assert entry == (gpu, gpu.DEVICE)


def test_opcheck(use_triton):
    xyz, centres = (make_cloud("lattice", 2, n, seed=1).to(gpu.DEVICE) for n in (40, 5))
    namespace = torch.ops.latentgnn_scannet
    torch.library.opcheck(namespace.furthest_point_sample, (xyz, 7))
    torch.library.opcheck(namespace.ball_query, (0.3, 6, xyz, centres))
    torch.library.opcheck(namespace.three_nn, (xyz, centres))


def test_compiles_whole_with_dynamic_shapes(use_triton):
    def geometry(xyz, m):
        centres = torch.take_along_dim(xyz, ops.furthest_point_sample(xyz, m)[:, :, None], 1)
        distance, index = ops.three_nn(xyz, centres)
        return ops.ball_query(0.4, 8, xyz, centres), distance * 2, index

    torch._dynamo.reset()
    compiled = torch.compile(geometry, fullgraph=True, backend="aot_eager", dynamic=True)
    for n, m in [(30, 8), (41, 12), (64, 16)]:
        xyz = make_cloud("uniform", 2, n, seed=2).to(gpu.DEVICE)
        assert all(torch.equal(a, b) for a, b in zip(compiled(xyz, m), geometry(xyz, m), strict=True))


# ---- What is said where a kernel cannot be compiled.


@pytest.fixture
def broken(monkeypatch):
    def fail(xyz, m):
        raise RuntimeError("0 active drivers\nand more lines")

    monkeypatch.setattr(gpu, "_works", False)
    monkeypatch.setattr(gpu, "furthest_point_sample", fail)


@pytest.mark.parametrize(
    "missing, message",
    [
        ("compiler", r"does not run: no C compiler \(install gcc, or name one in CC\)$"),
        ("header", r"does not run: no /nowhere/Python.h \(install Python's development files, such as python3-dev\)$"),
        ("something else", "does not run: 0 active drivers$"),
    ],
)
def test_what_is_missing_is_named_in_one_line(broken, monkeypatch, missing, message):
    monkeypatch.setenv("CC", "cc")
    if missing == "compiler":
        monkeypatch.delenv("CC")
        monkeypatch.setenv("PATH", "")
    if missing == "header":
        monkeypatch.setattr(gpu.sysconfig, "get_config_var", lambda name: "/nowhere")
    else:
        monkeypatch.setattr(gpu.Path, "exists", lambda path: True)
    with pytest.raises(CompileError, match=message):
        ops.use("triton")


def test_a_working_kernel_is_tried_once(monkeypatch):
    gpu.load()
    monkeypatch.setattr(gpu, "furthest_point_sample", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gpu.load() == f"Triton {gpu.triton.__version__}, " + (
            "interpreted" if gpu.DEVICE == "cpu" else torch.cuda.get_device_name()
        )
