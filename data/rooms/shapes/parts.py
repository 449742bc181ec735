"""What several kinds of furniture share: solids beyond those of surfaces.py, and pieces from their things."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from data.rooms.surfaces import ROUND, Piece, Surface, Thing, bounds, grid, placed, rod

T = TypeVar("T")


def moulded(rx: float, ry: float, profile: Sequence[tuple[float, float]], power: float = 2.0, x=0.0, y=0.0) -> Surface:
    """As lathe, but a superellipse from above. profile: (share of the half widths rx and ry, z) from end to end.

    power 2 is an ellipse, 4 a soft square, 10 a rectangle with round corners.
    """
    share, height = np.array(profile, float).T

    def shape(u, v):
        at, steps = v * (len(share) - 1), np.arange(len(share))
        cos, sin = np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)
        r = np.interp(at, steps, share) / (np.abs(cos) ** power + np.abs(sin) ** power) ** (1 / power)
        return np.stack((x + rx * r * cos, y + ry * r * sin, np.interp(at, steps, height)), 1)

    return grid(shape, 2 * ROUND, len(share) - 1)


def slab(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, power: float) -> Surface:
    """A flat plate; its outline is a superellipse."""
    profile = [(0, z0), (1, z0), (1, z1), (0, z1)]
    return moulded((x1 - x0) / 2, (y1 - y0) / 2, profile, power, (x0 + x1) / 2, (y0 + y1) / 2)


def ring(centre: Sequence[float], radius: float, thick: float) -> Surface:
    """A torus that stands in the plane of x and z."""

    def shape(u, v):
        r = radius + thick * np.cos(2 * np.pi * v)
        angle = 2 * np.pi * u
        return np.stack((r * np.cos(angle), thick * np.sin(2 * np.pi * v), r * np.sin(angle)), 1) + centre

    return grid(shape, 24, 6)


def tube(points: Sequence[Sequence[float]], radius: float) -> list[Surface]:
    """Round bars from point to point (3,)."""
    return [rod(a, b, radius) for a, b in zip(points[:-1], points[1:], strict=True)]


def split(rng: np.random.Generator, a: float, b: float, count: int, even: float = 0.6) -> np.ndarray:
    """(count + 1,) edges that cut a..b into parts, equal ones with probability `even`."""
    shares = np.full(count, 1 / count) if rng.random() < even else rng.dirichlet(np.full(count, 8.0))
    return a + (b - a) * np.append(0, shares.cumsum())


def pick(rng: np.random.Generator, weights: dict[T, float]) -> T:
    """One of the keys, such as names or makers, by their weights."""
    weight = np.array(list(weights.values()))
    return list(weights)[rng.choice(len(weight), p=weight / weight.sum())]


def settled(things: list[Thing]) -> Piece:
    """The piece of things that are made anywhere: moved to its frame, and up where they are below the floor."""
    low, high = bounds(things)
    middle, (width, depth, _) = (low + high) / 2, high - low
    return Piece(placed(things, (-middle[0], -low[1], -min(low[2], 0))), float(width), float(depth))


def fitted(things: list[Thing]) -> Piece:
    """The piece of these things; its width is that of all of them, its depth that of what stands before the wall."""
    low, high = bounds(things)
    return Piece(things, 2 * float(max(-low[0], high[0])), max(float(high[1]), 0.0))


def annotated_with(rng, owner: Thing, things: list[Thing], share: float) -> list[Thing]:
    """The owner first; a share of the things on it is annotated as part of it."""
    own = [rng.random() < share for _ in things]
    surfaces = [s for thing, is_part in zip(things, own, strict=True) if is_part for s in thing.surfaces]
    apart = [thing for thing, is_part in zip(things, own, strict=True) if not is_part]
    return [owner._replace(surfaces=owner.surfaces + surfaces), *apart]
