"""Bathrooms: toilets, washbasins, bathtubs, showers with their curtains, towels, cabinets.

Sizes follow what is made, and medians of real scans.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from data.rooms.shapes.clutter import on_top
from data.rooms.shapes.openings import bars_around, folds, framed, glass
from data.rooms.shapes.parts import fitted, split
from data.rooms.surfaces import (
    Piece,
    Surface,
    Thing,
    box,
    cylinder,
    ellipsoid,
    grid,
    lathe,
    moved,
    rectangle,
    rod,
    turned,
)


def vessel(x0: float, x1: float, y0: float, y1: float, rings: Sequence[tuple], power: float = 2.0) -> Surface:
    """Rings one above or inside the other around the middle of a rectangle: basins, tubs, bowls.

    rings: shares of the half width and of the half depth, z, then perhaps a shift along y (0) and a power of their
    own. power: of the superellipse, 2 an ellipse, large ones a rectangle.
    """
    share_x, share_y, z, shift, powers = np.array([(*r, 0.0, power)[:4] + (r[4:] or (power,)) for r in rings], float).T[
        :, None
    ]
    angle = np.linspace(0, 2 * np.pi, 33)[:, None]
    circle = np.stack((np.cos(angle), np.sin(angle))) / (
        np.abs(np.cos(angle)) ** powers + np.abs(np.sin(angle)) ** powers
    ) ** (1 / powers)
    x, y = (x0 + x1 + (x1 - x0) * share_x * circle[0]) / 2, (y0 + y1 + (y1 - y0) * share_y * circle[1]) / 2 + shift
    xyz = np.stack((x, y, np.broadcast_to(z, x.shape)), 2).reshape(-1, 3)
    return grid(lambda u, v: xyz, 32, len(rings) - 1)


def open_box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Surface:
    """A box without its top."""
    closed = box(x0, x1, y0, y1, z0, z1)
    return closed._replace(faces=np.delete(closed.faces, (5, 11), 0))


def worktop(
    x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, hole: Sequence[float] | None = None
) -> list[Surface]:
    """A flat top, around a hole (x0, x1, y0, y1) where a basin is set in."""
    if hole is None:
        return [box(x0, x1, y0, y1, z0, z1)]
    a, b, c, d = hole
    return [box(*strip, z0, z1) for strip in ((x0, a, y0, y1), (b, x1, y0, y1), (a, b, y0, c), (a, b, d, y1))]


def tap(rng: np.random.Generator, x: float, y: float, z: float, reach: float, high: float) -> list[Surface]:
    """A tap that stands at (x, y, z), its spout `reach` m towards the room: a low spout, or a high bow."""
    r, bowed = rng.uniform(0.01, 0.018), high > 0.15
    neck = z + high - (reach / 2 if bowed else 0)
    parts = [cylinder(x, y, 0.03, z, z + 0.015), rod((x, y, z), (x, y, neck), r * 1.4)]
    angle = np.linspace(np.pi, -0.2, 6)
    bow = [(x, y + reach / 2 * (1 + np.cos(t)), neck + reach / 2 * np.sin(t)) for t in angle]
    spout = bow if bowed else [(x, y, neck), (x, y + reach, neck - rng.uniform(0, 0.04))]
    parts += [rod(a, b, r) for a, b in pairwise(spout)]
    if rng.random() < 0.35:  # two handles, or a lever
        for at in (x - 0.1, x + 0.1):
            parts += [cylinder(at, y, 0.02, z, z + 0.05), ellipsoid(at, y, z + 0.06, 0.03, 0.03, 0.018)]
        return parts
    lever = z + high * 0.7
    return [*parts, rod((x, y, lever), (x + rng.uniform(-0.08, 0.08), y + 0.02, lever + 0.08), 0.008)]


def toilet(rng: np.random.Generator) -> Piece:
    """A toilet: on the floor with its cistern, or on the wall; its lid up or down; paper or a bin beside it."""
    wide, top, long = rng.uniform(0.36, 0.44), rng.uniform(0.38, 0.45), rng.uniform(0.44, 0.54)
    on_wall, power, half = rng.random() < 0.14, rng.uniform(2.1, 2.8), wide / 2
    deep, tank_top, tank = rng.uniform(0.17, 0.23), rng.uniform(0.66, 0.8), rng.uniform(0.4, 0.54) / 2
    back, rim, foot = 0.02 if on_wall else deep + 0.02, top - 0.03, rng.uniform(0.5, 0.75)
    rings = [(0, 0, rim - 0.22), (0.3, 0.35, rim - 0.2), (0.72, 0.78, rim - 0.05), (0.8, 0.86, rim)]
    rings += [(1, 1, rim), (0.97, 0.97, rim - 0.06), (0.8, 0.85, rim - 0.14, -0.03)]
    if on_wall:
        rings += [(0.6, 0.6, rim - 0.24, -0.08), (0, 0, rim - 0.28, -0.1)]
    else:
        rings += [(foot * 0.85, 0.75, 0.14, -0.04), (foot, 0.82, 0, -0.04)]
    seat = [(0.7, 0.72, top - 0.02), (0.7, 0.72, top), (1, 1, top), (1.01, 1.01, top - 0.03)]
    if up := rng.random() < 0.4:  # the lid leans on what is behind it
        lean = rng.uniform(0.02, 0.06)

        def lid(u, v):
            narrow = (1 - np.abs(2 * v - 1) ** power * (v > 0.5)) ** (1 / power)
            return np.stack((half * (2 * u - 1) * narrow, back + 0.05 - lean * v, top + 0.01 + long * 0.92 * v), 1)
    else:
        seat[2:2] = [(0, 0, top + 0.03), (0.9, 0.92, top + 0.025), (1.01, 1.01, top + 0.015)]
    parts = [vessel(-half, half, back, back + long, r, power) for r in (rings, seat)] + (
        [grid(lid, 8, 10)] if up else []
    )
    beside, things = [], []
    if not on_wall:
        low = top - rng.uniform(0, 0.06)
        body = [(0.88, 0.9, low), (0.94, 0.94, tank_top - 0.03), (1, 1, tank_top - 0.03), (1, 1, tank_top - 0.01)]
        body += [(0.95, 0.95, tank_top), (0, 0, tank_top)]
        parts.append(vessel(-tank, tank, 0, deep, body, rng.uniform(6, 30)))
        parts.append(box(-half * 0.7, half * 0.7, 0.03, back + 0.12, top - 0.14, top - 0.02))  # carries the cistern
        parts.append(box(-tank * 0.7, -tank * 0.4, deep - 0.02, deep + 0.02, tank_top - 0.09, tank_top - 0.075))
        if not up and rng.random() < 0.4:
            things = on_top(rng, -tank * 0.8, tank * 0.8, 0.02, deep, tank_top, int(rng.integers(1, 4)), 0.3)
    elif rng.random() < 0.7:
        things.append(Thing("otherprop", [box(-0.13, 0.13, 0, 0.012, 0.95, 1.12)]))  # the plate that flushes
    x, y, z = (half + rng.uniform(0.12, 0.25)) * rng.choice((-1, 1)), rng.uniform(0.13, 0.5), rng.uniform(0.55, 0.8)
    if rng.random() < 0.25:
        beside = [Thing("otherprop", [cylinder(x, y, rng.uniform(0.05, 0.12), 0, rng.uniform(0.1, 0.35))])]
    elif rng.random() < 0.25:
        roll = [rod((x - 0.06, 0.08, z), (x + 0.06, 0.08, z), 0.055), rod((x, 0, z), (x, 0.08, z), 0.01)]
        beside = [Thing(str(rng.choice(("paper", "otherprop"))), roll)]
    return fitted([Thing("toilet", parts), *things, *beside])


def urinal(rng: np.random.Generator) -> Piece:
    half, high = rng.uniform(0.15, 0.22), rng.uniform(0.55, 0.8)
    deep, z = rng.uniform(0.28, 0.38), rng.uniform(0.4, 0.6)
    rim = z + high * rng.uniform(0.25, 0.4)
    rings = [(0, 0, z + 0.06), (0.3, 0.3, z + 0.06), (0.75, 0.75, rim), (1, 1, rim), (0.7, 0.6, z, -deep * 0.2)]
    sides = [box(x, x + 0.03, 0, deep * 0.4, rim - 0.1, z + high) for x in (-half, half - 0.03)]
    parts = [
        vessel(-half, half, 0, deep, [*rings, (0, 0, z, -deep * 0.2)], 2.6),
        box(-half, half, 0, 0.03, z, z + high),
    ]
    pipe = rod((0, 0.05, z + high), (0, 0.05, z + high + 0.25), 0.02)
    return fitted([Thing("otherfurniture", [*parts, *sides, pipe])])


def basin(
    x0: float, x1: float, y0: float, y1: float, z: float, deep: float, power: float, shell: float = 0.0
) -> Surface:
    """A hollow `deep` m below its rim at z; its outside reaches down `shell` m, or it is set into a hole."""
    low = z - (min(deep, shell - 0.015) if shell else deep)
    rings = [(0, 0, low), (0.25, 0.25, low), (0.72, 0.72, low + 0.01), (0.86, 0.84, z - 0.04), (0.9, 0.88, z)]
    if shell:
        rings += [(0.92, 0.9, z + 0.008), (1, 1, z), (0.98, 0.98, z - 0.04), (0.75, 0.75, z - 0.7 * shell)]
        return vessel(x0, x1, y0, y1, [*rings, (0.4, 0.4, z - shell)], power)
    return vessel(x0, x1, y0, y1, [*rings, (0.99, 0.99, z + 0.006, 0, 60), (1, 1, z - 0.01, 0, 60)], power)


def vanity(rng: np.random.Generator, wide: float, long: float, z: float, basin_of: Callable) -> list[Thing]:
    """A basin in or on the top of a cabinet; x = 0 is the basin's middle. basin_of: (y0, y1, z, shell) -> Surface."""
    half, deep, thick = rng.uniform(max(wide, 0.55), 1.5) / 2, rng.uniform(0.46, 0.58), rng.uniform(0.02, 0.05)
    middle = rng.uniform(-1, 1) * (half - wide / 2) if rng.random() < 0.4 else 0.0
    x0, x1, y, foot = middle - half, middle + half, deep - 0.03, rng.uniform(0.2, 0.4) * (rng.random() < 0.3)
    body = [open_box(x0 + 0.01, x1 - 0.01, 0, y, foot, z - thick)]
    cut = rng.uniform(0.15, 0.25) if rng.random() < 0.4 else 0.0  # drawers over the doors
    levels = [foot + 0.06, z - thick - 0.02 - cut, z - thick - 0.02][: 3 if cut else 2]
    for a, b in pairwise(np.linspace(x0 + 0.01, x1 - 0.01, max(1, round(2 * half / rng.uniform(0.3, 0.5))) + 1)):
        for c, d in pairwise(levels):
            body.append(box(a + 0.004, b - 0.004, y, y + 0.018, c, d - 0.006))
            body.append(box(b - 0.06, b - 0.05, y, y + 0.04, d - 0.14, d - 0.05))
    high = rng.uniform(0.09, 0.16) if rng.random() < 0.25 else 0.0  # it stands on the top
    y0 = max(0.02, min(0.08, deep - 0.02 - long))
    y1 = min(y0 + long, deep - 0.02)
    plate = worktop(x0, x1, 0, deep, z - thick, z, None if high else (-wide / 2, wide / 2, y0, y1))
    if rng.random() < 0.6:
        plate.append(box(x0, x1, 0, 0.02, z, z + rng.uniform(0.06, 0.15)))  # a splash back
    sink = Thing("sink", [basin_of(y0, y1, z + high, high)])
    things = [sink]
    if (whole := rng.random()) < 0.75:  # all of it is annotated as the sink
        sink.surfaces.extend(body)
    else:
        things.append(Thing("cabinet", body))
    if whole < 0.8:  # basin and top are made in one
        sink.surfaces.extend(plate)
    else:
        things.append(Thing(str(rng.choice(("counter", "cabinet"), p=(0.7, 0.3))), plate))
    for a, b in ((x0, -wide / 2), (wide / 2, x1)):
        things += on_top(rng, a + 0.03, b - 0.02, 0.05, deep - 0.05, z, int(rng.integers(0, 5)), 0.4)
    return things


