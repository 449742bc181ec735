"""scripts/benchmark.py: the chunks it makes, the table and the JSON of `ops`, what it refuses."""

import json

import numpy as np
import pytest

import ops
from scripts.benchmarks import operators


@pytest.fixture
def run(run_benchmark, monkeypatch):
    """Runs the script's main with these arguments, on small clouds."""
    monkeypatch.setattr(operators, "POINTS", 256)
    monkeypatch.setattr(operators, "LEVELS", [(32, 0.2), (8, 0.4)])
    return run_benchmark


def test_room_chunks_come_from_the_generator_alone_and_look_like_surfaces():
    xyz, again = (operators.room_chunk(np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(xyz, again) and xyz.shape == (8192, 3) and xyz.dtype == np.float32
    assert np.all(xyz > -0.05) and np.all(xyz < [1.55, 1.55, 3.05])
    assert (np.abs(xyz[:, 2]) < 0.02).mean() > 0.1  # the floor


def test_ops_times_every_operator_at_every_level(run, tmp_path, capsys):
    try:
        ops.cpu.load()
    except ops.cpu.CompileError:
        pytest.skip("needs a C++ compiler")
    run("ops", "--rounds", 2, "--json", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    measured = {(row["sizes"], row["operator"]) for row in rows if row["by"] == "C++"}
    operators = ("furthest_point_sample", "ball_query", "three_nn")
    assert measured == {(sizes, operator) for sizes in ("256 -> 32", "32 -> 8") for operator in operators}
    assert all(len(row["ms"]) == 2 and min(row["ms"]) > 0 for row in rows)
    assert all(row["same_indices"] == "yes" for row in rows if row["by"] in ("C++", "reference"))
    assert "| 256 -> 32 | three_nn | reference |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["ops", "--rounds", "0"], "whole number of at least 1"),
        (["ops", "--json", "/no/such/folder/out.json"], "there is no folder /no/such/folder"),
        ([], "required: subject"),
    ],
)
def test_bad_arguments_are_refused(run, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capsys.readouterr().err


def test_without_the_kernels_it_says_why(run, monkeypatch):
    def no_compiler():
        raise ops.cpu.CompileError("no C++ compiler found")

    monkeypatch.setattr(ops.cpu, "load", no_compiler)
    with pytest.raises(SystemExit, match="no C.. compiler found"):
        run("ops")
