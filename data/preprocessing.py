"""Raw scans -> one HDF5 scene file a scan, and manifest.json. What goes in and comes out: data/README.md."""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.labels import CLASS_NAMES, NUM_CLASSES, NUM_NYU40, NYU40_TO_CLASS
from data.oddities import Oddity, oddities
from data.ply import ScanError, in_place, near_origin, vertex_normals
from data.scannet import (
    SCAN_ID,
    SPLIT_SIZES,
    named_categories,
    official_split,
    read_label_table,
    read_scan,
    scan_files,
)
from data.scenes import (
    FIELDS,
    FORMAT_VERSION,
    MANIFEST,
    SCENE_NAME,
    SPLITS,
    Scene,
    SceneError,
    read_scene,
    write_manifest,
    write_scene,
)

INTERRUPTED = 130  # exit code of Ctrl-C, as in a shell


class Task(NamedTuple):
    """One scan to preprocess; the rest is the same for all."""

    scan_id: str
    folder: Path
    split: str
    out: Path
    label_table: dict[str, int] | None
    normals: bool
    axis_align: bool


@dataclass
class Outcome:
    """What became of a scan."""

    scan_id: str
    cause: str | None = None  # of its failure
    entry: dict | None = None  # for the manifest
    is_new: bool = False  # the scene was written; else it was there already
    unknown: Counter = field(default_factory=Counter)  # instances by category, of those that the label table lacks
    odd: list[Oddity] = field(default_factory=list)
    offset: np.ndarray | None = None  # (3,), by which map coordinates were moved
    unaligned: bool = False  # --axis-align found no alignment


