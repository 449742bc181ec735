"""A folder of your own clouds -> one HDF5 scene file a cloud, and manifest.json, to train on.

    python scripts/preprocess_clouds.py --scans DIR --draft-classes classes.json
    python scripts/preprocess_clouds.py --scans DIR --classes classes.json --out DIR [--splits DIR | --cut]

Every PLY, PCD, LAS, LAZ, E57, OBJ, XYZ, TXT, CSV, NPY or NPZ file in DIR and the folders below is a scan: points or a
mesh, metres, +z up, with or without colours, normals, intensities and labels. What is read by which name:
data/columns.py. The first command counts the labels and writes a label file, in which you then name the classes, join
or drop some; the second one makes the scenes. A scene is named by its folders and file: Area_5/office.ply is
Area_5_office.

A scan that cannot be read costs one line and the exit status 1; the others go on. Stopping, running again and --shard
are as in scripts/preprocess_scannet.py.
"""

import argparse
import functools
import json
import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from data.clouds import find_clouds, read_cloud, read_labels, read_part
from data.columns import LABELS
from data.labels import BUILT_IN, LabelSpace, from_json, histogram, label_space
from data.preprocessing import INTERRUPTED, Options, Task, add_flags, listed_tasks, make_scenes, read_splits
from data.scans import ScanError
from data.scenes import SPLITS

EVERY = 5  # one of so many labelled clouds is for validation
# Standard classes of the ASPRS's LAS specification 1.4-R15; key-points and overlap are of its point formats 0 to 5
ASPRS_UNANNOTATED = [0, 1]  # "created, never classified" and "unclassified"
ASPRS = (  # the ids from 2 on
    "ground, low vegetation, medium vegetation, high vegetation, building, low point (noise), model key-point, water, "
    "rail, road surface, overlap, wire - guard (shield), wire - conductor (phase), transmission tower, "
    "wire-structure connector, bridge deck, high noise"
).split(", ")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        clouds = find_clouds(args.scans)
        if args.draft_classes:
            return draft_classes(args.draft_classes, clouds, args.label_property)
        space = label_space(args.classes)
        tasks, expected, failed = choose_tasks(args, clouds)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    options = Options(args.out, space, args.normals, may_be_unlabelled=SPLITS)
    return make_scenes(tasks, options, expected, failed, args.workers, args.shard)


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, help="folder of clouds, and of folders of them")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--classes", help=f"label file: which ids are which classes; or {', '.join(BUILT_IN)}")
    what.add_argument("--draft-classes", type=Path, metavar="FILE", help="count the labels and write a label file")
    parser.add_argument("--out", type=Path, help="folder for scenes/ and manifest.json")
    parser.add_argument("--label-property", metavar="NAME", help=f"default: the first there is of {', '.join(LABELS)}")
    splits = parser.add_mutually_exclusive_group()
    default = f"folders train, val and test in --scans; else one of {EVERY} clouds is val, those without labels test"
    splits.add_argument("--splits", type=Path, help=f"folder of train.txt, val.txt, test.txt (default: {default})")
    splits.add_argument("--cut", action="store_true", help="cut a single scan in two, one to train and one for val")
    add_flags(parser)
    parser.add_argument("--normals", action="store_true", help="of meshes that have none, store vertex normals too")
    args = parser.parse_args(argv)
    if args.classes and not args.out:
        parser.error("--classes needs --out")
    return args


def choose_tasks(args, clouds) -> tuple[list[Task], dict[str, int], dict[str, str]]:
    """The scans to preprocess, {split: number wanted}, {scene name: why it is left out}. Raises ValueError."""
    if args.cut:
        if len(clouds) > 1:
            raise ValueError(f"--cut is for a single scan, and {args.scans} has {len(clouds)}; leave it out")
        ((name, path),) = clouds.items()
        parts = {part: functools.partial(read_part, path, args.label_property, part) for part in ("train", "val")}
        tasks = [Task(f"{name}_{part}", path, part, read) for part, read in parts.items()]
        return tasks, {"train": 1, "val": 1, "test": 0}, {}
    listed = choose_splits(args, clouds)
    read = functools.partial(read_cloud, label_property=args.label_property)
    tasks, failed = listed_tasks(listed, clouds, read, args.splits, f"no cloud in {args.scans} is called so")
    return tasks, {split: len(listed[split]) for split in SPLITS}, failed


