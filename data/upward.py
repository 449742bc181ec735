"""Which way is up in a scan, by the areas of its flat patches.

If the right axis is taken for up, floors, ceilings, table tops and walls are all level or upright; if a wall's is,
fewer are. Along the right axis a room is low for its width. Its floor is the end where there is a plane and none at the
other, or, where there are two, the one that furniture hides and near which things stand. k patches.

Each direction gets five numbers that say so, its evidence. Their sum, each times its weight, is the direction's score:
of two directions, the one whose score is higher by 1 is 2.7 times as likely, by 2 it is 7 times, and the chances of all
directions of a scan sum to 1. The weights are those that gave the true directions of known rooms the highest chances.
"""

from typing import NamedTuple

import numpy as np

from data.patches import Patches

# Chosen by hand, where no source is given
LOOKED_AT = 1500  # directions of half a sphere, 4 degrees apart
PEAK, APART = 6, 15  # degrees: of the patches that a direction stands for, and to the next such direction
FEWEST = 0.03  # of the flat area that faces a direction which may be up
MOST_AXES = 8
PARALLEL = 12  # degrees from level or upright
NARROWING = (12, 8, 6, 5, 5)  # degrees from level or upright, of the patches that place an axis, in turns
TWO_WAYS = 0.05  # of the patches upright one way, that must be so another way: walls of one direction tell one angle
ENDS = 0.003  # of the patches beyond the ends of the height
LAYER = 2.5  # edges of a patch, half the thickness of a floor
REACH = 0.15  # of the height, within which the floor is looked for
TWO_PLANES = 0.3  # of the ground that both a floor and a ceiling cover
ONE_PLANE = 0.25  # of the one end's plane that the other has at most, if it has none
TALL, FLAT = 1.0, -1.5  # logarithms of height / width beyond which no more is told
FEWEST_PATCHES = 20  # from which something is told
# Shares of the height in which furniture's level tops are: of a room, between, and of a room upside down
TOPS = ((0.13, 0.42), (0.42, 0.58), (0.58, 0.97))
# Logistic regression on 68 generated rooms (seeds 11 and 12), one of ScanNet's, and single depth images made in them
WEIGHTS = {
    "explained": 28.0,  # share of the flat area that is level or upright to it, less the best direction's
    "height": -1.6,  # logarithm of height / width
    "low": 4.3,  # how far below the middle, as a share of the height, is what stands between floor and ceiling
    "one plane": 2.5,  # 1 with a floor and no ceiling, -1 with a ceiling and no floor
    "hidden": 1.9,  # share of the ground that the ceiling covers, less the floor's, where there are both
}


class Axis(NamedTuple):
    """A direction (3,) that may be up, and what speaks for it."""

    up: np.ndarray
    evidence: dict[str, float]  # by the names of WEIGHTS
    height: float  # between the ends, in the scan's unit
    width: float  # square root of the ground's area
    floor: float  # share of the ground that the plane at the lower end covers
    ceiling: float
    furniture: tuple[float, ...]  # level area in each of TOPS / the ground

    @property
    def score(self) -> float:
        return sum(WEIGHTS[name] * value for name, value in self.evidence.items())


def axes(found: Patches, more: np.ndarray) -> list[Axis]:
    """The directions that may be up, each with its opposite: those many patches face, and `more` (m, 3)."""
    flat = found.normal.any(axis=1)
    normal, area = found.normal[flat], found.area[flat]
    if len(normal) < FEWEST_PATCHES:
        return []
    ups = []
    for start in (*_peaks(normal, area), *more):
        up = refined(start, normal, area)
        if up @ start < np.cos(np.deg2rad(APART)):
            up = start
        if all(abs(up @ other) < np.cos(np.deg2rad(APART / 2)) for other in ups):
            ups.append(up)
    both = [axis for up in ups for axis in _both_ways(found, up)]
    most = max(axis.evidence["explained"] for axis in both)
    return [axis._replace(evidence=axis.evidence | {"explained": axis.evidence["explained"] - most}) for axis in both]


