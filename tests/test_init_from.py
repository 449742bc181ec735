"""--init-from: a run that starts with the weights of another."""

import json
import re
import shutil

import pytest
import torch

import train_scannet
from data.labels import SCANNET20, from_json
from data.scenes import read_manifest, write_manifest
from models import pointnet2
from training import checkpoint

THREE = {"name": "three", "unannotated": [0], "other": [22]}
THREE["classes"] = [{"id": 1, "name": "wall"}, {"id": 2, "name": "floor"}, {"id": 7, "name": "table"}]


def arguments(data, out, *more):
    flags = ["--data", str(data), "--out", str(out), "--batch-size", "3", "--bn-momentum", "0.1", "--workers", "0"]
    return [*flags, "--device", "cpu", "--validate-every", "0", "--epochs", "1", *map(str, more)]


@pytest.fixture(scope="module", autouse=True)
def few_centres():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pointnet2, "CENTRES", (64, 32, 16, 8))
        yield


@pytest.fixture(scope="module")
def source(tiny_data, tmp_path_factory):
    """A run of ten steps."""
    out = tmp_path_factory.mktemp("runs") / "source"
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", 10)) == 0
    return out


def losses(out):
    """Of the steps."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["part"] == "step"]


def note(out):
    """What the log says of the weights."""
    (line,) = [line for line in (out / "log.txt").read_text().splitlines() if line.startswith("weights of")]
    return line


def start(space=SCANNET20, **options):
    """A new network, and a copy of its weights."""
    model = pointnet2.build(pointnet2.PointNet2Config(space.num_classes, **{"context": "latentgnn"} | options), seed=1)
    return model, {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("form", ["checkpoints/last.pt", "", "export"])
def test_a_run_starts_with_the_weights_of_a_checkpoint_a_run_or_an_export(source, tiny_data, tmp_path, form):
    assert train_scannet.main(arguments(tiny_data, tmp_path, "--init-from", source / form)) == 0
    from_scratch, last, (first,) = losses(source)[0], losses(source)[-1], losses(tmp_path)
    assert first < (from_scratch + last) / 2  # the same chunks as in the first step from scratch
    tensors = len(checkpoint.load(source).state_dict())
    assert f"{tensors} of {tensors} tensors" in note(tmp_path) and "; new:" not in note(tmp_path)
    assert str(source) in note(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["init_from"] == str((source / form).resolve())
    assert checkpoint.read(tmp_path / "checkpoints" / "last.pt")["config"]["init_from"] == config["init_from"]
    args = train_scannet.parse_config(["--config", str(tmp_path / "config.json")])
    assert args.init_from == config["init_from"]


def test_a_run_from_scratch_says_nothing_of_weights_and_relative_paths_are_recorded_whole(source, monkeypatch):
    assert "weights of" not in (source / "log.txt").read_text()
    assert json.loads((source / "config.json").read_text())["init_from"] is None
    monkeypatch.chdir(source)
    assert train_scannet.parse_config(["--init-from", "export"]).init_from == str(source.resolve() / "export")


def test_all_weights_are_taken_as_they_are(source):
    content, (model, _) = checkpoint.read_published(source), start()
    checkpoint.take_weights(model, content, source, SCANNET20)
    assert checkpoint.weights_sha256(model) == checkpoint.weights_sha256(checkpoint.load(source))


@pytest.mark.parametrize("case", ["other names", "as many"])
def test_of_other_classes_all_but_the_head_is_taken(source, case):
    classes = [f"class {number}" for number in range(20)] if case == "as many" else ["wall", "floor"]
    space = from_json({"name": "mine", "classes": [{"id": id, "name": name} for id, name in enumerate(classes, 1)]})
    content, (model, before) = checkpoint.read_published(source), start(space)
    told = checkpoint.take_weights(model, content, source, space)
    for name, tensor in model.state_dict().items():
        wanted = before if name.startswith("classifier.") else content["model"]
        assert torch.equal(tensor, wanted[name]), name
    assert re.search(r"new: classifier \(scannet20 .* mine\)$", told), told


def test_a_run_on_other_classes_says_that_its_head_is_new(source, tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    write_manifest(data, read_manifest(data) | {"label_space": from_json(THREE)})
    out = tmp_path / "run"
    assert train_scannet.main(arguments(data, out, "--init-from", source)) == 0
    assert "new: classifier" in note(out) and "scannet20" in note(out) and "three" in note(out)
    model = checkpoint.load(out)
    assert model.config.num_classes == 4
    ours, theirs = model.state_dict(), checkpoint.load(source).state_dict()
    body = [name for name in ours if name.endswith("weight") and not name.startswith("classifier")]
    for name in body:  # a step of Adam at 1e-3 was taken
        assert (ours[name] - theirs[name]).abs().max() < 2e-3, name


@pytest.mark.parametrize(
    ("options", "anew", "unused"),
    [
        ({"extra_channels": 1}, {"sa1", "fp1"}, set()),
        ({"context": "none"}, set(), {f"context{level}" for level in (1, 2, 3, 4)}),
        ({"context": "non_local"}, {f"context{level}" for level in (1, 2, 3, 4)}, set()),
        ({"kernels": 2}, {f"context{level}" for level in (1, 2, 3, 4)}, set()),
        ({"radii": (0.2, 0.4, 0.8, 1.6)}, set(), set()),
    ],
    ids=["extra_channels", "none", "non_local", "kernels", "radii"],  # those of sets would differ from run to run
)
def test_what_does_not_fit_is_said_and_the_rest_is_taken(source, options, anew, unused):
    content, (model, before) = checkpoint.read_published(source), start(**options)
    told = checkpoint.take_weights(model, content, source, SCANNET20)
    taken = {
        n
        for n, tensor in model.state_dict().items()
        if n in content["model"] and torch.equal(tensor, content["model"][n])
    }
    kept = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    assert taken | kept == {*before} and len(taken) > len(before) / 2
    assert {name.split(".")[0] for name in before.keys() - taken} == anew
    new = told.partition("new:")[2].partition(";")[0].replace(" (in part)", "")
    assert {*re.findall(r"\w+", new)} == anew, told
    assert ("(in part)" in told) == bool(options.get("extra_channels") or options.get("kernels")), told
    assert {*re.findall(r"\w+", told.partition("not used:")[2])} == unused, told


@pytest.fixture
def foreign(source, tmp_path):
    """A checkpoint of a network with other names."""
    content = torch.load(source / "checkpoints" / "last.pt", weights_only=True)
    content["model"] = {f"backbone.{name}": tensor for name, tensor in content["model"].items()}
    torch.save(content, tmp_path / "foreign.pt")
    return tmp_path / "foreign.pt"


def test_a_network_of_which_nothing_fits_is_refused(foreign, tiny_data, tmp_path, capsys):
    assert train_scannet.main(arguments(tiny_data, tmp_path / "run", "--init-from", foreign)) == 1
    said = capsys.readouterr().err
    assert "foreign.pt: none of its weights fits" in said and "--init-from" in said and said.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_folder_in_which_no_run_could_start_can_be_used(foreign, tiny_data, tmp_path, capsys):
    assert train_scannet.main(arguments(tiny_data, tmp_path / "run", "--init-from", foreign)) == 1
    capsys.readouterr()
    assert train_scannet.main(arguments(tiny_data, tmp_path / "run")) == 0, capsys.readouterr().err


def test_weights_that_cannot_be_read_are_refused_before_a_run_begins(tiny_data, tmp_path, capsys):
    (tmp_path / "broken.pt").write_bytes(b"broken")
    for name, more in (("broken.pt", []), ("missing.pt", ["--resume", "auto"])):
        assert train_scannet.main(arguments(tiny_data, tmp_path / "run", "--init-from", tmp_path / name, *more)) == 1
        assert f"{name}: " in capsys.readouterr().err and not (tmp_path / "run" / "config.json").exists()


def weights_of(out):
    return checkpoint.weights_sha256(checkpoint.load(out / "checkpoints" / "last.pt"))


@pytest.fixture(scope="module")
def tuned(source, tiny_data, tmp_path_factory):
    """The export that a run of two steps started from, and that run."""
    export = shutil.copytree(source / "export", tmp_path_factory.mktemp("tuned") / "export")
    out = export.with_name("run")
    assert train_scannet.main(arguments(tiny_data, out, "--init-from", export, "--epochs", 2)) == 0
    return export, out


def half(tiny_data, tuned, out):
    """The first of the run's two steps, and the flags of its resumption."""
    flags = ["--init-from", tuned[0], "--resume", "auto"]
    assert train_scannet.main(arguments(tiny_data, out, *flags)) == 0
    return arguments(tiny_data, out, *flags, "--epochs", 2)


