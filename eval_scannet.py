"""Score a checkpoint on the whole scenes of a split and write the report.

    python eval_scannet.py --checkpoint runs/x/checkpoints/last.pt --data datasets/scannet
    torchrun --standalone --nproc-per-node=4 eval_scannet.py --checkpoint runs/x/checkpoints/last.pt

Two protocols, each over every tile of every scene (PointNet++'s whole-scene test; ScanNet's benchmark):
pn2-wholescene     8192 points drawn from every tile of 1.5 m (--chunk-size of the training), scored by point and voxel
scannet-benchmark  a prediction for every vertex of the mesh, one confusion matrix over all scenes
"""

import argparse
import csv
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

import ops
from data import metrics
from data.atomic_write import replacing
from data.board import confusion_figure
from data.chunks import CHUNK_SIZE
from data.coloured_ply import write_comparison
from data.datasets import SceneFile, SceneTiles, WholeScenes, scene_files
from data.labels import CLASS_NAMES, CLASS_TO_NYU40, NUM_CLASSES, NYU40_TO_CLASS
from data.scenes import SPLITS, SceneError, read_manifest
from models import checkpoint, distributed
from models.pointnet2 import PointNet2
from models.stopping import StopRequest, ignore_signals, run

WHOLE_SCENE, BENCHMARK = "pn2-wholescene", "scannet-benchmark"

# Draws at a time. On the CPU the activations of one stay in the cache: 8 together take 1.7 x as long
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 1, 16


@dataclass(frozen=True)
class SceneResult:
    name: str
    vertices: int  # V
    tiles: int  # scored by pn2-wholescene
    counts: dict[str, np.ndarray]  # name of the count -> (21, 21) confusion
    predicted: np.ndarray | None  # (V,) uint8 in 1..20, one per vertex; None without scannet-benchmark


