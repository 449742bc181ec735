"""Classes of one's own on their way through data, training, checkpoints, scores and predictions."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from plyfile import PlyData

import eval_scannet
import train_scannet
from data import metrics
from data.coloured_ply import UNLABELLED, write_coloured
from data.datasets import LabelPolicy, TrainingChunks, WholeScenes, scene_files
from data.labels import SCANNET20, from_json, histogram, label_space
from data.scenes import FORMAT_VERSION, Scene, read_manifest, read_scene, write_manifest, write_scene
from models import pointnet2
from scripts import predict
from training import board, checkpoint, inference

NAMES = ("floor", "wall", "lamp", "table", "plant")
SPACE = {"name": "my rooms", "unannotated": [9], "other": [11]}
SPACE["classes"] = [{"id": id, "name": name} for id, name in zip((3, [7, 300], 65535, 0, 500), NAMES, strict=True)]
SPACE["classes"][2]["colour"] = [255, 250, 5]
OURS = from_json(SPACE)
OCCUR = np.array([3, 7, 300, 65535, 0, 9, 11], np.uint16)  # no plant
FIRST_IDS = [3, 7, 65535, 0, 500]


def changed(number=0, **entries):
    """SPACE with other entries in the class of that number, from 0."""
    return SPACE | {"classes": [entry | (entries if n == number else {}) for n, entry in enumerate(SPACE["classes"])]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """2 training, 1 validation and 1 unlabelled test scene of 1.4 m; a label for each 20 cm along x, from id 3 on."""
    folder, entries = tmp_path_factory.mktemp("own"), {}
    splits = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    (folder / "scenes").mkdir()
    for seed, name in enumerate("abcd"):
        xyz = (np.random.default_rng(seed).random((2_000, 3)) * (1.4, 1.4, 2)).astype(np.float32)
        label = OCCUR[(xyz[:, 0] / 0.2).astype(int).clip(0, 6)] if name != "d" else None
        write_scene(folder / "scenes" / f"{name}.h5", Scene(name, xyz, label))
        entries[name] = {"file": f"scenes/{name}.h5", "vertices": 2_000, "labelled": name != "d", "sha256": name}
        entries[name]["histogram"] = histogram(label) if name != "d" else {}
    manifest = {"format_version": FORMAT_VERSION, "label_space": OURS, "splits": splits, "failed": {}}
    expected = {split: len(names) for split, names in splits.items()}
    write_manifest(folder, manifest | {"expected": expected, "scenes": entries})
    return folder


def with_space(data, folder, content):
    """A copy of the data whose manifest has another label space; what that has no place for is `other` there."""
    ids = {id for semantic_class in from_json(content).classes for id in semantic_class.ids}
    lost = {*OCCUR.tolist()} - ids - {*content["other"], *content["unannotated"]}
    space = from_json(content | {"other": [*content["other"], *lost]})
    write_manifest(shutil.copytree(data, folder), read_manifest(data) | {"label_space": space})
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_centres():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pointnet2, "CENTRES", (64, 32, 16, 8))
        yield


def arguments(data, out, *more):
    flags = ["--data", str(data), "--out", str(out), "--batch-size", "2", "--workers", "0", "--device", "cpu"]
    return [*flags, "--validate-every", "1", *more]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of two steps."""
    out = tmp_path_factory.mktemp("runs") / "own"
    assert train_scannet.main(arguments(data, out, "--epochs", "2")) == 0
    return out


@pytest.fixture(scope="module")
def report(run):
    """The folder of its evaluation, with the submission of its validation scene."""
    assert eval_scannet.main(["--checkpoint", str(run), "--device", "cpu", "--predictions", "--export-ply", "1"]) == 0
    (folder,) = (run / "eval").iterdir()
    return folder


class ByPlace(torch.nn.Module):
    """A network that answers with the class of each 20 cm along x: 0, 1, ... 5, 0."""

    config = pointnet2.PointNet2Config(6)

    def forward(self, points):
        x = points[..., 0] - points[..., 0].amin()
        return self.answer(x)

    def answer(self, place):
        return torch.nn.functional.one_hot((place / 0.2).long().clamp(0, 6) % 6, 6).float()


class ByHeight(ByPlace):
    """The same along z, which is that of the scene however it is turned."""

    def forward(self, points):
        return self.answer(points[..., 2])


