"""The four networks of the paper's Table 3 on generated rooms, several seeds each, and the table of docs/RESULTS.md.

    python scripts/reproduce_table3.py                            # everything that is not done yet: hours
    python scripts/reproduce_table3.py --rows pointnet2 --seeds 0 --sets synthetic
    python scripts/reproduce_table3.py --table                    # the table from the results there are

Every run is the commands that a user would type: make_synthetic.py, preprocess_scannet.py, train_scannet.py and
eval_scannet.py, with the same budget for every row. Interrupt it at any time: the same command skips what is done and
goes on with what was begun. A finished run leaves one small JSON file, and the table is made from these files alone.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from data.atomic_write import replacing
from data.chunks import POINTS_PER_CHUNK
from data.datasets import LabelPolicy, WholeScenes, scene_files
from data.scenes import read_manifest
from eval_scannet import whole_number
from models import checkpoint
from models.latentgnn import LatentGNN
from models.non_local import NonLocal
from models.reference import latentgnn_affinities
from scripts import complexity, score_kinds
from scripts.demo import ROOT
from scripts.demo import run as run_command


@dataclass(frozen=True)
class Row:
    title: str
    flags: str  # of train_scannet.py
    paper: tuple[float, float, float, float]  # Table 3: pixel, voxel, class pixel and class voxel accuracy, %


ROWS = {  # in the table's order
    "pointnet2": Row("PointNet++ SSG", "--model pointnet2", (81.5, 83.2, 51.7, 53.1)),
    "non_local": Row("+ non-local block", "--model non_local", (82.3, 84.0, 53.1, 54.5)),
    "latentgnn_k1": Row("+ LatentGNN, K = 1", "--model latentgnn --kernels 1", (82.6, 84.2, 53.2, 54.6)),
    "latentgnn_k3": Row("+ LatentGNN, K = 3", "--model latentgnn --kernels 3", (83.7, 85.2, 56.0, 57.6)),
}
FIRST = ("pointnet2", "latentgnn_k1")  # run before the other rows
SETS = {"synthetic": "", "control": " --shuffle-labels"}  # flags of make_synthetic.py
BUDGET = {"scenes": 128, "epochs": 30, "batch_size": 4, "bn_momentum": 0.05}  # the defaults: of every run alike
SCORES = {  # column: the score of a run's result, a fraction, or None where there is nothing to score
    "voxel": lambda run: run["scores"]["voxel_accuracy"],
    "class voxel": lambda run: run["scores"]["class_voxel_accuracy"],
} | {
    f"{kind} {name}": lambda run, kind=kind, name=name: score_kinds.scores(run["kinds"])[kind][name]
    for name in ("right", "decided")
    for kind in score_kinds.KINDS
}
ORACLES = {"local": "knowing the object alone", "chunk": "knowing all of a tile", "room": "knowing the room"}
BEGIN, END = "<!-- made by scripts/reproduce_table3.py: -->", "<!-- :made by scripts/reproduce_table3.py -->"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=whole_number(0), default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    for name, value in BUDGET.items():
        convert = float if isinstance(value, float) else whole_number(1)
        parser.add_argument("--" + name.replace("_", "-"), type=convert, default=value, help=f"default {value}")
    parser.add_argument("--data", type=Path, default=Path("datasets/table3"), help="where the rooms are made")
    parser.add_argument("--runs", type=Path, default=Path("runs/table3"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="one JSON file a finished run")
    parser.add_argument("--report", type=Path, default=Path("docs/RESULTS.md"), help="where the table is put")
    parser.add_argument("--table", action="store_true", help="train nothing, make the table from what there is")
    args = parser.parse_args(argv)
    try:
        if not args.table:
            run_all(args)
        results = read_results(ROOT / args.results)
        write_report(ROOT / args.report, results)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{len(results)} finished runs in {args.results}; the table is in {args.report}")
    return 0


def run_all(args: argparse.Namespace) -> None:
    """Train and score what has no result yet, the rows FIRST first, set after set, seed after seed."""
    budget = {name: getattr(args, name) for name in BUDGET}
    plan = [
        (name, row, seed)
        for rows in (FIRST, [row for row in ROWS if row not in FIRST])
        for name in args.sets
        for seed in args.seeds
        for row in rows
        if row in args.rows
    ]
    files = {run: ROOT / args.results / f"{run[0]}-{run[1]}-seed{run[2]}.json" for run in plan}
    for run, file in files.items():
        if file.exists() and (found := json.loads(file.read_text())["budget"]) != budget:
            raise ValueError(f"{file} has the budget {found}, not {budget}: give that one, or another --results")
        print(f"{'done' if file.exists() else 'to do':8}{run[0]:12}{run[1]:14}seed {run[2]}")
    for number, (run, file) in enumerate(files.items(), start=1):
        if not file.exists():
            print(f"\n=== run {number} of {len(files)}: {run[1]} on the {run[0]} set, seed {run[2]}", flush=True)
            result = train_and_score(args, budget, *run)
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n")


def train_and_score(args: argparse.Namespace, budget: dict, name: str, row: str, seed: int) -> dict:
    """One run from nothing, or from its last checkpoint; its result is the content of the JSON file."""
    scans, data, out = args.data / f"{name}_scans", args.data / name, args.runs / f"{name}-{row}-seed{seed}"
    commands = [
        f"scripts/make_synthetic.py --out {scans} --scenes {args.scenes}{SETS[name]}",
        f"scripts/preprocess_scannet.py --scans {scans} --out {data} "
        f"--labels {scans}/scannetv2-labels.combined.tsv --splits {scans}/splits",
        f"train_scannet.py --data {data} --out {out} {ROWS[row].flags} --seed {seed} --epochs {args.epochs} "
        f"--batch-size {args.batch_size} --bn-momentum {args.bn_momentum} --validate-every 0 --resume auto",
        f"eval_scannet.py --checkpoint {out}/checkpoints/last.pt --data {data} --predictions",
    ]
    folder = ROOT / out
    folder.mkdir(parents=True, exist_ok=True)
    commits = folder / "commits.txt"  # of the code, one a start of the training
    with open(commits, "a") as file:
        file.write(commit() + "\n")
    for command in commands:
        run_command(command)

    weights = folder / "checkpoints" / checkpoint.LAST
    model = checkpoint.load(weights)
    sha256 = checkpoint.weights_sha256(model)
    evaluation = folder / "eval" / f"val-{sha256[:8]}"
    synthetic = json.loads((ROOT / scans / "synthetic.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [entry for entry in entries if entry["part"] == "train"]
    environment = json.loads((folder / "environment.json").read_text())
    speed = statistics.median(entry["points_per_second"] for entry in epochs)
    return {
        "set": name,
        "row": row,
        "seed": seed,
        "budget": budget,
        "commands": [f"python {command}" for command in commands],
        "commits": list(dict.fromkeys(commits.read_text().split("\n")[:-1])),
        "settings": {key: value for key, value in config.items() if key != "data"},
        "environment": {key: value for key, value in environment.items() if key != "command"},
        **complexity.count(model.config),
        "steps": sum(entry["part"] == "step" for entry in entries),
        "seconds_per_step": round(args.batch_size * POINTS_PER_CHUNK / speed, 4),
        "loss": [round(entry["loss"], 4) for entry in epochs],
        "scores": json.loads((evaluation / "results.json").read_text()),
        "kinds": score_kinds.count_predictions(ROOT / scans, evaluation / "predictions"),
        "oracles": synthetic["oracles"],
        "context": context_use(model, ROOT / data, config),
    }


def commit() -> str:
    """The code's commit, and whether files that git knows differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    return (head.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


