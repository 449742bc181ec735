"""Kitchens: rows of cabinets with counter, sink, stove and refrigerator; islands.

Sizes follow what is made, and medians of real scans.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data.rooms.shapes.bathrooms import basin, open_box, tap, vessel, worktop
from data.rooms.shapes.clutter import on_top
from data.rooms.shapes.openings import Field, bars_around
from data.rooms.shapes.parts import annotated_with, fitted, split
from data.rooms.surfaces import Piece, Surface, Thing, bounds, box, cylinder, placed, rod, turned

BUILT_IN = 0.6  # of the refrigerators: real scans show the front alone of most


class Style(NamedTuple):
    """What the cabinets of one kitchen share."""

    top: float  # of the counter
    slab: float  # its thickness
    deep: float  # of the cabinets
    plinth: float
    gap: float  # around a front
    border: float  # width of the frame of a front, 0 if it is flat
    handle: int  # 0 bar, 1 knob, 2 none


def style_of(rng: np.random.Generator) -> Style:
    return Style(
        top=rng.uniform(1.0, 1.06) if rng.random() < 0.08 else rng.uniform(0.87, 0.95),
        slab=rng.uniform(0.03, 0.055),
        deep=rng.uniform(0.54, 0.62),
        plinth=rng.uniform(0.06, 0.14),
        gap=rng.uniform(0.002, 0.008),
        border=rng.uniform(0.05, 0.08) if rng.random() < 0.5 else 0.0,
        handle=int(rng.choice(3, p=(0.5, 0.3, 0.2))),
    )


def front(rng: np.random.Generator, style: Style, field: Field, y: float) -> list[Surface]:
    """A drawer's or a door's front that stands on the plane y, with its handle; a door is sometimes open."""
    a, b, c, d = np.array(field) + style.gap * np.array((1, -1, 1, -1))
    door, left = d - c > 0.4, rng.random() < 0.5
    parts = [box(a, b, y, y + (0.01 if style.border else 0.02), c, d)]
    if style.border and min(b - a, d - c) > 3 * style.border:
        parts += bars_around((a, b, c, d), style.border, y, y + 0.022)
    x, z = (a + 0.04 if left else b - 0.04, c + 0.1 if c > 1 else d - 0.1) if door else ((a + b) / 2, (c + d) / 2)
    if style.handle == 0:
        half = (0.006, min(0.08, (d - c) / 3)) if door else (min(0.08, (b - a) / 3), 0.006)
        parts.append(box(x - half[0], x + half[0], y + 0.04, y + 0.052, z - half[1], z + half[1]))
    if style.handle < 2:
        parts.append(box(x - 0.014, x + 0.014, y, y + 0.05, z - 0.014, z + 0.014))
    if door and rng.random() < 0.03:
        angle = rng.uniform(0.4, 1.9)
        parts = [turned(s, -angle if left else angle, about=(b if left else a, y, 0)) for s in parts]
    return parts


def fronts(rng: np.random.Generator, style: Style, field: Field, y: float) -> list[Surface]:
    """The fronts of one cabinet: drawers, doors, or doors under a drawer."""
    (x0, x1, z0, z1), kind = field, rng.random()
    fields = []
    if z1 - z0 < 1 and kind < 0.3:
        fields = [(x0, x1, c, d) for c, d in pairwise(split(rng, z0, z1, int(rng.integers(2, 5))))]
    else:
        top = z1 - rng.uniform(0.13, 0.2) if 0.45 < z1 - z0 < 1 and kind < 0.6 else z1
        fields = [(a, b, z0, top) for a, b in pairwise(np.linspace(x0, x1, 3 if x1 - x0 > 0.58 else 2))]
        fields += [(x0, x1, top, z1)] if top < z1 else []
    return [s for f in fields for s in front(rng, style, f, y)]


def cabinet(rng: np.random.Generator, style: Style, field: Field) -> list[Surface]:
    """A cabinet that stands on its plinth; the field is its front's."""
    (x0, x1, z0, z1), y = field, style.deep - 0.02
    body = [open_box(x0, x1, 0, y, z0, z1), box(x0, x1, 0, y - 0.05, 0, z0)]
    return body + fronts(rng, style, (x0, x1, z0, z1 - 0.005), y)


