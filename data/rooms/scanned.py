"""Rooms that look like scans: furnished (homes.py), looked at by a camera (scanner.py), annotated and written.

V vertices, F triangles; metres, +z up.
"""

import contextlib
import functools
import io
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from data.labels import SCANNET20
from data.rooms import scanner
from data.rooms.designed import Model, read_furniture
from data.rooms.homes import make_room
from data.rooms.meshes import segments
from data.rooms.raw_layout import FIRST_SPACE, annotate, scan_id, turned_away, write_raw
from data.scannet import NUM_NYU40

NYU40 = (  # the label set of NYU Depth v2 with 40 classes, from 1 up
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
ID_OF = {name: i for i, name in enumerate(NYU40, 1)}
FEWEST_VERTICES, TRIES = 8000, 50
VAL_EVERY = 5  # of the designed models, one is for validation
TILT = 0.03  # standard deviation of a scan's slope, of one axis
WAVES, WAVE_LENGTH, WARP = 8, (0.8, 12.0), 0.012  # m of bending a m of wave: what drift leaves of a fused scan
SEGMENT = 13  # vertices along a segment's edge, about
COLOURS = np.array([(225, 222, 215), (150, 150, 150), (205, 175, 130), (110, 75, 50), (60, 60, 65), (85, 105, 145)])


@functools.cache
def models_of(furniture: Path) -> dict[str, dict[str, list[Model]]]:
    """The models of a folder by split and name: what is in validation rooms is in no training room."""
    with contextlib.redirect_stdout(io.StringIO()):  # make_dataset has said what is broken
        models = read_furniture(furniture)
    val = {name: some[VAL_EVERY - 1 :: VAL_EVERY] for name, some in models.items()}
    train = {name: [m for i, m in enumerate(some) if i % VAL_EVERY != VAL_EVERY - 1] for name, some in models.items()}
    return {"train": {name: some for name, some in train.items() if some}, "val": val}


def write_scanned(task: tuple[str, int, int], scans: Path, furniture: Path | None = None) -> dict:
    """Make a room and write its scan to scans/<name>/; returns its split, its type and its vertices by nyu40 id.

    task: split, seed and number of the room; with the models of `furniture`, they decide all that comes out.
    """
    split, seed, number = task
    name = scan_id(split, number)
    models = models_of(furniture)[split] if furniture else None
    rng = np.random.default_rng((seed, FIRST_SPACE[split], number))
    type_, names, scan, settings = _scanned_room(rng, models)
    segment, owner = segments(_pieces(scan, settings, rng), scan.thing)
    clutter = np.array([SCANNET20.class_of[ID_OF[name]] == 0 for name in names])
    annotated = annotate(clutter, segment, owner, rng, _beside(scan.xyz, segment, owner))
    nyu40 = np.array([*(ID_OF[name] for name in names), 0])[annotated[segment]]  # -1 is the last entry, 0
    light = 0.85 + 0.3 * np.sin(scan.xyz @ rng.normal(0, 0.4, 3) + rng.uniform(0, 6)) ** 2
    paint = COLOURS[rng.integers(len(COLOURS), size=len(names))] + rng.normal(0, 10, (len(names), 3))
    colour = np.clip(paint[scan.thing] * light[:, None] + rng.normal(0, 6, scan.xyz.shape), 0, 255).astype(np.uint8)
    xyz, align = turned_away(_warped(scan.xyz, rng), rng.uniform(0, 2 * np.pi))
    write_raw(scans, name, type_, xyz, colour, scan.faces, nyu40, segment, annotated, names, {}, align)
    return {"split": split, "type": type_, "nyu40": np.bincount(nyu40, minlength=NUM_NYU40).tolist()}


def _scanned_room(rng, models):
    """The type of a room, the names of its things, the scan and how it was made."""
    for _ in range(TRIES):  # now and then nobody could have stood in a room
        type_, things = make_room(rng, models)
        rays, settings = scanner.Rays(things), scanner.sensor(rng)
        try:
            scan = scanner.scan(rays, scanner.walk(rays, rng), settings, rng)
        except scanner.NothingSeen:
            continue
        if len(scan.xyz) >= FEWEST_VERTICES:
            return type_, [thing.name for thing in things], scan, settings
    raise scanner.NothingSeen(f"of {TRIES} rooms none could be scanned")


def _pieces(scan, settings, rng):
    """(V,) int keys, increasing with the thing: what segments are put together from, by place and direction."""
    corners = scan.xyz[scan.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # (F, 3)
    of_vertex = np.zeros_like(scan.xyz)
    for i in range(3):
        np.add.at(of_vertex, scan.faces[:, i], normal)
    axis = np.abs(of_vertex).argmax(1)
    side = 2 * axis + (of_vertex[np.arange(len(axis)), axis] > 0)
    spacing = settings.voxel / np.sqrt(settings.kept)
    cell = SEGMENT * spacing * rng.uniform(0.7, 1.2)
    offset = rng.random(3)
    wavy = scan.xyz - scan.xyz.min(0) + 0.12 * np.sin(6 * np.roll(scan.xyz, 1, axis=1) + 6 * offset)
    at = np.floor(wavy / cell + offset + 1).astype(np.int64)
    at[np.arange(len(at)), axis] = 0  # a side is cut along the other two axes
    return (((scan.thing * 6 + side) * 128 + at[:, 0]) * 128 + at[:, 1]) * 128 + at[:, 2]


def _beside(xyz, segment, owner):
    """(S,) owner of the nearest segment that is of another; its own, if there is none near."""
    counts = np.bincount(segment)
    centre = np.stack([np.bincount(segment, xyz[:, i]) for i in range(3)], 1) / counts[:, None]
    _, near = cKDTree(centre).query(centre, min(12, len(centre)))
    others = owner[near] != owner[:, None]  # (S, 12)
    return owner[near[np.arange(len(owner)), others.argmax(1)]]


def _warped(xyz, rng):
    """xyz (V, 3) tilted a little and bent by a smooth field."""
    for _ in range(WAVES):
        wave, direction, length = rng.normal(size=3), rng.normal(size=3), np.exp(rng.uniform(*np.log(WAVE_LENGTH)))
        wave *= 2 * np.pi / length / np.linalg.norm(wave)
        direction *= rng.uniform(0, WARP) * length / np.linalg.norm(direction)
        xyz = xyz + np.sin(xyz @ wave + rng.uniform(0, 2 * np.pi))[:, None] * direction
    slope = rng.normal(0, TILT, 2)
    return xyz + (xyz[:, :2] @ slope)[:, None] * [0, 0, 1]