def refined(up: np.ndarray, normal: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The direction near `up` (3,) to which patches that face (k, 3) are most level or upright, by area (k,)."""
    for degrees in NARROWING:
        level, upright = level_upright(normal, up, degrees)
        better = np.linalg.eigh(_spread(normal, area, upright) - _spread(normal, area, level))[1][:, 0]
        up = better * (1 if better @ up >= 0 else -1)
    return up


def slopes(found: Patches, up: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """What is up (3,) by the level patches near `up` alone, and by the upright ones alone; None where either lacks."""
    level, upright = level_upright(found.normal, up)
    if min(level.sum(), upright.sum()) < FEWEST_PATCHES:
        return None
    by_level = np.linalg.eigh(_spread(found.normal, found.area, level))[1][:, 2]
    values, vectors = np.linalg.eigh(_spread(found.normal, found.area, upright))
    if values[1] < TWO_WAYS * values[2]:
        return None
    return tuple(axis * (1 if axis @ up >= 0 else -1) for axis in (by_level, vectors[:, 0]))


def level_upright(normal: np.ndarray, up: np.ndarray, degrees: float = PARALLEL) -> tuple[np.ndarray, np.ndarray]:
    """Which of the patches that face (k, 3) are level and which are upright, (k,) bool, if `up` (3,) is up."""
    along = np.abs(normal @ up)
    return along > np.cos(np.deg2rad(degrees)), normal.any(axis=1) & (along < np.sin(np.deg2rad(degrees)))


def _spread(normal, area, some):
    return (normal[some] * area[some, None]).T @ normal[some]


def _peaks(normal, area):
    """Directions (3,) that many of the patches face, the most first."""
    z = (np.arange(LOOKED_AT) + 0.5) / LOOKED_AT
    angle = np.pi * (1 + 5**0.5) * np.arange(LOOKED_AT)  # a Fibonacci spiral
    round_ = np.sqrt(1 - z**2)
    directions = np.stack([round_ * np.cos(angle), round_ * np.sin(angle), z], axis=1)
    votes = np.zeros(LOOKED_AT)
    for start in range(0, len(normal), 4096):
        near = np.abs(normal[start : start + 4096] @ directions.T) > np.cos(np.deg2rad(PEAK))
        votes += area[start : start + 4096] @ near
    found = []
    for _ in range(MOST_AXES):
        best = int(np.argmax(votes))
        if votes[best] < FEWEST * area.sum():
            break
        found.append(directions[best])
        votes[np.abs(directions @ directions[best]) > np.cos(np.deg2rad(APART))] = 0
    return found


def _both_ways(found, up):
    """The Axis of `up` and of its opposite."""
    area, edge, height = found.area, found.edge, found.xyz @ up
    level, upright = level_upright(found.normal, up)
    explained = float(area[level | upright].sum() / area[found.normal.any(axis=1)].sum())
    low, high = np.quantile(height, [ENDS, 1 - ENDS])
    column, columns = _columns(found, up)
    ground, tall = columns * (2 * edge) ** 2, max(high - low, edge)
    bottom = _plane_at(height[level], area[level], edge, low, tall)
    top = -_plane_at(-height[level], area[level], edge, -high, tall)
    covered = [len(np.unique(column[level & (np.abs(height - end) < LAYER * edge)])) / columns for end in (bottom, top)]
    inside = (height > bottom + LAYER * edge) & (height < top - LAYER * edge)
    things, share = inside & ~upright, (height - low) / tall
    mean = float(np.average(share[things], weights=area[things])) if things.sum() > FEWEST_PATCHES else 0.5
    wide = float(np.clip(np.log(tall / np.sqrt(ground)), FLAT, TALL))
    both = []
    for sign in (1, -1):
        floor, ceiling = covered[::sign]
        evidence = {
            "explained": explained,
            "height": wide,
            "low": sign * (0.5 - mean),
            "one plane": float(ceiling < ONE_PLANE * floor) - float(floor < ONE_PLANE * ceiling),
            "hidden": (ceiling - floor) * (min(covered) > TWO_PLANES),
        }
        tops, from_floor = level & inside, share if sign > 0 else 1 - share
        areas = (area[tops & (from_floor >= a) & (from_floor < b)].sum() for a, b in TOPS)
        furniture = tuple(float(top * edge**2 / ground) for top in areas)
        both.append(Axis(sign * up, evidence, float(tall), float(np.sqrt(ground)), floor, ceiling, furniture))
    return both


def _columns(found, up):
    """In which column along `up` each patch is, (k,), and how many columns there are."""
    across = np.linalg.svd(up[None])[2][1:]  # (2, 3)
    i, j = np.floor(across @ found.xyz.T / (2 * found.edge)).astype(np.int64)
    column = (i - i.min()) * (np.ptp(j) + 1) + j - j.min()
    return column, len(np.unique(column))


def _plane_at(height, area, edge, low, tall):
    """Where near the lower end most of the level patches, of area (k,), lie."""
    near = height < low + max(REACH * tall, LAYER * edge)
    if not near.any():
        return low
    bins = np.floor((height[near] - height[near].min()) / edge).astype(np.int64)
    layers = np.convolve(np.bincount(bins, area[near]), np.ones(3), "same")
    return height[near].min() + (int(np.argmax(layers)) + 0.5) * edge