def test_a_resumed_run_does_not_start_from_the_weights_again(tuned, tiny_data, tmp_path):
    """Others lie there by now."""
    flags = half(tiny_data, tuned, tmp_path)
    before = shutil.copytree(tuned[0], tmp_path / "before")
    checkpoint.export(tuned[0], start()[0])
    try:
        assert train_scannet.main(flags) == 0
    finally:
        shutil.copytree(before, tuned[0], dirs_exist_ok=True)
    assert weights_of(tmp_path) == weights_of(tuned[1]) and losses(tmp_path) == losses(tuned[1])
    assert note(tmp_path)  # once


def test_a_resumed_run_does_not_need_the_weights_again(tuned, tiny_data, tmp_path, capsys):
    flags = half(tiny_data, tuned, tmp_path)
    away = tuned[0].rename(tuned[0].with_name("away"))
    try:
        assert train_scannet.main(flags) == 0, capsys.readouterr().err
    finally:
        away.rename(tuned[0])
    assert weights_of(tmp_path) == weights_of(tuned[1])


def test_a_run_that_died_before_its_first_checkpoint_starts_from_the_weights(tuned, tiny_data, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    half(tiny_data, tuned, tmp_path)
    assert losses(tmp_path) == losses(tuned[1])[:1] and note(tmp_path)


def test_resuming_without_or_with_other_weights_is_refused(tuned, source, tiny_data, capsys):
    for more in ([], ["--init-from", source]):
        assert train_scannet.main(arguments(tiny_data, tuned[1], *more, "--resume", "auto", "--epochs", 3)) == 1
        assert f"init_from was '{tuned[0]}'" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["lr", "ranks"])
def test_another_experiment_is_refused_with_the_way_to_start_it(source, tiny_data, tmp_path, capsys, case):
    out = shutil.copytree(source, tmp_path / "source")
    last, more = out / "checkpoints" / "last.pt", []
    if case == "ranks":
        torch.save(torch.load(last, weights_only=True) | {"world_size": 4}, last)
    else:
        more = ["--lr", "0.01"]
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", 11, "--resume", "auto", *more)) == 1
    said = capsys.readouterr().err
    assert ("world_size was 4, is 1" if case == "ranks" else "lr was 0.001, is 0.01") in said
    (path,) = re.findall(r"--init-from (\S+)", said)
    assert train_scannet.main(arguments(tiny_data, tmp_path / "new", "--init-from", path, *more)) == 0
    assert losses(tmp_path / "new")[0] < losses(source)[0]
