"""Score a Mask R-CNN checkpoint on COCO: average precision of boxes and masks.

    python scripts/coco/eval_coco.py --checkpoint runs/x/checkpoints/last.pt --data /data/coco

Needs its own environment: pip install -r scripts/coco/requirements.txt
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py

from torch import nn

from data.atomic_write import replacing
from data.coco import CocoError, evaluate, open_split
from models import mask_rcnn
from training import checkpoint
from training.arguments import TF32_HELP, choose_device, whole_number
from training.run_folder import run_folder_of
from training.stopping import error_line


def load(content: dict, path: Path) -> nn.Module:
    """The network that a checkpoint's entries describe. CheckpointError if it is no Mask R-CNN; path is for that."""
    try:
        model = mask_rcnn.build(mask_rcnn.MaskRCNNConfig(**content["model_config"]), seed=0)
        model.load_state_dict(content["model"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise checkpoint.CheckpointError(f"{path}: does not fit this version's Mask R-CNN: {error}") from error
    return model


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=checkpoint.resolve, help="train_coco.py's run or last.pt")
    parser.add_argument("--data", type=Path, help="folder with COCO's annotations/ (default: the training run's)")
    parser.add_argument("--split", default="val2017")
    parser.add_argument("--out", type=Path, help="folder of the report (default: eval/<split>-<weights> in the run's)")
    parser.add_argument("--workers", type=whole_number(0), default=2, help="processes that read images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tf32", action="store_true", help=TF32_HELP)
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except (checkpoint.CheckpointError, CocoError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    device = choose_device(args.device, args.tf32)
    content = checkpoint.read(args.checkpoint)
    model = load(content, args.checkpoint)
    images = open_split(args.data or content["config"]["data"], args.split)
    if 1 + max(images.coco.cats) != model.config.classes:
        raise CocoError(f"{args.split} has other categories than the set that {args.checkpoint} was trained on")
    sha256 = checkpoint.weights_sha256(model)
    out = args.out or run_folder_of(args.checkpoint) / "eval" / f"{args.split}-{sha256[:8]}"
    report = {
        **evaluate(model.to(device), images, device, args.workers),
        "split": args.split,
        "images": len(images),
        "checkpoint_sha256": sha256,
        "step": content["step"],
    }
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "results.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    for name, value in report.items():
        print(f"{name:18} {f'{100 * value:.1f} %' if isinstance(value, float) else value}")
    print(f"report: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
