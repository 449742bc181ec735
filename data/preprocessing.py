"""Raw scans -> one HDF5 scene file a scan, and manifest.json. What goes in and comes out: data/README.md."""

import argparse
import functools
import hashlib
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.labels import LabelError, LabelSpace, histogram, name_width
from data.oddities import Oddity, odd_scan
from data.ply import in_place, near_origin, vertex_normals
from data.scans import Scan, ScanError, named_categories
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

MOSTLY_BLANK = 0.9  # of the vertices without annotation; in 256 generated rooms at most 0.23 are
MANY_CLASSES = 50  # of more, only those that occur are listed
NAMED = 5  # ids outside the label space that are named
KILLED = "a worker process was killed (out of memory?); use fewer --workers"
INTERRUPTED = 130  # exit code of Ctrl-C, as in a shell


class Task(NamedTuple):
    """One scan to preprocess."""

    scan_id: str  # the scene's name
    path: Path  # file or folder, for messages
    split: str
    read: Callable[[], Scan]  # in another process; raises ScanError or LabelError


class Options(NamedTuple):
    """What is the same for all scans of a data set."""

    out: Path
    space: LabelSpace
    normals: bool = False  # store vertex normals, of a mesh that has none
    axis_align: bool = False  # apply the scans' axis alignment
    may_be_unlabelled: Sequence[str] = ("test",)  # splits


@dataclass
class Outcome:
    """What became of a scan."""

    scan_id: str
    cause: str | None = None  # of its failure
    entry: dict | None = None  # for the manifest
    is_new: bool = False  # the scene was written; else it was there already
    notes: Sequence[str] = ()
    unknown: Counter = field(default_factory=Counter)  # instances by category, of those that the label table lacks
    odd: list[Oddity] = field(default_factory=list)
    offset: np.ndarray | None = None  # (3,), by which map coordinates were moved
    unaligned: bool = False  # --axis-align found no alignment


def make_scenes(
    tasks: list[Task],
    options: Options,
    expected: dict[str, int],
    failed: dict[str, str] | None = None,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
    categories: Iterable[str] = (),
) -> int:
    """Every task's scene file, and manifest.json; a line for what fails or is odd.

    Args:
        expected: scans that a split should have; failed: {scan id: why} of those that have no task.
        shard: (I, N): every N-th task only, from the I-th on, and no manifest.
        categories: that a label table has, to name the one that was meant.
    Returns the exit code: 0, 1 if a scan failed, 2 if nothing was begun, INTERRUPTED.
    """
    out, failed = options.out, dict(failed or {})
    listed = {split: [task.scan_id for task in tasks if task.split == split] for split in SPLITS}
    scenes_dir = out / "scenes"
    try:
        scenes_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if shard:
        index, shards = shard
        tasks, failed = tasks[index::shards], {}  # scans that are missing are told by the run without --shard
    for task in tasks:  # of a run that was killed; other shards' files are theirs
        (scenes_dir / f"{task.scan_id}.h5.tmp").unlink(missing_ok=True)
    for cause in failed.values():
        print(f"failed: {cause}")
    try:
        done, causes = run_all(tasks, options, workers)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    failed |= causes
    print_oddities(done, categories)
    scenes, made = {outcome.scan_id: outcome.entry for outcome in done}, sum(outcome.is_new for outcome in done)
    result = f"{made} scenes made, {len(scenes) - made} were whole already, {len(failed)} scans failed -> {out}"
    if shard:
        print(f"shard {index} of {shards}: {result}; after all shards, run without --shard for manifest.json")
        return 1 if failed else 0
    if not scenes:
        print(f"no scene was made, manifest.json in {out} was not touched", file=sys.stderr)
        return 1
    kept = {split: [scan_id for scan_id in listed[split] if scan_id in scenes] for split in SPLITS}
    manifest = {"format_version": FORMAT_VERSION, "label_space": options.space, "splits": kept, "expected": expected}
    manifest |= {"failed": dict(sorted(failed.items())), "scenes": dict(sorted(scenes.items()))}
    try:
        write_manifest(out, manifest)
    except OSError as error:
        print(f"error: {out / MANIFEST} was not written ({error})", file=sys.stderr)
        return 1
    print_summary(manifest)
    print(result)
    return 1 if failed else 0