def washbasin(rng: np.random.Generator) -> Piece:
    """A washbasin: on a pedestal, on the wall with its pipes, or with a cabinet; its tap; often a mirror above."""
    kind = str(rng.choice(("pedestal", "wall", "vanity"), p=(0.62, 0.04, 0.34)))
    z, wide, long = rng.uniform(0.79, 0.88), rng.uniform(0.5, 0.75), rng.uniform(0.45, 0.58)
    half, power, deep = wide / 2, rng.choice((rng.uniform(2, 3), rng.uniform(4, 10))), rng.uniform(0.11, 0.17)

    def basin_of(y0, y1, z, shell):
        return basin(-half, half, y0, y1, z, deep, power, shell)

    if kind == "vanity":
        things = vanity(rng, wide, long, z, basin_of)
    else:
        parts = [basin_of(0.0, long, z, deep + rng.uniform(0.03, 0.08))]
        parts.append(box(-half * 0.9, half * 0.9, 0, 0.13, z - 0.1, z + rng.uniform(0, 0.06)))  # where the tap stands
        if kind == "pedestal":
            r, foot = rng.uniform(0.1, 0.15), rng.uniform(0.2, 0.4) * (rng.random() < 0.15)  # some end above the floor
            profile = [(0, foot), (r * 1.3, foot), (r, foot + 0.1), (r * 0.9, z - 0.3), (r * 1.4, z - deep)]
            parts.append(lathe(0, 0.2, profile))
        else:
            trap = z - rng.uniform(0.33, 0.5)
            pipe = [(0, long * 0.45, z - deep), (0, long * 0.45, trap), (0, long * 0.3, trap), (0, 0, trap + 0.06)]
            parts += [rod(a, b, 0.022) for a, b in pairwise(pipe)]
        things = [Thing("sink", parts)]
    things[0].surfaces.extend(tap(rng, 0, 0.05, z, rng.uniform(0.1, 0.15), rng.uniform(0.08, 0.22)))
    if rng.random() < 0.45:
        w, h = rng.uniform(0.4, 0.9), rng.uniform(0.5, 0.9)
        things.append(Thing("mirror", framed(rng, 0, z + 0.3 + h / 2, w, h)))
    if rng.random() < 0.15:  # a shelf under the mirror
        things.append(Thing("shelves", [box(-half, half, 0, 0.12, z + 0.22, z + 0.24)]))
        things += on_top(rng, -half, half, 0.0, 0.12, z + 0.24, int(rng.integers(1, 4)), 0.25)
    return fitted(things)


