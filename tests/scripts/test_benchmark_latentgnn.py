"""scripts/benchmark.py latentgnn and scaling: their tables, JSON and picture, on few points."""

import json
import sys

import pytest
import torch

from scripts.benchmarks import latentgnn, scaling


def test_latentgnn_is_timed_beside_every_other_layer(run_benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(latentgnn, "SIZES", ((2, 32), (1, 64)))
    monkeypatch.setattr(latentgnn, "DENSE_POINTS", 32)
    run_benchmark("latentgnn", "--rounds", 2, "--json", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    names = [{row["layer"] for row in rows if row["points"] == points} for points in (32, 64)]
    assert names[0] - names[1] == {"non-local, N x N"} and len(names[1]) == 12
    for row in rows:
        (ours,) = (r for r in rows if r["layer"] == "LatentGNN, K = 1" and r["points"] == row["points"])
        assert len(row["seconds"]) == 2 and row["ratio"] == pytest.approx(sum(row["seconds"]) / sum(ours["seconds"]))
    assert "| 2 | 32 | 3 |" in capsys.readouterr().out


def test_the_layers_that_are_timed_learn_from_every_other_point():
    x = torch.randn(1, 50, latentgnn.CHANNELS, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for name, layer in latentgnn.layers().items():
        if "Conv2d" not in name:
            (grad,) = torch.autograd.grad(layer.eval()(x)[0, 0].sum(), x)
            assert grad[0, 1:].any(1).float().mean() > 0.9, name


def test_scaling_goes_up_in_fours_and_is_drawn(run_benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(scaling, "FIRST", 16)
    monkeypatch.setattr(latentgnn, "DENSE_POINTS", 16)  # of the other table
    monkeypatch.setattr(scaling, "in_a_fresh_process", scaling.measure)
    arguments = ["--points", 256, "--dense-points", 64, "--picture", tmp_path / "out.png"]
    run_benchmark("scaling", "--rounds", 2, "--json", tmp_path / "out.json", *arguments)
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    points = {name: [row["points"] for row in rows if row["layer"] == name] for name in scaling.NAMES}
    assert points["LatentGNN, K = 1"] == points["non-local, reordered"] == [16, 64, 256]
    assert points["non-local, N x N"] == points[scaling.SLOW] == [16, 64]
    assert all(len(row["seconds"]) == 2 for row in rows)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read on Linux only")
@pytest.mark.parametrize("name, matrices", [("LatentGNN, K = 1", 0), (scaling.SLOW, 0), ("non-local, N x N", 1)])
def test_only_the_published_form_holds_an_n_x_n_matrix(name, matrices):
    points = 4096
    _, megabytes = scaling.in_a_fresh_process(name, points, threads=1, rounds=1)
    matrix = 4 * points**2 / 1e6
    assert megabytes > matrix if matrices else 0 < megabytes < matrix / 2