def evaluate(
    model: PointNet2,
    scenes: WholeScenes,
    device: torch.device,
    batch_size: int | None = None,
    workers: int = 0,
    stop: StopRequest | None = None,
) -> list[SceneResult] | None:
    """Score the scenes, in order; None if a rank was told to stop. Worker processes read and tile the next ones
    meanwhile. Of W ranks, which all have to call this, each scores every W-th scene and returns the results of all.

    The network takes `batch_size` draws at a time, of one scene or of several: by default 1 on the CPU, and 16 on a
    GPU. The last batch is filled up with copies of its last draw: matrix products of another shape may be rounded
    otherwise, and what a scene gets must not depend on the scenes beside it.
    """
    model.eval()
    batch_size = batch_size or default_batch_size(device)
    rank, world_size = distributed.rank(), distributed.world_size()
    share = Subset(scenes, range(rank, len(scenes), world_size))  # unpadded: a rank's may be empty
    loader = DataLoader(share, batch_size=None, num_workers=workers, worker_init_fn=ignore_signals)
    progress = tqdm(loader, desc="scenes", unit="scene", leave=False, disable=None if rank == 0 else True)
    results = []
    for result in _results(model, progress, device, batch_size):
        results.append(result)
        if stop and stop.signal:
            break
    shares = distributed.of_all_ranks((results, bool(stop and stop.signal)))
    if any(stopped for _, stopped in shares):
        return None
    return [shares[number % world_size][0][number // world_size] for number in range(len(scenes))]


def _results(
    model: PointNet2, scenes: Iterable[SceneTiles], device: torch.device, batch_size: int
) -> Iterator[SceneResult]:
    unfinished, batch = deque(), []
    for scene in scenes:
        score = SceneScore(scene)
        unfinished.append(score)
        for draw in score.draws:
            batch.append((score, scene.points[draw.index]))
            if len(batch) == batch_size:
                _run_batch(model, batch, batch_size, device)
                batch.clear()
        while unfinished and unfinished[0].finished:
            yield unfinished.popleft().result()
    if batch:
        _run_batch(model, batch, batch_size, device)
    yield from (score.result() for score in unfinished)


@torch.inference_mode()
def _run_batch(
    model: PointNet2, batch: list[tuple["SceneScore", np.ndarray]], batch_size: int, device: torch.device
) -> None:
    """Give each scene the logits of its draws. batch: 1 to batch_size pairs of a scene and points (N, 3 + F)."""
    points = [points for _, points in batch]
    points += points[-1:] * (batch_size - len(points))
    logits = model(torch.from_numpy(np.stack(points)).to(device)).float().cpu()  # (B, N, 21)
    if not torch.isfinite(logits).all():
        raise checkpoint.CheckpointError("the network's logits are not finite: its weights are of no use")
    for (score, _), logits_of_draw in zip(batch, logits, strict=False):
        score.add(logits_of_draw)


def run_scene(
    model: PointNet2, scene: SceneTiles, device: torch.device, batch_size: int | None = None, silent: bool = False
) -> "SceneScore":
    """What the network says of one scene, by the draws of its tiles. batch_size: as in `evaluate`."""
    model.eval()
    batch_size = batch_size or default_batch_size(device)
    score = SceneScore(scene)
    starts = range(0, len(score.draws), batch_size)
    for start in tqdm(starts, desc=scene.name, unit="batch", leave=False, disable=silent or None):
        draws = score.draws[start : start + batch_size]
        _run_batch(model, [(score, scene.points[draw.index]) for draw in draws], batch_size, device)
    return score


def classes_of_tiles(model: PointNet2, scene: SceneTiles, device: torch.device) -> np.ndarray:
    """(V,) classes 0..20 of the vertices that pn2-wholescene draws as core points, 0 for the others."""
    drawn = run_scene(model, replace(scene, tiles=[], covering=scene.tiles), device, silent=True)
    return drawn.logits.argmax(1).numpy()


def default_batch_size(device: torch.device) -> int:
    return CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE


class SceneScore:
    """What the network has said of a scene so far. No logits are kept but their sums by vertex."""

    def __init__(self, scene: SceneTiles):
        self.scene = scene
        self.draws = [*scene.tiles, *scene.covering]
        self.done = 0
        self.counts = metrics.no_counts()
        vertices = len(scene.points) if scene.covering else 0
        self.logits, self.covered = torch.zeros(vertices, NUM_CLASSES), np.zeros(vertices, dtype=bool)

    @property
    def finished(self) -> bool:
        return self.done == len(self.draws)

    def add(self, logits: Tensor) -> None:
        """Take the logits (N, 21) of the next one of `draws`. Only its core points count."""
        draw, is_tile = self.draws[self.done], self.done < len(self.scene.tiles)
        self.done += 1
        index, logits = draw.index[draw.core], logits[torch.from_numpy(draw.core)]
        if is_tile:
            self._count(index, logits)
        else:
            self.logits.index_add_(0, torch.from_numpy(index), logits)
            self.covered[index] = True

    def _count(self, index: np.ndarray, logits: Tensor) -> None:
        best, known = logits[:, 1:].max(1)  # of the 20 classes
        known += 1
        counts = metrics.tile_counts(
            xyz=self.scene.points[index, :3],
            truth=NYU40_TO_CLASS[self.scene.nyu40[index]],
            predicted=torch.where(logits[:, 0] >= best, 0, known).numpy(),  # of equal ones the first, as argmax does
            known=known.numpy(),
        )
        for name, matrix in counts.items():
            self.counts[name] += matrix

    def result(self) -> SceneResult:
        scene, predicted = self.scene, None
        if scene.covering:
            if not self.covered.all():
                raise RuntimeError(f"{scene.name}: {np.sum(~self.covered)} vertices were in no tile")
            predicted = (1 + self.logits[:, 1:].argmax(1)).numpy().astype(np.uint8)
            if scene.nyu40 is not None:
                self.counts["vertex"] = metrics.confusion(NYU40_TO_CLASS[scene.nyu40], predicted)
        return SceneResult(scene.name, len(scene.points), len(scene.tiles), self.counts, predicted)


def add_counts(results: list[SceneResult]) -> dict[str, np.ndarray]:
    return {name: sum(result.counts[name] for result in results) for name in metrics.COUNTS}


def choose_device(name: str) -> torch.device:
    """The one place that names a device: "auto" is the GPU of this process if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SystemExit(f"error: --device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return torch.device(name)


def whole_number(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number that is at least `least`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
        return number

    return convert


def main(argv: list[str] | None = None) -> int:
    return run(_parser().parse_args, score, argv, (SceneError, ops.cpu.CompileError), "nothing was scored")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=checkpoint.resolve,
        help="best.pt or last.pt of a run, the run's folder (its last.pt), or its export/",
    )
    parser.add_argument("--data", type=Path, help="preprocessed scenes (default: the run's; an export names none)")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--out", type=Path, help="folder of the report (default: eval/<split>-<weights> in the run's)")
    parser.add_argument("--export-ply", type=whole_number(0), default=0, metavar="N", help="PLY of the first N scenes")
    parser.add_argument("--predictions", action="store_true", help="write predictions/<scan>.txt for any split")
    parser.add_argument("--allow-partial", action="store_true", help="score a split of which scenes are missing")
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--workers", type=whole_number(0), default=1, help="processes that read and tile scenes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the points drawn from the tiles")
    return parser


def score(args: argparse.Namespace, stop: StopRequest) -> int:
    """The evaluation, in every rank. Returns the exit code."""
    device = choose_device(args.device)
    content, data_dir, files, expected = distributed.of_rank_0(_open, args)
    if len(files) < expected and not args.allow_partial:
        return 2
    model = checkpoint.build(content, args.checkpoint)
    ops.use(args.ops)
    sha256 = checkpoint.weights_sha256(model)
    out = args.out or run_folder(args.checkpoint) / "eval" / f"{args.split}-{sha256[:8]}"
    if distributed.rank() == 0:
        ranks = f"{distributed.world_size()} x {device}"
        print(f"{ranks}, {ops.describe()}\n{len(files)} scenes of {data_dir}, weights {sha256[:8]}")
    config = content["config"]  # of the training run
    scenes = WholeScenes.as_trained(files, args.seed, config)
    results = evaluate(model.to(device), scenes, device, args.batch_size, args.workers)
    facts = {
        "split": args.split,
        "scenes": len(results),
        "expected_scenes": expected,
        "tiles": sum(result.tiles for result in results),
        "vertices": sum(result.vertices for result in results),
        "checkpoint_sha256": sha256,
        "selected_on": content["selected_on"],
        "protocols": [WHOLE_SCENE if scenes.chunk_size == CHUNK_SIZE else f"{WHOLE_SCENE} with other tiles", BENCHMARK],
        "chunk_size": scenes.chunk_size,
        "unannotated": scenes.policy.unannotated,
        "other": scenes.policy.other,
        "seed": args.seed,
    }
    distributed.of_rank_0(write_report, out, args, files, results, facts)
    return 0


def _open(args: argparse.Namespace) -> tuple[dict, Path, list[SceneFile], int]:
    """The checkpoint's entries, the data folder, the split's scenes that are there, and how many it should have."""
    content = checkpoint.read_published(args.checkpoint)
    if not (args.data or "data" in content["config"]):
        raise checkpoint.CheckpointError(f"{args.checkpoint}: an export does not name its scenes; give --data")
    data_dir = args.data or Path(content["config"]["data"])
    manifest = read_manifest(data_dir)
    files = scene_files(data_dir, manifest, args.split)
    expected = manifest["expected"][args.split]
    if len(files) < expected:
        print(f"{data_dir}: {len(files)} of the {expected} scenes of the {args.split} split are there")
        if not args.allow_partial:
            print("error: preprocess the others, or score these with --allow-partial", file=sys.stderr)
    return content, data_dir, files, expected


def write_report(
    out: Path, args: argparse.Namespace, files: list[SceneFile], results: list[SceneResult], facts: dict
) -> None:
    """Every file whole or not at all, results.json last."""
    out.mkdir(parents=True, exist_ok=True)
    if args.export_ply:
        for file, result in list(zip(files, results, strict=True))[: args.export_ply]:
            write_comparison(out / "ply", file.path, result.predicted)
        print(f"prediction, truth and errors as coloured meshes: {out / 'ply'}")
    if args.split == "test" or args.predictions:
        for result in results:
            write_submission(out / "predictions" / f"{result.name}.txt", result.predicted)
        print(f"predictions in ScanNet's submission form: {out / 'predictions'}")
    counts = add_counts(results)
    if not counts["vertex"].any():
        print("no scene of this split has labels: nothing to score")
        return
    report = {**metrics.scores(counts), **facts}
    write_per_scene(out / "per_scene.csv", results)
    with replacing(out / "confusion.png") as temporary:
        confusion_figure(counts["voxel"]).savefig(temporary, dpi=100, format="png")
    for name, text in (
        ("results.md", markdown(report, args.checkpoint)),
        ("results.json", json.dumps(report, indent=2) + "\n"),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    print(class_table(report))
    accuracies = "pixel_accuracy", "voxel_accuracy", "class_voxel_accuracy", "vertex_accuracy"
    for name in (*accuracies, "mean_iou", "mean_iou_scannet"):
        print(f"{name:22}{percent(report[name])}")
    print(f"report: {out / 'results.md'}")


def run_folder(path: Path) -> Path:
    """The folder of the run that a checkpoint or an export is of; of one that was moved, the folder it lies in."""
    folder = path.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def write_submission(path: Path, predicted: np.ndarray) -> None:
    """One nyu40 id a line, in the mesh's vertex order. predicted: (V,) classes 1..20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        np.savetxt(temporary, CLASS_TO_NYU40[predicted], fmt="%d")


def markdown(report: dict, path: Path) -> str:
    lines = [
        f"# {path.name} on {report['scenes']} of {report['expected_scenes']} {report['split']} scenes",
        "",
        f"Weights {report['checkpoint_sha256']}, protocols {' and '.join(report['protocols'])}, seed {report['seed']}, "
        f"{report['tiles']} tiles of {report['chunk_size']:g} m, {report['vertices']} vertices; "
        f"unannotated vertices: {report['unannotated']}, other classes: {report['other']}. In percent.",
        "",
    ]
    if report["selected_on"]:
        lines += [f"**Optimistic**: this checkpoint was chosen by {report['selected_on']}; tables use last.pt.", ""]
    lines += ["| score | % | definition |", "|---|---|---|"]
    lines += [f"| {name} | {percent(report[name])} | {text} |" for name, text in metrics.DEFINITIONS.items()]
    return "\n".join([*lines, "", "```", class_table(report), "```", ""])


def class_table(report: dict) -> str:
    """Accuracy by class in percent, and IoU where scannet-benchmark was run; "-" for an absent class."""
    columns = {"voxel acc.": (report["class_voxel_accuracies"], report["class_voxel_accuracy"])}
    if report["mean_iou"] is not None:
        columns["IoU"] = (report["iou"], report["mean_iou"])
    lines = [f"{'class':16}" + "".join(f"{title:>12}" for title in columns)]
    for name in CLASS_NAMES[1:]:
        lines.append(f"{name:16}" + "".join(f"{percent(by_class[name]):>12}" for by_class, _ in columns.values()))
    lines.append(f"{'mean':16}" + "".join(f"{percent(mean):>12}" for _, mean in columns.values()))
    return "\n".join(lines)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def write_per_scene(path: Path, results: list[SceneResult]) -> None:
    columns = ["pixel_accuracy", "voxel_accuracy", "class_voxel_accuracy", "vertex_accuracy", "mean_iou"]
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["scene", "vertices", "tiles", *columns])
        for result in results:
            scores = metrics.scores(result.counts)
            values = ["" if scores[name] is None else f"{scores[name]:.6f}" for name in columns]
            writer.writerow([result.name, result.vertices, result.tiles, *values])


if __name__ == "__main__":
    sys.exit(main())