def test_vertices_are_of_their_classes_whichever_of_their_ids_they_have(data):
    files, policy = scene_files(data, read_manifest(data), ["train"]), LabelPolicy(space=OURS)
    counts = {3: 2, 7: 1, 300: 3, 65535: 4, 0: 5, 9: 70, 11: 5}
    frequency = np.array([5, 2, 4, 4, 5, 0]) / 20
    np.testing.assert_allclose(policy.class_weights(counts), 1 / np.log(1.2 + frequency), rtol=1e-6)
    assert policy.kept(OCCUR).tolist() == policy.trained(OCCUR).tolist() == [True] * 5 + [False, True]
    ignored = LabelPolicy("ignore", "ignore", OURS)
    assert ignored.kept(OCCUR).all() and ignored.trained(OCCUR).tolist() == [True] * 5 + [False] * 2
    sample = TrainingChunks(files, seed=0, policy=policy)[(1, 0, 0)]
    assert set(sample["classes"].tolist()) == {0, 1, 2, 3, 4}


def test_checkpoints_and_the_export_carry_the_label_space(run):
    for path in (*(run / "checkpoints" / name for name in ("last.pt", "best.pt")), run / "export", run):
        content = checkpoint.read_published(path)
        assert content["label_space"] == OURS and checkpoint.build(content, path).config.num_classes == 6
    assert "5 classes of my rooms" in (run / "log.txt").read_text()
    for line in (run / "metrics.jsonl").read_text().splitlines():
        scores = json.loads(line).keys()
        assert not any(name.endswith("_20") or name.startswith("calibrated") for name in scores)


def test_the_report_is_of_these_classes(report):
    results = json.loads((report / "results.json").read_text())
    assert tuple(results["iou"]) == tuple(results["class_voxel_accuracies"]) == NAMES
    assert results["iou"]["plant"] is None and results["iou"]["floor"] is not None
    assert results["calibrated_voxel_accuracy"] is None and results["calibrated_voxel_accuracy_all"] is None
    for name in ("class_pixel_accuracy", "class_voxel_accuracy", "mean_iou"):
        assert results[f"{name}_all"] == pytest.approx(results[name] * 4 / 5)
    assert not [name for name in results if name.endswith("_20")]
    assert (results["label_space"], results["scenes"], results["vertices"]) == ("my rooms", 1, 2_000)
    assert (report / "confusion.png").read_bytes().startswith(b"\x89PNG")
    text = (report / "results.md").read_text()
    assert all(f"\n{name} " in text for name in NAMES) and "my rooms" in text and "otherfurniture" not in text


def test_submissions_and_meshes_have_the_ids_and_colours_of_the_space(run, report, data, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "build", lambda content, path: ByPlace())
    flags = ["--checkpoint", str(run), "--device", "cpu", "--predictions", "--export-ply", "1", "--out", str(tmp_path)]
    assert eval_scannet.main([*flags, "--split", "val"]) == 0
    ids = np.loadtxt(tmp_path / "predictions" / "c.txt", dtype=int)
    scene = read_scene(data / "scenes" / "c.h5")
    place = (scene.xyz[:, 0] / 0.2).astype(int)
    inside = (place > 0) & (place < 6) & (np.abs(scene.xyz[:, 0] / 0.2 - np.rint(scene.xyz[:, 0] / 0.2)) > 0.05)
    assert len(ids) == 2_000 and np.array_equal(ids[inside], np.array(FIRST_IDS)[place[inside] - 1])
    meshes = {view: PlyData.read(tmp_path / "ply" / f"c_{view}.ply")["vertex"] for view in ("prediction", "truth")}
    assert np.array_equal(meshes["prediction"]["label"], ids)
    assert np.array_equal(colours(meshes["prediction"]), OURS.palette[OURS.class_of[ids]])
    assert np.array_equal(meshes["truth"]["label"], scene.label)
    classes = OURS.class_of[scene.label]
    assert np.array_equal(colours(meshes["truth"]), np.where(classes[:, None] > 0, OURS.palette[classes], UNLABELLED))
    of_network = np.loadtxt(report / "predictions" / "c.txt", dtype=int)
    assert {*of_network} <= {*FIRST_IDS}


def colours(vertex):
    return np.stack([vertex[name] for name in ("red", "green", "blue")], 1)


def test_a_scan_without_labels_gets_ids_of_the_space(run, tmp_path):
    assert (
        eval_scannet.main(["--checkpoint", str(run), "--device", "cpu", "--split", "test", "--out", str(tmp_path)]) == 0
    )
    assert {*np.loadtxt(tmp_path / "predictions" / "d.txt", dtype=int)} <= {*FIRST_IDS}