def cloth_on_rod(rng: np.random.Generator, half: float, y: float, low: float) -> Thing:
    """A shower curtain on a rod from -half to half, drawn across or pushed to one end."""
    drawn, rail = rng.uniform(0.2, 0.55) if rng.random() < 0.45 else rng.uniform(0.75, 1.0), rng.uniform(1.85, 2.1)
    a = -half if rng.random() < 0.5 else half - drawn * 2 * half
    cloth = folds(rng, a, a + drawn * 2 * half, low, rail - 0.03, y)
    return Thing("shower curtain", [cloth, rod((-half, y, rail), (half, y, rail), 0.013)])


def bathtub(rng: np.random.Generator) -> Piece:
    """A bathtub: built in, free-standing or in a corner; often with a curtain on a rod, or a glass screen."""
    kind = str(rng.choice(("built in", "free", "corner"), p=(0.78, 0.14, 0.08)))
    half, deep, z = rng.uniform(1.45, 1.75) / 2, rng.uniform(0.68, 0.82), rng.uniform(0.38, 0.58)
    low, power = rng.uniform(0.08, 0.18), rng.choice((rng.uniform(2.3, 3), rng.uniform(4, 9)))
    if kind == "corner":
        half, deep = rng.uniform(1.25, 1.5) / 2, rng.uniform(1.2, 1.45)
    y0 = rng.uniform(0.02, 0.2) if kind == "free" else 0.0
    y1, end = y0 + deep, half * rng.choice((-0.93, 0.93))
    y = (y0 + y1) / 2
    rings = [(0, 0, low), (0.62, 0.55, low), (0.74, 0.7, low + 0.05), (0.85, 0.82, z - 0.05), (0.9, 0.86, z)]
    parts = [rod((end, y, z), (end, y, z + 0.1), 0.02), rod((end, y, z + 0.1), (end * 0.85, y, z + 0.08), 0.02)]
    if kind == "free":
        rings += [(0.94, 0.92, z + 0.02), (1, 1, z), (0.96, 0.94, z - 0.05), (0.85, 0.8, 0.2), (0.7, 0.65, 0.08)]
        rings.append((0.7, 0.65, 0))
    else:
        rings += [(0.99, 0.99, z + 0.005, 0, 60), (1, 1, z, 0, 60), (1, 1, z - 0.05, 0, 60)]
        apron = y1 - rng.uniform(0, 0.04)
        parts.append(rectangle((-half, apron, 0), (2 * half, 0, 0), (0, 0, z - 0.02)))
        parts += [rectangle((x, 0, 0), (0, apron, 0), (0, 0, z - 0.02)) for x in (-half, half)]
    things = [Thing("bathtub", [vessel(-half, half, y0, y1, rings, power), *parts])]
    if kind == "built in" and rng.random() < 0.55:
        things.append(cloth_on_rod(rng, half, y1 + rng.uniform(-0.04, 0.05), rng.uniform(0.12, 0.45)))
    elif kind == "built in" and rng.random() < 0.3:  # a glass screen over a part of it, mostly seen by its frame
        part, high = rng.uniform(0.35, 0.9) * 2 * half, z + rng.uniform(1.3, 1.5)
        screen = bars_around((-half, part - half, z, high), 0.025, y1 - 0.05, y1 - 0.025)
        if rng.random() < 0.5:
            screen.append(rectangle((-half, y1 - 0.04, z), (part, 0, 0), (0, 0, high - z)))
        things.append(Thing(str(rng.choice(("otherfurniture", "door"))), screen))
    if rng.random() < 0.4:
        top, r = rng.uniform(1.8, 2.05), rng.uniform(0.05, 0.09)
        head = lathe(end * 0.85, y, [(0.02, top), (r, top - 0.04), (0, top - 0.04)])
        things.append(Thing("otherprop", [rod((end * 1.05, y, top + 0.1), (end * 0.87, y, top), 0.012), head]))
    if kind != "free" and rng.random() < 0.4:
        things += on_top(rng, -half, half, 0, 0.07, z, int(rng.integers(1, 4)), 0.3)
    return fitted(things)


