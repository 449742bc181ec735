"""How right a prediction is on the look-alike objects of generated rooms, by what tells their class.

    python scripts/score_kinds.py --scans datasets/synthetic_scans --predictions runs/x/eval/val-1a2b3c4d/predictions

--predictions is what eval_scannet.py --predictions writes. Two scores over the annotated vertices of these objects,
for each kind (local, near, room; data/synthetic.py says what they are):

right      right / all vertices
decided    right / those answered with a class of the object's pair: does the network tell the pair's classes apart?
           Beside it the share of vertices so answered; where that is small, the network does not know the pair yet
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from data.scannet import CLASS_NAMES, NYU40_TO_CLASS
from data.scans import scan_files
from data.synthetic_objects import PAIRS

KINDS = ("local", "near", "room")
Counts = dict[str, dict[str, list[int]]]  # kind -> pair -> vertices, answered with a class of the pair, right


def count_scan(folder: Path, predicted: np.ndarray) -> Counts:
    """Counts over one generated scan, of nyu40 ids predicted for its vertices (V,) in the mesh's order.

    Raises ValueError for another number of vertices, OSError where the scan lacks a file.
    """
    files = scan_files(folder)
    segment = np.array(json.loads(files["segments"].read_text())["segIndices"])  # (V,)
    if predicted.shape != segment.shape:
        raise ValueError(f"{folder.name}: {predicted.size} predicted vertices, but the scan has {len(segment)}")
    object_of_segment = np.full(segment.max() + 1, -1)
    for group in json.loads(files["aggregation"].read_text())["segGroups"]:
        object_of_segment[group["segments"]] = group["objectId"]
    owner, classes = object_of_segment[segment], NYU40_TO_CLASS[predicted]  # (V,) each
    counts: Counts = {kind: {pair: [0, 0, 0] for pair in PAIRS} for kind in KINDS}
    for thing in json.loads((folder / f"{folder.name}.kinds.json").read_text())["objects"]:
        if thing["pair"]:
            answers = classes[owner == thing["objectId"]]
            members = [CLASS_NAMES.index(name) for name in PAIRS[thing["pair"]].classes]
            right = np.sum(answers == CLASS_NAMES.index(thing["class"]))
            found = (len(answers), np.sum(np.isin(answers, members)), right)
            add(counts[thing["kind"]][thing["pair"]], found)
    return counts


def add(total: list[int], part) -> None:
    total[:] = [int(a + b) for a, b in zip(total, part, strict=True)]


def count_predictions(scans: Path, predictions: Path) -> Counts:
    """Counts over the scans of which `predictions` holds <scan>.txt. Raises ValueError or OSError, as count_scan."""
    files = sorted(predictions.glob("*.txt"))
    if not files:
        raise ValueError(f"{predictions} holds no predictions; eval_scannet.py --predictions writes them")
    total: Counts = {kind: {pair: [0, 0, 0] for pair in PAIRS} for kind in KINDS}
    for file in files:
        for kind, pairs in count_scan(scans / "scans" / file.stem, np.loadtxt(file, dtype=int, ndmin=1)).items():
            for pair, found in pairs.items():
                add(total[kind][pair], found)
    return total


def scores(counts: Counts) -> dict[str, dict[str, float | None]]:
    """kind -> {"vertices", "right", "answered", "decided"}: a number, and fractions, None of nothing."""
    result = {}
    for kind, pairs in counts.items():
        vertices, answered, right = np.sum(list(pairs.values()), axis=0).tolist()
        result[kind] = {
            "vertices": vertices,
            "right": right / vertices if vertices else None,
            "answered": answered / vertices if vertices else None,
            "decided": right / answered if answered else None,
        }
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, help="what make_synthetic.py wrote")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of nyu40 ids, one a line, <scan>.txt")
    args = parser.parse_args(argv)
    try:
        counts = count_predictions(args.scans, args.predictions)
        oracles = json.loads((args.scans / "synthetic.json").read_text())["oracles"]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'':18}" + "".join(f"{kind:>8}" for kind in KINDS))
    for name, values in scores_by_name(counts).items():
        print(f"{name:18}" + "".join(f"{value:>8}" for value in values))
    for name, accuracy in oracles.items():
        print(f"{name + ' oracle':18}" + "".join(f"{accuracy.get(kind, float('nan')):8.3f}" for kind in KINDS))
    return 0


def scores_by_name(counts: Counts) -> dict[str, list[str]]:
    found = scores(counts)
    rows = {"vertices": [f"{found[kind]['vertices']}" for kind in KINDS]}
    for name in ("right", "answered", "decided"):
        rows[name] = ["-" if (value := found[kind][name]) is None else f"{value:.3f}" for kind in KINDS]
    return rows


if __name__ == "__main__":
    sys.exit(main())