@pytest.mark.parametrize("form", ["run", "export"])
def test_a_cloud_is_predicted_in_ids_and_colours_of_the_space(run, form, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "build", lambda content, path: ByHeight())
    x = np.repeat(0.2 * np.arange(7) + 0.1, 30)
    xyz = np.stack([x, np.tile(np.linspace(0, 1, 30), 7), x], 1).astype(np.float32)
    xyz[0] = 0  # the minimum
    write_coloured(tmp_path / "in.ply", xyz, np.zeros((210, 3), np.uint8))
    folder = run if form == "run" else run / "export"
    flags = ["--checkpoint", str(folder), "--input", str(tmp_path / "in.ply"), "--out", str(tmp_path / "out.ply")]
    assert predict.main([*flags, "--device", "cpu"]) == 0
    vertex = PlyData.read(tmp_path / "out.ply")["vertex"]
    assert vertex["label"][30:180].tolist() == np.repeat(FIRST_IDS, 30).tolist() and set(vertex["label"][:30]) == {3}
    assert np.array_equal(colours(vertex), OURS.palette[OURS.class_of[vertex["label"]]])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["lamp", "65535", "30", "14.3"] in said


class Oracle(torch.nn.Module):
    """Answers with the class of the scene's vertex at the same place."""

    def __init__(self, scene):
        super().__init__()
        self.xyz, self.classes = torch.from_numpy(scene.xyz), torch.from_numpy(OURS.class_of[scene.label]).long()

    def forward(self, points):
        nearest = torch.stack([torch.cdist(cloud, self.xyz).argmin(1) for cloud in points])
        return torch.nn.functional.one_hot(self.classes[nearest], 6).float()


def test_a_perfect_network_scores_one_on_each_class_that_occurs(data):
    files = scene_files(data, read_manifest(data), ["val"])
    oracle, scenes = Oracle(read_scene(files[0].path)), WholeScenes(files, 0, LabelPolicy(space=OURS))
    (result,) = inference.evaluate(oracle, scenes, torch.device("cpu"))
    scores = metrics.scores(result.counts, OURS)
    for name in ("pixel_accuracy", "voxel_accuracy", "class_voxel_accuracy", "vertex_accuracy", "mean_iou_scannet"):
        assert scores[name] == 1, name
    assert scores["iou"] == dict.fromkeys(NAMES[:4], 1) | {"plant": None}
    assert scores["mean_iou_all"] == scores["class_pixel_accuracy_all"] == 4 / 5
    assert result.counts["vertex"].sum() == 2_000 and result.counts["pixel"].shape == (6, 6)


OTHER_SPACES = {
    "ids": (changed(3, id=1), ["'table' (id 0)", "'table' (id 1)"]),
    "a merge undone": (changed(1, id=7), ["'wall' (id 7, 300)", "'wall' (id 7)"]),
    "a name": (changed(0, name="ground"), ["'floor'", "'ground'"]),
    "other": (SPACE | {"other": [11, 12]}, ["other", "12"]),
    "unannotated": (SPACE | {"unannotated": [8, 9]}, ["unannotated", "8"]),
    "fewer": (SPACE | {"classes": SPACE["classes"][:4], "other": [11, 500]}, ["classes", "5"]),
}


