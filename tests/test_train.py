import functools
import json
import re
import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import train_scannet
from models.pointnet2 import PointNet2Config
from training import checkpoint, ranks, recipes
from training.run_folder import RunLog

# config.json of runs of earlier versions
CONFIGS_OF_BEFORE = {
    "the first version": """{"config": null, "data": "rooms", "name": "latentgnn_k1", "out": "runs/a", "resume": null,
        "model": "latentgnn", "kernels": 1, "grouping": "ssg", "features": [], "unannotated": "drop", "other": "train",
        "epochs": 2, "batch_size": 2, "lr": 0.001, "bn_momentum": 0.1, "validate_every": 2, "save_every": 1, "seed": 3,
        "workers": 0, "device": "cpu", "ops": "auto"}""",
    "without chunk_size": """{"data": "rooms", "model": "latentgnn", "kernels": 3, "grouping": "msg",
        "features": ["colour"], "unannotated": "drop", "other": "train", "epochs": 2, "batch_size": 2, "lr": 0.001,
        "bn_momentum": 0.1, "sync_bn": false, "validate_every": 0, "save_every": 1, "seed": 3, "workers": 0,
        "device": "cpu", "amp": "bf16", "compile": true, "ops": "auto"}""",
    "kernels of a network without": """{"data": "rooms", "model": "pointnet2", "kernels": 3, "grouping": "ssg",
        "features": [], "chunk_size": 3.0, "unannotated": "ignore", "other": "ignore", "epochs": 2, "batch_size": 2,
        "lr": 0.001, "bn_momentum": 0.1, "decay_every": 5000, "sync_bn": true, "validate_every": 2, "save_every": 1,
        "seed": 3, "workers": 0, "device": "cpu", "amp": "none", "compile": false, "ops": "auto"}""",
}