def run_all(tasks, options, workers) -> tuple[list[Outcome], dict[str, str]]:
    """The outcomes of scans that have a scene, and {scan id: cause} of the others. A line for what fails or is odd."""
    done, failed = [], {}
    for outcome in tqdm(run(tasks, options, workers), total=len(tasks), unit="scan"):
        if outcome.cause is not None:
            failed[outcome.scan_id] = outcome.cause
            tqdm.write(f"failed: {outcome.cause}")
            continue
        done.append(outcome)
        for note in outcome.notes:
            tqdm.write(f"note: {outcome.scan_id}: {note}")
        if outcome.odd:
            tqdm.write(f"odd: {outcome.scan_id}: {'; '.join(oddity.what for oddity in outcome.odd)}")
    return done, failed


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


def listed_tasks(
    listed: dict[str, list[str]], places: dict[str, Path], read: Callable[[Path], Scan], splits_dir: Path, lacking: str
) -> tuple[list[Task], dict[str, str]]:
    """Tasks for the scans that are listed by split and have a place; {scan id: why} of those that have none.

    Args: read: from a place; splits_dir: of the lists, which then name one too many; lacking: what is wrong with it.
    """
    tasks, failed = [], {}
    for split in SPLITS:
        for scan_id in listed[split]:
            if path := places.get(scan_id):
                tasks.append(Task(scan_id, path, split, functools.partial(read, path)))
            else:
                failed[scan_id] = f"{splits_dir / split}.txt: lists '{scan_id}', and {lacking}"
    return tasks, failed


def run(tasks, options, workers):
    """Yield `attempt`'s result for every task, in the order they finish."""
    if workers == 1 or len(tasks) < 2:
        yield from (attempt(task, options) for task in tasks)
        return
    with worker_processes(min(workers, len(tasks))) as executor:
        started = {executor.submit(attempt, task, options): task for task in tasks}
        for future in as_completed(started):
            try:
                yield future.result()
            except BrokenProcessPool:
                task = started[future]
                yield Outcome(task.scan_id, f"{task.path}: {KILLED}")


@contextmanager
def worker_processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one; what was not begun when the block is left is not done."""
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(number, spawn, initializer=follow_parent)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def follow_parent():
    """In a worker: Ctrl-C is the parent's, which lets scenes under way finish; if it is killed, the worker ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def attempt(task: Task, options: Options) -> Outcome:
    """`preprocess`; whatever it raises is the scan's failure, and the other scans go on."""
    try:
        return preprocess(task, options)
    except (ScanError, SceneError, LabelError) as error:
        cause = str(error)
    except Exception as error:
        cause = f"{task.path}: {type(error).__name__}: {error}"
    return Outcome(task.scan_id, " ".join(cause.split()))