@torch.inference_mode()
def context_use(model: torch.nn.Module, data: Path, config: dict) -> dict[str, list[float]] | None:
    """What the four context layers do on one chunk of each validation scene; None for a network without them.

    scale: the LatentGNN's lambda, or the root mean square of the non-local block's batch-norm scale. Both start at 0.
    change: |layer(x) - x| / |x|, the mean over chunks.
    idle: share of latent nodes to which no point of a chunk gives anything (psi_v2l is 0), the mean over chunks.
    """
    layers = [model.get_submodule(f"context{level}") for level in (1, 2, 3, 4)]
    if not isinstance(layers[0], LatentGNN | NonLocal):
        return None
    change, idle = [[] for _ in layers], [[] for _ in layers]

    def watch(level: int) -> Callable:
        def note(layer: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            (x,) = inputs  # (B, N, C)
            change[level].append((torch.linalg.norm(output - x) / torch.linalg.norm(x)).item())
            if isinstance(layer, LatentGNN):
                _, psi_v2l, _ = latentgnn_affinities(layer, x.transpose(1, 2))  # (B, K, d, N)
                idle[level].append((psi_v2l.amax(3) == 0).double().mean().item())

        return note

    for level, layer in enumerate(layers):
        layer.register_forward_hook(watch(level))
    files = scene_files(data, read_manifest(data), "val")
    policy = LabelPolicy(config["unannotated"], config["other"])
    for scene in WholeScenes(files, 0, policy, config["features"], covering=False):
        tile = max(scene.tiles, key=lambda draw: draw.core.sum())
        model(torch.from_numpy(scene.points[tile.index]).unsqueeze(0))
    found = {"scale": [_scale(layer) for layer in layers], "change": [round(np.mean(c).item(), 5) for c in change]}
    return found | ({"idle": [round(np.mean(c).item(), 4) for c in idle]} if idle[0] else {})


def _scale(layer: torch.nn.Module) -> float:
    scale = layer.scale if isinstance(layer, LatentGNN) else layer.norm.weight
    return round(scale.square().mean().sqrt().item() if scale.numel() > 1 else scale.item(), 5)


def read_results(folder: Path) -> list[dict]:
    """The finished runs, in the table's order. ValueError where their budgets differ."""
    files = sorted(folder.glob("*-seed*.json"))
    results = [json.loads(file.read_text()) for file in files]
    for file, result in zip(files, results, strict=True):
        if result["budget"] != results[0]["budget"]:
            raise ValueError(f"{file} and {files[0]} have different budgets: they belong into different tables")
    order = list(ROWS)
    return sorted(results, key=lambda r: (list(SETS).index(r["set"]), order.index(r["row"]), r["seed"]))


def write_report(path: Path, results: list[dict]) -> None:
    """Put the tables and the picture of `results` into the report, between its two marks; the rest is left as it is."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path}: the table belongs between the lines\n{BEGIN}\n{END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    picture = path.with_name("table3.png")
    if results:
        draw(picture, results)
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{tables(results, picture.name)}\n{END}{after}")


def tables(results: list[dict], picture: str) -> str:
    """Markdown: what was run, the scores of each set, the differences, what the layers do, and the paper's table."""
    if not results:
        return "No run is finished.\n"
    budget = results[0]["budget"]
    chunks = results[0]["steps"] * budget["batch_size"]
    lines = [
        f"{len(results)} finished runs. {budget['scenes']} generated rooms, a quarter of them for validation; "
        f"{budget['epochs']} epochs = {chunks:,} chunks (ScanNet's whole schedule is 240,200), "
        f"batch {budget['batch_size']}, batch-norm momentum {budget['bn_momentum']}, else the defaults; `last.pt`.",
        "",
        f"![Scores of every run, one mark a seed, beside what is possible]({picture})",
        "",
    ]
    for name, of_set in _grouped(results, "set").items():
        rows = _grouped(of_set, "row")
        lines += [f"### The {name} set", "", *_table(["%, mean ± standard deviation", "seeds", *SCORES])]
        for row, runs in rows.items():
            cells = [_mean_and_deviation([score(run) for run in runs]) for score in SCORES.values()]
            lines.append(_line([ROWS[row].title, len(runs), *cells]))
        majority = _percent(of_set[0]["scores"]["voxel_accuracy_majority"])
        lines.append(_line(["always the commonest class", "", majority, *[""] * (len(SCORES) - 1)]))
        for oracle, accuracy in of_set[0]["oracles"].items():
            known = [_percent(accuracy.get(kind)) for kind in score_kinds.KINDS]
            lines.append(_line([f"{ORACLES[oracle]} ({oracle} oracle)", "", "", "", *known, *known]))
        answered = {row: [score_kinds.scores(run["kinds"]) for run in runs] for row, runs in rows.items()}
        lines += ["", "Of the vertices, answered with a class of the pair (%, means over local, near, room): "]
        lines[-1] += "; ".join(
            f"{ROWS[row].title} "
            + ", ".join(_percent(statistics.mean(run[kind]["answered"] for run in runs)) for kind in score_kinds.KINDS)
            for row, runs in answered.items()
        )
        lines[-1] += "."
        lines += ["", *_differences(rows)]
    lines += _costs(_grouped(results, "row"))
    return "\n".join(lines)


def _differences(rows: dict[str, list[dict]]) -> list[str]:
    """Differences to PointNet++ with their 95 % intervals, and the smallest that so many seeds show 4 times in 5."""
    base = rows.get("pointnet2", [])
    others = {row: runs for row, runs in rows.items() if row != "pointnet2" and len(runs) > 1}
    if len(base) < 2 or not others:
        return []
    lines = _table(["difference to PointNet++, points (95 % interval; smallest that can be shown)", *SCORES])
    for row, runs in others.items():
        cells = []
        for score in SCORES.values():
            these, those = [score(run) for run in runs], [score(run) for run in base]
            if None in these + those:
                cells.append("-")
                continue
            difference, interval, smallest = compare(these, those)
            cells.append(f"{100 * difference:+.1f} ± {100 * interval:.1f} ({100 * smallest:.1f})")
        lines.append(_line([ROWS[row].title, *cells]))
    return [*lines, ""]


def _costs(rows: dict[str, list[dict]]) -> list[str]:
    title = ["", "parameters", "MACs a chunk, convolutions", "products", "s a step", "lambda or scale, levels 1 to 4"]
    lines = [
        "### Costs, and what the layers do",
        "",
        *_table([*title, "change of the features, %", "idle latent nodes, %"]),
    ]
    for row, runs in rows.items():
        run, context = runs[0], [run["context"] for run in runs if run["context"]]
        means = {key: np.mean([c[key] for c in context], axis=0) for key in (context[0] if context else ())}
        scale, change, idle = (means.get(key, ()) for key in ("scale", "change", "idle"))
        lines.append(
            _line(
                [
                    ROWS[row].title,
                    f"{run['parameters']:,}",
                    f"{run['conv_macs'] / 1e9:.3f} G",
                    f"{run['product_macs'] / 1e6:.2f} M",
                    f"{statistics.median(run['seconds_per_step'] for run in runs):.2f}",
                    ", ".join(f"{value:.3f}" for value in scale),
                    ", ".join(f"{100 * value:.1f}" for value in change),
                    ", ".join(f"{100 * value:.0f}" for value in idle),
                ]
            )
        )
    return [*lines, ""]


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
    t = student_quantile(0.975, freedom)
    return statistics.mean(these) - statistics.mean(those), t * error, (t + student_quantile(0.8, freedom)) * error


def student_quantile(p: float, freedom: int) -> float:
    """Of Student's t distribution (Abramowitz and Stegun 26.7.5): within 0.4 % from 4 degrees of freedom on."""
    z = statistics.NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**k for k, term in enumerate(terms, start=1))


