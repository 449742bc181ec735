import json

import pytest
from matplotlib.image import imread

from scripts import plot_runs


def write_run(folder, seed=0, model="latentgnn", scored=True):
    """A run of two epochs of 3 steps of 4 chunks, its last line cut off by a crash."""
    config = {"seed": seed, "model": model, "batch_size": 4, "epochs": 2, "workers": seed, "data": "/far/away/rooms"}
    entries = [{"epoch": e, "part": "step", "step": 3 * e - 3 + s, "loss": 9} for e in (1, 2) for s in (1, 2, 3)]
    entries += [
        {"epoch": e, "part": "train", "loss": 10 / e + seed, "lr": 1e-3, "points_per_second": 1000.0 * e}
        for e in (1, 2)
    ]
    if scored:
        scores = {"class_voxel_accuracy": 0.125, "voxel_accuracy_majority": 0.37}
        entries += [{"epoch": e, "part": "val", "voxel_accuracy": 0.6 - 0.1 * e, **scores} for e in (0, 1, 2)]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"epoch": 3, "pa')
    return folder


def test_what_a_run_folder_says(tmp_path):
    run = plot_runs.read_run(write_run(tmp_path / "one", seed=1))
    assert run.losses == [(12, 11), (24, 6)]  # chunks, mean loss
    assert run.accuracies == [(0, 60), (12, 50), (24, pytest.approx(40))] and run.majority == 37
    assert run.cells == ["1", "2", "24", "6.000", "40.0", "60.0", "12.5", "1,500"]


def test_the_legend_tells_settings_and_not_seeds(tmp_path):
    folders = [
        write_run(tmp_path / "a"),
        write_run(tmp_path / "b", seed=1),
        write_run(tmp_path / "c", model="pointnet2"),
    ]
    runs = [plot_runs.read_run(folder) for folder in folders]
    assert plot_runs.labels(runs) == ["model latentgnn", "model latentgnn", "model pointnet2"]
    assert plot_runs.labels(runs[:2]) == ["a", "b"]


def test_the_script_draws_and_prints_runs_with_and_without_validation(tmp_path, capsys):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", model="pointnet2", scored=False)
    wide, narrow = tmp_path / "pictures" / "wide.png", tmp_path / "narrow.png"
    assert plot_runs.main([str(one), str(two), "--out", str(wide)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["one", "0"] and lines[2].split()[5:8] == ["-", "-", "-"]
    assert plot_runs.main([str(two), "--out", str(narrow)]) == 0
    assert imread(wide).shape[1] == 2 * imread(narrow).shape[1]  # no panel without a score


def test_what_is_no_run_is_named(tmp_path, capsys):
    assert plot_runs.main([str(tmp_path / "none")]) == 1
    assert "none/config.json" in capsys.readouterr().err
    folder = write_run(tmp_path / "young")
    (folder / "metrics.jsonl").write_text("")
    assert plot_runs.main([str(folder), "--out", str(tmp_path / "x.png")]) == 1
    assert "young: no epoch is finished" in capsys.readouterr().err and not (tmp_path / "x.png").exists()