def refrigerator(rng: np.random.Generator) -> Piece:
    """A refrigerator: doors one above the other or side by side; seldom a small one; things on it at times."""
    small = rng.random() < 0.08
    half, deep = (
        (rng.uniform(0.45, 0.55), rng.uniform(0.58, 0.93))[not small] / 2,
        rng.uniform(0.6, 0.78) - 0.12 * small,
    )
    high, foot = (rng.uniform(0.6, 0.9), rng.uniform(1.6, 1.85))[not small], rng.uniform(0.01, 0.06)
    y, gap, power = deep - rng.uniform(0.05, 0.08), rng.uniform(0.004, 0.012), rng.uniform(6, 40)
    cut = foot + (high - foot) * rng.choice((rng.uniform(0.3, 0.45), rng.uniform(0.6, 0.75)))
    fields, grips = [(-half, half, foot, cut), (-half, half, cut, high)], [rng.choice((-1, 1))] * 2
    if small:
        fields = [(-half, half, foot, high)]
    elif half > 0.4 and rng.random() < 0.6:  # side by side, over a drawer or not
        middle, low = rng.uniform(-0.12, 0.0), foot if rng.random() < 0.5 else foot + rng.uniform(0.45, 0.7)
        fields, grips = [(-half, middle, low, high), (middle, half, low, high)], [1, -1, 0]
        fields += [(-half, half, foot, low)] if low > foot else []
    parts = [box(-half, half, 0.03, y, foot * 0.5, high), box(-half + 0.01, half - 0.01, 0.05, y - 0.01, 0, foot)]
    out, long, gripless = deep + rng.uniform(0.025, 0.06), rng.uniform(0.3, 0.8), small or rng.random() < 0.25
    for (a, b, c, d), grip in zip(fields, grips, strict=False):
        door = [(0, 0, c + gap), (1, 1, c + gap), (1, 1, d), (0, 0, d)]
        parts.append(vessel(a + gap / 2, b - gap / 2, y + 0.008, deep, door, power))
        if gripless:
            continue
        x, z = (a + b + grip * (b - a - 0.1)) / 2, c + 0.05 if c > foot + 0.3 else max(c + 0.05, d - 0.05 - long)
        ends = [(x, z), (x, min(z + long, d - 0.05))] if grip else [(a + 0.12, d - 0.08), (b - 0.12, d - 0.08)]
        parts.append(rod(*((x, out, z) for x, z in ends), 0.013))
        parts += [box(x - 0.012, x + 0.012, deep - 0.02, out, z - 0.012, z + 0.012) for x, z in ends]
    things = [Thing("refrigerator", parts)]
    if not small and rng.random() < BUILT_IN:
        things.append(niche(rng, half, y, high))
    elif rng.random() < 0.6:
        things += on_top(rng, -half + 0.03, half - 0.03, 0.1, y, high, int(rng.integers(1, 5)), 0.4)
    return fitted(things)


def niche(rng: np.random.Generator, half: float, deep: float, high: float) -> Thing:
    """Tall cabinets or panels at both sides of a refrigerator, and most often a cabinet above."""
    sides, top = rng.choice([rng.uniform(0.02, 0.04), rng.uniform(0.3, 0.6)], 2), high + rng.uniform(0.05, 0.4)
    parts = []
    for side, wide in zip((-1, 1), sides, strict=True):
        near, far = side * (half + 0.01), side * (half + 0.01 + wide)
        parts.append(box(min(near, far), max(near, far), 0, deep, 0, top))
    if rng.random() < 0.7:
        parts.append(box(-half - 0.01, half + 0.01, 0, deep, high + 0.03, top))
    return Thing("cabinet", parts)


