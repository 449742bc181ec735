"""How logits become predictions and counts, on scenes made by hand."""

import json

import numpy as np
import pytest
import torch

import eval_scannet
from data import metrics
from data.chunks import Crop
from data.datasets import LabelPolicy, SceneTiles, scene_files
from data.labels import SCANNET20
from data.scenes import read_manifest
from models import pointnet2
from training import checkpoint, inference


class Script(torch.nn.Module):
    """Answers with the given logits (N, 21), draw after draw, then with zeros."""

    def __init__(self, answers):
        super().__init__()
        self.answers = list(answers)

    def forward(self, points):
        return torch.stack([self.answers.pop(0) if self.answers else torch.zeros(points.shape[1], 21) for _ in points])


class Scenes(list):
    """Scenes made by hand, of the paper's classes."""

    policy = LabelPolicy()


def logits(*points):
    """(N, 21) float32 from {class: value, ...} for each point; the others are 0."""
    rows = torch.zeros(len(points), 21)
    for row, values in zip(rows, points, strict=True):
        row[list(values)] = torch.tensor(list(values.values()), dtype=torch.float32)
    return rows


def evaluate(classes, tiles, covering, batch_size=1):
    """Vertices 1 m apart, of these classes; tiles and covering are lists of (index, core, logits of the draw)."""
    xyz = np.zeros((len(classes), 3), dtype=np.float32)
    xyz[:, 0] = range(len(classes))
    draws = [[Crop(np.array(index), np.array(core)) for index, core, _ in part] for part in (tiles, covering)]
    model = Script(answer for part in (tiles, covering) for _, _, answer in part)
    scene = SceneTiles("room", xyz, SCANNET20.id_of[classes], *draws)
    (result,) = inference.evaluate(model, Scenes([scene]), torch.device("cpu"), batch_size)
    return result


def test_tiles_are_argmax_over_21_classes_and_known_over_the_20_on_the_core_alone():
    tile = [0, 1, 2], [True, True, False], logits({0: 9, 7: 2, 20: 1}, {0: 1, 20: 3}, {2: 5})
    counts = evaluate([7, 20, 1], [tile], []).counts
    pairs = {name: list(zip(*np.nonzero(matrix), strict=True)) for name, matrix in counts.items()}
    for name in ("pixel", "voxel", "voxel_484", "voxel_pointnet2"):
        assert pairs[name] == [(7, 0), (20, 20)], name  # (truth, predicted)
    assert pairs["voxel_known"] == [(7, 7), (20, 20)] and pairs["vertex"] == []


def test_of_equal_logits_the_lower_class_is_predicted():
    tile = [0, 1], [True, True], logits({0: 2, 3: 2}, {5: 1, 4: 1})
    counts = evaluate([3, 4], [tile], []).counts
    assert np.argwhere(counts["pixel"]).tolist() == [[3, 0], [4, 4]]
    assert np.argwhere(counts["voxel_known"]).tolist() == [[3, 3], [4, 4]]


def test_vertices_are_argmax_over_the_20_classes_of_the_summed_logits_of_their_core_draws():
    """Vertex 0 is drawn in two tiles, vertex 1 twice in one, vertex 2 also outside the core."""
    first = [0, 1, 1, 2], [True] * 4, logits({0: 50, 1: 3, 20: 1}, {4: 2}, {4: 2}, {5: 1})
    second = [0, 1, 2, 2], [True, True, False, False], logits({2: 2, 20: 1.5}, {3: 3}, {6: 50}, {6: 50})
    for batch_size in (1, 2, 3):
        result = evaluate([1, 4, 5], [], [first, second], batch_size)
        assert result.predicted.tolist() == [1, 4, 5]
        assert np.trace(result.counts["vertex"]) == result.counts["vertex"].sum() == 3


@pytest.mark.parametrize("chunk_size, protocol", [(1.5, "pn2-wholescene"), (2.5, "pn2-wholescene with other tiles")])
def test_tiles_are_of_the_size_that_the_network_was_trained_on(tiny_data, tmp_path, chunk_size, protocol):
    model = pointnet2.build(pointnet2.PointNet2Config(21), seed=0)
    config = {"data": str(tiny_data), "unannotated": "drop", "other": "train", "features": []}
    checkpoint.save(tmp_path / "last.pt", model, config | {"chunk_size": chunk_size})
    assert eval_scannet.main(["--checkpoint", str(tmp_path / "last.pt"), "--device", "cpu"]) == 0
    (folder,) = (tmp_path / "eval").iterdir()
    report = json.loads((folder / "results.json").read_text())
    assert report["chunk_size"] == chunk_size and report["protocols"][0] == protocol
    points = [file.read_points(())[0] for file in scene_files(tiny_data, read_manifest(tiny_data), ["val"])]
    sizes = [np.ptp(xyz[:, :2], axis=0) for xyz in points]
    assert report["tiles"] == sum(np.prod(np.ceil(size / chunk_size)) for size in sizes)
    assert f"tiles of {chunk_size} m" in (folder / "results.md").read_text()


@pytest.mark.parametrize("form", ["last.pt", "export"])
def test_scenes_are_read_with_the_label_policy_and_features_of_the_run(tiny_data, tmp_path, monkeypatch, form):
    model = pointnet2.build(pointnet2.PointNet2Config(21, extra_channels=3), seed=0)
    inputs = {"unannotated": "ignore", "other": "ignore", "features": ["colour"]}
    checkpoint.save(tmp_path / "last.pt", model, config={"data": "moved", **inputs}, selected_on=None)
    checkpoint.export(tmp_path / "export", model, **inputs)
    seen = []

    def evaluate(model, scenes, *rest):
        seen.append(scenes)
        counts = {name: np.eye(21, dtype=np.int64) for name in metrics.COUNTS}
        return [inference.SceneResult("room3_00", 1, 1, counts, np.ones(1, dtype=np.uint16))]

    monkeypatch.setattr(eval_scannet, "evaluate", evaluate)
    flags = ["--checkpoint", str(tmp_path / form), "--data", str(tiny_data), "--out", str(tmp_path / "out")]
    assert eval_scannet.main([*flags, "--device", "cpu"]) == 0
    (scenes,) = seen
    assert scenes.policy == LabelPolicy("ignore", "ignore") and tuple(scenes.features) == ("colour",)
    drawn = np.concatenate([draw.index for draw in scenes[0].tiles])
    assert (SCANNET20.class_of[scenes[0].label[drawn]] == 0).mean() > 0.15  # unannotated and other points, each a tenth
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (report["unannotated"], report["other"]) == ("ignore", "ignore")
