import json
import shlex

import pytest

import eval_scannet
import ops
import train_scannet
from scripts import make_synthetic, preprocess_scannet, reproduce_table3
from scripts.score_kinds import KINDS

COMMANDS = {
    "scripts/make_synthetic.py": make_synthetic.main,
    "scripts/preprocess_scannet.py": preprocess_scannet.main,
    "train_scannet.py": train_scannet.main,
    "eval_scannet.py": eval_scannet.main,
}


def result(row, seed, voxel, near, kind_set="synthetic", answered=80):
    """What a finished run leaves: `near` of 80 answers on near objects are right, of 100 vertices."""
    kinds = {kind: {"slab": [100, answered, near if kind == "near" else 40]} for kind in KINDS}
    context = None if row == "pointnet2" else {"scale": [0.1, -0.2, 0, 0], "change": [0.01] * 4, "idle": [0.25] * 4}
    return {
        "set": kind_set,
        "row": row,
        "seed": seed,
        "budget": {"scenes": 8, "epochs": 3, "batch_size": 2, "bn_momentum": 0.1},
        "parameters": 1000,
        "conv_macs": 2_000_000_000,
        "product_macs": 3_000_000,
        "steps": 9,
        "seconds_per_step": 0.5,
        "scores": {"voxel_accuracy": voxel, "class_voxel_accuracy": 0.2, "voxel_accuracy_majority": 0.37},
        "kinds": kinds,
        "oracles": {view: {"local": 1.0, "near": 0.6, "room": 0.5} for view in ("local", "chunk", "room")},
        "context": context,
    }


@pytest.fixture
def results():
    plain = [result("pointnet2", seed, 0.60 + 0.01 * seed, 40) for seed in range(3)]
    return plain + [result("latentgnn_k1", seed, 0.61 + 0.01 * seed, 60 + seed) for seed in range(3)]


def line(text, start, column=0):
    """The cells of the first table line that starts so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in lines[column].split("|")[2:-1]]


def test_the_table_of_finished_runs(results):
    text = reproduce_table3.tables(results, "table3.png")
    assert "6 finished runs. 8 generated rooms" in text and "3 epochs = 18 chunks" in text
    # seeds; voxel, class voxel; right on local, near and room; decided
    assert line(text, "PointNet++ SSG")[:3] == ["3", "61.0 ± 1.0", "20.0 ± 0.0"]
    assert line(text, "PointNet++ SSG")[4] == "40.0 ± 0.0" and line(text, "PointNet++ SSG")[7] == "50.0 ± 0.0"
    assert line(text, "+ LatentGNN, K = 1")[4] == "61.0 ± 1.0"
    assert line(text, "always the commonest class")[1] == "37.0"
    assert line(text, "+ LatentGNN, K = 1", 1)[0] == "+1.0 ± 2.3 (3.0)"  # s = 1 point in both
    assert line(text, "+ LatentGNN, K = 1", 2)[:4] == ["1,000", "2.000 G", "3.00 M", "0.50"]
    assert line(text, "+ LatentGNN, K = 1", 2)[4:] == [
        "0.100, -0.200, 0.000, 0.000",
        "1.0, 1.0, 1.0, 1.0",
        "25, 25, 25, 25",
    ]


def test_a_network_that_answers_nothing_has_no_share_of_right_answers(results):
    results[0] = result("pointnet2", 0, 0.6, 0, answered=0)
    text = reproduce_table3.tables(results, "table3.png")
    assert line(text, "PointNet++ SSG")[7] == "-" and line(text, "+ LatentGNN, K = 1", 1)[6] == "-"


@pytest.mark.parametrize(
    "p, freedom, quantile", [(0.975, 4, 2.7764), (0.8, 4, 0.9410), (0.975, 6, 2.4469), (0.975, 18, 2.1009)]
)
def test_student_quantile(p, freedom, quantile):
    assert reproduce_table3.student_quantile(p, freedom) == pytest.approx(quantile, rel=4e-3)


def test_comparing_two_sets_of_seeds():
    difference, interval, smallest = reproduce_table3.compare([2, 3, 4], [0, 1, 2])
    assert difference == 2
    assert interval == pytest.approx(2.7764 * (2 / 3) ** 0.5, rel=4e-3)
    assert smallest == pytest.approx((2.7764 + 0.9410) * (2 / 3) ** 0.5, rel=4e-3)


def test_only_what_is_between_the_marks_is_replaced(results, tmp_path):
    report = tmp_path / "RESULTS.md"
    report.write_text(f"above\n{reproduce_table3.BEGIN}\nold\n{reproduce_table3.END}\nbelow\n")
    for _ in range(2):
        reproduce_table3.write_report(report, results)
        text = report.read_text()
        assert text.startswith("above\n") and text.endswith("\nbelow\n")
        assert "old" not in text and text.count("### The synthetic set") == 1
        assert (tmp_path / "table3.png").stat().st_size > 1000
    report.write_text("no marks")
    with pytest.raises(ValueError, match="RESULTS.md: the table belongs between"):
        reproduce_table3.write_report(report, results)


def test_results_of_different_budgets_are_not_put_into_one_table(results, tmp_path):
    for number, content in enumerate(results):
        (tmp_path / f"x-seed{number}.json").write_text(json.dumps(content))
    found = reproduce_table3.read_results(tmp_path)
    assert [(run["row"], run["seed"]) for run in found[2:4]] == [("pointnet2", 2), ("latentgnn_k1", 0)]
    results[3]["budget"]["epochs"] = 4
    (tmp_path / "x-seed3.json").write_text(json.dumps(results[3]))
    with pytest.raises(ValueError, match="x-seed3.json .* different budgets"):
        reproduce_table3.read_results(tmp_path)


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
    report = tmp_path / "RESULTS.md"
    report.write_text(f"{reproduce_table3.BEGIN}\n{reproduce_table3.END}\n")
    arguments = ["--rows", "latentgnn_k1", "--seeds", "3", "--sets", "control"]
    arguments += ["--scenes", "2", "--epochs", "1", "--batch-size", "1"]
    for name in ("data", "runs", "results"):
        arguments += [f"--{name}", str(tmp_path / name)]
    arguments += ["--report", str(report)]
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
    assert "| + LatentGNN, K = 1 | 1 |" in report.read_text()

    ran.clear()
    capsys.readouterr()
    assert reproduce_table3.main(arguments) == 0 and not ran
    assert "done    control     latentgnn_k1  seed 3" in capsys.readouterr().out
    assert reproduce_table3.main([*arguments, "--epochs", "2"]) == 1 and not ran
    assert "has the budget" in capsys.readouterr().err