def shower_curtain(rng: np.random.Generator) -> Piece:
    """A shower curtain by itself: in front of a niche, or around a corner, with a tray behind it or none."""
    half, y = rng.uniform(0.8, 1.7) / 2, rng.uniform(0.6, 0.95)
    things = [cloth_on_rod(rng, half, y, rng.uniform(0.05, 0.35))]
    if rng.random() < 0.6:
        things.append(Thing("otherfurniture", shower_tray(-half, half, 0.0, y + 0.05, rng.uniform(0.05, 0.16))))
    if rng.random() < 0.5:  # the rod goes around the corner
        rail = things[0].surfaces[1].xyz[:, 2].mean()
        things[0].surfaces.append(rod((half, 0, rail), (half, y, rail), 0.013))
    return fitted(things)


def shower_tray(x0: float, x1: float, y0: float, y1: float, z: float) -> list[Surface]:
    rim = worktop(x0, x1, y0, y1, 0, z, (x0 + 0.06, x1 - 0.06, y0 + 0.06, y1 - 0.06))
    return [*rim, rectangle((x0, y0, z * 0.4), (x1 - x0, 0, 0), (0, y1 - y0, 0))]


def shower(rng: np.random.Generator) -> Piece:
    """A shower stall: its tray, the frame of its walls and door, what is seen of their glass, the shower head."""
    wide, deep, z, top = *rng.uniform(0.75, 1.2, 2), rng.uniform(0.03, 0.18), rng.uniform(1.85, 2.1)
    half, bar = wide / 2, rng.uniform(0.02, 0.05)
    edge = rng.uniform(-0.2, 0.2) * wide
    sides = [(-half, edge), (edge, half)] if rng.random() < 0.6 else [(-half, half)]
    parts = shower_tray(-half, half, 0, deep, z)
    for a, b in sides:
        parts += bars_around((a, b, z, top), bar, deep - bar, deep)
    parts += glass(rng, [(a, b, z, top) for a, b in sides], deep - bar / 2)
    flank = bars_around((0, deep, z, top), bar, -bar, 0) + glass(rng, [(0, deep, z, top)], -bar / 2)
    left = [turned(s, np.pi / 2) for s in flank]  # its outside is x = 0, its inside x = bar
    parts += [moved(s, (-half, 0, 0)) for s in left]
    if rng.random() < 0.6:
        parts += [moved(s, (half - bar, 0, 0)) for s in left]
    x = rng.uniform(-0.2, 0.2) * wide
    head = [rod((x, 0.05, 0.9), (x, 0.05, top), 0.012), rod((x, 0.05, top), (x, 0.27, top - 0.02), 0.012)]
    head += [cylinder(x, 0.27, 0.09, top - 0.06, top - 0.03), box(x - 0.1, x + 0.1, 0, 0.06, 1.0, 1.08)]
    name = str(rng.choice(("otherfurniture", "otherstructure", "otherprop")))
    if rng.random() < 0.4:
        return fitted([Thing(name, parts + head)])
    return fitted([Thing(name, parts), Thing("otherprop", head)])


