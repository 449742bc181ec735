"""scripts/benchmark.py eval: the scenes it makes, its tables and JSON."""

import functools
import json
import sys

import numpy as np
import pytest
import torch

from models import pointnet2
from scripts.benchmarks import evaluation


def dust(first, vertices):
    """Instead of rooms, which take half a second each: 12 m along x."""
    rng = np.random.default_rng(first)
    xyz = rng.random((vertices, 3), dtype=np.float32) * np.float32([12, 1, 1])
    return xyz, rng.integers(1, 41, vertices, dtype=np.uint16), first + 1


@pytest.fixture
def run(run_benchmark, monkeypatch):
    """Runs the script's main with these arguments, for a network that is one matrix product."""
    monkeypatch.setattr(evaluation, "rooms_side_by_side", dust)
    monkeypatch.setattr(evaluation, "LARGEST_ROOM", 1_000)
    monkeypatch.setattr(pointnet2, "build", lambda config, seed: torch.nn.Linear(3, 21))
    return functools.partial(run_benchmark, "eval")


def test_a_scene_is_cut_from_rooms_along_x(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "rooms_side_by_side", dust)
    monkeypatch.setattr(evaluation, "LARGEST_ROOM", 1_000)
    points, label = evaluation.make_scene(tmp_path, 0, 3_000).read_points(())  # refuses another size or name
    assert len(points) == 3_000 and (label > 0).all() and points[:, 0].max() == pytest.approx(9, abs=0.3)
    assert not np.array_equal(points, evaluation.make_scene(tmp_path, 1, 3_000).read_points(())[0])


def test_seconds_are_told_by_size_and_part_and_the_made_scenes_are_deleted(run, tmp_path, capsys):
    run("--vertices", 4_000, "--rounds", 2, "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["vertices"] for row in result["sizes"]] == [1_000, 2_000, 4_000, 8_000]
    for row in result["sizes"]:
        assert row["draws"] >= 3 and len(row["seconds"]) == 2
        parts = np.array([row["reading"], row["network"], row["scoring"]])
        assert (parts > 0).all() and np.allclose(parts.sum(0), row["seconds"], rtol=0.1)
        assert 0 < row["not_matrix_products"] < 1
        assert (row["peak_mb"] or 0) > (10 if sys.platform == "linux" else -1)
    assert 0 < result["matrix_products_of_network"] < 1
    printed = capsys.readouterr().out
    assert "| 8,000 |" in printed and "| 2 scenes of 4,000 vertices |" in printed
    assert len(result["forms"]) == 4 and all(f"| {form} |" in printed for form in result["forms"])
    assert list((tmp_path / "made").rglob("*.h5")) == []