def preprocess_scans(
    scans: Path,
    out: Path,
    labels: Path | None = None,
    splits: Path | None = None,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
    normals: bool = False,
    axis_align: bool = False,
) -> int:
    """All that scripts/preprocess_scannet.py does, whose --help says what the arguments are. Returns its exit code."""
    try:
        label_table = read_label_table(labels) if labels else None
        folders = find_folders(scans)
        listed, expected, failed = choose_scans(scans, folders, splits)
        scenes_dir = out / "scenes"
        scenes_dir.mkdir(parents=True, exist_ok=True)
    except (ScanError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tasks = [
        Task(scan_id, folders[scan_id], split, out, label_table, normals, axis_align)
        for split in SPLITS
        for scan_id in listed[split]
    ]
    if shard:
        index, shards = shard
        tasks, failed = tasks[index::shards], {}  # folders that are missing are told by the run without --shard
    for task in tasks:  # of a run that was killed; other shards' files are theirs
        (scenes_dir / f"{task.scan_id}.h5.tmp").unlink(missing_ok=True)
    for cause in failed.values():
        print(f"failed: {cause}")
    try:
        done, causes = run_all(tasks, workers)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    failed |= causes
    print_oddities(done, label_table)
    scenes, made = {outcome.scan_id: outcome.entry for outcome in done}, sum(outcome.is_new for outcome in done)
    result = f"{made} scenes made, {len(scenes) - made} were whole already, {len(failed)} scans failed -> {out}"
    if shard:
        print(f"shard {index} of {shards}: {result}; after all shards, run without --shard for manifest.json")
        return 1 if failed else 0
    if not scenes:
        print(f"no scene was made, manifest.json in {out} was not touched", file=sys.stderr)
        return 1
    kept = {split: [scan_id for scan_id in listed[split] if scan_id in scenes] for split in SPLITS}
    manifest = {"format_version": FORMAT_VERSION, "splits": kept, "expected": expected}
    manifest |= {"failed": dict(sorted(failed.items())), "scenes": dict(sorted(scenes.items()))}
    try:
        write_manifest(out, manifest)
    except OSError as error:
        print(f"error: {out / MANIFEST} was not written ({error})", file=sys.stderr)
        return 1
    print_summary(manifest)
    print(result)
    return 1 if failed else 0


def run_all(tasks, workers) -> tuple[list[Outcome], dict[str, str]]:
    """The outcomes of scans that have a scene, and {scan id: cause} of the others. A line for what fails or is odd."""
    done, failed = [], {}
    for outcome in tqdm(run(tasks, workers), total=len(tasks), unit="scan"):
        if outcome.cause is not None:
            failed[outcome.scan_id] = outcome.cause
            tqdm.write(f"failed: {outcome.cause}")
            continue
        done.append(outcome)
        if outcome.odd:
            tqdm.write(f"odd: {outcome.scan_id}: {'; '.join(oddity.what for oddity in outcome.odd)}")
    return done, failed


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


def read_splits(splits_dir) -> dict[str, list[str]]:
    """The ids in train.txt, val.txt and test.txt, one a line; a missing file is an empty split. Raises ValueError."""
    wanted, seen = {}, {}
    paths = {split: splits_dir / f"{split}.txt" for split in SPLITS}
    if not any(path.is_file() for path in paths.values()):
        raise ValueError(f"--splits {splits_dir}: has none of train.txt, val.txt, test.txt")
    for split, path in paths.items():
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if path.is_file() else []
        wanted[split] = [line.strip() for line in lines if line.strip()]
        for scan_id in wanted[split]:
            if not SCENE_NAME.fullmatch(scan_id):
                raise ValueError(f"{path}: {scan_id!r} is not a scan id (letters, digits, '_', '-', '.'; no path)")
            if scan_id in seen:
                raise ValueError(f"{path}: '{scan_id}' is listed twice (before in {seen[scan_id].name})")
            seen[scan_id] = path
    return wanted


def run(tasks, workers):
    """Yield `attempt`'s result for every task, in the order they finish."""
    if workers == 1 or len(tasks) < 2:
        yield from map(attempt, tasks)
        return
    executor = ProcessPoolExecutor(
        max_workers=min(workers, len(tasks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=follow_parent,
    )
    try:
        folders = {executor.submit(attempt, task): task.folder for task in tasks}
        for future in as_completed(folders):
            try:
                yield future.result()
            except BrokenProcessPool:
                folder = folders[future]
                cause = f"{folder}: a worker process was killed (out of memory?); use fewer --workers"
                yield Outcome(folder.name, cause)
    finally:
        executor.shutdown(cancel_futures=True)


def follow_parent():
    """In a worker: Ctrl-C is the parent's, which lets scenes under way finish; if it is killed, the worker ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def attempt(task: Task) -> Outcome:
    """`preprocess`; whatever it raises is the scan's failure, and the other scans go on."""
    try:
        return preprocess(task)
    except (ScanError, SceneError) as error:
        cause = str(error)
    except Exception as error:
        cause = f"{task.folder}: {type(error).__name__}: {error}"
    return Outcome(task.scan_id, " ".join(cause.split()))


def preprocess(task: Task) -> Outcome:
    """Make the scene file unless it holds the same already. Raises ScanError or SceneError."""
    path, outcome = task.out / "scenes" / f"{task.scan_id}.h5", Outcome(task.scan_id)
    source = fingerprint(task)
    scan = read_scan(task.folder, task.label_table)
    labelled = scan.nyu40 is not None
    if not labelled and task.split != "test":
        raise ScanError(f"{task.folder}: has neither labels.ply nor aggregation, and {task.split} scans need labels")
    xyz, offset = scan.xyz, scan.offset
    if task.axis_align and scan.axis_alignment is None:
        if task.split != "test":
            info = scan_files(task.folder)["info"]
            raise ScanError(f"{info}: there is no axisAlignment, and --axis-align needs one of every {task.split} scan")
        outcome.unaligned = True
    elif task.axis_align:
        rotation, translation = scan.axis_alignment[:3, :3], scan.axis_alignment[:3, 3]
        xyz, offset = near_origin(in_place(xyz, offset) @ rotation.T + translation)
    normal = vertex_normals(xyz, scan.faces) if task.normals else None
    scene = Scene(task.scan_id, xyz, scan.nyu40, scan.colour, normal, scan.faces, offset, source)
    outcome.unknown, outcome.odd, outcome.offset = scan.unknown, oddities(xyz, scan.step), offset
    outcome.is_new = not is_stored(scene, path)
    if outcome.is_new:
        write_scene(path, scene)
    outcome.entry = {
        "file": f"scenes/{path.name}",
        "vertices": len(scene.xyz),
        "labelled": labelled,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "nyu40_histogram": np.bincount(scene.nyu40 if labelled else [], minlength=NUM_NYU40).tolist(),
    }
    return outcome


def is_stored(scene: Scene, path: Path) -> bool:
    """Whether the file is whole and holds just this scene."""
    try:
        found = read_scene(path, fields=None)
    except SceneError:
        return False
    kept = [np.array_equal(getattr(found, name), getattr(scene, name)) for name in (*FIELDS, "offset")]
    return found.source == scene.source and all(kept)


def fingerprint(task: Task) -> str:
    """SHA-256 over the options and the content of the scan's files: what the scene depends on."""
    table = None if task.label_table is None else sorted(task.label_table.items())
    digest = hashlib.sha256(repr((FORMAT_VERSION, task.normals, task.axis_align, table)).encode())
    for role, path in scan_files(task.folder).items():
        if path.is_file():
            digest.update(role.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def print_oddities(done: list[Outcome], label_table: dict[str, int] | None):
    """What was odd in the scans that were read."""
    if unknown := sum((outcome.unknown for outcome in done), Counter()):
        named, of_scans = named_categories(unknown, label_table), f"of {len(done)} scans"
        print(f"{len(unknown)} categories {of_scans} are not in the label table, so not annotated: {named}")
    if odd := sum(bool(outcome.odd) for outcome in done):
        print(f"{odd} of {len(done)} scans look odd (metres with +z up are expected); nothing was changed")
    if moved := [outcome for outcome in done if outcome.offset is not None]:
        first = f"{moved[0].scan_id} by {' '.join(f'{distance:.0f}' for distance in moved[0].offset)} m"
        print(f"{len(moved)} scans have map coordinates and were moved, {first}; their scenes keep the offset")
    if unaligned := [outcome.scan_id for outcome in done if outcome.unaligned]:
        print(f"{len(unaligned)} test scans have no axisAlignment and stay as they are: {', '.join(unaligned)}")


def print_summary(manifest):
    """Counts against the expected ones, and the share of every class among a split's labelled vertices."""
    print(f"{'split':<16}" + "".join(f"{split:>12}" for split in SPLITS))
    rows = {"scans": [], "expected": [], "vertices": [], "labelled": []}
    shares = []  # a split: (1 + NUM_CLASSES,) fractions
    for split in SPLITS:
        scenes = [manifest["scenes"][scan_id] for scan_id in manifest["splits"][split]]
        rows["scans"].append(len(scenes))
        rows["expected"].append(manifest["expected"][split])
        rows["vertices"].append(sum(scene["vertices"] for scene in scenes))
        histogram = np.sum([scene["nyu40_histogram"] for scene in scenes] or np.zeros((1, NUM_NYU40)), axis=0)  # (41,)
        rows["labelled"].append(int(histogram.sum()))
        classes = np.bincount(NYU40_TO_CLASS, histogram, minlength=NUM_CLASSES)  # (21,)
        shares.append([histogram[0], classes[0] - histogram[0], *classes[1:]] / np.maximum(histogram.sum(), 1))
    for name, counts in rows.items():
        print(f"{name:<16}" + "".join(f"{count:>12,}" for count in counts))
    print("class, % of labelled vertices")
    for row, name in enumerate(("not annotated", "other nyu40 ids", *CLASS_NAMES[1:])):
        cells = (f"{100 * share[row]:.1f}" if sum(share) else "-" for share in shares)
        print(f"{name:<16}" + "".join(f"{cell:>12}" for cell in cells))
