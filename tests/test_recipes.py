"""Training by --recipe modern and by each of its flags."""

import json

import numpy as np
import pytest
import torch

import eval_scannet
import train_scannet
from training import checkpoint, recipes
from training.losses import weighted_cross_entropy_sum

FEW = ["--points", "1500", "--workers", "0", "--device", "cpu", "--batch-size", "2", "--validate-every", "2"]


def train(data, out, *flags):
    return train_scannet.main(["--data", str(data), "--out", str(out), *FEW, *flags])


def losses(out):
    entries = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [entry["loss"] for entry in entries if entry["part"] == "step"]


@pytest.fixture(scope="module")
def modern(tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("recipes") / "modern"
    assert train(tiny_data, out, "--recipe", "modern", "--epochs", "2") == 0
    return out


def test_a_recipe_is_a_set_of_defaults(tmp_path):
    parse = train_scannet.parse_config
    paper, modern = parse([]), parse(["--recipe", "modern"])
    assert paper == parse(["--recipe", "paper"])
    for name, value in recipes.RECIPES["modern"].items():
        assert getattr(modern, name) == value
    assert {**vars(paper), **recipes.RECIPES["modern"], "recipe": "modern"} == vars(modern)
    assert parse(["--recipe", "modern", "--spacing", "0", "--features"]).spacing == 0
    (tmp_path / "c.json").write_text('{"recipe": "modern", "spacing": 0.03}')
    of_file = parse(["--config", str(tmp_path / "c.json")])
    assert (of_file.spacing, of_file.schedule) == (0.03, "cosine")
    back = parse(["--config", str(tmp_path / "c.json"), "--recipe", "paper"])
    assert vars(back) == vars(paper) | {"config": tmp_path / "c.json"}
    every = {name: value for name, value in vars(paper).items() if name not in ("config", "name", "out", "resume")}
    (tmp_path / "c.json").write_text(json.dumps(every | {"seed": 7}))
    over = parse(["--config", str(tmp_path / "c.json"), "--recipe", "modern"])
    assert over.recipe == "modern" and over.seed == 7
    assert all(getattr(over, name) == value for name, value in recipes.RECIPES["modern"].items())


def test_checkpoint_and_export_know_what_the_network_is_given(modern):
    for path in (modern / "checkpoints/last.pt", modern / "export"):
        config = checkpoint.read_published(path)["config"]
        assert (config["spacing"], config["points"], config["features"]) == (0.05, 1500, ["height"])


def test_the_report_names_density_and_tiles(modern, tiny_data, tmp_path):
    assert eval_scannet.main(["--checkpoint", str(modern), "--out", str(tmp_path), "--device", "cpu"]) == 0
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["protocols"][0] == "pn2-wholescene at 5 cm with other tiles"
    assert (report["spacing"], report["points"]) == (0.05, 1500)
    assert report["mean_iou"] is not None


@pytest.mark.parametrize("flags", [[], ["--accumulate", "2", "--clip", "0.5", "--optimiser", "adamw"]])
def test_a_run_that_died_goes_on_to_the_same_bits(flags, modern, tiny_data, tmp_path, monkeypatch):
    flags = ["--recipe", "modern", "--epochs", "2", *flags]
    whole = modern
    if len(flags) > 4:
        whole = tmp_path / "whole"
        assert train(tiny_data, whole, *flags) == 0
    out = tmp_path / "died"
    log_epoch = train_scannet.log_epoch

    def die_after_epoch_1(args, run, steps, epoch, speed):
        if epoch == 2:
            raise OSError("died")
        log_epoch(args, run, steps, epoch, speed)

    with monkeypatch.context() as patch:
        patch.setattr(train_scannet, "log_epoch", die_after_epoch_1)
        assert train(tiny_data, out, *flags) == 1
    assert train(tiny_data, out, *flags, "--resume", "auto") == 0
    once, again = (checkpoint.load(folder) for folder in (whole, out))
    assert checkpoint.weights_sha256(once) == checkpoint.weights_sha256(again) and losses(whole) == losses(out)


def test_the_number_of_workers_changes_nothing(modern, tiny_data, tmp_path):
    assert train(tiny_data, tmp_path / "two", "--recipe", "modern", "--epochs", "2", "--workers", "2") == 0
    assert losses(tmp_path / "two") == losses(modern)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "3"], "epochs was 2, is 3"),
        (["--epochs", "2", "--schedule", "step"], "schedule was 'cosine', is 'step'"),
        (["--epochs", "2", "--spacing", "0.04"], "spacing was 0.05, is 0.04"),
    ],
)
def test_resuming_with_another_schedule_or_density_is_refused(modern, tiny_data, flags, message, capsys):
    assert train(tiny_data, modern, "--recipe", "modern", "--resume", "auto", *flags) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--spacing", "2"], "--spacing is 2.0"),
        (["--spacing", "-1"], "--spacing is -1.0; it has to be 0, or"),
        (["--spacing", "1e-5"], "--spacing is 1e-05; it has to be 0, or"),
        (["--label-smoothing", "1"], "--label-smoothing is 1.0"),
        (["--clip", "nan"], "--clip is nan"),
        (["--recipe", "best"], "invalid choice: 'best'"),
        (["--augment", "mirror"], "invalid choice: 'mirror'"),
        (["--warm-up", "100"], "--warm-up is for --schedule cosine"),
    ],
)
def test_bad_flags_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_scannet.parse_config(flags)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_spacing_that_leaves_too_few_points_is_told(tiny_data, tmp_path):
    assert train(tiny_data, tmp_path / "run", "--spacing", "0.4", "--epochs", "1", "--validate-every", "0") == 0
    assert "fewer than the 1024 centres of the first level" in (tmp_path / "run/log.txt").read_text()


