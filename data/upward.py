"""Which way is up in a scan, by the areas of its flat patches.

Floors, ceilings, table tops and walls are parallel or across to the one axis; along a wall's axis less is so. Along the
right axis a room is low for its width. Its floor is the end where there is a plane and none at the other, or, where
there are two, the one that furniture hides and near which things stand. k patches, a axes.
"""

from typing import NamedTuple

import numpy as np

from data.patches import Patches

LOOKED_AT = 1500  # directions of half a sphere, 4 degrees apart
PEAK, APART = 6, 15  # degrees: of the patches that a direction stands for, and to the next such direction
FEWEST = 0.03  # of the flat area that faces a direction which may be up
MOST_AXES = 8
PARALLEL = 12  # degrees to or across an axis
NARROWING = (12, 8, 6, 5, 5)  # degrees, of the patches that place an axis, in turns
ENDS = 0.003  # of the patches beyond the ends of the height
LAYER = 2.5  # edges of a patch, half the thickness of a floor
REACH = 0.15  # of the height, within which the floor is looked for
TWO_PLANES = 0.3  # of the ground that both a floor and a ceiling cover
ONE_PLANE = 0.25  # of the one end's plane that the other has at most, if it has none
FEWEST_INSIDE = 20  # patches between the ends, where things stand
# Of a logistic model of which direction is up, fitted to 68 generated rooms, a real one, and depth images in them
WEIGHTS = {"explained": 28.0, "height": -1.6, "low": 4.3, "one plane": 2.5, "hidden": 1.9}


class Axis(NamedTuple):
    """A direction (3,) that may be up, and what speaks for it."""

    up: np.ndarray
    evidence: dict[str, float]  # by the names of WEIGHTS
    height: float  # between the ends, in the scan's unit
    width: float  # square root of the ground's area
    floor: float  # share of the ground that the plane at the lower end covers
    ceiling: float
    furniture: tuple[
        float, float, float
    ]  # horizontal area at 13 - 42 %, 42 - 58 % and 58 - 97 % of the height / ground

    @property
    def score(self) -> float:
        return sum(WEIGHTS[name] * value for name, value in self.evidence.items())


def axes(found: Patches, more: np.ndarray) -> list[Axis]:
    """The directions that may be up, each with its opposite: those many patches face, and `more` (m, 3)."""
    flat = found.normal.any(axis=1)
    normal, area = found.normal[flat], found.area[flat]
    if len(normal) < FEWEST_INSIDE:
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
    """The direction near `up` (3,) to which patches that face (k, 3) are most parallel or across, by area (k,)."""
    for degrees in NARROWING:
        along = np.abs(normal @ up)
        level, upright = along > np.cos(np.deg2rad(degrees)), along < np.sin(np.deg2rad(degrees))
        better = np.linalg.eigh(_spread(normal, area, upright) - _spread(normal, area, level))[1][:, 0]
        up = better * (1 if better @ up >= 0 else -1)
    return up


def slopes(found: Patches, up: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """What is up (3,) by the level patches near `up` alone, and by the upright ones alone; None where either lacks."""
    along, area = np.abs(found.normal @ up), found.area
    flat = found.normal.any(axis=1)
    level, upright = along > np.cos(np.deg2rad(PARALLEL)), flat & (along < np.sin(np.deg2rad(PARALLEL)))
    if min(level.sum(), upright.sum()) < FEWEST_INSIDE:
        return None
    by_level = np.linalg.eigh(_spread(found.normal, area, level))[1][:, 2]
    values, vectors = np.linalg.eigh(_spread(found.normal, area, upright))
    if values[1] < 0.05 * values[2]:  # walls of one direction tell of one angle only
        return None
    by_walls = vectors[:, 0]
    return tuple(axis * (1 if axis @ up >= 0 else -1) for axis in (by_level, by_walls))


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
    normal, area, edge = found.normal, found.area, found.edge
    flat, along = normal.any(axis=1), np.abs(normal @ up)
    level, upright = along > np.cos(np.deg2rad(PARALLEL)), flat & (along < np.sin(np.deg2rad(PARALLEL)))
    explained = float((area[level].sum() + area[upright].sum()) / area[flat].sum())
    height = found.xyz @ up
    low, high = np.quantile(height, [ENDS, 1 - ENDS])
    column, columns = _columns(found, up)
    ground, tall = columns * (2 * edge) ** 2, max(high - low, edge)
    ends = [_plane_at(height[level], area[level], edge, low, tall)]
    ends.append(-_plane_at(-height[level], area[level], edge, -high, tall))
    covered = [len(np.unique(column[level & (np.abs(height - end) < LAYER * edge)])) / columns for end in ends]
    inside = (height > ends[0] + LAYER * edge) & (height < ends[1] - LAYER * edge)
    things, share = inside & ~upright, (height - low) / tall
    mean = float(np.average(share[things], weights=area[things])) if things.sum() > FEWEST_INSIDE else 0.5
    wide = float(np.clip(np.log(tall / np.sqrt(ground)), -1.5, 1))
    both = []
    for sign in (1, -1):
        floor, ceiling = covered[::sign]
        two = min(covered) > TWO_PLANES
        evidence = {
            "explained": explained,
            "height": wide,
            "low": sign * (0.5 - mean),
            "one plane": float(ceiling < ONE_PLANE * floor) - float(floor < ONE_PLANE * ceiling),
            "hidden": (ceiling - floor) * two,
        }
        shares = share if sign > 0 else 1 - share
        tops = [
            area[level & inside & (shares >= a) & (shares < b)].sum()
            for a, b in ((0.13, 0.42), (0.42, 0.58), (0.58, 0.97))
        ]
        furniture = tuple(float(top * edge**2 / ground) for top in tops)
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
