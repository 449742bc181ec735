"""The first steps of the command that makes the weights that come along: two rooms, one step."""

import json
import shlex

import pytest

import eval_scannet
import ops
import train_scannet
from scripts import calibrate, make_synthetic, preprocess_scannet
from scripts.experiments import rooms_weights
from training import checkpoint

pytest.importorskip("embreex")
COMMANDS = {
    "scripts/make_synthetic.py": make_synthetic.main,
    "scripts/preprocess_scannet.py": preprocess_scannet.main,
    "train_scannet.py": train_scannet.main,
    "eval_scannet.py": eval_scannet.main,
    "scripts/calibrate.py": calibrate.main,
}


def test_its_first_steps(tmp_path, monkeypatch):
    for name in ("_serving", "_description"):
        monkeypatch.setattr(ops, name, getattr(ops, name))  # put back in the end: the commands choose

    def run(command):
        program, *arguments = shlex.split(command)
        assert not COMMANDS[program](arguments)

    monkeypatch.setattr(rooms_weights, "run", run)
    out = tmp_path / "run"
    flags = ["--out", str(out), "--data", str(tmp_path), "--scenes", "2", "--epochs", "1", "1", "--batch-size", "1"]
    assert rooms_weights.main(flags) == 0
    made = checkpoint.read_published(out / "3m" / "export")
    assert (made["config"]["chunk_size"], made["config"]["points"]) == (3.0, 8192)
    assert json.loads((out / "3m" / "config.json").read_text())["init_from"] == str(out / "1.5m")
    shipped = json.loads((checkpoint.SHIPPED / "rooms" / "config.json").read_text())
    assert made["temperature"] > 0 and (out / "confidence.png").exists()
    assert json.loads((out / "3m" / "export" / "config.json").read_text()).keys() == shipped.keys()
