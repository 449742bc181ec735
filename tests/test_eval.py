import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from plyfile import PlyData

import eval_scannet
from data.coloured_ply import RIGHT, UNLABELLED, WRONG
from data.datasets import WholeScenes, scene_files
from data.labels import SCANNET20
from data.scenes import read_manifest, read_scene, write_scene
from models import pointnet2
from training import checkpoint, inference


@pytest.fixture(scope="module")
def weights(tiny_data, tmp_path_factory):
    """The last.pt of an untrained network."""
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "last.pt"
    path.parent.mkdir()
    config = {"data": str(tiny_data), "unannotated": "drop", "other": "train", "features": []}
    model = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0)
    checkpoint.save(path, model, config)
    return path


@pytest.fixture(scope="module")
def report(weights):
    assert eval_scannet.main(["--checkpoint", str(weights)]) == 0
    (folder,) = (weights.parent.parent / "eval").iterdir()
    return folder


def test_the_report_is_complete(report, weights):
    results = json.loads((report / "results.json").read_text())
    model = checkpoint.load(weights)
    assert results["checkpoint_sha256"] == checkpoint.weights_sha256(model)
    assert report.name == f"val-{results['checkpoint_sha256'][:8]}"
    assert results["scenes"] == results["expected_scenes"] == 2 and results["vertices"] == 10_000
    assert results["protocols"] == ["pn2-wholescene", "scannet-benchmark"] and results["selected_on"] is None
    fractions = "voxel_accuracy", "calibrated_voxel_accuracy", "vertex_accuracy", "class_voxel_accuracy_20"
    for name in (*fractions, "mean_iou_scannet"):
        assert 0 <= results[name] <= 1
    assert results["iou"]["bed"] is None and results["iou"]["wall"] is not None
    assert results["voxel_accuracy"] <= results["voxel_accuracy_known"]
    assert (report / "confusion.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((report / "per_scene.csv").open()))
    assert [row["scene"] for row in rows] == ["room3_00", "room4_00"]
    table = (report / "results.md").read_text()
    assert (
        "| voxel_accuracy |" in table
        and "| mean_iou_scannet |" in table
        and "bed                        -           -" in table
    )


def test_a_runs_folder_and_its_export_score_as_its_last_checkpoint(report, weights, tiny_data, tmp_path, capsys):
    run = shutil.copytree(weights.parent.parent, tmp_path / "run", ignore=lambda *_: ["eval"])
    checkpoint.export(run / "export", checkpoint.load(weights))
    expected = (report / "results.json").read_bytes()
    for flags in (["--checkpoint", str(run)], ["--checkpoint", str(run / "export"), "--data", str(tiny_data)]):
        assert eval_scannet.main(flags) == 0
        assert ("checkpoints/last.pt is taken" in capsys.readouterr().out) == (len(flags) == 2)
        (folder,) = (run / "eval").iterdir()  # the export's report lies beside the export, as the checkpoint's does
        assert (folder / "results.json").read_bytes() == expected
        shutil.rmtree(folder)
    assert eval_scannet.main(["--checkpoint", str(run / "export")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "export" in line and "--data" in line


def test_votes_are_a_variant_that_has_a_name_and_a_place_of_its_own(report, weights):
    before = (report / "results.json").read_bytes()
    assert eval_scannet.main(["--checkpoint", str(weights), "--votes", "2"]) == 0
    (folder,) = (weights.parent.parent / "eval").glob("*-2-votes")
    voted, plain = json.loads((folder / "results.json").read_text()), json.loads(before)
    assert voted.pop("protocols") == ["pn2-wholescene", "scannet-benchmark with 2 votes"]
    assert "scannet-benchmark with 2 votes" in (folder / "results.md").read_text()
    assert (report / "results.json").read_bytes() == before
    assert voted["voxel_accuracy"] == plain["voxel_accuracy"] and voted["mean_iou"] != plain["mean_iou"]
    shutil.rmtree(folder)


def test_evaluating_again_gives_equal_bytes(report, weights, tmp_path):
    again = ["--checkpoint", str(weights), "--out", str(tmp_path / "again"), "--workers", "0"]
    assert eval_scannet.main(again) == 0
    for name in ("results.json", "results.md", "per_scene.csv"):
        assert (report / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert eval_scannet.main([*again[:2], "--out", str(tmp_path / "other"), "--seed", "1"]) == 0
    assert (report / "results.json").read_bytes() != (tmp_path / "other" / "results.json").read_bytes()


def test_fewer_scenes_than_the_split_has_are_refused_unless_allowed(weights, tiny_data, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["expected"]["val"] = 312
    (data / "manifest.json").write_text(json.dumps(manifest))
    flags = ["--checkpoint", str(weights), "--data", str(data), "--out", str(tmp_path / "out")]
    assert eval_scannet.main(flags) == 2
    captured = capsys.readouterr()
    assert "2 of the 312 scenes" in captured.out and "--allow-partial" in captured.err
    assert not (tmp_path / "out").exists()
    assert eval_scannet.main([*flags, "--allow-partial"]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["expected_scenes"] == 312


def test_the_test_split_gives_submission_files(weights, tiny_data, tmp_path):
    out = tmp_path / "out"
    assert eval_scannet.main(["--checkpoint", str(weights), "--split", "test", "--out", str(out)]) == 0
    (path,) = (out / "predictions").iterdir()
    assert path.name == "room5_00.txt"
    ids = np.array(path.read_text().split(), dtype=int)
    assert len(ids) == 5_000 and set(ids) <= set(SCANNET20.id_of[1:].tolist())
    assert not (out / "results.json").exists()


def test_the_first_scenes_as_coloured_meshes(weights, rooms, tmp_path):
    """Prediction, truth and errors on the scene's own mesh; of a scan without labels the prediction alone."""
    pytest.importorskip("plotly")  # for the pages
    data = rooms(train=1, val=1, test=1)
    path = data / "scenes" / "room1_00.h5"
    scene = dataclasses.replace(
        read_scene(path, ("xyz", "label", "colour")), faces=np.arange(4_998, dtype=np.int32).reshape(-1, 3)
    )
    write_scene(path, scene)
    for split, views in (("val", ["errors", "prediction", "truth"]), ("test", ["prediction"])):
        out = tmp_path / split
        flags = ["--checkpoint", str(weights), "--data", str(data), "--split", split, "--export-ply", "3"]
        assert eval_scannet.main([*flags, "--html", "1", "--predictions", "--out", str(out)]) == 0
        (submission,) = (out / "predictions").iterdir()
        assert [file.name for file in (out / "html").iterdir()] == [f"{submission.stem}.html"]
        files = sorted((out / "ply").iterdir())
        assert [file.name for file in files] == [f"{submission.stem}_{view}.ply" for view in views]
        meshes = {view: PlyData.read(file) for view, file in zip(views, files, strict=True)}
        assert np.array_equal(meshes["prediction"]["vertex"]["label"], np.loadtxt(submission))
    assert len(meshes["prediction"]["face"]) == 0
    meshes = {
        view: PlyData.read(tmp_path / "val" / "ply" / f"room1_00_{view}.ply")
        for view in ("errors", "prediction", "truth")
    }
    assert np.array_equal(meshes["truth"]["vertex"]["label"], scene.label)
    truth, predicted = (SCANNET20.class_of[meshes[view]["vertex"]["label"]] for view in ("truth", "prediction"))
    expected = {
        "prediction": SCANNET20.palette[predicted],
        "truth": np.where(truth[:, None] > 0, SCANNET20.palette[truth], UNLABELLED),
    }
    expected["errors"] = np.where((truth == predicted)[:, None], RIGHT, WRONG)
    expected["errors"][truth == 0] = UNLABELLED
    for view, mesh in meshes.items():
        vertex = mesh["vertex"]
        assert np.array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), scene.xyz)
        assert np.array_equal(np.stack(mesh["face"]["vertex_indices"]), scene.faces)
        assert np.array_equal(np.stack([vertex[name] for name in ("red", "green", "blue")], 1), expected[view]), view


def test_errors_name_the_file(weights, tmp_path, capsys):
    assert eval_scannet.main(["--checkpoint", str(tmp_path / "no.pt")]) == 1
    assert "no.pt: there is no such checkpoint file" in capsys.readouterr().err
    assert eval_scannet.main(["--checkpoint", str(weights), "--data", str(tmp_path)]) == 1
    assert "manifest.json: no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--device nonsense cannot be used here"):
        eval_scannet.main(["--checkpoint", str(weights), "--device", "nonsense"])


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_damaged_scene_is_one_error_line(weights, tiny_data, tmp_path, capsys, workers):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "scenes" / "room4_00.h5").write_bytes(b"damaged")
    flags = ["--checkpoint", str(weights), "--data", str(data), "--out", str(tmp_path / "out"), "--workers", workers]
    assert eval_scannet.main(flags) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and "room4_00.h5" in message and "preprocess the scans again" in message
    assert not (tmp_path / "out" / "results.json").exists()


def test_weights_that_are_not_finite_are_not_scored(weights, tmp_path, capsys):
    content = torch.load(weights, weights_only=True)
    content["model"]["classifier.bias"].fill_(float("nan"))
    torch.save(content, tmp_path / "nan.pt")
    assert eval_scannet.main(["--checkpoint", str(tmp_path / "nan.pt"), "--out", str(tmp_path / "out")]) == 1
    assert "logits are not finite" in capsys.readouterr().err


class Oracle(torch.nn.Module):
    """Answers with the class of the scene's vertex at the same place."""

    def __init__(self, scene):
        super().__init__()
        self.xyz, self.classes = torch.from_numpy(scene.xyz), torch.from_numpy(SCANNET20.class_of[scene.label]).long()

    def forward(self, points):
        nearest = torch.stack([torch.cdist(cloud, self.xyz).argmin(1) for cloud in points])
        return torch.nn.functional.one_hot(self.classes[nearest], 21).float()


def test_a_perfect_network_scores_one_everywhere_and_every_vertex_is_predicted(tiny_data):
    files = scene_files(tiny_data, read_manifest(tiny_data), ["val"])[:1]
    scene = read_scene(files[0].path)
    (result,) = inference.evaluate(Oracle(scene), WholeScenes(files, seed=0), torch.device("cpu"), batch_size=2)
    scores = eval_scannet.metrics.scores(result.counts, SCANNET20)
    accuracies = "pixel_accuracy", "voxel_accuracy", "class_voxel_accuracy", "vertex_accuracy"
    for name in (*accuracies, "mean_iou", "mean_iou_scannet"):
        assert scores[name] == 1, name
    truth = SCANNET20.class_of[scene.label]
    assert len(result.predicted) == len(truth) and (result.predicted[truth > 0] == truth[truth > 0]).all()


def test_scores_do_not_depend_on_the_batch_of_scenes(tiny_data, weights):
    """Integer counts of scenes add up: two scenes together are the sum of each alone."""
    files, device = scene_files(tiny_data, read_manifest(tiny_data), ["val"]), torch.device("cpu")
    model = checkpoint.load(weights)
    together = inference.evaluate(model, WholeScenes(files, seed=0, covering=False), device, 4)
    alone = inference.evaluate(model, WholeScenes(files[1:], seed=0, covering=False), device, 4)
    assert all(np.array_equal(together[1].counts[name], alone[0].counts[name]) for name in alone[0].counts)
    assert together[0].predicted is None
    total = inference.add_counts(together)
    assert total["voxel"].sum() == sum(result.counts["voxel"].sum() for result in together)
