"""What is in a wall or on it: doors, windows with blinds and curtains, pictures, boards, mirrors and small things.

Sizes follow buildings as built and medians of real scans. The wall's face is y = 0 and the room lies at y > 0; what
lines a hole, and what shows behind it, lies at y < 0.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data.rooms.shapes.clutter import on_top
from data.rooms.shapes.parts import fitted, split
from data.rooms.surfaces import (
    Piece,
    Surface,
    Thing,
    bounds,
    box,
    cushion,
    cylinder,
    ellipsoid,
    grid,
    lathe,
    moved,
    placed,
    rectangle,
    rod,
    sheet,
    turned,
)

Field = tuple[float, float, float, float]  # x0, x1, z0, z1


class Opening(NamedTuple):
    piece: Piece
    hole: Field | None  # to cut into the wall, in the piece's frame


def mirrored(things: list[Thing]) -> list[Thing]:
    return [Thing(t.name, [s._replace(xyz=s.xyz * (-1, 1, 1)) for s in t.surfaces]) for t in things]


def bars_around(field: Field, wide: float, y0: float, y1: float, foot: bool = True) -> list[Surface]:
    """Bars `wide` wide along the inside of a field's edges, without the lower one if not `foot`."""
    x0, x1, z0, z1 = field
    bars = [(x0, x0 + wide, z0, z1), (x1 - wide, x1, z0, z1), (x0, x1, z1 - wide, z1), (x0, x1, z0, z0 + wide)]
    return [box(a, b, y0, y1, c, d) for a, b, c, d in bars[: 4 if foot else 3]]


def lattice(xs: Sequence[float], zs: Sequence[float], wide: float, y0: float, y1: float):
    """Bars centred on the edges xs and zs of a grid, and the fields that they leave open."""
    half = wide / 2
    bars = [box(x - half, x + half, y0, y1, zs[0] - half, zs[-1] + half) for x in xs]
    bars += [box(xs[0], xs[-1], y0, y1, z - half, z + half) for z in zs]
    return bars, [(a + half, b - half, c + half, d - half) for a, b in pairwise(xs) for c, d in pairwise(zs)]


def lining(hole: Field, deep: float) -> list[Surface]:
    """The sides of a hole, from the wall's face inwards; at the floor it has none."""
    x0, x1, z0, z1 = hole
    back, wide, up = (0, -deep, 0), (x1 - x0, 0, 0), (0, 0, z1 - z0)
    upright = [rectangle((x, 0, z0), back, up) for x in (x0, x1)]
    return upright + [rectangle((x0, 0, z), wide, back) for z in (z0, z1) if z > 0]


def glass(rng: np.random.Generator, fields: list[Field], y: float) -> list[Surface]:
    """What a depth camera sees of panes: mostly nothing, else patches, or all of them."""
    seen, panes = rng.choice((0.0, rng.uniform(0.2, 0.8), 1.0), p=(0.5, 0.3, 0.2)), []
    for x0, x1, z0, z1 in fields:
        if x0 < x1 and z0 < z1 and rng.random() < seen:
            (a, c), (b, d) = np.sort(rng.uniform((x0, z0), (x1, z1), (2, 2)), 0) if seen < 1 else ((x0, z0), (x1, z1))
            panes.append(rectangle((a, y, c), (b - a, 0, 0), (0, 0, d - c)))
    return panes


def slats(field: Field, y: float, pitch: float, slope: float) -> list[Surface]:
    """Slats across a field, one every `pitch` m, tilted by `slope` rad from level."""
    x0, x1, z0, z1 = field
    tilt = 0.5 * pitch * np.array((0, np.cos(slope), np.sin(slope)))
    return [rectangle((x0, y, z) - tilt, (x1 - x0, 0, 0), 2 * tilt) for z in np.arange(z1 - pitch / 2, z0, -pitch)]


# Doors


