"""The weights that come along, models/weights/rooms, made anew: rooms, training, scores, calibration. Hours.

    python scripts/experiments/rooms_weights.py [--out runs/rooms_weights]

Each step is the command that a user would type. Interrupt it at any time: the same command goes on with what was begun.
The weights are then in OUT/export; what is shipped is a copy.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.demo import room_commands, run
from training.arguments import whole_number

SCENES, EPOCHS = 1334, 48  # a quarter of the rooms are for validation
AUGMENT = "rotate flip scale jitter"  # without point dropout, which costs (docs/results/rooms.md)
SCORED = "scene600*"  # of these, by name: ten scenes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rooms_weights"), help="run folder")
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="folder for the rooms, scans and scenes")
    parser.add_argument("--scenes", type=whole_number(2), default=SCENES, help="rooms to make")
    parser.add_argument("--epochs", type=whole_number(1), default=EPOCHS)
    parser.add_argument("--batch-size", type=whole_number(1), default=8)
    args = parser.parse_args(argv)
    scans, data = args.data / "rooms_scans", args.data / "rooms"
    for command in (
        *room_commands(scans, data, f"--scenes {args.scenes} --seed 1", "scanned"),
        f"train_scannet.py --data {data} --out {args.out} --recipe modern --augment {AUGMENT} --epochs {args.epochs} "
        f"--batch-size {args.batch_size} --val {SCORED} --validate-every {max(1, args.epochs // 2)} --resume auto",
        f"eval_scannet.py --checkpoint {args.out}",
        f"scripts/calibrate.py --checkpoint {args.out}/export --data {data} --split {SCORED} "
        f"--picture {args.out}/confidence.png",
    ):
        run(command)
    print(f"\n{args.out / 'export'}: copy model.safetensors and config.json to models/weights/rooms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