def draw(path: Path, results: list[dict]) -> None:
    """A panel a set: what is right of the answers on local, near and room objects, one mark a run, and the oracles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sets = _grouped(results, "set")
    figure, axes = plt.subplots(1, len(sets), figsize=(6.5 * len(sets), 4.5), squeeze=False, layout="constrained")
    for axis, (name, of_set) in zip(axes[0], sets.items(), strict=True):
        for x, kind in enumerate(score_kinds.KINDS):
            for oracle, style in (("local", ":"), ("chunk", "--"), ("room", "-")):
                level = 100 * of_set[0]["oracles"][oracle].get(kind, math.nan)
                label = ORACLES[oracle] if x == 0 else None
                axis.plot((x - 0.42, x + 0.42), (level, level), style, color="black", lw=1, label=label)
            for row, runs in _grouped(of_set, "row").items():
                values = [100 * (math.nan if (v := SCORES[f"{kind} decided"](run)) is None else v) for run in runs]
                place = x + 0.2 * (list(ROWS).index(row) - 1.5)
                label = ROWS[row].title if x == 0 else None
                axis.plot([place] * len(values), values, "o", color=f"C{list(ROWS).index(row)}", alpha=0.7, label=label)
        axis.set_xticks(range(3), ["cue on the object", "companion nearby", "type of the room"])
        axis.set(title=f"{name} set", xlabel="what tells the object's class", ylim=(0, 103))
    axes[0, 0].set_ylabel("right, % of the vertices answered\nwith a class of the look-alike pair")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _grouped(results: list[dict], key: str) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for result in results:
        groups.setdefault(result[key], []).append(result)
    return groups


def _table(header: list[str]) -> list[str]:
    return [_line(header), "|---|" + "---:|" * (len(header) - 1)]


def _line(cells: list) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _mean_and_deviation(values: list[float | None]) -> str:
    if None in values:
        return "-"
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    sys.exit(main())
