"""How logits become predictions and counts, on scenes made by hand."""

import json

import numpy as np
import torch

import eval_scannet
from data import metrics
from data.datasets import LabelPolicy, SceneTiles
from models import checkpoint, pointnet2


class Echo(torch.nn.Module):
    """The logits are the points' features."""

    def forward(self, points):
        return points[..., 3:]


class Scenes(list):
    covering = True


def draw(*logits):
    """(1, N, 3 + 21) float32: N points 1 m apart, each with its logits {class: value, ...}."""
    points = np.zeros((1, len(logits), 24), dtype=np.float32)
    points[0, :, 0] = range(len(logits))
    for row, values in zip(points[0], logits, strict=True):
        row[[3 + k for k in values]] = list(values.values())
    return points


def evaluate(nyu40, tile, cover):
    """tile, cover: (points (T, N, 24), classes or vertices (T, N), core (T, N))."""
    arrays = [np.array(a) for a in (*tile, *cover)]
    scenes = Scenes([SceneTiles("room", np.array(nyu40), len(nyu40), *arrays)])
    (result,) = eval_scannet.evaluate(Echo(), scenes, torch.device("cpu"), batch_size=1)
    return result


def test_tiles_are_argmax_over_21_classes_and_known_over_the_20_on_the_core_alone():
    tile = draw({0: 9, 7: 2, 20: 1}, {0: 1, 20: 3}, {2: 5}), [[7, 20, 1]], [[True, True, False]]
    counts = evaluate([1], tile, cover=(draw({1: 1}), [[0]], [[True]])).counts
    pairs = {name: list(zip(*np.nonzero(matrix), strict=True)) for name, matrix in counts.items()}
    for name in ("pixel", "voxel", "voxel_484", "voxel_pointnet2"):
        assert pairs[name] == [(7, 0), (20, 20)], name  # (truth, predicted)
    assert pairs["voxel_known"] == [(7, 7), (20, 20)]


def test_vertices_are_argmax_over_the_20_classes_of_the_summed_logits_of_their_core_draws():
    """Vertex 0 is drawn in two tiles, vertex 1 twice in one, vertex 2 also outside the core."""
    first = draw({0: 50, 1: 3, 20: 1}, {4: 2}, {4: 2}, {5: 1})
    second = draw({2: 2, 20: 1.5}, {3: 3}, {6: 50}, {6: 50})
    core = [[True] * 4, [True, True, False, False]]
    cover = np.concatenate([first, second]), [[0, 1, 1, 2], [0, 1, 2, 2]], core
    result = evaluate([1, 4, 5], tile=(draw({1: 1}), [[1]], [[True]]), cover=cover)
    assert result.predicted.tolist() == [1, 4, 5]
    assert np.trace(result.counts["vertex"]) == result.counts["vertex"].sum() == 3


def test_scenes_are_read_with_the_label_policy_and_features_of_the_run(tiny_data, tmp_path, monkeypatch):
    model = pointnet2.build(pointnet2.PointNet2Config(extra_channels=3), seed=0)
    config = {"data": str(tiny_data), "unannotated": "ignore", "other": "ignore", "features": ["colour"]}
    checkpoint.save(tmp_path / "last.pt", model, config=config, selected_on=None)
    seen = []

    def evaluate(model, scenes, *rest):
        seen.append(scenes)
        counts = {name: np.eye(21, dtype=np.int64) for name in metrics.COUNTS}
        yield eval_scannet.SceneResult("room3_00", 1, counts, np.ones(1, dtype=np.uint8))

    monkeypatch.setattr(eval_scannet, "evaluate", evaluate)
    flags = ["--checkpoint", str(tmp_path / "last.pt"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert eval_scannet.main(flags) == 0
    (scenes,) = seen
    assert scenes.policy == LabelPolicy("ignore", "ignore") and tuple(scenes.features) == ("colour",)
    assert (scenes[0].tile_classes == 0).mean() > 0.15  # unannotated and other points, each about a tenth
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (report["unannotated"], report["other"]) == ("ignore", "ignore")