def preprocess(task: Task, options: Options) -> Outcome:
    """Make the scene file unless it holds the same already. Raises ScanError, LabelError or SceneError."""
    path = options.out / "scenes" / f"{task.scan_id}.h5"
    scan = task.read()
    outcome = Outcome(task.scan_id, unknown=scan.unknown, notes=scan.notes)
    labelled = scan.label is not None
    if not labelled and task.split not in options.may_be_unlabelled:
        raise ScanError(f"{task.path}: has no labels, and {task.split} scans need them")
    counts = histogram(scan.label) if labelled else {}
    if outside := options.space.outside(counts):
        raise ScanError(f"{task.path}: {told_ids(outside)}, which the label space {options.space.name} does not have")
    xyz, offset = scan.xyz, scan.offset
    if options.axis_align and scan.axis_alignment is None:
        if task.split not in options.may_be_unlabelled:
            raise ScanError(f"{task.path}: has no axisAlignment, and --axis-align needs one of every {task.split} scan")
        outcome.unaligned = True
    elif options.axis_align:
        rotation, translation = scan.axis_alignment[:3, :3], scan.axis_alignment[:3, 3]
        xyz, offset = near_origin(in_place(xyz, offset) @ rotation.T + translation)
    normal = scan.normal
    if options.normals and normal is None:
        if scan.faces is None:
            raise ScanError(f"{task.path}: has neither normals nor faces to compute them from; leave out --normals")
        normal = vertex_normals(xyz, scan.faces)
    scene = Scene(task.scan_id, xyz, scan.label, scan.colour, normal, scan.intensity, scan.faces, offset)
    outcome.odd, outcome.offset = odd_scan(xyz, scan.step, scan.faces), offset
    blank = sum(counts.get(id, 0) for id in options.space.unannotated) / len(xyz)
    if labelled and blank > MOSTLY_BLANK:
        what = f"{100 * blank:.0f} % of its vertices are not annotated"
        outcome.odd.append(Oddity(what, "its labels may be of another label space, or of another scan"))
    outcome.is_new = not is_stored(scene, path)
    if outcome.is_new:
        write_scene(path, scene)
    outcome.entry = {
        "file": f"scenes/{path.name}",
        "vertices": len(scene.xyz),
        "labelled": labelled,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "histogram": counts,
    }
    return outcome


def is_stored(scene: Scene, path: Path) -> bool:
    """Whether the file is whole and holds just this scene."""
    try:
        found = read_scene(path, fields=None)
    except SceneError:
        return False
    return all(np.array_equal(getattr(found, name), getattr(scene, name)) for name in (*FIELDS, "offset"))


def told_ids(histogram: dict[int, int]) -> str:
    """The commonest of the ids, and how many vertices have each."""
    commonest = sorted(histogram.items(), key=lambda entry: -entry[1])
    more = f" and {len(commonest) - NAMED} more ids" if len(commonest) > NAMED else ""
    return ", ".join(f"{count} vertices have the label {id}" for id, count in commonest[:NAMED]) + more


def print_oddities(done: list[Outcome], categories: Iterable[str]):
    """What was odd in the scans that were read."""
    if unknown := sum((outcome.unknown for outcome in done), Counter()):
        named, of_scans = named_categories(unknown, categories), f"of {len(done)} scans"
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
    space, shares = manifest["label_space"], []  # a split: (1 + C,) fractions
    width = name_width(space.names)
    print(f"{'split':<{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    rows = {"scans": [], "expected": [], "vertices": [], "labelled": []}
    for split in SPLITS:
        scenes = [manifest["scenes"][scan_id] for scan_id in manifest["splits"][split]]
        rows["scans"].append(len(scenes))
        rows["expected"].append(manifest["expected"][split])
        rows["vertices"].append(sum(scene["vertices"] for scene in scenes))
        counts = sum((Counter(scene["histogram"]) for scene in scenes), Counter())
        rows["labelled"].append(counts.total())
        by_class = np.zeros(1 + space.num_classes)  # what is not annotated stands before class 0
        for id, count in counts.items():
            by_class[1 + space.class_of[id] if space.is_annotated[id] else 0] += count
        shares.append(by_class / max(counts.total(), 1))
    for name, counts in rows.items():
        print(f"{name:<{width}}" + "".join(f"{count:>12,}" for count in counts))
    print("class, % of labelled vertices")
    for row, name in enumerate(("not annotated", "other ids", *space.names[1:])):
        if not any(share[row] for share in shares) and space.num_classes > MANY_CLASSES:
            continue
        cells = (f"{100 * share[row]:.1f}" if sum(share) else "-" for share in shares)
        print(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every preprocessing command has."""
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument(
        "--shard", type=shard, metavar="I/N", help="only every N-th scan, from the I-th on; no manifest"
    )


def workers(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N"."""
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N with I from 0 to N - 1")
    return int(match[1]), int(match[2])