def door_handle(rng: np.random.Generator, x: float, thick: float, back: bool) -> list[Surface]:
    """A handle on the face of a leaf at y = 0, and on its back: lever, knob or bar."""
    kind, z, out, size = rng.choice(3, p=(0.5, 0.35, 0.15)), rng.uniform(0.92, 1.1), 0.055, rng.uniform(0.022, 0.035)
    parts = []
    for face, sign in ((0, 1), (-thick, -1))[: 1 + back]:
        y = face + sign * out
        if kind == 0:
            parts += [rod((x, face, z), (x, y, z), 0.012), rod((x, y, z), (x - 0.12, y, z), 0.01)]
            parts += [box(x - 0.02, x + 0.02, face, face + sign * 0.008, z - 0.15, z + 0.05)]
        elif kind == 1:
            parts += [ellipsoid(x, y, z, size, size, size), rod((x, face, z), (x, y, z), 0.012)]
        else:
            parts += [rod((x, y, z - 0.2), (x, y, z + 0.2), 0.014)]
            parts += [rod((x, face, z + d), (x, y, z + d), 0.01) for d in (-0.18, 0.18)]
    return parts


def leaf(rng: np.random.Generator, width: float, height: float, fill: str, back: bool) -> list[Surface]:
    """A door leaf: x from its hinge (0), its front at y = 0, z from 0; `fill`: flush, panel, glass or louvre.

    back: its back is seen too.
    """
    thick, rows = rng.uniform(0.03, 0.05), int(rng.integers(1, 5))
    handle = door_handle(rng, width - rng.uniform(0.06, 0.09), thick, back)
    if fill == "flush":
        parts = [box(0, width, -thick, 0, 0.008, height)]
        if rng.random() < 0.15:  # a kick plate
            parts.append(box(0.03, width - 0.03, -thick - 0.004, 0.004, 0.02, rng.uniform(0.2, 0.4)))
        return parts + handle
    bar = rng.uniform(0.07, 0.13) * min(1, width / 0.6)
    xs = np.linspace(bar / 2, width - bar / 2, 3 if width > 0.55 and rng.random() < 0.55 else 2)
    parts, fields = lattice(xs, split(rng, bar / 2, height - bar / 2, rows), bar, -thick, 0)
    low = rng.uniform(0.2, 1.1) if rng.random() < 0.4 else 0  # below it glass or louvres give way to panels
    depth, raised = rng.uniform(0.004, 0.014), rng.random() < 0.4
    for x0, x1, z0, z1 in (shut := [f for f in fields if fill == "panel" or f[3] < low]):
        parts.append(box(x0, x1, depth - thick, -depth, z0, z1))
        if raised and min(x1 - x0, z1 - z0) > 0.12:
            parts.append(box(x0 + 0.04, x1 - 0.04, -thick, -0.002, z0 + 0.04, z1 - 0.04))
    rest = [f for f in fields if f not in shut]
    if fill == "glass":
        parts += glass(rng, rest, -thick / 2)
    else:
        pitch = rng.uniform(0.03, 0.06)
        parts += [slat for f in rest for slat in slats(f, -thick / 2, pitch, 0.8)]
    return parts + handle


def hung(leaf: list[Surface], x: float, y: float, angle: float = 0.0, right: bool = False) -> list[Surface]:
    """A leaf hung with its hinge at (x, y), opened by an angle towards the room; `right`: hinged at its right."""
    hand = (-1 if right else 1, 1, 1)
    return [moved(s._replace(xyz=turned(s, angle).xyz * hand), (x, y, 0)) for s in leaf]


def behind_door(rng: np.random.Generator, x0: float, x1: float, top: float, wall: float, closet: bool) -> list[Thing]:
    """The space behind an open door: a passage, or a closet with clothes."""
    deep, side = (rng.uniform(0.5, 0.7), 0.05) if closet else (rng.uniform(0.6, 1.5), rng.uniform(0, 0.5))
    a, b, far, up = x0 - side, x1 + side, -wall - deep, (0, 0, top + rng.uniform(0.05, 0.4))
    sides = [rectangle((x, -wall, 0), (0, -deep, 0), up) for x in (a, b)] + [rectangle((a, far, 0), (b - a, 0, 0), up)]
    things = [Thing("floor", [rectangle((a, far, 0), (b - a, 0, 0), (0, deep + wall, 0))]), Thing("wall", sides)]
    if closet:
        y, high = -wall - deep / 2, rng.uniform(1.5, 1.75)
        shelf = [box(a, b, far, y + 0.15, high + 0.08, high + 0.1), rod((a, y, high), (b, y, high), 0.015)]
        things.append(Thing("shelves", shelf))
        for x in np.arange(a + 0.08, b - 0.08, rng.uniform(0.07, 0.2)):  # clothes on hangers, seen from the edge
            foot = high - rng.uniform(0.5, 1.2)
            cloth = cushion(x, x + rng.uniform(0.05, 0.12), y - 0.22, y + rng.uniform(0.15, 0.25), foot, high, power=3)
            things.append(Thing("clothes", [cloth]))
    return things


