import json

import pytest

from scripts.experiments import score_kinds, table3_report
from scripts.experiments.score_kinds import KINDS


def result(row, seed, voxel, near, answered=80):
    """What a finished run leaves: `near` of 80 answers on near objects are right, of 100 vertices."""
    half = {"table": [50, answered // 2, min(near, answered // 2)], "desk": [50, answered // 2, max(near - 40, 0)]}
    kinds = {kind: {"slab": half if kind == "near" else {"table": [100, answered, 40]}} for kind in KINDS}
    context = None if row == "pointnet2" else {"scale": [0.1, -0.2, 0, 0], "change": [0.01] * 4, "idle": [0.25] * 4}
    return {
        "set": "synthetic",
        "row": row,
        "seed": seed,
        "budget": {
            "scenes": 8,
            "epochs": 3,
            "batch_size": 2,
            "bn_momentum": 0.1,
            "decay_every": 9000,
            "chunk_size": 1.5,
            "flags": "",
        },
        "parameters": 1000,
        "conv_macs": 2_000_000_000,
        "product_macs": 3_000_000,
        "steps": 9,
        "seconds_per_step": 0.5,
        "scores": {
            "voxel_accuracy": voxel,
            "class_voxel_accuracy": 0.2,
            "voxel_accuracy_majority": 0.37,
            "vertex_accuracy": 0.5,
            "mean_iou": 0.1,
        },
        "kinds": kinds,
        "oracles": {
            view: {"local": 1.0, "near": possible, "room": 0.5}
            for view, possible in (("local", 0.6), ("chunk", 0.7), ("room", 1.0))
        },
        "context": context,
    }


@pytest.fixture
def results():
    plain = [result("pointnet2", seed, 0.60 + 0.01 * seed, 40) for seed in range(3)]
    return plain + [result("latentgnn_k1", seed, 0.61 + 0.01 * seed, 60 + 2 * seed) for seed in range(3)]


def line(text, start, among=0):
    """The cells of the first table line that starts so, or of a later one."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in lines[among].split("|")[2:-1]]


def test_the_tables_of_finished_runs(results):
    text = table3_report.tables(results, "table3.png")
    assert "6 finished runs. 8 generated rooms" in text and "3 epochs = 18 chunks" in text
    assert "every 9,000 chunks, chunks of 1.5 m" in text
    # PointNet++, K = 1, difference, what one could know; the standard deviation is 1 point in both
    assert line(text, "voxel accuracy") == ["61.0 ± 1.0", "62.0 ± 1.0", "+1.0 ± 2.3 (3.0)", "", "", ""]
    assert line(text, "near objects, right")[:2] == ["40.0 ± 0.0", "62.0 ± 2.0"]
    assert line(text, "near objects, right")[3:] == ["60.0", "70.0", "100.0"]
    assert line(text, "near objects, decided")[:2] == ["50.0 ± 0.0", "77.5 ± 2.5"]
    assert line(text, "near objects, told apart")[:2] == ["0.0 ± 0.0", "55.0 ± 5.0"]  # 100 and 50, 55, 60 % right
    assert "room objects, told apart" not in text  # one class alone, in every run
    assert line(text, "near objects, answered") == ["80.0 ± 0.0"] * 2 + ["+0.0 ± 0.0 (0.0)", "", "", ""]
    assert "commonest class: voxel accuracy 37.0" in text
    costs = line(text, "+ LatentGNN, K = 1")
    assert costs[:4] == ["1,000", "2.000 G", "3.00 M", "0.50"]
    assert costs[4:] == ["0.100, 0.200, 0.000, 0.000", "1.0, 1.0, 1.0, 1.0", "25, 25, 25, 25"]
    assert line(text, "+ LatentGNN, K = 3")[-2:] == ["+2.0", "+4.5"]  # the paper's


def test_a_network_that_answers_nothing_has_no_share_of_right_answers(results):
    results[0] = result("pointnet2", 0, 0.6, 0, answered=0)
    decided = line(table3_report.tables(results, "table3.png"), "near objects, decided")
    assert decided[0] == decided[2] == "-" and decided[1] == "77.5 ± 2.5"


def test_one_seed_has_no_deviation_and_no_difference(results):
    text = table3_report.tables(results[2:4], "table3.png")
    assert line(text, "voxel accuracy") == ["62.0", "61.0", "", "", ""]


@pytest.mark.parametrize(
    "p, freedom, quantile",
    [
        (0.975, 2, 4.3027),
        (0.8, 2, 1.0607),
        (0.975, 4, 2.7764),
        (0.8, 4, 0.9410),
        (0.975, 6, 2.4469),
        (0.975, 18, 2.1009),
    ],
)
def test_student_quantile(p, freedom, quantile):
    assert table3_report.student_quantile(p, freedom) == pytest.approx(quantile, rel=4e-3)


def test_differences_by_seed(results):
    """The same seed is better by 1, 1 and 1 point: the scatter between seeds does not count."""
    text = table3_report.tables(results, "table3.png", paired=True)
    assert line(text, "voxel accuracy")[2] == "+1.0 ± 0.0 (0.0)" and "seed by seed" in text
    assert line(text, "near objects, right")[2].startswith("+22.0 ± 5.0")  # 20, 22, 24: 2 / sqrt(3) x 4.30
    with pytest.raises(ValueError, match="latentgnn_k1 have other seeds"):
        table3_report.tables(results[:-1], "", paired=True)


def test_the_mean_feature_is_a_base_too(results):
    results[3:3] = [result("mean_feature", seed, 0.62 + 0.01 * seed, 50) for seed in range(3)]
    text = table3_report.tables(results, "table3.png")
    cells = line(text, "voxel accuracy")
    assert [cell.split()[0] for cell in cells[3:6]] == ["+2.0", "+1.0", "-1.0"]  # mean, K = 1; K = 1 to the mean
    assert text.count("| + mean feature |") == 1, "no line among the paper's"


def test_comparing_two_sets_of_seeds():
    difference, interval, smallest = table3_report.compare([2, 3, 4], [0, 1, 2])
    assert difference == 2
    assert interval == pytest.approx(2.7764 * (2 / 3) ** 0.5, rel=4e-3)
    assert smallest == pytest.approx((2.7764 + 0.9410) * (2 / 3) ** 0.5, rel=4e-3)


def test_only_what_is_between_the_marks_is_replaced(results, tmp_path):
    report = tmp_path / "RESULTS.md"
    report.write_text(f"above\n{table3_report.BEGIN}\nstale\n{table3_report.END}\nbelow\n")
    for _ in range(2):
        table3_report.write_report(report, results)
        text = report.read_text()
        assert text.startswith("above\n") and text.endswith("\nbelow\n")
        assert "stale" not in text and text.count("### The synthetic set") == 1
        assert (tmp_path / "RESULTS.png").stat().st_size > 1000
    report.write_text("no marks")
    with pytest.raises(ValueError, match="RESULTS.md: the table belongs between"):
        table3_report.write_report(report, results)


def test_results_of_different_budgets_are_not_put_into_one_table(results, tmp_path):
    for number, content in enumerate(results):
        (tmp_path / f"x-seed{number}.json").write_text(json.dumps(content))
    found = table3_report.read_results(tmp_path)
    assert [(run["row"], run["seed"]) for run in found[2:4]] == [("pointnet2", 2), ("latentgnn_k1", 0)]
    del results[3]["budget"]["flags"]  # of an older file
    (tmp_path / "x-seed3.json").write_text(json.dumps(results[3]))
    assert len(table3_report.read_results(tmp_path)) == 6
    results[3]["budget"]["epochs"] = 4
    (tmp_path / "x-seed3.json").write_text(json.dumps(results[3]))
    with pytest.raises(ValueError, match="x-seed3.json .* different budgets"):
        table3_report.read_results(tmp_path)


def test_rooms_without_objects_of_pairs_have_two_scores(results, tmp_path):
    for run in results:
        run |= {"set": "scanned", "kinds": score_kinds.no_counts(), "oracles": {}}
    report = tmp_path / "report.md"
    report.write_text(f"{table3_report.BEGIN}\n{table3_report.END}\n")
    table3_report.write_report(report, results, paired=True)
    assert "objects" not in report.read_text() and "the paper" not in report.read_text()
    assert line(report.read_text(), "voxel accuracy")[2].startswith("+1.0 ±")
    assert report.with_suffix(".png").exists()
    report.write_text(f"{table3_report.BEGIN}\n{table3_report.END}\n")
    others = [run | {"set": name} for run in results for name in table3_report.SETS]
    table3_report.write_report(report, others)  # each has a mark of its own
