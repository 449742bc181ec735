"""The weights that come along, models/weights/rooms, made anew: rooms, training, scores, calibration. Hours.

    python scripts/experiments/rooms_weights.py [--out runs/rooms_weights]

Each step is the command that a user would type. Interrupt it at any time: the same command goes on with what was begun.
Trained is twice, in chunks of 1.5 m and then, from those weights, in chunks of 3 m. The weights are in OUT/3m/export;
what is shipped is a copy.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.demo import room_commands, run
from training.arguments import whole_number

SCENES = 1334  # rooms, a quarter of them for validation
EPOCHS = 48, 52
LARGER = "--chunk-size 3 --points 8192 --lr 1e-3"  # chunks of the second training (docs/results/rooms.md)
AUGMENT = "rotate flip scale jitter"  # without point dropout, which costs (docs/results/rooms.md)
SCORED = "scene600*"  # of these, by name: ten scenes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rooms_weights"), help="folder for both runs")
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="folder for the rooms, scans and scenes")
    parser.add_argument("--scenes", type=whole_number(2), default=SCENES, help="rooms to make")
    parser.add_argument("--epochs", type=whole_number(1), nargs=2, default=EPOCHS, help="of the two trainings")
    parser.add_argument("--batch-size", type=whole_number(1), default=8)
    args = parser.parse_args(argv)
    scans, data = args.data / "rooms_scans", args.data / "rooms"
    first, last = args.out / "1.5m", args.out / "3m"
    train = f"train_scannet.py --data {data} --recipe modern --augment {AUGMENT} --batch-size {args.batch_size}"
    validated = [f"--val {SCORED} --validate-every {max(1, epochs // 2)} --resume auto" for epochs in args.epochs]
    for command in (
        *room_commands(scans, data, f"--scenes {args.scenes} --seed 1", "scanned"),
        f"{train} --out {first} --epochs {args.epochs[0]} {validated[0]}",
        f"{train} --out {last} --epochs {args.epochs[1]} {validated[1]} --init-from {first} {LARGER}",
        f"eval_scannet.py --checkpoint {last}",
        f"scripts/calibrate.py --checkpoint {last}/export --data {data} --split {SCORED} "
        f"--picture {args.out}/confidence.png",
    ):
        run(command)
    print(f"\n{last / 'export'}: copy model.safetensors and config.json to models/weights/rooms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