def towel(rng: np.random.Generator) -> Piece:
    """Towels on a rail, a ring or a heated ladder."""
    half, z, y = rng.uniform(0.2, 0.45), rng.uniform(0.9, 1.5), rng.uniform(0.06, 0.1)
    bars = [rod((-half, y, z), (half, y, z), 0.01)] + [rod((x, 0, z), (x, y, z), 0.01) for x in (-half, half)]
    if rng.random() < 0.25:
        foot = rng.uniform(0.15, 0.4)
        z = rng.uniform(1.3, 1.8)
        bars = [rod((x, y, foot), (x, y, z), 0.016) for x in (-half, half)]
        bars += [rod((-half, y, c), (half, y, c), 0.012) for c in np.arange(foot, z, rng.uniform(0.05, 0.12))]
    things = [Thing("otherprop", bars)]
    a = -half
    while a < half - 0.12:
        b = min(half, a + rng.uniform(0.15, 0.55))
        if rng.random() < 0.8:
            ridge, drop, back = rng.uniform(0.015, 0.04), rng.uniform(0.25, 0.7), rng.uniform(0.1, 0.5)
            phase, wave = rng.uniform(0, 6.3), rng.uniform(0.1, 0.25)

            def cloth(u, v, a=a, b=b, ridge=ridge, drop=drop, back=back, phase=phase, wave=wave):
                s = v * (drop + back) - back  # along the cloth, 0 over the rail
                x = a + (b - a) * u
                ripple = 0.012 * np.sin(2 * np.pi * x / wave + phase) * np.minimum(np.abs(s) / 0.1, 1)
                return np.stack(
                    (x, y + ridge * np.tanh(s / 0.03) + ripple, z + 0.012 - np.maximum(np.abs(s) - 0.02, 0)), 1
                )

            things.append(Thing("towel", [grid(cloth, 10, 16)]))
        a = b + rng.uniform(0.01, 0.15)
    return fitted(things)


