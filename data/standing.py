"""How a scan stands: which way is up, in which unit it is, and which points are no part of it.

Decided where the evidence is strong; else left as it is, with a doubt where it looks otherwise. n points.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from data.chunks import cube_keys
from data.patches import Patches, patches
from data.upward import Axis, axes, level_upright, slopes

UPS = ("x", "y", "z", "-x", "-y", "-z")
UNITS = {"millimetre": 0.001, "centimetre": 0.01, "inch": 0.0254, "foot": 0.3048}  # metres
# Chosen by hand, where no source is given: by how generated rooms of seeds 11 and 12 came out, not by many real scans
ROOM = (1.9, 4.1)  # m: rooms are 2 to 4 m high, and measured a little off
WIDTH = (1.0, 60.0)  # m, square roots of the areas of their floors
RARE = ("inch", "foot")  # a room of these may be a hall in metres, or a part of a room in centimetres
FURNISHED = 0.04  # of the ground that the level tops of furniture cover
STOREY = 0.5  # of the floor, that what is level half-way up covers, at least, if it is another floor
FEWEST_PATCHES = 300
SURE = 0.97  # chance of a direction by data/upward.py, from which on the scan is turned
# A doubt needs a chance of +z below UNLIKELY, and of another direction from LIKELY on. LIKELY was added after a doubt
# about one S3DIS hallway that stands on its floor: +z has 0.11, another 0.46. Bare corridors: 0.02, 0.54; 0.06, 0.65
UNLIKELY, LIKELY = 0.05, 0.6
NAMED = 0.9  # chance of another axis of the file from which on the doubt names it; two S3DIS rooms gave wrong ones 0.82
# Degrees from an axis of the file, within which a direction is taken for that axis. Of 20 generated rooms, plain ones
# were off by 0.7 at most; scanned ones, which are made to slope, by 0.8 half the time, and 3.9 at most
STRAIGHT = 3.5
SMALL_TURN = 12.0  # degrees from +z, within which a direction is taken for a slanting +z
SLANT = 2.0  # degrees that floor and walls must slant alike for that to be turned
AGREE = 0.5  # of that angle: how far what is up by the floor and by the walls may be apart
FLOOR_AND_WALLS = 0.05  # of the patches that must be level, and as many upright
# What the file's axes add to a direction's score. Most scans have z up, many y; a camera's -y is up
OF_Z, OF_Y, OF_CAMERA = 2.0, 1.0, 4.0
BOTH_SIDES = 0.15  # of what is seen along an axis that planes at both its ends cover, at least
# Single depth images show less than the scan of a whole room, and the weights of data/upward.py are of both. So scores
# count more where there are planes at both ends: of two axes WHOLE times, of one HALF, if the room is low for its width
WHOLE, HALF, LOW_ROOM = 2.0, 1.5, 0.65
CAMERA_PITCH = 45  # degrees that a camera is turned from level
CAMERA_VIEW = (np.tan(np.deg2rad(45)), np.tan(np.deg2rad(36)))  # half the widest view, right and down
CAMERA_SEES = (np.tan(np.deg2rad(15)), np.tan(np.deg2rad(11)))  # half the least, filled by 98 % of the points
OUTSIDE = 0.001  # of the points that may be outside the view
CAMERA_MILLIMETRES = 300  # median depth from which on a depth camera's unit is the millimetre; it measures 0.3 to 10 m
GAP = 2.0  # m of nothing around a stray, and at least GAP_SHARE of the scan's diagonal
GAP_SHARE = 0.2
MOST_STRAY, MOST_STRAY_TOGETHER = 0.001, 0.01  # of the points, in one place and in all
FEWEST_POINTS = 1000  # of a scan in which points may be strays
MOST_PLACES = 20_000  # cubes of GAP with points; what has more is no room


class Standing(NamedTuple):
    """What was found. As the file is: rotation None, scale 1, stray None."""

    rotation: np.ndarray | None = None  # (3, 3): xyz @ rotation.T has +z up
    scale: float = 1.0  # metres in a unit of the file
    stray: np.ndarray | None = None  # (n,) bool, points to leave out
    found: tuple[str, ...] = ()  # what is not as expected, and why: of rotation, scale and stray, if not given
    doubts: tuple[tuple[str, str], ...] = ()  # what looks odd and was left, and advice


def find_standing(
    xyz: np.ndarray, triangles: np.ndarray | None = None, up: str | None = None, scale: float | None = None
) -> Standing:
    """How the points (n, 3), finite, n >= 1, stand; `up`, one of UPS, and `scale` are taken as given.

    Args: triangles (F, 3), in which case areas are theirs. Two seconds for five million points; the same points give
        the same answer.
    """
    xyz = np.asarray(xyz, dtype=np.float64)
    seen = patches(xyz, triangles, np.random.default_rng(0))
    if seen is None or len(seen.xyz) < FEWEST_PATCHES:
        return standing_as_told(up, scale)
    camera = camera_up(seen.xyz)
    given = rotation_of(up or "z")
    upward = np.array([0.0, 0, 1]) if given is None else given[2]
    choice = axes(seen, upward[None])
    turn = _Turn(given, _nearest(choice, upward)) if up else _choose(seen, choice, camera)
    unit, why, doubts = (scale, None, ()) if scale else _unit(seen, turn.axis, camera)
    size = np.linalg.norm(np.ptp(np.quantile(seen.xyz, [0.01, 0.99], axis=0), axis=0))
    stray = strays(xyz, max(GAP / unit, GAP_SHARE * size))
    found = [line for line in (turn.why, why) if line]
    if stray is not None:
        found.append(f"{stray.sum()} vertices lie metres from all others")
    return Standing(turn.rotation, unit, stray, tuple(found), turn.doubts + doubts)


def standing_as_told(up: str | None, scale: float | None) -> Standing:
    """By the flags alone."""
    return Standing(rotation_of(up or "z"), scale or 1.0)


def placed_upright(xyz: np.ndarray, standing: Standing) -> np.ndarray:
    """(n, 3) float64 in metres, +z up. As it is, nothing is computed: no bit changes."""
    if standing.scale != 1:
        xyz = xyz * standing.scale
    return xyz if standing.rotation is None else turned(xyz, standing.rotation)


def turned(vectors: np.ndarray, rotation: np.ndarray | None) -> np.ndarray:
    """(n, 3) by a rotation, or as they are. A quarter turn moves columns and rounds nothing."""
    return vectors if rotation is None else vectors @ rotation.T


def rotation_of(up: str) -> np.ndarray | None:
    """(3, 3) that makes the axis +z: a rotation, no mirror; None for +z itself."""
    if up == "z":
        return None
    rotation = np.roll(np.eye(3), 2 - "xyz".index(up[-1]), axis=0)
    return rotation * np.array([[1.0], [-1.0], [-1.0]]) if up[0] == "-" else rotation


def rotation_to(up: np.ndarray) -> np.ndarray:
    """(3, 3), the shortest rotation of the unit vector (3,) to +z."""
    x, y, z = up
    if z < -1 + 1e-9:
        return np.diag([1.0, -1, -1])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


def camera_up(xyz: np.ndarray) -> np.ndarray | None:
    """What is about up (3,) in points (n, 3) that one depth camera at the origin saw, if they look so; else None.

    Cameras look along +z with y down, or, as OpenGL's, along -z with y up.
    """
    for ahead in (1, -1):
        depth = ahead * xyz[:, 2]
        if np.quantile(depth, OUTSIDE) <= 0:
            continue
        off_centre = xyz[:, :2] / np.maximum(depth, 1e-9)[:, None]
        widest = np.quantile(np.abs(off_centre), 1 - OUTSIDE, axis=0)
        sees = np.ptp(np.quantile(off_centre, [0.01, 0.99], axis=0), axis=0) / 2
        if (widest < CAMERA_VIEW).all() and (sees > CAMERA_SEES).all():
            return np.array([0.0, -ahead, 0])
    return None


def strays(xyz: np.ndarray, gap: float) -> np.ndarray | None:
    """(n,) bool: the points, few together, that lie `gap` or more from all others; None if there are none.

    Space is looked at in cubes of `gap`, so those less than twice as far along every axis may be missed.
    """
    if len(xyz) < FEWEST_POINTS:
        return None
    _, first, place_of = np.unique(cube_keys(xyz, gap), return_index=True, return_inverse=True)
    if not 1 < len(first) <= MOST_PLACES:
        return None
    places = np.floor((xyz[first] - xyz.min(axis=0)) / gap).astype(np.int64)
    part = _connected(places)
    sizes = np.bincount(part, np.bincount(place_of))
    few = sizes <= MOST_STRAY * len(xyz)
    if not few.any() or sizes[few].sum() > MOST_STRAY_TOGETHER * len(xyz):
        return None
    return few[part][place_of]


def _connected(places):
    """The number (k,) of the connected part in which each of the cubes (k, 3) int64 is; corners connect."""
    number = {tuple(place): i for i, place in enumerate(places.tolist())}
    steps = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    part, parts = np.full(len(places), -1), 0
    for start in range(len(places)):
        if part[start] >= 0:
            continue
        part[start], waiting = parts, deque([start])
        while waiting:
            x, y, z = places[waiting.popleft()].tolist()
            for i, j, k in steps:
                near = number.get((x + i, y + j, z + k))
                if near is not None and part[near] < 0:
                    part[near] = parts
                    waiting.append(near)
        parts += 1
    return part


class _Turn(NamedTuple):
    rotation: np.ndarray | None = None
    axis: Axis | None = None  # the upright one, where that is sure enough to measure the height along it
    why: str | None = None
    doubts: tuple[tuple[str, str], ...] = ()


def _choose(seen: Patches, choice: list[Axis], camera) -> _Turn:
    """How to turn what is seen, by the directions of `choice`; camera (3,): what it says is about up, or None."""
    if not choice:
        return _Turn()
    ups = np.array([axis.up for axis in choice])
    chance, whole = _chances(choice, ups, camera)
    best, near_z = int(np.argmax(chance)), ups[:, 2] >= np.cos(np.deg2rad(SMALL_TURN))
    if near_z[best]:
        return _small_turn(seen, choice[best], whole)
    name = _file_axis(ups[best])
    if chance[best] >= SURE and (whole or camera is not None) and _has_floor_and_walls(seen, ups[best]):
        why = f"{name or ' '.join(f'{value:.2f}' for value in ups[best])} is up, not z"
        why += f" (a floor under {100 * choice[best].floor:.0f} % of it, upright walls"
        why += ", seen by a camera at the origin)" if camera is not None else ")"
        return _Turn(rotation_of(name) if name else rotation_to(ups[best]), choice[best], why)
    if chance[near_z].sum() >= UNLIKELY or chance[best] < LIKELY:
        return _Turn()
    if name and chance[best] >= NAMED:
        doubt = f"perhaps {name} is up, not z; that is too unsure to turn it", f"if it is so, give --up={name}"
    else:
        doubt = "perhaps z is not up; which way is up is too unsure to say", "if it is not, give --up, or turn the scan"
    return _Turn(doubts=(doubt,))


def _small_turn(seen, axis, whole) -> _Turn:
    """As `_choose`, for an axis near +z: turned only where the floor and the walls of a whole room slant alike."""
    both = slopes(seen, axis.up) if whole else None
    slant = min(_degrees(up[2]) for up in both) if both else 0.0
    if slant < SLANT or _degrees(both[0] @ both[1]) > AGREE * slant:
        return _Turn(axis=axis)
    return _Turn(rotation_to(axis.up), axis, f"floor and walls slant by {_degrees(axis.up[2]):.1f} degrees")


def _chances(choice, ups, camera):
    """The chance (a,) of each direction, and whether the scan has planes on two sides of at least one axis."""
    closed = sum(min(axis.floor, axis.ceiling) > BOTH_SIDES for axis in choice) / 2
    score = np.array([axis.score for axis in choice])
    flat = np.exp(choice[int(np.argmax(score))].evidence["height"]) < LOW_ROOM
    strength = WHOLE if closed >= 2 else HALF if closed and flat else 1.0
    score = strength * score + _of_file(ups, camera)
    chance = np.exp(score - score.max())
    return chance / chance.sum(), closed > 0


def _of_file(ups, camera):
    """What the file's axes add to the scores of directions (a, 3)."""
    if camera is not None:
        return -OF_CAMERA * (ups @ camera < np.cos(np.deg2rad(CAMERA_PITCH)))
    near_z = ups[:, 2] > np.cos(np.deg2rad(SMALL_TURN))
    near_y = np.abs(ups[:, 1]) > np.cos(np.deg2rad(STRAIGHT))
    return OF_Z * near_z + OF_Y * near_y


