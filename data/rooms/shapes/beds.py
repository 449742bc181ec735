"""Beds from single to king: frame, mattress, bedding, pillows, head and foot boards; bunks, lofts, cribs.

Sizes follow mattresses as sold (0.9 to 2.0 m x 1.9 to 2.1 m), heights real scans (top 1.37 m with the head board).
A bed is built with its head at y = 0, its middle at x = 0; framed() then moves it. Metres.
"""

from itertools import pairwise

import numpy as np

from data.rooms.shapes.clutter import on_top
from data.rooms.shapes.parts import pick
from data.rooms.shapes.seats import bent, framed, legs, pillow, shell, soft
from data.rooms.surfaces import Piece, Surface, Thing, box, cushion, ellipsoid, grid, moved, placed, rod, sheet, turned

WIDTHS = {(0.88, 1.08): 0.17, (1.3, 1.45): 0.18, (1.5, 1.65): 0.37, (1.75, 2.0): 0.28}  # single, double, queen, king


def creases(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) in [0, 1]: the ridges of a crumpled cloth, 0.2 to 0.8 m apart; the narrow ones are low."""
    height, share = np.zeros(len(x)), rng.dirichlet(np.ones(3))
    for part in share:
        angle, wave = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
        along = (x * np.cos(angle) + y * np.sin(angle)) / wave + rng.uniform(0, 1)
        bend = rng.uniform(0, 0.6) * np.sin(2 * np.pi * (x * np.sin(angle) - y * np.cos(angle)) / rng.uniform(0.6, 2))
        height += part * min(1, 2 * wave) * (1 - np.abs(np.sin(np.pi * (along + bend))))
    return height


def cover(rng, x0, x1, y0, y1, z, rumple, drops) -> Surface:
    """Bedding on a mattress whose top is at z: creases up to `rumple` m, hanging by drops (left, right, foot) m."""
    left, right, foot = drops
    flare, folds, wave = rng.uniform(0, 0.15), rng.uniform(0.002, 0.02), rng.uniform(0.15, 0.4)
    swell, turn = rng.uniform(0.01, 0.05), rng.normal(0, 0.03)

    def shape(u, v):
        s = x0 - left + (x1 - x0 + left + right) * u + turn * (v - 0.5)
        t = y0 + (y1 - y0 + foot) * v
        side, end = np.maximum(x0 - s, 0) + np.maximum(s - x1, 0), np.maximum(t - y1, 0)
        hang, corner = np.maximum(side, end), np.minimum(side, end)
        fold = folds * np.sin(2 * np.pi * (s + t) / wave) * (hang > 0.05)
        out = swell * np.minimum(1, hang / 0.06) + flare * hang + fold
        x = np.clip(s, x0, x1) + np.sign(s - x0) * (side > 0) * (out + 0.3 * corner)
        y = np.minimum(t, y1) + (end > 0) * (out + 0.3 * corner)
        edge = np.exp(-hang / 0.05)
        return np.stack((x, y, np.maximum(z + 0.01 + edge * rumple * creases(rng, s, t) - hang, 0.005)), 1)

    return grid(shape, 48, 40)


def mound(rng, x: float, y: float, a: float, b: float, z: float, height: float) -> Surface:
    """A heap of cloth around (x, y), of half axes a and b."""

    def shape(u, v):
        p, q = a * v * np.cos(2 * np.pi * u), b * v * np.sin(2 * np.pi * u)
        ragged = 1 + 0.2 * np.sin(2 * np.pi * u * 3 + phase) * v
        high = height * np.sqrt(1.001 - v**2) * (0.4 + 0.6 * creases(rng, p, q))
        return np.stack((x + p * ragged, y + q * ragged, z + high), 1)

    phase = rng.uniform(0, 2 * np.pi)
    return grid(shape, 36, 12)


def board(rng, kind: str, w: float, top: float, low: float) -> list[Surface]:
    """Of half width w, upright around y = 0 and from z = low (what hides it below does not matter) to `top`."""
    thick, post = rng.uniform(0.02, 0.07), rng.uniform(0.015, 0.04)
    if kind in ("slab", "padded"):
        if kind == "slab":
            parts = [box(-w, w, -thick / 2, thick / 2, low, top)]
            if rng.random() < 0.4:  # a frame around it
                parts.append(box(-w, w, -thick, thick, top - 0.06, top))
                parts += [box(*sorted((s * w, s * (w - 0.07))), -thick, thick, 0, top) for s in (-1, 1)]
            return parts
        thick = rng.uniform(0.06, 0.14)
        columns, rows = (int(rng.integers(1, 7)), int(rng.integers(1, 4))) if rng.random() < 0.5 else (1, 1)
        x, z = np.linspace(-w, w, columns + 1), np.linspace(low, top, rows + 1)
        power = rng.uniform(6, 16) if columns * rows == 1 else rng.uniform(4, 8)
        fields = [(*across, -thick / 2, thick / 2, *up) for across in pairwise(x) for up in pairwise(z)]
        padding = [cushion(*field, power) for field in fields]
        return [*padding, box(-w, w, -thick / 2, 0, low, top - 0.02)]
    if kind == "arched":
        rise, power, shoulder = rng.uniform(0.08, 0.35), rng.uniform(1.5, 5), rng.uniform(0, 0.3)

        def shape(u, v):
            x = 2 * np.abs(v - 0.5)
            high = top - rise * np.maximum(0, (x - shoulder) / (1 - shoulder)) ** power
            y, z = np.interp(u, [0, 0.4, 0.6, 1], [-0.5, -0.5, 0.5, 0.5]), np.interp(u, [0, 0.4, 0.6, 1], [0, 1, 1, 0])
            return np.stack((w * (2 * v - 1), y * thick, low + (high - low) * z), 1)

        return [grid(shape, 10, 32)]
    if kind == "sleigh":
        curl = rng.uniform(0.06, 0.2)
        return [shell([(0, low, w), (0.02, (low + top) / 2, w), (-curl, top, w), (-1.6 * curl, top - 0.02, w)], thick)]
    if kind == "shelf":
        deep, middle = rng.uniform(0.15, 0.28), low + rng.uniform(0.5, 0.75) * (top - low)
        ends = np.linspace(-w, w, int(rng.integers(2, 5)))
        parts = [box(x - 0.01, x + 0.01, -deep, 0, 0, top) for x in ends]
        parts += [box(-w, w, -deep, 0, z, z + 0.02) for z in (middle, top)]
        return [*parts, box(-w, w, -deep, -deep + 0.02, low, top)]
    parts = [rod((s * w, 0, 0), (s * w, 0, top + rng.choice([0, 0.06])), post) for s in (-1, 1)]
    arch, r = rng.choice([0, rng.uniform(0, 0.2)]), rng.uniform(0.01, 0.02)
    parts += bent([(-w, 0, top - arch), (-0.5 * w, 0, top), (0.5 * w, 0, top), (w, 0, top - arch)], r + 0.005)
    if kind == "bars":
        xs = np.linspace(-w, w, int(rng.integers(5, 16)))[1:-1]
        foot = low + rng.choice([0, 0.15 * (top - low)])
        parts += [rod((x, 0, foot), (x, 0, top - arch * (abs(x) > 0.7 * w)), r) for x in xs]
    else:  # rails
        for z in np.linspace(low, top - arch, int(rng.integers(2, 6)), endpoint=False):
            parts.append(box(-w, w, -0.01, 0.01, z, z + rng.uniform(0.05, 0.12)))
    return parts


def pillows(rng, w: float, z: float, board_top: float) -> list[Surface]:
    """One to three rows at the head, lying, stacked or leaning."""
    parts = []
    beside = 1 if w < 0.6 else int(rng.choice([2, 2, 3]))
    y, high = rng.uniform(0.02, 0.08), z
    for row in range(rng.integers(1, 4)):
        leans = board_top > z + 0.25 and rng.random() < 0.45
        size, thick = rng.uniform(0.35, 0.5) * 0.9**row, rng.uniform(0.1, 0.2)
        width = min(1.9 * w / beside, rng.uniform(0.5, 0.85) * 0.92**row)
        for k in range(beside):
            if rng.random() < 0.12:
                continue
            it = pillow(rng, width, size, thick)
            it = turned(turned(it, rng.uniform(0.7, 1.3) if leans else rng.uniform(0, 0.3), "x"), rng.normal(0, 0.1))
            x = (2 * (k + 0.5) / beside - 1) * w * 0.95 + rng.normal(0, 0.03)
            low = it.xyz.min(0)
            parts.append(moved(it, (x, y - low[1], high - low[2])))
        if leans or rng.random() < 0.5:  # the next before it
            y += 0.9 * (thick + 0.08 if leans else size)
        else:  # the next on it
            high += 0.8 * thick
        if y > 0.8 or rng.random() < 0.4:
            break
    return parts


def on_bed(rng, w: float, length: float, z: float) -> list[Thing]:
    """What is left on it: clothes, bags, toys, books."""
    things = []
    if rng.random() < 0.2:
        x, y, a, b = rng.uniform(-0.5 * w, 0.5 * w), rng.uniform(0.9, length - 0.35), *rng.uniform(0.2, 0.4, 2)
        heap = mound(rng, x, y, a, b, z + 0.02, rng.uniform(0.08, 0.3))
        things.append(Thing(pick(rng, {"clothes": 0.4, "bed": 0.45, "otherprop": 0.15}), [heap]))
    if rng.random() < 0.1:
        x, y, r = rng.uniform(-0.6 * w, 0.6 * w), rng.uniform(0.4, 0.8), rng.uniform(0.07, 0.16)
        toy = [ellipsoid(x, y, z + r, r, 0.8 * r, 1.1 * r), ellipsoid(x, y, z + 2.4 * r, *(0.7 * r,) * 3)]
        limbs = [(x + s * r, y + 0.6 * r, z + t * r) for s in (-1, 1) for t in (0.4, 1.5)]
        toy += [ellipsoid(*limb, 0.4 * r, 0.7 * r, 0.4 * r) for limb in limbs]
        things.append(Thing("otherprop", toy))
    if rng.random() < 0.12:
        things += on_top(rng, -0.8 * w, 0.8 * w, 0.7, length - 0.1, z + 0.02, int(rng.integers(1, 3)))
    return things


def frame(rng, w: float, length: float, low: float) -> list[Surface]:
    """What carries a mattress whose lower side is at z = low."""
    kind = pick(rng, {"legs": 0.4, "box": 0.35, "drawers": 0.12, "plinth": 0.13})
    over = rng.uniform(0, 0.06)
    if kind == "legs" and low > 0.12:
        rail = rng.uniform(0.04, min(0.2, low - 0.06))
        parts = [box(-w - over, w + over, 0, length + over, low - rail, low)]
        return parts + legs(rng, (-w + 0.04, w - 0.04), (0.05, length - 0.05), low - rail + 0.01)
    if kind == "plinth":
        inset = rng.uniform(0.05, 0.25)
        foot = box(-w + inset, w - inset, 0.1, length - inset, 0, low)
        return [box(-w - over, w + over, 0, length + over, low - 0.08, low), foot]
    parts = [box(-w, w, 0, length, 0.0 if kind == "drawers" else min(0.06, low / 2), low)]
    if kind == "drawers":
        ends = np.linspace(0.05, length - 0.02, int(rng.integers(3, 5)))
        parts += [box(-w - 0.02, w + 0.02, a + 0.02, b, 0.05, low - 0.05) for a, b in pairwise(ends)]
        return parts
    return parts + legs(rng, (-w + 0.1, w - 0.1), (0.1, length - 0.1), 0.08)


def bedding(rng, w: float, length: float, z: float, thick: float) -> list[Surface]:
    """Over a mattress whose top is at z: a blanket made up, crumpled, turned back, pushed aside; or none."""
    kind = pick(rng, {"made": 0.24, "crumpled": 0.58, "heap": 0.12, "none": 0.06})
    parts, most = [], max(z - 0.04, 0.05)
    if kind in ("made", "crumpled"):
        start = rng.choice([0.02, rng.uniform(0.25, 0.8)])
        drops = [most if rng.random() < 0.65 else min(most, rng.uniform(0.05, 1.6 * thick)) for _ in range(3)]
        rumple = rng.uniform(0.03, 0.1) if kind == "made" else rng.uniform(0.05, 0.15)
        parts.append(cover(rng, -w, w, start, length, z, rumple, drops))
        if start > 0.2 and rng.random() < 0.6:  # turned back: a roll across
            end, high = start + rng.uniform(0.15, 0.4), z + rng.uniform(0.04, 0.1)
            parts.append(soft(cushion(-w - 0.03, w + 0.03, start - 0.05, end, z, high, 4), 0.015, rng))
    elif kind == "heap":
        x, y = rng.uniform(-0.3 * w, 0.3 * w), rng.uniform(0.8, length - 0.4)
        a, b, high = rng.uniform(0.5, 1) * w, rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.4)
        parts.append(soft(mound(rng, x, y, a, b, z, high), 0.02, rng))
    if rng.random() < 0.25:  # a second blanket over the foot end
        y = length - rng.uniform(0.4, 1.0)
        drops = rng.uniform(0.05, most, 3)
        parts.append(cover(rng, -w - 0.02, w + 0.02, y, length + 0.02, z + 0.04, rng.uniform(0.02, 0.1), drops))
    return parts


def bed(rng: np.random.Generator) -> Piece:
    """Its head at the wall, or for some narrow ones a side; now and then a bunk or a crib."""
    form = rng.random()
    if form < 0.05:
        return bunk(rng)
    if form < 0.07:
        return crib(rng)
    ranges = list(WIDTHS)
    w = rng.uniform(*ranges[rng.choice(len(ranges), p=list(WIDTHS.values()))]) / 2
    length, thick = rng.uniform(1.88, 2.1), rng.uniform(0.16, 0.34)
    low = rng.uniform(0.14, 0.42) if rng.random() < 0.93 else 0.02  # some lie on the floor
    z = low + thick
    parts = frame(rng, w, length, low) if low > 0.1 else []
    parts.append(soft(cushion(-w, w, 0, length, low, z, 24), 0.004, rng))
    parts += bedding(rng, w, length, z, thick)
    kinds = {"slab": 0.24, "padded": 0.24, "arched": 0.1, "bars": 0.16, "rails": 0.12, "sleigh": 0.06, "shelf": 0.08}
    top, kind = z, pick(rng, kinds)
    if low > 0.1 and rng.random() < 0.92:
        top = z + rng.uniform(0.5, 1.1)
        head = board(rng, kind, w + rng.choice([0.02, rng.uniform(0, 0.12)]), top, rng.uniform(0, low))
        tilt = rng.choice([0, rng.uniform(0, 0.12)])
        parts += [moved(turned(part, tilt, "x"), (0, -0.04, 0)) for part in head]
        if rng.random() < 0.45:
            kind = "slab" if kind == "shelf" else kind
            foot = board(rng, kind, w + 0.02, z + rng.uniform(-0.1, 0.3), rng.uniform(0, low))
            parts += [moved(part._replace(xyz=part.xyz * (1, -1, 1)), (0, length + 0.06, 0)) for part in foot]
    if rng.random() < 0.04:
        parts += canopy(rng, w + 0.04, length)
    cushions, things = pillows(rng, w, z, top) if rng.random() < 0.9 else [], []
    for part in cushions:
        if rng.random() < 0.25:
            things.append(Thing("pillow", [part]))
        else:
            parts.append(part)
    if w > 0.6 and low > 0.1 and rng.random() < 0.1:  # a bench or chest at the foot, taken for a part of it
        parts.append(box(-0.6 * w, 0.6 * w, length + 0.08, length + 0.45, 0, rng.uniform(0.35, 0.5)))
    piece = framed([Thing("bed", parts), *things, *on_bed(rng, w, length, z)])
    return sideways(piece, rng.choice([-1, 1])) if w < 0.6 and rng.random() < 0.4 else piece


def sideways(piece: Piece, turn: int = 1) -> Piece:
    """With a side to the wall, not its head: the left one, or the right one for turn -1."""
    return framed(placed(piece.things, (0, 0, 0), turn * np.pi / 2))


def canopy(rng, w: float, length: float) -> list[Surface]:
    """Four posts, a frame over them, on some a cloth at the head."""
    top, r = rng.uniform(1.8, 2.15), rng.uniform(0.015, 0.04)
    corners = [(-w, 0), (w, 0), (w, length), (-w, length)]
    parts = [rod((x, y, 0), (x, y, top), r) for x, y in corners]
    parts += [rod((*corners[k - 1], top), (*corners[k], top), r) for k in range(4)]
    return [*parts, sheet(-w, w, 0.02, 0.3, top, 0.03, 0.3, rng)] if rng.random() < 0.5 else parts


def bunk(rng: np.random.Generator) -> Piece:
    """Two beds, one above the other, or the upper one alone, with a ladder and guards."""
    w, length, r = rng.uniform(0.45, 0.55), rng.uniform(1.9, 2.05), rng.uniform(0.018, 0.04)
    upper = rng.uniform(1.15, 1.5)
    levels, top = ([rng.uniform(0.25, 0.45), upper] if rng.random() < 0.7 else [upper]), upper + rng.uniform(0.3, 0.5)
    parts, pads = [box(s * w - r, s * w + r, y - r, y + r, 0, top) for s in (-1, 1) for y in (0, length)], []
    for low in levels:
        thick = rng.uniform(0.1, 0.2)
        parts += [box(-w, w, 0, length, low - 0.1, low), cushion(-w + r, w - r, r, length - r, low, low + thick, 20)]
        drops = rng.uniform(0.02, thick, 3)
        start, rumple = rng.uniform(0.1, 0.8), rng.uniform(0.02, 0.15)
        parts.append(cover(rng, -w + r, w - r, start, length - r, low + thick, rumple, drops))
        pads += pillows(rng, w, low + thick, 0)
        for y in (0, length):
            boards = np.linspace(low, low + rng.uniform(0.3, 0.45), int(rng.integers(1, 4)))
            parts += [box(-w, w, y - 0.012, y + 0.012, z, z + 0.07) for z in boards]
    for s, end in ((-1, length), (1, length * rng.uniform(0.5, 0.8))):
        parts += [box(s * w - 0.012, s * w + 0.012, 0, end, z, z + 0.07) for z in (upper + 0.2, top - 0.07)]
    y, out = length - 0.25, rng.uniform(0.03, 0.3)
    foot, head = (w + out, 0), (w + 0.03, top)
    parts += [rod((foot[0], y + s, 0), (head[0], y + s, top), 0.02) for s in (-0.18, 0.18)]
    for share in np.arange(0.15, 0.95, 0.28 / top):
        x, z = foot[0] + (head[0] - foot[0]) * share, top * share
        parts.append(rod((x, y - 0.18, z), (x, y + 0.18, z), 0.016))
    things = [Thing(pick(rng, {"bed": 0.6, "otherfurniture": 0.4}), parts), *(Thing("pillow", [pad]) for pad in pads)]
    piece = framed(things)
    return sideways(piece) if rng.random() < 0.7 else piece


def crib(rng: np.random.Generator) -> Piece:
    """A child's bed between bars."""
    w, length, top = rng.uniform(0.3, 0.37), rng.uniform(1.15, 1.4), rng.uniform(0.8, 1.1)
    low, r, foot = rng.uniform(0.25, 0.5), rng.uniform(0.01, 0.014), rng.uniform(0.1, 0.25)
    parts = [soft(cushion(-w, w, 0, length, low, low + 0.12, 20), 0.004, rng), box(-w, w, 0, length, low - 0.05, low)]
    parts += [box(s * w - 0.025, s * w + 0.025, y - 0.025, y + 0.025, 0, top) for s in (-1, 1) for y in (0, length)]
    solid = rng.random() < 0.4
    for s, y in zip((-1, 1), (0, length), strict=True):
        parts += [box(s * w - 0.015, s * w + 0.015, 0, length, z, z + 0.04) for z in (foot, top - 0.04)]
        bars = np.linspace(0, length, int(rng.integers(9, 15)))
        parts += [box(s * w - r, s * w + r, t - r, t + r, foot, top) for t in bars]
        if solid:
            parts.append(box(-w, w, y - 0.015, y + 0.015, foot, top + rng.uniform(0, 0.1)))
        else:
            parts += [box(-w, w, y - 0.015, y + 0.015, z, z + 0.04) for z in (foot, top - 0.04)]
            parts += [box(x - r, x + r, y - r, y + r, foot, top) for x in np.linspace(-w, w, int(rng.integers(5, 9)))]
    if rng.random() < 0.6:
        start, rumple, drops = rng.uniform(0.2, 0.6), rng.uniform(0.02, 0.12), rng.uniform(0.01, 0.05, 3)
        parts.append(cover(rng, -w + 0.04, w - 0.04, start, length - 0.04, low + 0.12, rumple, drops))
    return sideways(framed([Thing(pick(rng, {"bed": 0.5, "otherfurniture": 0.5}), parts)]))