def hung_leaves(rng, kind: str, made: list[Surface], count: int, one: float, shut: bool, out, recess, wall):
    """The leaves of a door, each `made` and `one` m wide, shut or open. out: of the frame; wall: its thickness."""
    half = count * one / 2
    leaves = []
    if kind in ("hinged", "double"):
        for right in (False, True)[:count]:
            angle, y = 0.0, -min(recess, wall - 0.05)
            if not shut:
                away = rng.random() < 0.3
                angle = -np.radians(rng.uniform(15, 110)) if away else np.radians(rng.uniform(20, 170))
                y = 0.05 - wall if away else out + 0.005  # a leaf turns about the edge of the wall that it opens to
            leaves += hung(made, half if right else -half, y, angle, right)
    elif kind == "sliding" and count == 1:  # on a rail in front of the wall
        leaves += hung(made, -half - (0 if shut else rng.uniform(0.3, 1) * one), out + 0.06)
    elif kind == "sliding":
        gone = 0 if shut else rng.uniform(0.3, 0.95) * one
        leaves += hung(made, -half, -0.02) + hung(made, half - gone, -0.08, right=True)
    elif kind == "closet" and (count == 2 or rng.random() < 0.4):  # leaves that slide behind each other, or swing
        gone = 0 if shut else rng.uniform(0.3, 0.95) * one
        leaves += [
            s for i in range(count) for s in hung(made, -half + i * one - gone * (i % 2), -0.02 - 0.05 * (i % 2))
        ]
    elif kind == "closet":  # pairs of leaves that fold
        fold = rng.uniform(0, 0.15) if shut else rng.uniform(0.6, 1.35)
        for right in (False, True):
            hand = -1 if right else 1
            x, y = -hand * half + hand * one * np.cos(fold), -0.02 + one * np.sin(fold)
            leaves += hung(made, -hand * half, -0.02, fold, right) + hung(made, x, y, -fold, right)
    return leaves


def door(rng: np.random.Generator, height: float) -> Opening:
    """A door: hinged (closed or open), double, sliding, of a closet, or a frame without a leaf. height: the room's."""
    kind = str(rng.choice(("hinged", "double", "sliding", "closet", "none"), p=(0.68, 0.08, 0.08, 0.1, 0.06)))
    fill = str(rng.choice(("flush", "panel", "glass", "louvre"), p=(0.6, 0.26, 0.11, 0.03)))
    if kind == "closet":
        fill = str(rng.choice(("flush", "panel", "louvre"), p=(0.35, 0.3, 0.35)))
    top, wall = min(rng.uniform(1.95, 2.1), height - 0.13), rng.uniform(0.1, 0.25)
    count = {"double": 2, "sliding": int(rng.integers(1, 3)), "closet": 2 * int(rng.integers(1, 3))}.get(kind, 1)
    one = rng.uniform(*((0.35, 0.6) if kind == "closet" else (0.6, 0.85) if count == 2 else (0.66, 0.95)))
    half = count * one / 2
    shut = kind != "none" and rng.random() < 0.74
    sealed = shut and fill not in ("glass", "louvre")  # nothing behind it is seen
    made = leaf(rng, one - 0.006, top - 0.006, fill, not sealed)
    out, recess = rng.uniform(0.005, 0.02), rng.uniform(0, 0.08) if rng.random() < 0.3 else rng.uniform(0, 0.015)
    leaves = hung_leaves(rng, kind, made, count, one, shut, out, recess, wall)
    parts = [box(-half - one, half, out, out + 0.04, top, top + 0.05)] if kind == "sliding" and count == 1 else []
    hole, casing = (-half, half, 0.0, top), rng.uniform(0.06, 0.12)
    if height - top > 0.45 and kind != "sliding" and rng.random() < 0.12:  # a light above the leaf
        hole = (-half, half, 0.0, top + rng.uniform(0.25, height - top - 0.15))
        bars, fields = lattice((-half, half), (top + 0.03, hole[3]), 0.06, -0.08, -0.01)
        parts += bars + glass(rng, fields, -0.04)
    parts += lining(hole, min(recess + 0.05, wall) if sealed else wall)
    if rng.random() < 0.88 or kind == "none":
        x0, x1, z0, z1 = hole
        outer = (x0 - casing, x1 + casing, z0, z1 + casing)
        parts += bars_around(outer, casing, -0.005, out, foot=False)
        if rng.random() < 0.5:  # a moulding
            parts += bars_around(outer, casing * 0.3, 0, out + 0.012, foot=False)
    things = [Thing("door", parts + leaves)]
    if kind == "hinged" and not shut and rng.random() < 0.7:  # an open leaf is mostly annotated without its frame
        things = [Thing("door", leaves), Thing("wall" if rng.random() < 0.7 else "door", parts)]
    if not sealed:
        things += behind_door(rng, -half, half, hole[3], wall, kind == "closet")
    elif rng.random() < 0.06:  # what hangs on the closed leaf
        x, z = rng.uniform(-0.15, 0.15), rng.uniform(1.5, 1.8)
        things.append(Thing("clothes", [sheet(x - 0.2, x + 0.2, 0.05, z - rng.uniform(0.5, 1.1), z, 0.03, 0.12, rng)]))
    return Opening(fitted(mirrored(things) if rng.random() < 0.5 else things), hole)


