"""scripts/benchmark.py inputs: every way of drawing chunks is timed, on small data."""

import json

from scripts.benchmarks import inputs


def test_every_way_is_timed_and_thinning_leaves_fewer_vertices(run_benchmark, tiny_data, tmp_path, capsys):
    flags = ["--data", tiny_data, "--batch-size", 2, "--rounds", 1, "--json", tmp_path / "out.json"]
    assert run_benchmark("inputs", *flags) == 0
    result, printed = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    for name in inputs.INPUTS:
        assert f"| {name} |" in printed and len(result["steps"][name]) == len(result["chunks"][name]) == 1
    paper, thinned = list(inputs.INPUTS)[:2]
    assert result["distinct"][thinned] <= result["distinct"][paper]