def test_a_warm_up_has_to_end(tiny_data, tmp_path, capsys):
    flags = ["--recipe", "modern", "--epochs", "2", "--warm-up"]
    assert train(tiny_data, tmp_path / "run", *flags, "4") == 1
    assert "--warm-up 4 is not shorter than the run, which has 4 chunks" in capsys.readouterr().err
    assert train(tiny_data, tmp_path / "run", *flags, "2") == 0


def test_the_order_of_augmentations_is_no_setting():
    parse = train_scannet.parse_config
    assert parse(["--augment", "rotate", "dropout"]) == parse(["--augment", "dropout", "rotate"]) == parse([])


def test_schedules():
    cosine = [recipes.cosine(2.0, chunks, total=1000, warm_up=100) for chunks in range(0, 1001, 50)]
    assert cosine[0] == pytest.approx(2 / 100) and cosine[1] == pytest.approx(2 * 51 / 100)
    assert cosine[2] == 2.0 and cosine[11] == pytest.approx(1.0) and cosine[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(cosine[2:]) < 0).all()
    assert recipes.cosine(1.0, 0, 10) == 1.0 and recipes.cosine(1.0, 20, 10) == pytest.approx(0, abs=1e-12)


def test_two_batches_of_a_step_give_the_mean_of_their_gradients(tiny_data, tmp_path):
    """As one step on each of two copies of the network would, of the same weights."""
    flags = ["--epochs", "1", "--validate-every", "0", "--augment", "--seed", "5"]
    assert train(tiny_data, tmp_path / "both", *flags, "--accumulate", "2") == 0
    assert train(tiny_data, tmp_path / "one", *flags) == 0
    both, first = losses(tmp_path / "both"), losses(tmp_path / "one")
    assert len(both) == max(len(first) // 2, 1)
    assert both[0] != first[0]


def test_smoothing_spreads_the_target():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 50, 7, generator=generator, dtype=torch.float64)
    classes, weight = torch.randint(7, (2, 50), generator=generator), torch.rand(2, 50, generator=generator)
    target = 0.9 * torch.nn.functional.one_hot(classes, 7) + 0.1 / 7
    expected = -(target * logits.log_softmax(-1)).sum(-1)
    total, count = weighted_cross_entropy_sum(logits, classes, weight, 0.1)
    torch.testing.assert_close(total, (expected * weight).sum())
    assert count == 100