# Windows


def casement(rng: np.random.Generator, field: Field, y: float, rows: int, columns: int) -> list[Surface]:
    """A window's frame, sashes and what is seen of its panes; y: the frame's front."""
    x0, x1, z0, z1 = field
    bar, thick = rng.uniform(0.04, 0.08), rng.uniform(0.05, 0.09)
    xs, zs = split(rng, x0 + bar / 2, x1 - bar / 2, columns), split(rng, z0 + bar / 2, z1 - bar / 2, rows)
    parts, fields = lattice(xs, zs, bar, y - thick, y)
    sash, muntins, ajar = rng.uniform(0.03, 0.06), rng.integers(2, 4) if rng.random() < 0.25 else 1, rng.random() < 0.1
    step = rng.uniform(0, 0.03)
    for i, f in enumerate(fields):
        front = y + (0.015 if i % rows == 0 else 0.015 - step)  # a lower sash slides in front of the upper one
        inner = (f[0] + sash / 2, f[1] - sash / 2, f[2] + sash / 2, f[3] - sash / 2)
        bars, panes = lattice(
            np.linspace(*inner[:2], muntins + 1), np.linspace(*inner[2:], muntins + 1), sash, -0.04, 0
        )
        bars += glass(rng, panes, -0.02)
        if ajar and i == 0:  # about its left edge
            angle = rng.uniform(0.2, 1.4)
            bars = [turned(s, angle, about=(f[0], 0, 0)) for s in bars]
        parts += [moved(s, (0, front, 0)) for s in bars]
        if rng.random() < 0.4:
            parts.append(
                box(f[1] - 0.03, f[1], front, front + 0.04, (f[2] + f[3]) / 2 - 0.05, (f[2] + f[3]) / 2 + 0.05)
            )
    return parts


def blinds(rng: np.random.Generator, field: Field, y: float) -> Thing:
    """Venetian or upright slats, a roller or a folded blind, let down a part of the way."""
    x0, x1, z0, z1 = field
    kind, z0 = rng.choice(4, p=(0.5, 0.15, 0.25, 0.1)), z1 - (z1 - z0) * rng.choice((rng.uniform(0.15, 1), 1))
    parts = [box(x0, x1, y - 0.03, y + 0.03, z1 - 0.05, z1)]
    if kind == 0:
        pitch = rng.uniform(0.03, 0.06)
        parts += slats((x0, x1, z0, z1 - 0.05), y, pitch, rng.uniform(-1.4, 1.4)) + [
            box(x0, x1, y - 0.02, y + 0.02, z0, z0 + 0.03)
        ]
    elif kind == 1:
        wide = rng.uniform(0.08, 0.13)
        slat = rectangle((-wide / 2, 0, z0), (wide, 0, 0), (0, 0, z1 - z0))
        angle = rng.uniform(0, 1.4)
        parts += [moved(turned(slat, angle), (x, y, 0)) for x in np.arange(x0 + wide / 2, x1, wide * 0.9)]
    else:
        folds, bow = (int(rng.integers(3, 7)), rng.uniform(0.02, 0.05)) if kind == 3 else (1, rng.uniform(0, 0.03))

        def cloth(u, v):
            return np.stack((x0 + (x1 - x0) * u, y + bow * np.abs(np.sin(np.pi * folds * v)), z0 + (z1 - z0) * v), 1)

        parts += [grid(cloth, 2, 6 * folds), rod((x0, y, z1 - 0.03), (x1, y, z1 - 0.03), 0.03)]
    return Thing(str(rng.choice(("blinds", "window", "curtain"), p=(0.6, 0.3, 0.1))), parts)


