r"""How right a prediction is on the look-alike objects of generated rooms, by what tells their class.

    python scripts/experiments/score_kinds.py --scans datasets/synthetic_scans \
        --predictions runs/x/eval/val-1a2b3c4d/predictions

--predictions is what eval_scannet.py --predictions writes. Over the annotated vertices of these objects, for each kind
(local, near, room, double; data/rooms/rooms.py says what they are):

right        right / all vertices
answered     answered with a class of the object's pair / all: where that is small, the network does not know the pair
decided      right / answered. A network that gives every object of a pair the same class scores that class's share
told apart   0 for such a network, 1 for one that is always right: of a pair of n classes, (m - 1/n) / (1 - 1/n) with m
             the mean over its classes of right / answered; of all pairs the mean, weighted by answered vertices
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.labels import SCANNET20
from data.rooms.objects import PAIRS
from data.scannet import scan_files

KINDS = ("local", "near", "room")  # of all plain rooms; those made with --doubles have that kind too
Counts = dict[str, dict[str, dict[str, list[int]]]]  # kind -> pair -> class -> vertices, answered, right


def no_counts() -> Counts:
    return {kind: _no_pairs() for kind in KINDS}


def _no_pairs() -> dict[str, dict[str, list[int]]]:
    return {pair: {name: [0, 0, 0] for name in PAIRS[pair].classes} for pair in PAIRS}


def objects_of_pairs(folder: Path) -> tuple[np.ndarray, list[dict]]:
    """Of a generated scan: the objectId of each vertex (V,) in the mesh's order, -1 for none, and the objects of pairs,
    each with its objectId, class, kind and pair. OSError where the scan lacks a file."""
    files = scan_files(folder)
    segment = np.array(json.loads(files["segments"].read_text())["segIndices"])  # (V,)
    object_of_segment = np.full(segment.max() + 1, -1)
    for group in json.loads(files["aggregation"].read_text())["segGroups"]:
        object_of_segment[group["segments"]] = group["objectId"]
    things = json.loads((folder / f"{folder.name}.kinds.json").read_text())["objects"]
    return object_of_segment[segment], [thing for thing in things if thing["pair"]]


def count_answers(thing: dict, answers: np.ndarray, counts: Counts) -> None:
    """Adds to the counts the classes 0..20 that are predicted for points (n,) of an object of a pair."""
    members = [SCANNET20.names.index(name) for name in PAIRS[thing["pair"]].classes]
    right = answers == SCANNET20.names.index(thing["class"])
    found = len(answers), np.isin(answers, members).sum(), right.sum()
    total = counts.setdefault(thing["kind"], _no_pairs())[thing["pair"]][thing["class"]]
    total[:] = np.add(total, found).tolist()


def count_scan(folder: Path, predicted: np.ndarray, counts: Counts) -> None:
    """Adds a generated scan to the counts, from the nyu40 ids predicted for its vertices (V,) in the mesh's order.

    Raises ValueError for another number of vertices, OSError where the scan lacks a file.
    """
    owner, things = objects_of_pairs(folder)
    if predicted.shape != owner.shape:
        raise ValueError(f"{folder.name}: {predicted.size} predicted vertices, but the scan has {len(owner)}")
    classes = SCANNET20.class_of[predicted]  # (V,)
    for thing in things:
        count_answers(thing, classes[owner == thing["objectId"]], counts)


def count_predictions(scans: Path, predictions: Path) -> Counts:
    """Counts over the scans of which `predictions` holds <scan>.txt. Raises ValueError or OSError, as count_scan."""
    files = sorted(predictions.glob("*.txt"))
    if not files:
        raise ValueError(f"{predictions} holds no predictions; eval_scannet.py --predictions writes them")
    counts = no_counts()
    for file in files:
        count_scan(scans / "scans" / file.stem, np.loadtxt(file, dtype=int, ndmin=1), counts)
    return counts


def scores(counts: Counts) -> dict[str, dict[str, float | None]]:
    """kind -> score -> value as defined above, and the number of "vertices"; None where there is nothing to score."""
    result = {}
    for kind, pairs in counts.items():
        vertices, answered, right = np.sum([n for classes in pairs.values() for n in classes.values()], axis=0).tolist()
        parts = {"right": (right, vertices), "answered": (answered, vertices), "decided": (right, answered)}
        shares = {name: part / whole if whole else None for name, (part, whole) in parts.items()}
        result[kind] = {"vertices": vertices, **shares, "told apart": _told_apart(pairs)}
    return result


def _told_apart(pairs: dict[str, dict[str, list[int]]]) -> float | None:
    """Over the pairs of which two classes or more were answered with a class of the pair; None without such a pair."""
    total = weight = 0.0
    for classes in pairs.values():
        shares = [right / answered for _, answered, right in classes.values() if answered]
        if len(shares) > 1:
            answered = sum(n for _, n, _ in classes.values())
            total += answered * (sum(shares) - 1) / (len(shares) - 1)  # = (m - 1/n) / (1 - 1/n)
            weight += answered
    return total / weight if weight else None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, help="what make_synthetic.py wrote")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of nyu40 ids, one a line, <scan>.txt")
    args = parser.parse_args(argv)
    try:
        counts = count_predictions(args.scans, args.predictions)
        report = json.loads((args.scans / "synthetic.json").read_text())
        if "oracles" not in report:
            raise ValueError(f"{args.scans} holds rooms of style scanned; kinds are those of style plain")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = scores(counts)
    print(f"{'':18}" + "".join(f"{kind:>8}" for kind in found))
    for name in found["near"]:
        values = [found[kind][name] for kind in found]
        texts = ["-" if value is None else f"{value}" if name == "vertices" else f"{value:.3f}" for value in values]
        print(f"{name:18}" + "".join(f"{text:>8}" for text in texts))
    for name, accuracy in report["oracles"].items():
        print(f"{name + ' oracle':18}" + "".join(f"{accuracy.get(kind, float('nan')):8.3f}" for kind in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