def stove(rng: np.random.Generator, x0: float, x1: float, deep: float, top: float) -> Thing:
    """A stove with an oven: rings on top, knobs, a handle, often a panel at its back, at times a pot."""
    z, middle, part = top + rng.uniform(-0.02, 0.01), (x0 + x1) / 2, (x1 - x0) / 4
    parts = [box(x0 + 0.005, x1 - 0.005, 0.01, deep, 0.03, z), box(x0 + 0.02, x1 - 0.02, deep, deep + 0.02, 0.05, 0.19)]
    parts.append(box(x0 + 0.02, x1 - 0.02, deep, deep + 0.025, 0.2, z - 0.14))
    parts.append(box(x0 + 0.08, x1 - 0.08, deep + 0.05, deep + 0.07, z - 0.2, z - 0.18))
    knobs = np.linspace(x0 + 0.08, x1 - 0.08, int(rng.integers(4, 7)))
    parts += [box(x - 0.018, x + 0.018, deep, deep + 0.035, z - 0.08, z - 0.045) for x in knobs]
    if rng.random() < 0.6:
        parts.append(box(x0 + 0.005, x1 - 0.005, 0.01, rng.uniform(0.04, 0.1), z, z + rng.uniform(0.08, 0.28)))
    for x, y in ((middle + a * part, deep * b) for a in (-1, 1) for b in (0.3, 0.72)):
        parts.append(cylinder(x, y, rng.uniform(0.06, 0.1), z, z + 0.012))
    if rng.random() < 0.4:
        x, r = middle + rng.choice((-1, 1)) * part, rng.uniform(0.08, 0.13)
        parts.append(cylinder(x, deep * rng.choice((0.3, 0.72)), r, z + 0.01, z + rng.uniform(0.06, 0.2)))
    return Thing("otherfurniture", parts)


def hood(rng: np.random.Generator, x0: float, x1: float) -> Thing:
    """An extractor hood: a flat one, a chimney, or a microwave oven in its place."""
    kind, z, half = (
        str(rng.choice(("flat", "chimney", "oven"), p=(0.4, 0.35, 0.25))),
        rng.uniform(1.45, 1.65),
        (x1 - x0) / 2,
    )
    if kind == "flat":
        return Thing("otherfurniture", [box(x0, x1, 0, rng.uniform(0.42, 0.52), z, z + rng.uniform(0.06, 0.15))])
    if kind == "oven":
        body = [box(x0, x1, 0, 0.38, z - 0.05, z + 0.38), box(x0 + 0.02, x1 - 0.18, 0.38, 0.4, z - 0.03, z + 0.36)]
        return Thing("otherprop", body)
    deep, rise, flue = rng.uniform(0.45, 0.52), z + rng.uniform(0.2, 0.45), rng.uniform(0.24, 0.3)
    narrow = (flue / 2 / half, flue / deep, rise, (flue - deep) / 2)
    body = [(1, 1, z), (1, 1, z + 0.05), narrow, (*narrow[:2], rng.uniform(2.1, 2.3), narrow[3])]
    return Thing("otherfurniture", [vessel(x0, x1, 0, deep, body, 60)])


