"""The networks of the paper's Table 3 on generated rooms, several seeds each: docs/results/table3.md, 3m.md, scanned.md

    python scripts/experiments/reproduce_table3.py                            # everything that is not done yet: hours
    python scripts/experiments/reproduce_table3.py --rows pointnet2 --seeds 0 --sets synthetic

--sets: synthetic, plain rooms; control, the same with shuffled labels; scanned, rooms like scans; telling and
telling-control, plain rooms whose colours tell what an object looks like, for --flags="... --features height colour".

Every run is the commands that a user would type: make_synthetic.py, preprocess_scannet.py, train_scannet.py and
eval_scannet.py, with the same budget for every row. Interrupt it at any time: the same command skips what is done and
goes on with what was begun. A finished run leaves one small JSON file; table3_report.py makes the tables of them.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from data.atomic_write import replacing
from data.chunks import CHUNK_SIZE
from data.datasets import WholeScenes, scene_files
from data.labels import SCANNET20
from data.scenes import read_manifest
from models.latentgnn import LatentGNN
from models.textbook import latentgnn_affinities
from scripts import complexity
from scripts.demo import ROOT, room_commands
from scripts.demo import run as run_command
from scripts.experiments import score_kinds
from scripts.experiments.latent_nodes import context_passes
from scripts.experiments.table3_report import budget_of
from training import checkpoint
from training.arguments import whole_number
from training.recipes import DECAY_EVERY

ROWS = {  # flags of train_scannet.py, as run
    "pointnet2": "--model pointnet2",
    "latentgnn_k1": "--model latentgnn --kernels 1",
    "non_local": "--model non_local",
    "latentgnn_k3": "--model latentgnn --kernels 3",
    "mean_feature": "--model mean_feature",  # not in the paper: what any context layer has to beat
}
ROUNDS = (("pointnet2", "latentgnn_k1"), ("non_local", "latentgnn_k3"), ("mean_feature",))  # all sets and seeds of each
PAPER = [row for row in ROWS if row != "mean_feature"]
SETS = {  # style of rooms, and more flags of make_synthetic.py
    "synthetic": ("plain", ""),
    "control": ("plain", " --shuffle-labels"),
    "scanned": ("scanned", " --seed 1"),  # as the weights that come along are trained on
    "telling": ("plain", " --telling-colours"),
    "telling-control": ("plain", " --telling-colours --shuffle-labels"),
}
DEFAULT_SETS = ["synthetic", "control"]
BUDGET = {  # the defaults: of every run alike
    "scenes": 128,
    "epochs": 100,
    "batch_size": 16,
    "bn_momentum": 0.1,
    "decay_every": DECAY_EVERY,
    "chunk_size": CHUNK_SIZE,
    "flags": "",  # more of train_scannet.py's
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=PAPER)
    parser.add_argument("--seeds", nargs="+", type=whole_number(0), default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=DEFAULT_SETS, help="default: the first two")
    for name, value in BUDGET.items():
        convert = whole_number(1) if isinstance(value, int) else type(value)
        text = 'more flags of train_scannet.py: --flags="--recipe modern"' if name == "flags" else f"default {value}"
        parser.add_argument("--" + name.replace("_", "-"), type=convert, default=value, help=text)
    parser.add_argument("--data", type=Path, default=Path("datasets/table3"), help="where the rooms are made")
    parser.add_argument("--runs", type=Path, default=Path("runs/table3"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="one JSON file a finished run")
    args = parser.parse_args(argv)
    try:
        run_all(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_all(args: argparse.Namespace) -> None:
    """Train and score what has no result yet, round after round, set after set, seed after seed."""
    budget = {name: getattr(args, name) for name in BUDGET}
    if twice := [name for name in BUDGET if f"--{name.replace('_', '-')}" in args.flags.split()]:
        raise ValueError(f"--flags names {', '.join(twice)}, which the budget has: give it as a flag of its own")
    telling = [name for name in args.sets if "--telling-colours" in SETS[name][1]]
    if telling and "colour" not in args.flags.split():
        raise ValueError(f'the colours of {", ".join(telling)} tell nothing without --flags="... --features colour"')
    runs = itertools.product(ROUNDS, args.sets, args.seeds)
    plan = [(name, row, seed) for rows, name, seed in runs for row in rows if row in args.rows]
    files = {run: ROOT / args.results / f"{run[0]}-{run[1]}-seed{run[2]}.json" for run in plan}
    for run, file in files.items():
        if file.exists() and (found := budget_of(json.loads(file.read_text()))) != budget:
            raise ValueError(f"{file} has the budget {found}, not {budget}: give that one, or another --results")
        print(f"{'done' if file.exists() else 'to do':8}{run[0]:16}{run[1]:14}seed {run[2]}")
    for number, (run, file) in enumerate(files.items(), start=1):
        if not file.exists():
            print(f"\n=== run {number} of {len(files)}: {run[1]} on the {run[0]} set, seed {run[2]}", flush=True)
            write_result(file, train_and_score(args, budget, *run))
            print(f"result: {file}")


def write_result(file: Path, result: dict) -> None:
    """JSON, whole or not at all, in a folder that is made where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def train_and_score(args: argparse.Namespace, budget: dict, name: str, row: str, seed: int) -> dict:
    """One run from nothing, or from its last checkpoint; its result is the content of the JSON file."""
    style, flags = SETS[name]
    scans, data, out = args.data / f"{name}_scans", args.data / name, args.runs / f"{name}-{row}-seed{seed}"
    commands = [
        *room_commands(scans, data, f"--scenes {args.scenes}{flags}", style),
        f"train_scannet.py --data {data} --out {out} {ROWS[row]} --seed {seed} --epochs {args.epochs} "
        f"--batch-size {args.batch_size} --bn-momentum {args.bn_momentum} --decay-every {args.decay_every} "
        f"--chunk-size {args.chunk_size} --validate-every 0 --resume auto {args.flags}".strip(),
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
        "settings": {key: value for key, value in config.items() if key not in ("data", "init_from")},
        "environment": {key: value for key, value in environment.items() if key != "command"},
        **complexity.count(model.config),
        "steps": sum(entry["part"] == "step" for entry in entries),
        "seconds_per_step": round(args.batch_size * config["points"] / speed, 4),
        "loss": [round(entry["loss"], 4) for entry in epochs],
        "scores": json.loads((evaluation / "results.json").read_text()),
        "kinds": score_kinds.count_predictions(ROOT / scans, evaluation / "predictions"),
        "oracles": synthetic.get("oracles", {}),  # style scanned has none
        "context": context_use(model, ROOT / data, config),
    }


