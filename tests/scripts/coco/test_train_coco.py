import json
import os
import signal
import subprocess
import sys
import urllib.error
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("data.coco", exc_type=ImportError)

from data.datasets import ChunkBatches
from models import mask_rcnn, pointnet2
from scripts.coco import eval_coco, train_coco
from training import checkpoint

ROOT = Path(__file__).resolve().parents[3]


def arguments(data, out, *more):
    small = ["--backbone", "resnet18", "--no-pretrained", "--min-size", "64", "--stages", "3", "4", "5"]
    quick = ["--batch-size", "2", "--steps", "3", "--lr", "0.005", "--warmup", "2", "--workers", "0", "--device", "cpu"]
    return ["--data", str(data), "--out", str(out), *small, *quick, *more]


@pytest.fixture(scope="module")
def run(coco_data, tmp_path_factory):
    """A finished run of three steps."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train_coco.main(arguments(coco_data, out)) == 0
    return out


def weights(out):
    content = checkpoint.read(out / "checkpoints" / "last.pt")
    return checkpoint.weights_sha256(eval_coco.load(content, out))


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_schedule_is_the_papers():
    args = train_coco.parse(["--data", "coco"])
    rates = {step: train_coco.learning_rate(args, step) for step in (0, 250, 500, 59_999, 60_000, 80_000)}
    assert rates == pytest.approx({0: 0.02 / 3, 250: 0.04 / 3, 500: 0.02, 59_999: 0.02, 60_000: 0.002, 80_000: 0.0002})
    assert (args.steps, args.batch_size, args.min_size, args.stages, args.stride) == (90_000, 16, 800, (4,), 16)
    assert train_coco.learning_rate(train_coco.parse(["--data", "coco", "--warmup", "0"]), 0) == pytest.approx(0.02)


def test_the_run_folder_is_that_of_the_point_clouds(run):
    names = ("config.json", "environment.json", "log.txt", "metrics.jsonl", "checkpoints/last.pt")
    for name in (*names, "export/model.safetensors", "export/config.json"):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").iterdir())
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"epoch", "part", "loss", "lr", "images_per_second"}
    content = checkpoint.read(run / "checkpoints" / "last.pt")
    assert content["step"] == 3 and content["config"]["images"] == 3
    body = eval_coco.load(content, run).backbone.body
    assert all(body[f"layer{layer}"].context.scale.item() != 0 for layer in (2, 3, 4))


@pytest.mark.parametrize("flags", [["--kernels", "2"], ["--stride", "8"]])
@pytest.mark.parametrize("model", ["mask_rcnn", "non_local"])
def test_a_flag_of_another_models_layer_is_refused(model, flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_coco.parse(["--data", "x", "--model", model, *flags])
    assert stopped.value.code == 2 and flags[0] in capsys.readouterr().err
    assert train_coco.parse(["--data", "x", *flags]).model == "latentgnn"


def test_batches_go_on_in_the_midst_of_an_epoch():
    batches = ChunkBatches(num_scenes=7, batch_size=2, seed=0)  # three steps an epoch
    runs = (SimpleNamespace(step=step) for step in (0, 4))
    whole, resumed = (list(islice(train_coco.batches_from(run, batches, batches), 9 - run.step)) for run in runs)
    assert resumed == whole[4:] and [batch[0][:2] for batch in resumed] == [(1, 2), (1, 4), (2, 0), (2, 2), (2, 4)]


def test_a_run_that_was_told_to_stop_ends_where_an_uninterrupted_one_does(run, coco_data, tmp_path, monkeypatch):
    schedule = train_coco.learning_rate

    def interrupted(args, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return schedule(args, step)

    monkeypatch.setattr(train_coco, "learning_rate", interrupted)
    assert train_coco.main(arguments(coco_data, tmp_path / "again")) == 128 + signal.SIGTERM
    assert checkpoint.read(tmp_path / "again" / "checkpoints" / "last.pt")["step"] == 2
    monkeypatch.undo()
    assert train_coco.main(arguments(coco_data, tmp_path / "again", "--resume", "auto", "--workers", "1")) == 0
    assert weights(tmp_path / "again") == weights(run)


def test_a_run_of_other_settings_is_refused(run, coco_data, capsys):
    assert train_coco.main(arguments(coco_data, run)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert train_coco.main(arguments(coco_data, run, "--resume", "auto", "--stages", "4", "--lr", "0.01")) == 1
    message = capsys.readouterr().err
    assert "lr was 0.005, is 0.01" in message and "stages was" in message


def test_losses_that_are_not_finite_end_the_run_by_name(coco_data, tmp_path, capsys):
    assert train_coco.main(arguments(coco_data, tmp_path / "bad", "--lr", "1e30", "--warmup", "0")) == 1
    message = capsys.readouterr().err
    assert "with image 1" in message and "lower --lr" in message
    assert not (tmp_path / "bad" / "checkpoints" / "last.pt").exists()


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """Where torch.hub keeps what it downloads: an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_two_ranks_share_each_batch_and_the_pretrained_weights(coco_data, tmp_path, torch_home):
    from torchvision.models import ResNet18_Weights, resnet18

    classifier = resnet18(weights=None).state_dict()
    torch.save(classifier, torch_home / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = arguments(coco_data, tmp_path / "run", "--steps", "2", "--pretrained")
    command = [*torchrun, "scripts/coco/train_coco.py", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    trained = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.pt")
    assert trained["world_size"] == 2 and "2 x cpu" in (tmp_path / "run" / "log.txt").read_text()
    assert torch.equal(trained["model"]["backbone.body.conv1.weight"], classifier["conv1.weight"])  # frozen
    assert len(losses(tmp_path / "run")) == 1


def test_weights_that_cannot_be_downloaded_end_the_run_with_one_line(
    coco_data, tmp_path, torch_home, monkeypatch, capsys
):
    def offline(url, *rest, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    assert train_coco.main(arguments(coco_data, tmp_path / "run", "--pretrained")) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert "resnet18" in message and "no route to host" in message and message.endswith(f"into {torch_home}")


def test_evaluation_writes_the_report(run, coco_data, tmp_path):
    assert eval_coco.main(["--checkpoint", str(run / "checkpoints" / "last.pt"), "--device", "cpu"]) == 0
    (path,) = (run / "eval").glob("val2017-*/results.json")
    report = json.loads(path.read_text())
    assert report["checkpoint_sha256"] == weights(run) and report["images"] == 5 and report["step"] == 3
    assert 0 <= report["box_ap"] <= 1 and 0 <= report["mask_ap"] <= 1 and report["box_ap_small"] is None


def test_evaluation_refuses_other_networks_and_other_categories(run, coco_data, tmp_path, capsys):
    checkpoint.save(tmp_path / "points.pt", pointnet2.build(pointnet2.PointNet2Config(21), seed=0), {"data": "x"})
    assert eval_coco.main(["--checkpoint", str(tmp_path / "points.pt")]) == 1
    assert "points.pt: does not fit this version's Mask R-CNN" in capsys.readouterr().err
    content = json.loads((coco_data / "annotations" / "instances_val2017.json").read_text())
    content["categories"].append({"id": 9, "name": "disc"})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "val2017").mkdir()
    last = str(run / "checkpoints" / "last.pt")
    assert eval_coco.main(["--checkpoint", last, "--data", str(tmp_path), "--device", "cpu"]) == 1
    assert "has other categories" in capsys.readouterr().err


def test_three_images_can_be_learnt_by_heart(coco_data, tmp_path, monkeypatch):
    """Slow: minutes. Classes, boxes and masks of their objects, in 80 steps at 160 pixels."""
    build = mask_rcnn.build

    def build_with_fewer_samples(*values, **names):  # instead of 512 boxes an image, for speed
        model = build(*values, **names)
        model.roi_heads.fg_bg_sampler.batch_size_per_image = 64
        return model

    monkeypatch.setattr(mask_rcnn, "build", build_with_fewer_samples)
    out = tmp_path / "run"
    size = ["--min-size", "160", "--batch-size", "3", "--steps", "80", "--warmup", "10"]
    assert train_coco.main(arguments(coco_data, out, *size)) == 0
    last, report = str(out / "checkpoints" / "last.pt"), tmp_path / "report"
    assert eval_coco.main(["--checkpoint", last, "--out", str(report), "--device", "cpu"]) == 0
    scores = json.loads((report / "results.json").read_text())
    assert scores["box_ap"] > 0.5 and scores["mask_ap"] > 0.5, scores