@pytest.mark.parametrize("case", OTHER_SPACES)
def test_data_of_another_space_is_neither_scored_nor_trained_on(run, data, tmp_path, capsys, case):
    content, told = OTHER_SPACES[case]
    other, last = with_space(data, tmp_path / "data", content), run / "checkpoints" / "last.pt"
    before = last.read_bytes()
    assert eval_scannet.main(["--checkpoint", str(run), "--data", str(other), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert all(text in said for text in told) and said.count("\n") == 1 and not (tmp_path / "out").exists()
    assert train_scannet.main(arguments(other, run, "--epochs", "3", "--resume", "auto")) == 1
    said = capsys.readouterr().err
    assert all(text in said for text in told) and said.count("\n") == 1 and last.read_bytes() == before


def test_spaces_that_differ_in_their_own_name_and_in_colours_are_the_same(run, data, tmp_path):
    content = changed(2, colour=[1, 2, 3]) | {"name": "her rooms"}
    content["classes"] = [entry | {"weight": 1} for entry in content["classes"]]
    other, out = with_space(data, tmp_path / "data", content), shutil.copytree(run, tmp_path / "run")
    flags = ["--checkpoint", str(out / "checkpoints" / "best.pt"), "--device", "cpu", "--data", str(other)]
    assert eval_scannet.main([*flags, "--out", str(tmp_path / "out")]) == 0
    assert train_scannet.main(arguments(other, out, "--epochs", "3", "--resume", "auto")) == 0


def test_scannet_is_another_space_both_ways(run, data, tiny_data, tmp_path, capsys):
    flags = ["--checkpoint", str(run), "--out", str(tmp_path / "out"), "--data"]
    assert eval_scannet.main([*flags, str(tiny_data)]) == 1
    said = capsys.readouterr().err
    assert "my rooms" in said and "scannet20" in said and "20" in said
    checkpoint.save(tmp_path / "a.pt", pointnet2.build(pointnet2.PointNet2Config(21), seed=0), {"data": str(data)})
    assert eval_scannet.main(["--checkpoint", str(tmp_path / "a.pt"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "a.pt knows other classes (scannet20)" in said and "my rooms" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["checkpoint", "export"])
def test_files_without_a_label_space_are_scannets_and_a_broken_one_is_refused(run, tmp_path, form):
    def rewrite(label_space):
        if form == "checkpoint":
            content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
            content.pop("label_space")
            torch.save(content | label_space, tmp_path / "last.pt")
            return tmp_path / "last.pt"
        shutil.copytree(run / "export", tmp_path / "export", dirs_exist_ok=True)
        content = json.loads((run / "export" / "config.json").read_text())
        content.pop("label_space")
        (tmp_path / "export" / "config.json").write_text(json.dumps(content | label_space))
        return tmp_path / "export"

    path = rewrite({})
    assert checkpoint.read_published(path)["label_space"] == SCANNET20
    with pytest.raises(checkpoint.CheckpointError, match=f"{path.name}.* 6 .*scannet20.* 21"):
        checkpoint.load(path)
    for content in ({"name": "a", "classes": []}, [1], SPACE | {"other": [9]}, changed(0, id=-1)):
        with pytest.raises(checkpoint.CheckpointError, match=f"{path.name}: its label space"):
            checkpoint.read_published(rewrite({"label_space": content}))


def test_200_classes_have_200_names_in_table_picture_and_report(tmp_path):
    space = label_space("scannet200")
    counts = metrics.no_counts(201)
    for matrix in counts.values():
        matrix += np.random.default_rng(0).integers(0, 9, matrix.shape)
        matrix[5] = 0  # door is absent
    report = metrics.scores(counts, space)
    assert tuple(report["iou"]) == space.names[1:] and report["iou"]["door"] is None
    lines = metrics.class_table(report).splitlines()
    assert len(lines) == 202 and len({len(line) for line in lines}) == 1
    assert [line[: len(name) + 1] for line, name in zip(lines[1:-1], space.names[1:], strict=True)] == [
        f"{name} " for name in space.names[1:]
    ]
    (axes,) = board.confusion_figure(counts["voxel"], space).axes
    columns, rows = ([label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis))
    assert rows == list(space.names[1:]) and columns == [*rows, "none"]
    facts = {"scenes": 1, "expected_scenes": 1, "split": "val", "checkpoint_sha256": "0", "protocols": ["x"], "seed": 0}
    facts |= {"tiles": 1, "vertices": 1, "chunk_size": 1.5, "points": 8192, "unannotated": "drop", "other": "train"}
    text = eval_scannet.markdown(
        report | facts | {"label_space": space.name, "selected_on": None}, tmp_path / "last.pt"
    )
    assert all(f"\n{name} " in text for name in space.names[1:])


def test_over_all_classes_is_over_20_in_scannet20_and_nowhere_else():
    counts = metrics.no_counts(21)
    for matrix in counts.values():
        matrix[1, [1, 2]], matrix[7, [7, 0]] = (3, 1), (1, 1)
    scores, over_all = metrics.scores(counts, SCANNET20), [f"{name}_all" for name in metrics.OVER_ALL]
    for name in over_all:
        assert scores[name] == scores[name.replace("_all", "_20")] is not None
    assert scores["class_voxel_accuracy_20"] == pytest.approx((3 / 4 + 1 / 2) / 20)
    w = SCANNET20.weights
    assert scores["calibrated_voxel_accuracy_20"] == pytest.approx((w[0] * 3 / 4 + w[6] / 2) / w.sum())
    renamed = metrics.scores(counts, dataclasses.replace(SCANNET20, name="mine"))
    assert renamed == {name: value for name, value in scores.items() if not name.endswith("_20")}
