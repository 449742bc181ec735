"""Score a checkpoint on the whole scenes of a split and write the report.

    python eval_scannet.py --checkpoint runs/x/checkpoints/last.pt --data datasets/scannet
    torchrun --standalone --nproc-per-node=4 eval_scannet.py --checkpoint runs/x/checkpoints/last.pt

Two protocols, each over every tile of every scene (PointNet++'s whole-scene test; ScanNet's benchmark):
pn2-wholescene     8192 points drawn from every tile of 1.5 m (--chunk-size of the training), scored by point and voxel
scannet-benchmark  a prediction for every vertex of the mesh, one confusion matrix over all scenes; with --votes N of N
                   turned and mirrored looks at each scene, which the report says
"""

import argparse
import csv
import hashlib
import json
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py

import numpy as np

import ops
from data import metrics
from data.atomic_write import replacing
from data.chunks import CHUNK_SIZE, POINTS_PER_CHUNK
from data.coloured_ply import write_comparison
from data.datasets import SceneFile, WholeScenes, expected_scenes, scene_files
from data.labels import LabelSpace
from data.metrics import class_table, percent
from data.page import PageError, need_plotly, write_page
from data.scenes import SPLITS, SceneError, read_manifest, read_scene
from training import checkpoint, ranks
from training.arguments import TF32_HELP, choose_device, precision, whole_number
from training.board import confusion_figure
from training.inference import SceneResult, add_counts, evaluate
from training.run_folder import run_folder_of
from training.stopping import StopRequest, run_command

WHOLE_SCENE, BENCHMARK = "pn2-wholescene", "scannet-benchmark"


