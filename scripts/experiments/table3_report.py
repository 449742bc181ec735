"""The tables and the picture of docs/results/table3.md, from the results of scripts/experiments/reproduce_table3.py.

    python scripts/experiments/table3_report.py [--results docs/results --report docs/results/table3.md]

A result is one JSON file a finished run; they can come from several machines, if their budgets are the same.
"""

import argparse
import json
import math
import statistics
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
from matplotlib.figure import Figure

from data.atomic_write import replacing
from data.rooms.rooms import TILES
from scripts.experiments import score_kinds


class Row(NamedTuple):
    title: str
    paper: tuple[float, ...] = ()  # Table 3: pixel, voxel, class pixel and class voxel accuracy, %


ROWS = {
    "pointnet2": Row("PointNet++ SSG", (81.5, 83.2, 51.7, 53.1)),
    "mean_feature": Row("+ mean feature"),
    "non_local": Row("+ non-local block", (82.3, 84.0, 53.1, 54.5)),
    "latentgnn_k1": Row("+ LatentGNN, K = 1", (82.6, 84.2, 53.2, 54.6)),
    "latentgnn_k3": Row("+ LatentGNN, K = 3", (83.7, 85.2, 56.0, 57.6)),
}
BASES = ("pointnet2", "mean_feature")  # what the others are compared with
SETS = ("synthetic", "control", "scanned", "telling", "telling-control")
OF_PAPER = ("synthetic", "control")  # sets beside which the paper's table is put
MARKS = "osD^v"  # in a picture: of the first set in it, the second, ...
DRAWN = ("voxel accuracy", "class voxel accuracy", "near objects, right")
ORACLES = {"local": "the object alone", "tile": "all of a tile", "room": "all of the room"}  # what one could know
EQUALS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"  # in a picture, where lines are broken
BEGIN, END = "<!-- made by table3_report.py: -->", "<!-- :made by table3_report.py -->"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--report", type=Path, default=ROOT / "docs/results/table3.md", help="where the tables are put")
    paired = "differences seed by seed: rows of one seed see the same chunks and start with the same set abstractions"
    parser.add_argument("--paired", action="store_true", help=paired)
    args = parser.parse_args(argv)
    try:
        results = read_results(args.results)
        write_report(args.report, results, args.paired)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(results)} finished runs in {args.results}; the tables are in {args.report}")
    return 0


def read_results(folder: Path) -> list[dict]:
    """The finished runs, in the table's order. ValueError where their budgets differ."""
    files = sorted(folder.glob("*-seed*.json"))
    results = [json.loads(file.read_text()) for file in files]
    for result in results:
        result["budget"] = budget_of(result)
    for file, result in zip(files, results, strict=True):
        if result["budget"] != results[0]["budget"]:
            raise ValueError(f"{file} and {files[0]} have different budgets: they belong in different tables")
    return sorted(results, key=lambda run: (SETS.index(run["set"]), list(ROWS).index(run["row"]), run["seed"]))


def budget_of(result: dict) -> dict:
    """Of a finished run; the oldest have no further flags."""
    return {"flags": ""} | result["budget"]


def write_report(path: Path, results: list[dict], paired: bool = False) -> None:
    """Put the tables and the picture of `results` into the report, between its two marks; the rest is left as it is."""
    picture = path.with_suffix(".png")
    put_between(path, BEGIN, END, tables(results, picture.name, paired))
    if results:
        draw(picture, results)


def around_marks(path: Path, begin: str, end: str) -> tuple[str, str]:
    """What stands before and behind two marks of a text file. ValueError if it does not have each of them once."""
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{path}: the table belongs between the lines\n{begin}\n{end}")
    return text.split(begin)[0], text.split(end)[1]


def put_between(path: Path, begin: str, end: str, content: str) -> None:
    """Replaces what stands between two marks of a text file. Raises as around_marks."""
    before, after = around_marks(path, begin, end)
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{begin}\n\n{content}\n{end}{after}")


