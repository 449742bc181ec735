"""Make the confidence of a network right as often as it says, by labelled scenes that it was not trained on.

    python scripts/calibrate.py --checkpoint runs/x/export --data datasets/rooms [--split val] [--picture curve.png]

Predicts the scenes as scripts/predict.py does, fits a temperature to every second of them, shows how often vertices of
each confidence are right in the others, and writes the temperature into the export's config.json, where predict.py
finds it. Annotated vertices count; those of none of the classes are never right.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

import ops
from data import chunks
from data.atomic_write import replacing
from data.datasets import SceneFile, scene_files
from data.features import fields_of
from data.scenes import SceneError, read_manifest, read_scene
from data.tiles import VOTES
from training import checkpoint
from training.arguments import choose_device, whole_number
from training.calibration import Reliability, fit_temperature, reliability
from training.inference import Network, confidence_of, load_network, predict_scene
from training.stopping import error_line

VERTICES = 20_000  # of a scene, drawn at random


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except (checkpoint.CheckpointError, SceneError, ops.cpu.CompileError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path, help="a run's export/, or rooms")
    parser.add_argument("--data", required=True, type=Path, help="preprocessed scenes")
    parser.add_argument("--split", nargs="+", default=["val"], help="splits, scenes or patterns (default: val)")
    parser.add_argument("--votes", type=whole_number(1), default=VOTES, help="as predict.py will have them")
    parser.add_argument("--picture", type=Path, help="PNG of the curve, before and after")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    return parser


def _run(args: argparse.Namespace) -> int:
    folder = checkpoint.resolve(args.checkpoint)
    if not (folder / "config.json").is_file():
        advice = "a temperature is kept in an export: give the run's export/"
        raise checkpoint.CheckpointError(f"{args.checkpoint}: has no config.json; {advice}")
    network, files, device = load_network(folder), _scenes(args, folder), choose_device(args.device)
    ops.use(args.ops)
    found = [collect(network, file, device, args.votes, args.seed) for file in tqdm(files, unit="scene", leave=False)]
    halves = found[::2], found[1::2] or found
    (fitted, _, truth), (logits, classes, true) = (map(torch.cat, zip(*half, strict=True)) for half in halves)
    temperature, right = round(fit_temperature(fitted, truth), 3), (classes == true).numpy()
    sure = {f"T = {t:g}": confidence_of(logits, classes, t).numpy() for t in (1.0, temperature)}
    curves = {name: reliability(values, right) for name, values in sure.items()}
    print(f"temperature {temperature:g}, fitted to {len(halves[0])} scenes")
    checked = f"{len(halves[1])} {'others' if found[1:] else 'the same'}"
    print(f"checked on {checked}: {100 * right.mean():.1f} % of the vertices are right")
    print(table(curves))
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        with replacing(args.picture) as temporary:
            picture(curves).savefig(temporary, dpi=100, format="png")
        print(args.picture)
    config = json.loads((folder / "config.json").read_text())
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config | {"temperature": temperature}, indent=2) + "\n")
    print(folder / "config.json")
    return 0


def _scenes(args: argparse.Namespace, folder: Path) -> list[SceneFile]:
    """The labelled scenes that are chosen. Raises CheckpointError if they have other classes, SceneError for none."""
    manifest, space = read_manifest(args.data), checkpoint.read_published(folder)["label_space"]
    if differences := space.differences(manifest["label_space"]):
        raise checkpoint.CheckpointError(f"{folder} has other classes than {args.data}: {'; '.join(differences[:5])}")
    files = [file for file in scene_files(args.data, manifest, args.split) if file.histogram]
    if not files:
        raise SceneError(
            f"{args.data}: none of the scenes of {' '.join(args.split)} has labels; choose others by --split"
        )
    return files


def collect(
    network: Network, file: SceneFile, device: torch.device, votes: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (n, C), predicted classes (n,) and true ones (n,) int64 of annotated vertices of a scene. SceneError."""
    scene = read_scene(file.path, ("xyz", "label", *fields_of(network.inputs["features"])))
    cubes = chunks.cubes(scene.xyz, network.inputs["spacing"])
    found = predict_scene(network, scene, device, votes, seed, *cubes)
    some = np.flatnonzero(network.space.is_annotated[scene.label])
    some = np.random.default_rng(seed).permutation(some)[:VERTICES]
    truth = network.space.class_of[scene.label[some]]
    logits = torch.from_numpy(found.logits[found.row[some]])
    return logits, *(torch.from_numpy(of.astype(np.int64)) for of in (found.classes[some], truth))


def table(curves: dict[str, Reliability]) -> str:
    """A row for each bin of confidence: what share of the vertices is in it, and how many of them are right, in %."""
    lines = ["confidence  " + "".join(f"{name:>14}: share right" for name in curves)]
    bins = len(next(iter(curves.values())).share)
    for k in range(bins):
        cells = (f"{100 * curve.share[k]:>21.1f}{100 * curve.accuracy[k]:>6.1f}" for curve in curves.values())
        lines.append(f"{k / bins:.1f} to {(k + 1) / bins:.1f}  " + "".join(cells))
    errors = ", ".join(f"{100 * curve.error:.1f} % at {name}" for name, curve in curves.items())
    return "\n".join([*lines, f"expected calibration error: {errors}"])


def picture(curves: dict[str, Reliability]) -> Figure:
    """How often vertices of each confidence are right."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", label="as it should be")
    for (name, curve), style in zip(curves.items(), ("o--", "o-"), strict=True):
        axes.plot(curve.confidence, curve.accuracy, style, label=name)
    axes.set(xlabel="confidence", ylabel="share of the vertices that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
