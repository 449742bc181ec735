"""Can the "local" objects of plain rooms be told apart at all, from the points that a spacing leaves?

    python scripts/experiments/cues_left.py [--scenes 128 --spacings 0 0.02 0.03 0.05]

A local object carries the cue of its class (objects.CUES): boxes that others of its pair do not have. A point of a cue
counts where it is more than OUT from the shape that the pair shares. An object is taken as told if `--enough` of its
points count. Who counts so knows where the object stands and what its pair looks like: it is a bound.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from tqdm import tqdm

from data.chunks import thin
from data.rooms.meshes import WAVE_RMS
from data.rooms.objects import CUES, Box
from data.rooms.rooms import SHELL, Item, Plan, mesh_room, plan_room
from training.arguments import whole_number

OUT = WAVE_RMS  # m: the drift of a plain scan
SPACINGS = (0.0, 0.02, 0.03, 0.05)  # m; 0 is all vertices


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=whole_number(1), default=128, help="validation rooms to look at")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--enough", type=whole_number(1), default=5, help="points by which an object is told")
    parser.add_argument("--spacings", type=float, nargs="+", default=list(SPACINGS), help="metres; 0: all vertices")
    args = parser.parse_args(argv)
    plans = [plan_room(args.seed, "val", number) for number in range(args.scenes)]
    counts = [cue_points(plan, args.spacings) for plan in tqdm(plans, unit="room", disable=None)]
    print(f"objects of kind local by their points in {args.scenes} rooms, told by {args.enough} points of a cue, %\n")
    print(f"{'':16}{'objects':>8}" + "".join(f"{f'{1000 * s:g} mm' if s else 'all':>8}" for s in args.spacings))
    for name in (*CUES, "all"):
        rows = [row for room in counts for label, row in room if name in (label, "all")]
        if rows:
            vertices = np.array([row[0] for row in rows])  # (objects,)
            told = np.array([row[1:] for row in rows]) >= args.enough  # (objects, spacings)
            shares = 100 * (told * vertices[:, None]).sum(0) / vertices.sum()
            print(f"{name:16}{len(rows):8}" + "".join(f"{share:8.1f}" for share in shares))
    return 0


def cue_points(plan: Plan, spacings: list[float]) -> list[tuple[str, tuple[int, ...]]]:
    """For each local object of a room that was seen: its class, its vertices, and its cue's points at each spacing."""
    rng = np.random.default_rng([*plan.seed, 1])  # that of rooms.write_room, so these are the rooms of a data set
    xyz, _, owner, piece = mesh_room(plan, rng)
    box = (piece >> 24) - 1  # (V,) number of the box among all of the room, -1 for the shell
    kept = [thin(xyz, spacing, rng) if spacing else np.arange(len(xyz)) for spacing in spacings]
    first, found = 0, []
    for number, item in enumerate(plan.items, len(SHELL)):
        cues = len(CUES[item.name]) if item.kind == "local" else 0
        if cues and (owner == number).any():
            shape = item.boxes[:-cues]
            is_cue = (owner == number) & (box >= first + len(shape))
            index = np.flatnonzero(is_cue)
            index = index[outside(in_frame(xyz[index], item), shape, item) > OUT]
            counts = [np.isin(index, seen, assume_unique=True).sum().item() for seen in kept]
            found.append((item.name, (int((owner == number).sum()), *counts)))
        first += len(item.boxes)
    return found


def in_frame(xyz: np.ndarray, item: Item) -> np.ndarray:
    """(n, 3) m in the object's own frame, as Box has it."""
    return (xyz - (item.low + item.high) / 2) @ item.rotation.T + item.size / 2


def outside(xyz: np.ndarray, boxes: list[Box], item: Item) -> np.ndarray:
    """(n,) m from (n, 3) to the nearest of the boxes, folds included; 0 within one."""
    size, distance = item.size, []
    for box in boxes:
        fold = np.array([0, box.folds, 0])
        low = np.array([box.x0, box.y0, box.z0]) * size - fold
        high = np.array([box.x1, box.y1, box.z1]) * size + fold
        distance.append(np.linalg.norm(np.maximum(np.maximum(low - xyz, xyz - high), 0), axis=1))
    return np.min(distance, axis=0)


if __name__ == "__main__":
    sys.exit(main())