def tables(results: list[dict], picture: str, paired: bool = False) -> str:
    """Markdown: what was run, the scores of each set, the differences, what the layers do, and the paper's table."""
    if not results:
        return "No run is finished.\n"
    budget = results[0]["budget"]
    chunks = results[0]["steps"] * budget["batch_size"]
    flags = (
        f"`{budget['flags']}`" if budget["flags"] else f"both schedules stepped every {budget['decay_every']:,} chunks"
    )
    lines = [
        f"{len(results)} finished runs. {budget['scenes']} generated rooms, a quarter of them for validation; "
        f"{budget['epochs']} epochs = {chunks:,} chunks (ScanNet's whole schedule is 240,200), "
        f"batch {budget['batch_size']}, batch-norm momentum {budget['bn_momentum']}, {flags}, "
        f"chunks of {budget['chunk_size']:g} m, else the defaults; `last.pt`."
        + (" Differences are seed by seed." if paired else ""),
        "",
        f"![Scores of every run, by network and set]({picture})",
        "",
    ]
    for name, of_set in grouped(results, "set").items():
        lines += [f"### The {name} set", "", *_scores(of_set, paired), ""]
        commonest = of_set[0]["scores"]["voxel_accuracy_majority"]
        lines += [f"Always the commonest class: voxel accuracy {percent(commonest)}.", ""]
    lines += [*_costs(grouped(results, "row")), ""]
    if any(run["set"] in OF_PAPER for run in results):
        lines += [*_paper(), ""]
    return "\n".join(lines)


def scores(run: dict) -> dict[str, float | None]:
    """Line of a table -> score of a run, a fraction, or None where there is nothing to score."""
    kinds = score_kinds.scores(run["kinds"])
    return {
        "voxel accuracy": run["scores"]["voxel_accuracy"],
        "class voxel accuracy": run["scores"]["class_voxel_accuracy"],
        "vertices right": run["scores"]["vertex_accuracy"],
        "mean IoU": run["scores"]["mean_iou"],
    } | {
        f"{kind} objects, {name}": of_kind[name]
        for name in ("right", "answered", "decided", "told apart")
        for kind, of_kind in kinds.items()
    }


def _scores(results: list[dict], paired: bool) -> list[str]:
    """Of one set: scores by line; networks, differences to BASES and what the oracles know by column."""
    rows, size = grouped(results, "row"), results[0]["budget"]["chunk_size"]
    found = {row: [scores(run) for run in runs] for row, runs in rows.items()}
    seeds = {row: [run["seed"] for run in runs] for row, runs in rows.items()}
    compared = [
        (row, base)
        for base in BASES
        for row in rows
        if base in rows and list(rows).index(row) > list(rows).index(base)
        if min(len(seeds[row]), len(seeds[base])) > 1
    ]
    if paired and (other := [row for row, base in compared if seeds[row] != seeds[base]]):
        raise ValueError(f"rows {', '.join(other)} have other seeds than what they are compared with: train those too")
    header = [f"{ROWS[row].title}, {len(runs)} seed{'s' * (len(runs) > 1)}" for row, runs in rows.items()]
    header += [f"{ROWS[row].title}: to {ROWS[base].title} (smallest that shows)" for row, base in compared]
    oracles = ORACLES if results[0]["oracles"] else {}
    header += [f"possible, knowing {known}" for known in oracles.values()]
    lines = table_head(["%, mean ± standard deviation", *header])
    for name in scores(results[0]):
        values = {row: [of_run[name] for of_run in of_row] for row, of_row in found.items()}
        if all(value is None for of_row in values.values() for value in of_row):
            continue
        cells = [mean_and_deviation(of_row) for of_row in values.values()]
        cells += [difference(values[row], values[base], paired) for row, base in compared]
        kind, _, what = name.partition(" objects, ")
        known = results[0]["oracles"] if what in ("right", "decided") else {}
        cells += [percent(oracle_of(known, oracle, size).get(kind)) if known else "" for oracle in oracles]
        lines.append(table_line([name, *cells]))
    return lines


def oracle_of(oracles: dict, name: str, chunk_size: float) -> dict[str, float]:
    """kind -> accuracy of one of ORACLES; nothing where that of tiles of this size was not computed."""
    if name == "tile":
        name = next((tile for tile, size in TILES.items() if size == chunk_size), "")
    return oracles.get(name, {})


def _costs(rows: dict[str, list[dict]]) -> list[str]:
    header = ["", "parameters", "MACs a chunk: convolutions", "products", "s a step"]
    header += ["size of the scale, levels 1 to 4", "change of the features, %", "idle latent nodes, %"]
    lines = ["### Costs, and what the context layers do", "", *table_head(header)]
    for row, runs in rows.items():
        context = [run["context"] for run in runs if run["context"]]
        cells = [ROWS[row].title, f"{runs[0]['parameters']:,}", f"{runs[0]['conv_macs'] / 1e9:.3f} G"]
        cells += [f"{runs[0]['product_macs'] / 1e6:.2f} M"]
        cells += [f"{statistics.median(run['seconds_per_step'] for run in runs):.2f}"]
        for key, factor, digits in (("scale", 1, 3), ("change", 100, 1), ("idle", 100, 0)):
            means = np.mean([np.abs(found[key]) for found in context if key in found] or [[]], axis=0)
            cells.append(", ".join(f"{factor * value:.{digits}f}" for value in means))
        lines.append(table_line(cells))
    return lines