def window(rng: np.random.Generator, height: float) -> Opening:
    """A window in its niche: single, a row, down to the floor, a high band, or a bay. height: the room's."""
    kind = str(rng.choice(("single", "row", "tall", "band", "bay"), p=(0.6, 0.14, 0.12, 0.08, 0.06)))
    wide = {"single": rng.uniform(0.6, 1.6), "tall": rng.uniform(0.6, 2.2)}.get(kind, rng.uniform(1.4, 2.8))
    z0 = {"tall": rng.uniform(0.02, 0.2), "band": rng.uniform(1.2, 1.5)}.get(kind, rng.uniform(0.6, 1.15))
    z1 = min(rng.uniform(1.75, 2.25), height - 0.12)
    half, deep, thick = wide / 2, rng.uniform(0.05, 0.28), 0.1
    hole, parts = (-half, half, z0, z1), []
    rows, columns = int(rng.choice((1, 2, 3), p=(0.5, 0.42, 0.08))), max(1, round(wide / rng.uniform(0.5, 1.1)))
    if kind == "bay":
        deep = rng.uniform(0.35, 0.6)
        slant = rng.uniform(0.3, 0.7) * half
        corners = np.array([(-half, 0.0), (slant - half, -deep), (half - slant, -deep), (half, 0.0)])
        for (ax, ay), (bx, by) in pairwise(corners):
            side = casement(
                rng, (0, np.hypot(bx - ax, by - ay), z0, z1), 0, rows, 1 + (ay == by and half > slant + 0.3)
            )
            parts += [moved(turned(s, np.arctan2(by - ay, bx - ax)), (ax, ay, 0)) for s in side]
        fan = np.array([(0, 1, 2), (0, 2, 3)])
        around = [Surface(np.column_stack((corners, np.full(4, z))), fan) for z in (z0, z1)]
    else:
        posts = np.linspace(-half, half, columns + 1) if kind == "row" else np.array((-half, half))
        pier, seed = rng.uniform(0.06, 0.25), int(rng.integers(2**32))
        for i, (a, b) in enumerate(pairwise(posts)):
            a, b = a + pier / 2 * (i > 0), b - pier / 2 * (b < half)
            parts += casement(np.random.default_rng(seed), (a, b, z0, z1), -deep, rows, 1 if kind == "row" else columns)
        around = lining(hole, deep + thick) + [
            box(x - pier / 2, x + pier / 2, -deep - thick, 0, z0, z1) for x in posts[1:-1]
        ]
    things = []
    if rng.random() < 0.5:  # the niche is annotated as part of the window, or of the wall
        parts += around
    else:
        things.append(Thing("wall", around))
    out, beyond = rng.uniform(0.01, 0.1), rng.uniform(0, 0.1)
    if kind != "tall" and rng.random() < 0.8:
        board = z0 + rng.uniform(0.005, 0.02)
        parts.append(box(-half - beyond, half + beyond, -deep, out, board - rng.uniform(0.02, 0.05), board))
        if deep + out > 0.15 and rng.random() < 0.45:
            things += on_top(rng, -half + 0.05, half - 0.05, -deep + 0.03, out, board, int(rng.integers(1, 5)))
    if rng.random() < 0.5:
        casing = rng.uniform(0.05, 0.11)
        outer = (-half - casing, half + casing, max(z0 - casing, 0), z1 + casing)
        parts += bars_around(outer, casing, -0.005, rng.uniform(0.01, 0.03))
    if kind != "bay" and rng.random() < 0.2:  # what is seen through the panes
        shift = -deep - rng.uniform(0.3, 0.8)
        seen = sheet(
            -half, half, 0, z0, z0 + (z1 - z0) * rng.uniform(0.3, 1), rng.uniform(0, 0.06), rng.uniform(0.3, 1), rng
        )
        parts.append(moved(seen, (0, shift, 0)))
    if kind != "bay" and rng.random() < 0.4:
        inside = deep > 0.12 and rng.random() < 0.6
        margin = -0.02 if inside else rng.uniform(0.03, 0.1)
        over = (-half - margin, half + margin, max(z0 - margin, 0.02), min(z1 + margin, height - 0.02))
        things.append(blinds(rng, over, -deep + 0.06 if inside else 0.06))
    return Opening(fitted([Thing("window", parts), *things]), hole)