def run(
    rng: np.random.Generator, style: Style, x0: float, x1: float, walled: bool, wet: bool, cook: bool
) -> list[Thing]:
    """Cabinets from x0 to x1 under one counter, with a sink if `wet` and a stove if `cook`.

    walled: it has a splash back, and cabinets on the wall above.
    """
    y, low = style.deep - 0.02, style.top - style.slab
    spans = list(pairwise(split(rng, x0, x1, max(1, round((x1 - x0) / rng.uniform(0.42, 0.68))), 0.4)))
    roles = ["cabinet"] * len(spans)
    free = [i for i in rng.permutation(len(spans)) if spans[i][1] - spans[i][0] > 0.44]
    wanted = {"sink": wet, "stove": cook, "dishwasher": rng.random() < 0.4, "open": rng.random() < 0.1}
    for i, role in zip(free[: len(spans) - 1] or free, (name for name, use in wanted.items() if use), strict=False):
        roles[i] = role
    built_in, bodies, machines, tops = rng.random() < 0.4, [], [], [x0]
    for (a, b), role in zip(spans, roles, strict=True):
        field = (a, b, style.plinth, low)
        if role == "stove" and not built_in:
            machines.append(stove(rng, a, b, style.deep + 0.02, style.top))
            tops += [a, b]
        elif role == "open":  # a place for a bin or a machine
            bodies.append([box(x, x + 0.02, 0, y, 0, low) for x in (a, b - 0.02)])
        elif role in ("stove", "dishwasher"):
            cut = low - rng.uniform(0.09, 0.15)
            machine = [
                box(a + 0.006, b - 0.006, 0, y + 0.03, style.plinth, cut),
                box(a, b, 0, y - 0.05, 0, style.plinth),
            ]
            machine.append(box(a + 0.006, b - 0.006, 0, y + 0.02, cut + 0.008, low - 0.01))
            machine.append(box(a + 0.06, b - 0.06, y, y + 0.07, cut - 0.06, cut - 0.04))
            if role == "stove":
                machine.append(box(a + 0.01, b - 0.01, 0.06, style.deep - 0.05, style.top, style.top + 0.012))
            machines.append(Thing("otherfurniture", machine))
        else:
            bodies.append(cabinet(rng, style, field))
    cut = (
        int(rng.integers(len(bodies) + 1)) if rng.random() < 0.3 else 0
    )  # a row is annotated as one cabinet, or as two
    things = [Thing("cabinet", sum(part, [])) for part in (bodies[:cut], bodies[cut:]) if part] + machines
    things += counters(rng, style, list(zip(tops[::2], [*tops[1::2], x1], strict=True)), spans, roles, walled)
    above = wall_cabinets(rng, style, spans, roles) if walled and rng.random() < 0.8 else []
    if bodies and above and above[-1].name == "cabinet" and rng.random() < 0.3:  # annotated with those below
        things[0].surfaces.extend(above.pop().surfaces)
    return things + above


def counters(
    rng: np.random.Generator, style: Style, ends: list, spans: list, roles: list[str], walled: bool
) -> list[Thing]:
    """Tops from end to end, with what stands on them, around the sinks of the spans that have that role."""
    things, low = [], style.top - style.slab
    over, splash = rng.uniform(0.0, 0.04), rng.uniform(0.07, 0.2) * (walled and rng.random() < 0.8)
    for a, b in ends:
        if b - a < 0.03:
            continue
        dry, hole, parts = [(a, b)], None, []
        for c, d in (s for s, role in zip(spans, roles, strict=True) if role == "sink" and a <= s[0] and s[1] <= b):
            half = min(rng.uniform(0.24, 0.42), (b - a) / 2 - 0.04, (d - c) / 2 + 0.12)
            x = min(max((c + d) / 2, a + half + 0.02), b - half - 0.02)
            hole = (x - half, x + half, 0.09, min(rng.uniform(0.48, 0.55), style.deep - 0.04))
            deep, power = rng.uniform(0.14, 0.22), rng.uniform(5, 12)
            bowls = pairwise(np.linspace(x - half, x + half, 3 if half > 0.33 and rng.random() < 0.7 else 2))
            sink = [basin(*bowl, *hole[2:], style.top, deep, power) for bowl in bowls]
            spout = tap(rng, x, 0.07, style.top, rng.uniform(0.15, 0.22), rng.uniform(0.12, 0.36))
            things.append(Thing("sink", sink + spout))
            dry = [(a, hole[0]), (hole[1], b)]
        parts = worktop(a, b, 0, style.deep + over, low, style.top, hole)
        if splash:
            parts.append(box(a, b, 0, 0.02, style.top, style.top + splash))
        small = []
        for c, d in dry:
            count = int(rng.integers(0, 2 + 5 * (d - c)))
            small += on_top(rng, c + 0.02, d - 0.02, 0.05, style.deep - 0.04, style.top, count, 0.4)
        things += annotated_with(rng, Thing("counter", parts), small, 0.35)
    return things


