import json
import shlex

import pytest
from torch import nn

import eval_scannet
import ops
import train_scannet
from data.datasets import INPUTS
from models.context import CONTEXTS
from models.pointnet2 import PointNet2Config, build
from scripts import make_synthetic, preprocess_scannet
from scripts.experiments import reproduce_table3, table3_report

COMMANDS = {
    "scripts/make_synthetic.py": make_synthetic.main,
    "scripts/preprocess_scannet.py": preprocess_scannet.main,
    "train_scannet.py": train_scannet.main,
    "eval_scannet.py": eval_scannet.main,
}


def test_an_interrupted_run_goes_on_and_a_finished_one_is_left(tmp_path, monkeypatch, capsys):
    ran, interrupted_at = [], "eval_scannet.py"
    for name in ("_serving", "_description"):
        monkeypatch.setattr(ops, name, getattr(ops, name))  # put back in the end: the commands choose

    def run_command(command):
        program, *arguments = shlex.split(command)
        if program == interrupted_at:
            raise KeyboardInterrupt
        ran.append(program)
        assert not COMMANDS[program](arguments)

    monkeypatch.setattr(reproduce_table3, "run_command", run_command)
    arguments = ["--rows", "latentgnn_k1", "--seeds", "3", "--sets", "control"]
    arguments += ["--scenes", "2", "--epochs", "1", "--batch-size", "1"]
    for name in ("data", "runs", "results"):
        arguments += [f"--{name}", str(tmp_path / name)]
    with pytest.raises(KeyboardInterrupt):
        reproduce_table3.main(arguments)
    assert not (tmp_path / "results").exists()

    interrupted_at = None
    assert reproduce_table3.main(arguments) == 0
    assert ran == [*list(COMMANDS)[:3], *COMMANDS]
    found = json.loads((tmp_path / "results" / "control-latentgnn_k1-seed3.json").read_text())
    assert found["steps"] == 1 and len(found["loss"]) == 1  # the training was not begun again
    assert found["commands"][2].endswith("--resume auto") and "--shuffle-labels" in found["commands"][0]
    assert found["settings"]["seed"] == 3 and "data" not in found["settings"]
    assert found["scores"]["selected_on"] is None and found["scores"]["scenes"] == 1
    assert len(found["context"]["scale"]) == len(found["context"]["idle"]) == 4
    assert all(0 < change < 0.1 for change in found["context"]["change"])
    assert len(table3_report.read_results(tmp_path / "results")) == 1

    ran.clear()
    capsys.readouterr()
    assert reproduce_table3.main(arguments) == 0 and not ran
    assert "done    control         latentgnn_k1  seed 3" in capsys.readouterr().out
    assert reproduce_table3.main([*arguments, "--epochs", "2"]) == 1 and not ran
    assert "has the budget" in capsys.readouterr().err


def test_what_other_context_layers_do(tiny_data, monkeypatch):
    """A layer of one's own has neither a scale nor latent nodes, and changes the features all the same."""
    monkeypatch.setitem(CONTEXTS, "own", nn.LayerNorm)
    found = {
        context: reproduce_table3.context_use(build(PointNet2Config(21, context=context), 0).eval(), tiny_data, INPUTS)
        for context in ("none", "non_local", "own")
    }
    assert found["none"] is None
    assert found["non_local"] == {"scale": [0.0] * 4, "change": [0.0] * 4}
    assert found["own"].keys() == {"change"} and min(found["own"]["change"]) > 0.1


def test_the_report_knows_every_row_and_set_that_runs():
    assert {*reproduce_table3.ROWS} == {*table3_report.ROWS}
    assert [*reproduce_table3.SETS] == [*table3_report.SETS] and len(table3_report.MARKS) == len(table3_report.SETS)


def test_telling_colours_need_the_feature(capsys):
    assert reproduce_table3.main(["--sets", "telling", "--flags=--recipe modern"]) == 1
    assert "the colours of telling tell nothing without --flags" in capsys.readouterr().err