# Curtains


def folds(rng: np.random.Generator, x0: float, x1: float, z0: float, z1: float, y: float, tie: float = 0.0) -> Surface:
    """A curtain's cloth: uneven folds, deeper at the foot; tie: the share by which it is drawn in."""
    wave, deep = rng.uniform(0.1, 0.28), rng.uniform(0.02, 0.055)
    phase, foot, stir = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.9, 1.6), rng.uniform(0, 0.12)
    at, to = rng.uniform(0.35, 0.55), rng.choice((x0, x1))

    def shape(u, v):
        x = x0 + (x1 - x0) * u
        bend = np.sin(2 * np.pi * x / wave + phase[0] + np.sin(2 * np.pi * x / (3.1 * wave) + phase[1]))
        bend += 0.5 * np.sin(2 * np.pi * x / (2.3 * wave) + phase[2] + 1.5 * v)
        slow = stir * (1 - v) * np.sin(2 * np.pi * x / 1.3 + phase[3])
        x = to + (x - to) * (1 - tie * np.exp(-(((v - at) / 0.2) ** 2)))
        return np.stack((x, y + deep * bend * (foot - (foot - 0.7) * v) + slow, z0 + (z1 - z0) * v), 1)

    return grid(shape, max(12, int((x1 - x0) / wave * 8)), 12)


def curtain(rng: np.random.Generator, width: float, height: float, sill: float = 0.9) -> Piece:
    """Curtains over `width` m from a rod `height` m up: drawn across, a pair, or aside; to the floor or the sill."""
    half, y = width / 2, rng.uniform(0.14, 0.22)
    short = sill > 0.5 and rng.random() < 0.1
    z0 = rng.uniform(sill - 0.35, sill) if short else rng.uniform(0.0, 0.08)
    kind, aside = rng.choice(4, p=(0.42, 0.2, 0.26, 0.12)), rng.uniform(0.15, 0.35) * width
    middle = rng.uniform(-0.1, 0.1) * width
    spans = [[(-half, half)], [(-half, middle), (middle, half)], [(-half, aside - half), (half - aside, half)],
             [(-half, 2 * aside - half)]][kind]  # fmt: skip
    tie = rng.uniform(0.3, 0.7) if width < 1.8 and z0 < 0.5 and rng.random() < 0.2 else 0.0
    cloths = [folds(rng, a, b, z0, height - 0.02, y, tie if b - a < 1 else 0.0) for a, b in spans]
    bar = [rod((-half - 0.08, y, height), (half + 0.08, y, height), rng.uniform(0.01, 0.018))]
    bar += [rod((x, 0, height), (x, y, height), 0.01) for x in (-half, half)]
    bar += [ellipsoid(x, y, height, 0.03, 0.025, 0.025) for x in (-half - 0.08, half + 0.08)]
    if rng.random() < 0.2:  # a net behind
        cloths[0:0] = [sheet(-half, half, y - 0.08, z0, height - 0.03, rng.uniform(0.005, 0.015), 0.1, rng)]
    if rng.random() < 0.12:  # a valance in front
        cloths.append(folds(rng, -half, half, height - rng.uniform(0.15, 0.35), height + 0.03, y + 0.08))
    one = rng.random() < 0.6 or len(cloths) == 1  # a pair is annotated as one thing or as two
    things = [Thing("curtain", cloths + bar)] if one else [Thing("curtain", [c]) for c in cloths]
    shift = max(0, 0.01 - bounds(things)[0][1])  # off the wall
    return fitted(placed(things, (0, shift, 0)))


def window_with_curtain(rng: np.random.Generator, height: float) -> Opening:
    opening = window(rng, height)
    x0, x1, z0, z1 = opening.hole
    rail = min(z1 + rng.uniform(0.05, 0.25), height - 0.06)
    cloth = curtain(rng, x1 - x0 + rng.uniform(0.1, 0.7), rail, z0)
    return Opening(fitted(opening.piece.things + cloth.things), opening.hole)


# On the wall


