"""scripts/benchmark.py gpu, on the CPU: every part's figures, what is not run again, and what it refuses."""

import functools
import json
import time

import numpy as np
import pytest
import torch

from data import scene_cache
from models import pointnet2, textbook
from scripts.benchmarks import loader
from scripts.benchmarks.gpu import command, kernels, steps, tables
from scripts.benchmarks.gpu.setting import LEFT_OUT, OUT_OF_MEMORY, SMALL, Setting

TRIED = ("--device", "cpu", "--small", "--rounds", 1)
CPU = torch.device("cpu")


def dust(first, vertices):
    """Instead of rooms, which take half a second each: as flat as that balls hold several points."""
    rng = np.random.default_rng(first)
    return (
        rng.random((vertices, 3), dtype=np.float32) * np.float32([1, 1, 0.05]),
        rng.integers(1, 41, vertices, dtype=np.uint16),
        first + 1,
    )


@pytest.fixture
def run(run_benchmark, monkeypatch, tmp_path):
    """Runs the script's main with these arguments, on small networks, each part in this process."""
    monkeypatch.setattr(loader, "rooms_side_by_side", dust)
    monkeypatch.setattr(scene_cache, "SPARE", 0)
    for module in (pointnet2, textbook):
        monkeypatch.setattr(module, "CENTRES", (16, 8, 4, 4))
    monkeypatch.setattr(kernels, "LEVELS", [(16, 0.2), (8, 0.4)])
    monkeypatch.setattr(steps, "NETWORKS", {name: steps.NETWORKS[name] for name in steps.COMPARED})
    monkeypatch.setattr(command, "in_a_fresh_process", here)
    return functools.partial(run_benchmark, "gpu", *TRIED, "--out", tmp_path / "out")


def here(name, setting, told):
    return json.loads(json.dumps(command.result_of(name, setting)))


def nothing_is_run(name, setting, told):
    raise AssertionError(name)


def test_every_part_has_figures_and_is_not_run_again(run, tmp_path, monkeypatch, capsys):
    assert run() == 0
    written = (tmp_path / "out" / "gpu.json").read_text()
    content, markdown = json.loads(written), (tmp_path / "out" / "gpu.md").read_text()
    assert list(content["parts"]) == list(command.PARTS) == list(tables.TABLES) and content["device"] == "cpu"
    parts = content["parts"]
    for name, part in parts.items():
        assert part["rows"] and not any("error" in row for row in part["rows"]), name
        assert not any("error" in form for row in part["rows"] for form in row.get("forms", {}).values()), name
    check_figures(parts)
    assert "no figure here means anything" in markdown
    assert markdown.count("the step runs eagerly: there is no graph on this device") == 4
    assert "Extrapolated" in markdown and "230,400 chunks" in markdown
    printed = capsys.readouterr().out
    assert all(f"{number} of 8, {name}: " in printed for number, name in enumerate(parts, 1)) and markdown in printed

    monkeypatch.setattr(command, "in_a_fresh_process", nothing_is_run)
    assert run() == 0
    assert (tmp_path / "out" / "gpu.json").read_text() == written
    assert list((tmp_path / "made").rglob("*.h5")) == []


def check_figures(parts):
    assert len(parts["operators"]["rows"]) == 6 and all(row["equal"] for row in parts["operators"]["rows"])
    for row in parts["equality"]["rows"]:
        assert all(step["equal"] for key in ("captured", "eager again") for step in row[key])
    forms = {row["precision"]: set(row["forms"]) for row in parts["steps"]["rows"]}
    assert forms == {name: set(wanted) for name, wanted in steps.FORMS.items()}
    assert all(len(form["seconds"]) == 1 for row in parts["steps"]["rows"] for form in row["forms"].values())
    assert [row["points"] for row in parts["layer"]["rows"]] == [*SMALL.points]
    assert all({kernels.MOMENTS, kernels.DIRECT} < set(row["forms"]) for row in parts["layer"]["rows"])
    assert parts["evaluation"]["rows"][0]["vertices"] == SMALL.vertices
    kinds = {(row["workers"], row["kind"]) for row in parts["loader"]["rows"]}
    assert {(2, "plain"), (2, "cached")} <= kinds and len(parts["loader"]["step_seconds"]) == 1
    assert [row["ranks"] for row in parts["several"]["rows"]] == [1, 2]
    (row,) = parts["schedule"]["rows"]
    assert row["steps"] == SMALL.schedule_steps
    assert row["hours"] == pytest.approx(230_400 / row["chunks_per_second"] / 3600)


