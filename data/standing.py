"""How a scan stands: which way is up, in which unit it is, and which points are no part of it.

Decided where the evidence is strong; else left as it is, with a doubt where it looks otherwise. n points.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from data.chunks import cube_keys
from data.patches import Patches, patches
from data.upward import Axis, axes, slopes

UPS = ("x", "y", "z", "-x", "-y", "-z")
UNITS = {"millimetre": 0.001, "centimetre": 0.01, "inch": 0.0254, "foot": 0.3048}  # metres
ROOM = (1.9, 4.1)  # m: heights of rooms are 2 to 4 m, and measured a little off
WIDTH = (1.0, 60.0)  # m, square roots of the areas of their floors
RARE = ("inch", "foot")  # a room of these may be a hall in metres, or a part of a room in centimetres
FURNISHED = 0.04  # of the ground that level furniture at 13 to 42 % of the height covers: 0.3 to 1.3 m in a room
FEWEST_PATCHES = 300
SURE = 0.97  # chance of a direction by data/upward.py, from which on the scan is turned
UNLIKELY, LIKELY = 0.15, 0.6  # chances of +z, and of another direction, below and above which there is a doubt
STRAIGHT = 3.5  # degrees; generated rooms slope by up to 2.5, as real scans do
SLANT = 2.0  # degrees, of floor and walls alike, of a scan that is turned by a small angle
AGREE = 0.5  # of that angle: how far what is up by the floor and by the walls may be apart
SMALL_TURN = 12.0  # degrees
# What the file's axes add to a direction's score. Most scans have z up, many y; a camera's -y is up
OF_Z, OF_Y, OF_CAMERA = 2.0, 1.0, 4.0
BOTH_SIDES = 0.15  # of what is seen along an axis that planes at both its ends cover
# The model of data/upward.py is of single depth images too. Scans with planes on both sides of two axes are told apart
# twice as surely, by 80 generated rooms, and with one, if the room is low
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


def camera_up(xyz: np.ndarray) -> np.ndarray | None:
    """What is about up (3,) in points (n, 3) that one depth camera at the origin saw, if they look so; else None.

    Cameras look along +z with y down, or, as OpenGL's, along -z with y up.
    """
    for ahead in (1, -1):
        depth = ahead * xyz[:, 2]
        if np.quantile(depth, OUTSIDE) <= 0:
            continue
        slopes_seen = np.abs(xyz[:, :2]) / np.maximum(depth, 1e-9)[:, None]
        widest = np.quantile(slopes_seen, 1 - OUTSIDE, axis=0)
        sees = np.ptp(np.quantile(xyz[:, :2] / np.maximum(depth, 1e-9)[:, None], [0.01, 0.99], axis=0), axis=0) / 2
        if (widest < CAMERA_VIEW).all() and (sees > CAMERA_SEES).all():
            return np.array([0.0, -ahead, 0])
    return None


def strays(xyz: np.ndarray, gap: float) -> np.ndarray | None:
    """(n,) bool: the points that lie `gap` or more from all that is connected, few together; None if there are none."""
    if len(xyz) < FEWEST_POINTS:
        return None
    keys, place_of = np.unique(cube_keys(xyz, gap), return_inverse=True)
    if not 1 < len(keys) <= MOST_PLACES:
        return None
    first = np.zeros(len(keys), np.int64)
    first[place_of] = np.arange(len(xyz))
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
    """How to turn what is seen, by the directions of `choice`."""
    if not choice:
        return _Turn()
    ups = np.array([axis.up for axis in choice])
    chance, whole = _chances(choice, ups, camera)
    best, straight = int(np.argmax(chance)), int(np.argmax(ups[:, 2]))
    if _degrees(ups[best, 2]) <= SMALL_TURN:
        return _small_turn(seen, choice[best])
    name = _file_axis(ups[best])
    what = f"{name or ' '.join(f'{value:.2f}' for value in ups[best])} is up, not z"
    if chance[best] >= SURE and (whole or camera is not None) and _has_walls(seen, ups[best]):
        why = f"{what} (a floor under {100 * choice[best].floor:.0f} % of it, upright walls"
        why += ", seen by a camera at the origin)" if camera is not None else ")"
        return _Turn(rotation_of(name) if name else rotation_to(ups[best]), choice[best], why)
    unclear = chance[straight] >= UNLIKELY or chance[best] < LIKELY
    if unclear and _degrees(ups[straight, 2]) <= SMALL_TURN:
        return _Turn(axis=choice[straight] if chance[straight] > 0.5 else None)
    advice = f"give --up={name}" if name else "turn it"
    return _Turn(doubts=((f"perhaps {what}; that is too unsure to turn it", f"if it is so, {advice}"),))


def _small_turn(seen, axis) -> _Turn:
    """As `_choose`, for an axis near +z: turned only where the floor and the walls slant alike."""
    both = slopes(seen, axis.up)
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


def _has_walls(seen, up):
    along = np.abs(seen.normal @ up)[seen.normal.any(axis=1)]
    few = 0.05 * len(along)
    return (along > 0.98).sum() > few and (along < 0.17).sum() > few


def _file_axis(up):
    """The name of the file's axis near `up` (3,), or None."""
    axis = int(np.argmax(np.abs(up)))
    if _degrees(abs(up[axis])) > STRAIGHT:
        return None
    return ("-" if up[axis] < 0 else "") + "xyz"[axis]


def rotation_to(up: np.ndarray) -> np.ndarray:
    """(3, 3), the shortest rotation of the unit vector (3,) to +z."""
    x, y, z = up
    if z < -1 + 1e-9:
        return np.diag([1.0, -1, -1])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


def _degrees(cosine):
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def _nearest(choice, up):
    near = max(choice, key=lambda axis: axis.up @ up, default=None)
    return near if near is not None and _degrees(near.up @ up) <= SMALL_TURN else None


def _unit(seen, axis, camera):
    """(metres in a unit, why that is not 1 or None, doubts)."""
    depth = np.median(np.abs(seen.xyz[:, 2]))
    if camera is not None and depth > CAMERA_MILLIMETRES:
        return UNITS["millimetre"], f"its unit is the millimetre (half of it lies {depth:.0f} from the camera)", ()
    for name, metres in UNITS.items() if axis else ():
        if not (ROOM[0] <= axis.height * metres <= ROOM[1] and WIDTH[0] <= axis.width * metres <= WIDTH[1]):
            continue
        why = f"its unit is the {name} (the room is {axis.height:.4g} high, {axis.height * metres:.2f} m)"
        if name not in RARE or _furnished(axis):
            return metres, why, ()
        return 1.0, None, ((f"perhaps {why}; no furniture tells", f"if it is so, give --scale {metres:g}"),)
    return 1.0, None, ()


def _furnished(axis):
    """Whether level furniture stands as high as in a room, and there is no storey above."""
    low, middle, high = axis.furniture
    return low >= FURNISHED and low >= middle + high and middle < 0.5 * axis.floor
