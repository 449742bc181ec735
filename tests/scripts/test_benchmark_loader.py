"""scripts/benchmark.py loader: the scenes it makes, its table and JSON, what it deletes and what it refuses."""

import functools
import json
import shutil
import sys

import numpy as np
import pytest

from data import scene_cache
from scripts.benchmarks import loader

TINY = ["--vertices", 3000, "--rounds", 2, "--batch-size", 2]


def dust(first, vertices):
    """Instead of rooms, which take half a second each."""
    rng = np.random.default_rng(first)
    return rng.random((vertices, 3), dtype=np.float32), rng.integers(1, 41, vertices, dtype=np.uint16), first + 1


@pytest.fixture
def run(run_benchmark, monkeypatch):
    """Runs the script's main with these arguments, on scenes that take no time to make."""
    monkeypatch.setattr(loader, "rooms_side_by_side", dust)
    monkeypatch.setattr(loader, "CHUNKS_TIMED", 2)
    monkeypatch.setattr(scene_cache, "SPARE", 0)
    return functools.partial(run_benchmark, "loader")


@pytest.fixture
def short_step(monkeypatch):
    """A step without the network, whose time is its own test's."""
    monkeypatch.setattr(loader, "time_step", lambda chunks, batch_size, device, rounds: [0.01] * rounds)


def test_scenes_are_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "DISTINCT", 2)
    scenes = loader.make_scenes(tmp_path, scenes=5, vertices=3000)
    assert len(scenes) == 5
    assert all(scene.path.stat().st_nlink == 1 for scene in scenes)
    points = [scene.read_points(())[0] for scene in scenes]  # refuses another size or name
    assert not np.array_equal(points[0], points[1])
    assert np.array_equal(points[0], points[2]) and np.array_equal(points[1], points[3])
    assert all(len(scene.histogram) > 1 and sum(scene.histogram.values()) == 3000 for scene in scenes)


def test_every_number_of_workers_gets_a_row_and_the_made_scenes_are_deleted(run, short_step, tmp_path, capsys):
    run(*TINY, "--scenes", 3, "--workers", 0, 1, "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["workers"] for row in result["rows"]] == [0, 1]
    assert result["need_chunks_per_second"] == 200 and result["vertices"] == [3000] * 3
    for row in result["rows"]:
        assert len(row["chunks_per_second"]) == 2
        assert row["times_need"] == pytest.approx(np.median(row["cached_chunks_per_second"]) / 200)
    in_this_process, in_a_worker = result["rows"]
    assert "peak_mb" not in in_this_process
    if sys.platform == "linux":
        assert 10 < in_a_worker["first_mb"] <= in_a_worker["peak_mb"]
        assert in_a_worker["last_mb"] <= in_a_worker["peak_mb"]
        assert in_a_worker["cold_chunks_per_second"] > 0 and in_a_worker["cached_own_mb"] > 10
    one, cached = (np.median(in_a_worker[key]) for key in ("chunks_per_second", "cached_chunks_per_second"))
    for row, need in zip(result["workers"], (200, 100, 50), strict=True):  # of two chunks in 10, 20 and 40 ms
        assert (row["need"], row["workers"], row["cached"]) == (need, np.ceil(need / one), np.ceil(need / cached))
    printed = capsys.readouterr().out
    assert "3 scenes of 3,000 to 3,000 vertices" in printed and "needs 200.0 chunks/s" in printed
    assert list((tmp_path / "made").iterdir()) == []


def test_without_room_for_the_cache_nothing_is_measured(run, short_step, tiny_data, monkeypatch):
    monkeypatch.setattr(scene_cache, "SPARE", 10**18)
    with pytest.raises(SystemExit, match="benchmark loader: no cache of scenes, which would be up to 1 MB"):
        run("--rounds", 1, "--data", tiny_data)


def test_given_scenes_are_measured_and_left_as_they_are(run, short_step, tiny_data, tmp_path):
    run("--rounds", 1, "--batch-size", 2, "--workers", 0, "--data", tiny_data, "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["vertices"] == [5000] * 3
    assert (tiny_data / "manifest.json").exists()


def test_the_step_is_one_of_training(run, tiny_data, tmp_path):
    run("--rounds", 1, "--batch-size", 1, "--workers", 0, "--data", tiny_data, "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["need_chunks_per_second"] == pytest.approx(1 / result["step_seconds"][0]) and result["ops"]


def test_a_full_disk_is_named_before_it_is_filled(run, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10_000))
    with pytest.raises(SystemExit, match="1201 scenes need .* GB more in .*made, which has 0.0 GB left; set TMPDIR"):
        run(*TINY)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_folder_without_scenes_is_refused(run, tmp_path):
    with pytest.raises(SystemExit, match="benchmark loader: .*manifest.json: no such file"):
        run("--data", tmp_path)