def choose_splits(args, clouds) -> dict[str, list[str]]:
    """{split: scene names}. Raises ValueError."""
    if args.splits:
        return read_splits(args.splits)
    if (args.scans / "train").is_dir() and (args.scans / "val").is_dir():
        folder = {name: path.relative_to(args.scans).parts[0] for name, path in clouds.items()}
        if stray := [clouds[name] for name in clouds if folder[name] not in SPLITS]:
            raise ValueError(f"{stray[0]}: is in none of the folders train, val and test; move it, or give --splits")
        return {split: [name for name in clouds if folder[name] == split] for split in SPLITS}
    found = {name: is_labelled(clouds[name], args.label_property) for name in tqdm(clouds, "labels", unit="scan")}
    labelled = [name for name, is_labelled in found.items() if is_labelled]
    val = labelled[EVERY - 1 :: EVERY] or labelled[1:][-1:]
    listed = {"train": [name for name, known in found.items() if known is not False and name not in val], "val": val}
    listed["test"] = [name for name, known in found.items() if known is False]
    counts = ", ".join(f"{split} {len(listed[split])}" for split in SPLITS)
    print(f"splits: every {EVERY}th labelled scan is val, the other ones train, unlabelled ones test: {counts}")
    if not labelled:
        print(f"{no_labels(args.label_property)}, so none can be trained on; --label-property names theirs")
    if len(labelled) == 1:
        print("the one labelled scan is train, and none is val; --cut makes two of it")
    return listed


def no_labels(label_property) -> str:
    wanted = label_property or f"one of {', '.join(LABELS)}"
    return f"no cloud has labels (the property {wanted})"


def is_labelled(path, label_property) -> bool | None:
    """Whether a cloud has labels; None for one that cannot be read, which fails later."""
    try:
        return read_labels(path, label_property)[1] is not None
    except ScanError:
        return None


def draft_classes(file: Path, clouds: dict[str, Path], label_property: str | None) -> int:
    """Print how often each id occurs, and write a label file to fill in. Returns the exit code; raises ValueError."""
    if file.exists():
        raise ValueError(f"--draft-classes {file}: is there already and stays as it is; choose another name")
    if file.stem in BUILT_IN:
        raise ValueError(f"--draft-classes {file}: {file.stem} is a built-in label space; choose another name")
    counts, sources, failed = Counter(), set(), 0
    for path in tqdm(clouds.values(), unit="scan"):
        try:
            name, labels = read_labels(path, label_property)
        except ScanError as error:
            tqdm.write(f"failed: {error}")
            failed += 1
            continue
        if labels is not None:
            counts.update(histogram(labels))
            sources.add(name if path.suffix.lower() in (".las", ".laz") else None)
    if not counts:
        raise ValueError(f"{no_labels(label_property)}; give --label-property NAME")
    is_las = sources == {"classification"}
    if is_las and not counts.keys() - {*ASPRS_UNANNOTATED}:
        raise ValueError("all points are unclassified (0 or 1), nothing is to be learnt; give --label-property NAME")
    space = draft_space(file.stem, sorted(counts), is_las)
    print(f"{'id':>6}{'points':>16}{'%':>7}  class")
    for id, count in sorted(counts.items()):
        name = "unannotated" if id in space.unannotated else space.names[space.class_of[id]]
        print(f"{id:>6}{count:>16,}{100 * count / counts.total():>7.1f}  {name}")
    content = space.as_json()
    classes = ",\n".join(f"  {json.dumps(entry)}" for entry in content.pop("classes"))  # a line each, to be edited
    head, *tail = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as stream:
        stream.write("{\n" + ",\n".join([head, f' "classes": [\n{classes}\n ]', *tail]) + "\n}\n")
    advice = "ids that are no class go into unannotated (not learnt) or other (learnt as class 0)"
    print(f"{file}: name the classes; {advice}")
    return 1 if failed else 0


def draft_space(name: str, ids: list[int], is_las: bool) -> LabelSpace:
    """A class an id; those of the ASPRS's ids have its names. Raises LabelError."""
    unannotated = ASPRS_UNANNOTATED if is_las else []
    known = dict(enumerate(ASPRS, start=2)) if is_las else {}
    classes = [{"id": id, "name": known.get(id, f"class {id}")} for id in ids if id not in unannotated]
    return from_json({"name": name, "classes": classes, "unannotated": unannotated, "other": []})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sys.exit(main())
