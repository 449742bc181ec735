"""The whole path on generated rooms, each step the command that real scans would use.

    python scripts/demo.py

Scans and scenes are made once and kept in datasets/; every call trains another network in runs/.
"""

import argparse
import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCANS, DATA = Path("datasets/synthetic_scans"), Path("datasets/synthetic")  # train_scannet.py's default data
SCENES, EPOCHS = 64, 36
DEVIATIONS = (
    f"{SCENES} generated rooms instead of 1513 ScanNet scans, {EPOCHS} epochs instead of 200",
    "--batch-size 8 instead of 64",
    "--recipe modern: one vertex in each cube of 5 cm, heights, more augmentation, a cosine schedule",
)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not (ROOT / DATA / "manifest.json").exists():
        for command in room_commands(SCANS, DATA, f"--scenes {SCENES}"):
            run(command)
    folders = (Path(f"runs/demo_{number}") for number in itertools.count(1))
    out = next(folder for folder in folders if not (ROOT / folder).exists())
    run(
        f"train_scannet.py --data {DATA} --out {out} --model latentgnn --kernels 1 --epochs {EPOCHS} "
        f"--recipe modern --batch-size 8 --validate-every {EPOCHS}"
    )
    run(f"eval_scannet.py --checkpoint {out}/checkpoints/last.pt --data {DATA} --predictions")

    (report,) = (ROOT / out).glob("eval/*/results.json")
    report = report.relative_to(ROOT)
    scene = sorted((ROOT / report.parent / "predictions").iterdir())[0].stem
    scan, picture = f"{SCANS}/scans/{scene}/{scene}_vh_clean_2", report.with_name(f"{scene}.png")
    run(
        f"scripts/render_scene.py --input {scan}.ply --out {picture} --titles colours 'ground truth' prediction "
        f"--labels {scan}.labels.ply {report.parent}/predictions/{scene}.txt"
    )
    scores = json.loads((ROOT / report).read_text())
    with open(ROOT / out / "metrics.jsonl") as file:
        untrained = next(entry for entry in map(json.loads, file) if entry["part"] == "val")  # before the first epoch
    print(f"\nvoxel accuracy on {scores['scenes']} rooms that were not trained on")
    print(f"  LatentGNN, one kernel      {100 * scores['voxel_accuracy']:5.1f} %")
    print(f"  always the commonest class {100 * scores['voxel_accuracy_majority']:5.1f} %")
    print(f"  the network untrained      {100 * untrained['voxel_accuracy']:5.1f} %")
    print("different from the paper's setting, which is train_scannet.py's default:", *DEVIATIONS, sep="\n  ")
    print(f"report: {report.with_name('results.md')}\npicture: {picture}")
    return 0


def room_commands(scans: Path, data: Path, flags: str, style: str = "plain") -> list[str]:
    """Make generated rooms and preprocess them. style, flags: of make_synthetic.py."""
    return [
        f"scripts/make_synthetic.py --style {style} --out {scans} {flags}",
        f"scripts/preprocess_scannet.py --scans {scans} --out {data} "
        f"--labels {scans}/scannetv2-labels.combined.tsv --splits {scans}/splits",
    ]


def run(command: str) -> None:
    print(f"\n$ python {command}", flush=True)
    status = subprocess.run([sys.executable, *shlex.split(command)], cwd=ROOT).returncode
    if status:
        sys.exit(status)  # the command has said why


if __name__ == "__main__":
    sys.exit(main())