def _paper() -> list[str]:
    header = ["the paper's Table 3, on ScanNet, %", "pixel", "voxel", "class pixel", "class voxel"]
    lines = ["### The paper", "", *table_head([*header, "voxel, difference", "class voxel, difference"])]
    base = ROWS["pointnet2"].paper
    for title, paper in filter(lambda row: row.paper, ROWS.values()):
        differences = [f"{paper[i] - base[i]:+.1f}" for i in (1, 3)]
        lines.append(table_line([title, *paper, *differences]))
    return lines


def difference(these: list[float | None], those: list[float | None], paired: bool = False) -> str:
    """Of two sets of seeds, in %: "+1.0 ± 2.3 (3.0)" of `compare`, "-" where a score is missing."""
    if None in these + those:
        return "-"
    found = compare_paired(these, those) if paired else compare(these, those)
    mean, interval, smallest = (100 * value for value in found)
    return f"{mean:+.1f} ± {interval:.1f} ({smallest:.1f})"


def compare(these: list[float], those: list[float]) -> tuple[float, float, float]:
    """Two sets of seeds, two or more each: difference of the means, half its 95 % interval, smallest that shows.

    With the pooled standard deviation s and n1 + n2 - 2 degrees of freedom, Student's two-sample interval is
    t(0.975) s sqrt(1 / n1 + 1 / n2). A true difference of (t(0.975) + t(0.8)) s sqrt(1 / n1 + 1 / n2) leaves it, on the
    right side, in about 4 of 5 repetitions.
    """
    n1, n2 = len(these), len(those)
    freedom = n1 + n2 - 2
    s = math.sqrt(((n1 - 1) * statistics.variance(these) + (n2 - 1) * statistics.variance(those)) / freedom)
    error = s * math.sqrt(1 / n1 + 1 / n2)
    return statistics.mean(these) - statistics.mean(those), *_intervals(error, freedom)


def compare_paired(these: list[float], those: list[float]) -> tuple[float, float, float]:
    """The same of runs that belong together one by one: Student's paired interval, n - 1 degrees of freedom."""
    differences = [a - b for a, b in zip(these, those, strict=True)]
    n = len(differences)
    return statistics.mean(differences), *_intervals(statistics.stdev(differences) / math.sqrt(n), n - 1)


def _intervals(error: float, freedom: int) -> tuple[float, float]:
    """Half the 95 % interval, and the smallest true difference that shows, of a mean with this standard error."""
    t = student_quantile(0.975, freedom)
    return t * error, (t + student_quantile(0.8, freedom)) * error


def student_quantile(p: float, freedom: int) -> float:
    """Of Student's t: exact for 1 and 2 degrees of freedom, else by Abramowitz and Stegun 26.7.5, within 0.4 %."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z = statistics.NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**k for k, term in enumerate(terms, start=1))


def draw(path: Path, results: list[dict]) -> None:
    """A panel a score: its value for every network, one mark a run, the sets side by side."""
    rows = [row for row in ROWS if row in grouped(results, "row")]
    drawn = [score for score in DRAWN if any(scores(run)[score] is not None for run in results)]
    figure = Figure(figsize=(4.2 * len(drawn), 4.2), layout="constrained")
    axes = figure.subplots(1, len(drawn))
    sets = grouped(results, "set")
    titles = [ROWS[row].title.removeprefix("+ ") for row in rows]
    titles = [textwrap.fill(title.replace(" = ", EQUALS), 10) for title in titles]
    for axis, score in zip(axes, drawn, strict=True):
        for number, (name, of_set) in enumerate(sets.items()):
            beside = 0.6 / max(len(sets) - 1, 2) * (number - (len(sets) - 1) / 2)
            found = [(rows.index(run["row"]) + beside, scores(run)[score]) for run in of_set]
            marks = np.array([(place, 100 * value) for place, value in found if value is not None]).reshape(-1, 2)
            axis.plot(*marks.T, MARKS[number], color=f"C{number}", alpha=0.7, label=f"{name} set, a run")
        axis.set_xticks(range(len(rows)), titles)
        axis.set(title=f"{score}, %", xlim=(-0.5, len(rows) - 0.5))
        axis.grid(True, axis="y", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=90)


def grouped(results: list[dict], key: str) -> dict[str, list[dict]]:
    """The results by their entry `key`, in the order in which that first occurs."""
    return {value: [run for run in results if run[key] == value] for value in dict.fromkeys(r[key] for r in results)}


def table_head(header: list[str]) -> list[str]:
    return [table_line(header), "|---|" + "---:|" * (len(header) - 1)]


def table_line(cells: list) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def mean_and_deviation(values: list[float | None]) -> str:
    if None in values:
        return "-"
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    sys.exit(main())
