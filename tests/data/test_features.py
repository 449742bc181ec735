"""Point features: what they are made of, and that a new one is one line."""

import json

import numpy as np
import pytest

import train_scannet
from data import augment
from data.coloured_ply import write_coloured
from data.datasets import SceneFile, TrainingChunks, WholeScenes
from data.features import POINT_FEATURES, PointFeature, channels_of, columns_of, height, points_of
from data.labels import histogram
from data.scenes import Scene, SceneError, write_scene
from models import pointnet2
from scripts import predict
from training import checkpoint, inference


@pytest.fixture
def scene():
    """2,000 points of a room; its first two colours are the number of the point."""
    rng = np.random.default_rng(0)
    xyz = (rng.random((2_000, 3)) * (2, 1.5, 2.4)).astype(np.float32)
    number = np.arange(2_000)
    colour = np.stack([number % 256, number // 256, np.full(2_000, 9)], 1).astype(np.uint8)
    normal = rng.normal(size=(2_000, 3))
    normal = (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32)
    intensity = rng.random(2_000, np.float32)
    return Scene("room", xyz, np.full(2_000, 2, np.uint16), colour, normal, intensity)


@pytest.fixture
def given(monkeypatch):
    """The scenes that scripts/predict.py gives the network, which has fewer centres."""
    monkeypatch.setattr(pointnet2, "CENTRES", (64, 32, 16, 8))
    scenes, run_scene = [], inference.run_scene
    monkeypatch.setattr(
        inference, "run_scene", lambda model, scene, *more: scenes.append(scene) or run_scene(model, scene, *more)
    )
    return scenes


def scene_file(folder, scene):
    write_scene(folder / "room.h5", scene)
    return SceneFile("room", folder / "room.h5", len(scene.xyz), histogram(scene.label))


def test_features_stand_in_one_order_whatever_the_order_asked_for(scene):
    expected = [scene.xyz, scene.colour / np.float32(255), scene.normal, scene.intensity[:, None], height(scene)]
    for asked in (["colour", "normal", "intensity", "height"], ["height", "intensity", "normal", "colour"]):
        points = points_of(scene, asked)
        assert points.dtype == np.float32 and np.array_equal(points, np.concatenate(expected, axis=1))
        where = {"colour": slice(3, 6), "normal": slice(6, 9), "intensity": slice(9, 10), "height": slice(10, 11)}
        assert columns_of(asked) == where and channels_of(asked) == 8
    assert columns_of(["intensity", "colour"]) == {"colour": slice(3, 6), "intensity": slice(6, 7)}
    assert points_of(scene, []).shape == (2_000, 3) and channels_of([]) == 0


def test_height_is_above_the_floor_wherever_that_is(scene):
    """Of 1,000 points 10 lie far below the floor, 400 on it and the others up to 3 m above."""
    z = np.concatenate([np.full(10, -5.0), np.zeros(400), np.linspace(0.01, 3, 590)])
    xyz = np.random.default_rng(1).permutation(np.stack([z, z, z], 1))
    for floor in (0.0, -1.25, 7.5):
        found = height(Scene("room", (xyz + [0, 0, floor]).astype(np.float32)))
        assert found.shape == (1_000, 1) and found.dtype == np.float32
        np.testing.assert_allclose(found[:, 0], xyz[:, 2], atol=1e-5)
    np.testing.assert_allclose(height(scene)[:, 0], scene.xyz[:, 2] - np.percentile(scene.xyz[:, 2], 2), atol=1e-6)


def test_features_are_read_from_the_file_and_of_the_whole_scene(scene, tmp_path):
    file, features = scene_file(tmp_path, scene), ["intensity", "height"]
    points, label = file.read_points(features)
    assert np.array_equal(points, points_of(scene, features)) and np.array_equal(label, scene.label)
    assert np.array_equal(WholeScenes([file], 0, features=features)[0].points, points)
    sample = TrainingChunks([file], 0, features=features)[(1, 0, 0)]["points"].numpy()
    assert set(map(tuple, sample[:, 3:])) <= set(map(tuple, points[:, 3:]))  # a chunk's floor is the scene's
    np.testing.assert_allclose(np.ptp(sample[:, 2] - sample[:, 4]), 0, atol=1e-6)


@pytest.mark.parametrize("field", ["colour", "normal", "intensity"])
def test_a_scene_without_what_a_feature_is_made_of_is_refused_with_advice(scene, tmp_path, field):
    file = scene_file(tmp_path, Scene("room", scene.xyz, scene.label))
    with pytest.raises(SceneError, match=f"room.h5: there is no '{field}'; .*--(features|normals)"):
        file.read_points(["height", field])
    assert file.read_points(["height"])[0].shape == (2_000, 4)


@pytest.mark.parametrize("turns", [False, True])
def test_a_new_feature_is_one_line(scene, tmp_path, monkeypatch, turns):
    monkeypatch.setitem(POINT_FEATURES, "flow", PointFeature(3, ("normal",), lambda scene: 2 * scene.normal, turns))
    chunks = TrainingChunks([scene_file(tmp_path, scene)], seed=0, features=["flow", "colour"])
    angles = set()
    for position in range(3):
        points = chunks[(1, position, 0)]["points"].numpy()  # (N, 9)
        number = np.rint(255 * points[:, 3:5]).astype(int) @ [1, 256]
        ours, theirs = (xyz[:, 0] + 1j * xyz[:, 1] for xyz in (points[:, :3], scene.xyz[number]))
        angle = np.angle(np.sum(ours / theirs))
        np.testing.assert_allclose(points[:, :3], augment.rotate_about_z(scene.xyz[number], angle), atol=1e-5)
        flow = augment.rotate_about_z(scene.normal[number], angle) if turns else scene.normal[number]
        np.testing.assert_allclose(points[:, 6:], 2 * flow, atol=1e-5)
        angles.add(round(angle, 3))
    assert len(angles) == 3


def test_a_new_feature_is_trained_and_predicted(given, tiny_data, tmp_path, monkeypatch, capsys):
    red = PointFeature(2, ("colour",), lambda scene: scene.colour[:, :2].astype(np.float32) / 100)
    monkeypatch.setitem(POINT_FEATURES, "red and green", red)
    flags = ["--batch-size", "3", "--epochs", "1", "--validate-every", "0", "--workers", "0", "--device", "cpu"]
    flags += ["--data", str(tiny_data), "--out", str(tmp_path / "run"), "--features", "red and green", "height"]
    assert train_scannet.main(flags) == 0
    run = json.loads((tmp_path / "run" / "config.json").read_text())
    assert run["features"] == ["height", "red and green"]
    for folder in (tmp_path / "run", tmp_path / "run" / "export"):
        assert checkpoint.load(folder).config.extra_channels == 3

    rng = np.random.default_rng(0)
    xyz, colour = rng.random((500, 3), np.float32) + np.float32(4), rng.integers(0, 256, (500, 3), np.uint8)
    write_coloured(tmp_path / "in.ply", xyz, colour)
    flags = ["--checkpoint", str(tmp_path / "run" / "export"), "--input", str(tmp_path / "in.ply"), "--device", "cpu"]
    assert predict.main([*flags, "--up", "y"]) == 0, capsys.readouterr().err
    points = given[0].points
    np.testing.assert_allclose(points[:, 3], xyz[:, 1] - np.percentile(xyz[:, 1], 2), atol=1e-5)
    np.testing.assert_allclose(points[:, 4:], colour[:, :2] / 100, rtol=1e-6)


def test_intensities_are_predicted_from_what_the_cloud_has(given, tmp_path, capsys):
    model = pointnet2.build(pointnet2.PointNet2Config(21, extra_channels=1), seed=0)
    checkpoint.export(tmp_path / "export", model, features=["intensity"])
    xyz, path = np.random.default_rng(0).random((300, 3), np.float32), tmp_path / "in.ply"
    flags = ["--checkpoint", str(tmp_path / "export"), "--input", str(path), "--device", "cpu"]
    write_coloured(path, xyz, np.zeros((300, 3), np.uint8))
    assert predict.main(flags) == 1
    assert "in.ply: " in (said := capsys.readouterr().err) and "intensity" in said
    write_coloured(path, xyz, np.zeros((300, 3), np.uint8), intensity=3 * xyz[:, 0] - 1)
    assert predict.main(flags) == 1 and "from 0 to 1" in capsys.readouterr().err
    for intensity in (xyz[:, 0], (65535 * xyz[:, 0]).astype(np.uint16)):
        write_coloured(path, xyz, np.zeros((300, 3), np.uint8), intensity=intensity)
        assert predict.main(flags) == 0
        np.testing.assert_allclose(given.pop().points[:, 3], xyz[:, 0], atol=1e-4)


def test_training_on_scenes_without_the_field_ends_with_advice(tiny_data, tmp_path, capsys):
    flags = ["--data", str(tiny_data), "--out", str(tmp_path), "--workers", "0", "--device", "cpu", "--batch-size", "3"]
    assert train_scannet.main([*flags, "--validate-every", "0", "--features", "intensity"]) == 1
    said = capsys.readouterr().err
    assert "h5: there is no 'intensity'" in said and "without --features intensity" in said
