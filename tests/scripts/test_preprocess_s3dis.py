"""The command on six made areas of 13 classes: its scenes, its splits, and six folds by patterns."""

import json

import numpy as np
import pytest

import train_scannet
from data.datasets import choose_scenes, expected_scenes
from data.labels import label_space
from data.s3dis import ROOMS
from data.scenes import read_manifest, read_scene
from scripts import preprocess_s3dis

SPACE = label_space("s3dis")
POINTS = 150  # of an object


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3dis")
    for area in range(1, 7):
        for room in ("office_1", "hallway_2"):
            rng = np.random.default_rng([area, len(room)])
            annotations = folder / f"Area_{area}" / room / "Annotations"
            annotations.mkdir(parents=True)
            for name in SPACE.names[1:]:
                rows = np.column_stack([rng.uniform(0, 3, (POINTS, 3)), rng.integers(0, 256, (POINTS, 3))])
                np.savetxt(annotations / f"{name}_1.txt", rows, fmt="%.3f %.3f %.3f %d %d %d")
        (folder / f"Area_{area}" / ".DS_Store").write_bytes(b"\0")
    return folder


@pytest.fixture(scope="module")
def scenes(areas, tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes")
    assert preprocess_s3dis.main(["--scans", str(areas), "--out", str(out), "--workers", "2"]) == 0
    return out


def test_area_5_is_for_validation_and_counts_are_held_against_the_whole(scenes):
    manifest = read_manifest(scenes)
    assert manifest["label_space"] == SPACE and manifest["expected"] == ROOMS and sum(ROOMS.values()) == 272
    assert manifest["splits"]["val"] == ["Area_5_hallway_2", "Area_5_office_1"]
    assert len(manifest["splits"]["train"]) == 10 and manifest["splits"]["test"] == []
    scene = read_scene(scenes / "scenes/Area_5_office_1.h5", None)
    assert np.bincount(scene.label).tolist() == [0] + [POINTS] * 13 and scene.colour.shape == (13 * POINTS, 3)


def test_six_folds_are_six_patterns(scenes):
    manifest, seen = read_manifest(scenes), []
    for area in range(1, 7):
        others = "".join(str(other) for other in range(1, 7) if other != area)
        val, train = [f"Area_{area}*"], [f"Area_[{others}]*"]
        chosen = choose_scenes(scenes, manifest, val)
        assert expected_scenes(manifest, val) == len(chosen) == 2
        assert sorted(chosen + choose_scenes(scenes, manifest, train)) == sorted(manifest["scenes"])
        seen += chosen
    assert sorted(seen) == sorted(manifest["scenes"])


def test_a_fold_is_trained_without_more_preprocessing(scenes, tmp_path, monkeypatch):
    flags = f"--data {scenes} --train Area_[1-46]* --val Area_5* --out {tmp_path}/run --epochs 1 --batch-size 10"
    assert train_scannet.main([*flags.split(), "--workers", "0", "--model", "pointnet2"]) == 0
    log = (tmp_path / "run/log.txt").read_text()
    assert "10 training scenes (10 expected), 2 validation scenes, 13 classes of s3dis" in log
    assert all(name in log for name in SPACE.names[1:])


def test_classes_can_be_merged_and_left_out(areas, tmp_path):
    own = {"name": "surfaces", "classes": [{"id": [1, 2, 3], "name": "surface"}, {"id": [8, 9], "name": "furniture"}]}
    own["other"] = [id for id in range(4, 14) if id not in (8, 9)]
    (tmp_path / "own.json").write_text(json.dumps(own))
    given = ["--scans", str(areas), "--out", str(tmp_path / "out"), "--label-space", str(tmp_path / "own.json")]
    assert preprocess_s3dis.main([*given, "--workers", "1"]) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["label_space"].names == ("none", "surface", "furniture")
    assert manifest["scenes"]["Area_1_office_1"]["histogram"] == dict.fromkeys(range(1, 14), POINTS)


def test_lists_and_a_space_of_ones_own(areas, tmp_path, capsys):
    (tmp_path / "train.txt").write_text("Area_1_office_1\nArea_1_office_9\n")
    out = tmp_path / "out"
    given = ["--scans", str(areas), "--out", str(out), "--splits", str(tmp_path), "--workers", "1"]
    assert preprocess_s3dis.main(given) == 1
    assert "lists 'Area_1_office_9'" in capsys.readouterr().out
    assert read_manifest(out)["splits"]["train"] == ["Area_1_office_1"]
    assert preprocess_s3dis.main(["--scans", str(tmp_path), "--out", str(out)]) == 2
    assert preprocess_s3dis.main([*given, "--label-space", str(tmp_path / "no.json")]) == 2
    assert "holds no rooms" in (error := capsys.readouterr().err) and "no.json: no such file" in error
