"""Learning curves of runs as a picture, and a table of them as text.

    python scripts/plot_runs.py runs/pointnet2 runs/latentgnn_k1 [--out curves.png]

Runs that differ by their seed alone share a colour; the legend names the settings by which the others differ. Loss is
the mean of each epoch, voxel accuracy that of the validation split where training scored it.
"""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

CAN_DIFFER = ("seed", "epochs", "workers", "device", "ops", "validate_every", "save_every")  # within a colour
COLUMNS = ("seed", "epochs", "chunks", "loss", "voxel acc.", "best", "class voxel acc.", "points/s")


@dataclass(frozen=True)
class Run:
    name: str
    config: dict
    losses: list[tuple[float, float]]  # chunks seen at the end of an epoch, mean loss in it
    accuracies: list[tuple[float, float]]  # chunks seen, voxel accuracy in %
    majority: float | None  # voxel accuracy of always answering the commonest class, in %
    cells: list[str]  # of COLUMNS


def read_run(folder: Path) -> Run:
    """What a run folder says. ValueError or OSError, naming the file, if it is none or has no finished epoch."""
    config = json.loads((folder / "config.json").read_text())
    entries = []
    for line in (folder / "metrics.jsonl").read_text(errors="replace").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue  # a crash cut it off
    train, validation = ([entry for entry in entries if entry["part"] == part] for part in ("train", "val"))
    if not train:
        raise ValueError(f"{folder}: no epoch is finished")
    steps = {0: 0} | {entry["epoch"]: entry["step"] for entry in entries if entry["part"] == "step"}  # an epoch's last
    chunks = {epoch: step * config["batch_size"] for epoch, step in steps.items()}
    accuracies = [100 * entry["voxel_accuracy"] for entry in validation]
    last = validation[-1] if validation else {}
    cells = [
        str(config["seed"]),
        str(train[-1]["epoch"]),
        f"{chunks[train[-1]['epoch']]:,}",
        f"{train[-1]['loss']:.3f}",
        f"{accuracies[-1]:.1f}" if accuracies else "-",
        f"{max(accuracies):.1f}" if accuracies else "-",
        f"{100 * last['class_voxel_accuracy']:.1f}" if "class_voxel_accuracy" in last else "-",
        f"{statistics.median(entry['points_per_second'] for entry in train):,.0f}",
    ]
    return Run(
        folder.name,
        config,
        [(chunks[entry["epoch"]], entry["loss"]) for entry in train],
        [(chunks[entry["epoch"]], value) for entry, value in zip(validation, accuracies, strict=True)],
        100 * last["voxel_accuracy_majority"] if "voxel_accuracy_majority" in last else None,
        cells,
    )


def labels(runs: list[Run]) -> list[str]:
    """For each run the settings that tell it from others, seeds aside; all runs' names where nothing does."""
    keys = [key for key in runs[0].config if key not in CAN_DIFFER]
    differing = [key for key in keys if len({json.dumps(run.config.get(key)) for run in runs}) > 1]
    if not differing:
        return [run.name for run in runs]
    return [", ".join(f"{key} {_short(run.config.get(key))}" for key in differing) for run in runs]


def _short(value) -> str:
    return Path(value).name if isinstance(value, str) else str(value)


def draw(runs: list[Run], path: Path) -> None:
    names = labels(runs)
    colour = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(names))}
    scored = [run for run in runs if run.accuracies]
    panels = 2 if scored else 1
    figure = Figure(figsize=(6.5 * panels, 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    axes[0].set(title="training", xlabel="chunks seen", ylabel="weighted loss, mean of an epoch")
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        label = name if number == names.index(name) else None
        axes[0].plot(*zip(*run.losses, strict=True), ".-", color=colour[name], lw=1.3, ms=4, label=label)
        if run.accuracies:
            axes[1].plot(*zip(*run.accuracies, strict=True), ".-", color=colour[name], lw=1.3)
    if scored:
        axes[1].set(title="validation", xlabel="chunks seen", ylabel="voxel accuracy, %")
        for level in {run.majority for run in scored if run.majority is not None}:
            axes[1].axhline(level, color="black", ls=":", lw=1)
            where = (1, level), (-4, 3), ("axes fraction", "data"), "offset points"
            axes[1].annotate("always the commonest class", *where, ha="right", fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def table(runs: list[Run]) -> str:
    rows = [("run", *COLUMNS), *((run.name, *run.cells) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = "  ".join(f"{{:>{width}}}" for width in widths).replace(">", "<", 1)  # the names stand on the left
    return "\n".join(line.format(*row) for row in rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of train_scannet.py")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help="picture (default: curves.png)")
    args = parser.parse_args(argv)
    try:
        runs = [read_run(folder) for folder in args.runs]
        draw(runs, args.out)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{table(runs)}\n\nscores in %, of the validation split; curves: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
