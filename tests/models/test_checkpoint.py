import json

import pytest
import torch

from models import checkpoint, pointnet2


@pytest.fixture(scope="module")
def model():
    return pointnet2.build(pointnet2.PointNet2Config(context="latentgnn"), seed=0)


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
    other = pointnet2.build(pointnet2.PointNet2Config(context="latentgnn"), seed=1)
    again = pointnet2.build(pointnet2.PointNet2Config(context="latentgnn"), seed=0)
    assert checkpoint.weights_sha256(model) == checkpoint.weights_sha256(again) != checkpoint.weights_sha256(other)


def test_a_failed_write_keeps_the_earlier_checkpoint(model, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "a.pt", model, {}, epoch=1)

    def no_space(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path / "a.pt", model, {}, epoch=2)
    assert checkpoint.read(tmp_path / "a.pt")["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


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


@pytest.mark.parametrize("damage", ["missing", "not json", "list"])
def test_a_broken_export_is_refused(model, tmp_path, damage):
    checkpoint.export(tmp_path, model)
    config = tmp_path / "config.json"
    if damage == "missing":
        config.unlink()
    else:
        config.write_text(json.dumps([1]) if damage == "list" else "{")
    with pytest.raises(checkpoint.CheckpointError, match=str(tmp_path)):
        checkpoint.load(tmp_path)
