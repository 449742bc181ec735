import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models import pointnet2
from training import checkpoint

INPUTS_AT_FIRST = {
    "features": [],
    "chunk_size": 1.5,
    "unannotated": "drop",
    "other": "train",
    "points": 8192,
    "spacing": 0.0,
}  # without any flag


@pytest.fixture(scope="module")
def model():
    return pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0)


def test_a_checkpoint_rebuilds_its_network(model, tmp_path):
    checkpoint.save(tmp_path / "a.pt", model, {}, epoch=3)
    checkpoint.export(tmp_path / "export", model)
    points = torch.rand(1, 300, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.eval()(points)
        assert torch.equal(checkpoint.load(tmp_path / "a.pt")(points), expected)
        assert torch.equal(checkpoint.load(tmp_path / "export")(points), expected)
    assert checkpoint.read(tmp_path / "a.pt")["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_the_digest_identifies_the_weights(model):
    other = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=1)
    again = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0)
    assert checkpoint.weights_sha256(model) == checkpoint.weights_sha256(again) != checkpoint.weights_sha256(other)


def test_a_failed_write_keeps_the_earlier_checkpoint(model, tmp_path, monkeypatch):
    for epoch in (1, 2):
        checkpoint.save(tmp_path / "last.pt", model, {}, epoch=epoch)

    def no_space(path, content):
        with open(path, "wb") as file:
            file.write(content[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(checkpoint.CheckpointError, match="last.pt: cannot be written .No space left on device"):
        checkpoint.save(tmp_path / "last.pt", model, {}, epoch=3)
    assert saved_epochs(tmp_path) == {"last.pt": 2, "previous.pt": 1}


def saved_epochs(folder):
    return {path.name: checkpoint.read(path)["epoch"] for path in sorted(folder.iterdir())}


def test_last_and_the_one_before_it_are_kept(model, tmp_path):
    assert checkpoint.read_newest(tmp_path) is None
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path / "last.pt", model, {}, epoch=epoch)
        checkpoint.save(tmp_path / "best.pt", model, {}, epoch=epoch)
    assert saved_epochs(tmp_path) == {"best.pt": 3, "last.pt": 3, "previous.pt": 2}
    path, content, notice = checkpoint.read_newest(tmp_path)
    assert (path.name, content["epoch"], notice) == ("last.pt", 3, "")


def test_the_previous_checkpoint_takes_the_place_of_a_broken_or_missing_one(model, tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for epoch in (1, 2):
        checkpoint.save(last, model, {}, epoch=epoch)
    last.write_bytes(last.read_bytes()[:-1000])
    path, content, notice = checkpoint.read_newest(tmp_path)
    assert (path, content["epoch"]) == (previous, 1)
    assert "last.pt: cannot be read" in notice and "previous.pt is used" in notice
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.pt", "previous.pt"]

    path, content, notice = checkpoint.read_newest(tmp_path)  # as after a crash between the two renames of a save
    assert (path, content["epoch"]) == (previous, 1) and "there is no" in notice
    checkpoint.save(last, model, {}, epoch=2)
    (tmp_path / "broken.pt").unlink()
    assert saved_epochs(tmp_path) == {"last.pt": 2, "previous.pt": 1}

    for path in (last, previous):
        path.write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match="last.pt: cannot be read.*previous.pt: cannot be read"):
        checkpoint.read_newest(tmp_path)
    assert last.exists() and previous.exists()
    previous.unlink()
    with pytest.raises(checkpoint.CheckpointError, match="last.pt: cannot be read"):
        checkpoint.read_newest(tmp_path)


def test_no_flipped_bit_gets_into_the_network(model, tmp_path):
    """Wherever it is, it is either found out or in a byte that means nothing, such as the zip file's padding."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, model, {}, epoch=1)
    whole, sha256 = path.read_bytes(), checkpoint.weights_sha256(model)
    rng, found = np.random.default_rng(0), 0
    for bit in rng.integers(8 * len(whole), size=40):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            state = checkpoint.read(path)
        except checkpoint.CheckpointError as error:
            found += "cannot be read as a checkpoint" in str(error)
        else:
            assert state["epoch"] == 1 and checkpoint.weights_sha256(checkpoint.build(state, path)) == sha256
    assert found > 35

    weight = model.classifier.weight.detach().numpy().tobytes()
    content = bytearray(whole)
    content[whole.index(weight) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match="the checksum of .* is wrong|Bad CRC"):
        checkpoint.read(path)


def test_bad_files_are_refused_by_name(model, tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(checkpoint.CheckpointError, match="a.pt: there is no such checkpoint file"):
        checkpoint.load(path)
    checkpoint.save(path, model, {})
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(checkpoint.CheckpointError, match="a.pt: cannot be read as a checkpoint"):
            checkpoint.load(path)
    for content in ({"weights": torch.zeros(1)}, {"format_version": 1, "model": {}}, [1]):
        torch.save(content, path)
        with pytest.raises(checkpoint.CheckpointError, match="is not a checkpoint of format 1"):
            checkpoint.load(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"format_version": 1, "model": Payload()}, tmp_path / "a.pt")
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "a.pt")
    assert not (tmp_path / "executed").exists()


def test_another_model_is_refused(model, tmp_path):
    checkpoint.save(tmp_path / "a.pt", model, {})
    content = checkpoint.read(tmp_path / "a.pt")
    content["model_config"]["context"] = "none"
    with pytest.raises(checkpoint.CheckpointError, match="does not fit"):
        checkpoint.build(content, "a.pt")
    content["model_config"]["depth"] = 5
    with pytest.raises(checkpoint.CheckpointError, match="does not fit.*depth"):
        checkpoint.build(content, "a.pt")


def test_an_export_says_what_its_points_are(model, tmp_path):
    checkpoint.export(tmp_path, model)
    assert checkpoint.read_published(tmp_path)["config"] == INPUTS_AT_FIRST
    coloured = pointnet2.build(pointnet2.PointNet2Config(21, extra_channels=3), seed=0)
    said = json.loads((tmp_path / "config.json").read_text()).keys()
    assert said == {*dataclasses.asdict(model.config), "label_space"}
    inputs = {"features": ["colour"], "chunk_size": 3.0, "unannotated": "ignore", "other": "ignore"}
    checkpoint.export(tmp_path, coloured, **inputs)
    assert checkpoint.read_published(tmp_path)["config"] == INPUTS_AT_FIRST | inputs
    assert checkpoint.weights_sha256(checkpoint.load(tmp_path)) == checkpoint.weights_sha256(coloured)


@pytest.mark.parametrize(
    ("more", "inputs"),
    [
        ("", {}),
        (', "features": ["colour"]', {"features": ["colour"]}),
        (', "features": [], "chunk_size": 1.5', {}),
        (', "chunk_size": 3.0', {"chunk_size": 3.0}),
    ],
)
def test_an_export_of_before_is_read_with_what_there_was_before(tmp_path, more, inputs):
    extra = 3 * len(inputs.get("features", []))
    model = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn", kernels=2, extra_channels=extra), seed=0)
    checkpoint.export(tmp_path, model)
    (tmp_path / "config.json").write_text(
        f'{{"num_classes": 21, "extra_channels": {extra}, "grouping": "ssg", "context": "latentgnn", '
        '"affinity": "dot", "latent_nodes": [80, 40, 20, 10], "kernels": 2, "stride": 4, "symmetric": false, '
        f'"l2v_norm": "nodes", "weight": "visible"{more}}}'
    )
    assert checkpoint.read_published(tmp_path)["config"] == INPUTS_AT_FIRST | inputs
    loaded = checkpoint.load(tmp_path)
    assert loaded.config == model.config
    assert checkpoint.weights_sha256(loaded) == checkpoint.weights_sha256(model)


def test_of_a_runs_folder_the_last_checkpoint_is_read_and_named(model, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(checkpoint.CheckpointError, match="run/checkpoints/last.pt: there is no such checkpoint file"):
        checkpoint.read_published(run)
    for name, epoch in (("last.pt", 2), ("best.pt", 1)):
        checkpoint.save(run / "checkpoints" / name, model, {}, epoch=epoch)
    checkpoint.export(run / "export", model)
    capsys.readouterr()
    assert checkpoint.read_published(str(run))["epoch"] == 2
    assert str(run) in (said := capsys.readouterr().out) and "checkpoints/last.pt" in said and said.count("\n") == 1
    for path in (run / "export", run / "checkpoints" / "best.pt", tmp_path / "nothing"):
        assert checkpoint.resolve(path) == path
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", ["missing", "not json", "list", "no weights", "half the weights"])
def test_a_broken_export_is_refused(model, tmp_path, damage):
    checkpoint.export(tmp_path, model)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    if damage == "missing":
        config.unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "half the weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        config.write_text(json.dumps([1]) if damage == "list" else "{")
    with pytest.raises(checkpoint.CheckpointError, match=f"{tmp_path}: holds no readable.*; give the export folder"):
        checkpoint.load(tmp_path)


def test_a_network_of_another_number_of_classes_is_refused(tmp_path):
    checkpoint.export(tmp_path / "export", pointnet2.build(pointnet2.PointNet2Config(num_classes=13), seed=0))
    with pytest.raises(checkpoint.CheckpointError, match="13 outputs.*scannet20 has 21"):
        checkpoint.load(tmp_path / "export")