def framed(rng: np.random.Generator, x: float, z: float, wide: float, high: float) -> list[Surface]:
    """A flat thing centred at (x, z): a canvas, or a sheet in a frame, perhaps hung a little askew."""
    field, thick = (-wide / 2, wide / 2, -high / 2, high / 2), rng.uniform(0.001, 0.005)
    frame = rng.uniform(0.015, 0.07) if rng.random() < 0.5 else 0
    parts = [box(*field[:2], 0, thick if not frame else thick * 0.4, *field[2:])]
    if frame:
        parts += bars_around(field, min(frame, wide / 4), 0, thick)
    lean, askew = rng.uniform(0, 0.005), rng.normal(0, 0.01)
    parts = [turned(turned(s, lean, "x", (0, 0, -high / 2)), askew, "y") for s in parts]
    return [moved(s, (x, max(0.0, -min(s.xyz[:, 1].min() for s in parts)), z)) for s in parts]


def picture(rng: np.random.Generator) -> Piece:
    """A picture or a poster, more often upright than wide."""
    wide = float(np.clip(0.31 * np.exp(rng.normal(0, 0.45)), 0.15, 1.3))
    high = float(np.clip(wide * rng.uniform(0.6, 1.9), 0.2, 1.1)) if wide > 0.25 else wide * rng.uniform(1, 2.2)
    z = max(rng.normal(1.57, 0.12), high / 2 + 0.4)
    return fitted([Thing("picture", framed(rng, 0, z, wide, high))])


def pictures(rng: np.random.Generator) -> Piece:
    """A group of pictures: a row, or rows of columns, of equal or varied sizes."""
    rows, columns = ((1, int(rng.integers(2, 5))), (2, int(rng.integers(1, 4))))[int(rng.random() < 0.45)]
    cell, middle, equal = rng.uniform(0.25, 0.5, 2), rng.normal(1.55, 0.08), rng.random() < 0.5
    size, gap, things = rng.uniform(0.6, 0.92, 2), rng.uniform(0, 0.15), []
    for i, j in np.ndindex(rows, columns):
        x, z = (j - (columns - 1) / 2) * (cell[0] + gap), middle + (i - (rows - 1) / 2) * (cell[1] + gap)
        share = size if equal else rng.uniform(0.5, 0.95, 2)
        things.append(Thing("picture", framed(rng, x, z, *(cell * share))))
    return fitted(things)


def board(rng: np.random.Generator) -> Piece:
    """A whiteboard with its tray, or a notice board with papers."""
    wide, high, z = rng.uniform(0.6, 2.6), rng.uniform(0.6, 1.25), rng.uniform(1.4, 1.6)
    field, thick = (-wide / 2, wide / 2, z - high / 2, z + high / 2), rng.uniform(0.015, 0.04)
    parts = [box(*field[:2], 0, thick - 0.006, *field[2:]), *bars_around(field, rng.uniform(0.015, 0.05), 0, thick)]
    if rng.random() < 0.6:
        tray = rng.uniform(0.3, 1) * wide / 2
        parts.append(box(-tray, tray, 0, rng.uniform(0.05, 0.1), field[2] - 0.015, field[2]))
        return fitted([Thing("whiteboard", parts)])
    papers = []
    for x, up in rng.uniform(
        (-wide / 2 + 0.15, field[2] + 0.2), (wide / 2 - 0.15, field[3] - 0.2), (int(rng.integers(0, 9)), 2)
    ):
        paper = rectangle((-0.105, 0, -0.15), (0.21, 0, 0), (0, rng.uniform(0, 0.03), 0.3))
        papers.append(moved(turned(paper, rng.normal(0, 0.1), "y"), (x, thick + 0.005, up)))
    name = str(rng.choice(("whiteboard", "picture", "otherprop"), p=(0.45, 0.05, 0.5)))
    return fitted([Thing(name, parts)] + ([Thing("paper", papers)] if papers else []))


def mirror(rng: np.random.Generator) -> Piece:
    """A mirror on the wall, round or square-cut, with or without a frame, or a long one."""
    wide, high, z = rng.uniform(0.35, 1.0), rng.uniform(0.5, 1.1), rng.uniform(1.4, 1.6)
    if rng.random() < 0.3:
        disc = cylinder(0, 0, wide / 2, 0, rng.uniform(0.01, 0.03))
        ring = lathe(0, 0, [(wide / 2 - 0.03, 0.04), (wide / 2, 0.04), (wide / 2, 0)])
        parts = [moved(turned(s, -np.pi / 2, "x"), (0, 0, z)) for s in (disc, ring)]
    else:
        if rng.random() < 0.3:  # down to the knees or the floor
            high = rng.uniform(1.2, 1.8)
            z = high / 2 + rng.uniform(0.02, 0.5)
        parts = framed(rng, 0, z, wide, high)
    return fitted([Thing("mirror", parts)])


