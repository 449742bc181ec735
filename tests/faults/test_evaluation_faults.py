"""Evaluation as real processes: ranks that share the scenes report the bytes that one reports, and what is stopped,
killed or damaged leaves no torn file."""

import csv
import dataclasses
import json
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from processes import KILLED, NO_FAULT, finish, start

import eval_scannet
from data import chunks
from data.labels import SCANNET20
from data.scenes import read_manifest, read_scene, write_manifest, write_scene
from models import pointnet2
from training import checkpoint
from training.stopping import GRACE

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def data(rooms):
    """1 training and 5 validation scenes, the last without an annotated vertex; most of the 20 classes are absent."""
    folder = rooms(train=1, val=5)
    scene, manifest = read_scene(folder / "scenes" / "room5_00.h5", ["xyz", "label", "colour"]), read_manifest(folder)
    write_scene(folder / "scenes" / "room5_00.h5", dataclasses.replace(scene, label=np.zeros_like(scene.label)))
    manifest["scenes"]["room5_00"]["histogram"] = {0: len(scene.xyz)}
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    config = {"data": str(data), "unannotated": "drop", "other": "train", "features": []}
    checkpoint.save(path, pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0), config)
    return path


@pytest.fixture(scope="module")
def of_one_rank(weights, tmp_path_factory):
    """split -> the files of an evaluation that nothing happens to, made at the first call, in this process."""
    reports = {}

    def report(split):
        if split not in reports:
            out = tmp_path_factory.mktemp("report") / split
            alone(weights, out, "--split", split)
            reports[split] = contents(out)
        return reports[split]

    return report


def alone(weights, out, *flags):
    """What with_fault.py does without a fault."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for draw in (chunks.tile_crops, chunks.covering_crops):
            patch.setattr(draw, "__defaults__", (1024, chunks.CHUNK_SIZE))
        torch.set_num_threads(1)  # other numbers may round otherwise
        try:
            files = ["--checkpoint", str(weights), "--out", str(out), "--predictions"]
            assert eval_scannet.main([*files, "--device", "cpu", "--workers", "0", *flags]) == 0
        finally:
            torch.set_num_threads(threads)


def evaluate(*args, **kwargs):
    return finish(start_evaluation(*args, **kwargs))


def start_evaluation(weights, out, fault=NO_FAULT, ranks=1, workers=0, flags=()):
    files = ["--checkpoint", weights, "--out", out, "--predictions"]
    return start("eval_scannet", fault, ranks, *files, "--workers", workers, *flags)


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("split", "ranks", "workers"),
    [("val", 2, 1), pytest.param("train", 2, 0, marks=slow), pytest.param("val", 4, 0, marks=slow)],
    ids=["5 scenes", "1 scene", "5 scenes on 4 ranks"],
)
def test_ranks_report_the_bytes_of_one(weights, of_one_rank, tmp_path, split, ranks, workers):
    rank_0_writes = f"if RANK > 0: forbid_writing_in('{tmp_path}')"
    ended = evaluate(weights, tmp_path, rank_0_writes, ranks, workers, ["--split", split])
    assert ended.returncode == 0, ended.stderr
    assert contents(tmp_path) == of_one_rank(split)
    assert ended.stdout.count(f"report: {tmp_path}") == 1
    scenes = [row["scene"] for row in csv.DictReader((tmp_path / "per_scene.csv").open())]
    assert scenes == {"val": [f"room{number}_00" for number in range(1, 6)], "train": ["room0_00"]}[split]


def test_a_class_absent_and_a_scene_without_annotation(of_one_rank):
    report = json.loads(of_one_rank("val")["results.json"])
    *_, without = csv.DictReader(of_one_rank("val")["per_scene.csv"].decode().splitlines())
    assert without["tiles"] == "0" and without["voxel_accuracy"] == without["mean_iou"] == ""
    assert len(of_one_rank("val")["predictions/room5_00.txt"].split()) == int(without["vertices"]) == 5_000
    assert set(report["iou"]) == set(SCANNET20.names[1:])
    assert {name for name, iou in report["iou"].items() if iou is not None} >= {"floor", "wall", "table"}
    assert report["iou"]["bed"] is None
    assert report["scenes"] == 5 and report["vertices"] == 25_000


@pytest.mark.parametrize(
    ("fault", "ranks", "left"),
    [
        ("after_scene(3, sigterm_to_the_group)", 1, 0),
        pytest.param("after_scene(3, sigterm)", 1, 0, marks=slow),
        pytest.param("if RANK == 1: after_scene(1, sigterm)", 2, 0, marks=slow),
        pytest.param("at_replace(1, 'per_scene.csv', sigterm_to_the_group)", 1, 6, marks=slow),
        pytest.param("at_replace(1, 'room3_00.txt', kill_9)", 1, 3, marks=slow),
    ],
)
def test_stopped_or_killed(weights, of_one_rank, tmp_path, fault, ranks, left):
    """No file is torn, no process stays behind, and the same command then reports the same."""
    begun = time.monotonic()
    ended = evaluate(weights, tmp_path, fault, ranks, workers=1)
    assert ended.returncode == (1 if ranks > 1 else KILLED if "kill_9" in fault else -signal.SIGTERM)
    assert time.monotonic() - begun < GRACE  # loader processes end with the one that reads from them
    files = contents(tmp_path)
    assert sum(name.endswith(".tmp") for name in files) == (left > 0) and len(files) == left
    assert all(of_one_rank("val")[name] == text for name, text in files.items() if not name.endswith(".tmp"))
    alone(weights, tmp_path)
    assert contents(tmp_path) == of_one_rank("val")


@slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_dies(weights, tmp_path, rank):
    """That the job then fails within FAILS_WITHIN seconds is in finish()."""
    assert evaluate(weights, tmp_path, f"if RANK == {rank}: after_scene(2, kill_9)", ranks=2).returncode == 1
    assert contents(tmp_path) == {}


@slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_damaged_scene(weights, data, tmp_path, ranks):
    """One line names it, and the loader process that read it does not keep the job from ending."""
    damaged = shutil.copytree(data, tmp_path / "data")
    (damaged / "scenes" / "room4_00.h5").write_bytes(b"damaged")
    ended = evaluate(weights, tmp_path / "out", ranks=ranks, workers=1, flags=["--data", damaged])
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "room4_00.h5" in line
    assert not (tmp_path / "out").exists()


@slow
def test_a_full_disk(weights, of_one_rank, tmp_path):
    ended = evaluate(weights, tmp_path, "after_scene(1, limit_files(10_000))")  # bytes; a scene's prediction has more
    assert ended.returncode == 1
    assert "File too large" in ended.stderr.splitlines()[-1]
    assert contents(tmp_path) == {}
    alone(weights, tmp_path)
    assert contents(tmp_path) == of_one_rank("val")