def wall_cabinets(rng: np.random.Generator, style: Style, spans: list, roles: list[str]) -> list[Thing]:
    """Cabinets on the wall above a row, a hood over the stove, at times nothing over the sink, or open shelves."""
    z0, deep = style.top + rng.uniform(0.42, 0.6), rng.uniform(0.3, 0.38)
    z1, closed, things = z0 + rng.uniform(0.55, 0.9), [], []
    window, shelved = rng.random() < 0.5, rng.random() < 0.15
    levels = np.arange(z0, z1, rng.uniform(0.28, 0.4))
    for (a, b), role in zip(spans, roles, strict=True):
        if role == "stove":
            things.append(hood(rng, a, b))
        elif (role == "sink" and window) or rng.random() < 0.08:
            continue
        elif shelved:
            things.append(Thing("shelves", [box(a, b, 0, deep * 0.8, z - 0.025, z) for z in levels]))
            for z in levels:
                things += on_top(rng, a + 0.02, b - 0.02, 0.01, deep * 0.8, z, int(rng.integers(0, 3)), 0.26)
        else:
            closed += [box(a, b, 0, deep - 0.02, z0, z1), *fronts(rng, style, (a, b, z0, z1), deep - 0.02)]
    return things + ([Thing("cabinet", closed)] if closed else [])


def kitchen(rng: np.random.Generator, length: float) -> Piece:
    """A row along a wall, about `length` m: a refrigerator or a tall cabinet at an end, the rest cabinets."""
    return fitted(row(rng, style_of(rng), length, True))


def row(rng: np.random.Generator, style: Style, length: float, left_end: bool) -> list[Thing]:
    """The things of `kitchen`, x from -length / 2; left_end: its left end is free for what is tall."""
    x0, x1, things = -length / 2, length / 2, []
    for end in ["refrigerator"] * (rng.random() < 0.6) + ["tall"] * (rng.random() < 0.25):
        if x1 - x0 < 2.0:
            break
        left = left_end and rng.random() < 0.5
        fridge = refrigerator(rng) if end == "refrigerator" else None
        wide = fridge.width + rng.uniform(0.03, 0.12) if fridge else rng.uniform(0.45, 0.65)
        a, b = (x0, x0 + wide) if left else (x1 - wide, x1)
        x0, x1 = (b, x1) if left else (x0, a)
        if not fridge:
            cut, high = rng.uniform(0.7, 1.4), rng.uniform(1.9, 2.3)
            parts = cabinet(rng, style, (a, b, style.plinth, cut)) + [box(a, b, 0, style.deep - 0.02, cut, high)]
            things.append(Thing("cabinet", parts + fronts(rng, style, (a, b, cut, high), style.deep - 0.02)))
            continue
        things += placed(fridge.things, ((a + b) / 2, 0, 0))
        top = float(bounds(fridge.things)[1][2])
        if len(fridge.things) == 1 and top > 1.4 and rng.random() < 0.5:  # built in: panels beside, a cabinet over it
            y, z, high = style.deep - 0.05, top + 0.03, top + rng.uniform(0.3, 0.45)
            panels = [box(x - 0.01, x + 0.01, 0, style.deep, 0, high) for x in (a + 0.01, b - 0.01)]
            panels += [box(a, b, 0, y, z, high), *fronts(rng, style, (a, b, z, high), y)]
            things.append(Thing("cabinet", panels))
    return things + run(rng, style, x0, x1, True, rng.random() < 0.85, rng.random() < 0.75)


def corner_kitchen(rng: np.random.Generator, length: float, arm: float, walled: bool = True) -> Piece:
    """A row with an arm of `arm` m in all along y at its left; a peninsula if not `walled`."""
    style = style_of(rng)
    things = row(rng, style, length, left_end=False)
    side = run(rng, style, -arm, -style.deep, walled, False, rng.random() < 0.25)
    return fitted(things + placed(side, (-length / 2, 0, 0), -np.pi / 2))


def kitchen_island(rng: np.random.Generator) -> Piece:
    """An island: cabinets under a top that may overhang for seats; with a sink or without."""
    style, half, back = style_of(rng), rng.uniform(0.6, 1.2), rng.uniform(0.05, 0.4)
    things = run(rng, style, -half, half, False, rng.random() < 0.3, False)
    top = next(t for t in things if t.name == "counter")
    top.surfaces.append(box(-half, half, -back, 0, style.top - style.slab, style.top))
    return fitted(placed(things, (0, back, 0)))