def wall_television(rng: np.random.Generator) -> Piece:
    wide = rng.uniform(0.6, 1.5)
    high, out, thick = wide * 0.58, rng.uniform(0.03, 0.15), rng.uniform(0.03, 0.08)
    z, tilt = rng.uniform(1.2, 1.8), rng.uniform(0, 0.15)
    screen = [box(-wide / 2, wide / 2, 0, thick, -high / 2, high / 2), box(-0.2, 0.2, -out, 0, -0.15, 0.15)]
    screen += bars_around((-wide / 2, wide / 2, -high / 2, high / 2), 0.02, 0, thick + 0.008)
    screen = [turned(s, -tilt, "x") for s in screen]
    return fitted([Thing("television", [moved(s, (0, -min(s.xyz[:, 1].min() for s in screen), z)) for s in screen])])


def wall_prop(rng: np.random.Generator) -> Piece:
    """A clock, a lamp, hooks with clothes, a dispenser, a heater, a switch box or a shelf with things."""
    kind, z = rng.choice(7, p=(0.15, 0.2, 0.25, 0.12, 0.08, 0.08, 0.12)), rng.uniform(1.3, 1.9)
    if kind == 0:
        r, thick = rng.uniform(0.1, 0.2), rng.uniform(0.03, 0.06)
        clock = lathe(0, 0, [(0, thick * 0.5), (r * 0.85, thick * 0.5), (r * 0.9, thick), (r, thick), (r, 0)])
        things = [Thing("otherprop", [moved(turned(clock, -np.pi / 2, "x"), (0, 0, z))])]
    elif kind == 1:
        y, r = rng.uniform(0.08, 0.2), rng.uniform(0.05, 0.12)
        shade = lathe(0, y + r, [(r * rng.uniform(0.4, 1), z + rng.uniform(0.12, 0.25)), (r, z)])
        things = [
            Thing("lamp", [rod((0, 0, z), (0, y + r, z + 0.05), 0.012), cylinder(0, y + r, r / 3, z, z + 0.06), shade])
        ]
    elif kind == 2:
        half = rng.uniform(0.2, 0.6)
        things = [Thing("otherfurniture", [box(-half, half, 0, 0.025, z - 0.04, z + 0.04)])]
        for x in np.linspace(-half + 0.08, half - 0.08, int(rng.integers(2, 6))):
            things[0].surfaces.append(rod((x, 0.02, z - 0.02), (x, 0.09, z + 0.02), 0.008))
            if rng.random() < 0.6:
                low, side = z - rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.22)
                coat = cushion(x - side, x + side, 0.0, rng.uniform(0.12, 0.25), low, z, power=2.6)
                things.append(Thing(str(rng.choice(("clothes", "bag"), p=(0.75, 0.25))), [coat]))
    elif kind == 3:
        w, d, h = rng.uniform(0.1, 0.3), rng.uniform(0.08, 0.2), rng.uniform(0.2, 0.4)
        body = cushion(-w / 2, w / 2, 0, d, z - h, z, power=5)
        things = [Thing("otherprop", [body, box(-w / 2, w / 2, 0, d * 0.9, z - h / 2, z - h / 2 + 0.01)])]
    elif kind == 4:
        w, d, h = rng.uniform(0.5, 1.0), rng.uniform(0.15, 0.25), rng.uniform(0.22, 0.32)
        z = rng.uniform(1.9, 2.2)
        things = [Thing("otherfurniture", [cushion(-w / 2, w / 2, 0, d, z - h, z, power=6)])]
    elif kind == 5:
        w, h = rng.uniform(0.08, 0.4, 2)
        things = [Thing("otherprop", [box(-w / 2, w / 2, 0, rng.uniform(0.02, 0.12), z - h, z)])]
    else:
        half, d, z = rng.uniform(0.25, 0.7), rng.uniform(0.15, 0.28), rng.uniform(1.2, 1.7)
        things = [Thing("shelves", [box(-half, half, 0, d, z - 0.025, z)])]
        things += on_top(rng, -half, half, 0.01, d, z, int(rng.integers(2, 10)), 0.4)
    return fitted(things)