def _has_floor_and_walls(seen, up):
    level, upright = level_upright(seen.normal, up)
    return min(level.sum(), upright.sum()) > FLOOR_AND_WALLS * seen.normal.any(axis=1).sum()


def _file_axis(up):
    """The name of the file's axis near `up` (3,), or None."""
    axis = int(np.argmax(np.abs(up)))
    if _degrees(abs(up[axis])) > STRAIGHT:
        return None
    return ("-" if up[axis] < 0 else "") + "xyz"[axis]


def _degrees(cosine):
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def _nearest(choice, up):
    near = max(choice, key=lambda axis: axis.up @ up, default=None)
    return near if near is not None and _degrees(near.up @ up) <= SMALL_TURN else None


def _unit(seen, axis, camera):
    """(metres in a unit of the file, why it is not 1 or None, doubts); axis: the upright one, None if it is unsure."""
    depth = np.median(np.abs(seen.xyz[:, 2]))
    if camera is not None and depth > CAMERA_MILLIMETRES:
        return UNITS["millimetre"], f"its unit is the millimetre (half of it lies {depth:.0f} from the camera)", ()
    if axis is None:
        return 1.0, None, ()
    for name, metres in UNITS.items():
        if not (ROOM[0] <= axis.height * metres <= ROOM[1] and WIDTH[0] <= axis.width * metres <= WIDTH[1]):
            continue
        why = f"its unit is the {name} (the room is {axis.height:.4g} high, {axis.height * metres:.2f} m)"
        if name not in RARE or _furnished(axis):
            return metres, why, ()
        return 1.0, None, ((f"perhaps {why}; no furniture tells", f"if it is so, give --scale {metres:g}"),)
    return 1.0, None, ()


def _furnished(axis):
    """Whether level furniture stands as low as in a room, and there is no storey half-way up."""
    low, middle, high = axis.furniture
    return low >= FURNISHED and low >= middle + high and middle < STOREY * axis.floor