def commit() -> str:
    """The code's commit, and whether files that git knows differ from it."""
    commands = ("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")
    runs = [subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True) for command in commands]
    head, changed = (run.stdout.strip() for run in runs)
    return (head or "unknown") + (" with changes" if changed else "")


@torch.inference_mode()
def context_use(model: torch.nn.Module, data: Path, config: dict) -> dict[str, list[float]] | None:
    """What the four context layers do on one chunk of each validation scene; None for a network without them.

    scale: the LatentGNN's lambda, or the root mean square of the non-local block's batch-norm scale. Both start at 0;
    other layers have none.
    change: |layer(x) - x| / |x|, the mean over chunks.
    idle: share of latent nodes to which no point of a chunk gives anything (psi_v2l is 0), the mean over chunks.
    """
    if model.config.context == "none":
        return None
    change, idle = [], []  # a scene's, of the four layers
    files = scene_files(data, read_manifest(data), ["val"])
    for scene in WholeScenes.as_trained(files, 0, config, SCANNET20, covering=False):
        tile = max(scene.tiles, key=lambda draw: draw.core.sum())
        passes = context_passes(model, torch.from_numpy(scene.points[tile.index]))  # x, y (1, M, C)
        change.append([((y - x).norm() / x.norm()).item() for _, x, y in passes])
        psi_v2l = [latentgnn_affinities(layer, x.mT)[1] for layer, x, _ in passes if isinstance(layer, LatentGNN)]
        idle.append([(psi.amax(3) == 0).double().mean().item() for psi in psi_v2l])  # psi (1, K, d, M)
    scales = [_scale(layer) for layer, *_ in passes]
    found = {} if None in scales else {"scale": scales}
    found["change"] = np.mean(change, axis=0).round(5).tolist()
    return found | ({"idle": np.mean(idle, axis=0).round(4).tolist()} if idle[0] else {})


def _scale(layer: torch.nn.Module) -> float | None:
    parameters = dict(layer.named_parameters())
    scale = parameters.get("scale", parameters.get("norm.weight"))
    if scale is None:
        return None
    return round(scale.square().mean().sqrt().item() if scale.numel() > 1 else scale.item(), 5)


if __name__ == "__main__":
    sys.exit(main())
