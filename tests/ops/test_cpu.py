"""The C++ kernels: equal to the reference to the last index, and compiled, cached and loaded whatever happens."""

import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clouds import KINDS, assert_equal_to_reference, make_cloud
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import cpu, reference

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = [name for name in ("c++", "g++", "clang++") if shutil.which(name)]
pytestmark = pytest.mark.skipif(not COMPILERS and "CXX" not in os.environ, reason="needs a C++ compiler")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    n=st.integers(1, 600),
    m=st.integers(1, 40),
    radius=st.sampled_from([1e-30, 3e-23, 1e-6, 0.1, 0.25, 0.7, 5.0, 1e10, 1e30, float("inf")]),
    nsample=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_equal_on_every_kind_of_cloud(kinds, n, m, radius, nsample, seed):
    xyz = make_cloud(kinds[0], 2, n, seed)
    # Half the time the centres are points of the cloud itself: zero distances, and ties by the dozen on a lattice.
    others = xyz[:, :m] if seed % 2 else make_cloud(kinds[1], 2, m, seed)
    assert_equal_to_reference(cpu, xyz, others, m, radius, nsample)


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 4097, 20_001])
def test_equal_at_awkward_sizes(n):
    xyz = make_cloud("uniform", 1, n, seed=7)
    assert_equal_to_reference(cpu, xyz, xyz[:, :300], m=min(n, 200), radius=0.2, nsample=32)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_when_many_points_are_sampled(kind):
    xyz = make_cloud(kind, 2, 2000, seed=9)
    assert torch.equal(cpu.furthest_point_sample(xyz, 1500), reference.furthest_point_sample(xyz, 1500))


def test_hits_just_inside_the_sphere_are_found_across_every_cell_border():
    radius, n = 0.05, 1500
    xyz = torch.zeros(1, n, 3)
    xyz[0, :, 0] = torch.linspace(0, 2, n)  # 40 radii, so 40 cells or so, with points close below each border
    centres = xyz + torch.tensor([0.99999 * radius, 0, 0])
    assert torch.equal(cpu.ball_query(radius, 1, xyz, centres), reference.ball_query(radius, 1, xyz, centres))


def test_equal_at_the_scale_of_the_float32_grid():
    # At 1e4 m float32 steps are 1 mm: points a few steps apart, balls of a few steps, everything tied.
    xyz = make_cloud("uniform", 2, 500, seed=1) * 0.005 + 1e4
    assert_equal_to_reference(cpu, xyz, xyz[:, ::5], m=100, radius=0.003, nsample=16)


def test_every_point_of_a_huge_ball_is_found():
    xyz = make_cloud("uniform", 1, 5000, seed=3)
    assert cpu.ball_query(1e30, 5000, xyz, xyz[:, :2]).tolist() == [[list(range(5000))] * 2]


def test_inputs_need_not_be_contiguous():
    columns = make_cloud("uniform", 2, 100, seed=4).transpose(1, 2).contiguous()  # (B, 3, N)
    xyz = columns.transpose(1, 2)
    assert not xyz.is_contiguous()
    assert_equal_to_reference(cpu, xyz, xyz[:, ::3], m=10, radius=0.4, nsample=8)


def test_the_default_dtype_does_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        xyz = make_cloud("uniform", 1, 50, seed=2)
        assert_equal_to_reference(cpu, xyz, xyz[:, :9], m=9, radius=0.5, nsample=4)
        assert cpu.three_nn(xyz, xyz)[0].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("all_points", [False, True])
def test_values_that_are_not_finite_give_indices_in_range(value, all_points):
    xyz = make_cloud("uniform", 2, 300, seed=5)
    xyz[:, slice(None) if all_points else slice(0, 300, 3)] = value
    for unknown, known in [(xyz, xyz), (xyz, xyz[:, :2]), (xyz[:, :1], make_cloud("uniform", 2, 50, seed=6))]:
        for index in (
            cpu.furthest_point_sample(known, 40),
            cpu.ball_query(0.5, 8, known, unknown),
            cpu.three_nn(unknown, known)[1],
        ):
            assert 0 <= index.min() and index.max() < known.shape[1]


def test_one_thread_and_several_give_the_same():
    xyz = make_cloud("lattice", 5, 700, seed=8)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            results.append(
                [cpu.furthest_point_sample(xyz, 50), cpu.ball_query(0.4, 8, xyz, xyz), *cpu.three_nn(xyz, xyz[:, :80])]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_of_python_may_call_at_once():
    clouds = [make_cloud("uniform", 2, 400, seed) for seed in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda xyz: cpu.furthest_point_sample(xyz, 60), clouds))
    for xyz, index in zip(clouds, results, strict=True):
        assert torch.equal(index, reference.furthest_point_sample(xyz, 60))


