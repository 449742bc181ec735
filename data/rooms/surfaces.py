"""Triangle surfaces of simple solids, what scanned rooms are built of. They may be open, and may pass through others.

V vertices, F triangles; metres, radians; x to the right, y to the front, z up.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

ROUND = 16  # sides of what is round


class Surface(NamedTuple):
    xyz: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int64, either way round


class Thing(NamedTuple):
    """One object: its raw category and its surfaces."""

    name: str
    surfaces: list[Surface]


class Piece(NamedTuple):
    """What is placed as one: furniture and what lies on it.

    Its frame: x along the wall with 0 in the middle, y from the wall (0) out to its front, z up from the floor.
    """

    things: list[Thing]
    width: float  # along x, of its footprint
    depth: float  # along y


def bounds(things: Sequence[Thing]) -> tuple[np.ndarray, np.ndarray]:
    """(3,) least and most of the coordinates of their vertices."""
    xyz = np.concatenate([surface.xyz for thing in things for surface in thing.surfaces])
    return xyz.min(0), xyz.max(0)


def moved(surface: Surface, offset: Sequence[float]) -> Surface:
    return surface._replace(xyz=surface.xyz + np.asarray(offset, float))


def turned(surface: Surface, angle: float, axis: str = "z", about: Sequence[float] = (0, 0, 0)) -> Surface:
    """Turned counter-clockwise about an axis through the point `about`."""
    cos, sin, i = np.cos(angle), np.sin(angle), "xyz".index(axis)
    rotation = np.eye(3)
    j, k = (i + 1) % 3, (i + 2) % 3
    rotation[[j, j, k, k], [j, k, j, k]] = cos, -sin, sin, cos
    return surface._replace(xyz=(surface.xyz - about) @ rotation.T + about)


def placed(things: Sequence[Thing], offset: Sequence[float], angle: float = 0.0) -> list[Thing]:
    """They, turned about z and then moved."""
    return [Thing(t.name, [moved(turned(s, angle), offset) for s in t.surfaces]) for t in things]


def grid(shape: Callable[[np.ndarray, np.ndarray], np.ndarray], columns: int, rows: int) -> Surface:
    """The surface (u, v) -> xyz over the unit square. shape: from u, v (n,) in [0, 1] to (n, 3)."""
    u, v = (w.ravel() for w in np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1), indexing="ij"))
    ids = np.arange(len(u)).reshape(columns + 1, rows + 1)
    a, b, c, d = (w.ravel() for w in (ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]))
    return Surface(shape(u, v), np.concatenate((np.stack((a, b, c), 1), np.stack((a, c, d), 1))))


def rectangle(corner: Sequence[float], along: Sequence[float], up: Sequence[float]) -> Surface:
    """The parallelogram of a corner and two edges, each (3,)."""
    corner, along, up = (np.asarray(w, float) for w in (corner, along, up))
    return Surface(
        np.stack((corner, corner + along, corner + along + up, corner + up)), np.array([(0, 1, 2), (0, 2, 3)])
    )


def box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Surface:
    corners = np.array([(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)], float)
    sides = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    return Surface(corners, np.concatenate((sides[:, :3], sides[:, [0, 2, 3]])))


def cushion(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, power: float = 4.0) -> Surface:
    """A box with round edges: a superellipsoid. power 2 is an ellipsoid, 4 a pillow, 8 and more a padded block."""
    centre = np.array([x0 + x1, y0 + y1, z0 + z1], float) / 2
    half = np.array([x1 - x0, y1 - y0, z1 - z0], float) / 2

    def shape(u, v):
        theta, phi = 2 * np.pi * u, np.pi * (v - 0.5)
        ball = np.stack((np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)), 1)
        return centre + half * ball / (np.abs(ball) ** power).sum(1, keepdims=True) ** (1 / power)

    return grid(shape, 2 * ROUND, ROUND)


def ellipsoid(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> Surface:
    return cushion(x - rx, x + rx, y - ry, y + ry, z - rz, z + rz, power=2.0)


def lathe(x: float, y: float, profile: Sequence[tuple[float, float]]) -> Surface:
    """Turned about the vertical through (x, y). profile: (radius, z) from one end to the other."""
    radius, height = np.array(profile, float).T

    def shape(u, v):
        at = v * (len(radius) - 1)
        r, z = np.interp(at, np.arange(len(radius)), radius), np.interp(at, np.arange(len(radius)), height)
        return np.stack((x + r * np.cos(2 * np.pi * u), y + r * np.sin(2 * np.pi * u), z), 1)

    return grid(shape, ROUND, len(radius) - 1)


def cylinder(x: float, y: float, radius: float, z0: float, z1: float) -> Surface:
    return lathe(x, y, [(0, z0), (radius, z0), (radius, z1), (0, z1)])


def rod(start: Sequence[float], end: Sequence[float], radius: float) -> Surface:
    """A round bar between two points (3,)."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / np.linalg.norm(end - start)
    side = np.cross(along, (0, 0, 1) if abs(along[2]) < 0.9 else (1, 0, 0))
    side /= np.linalg.norm(side)
    up = np.cross(along, side)

    def shape(u, v):
        angle = 2 * np.pi * u[:, None]
        return start + (end - start) * v[:, None] + radius * (np.cos(angle) * side + np.sin(angle) * up)

    return grid(shape, 8, 1)


def sheet(x0: float, x1: float, y: float, z0: float, z1: float, folds: float, wave: float, rng: np.random.Generator):
    """A hanging cloth in the plane of x and z: folds deep by `folds` m, about `wave` m apart, deeper at the foot."""
    phase, stray = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.5, 1.5)

    def shape(u, v):
        x = x0 + (x1 - x0) * u
        bend = np.sin(2 * np.pi * x / wave + phase[0]) + 0.5 * np.sin(2 * np.pi * x / (2.3 * wave) + phase[1])
        return np.stack((x, y + folds * bend * (1 - 0.4 * v * stray), z0 + (z1 - z0) * v), 1)

    return grid(shape, max(8, int((x1 - x0) / wave * 8)), 6)


def draped(x0: float, x1: float, y0: float, y1: float, z: float, height: float, rng: np.random.Generator) -> Surface:
    """A cloth on top of something, smooth bumps up to `height` m above z: bedding, clothes, a heap of things."""
    waves = rng.normal(0, 1, (2, 6)) * 2 * np.pi
    phase, share = rng.uniform(0, 2 * np.pi, 6), rng.dirichlet(np.ones(6))

    def shape(u, v):
        bump = (np.sin(np.stack((u, v), 1) @ waves + phase) * share).sum(1) * 0.5 + 0.5
        edge = np.minimum(1, 8 * np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)))
        return np.stack((x0 + (x1 - x0) * u, y0 + (y1 - y0) * v, z + height * bump * edge), 1)

    return grid(shape, 24, 24)