def bathroom_cabinet(rng: np.random.Generator) -> Piece:
    """A wall cabinet, at times with mirror doors; a tall one; or a low one with things on it."""
    kind, half = str(rng.choice(("wall", "tall", "low"))), rng.uniform(0.3, 0.9) / 2
    deep = rng.uniform(0.12, 0.3) if kind == "wall" else rng.uniform(0.28, 0.42)
    low = {"wall": rng.uniform(1.1, 1.4), "tall": rng.uniform(0, 0.25), "low": rng.uniform(0, 0.15)}[kind]
    high = {"wall": rng.uniform(1.7, 2.0), "tall": rng.uniform(1.5, 1.95), "low": rng.uniform(0.6, 0.9)}[kind]
    parts = [box(-half, half, 0, deep - 0.02, low, high)]
    for a, b in pairwise(np.linspace(-half, half, max(1, round(half / 0.2)) + 1)):
        for c, d in pairwise(split(rng, low, high, int(rng.integers(1, 4)))):
            parts.append(box(a + 0.003, b - 0.003, deep - 0.02, deep, c + 0.003, d - 0.003))
            parts.append(ellipsoid(b - 0.04, deep + 0.01, (c + d) / 2, 0.012, 0.012, 0.012))
    things = [Thing("mirror" if kind == "wall" and rng.random() < 0.5 else "cabinet", parts)]
    if kind != "tall" and rng.random() < 0.6:
        things += on_top(rng, -half, half, 0, deep, high, int(rng.integers(1, 5)), 0.4)
    return fitted(things)
