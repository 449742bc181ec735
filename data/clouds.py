"""Clouds of anybody's own, a file a scan, as arrays in the file's order, in any of the formats of data/formats/.

V points, F triangles. What a file holds is found by name, as data/columns.py has it. Only the coordinates are needed.
"""

import dataclasses
from pathlib import Path

import numpy as np

from data.columns import MEASURED, coordinates_of, labels_of, values_of
from data.formats.reading import READERS, read_stored
from data.formats.stored import refusing
from data.formats.text import TEXT, is_table
from data.inputs import is_hidden, why_no_scan
from data.ply import placed
from data.scans import Scan, ScanError
from data.scenes import SCENE_NAME

CUT = 0.75  # of a scan's length is for training


def read_cloud(path, label_property: str | None = None) -> Scan:
    """The scan in one file. Labels are in the property of that name, by default in the first there is of LABELS of
    data/columns.py.

    Colours are 0 to 255, 0 to 65535 as uint16 (if none is above 255, they are taken for 0 to 255) or 0 to 1 as floats.
    Intensities are scaled by the range of their unsigned type, or are floats from 0 to 1; others are left out, as the
    notes say. Labels are integers, or whole floats where there are no integers: in CloudCompare's properties, and in
    arrays without names. Classifications, intensities or colours of a LAS file that are all 0 were never recorded.
    Memory is bounded by the file's size, whatever it declares. Raises ScanError.
    """
    path = Path(path)
    with refusing(path):
        stored = read_stored(path)
        xyz, offset, step = placed(path, coordinates_of(path, stored.columns))
        notes = list(stored.notes)
        arrays = {field: values_of(field, path, stored.columns, len(xyz), notes) for field in MEASURED}
        name, label = labels_of(path, stored, label_property)
        if label is None and name:
            notes.append(f"{path}: '{name}' is 0 throughout, never classified: the cloud has no labels")
        elif label is not None and len(label) != len(xyz):
            raise ScanError(f"{path}: '{name}' has {len(label)} labels for {len(xyz)} points")
        step = step if stored.step is None else stored.step
        return Scan(path.stem, xyz, step, label, faces=stored.faces, offset=offset, notes=tuple(notes), **arrays)


def read_labels(path, label_property: str | None = None) -> tuple[str | None, np.ndarray | None]:
    """The property that holds `read_cloud`'s labels, and the labels (V,) uint16; None if there are none."""
    with refusing(Path(path)):
        return labels_of(path, read_stored(path), label_property)


def find_clouds(scans: Path) -> dict[str, Path]:
    """Scene name -> file, in the folder and those below: Area_5/office.ply is Area_5_office. Raises ValueError."""
    if not scans.is_dir():
        raise ValueError(f"--scans {scans}: no such folder")
    clouds, paths = {}, sorted(scans.rglob("*"))
    there = {path.stem for path in paths}
    for path in paths:
        inside = path.relative_to(scans).with_suffix("")
        if is_hidden(inside) or path.suffix.lower() not in READERS or path.is_dir():
            continue
        if path.suffix.lower() in TEXT and not is_table(path):
            print(f"{path}: is no table of numbers, and left out")
            continue
        if why := why_no_scan(path, there):
            print(f"{path}: {why}, and left out")
            continue
        if not SCENE_NAME.fullmatch(name := "_".join(inside.parts)):
            wanted = "letters, digits, '_', '-' and '.' alone, at most 200 with those of its folders"
            raise ValueError(f"{path}: '{name}' cannot be the name of a scene; rename it to {wanted}")
        if name in clouds:
            raise ValueError(f"{clouds[name]} and {path} would both be the scene '{name}'; rename one")
        clouds[name] = path
    if not clouds:
        raise ValueError(f"--scans {scans}: has no cloud that ends in {', '.join(READERS)}")
    return dict(sorted(clouds.items()))


def cut(scan: Scan, part: str) -> Scan:
    """The part "train" or "val" of a scan: what lies in the first CUT of the longer of its sides x and y, or behind.

    Triangles that cross the cut are in neither. Raises ScanError.
    """
    axis = int(np.argmax(np.ptp(scan.xyz[:, :2], axis=0)))
    along = scan.xyz[:, axis].astype(np.float64)
    place = along.min() + CUT * np.ptp(along)
    kept = (along <= place) == (part == "train")
    if not kept.any():
        raise ScanError(f"{scan.name}: has no length along x or y, so it cannot be cut in two")
    fields = {name: getattr(scan, name) for name in ("xyz", "label", "colour", "normal", "intensity")}
    fields = {name: values[kept] for name, values in fields.items() if values is not None}
    if scan.faces is not None:
        whole = scan.faces[kept[scan.faces].all(axis=1)]
        fields["faces"] = (np.cumsum(kept) - 1)[whole].astype(np.int32)
    at = place + (0 if scan.offset is None else scan.offset[axis])
    note = (
        f"cut at {'xy'[axis]} = {at:.2f} m: {100 * CUT:.0f} % of the length are for training, the rest for validation"
    )
    return dataclasses.replace(scan, notes=(*scan.notes, note) if part == "train" else (), **fields)


def read_part(path, label_property: str | None, part: str) -> Scan:
    """A part of the scan in one file, as of `cut`."""
    return cut(read_cloud(path, label_property), part)
