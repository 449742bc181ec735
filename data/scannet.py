"""ScanNet's raw scans: mesh, labels and alignment, as arrays in the mesh's vertex order; and ScanNet's splits.

Files: data/README.md. Source: ScanNet's benchmark documentation (splits) and its own tools (labels).
"""

import csv
import difflib
import functools
import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from data.labels import NUM_IDS, SCANNET20, LabelError, LabelSpace, as_labels
from data.labels import label_space as named_space
from data.ply import coordinate_step, in_place, ply_column, read_mesh, read_ply
from data.preprocessing import Options, Task, make_scenes, read_splits
from data.scans import Scan, ScanError, named_categories
from data.scenes import SPLITS

NUM_NYU40 = 41  # ids 0 (no annotation) to 40, which labels.ply holds
NYU40_COLUMN, ID_COLUMN = "nyu40id", "id"  # of the label table
SPLIT_SIZES = {"train": 1201, "val": 312, "test": 100}  # scans, ScanNet v2
FIRST_TEST_SPACE, LAST_TEST_SPACE = 707, 806
VAL_SPACES = frozenset(
    int(space)
    for space in """
    11 15 19 25 30 46 50 63 64 77 81 84 86 88 95 100 131 139 144 146 149 153 164 169 187 193 196 203 207 208 217
    221 222 231 246 249 251 256 257 277 278 300 304 307 314 316 328 329 334 338 342 343 351 353 354 355 356 357
    377 378 382 389 406 412 414 423 426 427 430 432 435 441 458 461 462 474 488 490 494 496 500 518 527 535 549
    550 552 553 558 559 565 568 574 575 578 580 583 591 593 595 598 599 606 607 608 609 616 618 621 629 633 643
    644 645 647 648 651 652 653 655 658 660 663 664 665 670 671 678 684 685 686 689 690 693 695 696 697 699 700
    701 702 704
    """.split()
)
SCAN_ID = re.compile(r"scene(\d{4})_(\d{2})")
# labels.ply of these scans holds ids that nyu40 does not have; they mean nothing and count as unannotated
KNOWN_STRAY_LABELS = {"scene0270_00": {50}, "scene0270_02": {50}, "scene0384_00": {149}}
SAME_PLACE = 0.001  # metres between a vertex of the mesh and the same one of labels.ply
RIGID = 1e-3  # |R^T R - 1| of a rotation that is written with a few digits


