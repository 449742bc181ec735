"""scripts/benchmark.py step: the table, the ratios in the JSON, and the errors, on small data."""

import functools
import json

import pytest
import torch

from scripts.benchmarks import step


@pytest.fixture
def run(run_benchmark, monkeypatch):
    """Runs the script's main with these arguments, for the networks whose errors are measured alone."""
    monkeypatch.setattr(step, "NETWORKS", {name: step.NETWORKS[name] for name in step.CHECKED})
    monkeypatch.setattr(step, "PAIRS_CHECKED", 1)
    return functools.partial(run_benchmark, "step")


def test_step_compares_the_two_forms(run, tiny_data, tmp_path, capsys):
    assert run("--data", tiny_data, "--batch-sizes", 2, "--rounds", 1, "--json", tmp_path / "out.json") == 0
    result = json.loads((tmp_path / "out.json").read_text())
    for row in result["rows"]:
        assert row["batch"] == 2 and row["ratio"] == pytest.approx(
            row["seconds"]["textbook"][0] / row["seconds"]["ours"][0]
        )
        assert 0 < row["flops"]["ours"] < row["flops"]["textbook"] / 2
    ours, textbook = (result["errors"]["no context"][form] for form in ("ours", "textbook"))
    assert 0 < ours["logits"] < max(4 * textbook["logits"], 1e-4)
    assert "| LatentGNN K = 1, ours |" in capsys.readouterr().out


def test_the_ports_neighbours_are_the_projects():
    xyz = torch.rand(1, 60, 3, generator=torch.Generator().manual_seed(0))
    centres = xyz[:, :9].contiguous()
    assert torch.equal(step.port_ball_query(0.4, 5, xyz, centres), step.ops.ball_query(0.4, 5, xyz, centres))
    assert torch.equal(step.port_three_nn(xyz, centres)[1], step.ops.three_nn(xyz, centres)[1])
