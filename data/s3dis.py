"""S3DIS's rooms as they are distributed (Stanford3dDataset_v1.2): Area_N/<room>/Annotations/<class>_<k>.txt.

Each file holds the points of one object, `x y z r g b` a line, in metres and +z up; all of a room's together are the
room. Source: Armeni et al., CVPR 2016. A room of 206 MB, 6.5 million points, takes 3 to 5 s of one core and 0.7 GB.
"""

import re
import warnings
from itertools import islice
from pathlib import Path

import numpy as np

from data.labels import label_space
from data.ply import placed
from data.preprocessing import Task, listed_tasks, read_splits
from data.scans import Scan, ScanError
from data.scenes import SCENE_NAME

AREA = re.compile(r"Area_\d+")
VAL_AREA = "Area_5"  # as most papers have it
ROOMS = {"train": 204, "val": 68, "test": 0}  # Areas 1 to 6: 44, 40, 23, 49, 68, 48 rooms, as lists of them have it
ANNOTATION = re.compile(r"(.+)_\d+\.txt")
ALIASES = {"stairs": "clutter"}  # a class that some rooms have and the benchmark has not
STRAY = re.compile(r"\..*|.*~|Icon\r?|desktop\.ini|Thumbs\.db", re.I)  # what systems and editors leave
NUMBER = r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf(?:inity)?|nan)"
ROW = re.compile(rf"\s*(?:{NUMBER}\s+){{5}}{NUMBER}\s*", re.I)
CONTROL = re.compile(r"[^\x20-\x7e\t]+")
# In the files' known faults a character has lost this bit: a blank is 0x00, the digits 0 and 6 are 0x10 and 0x16
LOST_BIT = {code: code | 0x20 for code in range(0x20) if not chr(code).isspace()}
NAMED = 3  # lines that are named, of those with a fault


def read_room(folder: Path) -> Scan:
    """The room in a folder Area_N/<room>, its objects in the order of their files' names.

    Labels are the ids of data/labels_s3dis.json, by the classes' names. Lines that a control character spoils are
    mended, others that are not six numbers left out; the scan's notes name them, and files that are no annotations.
    Raises ScanError.
    """
    annotations = folder / "Annotations"
    if not annotations.is_dir():
        raise ScanError(f"{annotations}: no such folder; a room is <room>/Annotations/<class>_<k>.txt")
    id_of = {c.name: c.ids[0] for c in label_space("s3dis").classes}
    objects, ids, notes = [], [], []
    for path in sorted(path for path in annotations.iterdir() if not STRAY.fullmatch(path.name)):
        if not (match := ANNOTATION.fullmatch(path.name)):
            notes.append(f"{path}: is no <class>_<k>.txt, and was not read")
            continue
        name = match[1] if match[1] in id_of else ALIASES.get(match[1])
        if name not in id_of:
            raise ScanError(f"{path}: '{match[1]}' is no class of S3DIS ({', '.join(id_of)}); rename or remove it")
        objects.append(_read_object(path, notes))
        ids.append(id_of[name])
    if not objects:
        raise ScanError(f"{annotations}: holds no <class>_<k>.txt; unpack the room again")
    xyz, colour = (np.concatenate(parts) for parts in zip(*objects, strict=True))
    label = np.repeat(np.array(ids, np.uint16), [len(points) for points, _ in objects])
    del objects
    xyz, offset, step = placed(annotations, list(xyz.T))
    name = "_".join(folder.absolute().parts[-2:])
    return Scan(name, xyz, step, label, colour, offset=offset, notes=tuple(notes))


def find_rooms(scans: Path) -> dict[str, Path]:
    """Scan id -> folder of every room, such as Area_3_hallway_3. Raises ValueError if there is none, or no scan id."""
    if not scans.is_dir():
        raise ValueError(f"--scans {scans}: no such folder")
    areas = [area for area in sorted(scans.iterdir()) if area.is_dir() and AREA.fullmatch(area.name)]
    folders = [room for area in areas for room in sorted(area.iterdir()) if room.is_dir()]
    rooms = {f"{room.parent.name}_{room.name}": room for room in folders if not STRAY.fullmatch(room.name)}
    if not rooms:
        raise ValueError(f"--scans {scans}: holds no rooms, Area_1/<room>/Annotations and so on")
    for name, room in rooms.items():
        if not SCENE_NAME.fullmatch(name):
            wanted = "letters, digits, '_', '-' and '.' alone"
            raise ValueError(f"{room}: '{name}' cannot be the name of a scene; remove a copy, or rename it to {wanted}")
    return rooms


def choose_tasks(scans: Path, splits: Path | None) -> tuple[list[Task], dict[str, int], dict[str, str]]:
    """What `make_scenes` takes: tasks, expected and failed. Raises ValueError."""
    rooms = find_rooms(scans)
    if splits:
        listed = read_splits(splits)
        expected = {split: len(names) for split, names in listed.items()}
    else:
        val = [name for name in rooms if name.startswith(f"{VAL_AREA}_")]
        listed, expected = {"train": [name for name in rooms if name not in val], "val": val, "test": []}, ROOMS
    tasks, failed = listed_tasks(listed, rooms, read_room, splits, f"{scans} has no such room")
    return tasks, expected, failed


def _read_object(path, notes):
    """xyz (n, 3) float64 and colour (n, 3) uint8 of an annotation file. Raise ScanError."""
    try:
        points = _numbers(str(path))
        if points is None:
            points = _numbers(line for _, line in _rows(path, notes))
        if points is None:
            cause = "has no line of six numbers, x y z r g b" if path.read_bytes().strip() else "is empty"
            raise ScanError(f"{path}: {cause}; unpack it again, or remove it if the room has no such object")
        xyz = points[:, :3].copy()
        with np.errstate(invalid="ignore"):  # of what is no byte
            colour = points[:, 3:].astype(np.uint8)
        for is_good, what in (
            (np.isfinite(points), "NaN or infinite numbers; remove the line"),
            (colour == points[:, 3:], "a colour that is not whole from 0 to 255; scale the colours to that"),
        ):
            if not is_good.all():
                number, line = next(islice(_rows(path, []), int(np.argmin(is_good.all(axis=1))), None))
                raise ScanError(f"{path}: line {number}, '{line.strip()}', has {what}")
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error})") from error
    return xyz, colour


def _numbers(source):
    """(n, 6) float64 of a file's path or of lines; None if a line has anything but six numbers, or there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is none
        try:
            points = np.loadtxt(source, comments=None, ndmin=2, encoding="latin-1")
        except ValueError:
            return None
    return points if points.shape[1:] == (6,) and len(points) else None


def _rows(path, notes):
    """Yield (number, line) of the lines that are six numbers, or are once control characters are mended."""
    mended, dropped = [], []
    with path.open(encoding="latin-1") as lines:  # in which every byte is a character
        for number, line in enumerate(lines, start=1):
            if not ROW.fullmatch(line):
                if not line.strip():
                    continue
                forms = (line.translate(LOST_BIT), CONTROL.sub(" ", line), CONTROL.sub("", line))
                line = next(filter(ROW.fullmatch, forms), None)
                (mended if line else dropped).append(number)
            if line:
                yield number, line
    for numbers, what in ((mended, "mended control characters"), (dropped, "left out what is not six numbers")):
        if numbers:
            more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
            lines = "line" if len(numbers) == 1 else "lines"
            notes.append(f"{path}: {what}: {lines} {', '.join(map(str, numbers[:NAMED]))}{more}")