def preprocess_scans(
    scans: Path,
    out: Path,
    labels: Path | None = None,
    splits: Path | None = None,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
    normals: bool = False,
    axis_align: bool = False,
    label_space: str | Path = SCANNET20.name,
    label_column: str | None = None,
) -> int:
    """All that scripts/preprocess_scannet.py does, whose --help says what the arguments are. Returns its exit code."""
    try:
        space = named_space(label_space)
        column = label_column or column_of(space)
        if column != NYU40_COLUMN and not labels:
            raise ValueError(f"{space.name} has other ids than labels.ply: give the label table (--labels)")
        label_table = read_label_table(labels, column) if labels else None
        print(f"label space {space.name}: ids are those of {f'the column {column} of {labels}' if labels else 'nyu40'}")
        folders = find_folders(scans)
        listed, expected, failed = choose_scans(scans, folders, splits)
    except (ScanError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tasks = [
        Task(scan_id, folders[scan_id], split, functools.partial(read_scan, folders[scan_id], label_table))
        for split in SPLITS
        for scan_id in listed[split]
    ]
    categories = label_table or ()
    return make_scenes(tasks, Options(out, space, normals, axis_align), expected, failed, workers, shard, categories)


def column_of(space: LabelSpace) -> str:
    """The label table's column that holds the ids of the space: if none is above 40, they are taken for nyu40's."""
    return ID_COLUMN if any(space.is_annotated[NUM_NYU40:]) else NYU40_COLUMN


def find_folders(scans: Path) -> dict[str, Path]:
    """Scan id -> folder, for every folder in `scans`, `scans`/scans and `scans`/scans_test."""
    if not scans.is_dir():
        raise ValueError(f"--scans {scans}: no such folder")
    places = [place for place in (scans / "scans_test", scans / "scans", scans) if place.is_dir()]
    return {folder.name: folder for place in places for folder in sorted(place.iterdir()) if folder.is_dir()}


def choose_scans(scans, folders, splits_dir) -> tuple[dict, dict, dict]:
    """({split: scan ids that are there}, {split: number wanted}, {scan id: why it is left out})."""
    listed, failed = {split: [] for split in SPLITS}, {}
    if splits_dir is not None:
        wanted = read_splits(splits_dir)
        for split in SPLITS:
            for scan_id in wanted[split]:
                if scan_id in folders:
                    listed[split].append(scan_id)
                else:
                    failed[scan_id] = f"{scans / scan_id}: listed in {split}.txt, but there is no such folder"
        return listed, {split: len(wanted[split]) for split in SPLITS}, failed
    scan_ids = sorted(filter(SCAN_ID.fullmatch, folders))
    if not scan_ids:
        raise ValueError(f"--scans {scans}: no folder is named as ScanNet's are (scene0000_00); give --splits")
    for scan_id in scan_ids:
        try:
            listed[official_split(scan_id)].append(scan_id)
        except ValueError as error:
            failed[scan_id] = str(error)
    return listed, dict(SPLIT_SIZES), failed


def official_split(scan_id: str) -> str:
    """Split of ScanNet v2 ("train", "val" or "test") that a scan such as "scene0011_00" belongs to.

    Raises ValueError if the id is not of that form or its space is not one of ScanNet's (0..806).
    """
    match = SCAN_ID.fullmatch(scan_id)
    if match is None:
        raise ValueError(f"'{scan_id}' is not a ScanNet scan id (scene<4-digit space>_<2-digit scan>); give --splits")
    space = int(match.group(1))
    if space > LAST_TEST_SPACE:
        raise ValueError(f"'{scan_id}': ScanNet has no space {space} (0 to {LAST_TEST_SPACE}); give --splits")
    if space >= FIRST_TEST_SPACE:
        return "test"
    return "val" if space in VAL_SPACES else "train"


def scan_files(folder) -> dict[str, Path]:
    """The files of the scan in `folder` that are read, whether they are there or not."""
    folder = Path(folder)
    name = folder.name
    return {
        "mesh": folder / f"{name}_vh_clean_2.ply",
        "labels": folder / f"{name}_vh_clean_2.labels.ply",
        "segments": folder / f"{name}_vh_clean_2.0.010000.segs.json",
        # not <name>_vh_clean.aggregation.json: its segments are those of the full-resolution mesh
        "aggregation": folder / f"{name}.aggregation.json",
        "info": folder / f"{name}.txt",
    }


def read_scan(folder, label_table: dict[str, int] | None = None) -> Scan:
    """Read the scan in `folder`, which is named by its scan id.

    With `label_table` (from `read_label_table`) labels come from segments, aggregation and table, without it from
    labels.ply, which holds nyu40 ids. A scan that has neither aggregation nor labels.ply (ScanNet's test scans) has
    labels None; one that has only the source not asked for is an error, as the two can differ. Raises ScanError.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScanError(f"{folder}: no such folder")
    files = scan_files(folder)
    mesh = read_mesh(files["mesh"])
    labels, aggregation = files["labels"], files["aggregation"]
    label, unknown = None, Counter()
    if label_table is not None and aggregation.exists():
        label, unknown = _labels_from_segments(files["segments"], aggregation, label_table, len(mesh.xyz))
    elif label_table is not None and labels.exists():
        raise ScanError(f"{aggregation}: missing, and with a label table labels come from it; add it or drop --labels")
    elif labels.exists():
        label = _labels_from_ply(labels, KNOWN_STRAY_LABELS.get(folder.name, ()), mesh)
    elif aggregation.exists():
        raise ScanError(f"{labels}: missing, though the scan is annotated; add it or give the label table (--labels)")
    alignment = read_axis_alignment(files["info"])
    return Scan(folder.name, label=label, axis_alignment=alignment, unknown=unknown, **mesh._asdict())


def read_label_table(path, column: str = NYU40_COLUMN) -> dict[str, int]:
    """Raw category name -> the id in that column of ScanNet's scannetv2-labels.combined.tsv or a table like it.

    Names are stripped; a category without an id is unannotated (0); the last of equal names counts, as in ScanNet's
    own tools. A name in quotes is known with and without them. Raises ScanError.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, ValueError, csv.Error) as error:
        raise ScanError(f"{path}: the label table cannot be read ({error})") from error
    header = [_unquoted(cell) for cell in rows[0]] if rows else []
    for wanted in ("raw_category", column):
        if wanted not in header:
            raise ScanError(
                f"{path}: the label table has no column '{wanted}' (it has: {', '.join(header)[:200]}); "
                "ScanNet v2's scannetv2-labels.combined.tsv is needed, the v1 table has other columns"
            )
    name_column, id_column = header.index("raw_category"), header.index(column)
    num_ids = NUM_NYU40 if column == NYU40_COLUMN else NUM_IDS
    table, without_quotes = {}, {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            name, id = row[name_column].strip(), int(_unquoted(row[id_column]) or 0)
        except (IndexError, ValueError) as error:
            raise ScanError(f"{path}: row {line} has no raw_category or no integer {column}") from error
        if not 0 <= id < num_ids:
            raise ScanError(f"{path}: row {line} has {column} {id}, not 0 to {num_ids - 1}")
        table[name] = without_quotes[_unquoted(name)] = id
    return without_quotes | table


def read_axis_alignment(path) -> np.ndarray | None:
    """(4, 4) float64 from a scan's `key = value` file; None if there is no such file or no axisAlignment in it.

    Raises ScanError if the key is spelt otherwise, or if its value is no rigid motion.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return None
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error})") from error
    values = {key.strip(): value for key, _, value in (line.partition("=") for line in lines)}
    if "axisAlignment" not in values:
        keys = [re.split(r"[=:\s]", line.strip(), maxsplit=1)[0] for line in lines]
        if close := [key for key in keys if difflib.get_close_matches("axisalignment", [key.lower()], cutoff=0.8)]:
            raise ScanError(f"{path}: has the key '{close[0]}'; it has to be written axisAlignment = 16 numbers")
        return None
    try:
        matrix = np.array([float(number) for number in values["axisAlignment"].split()]).reshape(4, 4)
    except ValueError as error:
        raise ScanError(f"{path}: axisAlignment is not 16 numbers") from error
    if not np.isfinite(matrix).all():
        raise ScanError(f"{path}: axisAlignment holds NaN or infinite numbers")
    rotation = matrix[:3, :3]
    turns = np.abs(rotation.T @ rotation - np.eye(3)).max() <= RIGID and np.linalg.det(rotation) > 0
    if not turns or np.abs(matrix[3] - [0, 0, 0, 1]).max() > RIGID:
        raise ScanError(f"{path}: axisAlignment is no rigid motion: a rotation, a translation and 0 0 0 1, row by row")
    return matrix


def _labels_from_ply(path, stray, mesh):
    """(V,) uint16 of labels.ply, whose vertices have to be the mesh's in its order; ids in `stray` become 0."""
    ply = read_ply(path)
    try:
        labels = as_labels(ply_column(path, ply, "vertex", "label", "iu"), "label")
    except LabelError as error:
        raise ScanError(f"{path}: {error}") from error
    if len(labels) != len(mesh.xyz):
        raise ScanError(f"{path}: {len(labels)} labels for the mesh's {len(mesh.xyz)} vertices")
    columns = [ply_column(path, ply, "vertex", key, "fiu") for key in "xyz"]
    xyz = np.stack(columns, axis=1).astype(np.float64)
    there = in_place(mesh.xyz, mesh.offset)
    apart = ~(np.abs(xyz - there).max(axis=1) <= SAME_PLACE)  # NaN too
    if apart.any():
        first, step = np.flatnonzero(apart)[0], max(coordinate_step(columns), mesh.step)
        cause = "not the mesh's, or in another order"
        if step > SAME_PLACE:
            cause += f", or one of the files has coordinates too coarse to tell (steps of {step:.2g} m)"
        raise ScanError(
            f"{path}: its vertices are {cause}: vertex {first} is at {_place(xyz[first])}, "
            f"the mesh's at {_place(there[first])}. Write it again with the mesh's own vertices"
        )
    labels[np.isin(labels, list(stray))] = 0
    outside = np.unique(labels[labels >= NUM_NYU40])
    if len(outside):
        raise ScanError(f"{path}: labels {', '.join(map(str, outside[:5]))} are not nyu40 ids (0 to {NUM_NYU40 - 1})")
    return labels


def _place(point):
    return " ".join(f"{value:.3f}" for value in point)


def _labels_from_segments(segments_path, aggregation_path, label_table, vertices):
    """(V,) uint16: each annotated instance gives its segments' vertices the id of its category; the unknown categories.

    Categories that the table lacks are unannotated (0), an error if nothing else is left. An instance listed twice
    (scene0217_00) changes nothing; of instances that share a segment the last counts, as in ScanNet's own tools.
    """
    segments = _integers(segments_path, "segIndices", _read_json(segments_path).get("segIndices"))
    if len(segments) != vertices:
        raise ScanError(f"{segments_path}: {len(segments)} segment indices for the mesh's {vertices} vertices")
    if segments.min() < 0:
        raise ScanError(f"{segments_path}: negative segment index {segments.min()}")
    groups = _read_json(aggregation_path).get("segGroups")
    if not isinstance(groups, list):
        raise ScanError(f"{aggregation_path}: 'segGroups' is not a list")
    members = [np.zeros(0, np.int64)]  # the segments of each group
    for number, group in enumerate(groups):
        if not isinstance(group, dict) or not isinstance(group.get("label"), str):
            raise ScanError(f"{aggregation_path}: segGroups[{number}] has no 'label'")
        members.append(_integers(aggregation_path, f"segGroups[{number}].segments", group.get("segments")))
    categories = [group["label"].strip() for group in groups]
    unknown = Counter(category for category in categories if category not in label_table)
    group_label = np.array([label_table.get(category, 0) for category in categories], np.uint16)
    group_of_member = np.repeat(np.arange(len(groups)), [len(ids) for ids in members[1:]])
    members = np.concatenate(members)

    segment_ids, segment_of_vertex = np.unique(segments, return_inverse=True)
    position = np.minimum(np.searchsorted(segment_ids, members), len(segment_ids) - 1)
    if len(absent := np.flatnonzero(segment_ids[position] != members)):
        number, segment = group_of_member[absent[0]], members[absent[0]]
        raise ScanError(f"{aggregation_path}: segGroups[{number}] lists segment {segment}, which no vertex has")
    segment_label = np.zeros(len(segment_ids), np.uint16)
    segment_label[position] = group_label[group_of_member]  # in the groups' order, so the last one stays
    if unknown and not segment_label.any():
        raise ScanError(
            f"{aggregation_path}: no label is left, as the label table lacks {named_categories(unknown, label_table)}"
        )
    return segment_label[segment_of_vertex], unknown


def _unquoted(cell):
    """As a spreadsheet reads it: "a ""b"" c" is a "b" c."""
    return "".join(next(csv.reader([cell.strip()], delimiter="\t"))).strip()


def _read_json(path):
    try:
        if not path.is_file():
            raise ScanError(f"{path}: missing, and labels from the label table need it")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScanError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ScanError(f"{path}: holds a JSON {type(content).__name__}, not an object")
    return content


def _integers(path, key, values):
    """The JSON list of integers `values`, found at `key`, as an (n,) int64 array."""
    if not isinstance(values, list) or not all(type(value) is int and abs(value) < 2**63 for value in values):
        raise ScanError(f"{path}: '{key}' is not a list of integers")
    return np.array(values, dtype=np.int64)