def test_an_interrupted_part_is_run_again_and_a_failed_one_too(run, monkeypatch, tmp_path, capsys):
    def broken(error):
        return lambda name, *rest: here(name, *rest) if name == "operators" else (_ for _ in ()).throw(error)

    two = ("--parts", "operators", "layer")
    monkeypatch.setattr(command, "in_a_fresh_process", broken(KeyboardInterrupt()))
    with pytest.raises(SystemExit, match="130"):
        run(*two)
    assert "interrupted in layer; the same command goes on there" in capsys.readouterr().err
    monkeypatch.setattr(command, "in_a_fresh_process", broken(command.PartError("it burns")))
    with pytest.raises(SystemExit, match="not done: layer; the same command tries them again"):
        run(*two)
    assert "failed: it burns" in capsys.readouterr().out
    monkeypatch.setattr(command, "in_a_fresh_process", here)
    assert run(*two) == 0
    printed = capsys.readouterr().out
    assert "done before" in printed and "1 of 1, layer" in printed
    assert list(json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]) == ["operators", "layer"]


def test_a_process_that_fails_has_no_result(tmp_path):
    setting = Setting(CPU, None, 1, [])
    with pytest.raises(command.PartError, match="ended with status 1"):
        command.in_a_fresh_process("operators", setting, tmp_path / "told.json")


@pytest.mark.parametrize("content", ["", '{"parts": ', "[]", '{"parts": {"nothing": {}}}', '{"parts": {"layer": {}}}'])
def test_a_broken_file_is_named(run, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gpu.json").write_text(content)
    with pytest.raises(SystemExit, match="benchmark gpu: .*gpu.json is broken .*: delete it, or give another --out"):
        run()
    assert (tmp_path / "out" / "gpu.json").read_text() == content


def test_a_file_in_the_folders_place_is_named(run, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(SystemExit, match="benchmark gpu: --out .*out cannot be a folder .*: give another"):
        run()


def test_a_file_of_another_run_is_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "in_a_fresh_process", lambda *_: {"ops": "", "clouds": 1, "rows": []})
    run("--parts", "operators")
    with pytest.raises(SystemExit, match=r"gpu.json is of another run \(rounds was 1, is 2\): give another --out"):
        run("--parts", "operators", "--rounds", 2)


@pytest.mark.parametrize(
    "flags, where",
    [([], "torch finds no GPU"), (["--small"], "torch finds no GPU"), (["--device", "cpu"], "--device cpu is no GPU")],
)
def test_without_a_gpu_it_says_so(run_benchmark, monkeypatch, flags, where):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=f"benchmark gpu: {where}; --device cpu --small tries every part"):
        run_benchmark("gpu", *flags)


def test_a_row_that_fails_or_comes_too_late_says_so_and_the_rest_goes_on():
    def measure(number):
        if number < 2:
            raise [torch.cuda.OutOfMemoryError(), ValueError("first\nlast")][number]
        return {"twice": 2 * number}

    keys = [{"number": number} for number in range(3)]
    rows = Setting(CPU, SMALL, 1, []).rows("rows", keys, measure)
    assert rows[:2] == [{"number": 0, "error": OUT_OF_MEMORY}, {"number": 1, "error": "ValueError: last"}]
    assert rows[2] == {"number": 2, "twice": 4}
    late = Setting(CPU, SMALL, 1, [], time.monotonic() - 1).rows("rows", keys, measure)
    assert [row["error"] for row in late] == [LEFT_OUT] * 3


def test_tables_say_why_a_figure_is_missing():
    forms = {"eager": {"seconds": [0.02], "tensors_mb": 5.0, "device_mb": 9.0}, "captured": {"error": OUT_OF_MEMORY}}
    key = {"batch": 4, "precision": "TF32"}
    rows = [key | {"network": "no context", "forms": forms}, key | {"network": "non-local", "error": LEFT_OUT}]
    lines = tables.steps({"captured": "it is replayed", "rows": rows})
    assert lines[-2] == "| no context | 4 | TF32 | 20.0 (20.0-20.0) | out of memory | - | - | eager 5, 9 |"
    assert lines[-1] == f"| non-local | 4 | TF32 | {LEFT_OUT} |"
    apart = [{"equal": True}, {"equal": False, "loss": 1e-7, "weights": 2e-6}]
    assert tables.apart(apart) == "apart from step 2 on; after 2: loss 1.0e-07, weights 2.0e-06 apart"


def test_moments_pay_where_they_take_less_time():
    rows = [
        {"points": n, "forms": {"moments": {"eager": [moments]}, "batch norm": {"eager": [1.0]}}}
        for n, moments in ((10, 2.0), (100, 0.5))
    ]
    part = {"latent_nodes": 80, "bound": 4000, "rows": rows}
    (said,), replayed = tables.moments(part, "eager"), tables.moments(part, "replayed")
    assert replayed == []
    assert said.startswith("Moments are faster, eager, at N = 100 (8,000 values); ") and "above 4,000 values" in said