def main(argv: list[str] | None = None) -> int:
    return run_command(
        _parser().parse_args, score, argv, (SceneError, PageError, ops.cpu.CompileError), "nothing was scored"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=checkpoint.resolve,
        help="best.pt or last.pt of a run, the run's folder (its last.pt), or its export/",
    )
    parser.add_argument("--data", type=Path, help="preprocessed scenes (default: the run's; an export names none)")
    parser.add_argument(
        "--split",
        nargs="+",
        metavar="S",
        help="names of splits or scenes, patterns ('Area_5*'), or text files of names (default: the run's --val)",
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: eval/<split>-<weights> in the run's)")
    parser.add_argument("--export-ply", type=whole_number(0), default=0, metavar="N", help="PLY of the first N scenes")
    parser.add_argument("--html", type=whole_number(0), default=0, metavar="N", help="pages to look at, of the first N")
    parser.add_argument("--predictions", action="store_true", help="write predictions/<scan>.txt for any split")
    parser.add_argument("--allow-partial", action="store_true", help="score a split of which scenes are missing")
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--workers", type=whole_number(0), default=1, help="processes that read and tile scenes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tf32", action="store_true", help=TF32_HELP)
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    votes = "looks at each scene for scannet-benchmark, as predict.py's (default: 0, the protocol's own draws)"
    parser.add_argument("--votes", type=whole_number(0), default=0, help=votes)
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the points drawn from the tiles")
    return parser


def score(args: argparse.Namespace, stop: StopRequest) -> int:
    """The evaluation, in every rank. Returns the exit code."""
    if args.html:
        need_plotly()
    device = choose_device(args.device, args.tf32)
    content, data_dir, files, expected, split = ranks.on_rank_0(_open, args)
    if len(files) < expected and not args.allow_partial:
        return 2
    model = checkpoint.build(content, args.checkpoint)
    ops.use(args.ops)
    sha256 = checkpoint.weights_sha256(model)
    own = args.data is None or args.data.resolve() == Path(content["config"].get("data", args.data)).resolve()
    name = f"{folder_name(split, files, own)}-{sha256[:8]}" + (f"-{args.votes}-votes" if args.votes else "")
    out = args.out or run_folder_of(args.checkpoint) / "eval" / name
    if ranks.rank() == 0:
        print(f"{ranks.world_size()} x {device}, {precision()}, {ops.describe()}")
        print(f"{len(files)} scenes ({' '.join(split)}) of {data_dir}, weights {sha256[:8]}")
    trained = content["config"], content["label_space"]
    scenes = WholeScenes.as_trained(files, args.seed, *trained, votes=args.votes)
    results = evaluate(model.to(device), scenes, device, args.batch_size, args.workers)
    facts = {
        "split": " ".join(split),
        "label_space": scenes.policy.space.name,
        "scenes": len(results),
        "expected_scenes": expected,
        "tiles": sum(result.tiles for result in results),
        "vertices": sum(result.vertices for result in results),
        "checkpoint_sha256": sha256,
        "selected_on": content["selected_on"],
        "protocols": [whole_scene_protocol(scenes), benchmark_protocol(scenes)],
        "chunk_size": scenes.chunk_size,
        "points": scenes.points,
        "spacing": scenes.spacing,
        "unannotated": scenes.policy.unannotated,
        "other": scenes.policy.other,
        "seed": args.seed,
    }
    ranks.on_rank_0(write_report, out, args, files, results, facts, scenes.policy.space)
    return 0


def _open(args: argparse.Namespace) -> tuple[dict, Path, list[SceneFile], int, list[str]]:
    """The checkpoint's entries, the data folder, its chosen scenes, how many there should be, and what chose them."""
    content = checkpoint.read_published(args.checkpoint)
    if not (args.data or "data" in content["config"]):
        raise checkpoint.CheckpointError(f"{args.checkpoint}: an export does not name its scenes; give --data")
    data_dir = args.data or Path(content["config"]["data"])
    manifest = read_manifest(data_dir)
    if differences := content["label_space"].differences(manifest["label_space"]):
        raise checkpoint.CheckpointError(
            f"{args.checkpoint} knows other classes ({content['label_space'].name}) than {data_dir} has "
            f"({manifest['label_space'].name}): {'; '.join(differences[:5])}"
        )
    split = args.split or content["config"].get("val", ["val"])
    files, expected = scene_files(data_dir, manifest, split), expected_scenes(manifest, split)
    if len(files) < expected:
        print(f"{data_dir}: {len(files)} of the {expected} scenes of {' '.join(split)} are there")
        if not args.allow_partial:
            print("error: preprocess the others, or score these with --allow-partial", file=sys.stderr)
    return content, data_dir, files, expected, split


def folder_name(split: list[str], files: list[SceneFile], own: bool = True) -> str:
    """The split's name; of other choices, or data than the run's own, in safe letters with a digest of the scenes."""
    if len(split) == 1 and split[0] in SPLITS and own:
        return split[0]
    digest = hashlib.sha256("\n".join(f"{file.name} {file.histogram}" for file in files).encode()).hexdigest()
    return f"{re.sub('[^A-Za-z0-9]+', '_', '_'.join(split)).strip('_')[:40] or 'scenes'}-{digest[:6]}"


def whole_scene_protocol(scenes: WholeScenes) -> str:
    """The published protocol's name, and in what this one differs from it."""
    density = f" at {100 * scenes.spacing:g} cm" if scenes.spacing else ""
    tiles = "" if (scenes.chunk_size, scenes.points) == (CHUNK_SIZE, POINTS_PER_CHUNK) else " with other tiles"
    return f"{WHOLE_SCENE}{density}{tiles}"


def benchmark_protocol(scenes: WholeScenes) -> str:
    """The published protocol's name, and in what this one differs from it."""
    return f"{BENCHMARK} with {scenes.votes} votes" if scenes.votes else BENCHMARK


def write_report(
    out: Path,
    args: argparse.Namespace,
    files: list[SceneFile],
    results: list[SceneResult],
    facts: dict,
    space: LabelSpace,
) -> None:
    """Every file whole or not at all, results.json last."""
    out.mkdir(parents=True, exist_ok=True)
    if args.export_ply:
        for file, result in list(zip(files, results, strict=True))[: args.export_ply]:
            write_comparison(out / "ply", file.path, result.predicted, space)
        print(f"prediction, truth and errors as coloured meshes: {out / 'ply'}")
    if args.html:
        for file, result in list(zip(files, results, strict=True))[: args.html]:
            scene, views = read_scene(file.path), {"prediction": result.predicted}
            if scene.label is not None:
                views["ground truth"] = space.class_of[scene.label]
            write_page(out / "html" / f"{scene.name}.html", scene.name, scene.xyz, space, views, scene.colour)
        print(f"pages to look at: {out / 'html'}")
    if facts["split"] == "test" or args.predictions:
        for result in results:
            write_submission(out / "predictions" / f"{result.name}.txt", space.id_of[result.predicted])
        print(f"predictions in ScanNet's submission form: {out / 'predictions'}")
    counts = add_counts(results)
    if not counts["vertex"][1:].any():
        print("no vertex of this split is annotated: nothing to score")
        return
    report = {**metrics.scores(counts, space), **facts}
    write_per_scene(out / "per_scene.csv", results, space)
    with replacing(out / "confusion.png") as temporary:
        confusion_figure(counts["voxel"], space).savefig(temporary, dpi=100, format="png")
    for name, text in (
        ("results.md", markdown(report, args.checkpoint)),
        ("results.json", json.dumps(report, indent=2) + "\n"),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(class_table(report))
    accuracies = "pixel_accuracy", "voxel_accuracy", "class_voxel_accuracy", "vertex_accuracy"
    for name in (*accuracies, "mean_iou", "mean_iou_scannet"):
        print(f"{name:22}{percent(report[name])}")
    print(f"report: {out / 'results.md'}")


def write_submission(path: Path, label: np.ndarray) -> None:
    """One id a line, in the mesh's vertex order. label: (V,)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        np.savetxt(temporary, label, fmt="%d")


def markdown(report: dict, path: Path) -> str:
    lines = [
        f"# {path.name} on {report['scenes']} of {report['expected_scenes']} scenes of {report['split']}",
        "",
        f"Weights {report['checkpoint_sha256']}, protocols {' and '.join(report['protocols'])}, seed {report['seed']}, "
        f"{report['tiles']} tiles of {report['chunk_size']:g} m and {report['points']} points, "
        f"{report['vertices']} vertices; unannotated vertices: {report['unannotated']}, other classes: "
        f"{report['other']}; label space {report['label_space']}. In percent.",
        "",
    ]
    if report["selected_on"]:
        lines += [f"**Optimistic**: this checkpoint was chosen by {report['selected_on']}; tables use last.pt.", ""]
    lines += ["| score | % | definition |", "|---|---|---|"]
    lines += [f"| {name} | {percent(report[name])} | {text} |" for name, text in metrics.DEFINITIONS.items()]
    return "\n".join([*lines, "", "```", class_table(report), "```", ""])


def write_per_scene(path: Path, results: list[SceneResult], space: LabelSpace) -> None:
    columns = ["pixel_accuracy", "voxel_accuracy", "class_voxel_accuracy", "vertex_accuracy", "mean_iou"]
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["scene", "vertices", "tiles", *columns])
        for result in results:
            scores = metrics.scores(result.counts, space)
            values = ["" if scores[name] is None else f"{scores[name]:.6f}" for name in columns]
            writer.writerow([result.name, result.vertices, result.tiles, *values])


if __name__ == "__main__":
    sys.exit(main())