def arguments(data, out, *more):
    quick = ["--batch-size", "2", "--bn-momentum", "0.1", "--workers", "0", "--device", "cpu", "--validate-every", "2"]
    return ["--data", str(data), "--out", str(out), *quick, *more]


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    """A finished run of two epochs."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "2")) == 0
    return out


def entries(out, part):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["part"] == part]


def test_the_run_folder_holds_what_it_should(run):
    for name in (
        "config.json",
        "environment.json",
        "log.txt",
        "metrics.jsonl",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "export/model.safetensors",
        "export/config.json",
    ):
        assert (run / name).stat().st_size > 0, name
    assert json.loads((run / "environment.json").read_text())["precision"] == "float32"
    config = json.loads((run / "config.json").read_text())
    assert config["model"] == "latentgnn" and config["batch_size"] == 2
    assert [entry["epoch"] for entry in entries(run, "train")] == [1, 2]
    assert [entry["epoch"] for entry in entries(run, "val")] == [0, 2]
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    losses = [event.value for event in board.Scalars("train/loss")]
    np.testing.assert_allclose(losses, [entry["loss"] for entry in entries(run, "train")], rtol=1e-6)


def test_tensorboard_shows_two_scenes_in_3d_and_the_confusion_matrix(run):
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    assert [image.step for image in board.Images("val/confusion")] == [2]
    clouds = {f"{scene}: input, ground truth, prediction" for scene in ("room3_00", "room4_00")}
    assert {tag.rpartition("_")[0] for tag in board.Tags()["tensors"]} == clouds  # ..._VERTEX and ..._COLOR


def test_training_goes_on_without_tensorboard(tiny_data, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise RuntimeError("no board today")

    monkeypatch.setattr(SummaryWriter, "add_mesh", fail)
    assert train_scannet.main(arguments(tiny_data, tmp_path / "run", "--epochs", "1")) == 0
    assert "warning: nothing more is written for TensorBoard (no board today)" in capsys.readouterr().out
    assert entries(tmp_path / "run", "val")[-1]["epoch"] == 1


def test_checkpoints_say_what_they_are(run):
    last, best = (checkpoint.read(run / "checkpoints" / name) for name in ("last.pt", "best.pt"))
    assert last["epoch"] == best["epoch"] == 2
    assert last["selected_on"] is None and "validation" in best["selected_on"]
    assert best["best_voxel_accuracy"] == entries(run, "val")[-1]["voxel_accuracy"]


def test_the_scale_of_latentgnn_leaves_zero(run):
    model = checkpoint.load(run / "checkpoints" / "last.pt")
    assert all(getattr(model, f"context{level}").scale.item() != 0 for level in (1, 2, 3, 4))


def test_the_same_seed_gives_the_same_weights(run, tiny_data, tmp_path):
    assert train_scannet.main(arguments(tiny_data, tmp_path / "again", "--epochs", "2", "--workers", "2")) == 0
    once, again = (checkpoint.load(out / "checkpoints" / "last.pt") for out in (run, tmp_path / "again"))
    assert checkpoint.weights_sha256(once) == checkpoint.weights_sha256(again)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(run, tiny_data, tmp_path):
    out = tmp_path / "resumed"
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "1", "--resume", "auto")) == 0
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "2", "--resume", "auto", "--cache", "none")) == 0
    said = (out / "log.txt").read_text().splitlines()
    assert any(line.startswith("cache of scenes: up to 1 MB in ") for line in said)
    assert "no cache of scenes: each chunk unpacks its scene" in said
    once, again = (checkpoint.load(folder / "checkpoints" / "last.pt") for folder in (run, out))
    assert checkpoint.weights_sha256(once) == checkpoint.weights_sha256(again)
    assert [entry["loss"] for entry in entries(out, "train")] == [entry["loss"] for entry in entries(run, "train")]


def test_resuming_a_run_that_died_before_its_first_checkpoint_starts_afresh(tiny_data, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0, "part": "val"}\n')
    assert train_scannet.main(arguments(tiny_data, tmp_path, "--epochs", "1", "--resume", "auto")) == 0
    assert [entry["epoch"] for entry in entries(tmp_path, "val")] == [0, 1]


def test_bf16_is_for_the_forward_pass_alone_and_is_kept_on_resume(run, tiny_data, tmp_path, monkeypatch, capsys):
    out, seen = tmp_path / "bf16", []
    loss_of = train_scannet.weighted_cross_entropy_sum

    def loss_of_step(logits, *rest):
        total, count = loss_of(logits, *rest)
        seen.append((logits.dtype, torch.is_autocast_enabled("cpu"), total.dtype))
        return total, count

    monkeypatch.setattr(train_scannet, "weighted_cross_entropy_sum", loss_of_step)
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "1", "--amp", "bf16")) == 0
    assert seen == [(torch.bfloat16, False, torch.float32)]
    state = checkpoint.read(out / "checkpoints" / "last.pt")
    assert state["config"]["amp"] == "bf16"
    assert {t.dtype for t in state["model"].values() if t.is_floating_point()} == {torch.float32}
    (loss,), wide = [entry["loss"] for entry in entries(out, "train")], entries(run, "train")[0]["loss"]
    assert loss != wide and abs(loss - wide) < 0.05 * wide
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "2", "--resume", "auto")) == 1
    assert "amp was 'bf16', is 'none'" in capsys.readouterr().err


def test_a_compiled_run_learns_the_same_and_can_be_resumed_uncompiled(run, tiny_data, tmp_path, monkeypatch):
    out = tmp_path / "compiled"
    backend = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)  # inductor would take minutes
    monkeypatch.setattr(torch, "compile", backend)
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "1", "--compile")) == 0
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "2", "--resume", "auto")) == 0
    # dropout draws other numbers in a compiled network, so losses are near each other and not equal
    losses, compiled = ([entry["loss"] for entry in entries(folder, "train")] for folder in (run, out))
    assert compiled == pytest.approx(losses, rel=0.2)


def test_the_log_of_epochs_after_the_checkpoint_is_taken_back(tmp_path):
    steps = [f'{{"epoch": {k // 3}, "part": "step", "step": {k}}}\n' for k in range(3, 12)]
    epochs = [f'{{"epoch": {k}, "part": "train"}}\n' for k in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(steps + epochs) + '{"epoch": 4, "pa')  # a crash cut the last line
    RunLog(tmp_path, kept_epochs=2, kept_steps=7).close()
    assert [entry["epoch"] for entry in entries(tmp_path, "train")] == [1, 2]
    assert [entry["step"] for entry in entries(tmp_path, "step")] == [3, 4, 5, 6, 7]


def test_a_used_folder_is_refused_and_untouched(run, tiny_data, capsys):
    before = (run / "checkpoints" / "last.pt").read_bytes()
    assert train_scannet.main(arguments(tiny_data, run, "--epochs", "2")) == 1
    assert "is not empty; go on with --resume auto" in capsys.readouterr().err
    assert (run / "checkpoints" / "last.pt").read_bytes() == before


def test_resuming_with_other_settings_is_refused(run, tiny_data, capsys):
    assert train_scannet.main(arguments(tiny_data, run, "--epochs", "3", "--resume", "auto", "--lr", "0.1")) == 1
    assert "lr was 0.001, is 0.1" in capsys.readouterr().err
    more = ["--epochs", "3", "--resume", "auto", "--model", "pointnet2"]
    assert train_scannet.main(arguments(tiny_data, run, *more)) == 1
    assert "model was 'latentgnn', is 'pointnet2'" in capsys.readouterr().err


def test_a_run_of_before_some_flags_is_resumed_with_what_was_built_in(run, tiny_data, tmp_path, capsys):
    out = shutil.copytree(run, tmp_path / "old")
    last = out / "checkpoints" / "last.pt"
    content = torch.load(last, weights_only=True)
    del content["label_space"]
    for name in ("chunk_size", "decay_every", "sync_bn", "amp", "train", "val", "init_from"):
        del content["config"][name]
    for name in ("affinity", "l2v_norm", "kernels"):  # kernels are named among the flags
        del content["model_config"][name]
    torch.save(content, last)
    more = ["--epochs", "3", "--resume", "auto"]
    assert train_scannet.main(arguments(tiny_data, out, *more, "--chunk-size", "3")) == 1
    assert "of another run: chunk_size was 1.5, is 3.0. " in capsys.readouterr().err
    assert train_scannet.main(arguments(tiny_data, out, *more)) == 0
    assert checkpoint.read(last)["config"]["chunk_size"] == 1.5


def test_a_run_that_recorded_kernels_of_a_network_without_goes_on(tiny_data, tmp_path):
    out, path = tmp_path / "run", tmp_path / "c.json"
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "1", "--model", "pointnet2")) == 0
    last = out / "checkpoints" / "last.pt"
    content = torch.load(last, weights_only=True)
    content["config"]["kernels"] = content["model_config"]["kernels"] = 3
    torch.save(content, last)
    path.write_text(json.dumps(json.loads((out / "config.json").read_text()) | {"kernels": 3}))
    more = ["--config", str(path), "--epochs", "2", "--resume", "auto"]
    assert train_scannet.main(arguments(tiny_data, out, *more)) == 0
    assert checkpoint.read(last)["epoch"] == 2


def test_resuming_with_other_scenes_is_refused(run, tiny_data, tmp_path, capsys):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["scenes"]["room0_00"]["sha256"] = "another"
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert train_scannet.main(arguments(data, run, "--epochs", "3", "--resume", "auto")) == 1
    assert "was trained on other scenes" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(tiny_data, tmp_path, monkeypatch, capsys):
    out, calls = tmp_path / "x", []

    def loss_of_step(logits, *rest):
        calls.append(1)
        return logits.sum() * (float("nan") if len(calls) == 2 else 0.0), torch.tensor(1.0)

    monkeypatch.setattr(train_scannet, "weighted_cross_entropy_sum", loss_of_step)
    assert train_scannet.main(arguments(tiny_data, out, "--epochs", "3")) == 1
    message = capsys.readouterr().err
    assert "loss nan" in message and "epoch 2, step 2" in message and message.count("room") == 2
    assert "loss nan" in (out / "log.txt").read_text()
    assert checkpoint.read(out / "checkpoints" / "last.pt")["epoch"] == 1


def test_missing_data_is_an_error_with_advice(tmp_path, capsys):
    assert train_scannet.main(arguments(tmp_path / "nothing", tmp_path / "x")) == 1
    assert "nothing/manifest.json: no such file; preprocess scans with --out" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_flags_win_over_the_config_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"lr": 0.01, "batch_size": 4, "features": ["colour"], "resume": None}))
    args = train_scannet.parse_config(["--config", str(path), "--batch-size", "6"])
    assert (args.lr, args.batch_size, args.features, args.epochs) == (0.01, 6, ["colour"], 200)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"learning_rate": 1}', r"unknown keys \['learning_rate'\]; known are"),
        ('{"epochs": "many"}', "'many' is not a whole number"),
        ('{"model": "transformer"}', "invalid choice: 'transformer'"),
        ("[1]", "unknown keys list"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_bad_config_files_are_refused(tmp_path, capsys, content, message):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(SystemExit):
        train_scannet.parse_config(["--config", str(path)])
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("version", CONFIGS_OF_BEFORE)
def test_the_config_files_of_before_are_understood(tmp_path, version):
    path = tmp_path / "c.json"
    path.write_text(CONFIGS_OF_BEFORE[version])
    args = vars(train_scannet.parse_config(["--config", str(path)]))
    unnamed = {"chunk_size": 1.5, "decay_every": 200_000, "sync_bn": False, "amp": "none", "compile": False}
    ignored = {"kernels": 1} if args["model"] == "pointnet2" else {}
    expected = unnamed | json.loads(path.read_text()) | ignored
    assert str(args["data"]) == expected.pop("data")
    settings = expected.keys() - {"config", "name", "out"}
    assert {name: args[name] for name in settings} == {name: expected[name] for name in settings}


def test_a_flag_of_another_models_layer_is_refused_whichever_way_the_model_is_chosen(tmp_path, capsys):
    path = tmp_path / "c.json"
    path.write_text('{"model": "non_local"}')
    for flags, model in ((["--model", "pointnet2"], "pointnet2"), (["--config", str(path)], "non_local")):
        for option in (["--kernels", "3"], ["--learned-temperature"], ["--signed"]):
            with pytest.raises(SystemExit) as stopped:
                train_scannet.parse_config([*flags, *option])
            said = capsys.readouterr().err.splitlines()[-1]
            assert stopped.value.code == 2 and " ".join(option) in said and model in said
        assert train_scannet.parse_config([*flags, "--kernels", "1"]).model == model
    assert train_scannet.parse_config(["--config", str(path), "--model", "latentgnn", "--kernels", "3"]).kernels == 3


def test_the_networks_options_are_flags_and_survive_the_config_file(tmp_path):
    flags = ["--grouping", "msg", "--radii", "0.2", "0.3", "0.5", "0.9", "--latent-nodes", "8", "4", "2", "1"]
    flags += ["--kernels", "2", "--stride", "8", "--l2v-norm", "points", "--weight", "none"]
    wanted = {"grouping": "msg", "radii": (0.2, 0.3, 0.5, 0.9), "latent_nodes": (8, 4, 2, 1), "kernels": 2, "stride": 8}
    wanted = PointNet2Config(21, context="latentgnn", l2v_norm="points", weight=None, **wanted)
    args = train_scannet.parse_config(flags)
    assert train_scannet.network_config(args, 21) == wanted
    path = tmp_path / "c.json"
    path.write_text(json.dumps(vars(args), default=str))
    assert train_scannet.network_config(train_scannet.parse_config(["--config", str(path)]), 21) == wanted
    symmetric = train_scannet.network_config(train_scannet.parse_config(["--symmetric"]), 21)
    assert symmetric == PointNet2Config(21, context="latentgnn", symmetric=True)
    both = train_scannet.network_config(train_scannet.parse_config(["--learned-temperature", "--signed"]), 21)
    assert both == PointNet2Config(21, context="latentgnn", learned_temperature=True, signed=True)
    affinity = train_scannet.network_config(
        train_scannet.parse_config(["--model", "non_local", "--affinity", "softmax"]), 21
    )
    assert affinity == PointNet2Config(21, context="non_local", affinity="softmax")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stride", "3"], "multiple of stride"),
        (["--symmetric", "--l2v-norm", "points"], "symmetric"),
        (["--radii", "0", "1", "2", "3"], "radii must be positive"),
        (["--radii", "0.1"], "expected 4 arguments"),
        (["--latent-nodes", "8", "4", "2", "0"], "not a whole number of at least 1"),
    ],
)
def test_networks_that_cannot_be_are_refused_before_anything_is_made(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_scannet.parse_config(flags)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_radii_alone(tiny_data, tmp_path, capsys):
    radii = ["--radii", "0.2", "0.4", "0.8", "1.6"]
    assert train_scannet.main(arguments(tiny_data, tmp_path, "--epochs", "1", *radii)) == 0
    assert train_scannet.main(arguments(tiny_data, tmp_path, "--epochs", "2", "--resume", "auto")) == 1
    assert "radii was [0.2, 0.4, 0.8, 1.6], is [0.1, 0.2, 0.4, 0.8]" in capsys.readouterr().err
    assert train_scannet.main(arguments(tiny_data, tmp_path, "--epochs", "2", "--resume", "auto", *radii)) == 0
    assert checkpoint.load(tmp_path / "export").config.radii == (0.2, 0.4, 0.8, 1.6)


def test_switches_survive_the_config_file(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"compile": True}))
    assert train_scannet.parse_config(["--config", str(path)]).compile is True
    assert train_scannet.parse_config(["--config", str(path), "--no-compile"]).compile is False
    path.write_text(json.dumps({"compile": False}))
    assert train_scannet.parse_config(["--config", str(path)]).compile is False


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "'0' is not a whole number of at least 1"),
        (["--workers", "-1"], "'-1' is not a whole number of at least 0"),
        (["--seed", "x"], "'x' is not a whole number of at least 0"),
        (["--lr", "nan"], "--lr is nan"),
        (["--chunk-size", "0"], "--chunk-size is 0.0; it has to be 0.001 to 1000 metres"),
        (["--bn-momentum", "5"], "--bn-momentum is 5.0"),
        (["--compile", "--sync-bn"], "--sync-bn is not compiled"),
    ],
)
def test_bad_flags_are_refused(capsys, flags, message):
    with pytest.raises(SystemExit):
        train_scannet.parse_config(flags)
    assert message in capsys.readouterr().err


def test_an_out_that_is_a_file_is_refused(tiny_data, tmp_path, capsys):
    (tmp_path / "x").write_text("")
    assert train_scannet.main(arguments(tiny_data, tmp_path / "x")) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_schedules():
    assert recipes.learning_rate(1e-3, 199_999) == 1e-3
    assert recipes.learning_rate(1e-3, 400_000) == pytest.approx(0.49e-3)
    assert recipes.learning_rate(1e-3, 999, decay_every=500) == pytest.approx(0.7e-3)
    assert recipes.bn_momentum(0.5, 200_000) == 0.25
    assert recipes.bn_momentum(0.5, 10_000_000) == 0.01


def test_dropout_depends_on_seed_step_and_rank_alone():
    seeds = {ranks.seed_of_step(seed, step, rank) for seed in range(5) for step in range(100) for rank in (0, 1)}
    assert len(seeds) == 1000
    torch.manual_seed(ranks.seed_of_step(0, 1, 2))


def test_validation_scenes_without_labels_score_nothing_and_choose_no_best(rooms, tmp_path, capsys):
    data = rooms(train=2, val=0, test=1)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["splits"] |= {"val": manifest["splits"]["test"], "test": []}
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert train_scannet.main(arguments(data, tmp_path, "--epochs", "2")) == 0
    lines = [line for line in (tmp_path / "log.txt").read_text().splitlines() if line.startswith("voxel accuracy")]
    assert len(lines) == 2 and all("voxel accuracy -" in line and "0" not in line for line in lines)
    assert [entry.keys() for entry in entries(tmp_path, "val")] == [{"epoch", "part"}] * 2
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.pt", "previous.pt"]
    assert "warning" not in capsys.readouterr().out


def test_a_run_can_do_without_validation(tiny_data, tmp_path):
    assert train_scannet.main(arguments(tiny_data, tmp_path, "--epochs", "1", "--validate-every", "0")) == 0
    assert not entries(tmp_path, "val") and not (tmp_path / "checkpoints" / "best.pt").exists()
    assert checkpoint.read(tmp_path / "checkpoints" / "last.pt")["epoch"] == 1