class SampledClouds(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return cpu.furthest_point_sample(make_cloud("uniform", 2, 300, i), 20)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_loader_workers_after_use_in_the_parent():
    expected = [SampledClouds()[i] for i in range(6)]  # the parent has made threads of its own
    loader = torch.utils.data.DataLoader(
        SampledClouds(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=30
    )
    assert all(torch.equal(a, b) for a, b in zip(loader, expected, strict=True))


# ---- Compiling and caching, with a cache folder of the test's own.


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads as a new process would, from tmp_path's cache, checks that the kernels work, returns their origin."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "_origin", "")

    def load_afresh():
        monkeypatch.setattr(cpu, "_library", None)
        origin = cpu.load()
        assert cpu.furthest_point_sample(torch.eye(3)[None], 3).tolist() == [[0, 1, 2]]
        return origin

    return load_afresh


def cached_files(cache):
    return sorted(path.name for path in (cache / "latentgnn-scannet").iterdir())


def test_compiled_once_then_cached(load, tmp_path):
    assert load().endswith(", compiled")
    assert len(cached_files(tmp_path)) == 1  # no temporary file stays behind
    assert load().endswith(", cached")


def test_a_damaged_library_is_rebuilt(load, tmp_path):
    load()
    (name,) = cached_files(tmp_path)
    library = tmp_path / "latentgnn-scannet" / name
    content = library.read_bytes()
    for damaged in (b"", content[:-100], content[:5000] + b"\xff" * 100 + content[5100:]):
        library.unlink()  # this process has the old file mapped: a new one takes its name
        library.write_bytes(damaged)
        assert load().endswith(", compiled")
        assert library.read_bytes() == content and cached_files(tmp_path) == [name]


def test_another_source_or_processor_is_compiled_anew(load, tmp_path, monkeypatch):
    load()
    monkeypatch.setattr(cpu, "_processor", lambda: "another")
    assert load().endswith(", compiled")
    changed = tmp_path / "changed.cpp"
    changed.write_text(cpu.SOURCES[0].read_text().replace('"threads.h"', f'"{cpu.HEADERS[0]}"'))
    monkeypatch.setattr(cpu, "SOURCES", [changed, *cpu.SOURCES[1:]])
    assert load().endswith(", compiled")
    assert len({name.split("-")[1] for name in cached_files(tmp_path)}) == 3


def test_a_cache_that_cannot_be_written_is_done_without(load, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load().endswith("compiled: no cache folder is writable")


def test_a_compiler_that_refuses_march_native_is_used_without_it(load, tmp_path, monkeypatch):
    picky = tmp_path / "picky"
    real = os.environ.get("CXX") or COMPILERS[0]
    picky.write_text(f'#!/bin/sh\nfor a in "$@"; do [ "$a" = -march=native ] && exit 1; done\nexec {real} "$@"\n')
    picky.chmod(0o755)
    monkeypatch.setenv("CXX", str(picky))
    assert load().endswith(", compiled")


@pytest.mark.parametrize(
    "compiler, reason",
    [
        ("no-such-compiler -O2", r"^no C\+\+ compiler found \(tried no-such-compiler -O2\)$"),
        ("false", "^false failed: exit status 1$"),
        ("echo", "^the kernels cannot be compiled or loaded: "),  # succeeds and writes nothing
    ],
)
def test_why_it_cannot_be_compiled_is_said_in_one_line(load, monkeypatch, compiler, reason):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(cpu.CompileError, match=reason) as caught:
        load()
    assert "\n" not in str(caught.value)


def start(cache, **environment):
    program = "import torch, ops; print(ops.furthest_point_sample(torch.eye(3)[None], 3).tolist(), ops.describe())"
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_may_compile_at_once(tmp_path):
    for process in [start(tmp_path), start(tmp_path)]:
        out, err = process.communicate(timeout=60)
        assert out.startswith("[[0, 1, 2]] ops: cpu (C++"), err
    assert len(cached_files(tmp_path)) == 1


def test_without_a_compiler_the_reference_serves_and_one_line_says_so(tmp_path):
    out, err = start(tmp_path, CXX="no-such-compiler").communicate(timeout=60)
    assert out.startswith("[[0, 1, 2]] ops: reference (plain torch, on the CPU some 100 times slower than C++: "), err
    assert err.count("RuntimeWarning") == 1 and "no C++ compiler found (tried no-such-compiler)" in err
