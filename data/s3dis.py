"""S3DIS's rooms as they are distributed (Stanford3dDataset_v1.2): Area_N/<room>/Annotations/<class>_<k>.txt.

Each file holds the points of one object, `x y z r g b` a line, in metres and +z up; all of a room's together are the
room. Source: Armeni et al., CVPR 2016. A room of 182 MB, 6 million points, is read in 6 s and 0.9 GB of memory.
"""

import functools
import io
import re
from pathlib import Path

import numpy as np

from data.labels import LabelSpace
from data.ply import placed
from data.preprocessing import Task, read_splits
from data.scans import Scan, ScanError
from data.scenes import SPLITS

AREA = re.compile(r"Area_\d+")
VAL_AREA = "Area_5"  # as most papers have it
ROOMS = {"train": 204, "val": 68, "test": 0}  # Areas 1 to 6: 44, 40, 23, 49, 68, 48 rooms, as the PointNet code lists
ANNOTATION = re.compile(r"([A-Za-z]+)_\d+\.txt")
ALIASES = {"stairs": "clutter"}  # a class that some rooms have and the benchmark has not
STRAY = re.compile(r"\.DS_Store|Icon\r?|.*~|\..*|desktop\.ini|Thumbs\.db", re.I)  # what systems and editors leave
NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ROW = re.compile(rb"\s*(?:%b\s+){5}%b\s*" % (NUMBER, NUMBER))
CONTROL = re.compile(rb"[^\x20-\x7e\t]+")
NAMED = 3  # lines that are named, of those with a fault


def read_room(folder: Path, space: LabelSpace) -> Scan:
    """The room in a folder Area_N/<room>, its objects in the order of their files' names.

    Labels are the space's ids of the classes of those names. Lines that a control character spoils are mended, others
    that are not six numbers left out; the scan's notes name them, and files that are no annotations. Raises ScanError.
    """
    annotations = Path(folder) / "Annotations"
    if not annotations.is_dir():
        raise ScanError(f"{annotations}: no such folder; a room is <room>/Annotations/<class>_<k>.txt")
    id_of = {c.name: c.ids[0] for c in space.classes}
    parts, labels, notes = [], [], []
    for path in sorted(annotations.iterdir()):
        match = ANNOTATION.fullmatch(path.name)
        if not match:
            if not STRAY.fullmatch(path.name):
                notes.append(f"{path}: is no <class>_<k>.txt, and was not read")
            continue
        name = ALIASES.get(match[1], match[1]) if match[1] not in id_of else match[1]
        if name not in id_of:
            raise ScanError(f"{path}: '{match[1]}' is no class of the label space {space.name}")
        parts.append(_read_object(path, notes))
        labels.append(np.full(len(parts[-1]), id_of[name], np.uint16))
    if not parts:
        raise ScanError(f"{annotations}: holds no <class>_<k>.txt")
    points = np.concatenate(parts)
    xyz, offset, step = placed(annotations, list(points[:, :3].T))
    colour = points[:, 3:]
    if not ((colour >= 0) & (colour <= 255) & (colour % 1 == 0)).all():
        raise ScanError(f"{annotations}: colours go from {colour.min():g} to {colour.max():g}, not whole from 0 to 255")
    area = folder.resolve().parent.name
    label, colour = np.concatenate(labels), colour.astype(np.uint8)
    return Scan(f"{area}_{folder.name}", xyz, step, label, colour, offset=offset, notes=(*notes,))


def find_rooms(scans: Path) -> dict[str, Path]:
    """Scan id -> folder of every room, such as Area_3_hallway_3. Raises ValueError if there is none."""
    if not scans.is_dir():
        raise ValueError(f"--scans {scans}: no such folder")
    areas = [area for area in sorted(scans.iterdir()) if area.is_dir() and AREA.fullmatch(area.name)]
    rooms = {f"{area.name}_{room.name}": room for area in areas for room in sorted(area.iterdir()) if room.is_dir()}
    if not rooms:
        raise ValueError(f"--scans {scans}: holds no rooms, Area_1/<room>/Annotations and so on")
    return rooms


def choose_tasks(
    scans: Path, space: LabelSpace, splits: Path | None
) -> tuple[list[Task], dict[str, int], dict[str, str]]:
    """What `make_scenes` takes: tasks, expected and failed. Raises ValueError."""
    rooms, failed = find_rooms(scans), {}
    if splits:
        listed = read_splits(splits)
        expected = {split: len(names) for split, names in listed.items()}
    else:
        val = [name for name in rooms if name.startswith(f"{VAL_AREA}_")]
        listed, expected = {"train": [name for name in rooms if name not in val], "val": val, "test": []}, ROOMS
    tasks = []
    for split in SPLITS:
        for name in listed[split]:
            if folder := rooms.get(name):
                tasks.append(Task(name, folder, split, functools.partial(read_room, folder, space)))
            else:
                failed[name] = f"{splits / split}.txt: lists '{name}', and {scans} has no such room"
    return tasks, expected, failed


def _read_object(path, notes):
    """(n, 6) float64 of an annotation file. Raise ScanError."""
    try:
        text = path.read_bytes()
        if not text.strip():
            raise ScanError(f"{path}: is empty; an object has points, so download it again or remove the file")
        points = _numbers(text)
        if points is None:
            points = _numbers(b"\n".join(_mended(path, text.splitlines(), notes)))
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error})") from error
    if points is None:
        raise ScanError(f"{path}: no line has six numbers, x y z r g b")
    if not np.isfinite(points).all():
        line = 1 + int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ScanError(f"{path}: line {line} has NaN or infinite numbers; remove it")
    return points


def _numbers(text):
    """(n, 6) float64, n >= 1, or None if a line has anything but six numbers."""
    if not text.strip():
        return None
    try:
        points = np.loadtxt(io.BytesIO(text), comments=None, ndmin=2, encoding="ascii")
    except (ValueError, UnicodeDecodeError):
        return None
    return points if points.shape[1:] == (6,) and len(points) else None


def _mended(path, lines, notes):
    """The lines that are six numbers, or are once control characters are blanks, or gone. Notes name the others."""
    good, mended, dropped = [], [], []
    for number, line in enumerate(lines, start=1):
        if not ROW.fullmatch(line) and line.strip():
            forms = (CONTROL.sub(by, line) for by in (b" ", b""))
            line = next(filter(ROW.fullmatch, forms), b"")
            (mended if line else dropped).append(number)
        good.append(line)
    for numbers, what in (
        (mended, "had control characters, and were mended"),
        (dropped, "are not six numbers: left out"),
    ):
        if numbers:
            more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
            notes.append(f"{path}: lines {', '.join(map(str, numbers[:NAMED]))}{more} {what}")
    return good
