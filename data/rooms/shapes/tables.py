"""Tables and desks, with what lies on them.

Sizes follow furniture as made and medians of real scans. A desk of a real scan reaches higher than its top does: what
stands on it is often annotated with it.
"""

import numpy as np

from data.rooms.shapes.clutter import (
    books,
    carton,
    device,
    keyboard,
    lamp,
    laptop,
    lump,
    monitor,
    on_top,
    papers,
    plant,
    stood_picture,
    vessel,
)
from data.rooms.shapes.parts import annotated_with, pick, settled, slab, tube
from data.rooms.surfaces import Piece, Surface, Thing, box, lathe, moved, placed, rod, turned

# kind: least and most length, least and most width as a share of it, least and most height, how common it is
TABLES = {
    "side": (0.35, 0.7, 0.6, 1, 0.4, 0.7, 0.36),
    "coffee": (0.75, 1.35, 0.45, 0.8, 0.32, 0.5, 0.24),
    "dining": (0.75, 1.9, 0.5, 1, 0.69, 0.78, 0.19),
    "round": (0.5, 1.4, 0.92, 1, 0.45, 0.78, 0.08),
    "console": (0.7, 1.5, 0.22, 0.4, 0.68, 0.92, 0.04),
    "bar": (0.6, 1.6, 0.45, 1, 0.88, 1.08, 0.04),
    "meeting": (1.6, 3.6, 0.35, 0.55, 0.7, 0.77, 0.05),
}
ON_DESK = {
    papers: 3, books: 2, vessel: 2, carton: 0.7, device: 1, lamp: 1, lump: 0.7, stood_picture: 1, plant: 0.4,
    laptop: 0.5,
}  # fmt: skip


def bar(x: float, y: float, half: float, z0: float, z1: float, is_round: bool) -> Surface:
    """A leg."""
    return rod((x, y, z0), (x, y, z1), half) if is_round else box(x - half, x + half, y - half, y + half, z0, z1)


# What carries a top. a, b: half of the length and width that the legs stand apart; h: height of the top's underside.


def four_legs(rng, a, b, h):
    """Straight, tapered or splayed, with or without an apron, a rail or a shelf between them."""
    half, is_round, splay = rng.uniform(0.012, 0.045), rng.random() < 0.4, rng.choice([0, rng.uniform(0.05, 0.25)])
    feet = [(x, y) for x in (-a + half, a - half) for y in (-b + half, b - half)]
    if splay:
        inset = 1 - splay
        legs = [s for x, y in feet for s in tube([(x, y, 0), (x * inset, y * inset, h)], half)]
    else:
        legs = [bar(x, y, half, 0, h, is_round) for x, y in feet]
    inside_a, inside_b = (a - half) * (1 - splay), (b - half) * (1 - splay)
    if rng.random() < 0.75:
        deep = rng.uniform(0.05, 0.2)
        legs += [box(-inside_a, inside_a, y - 0.01, y + 0.01, h - deep, h) for y in (-inside_b, inside_b)]
        legs += [box(x - 0.01, x + 0.01, -inside_b, inside_b, h - deep, h) for x in (-inside_a, inside_a)]
    if rng.random() < 0.35:
        z = h * rng.uniform(0.15, 0.5)
        legs.append(box(-inside_a, inside_a, -inside_b, inside_b, z - 0.02, z))
    return legs


def pedestal(rng, a, b, h):
    """One column, or two under a long top, on a disc or a cross."""
    middles = (-a * 0.55, a * 0.55) if a > 0.75 else (0,)
    reach, thick = min(a, b) * rng.uniform(0.6, 0.95), rng.uniform(0.03, 0.09)
    belly = rng.uniform(0.7, 2, 2) * thick
    parts = []
    feet = rng.choice([0, 3, 4, 5], p=[0.5, 0.1, 0.3, 0.1])
    for x in middles:
        parts.append(lathe(x, 0, [(thick, 0.03), (belly[0], h * 0.3), (belly[1], h * 0.7), (thick, h)]))
        for angle in np.arange(feet) * 2 * np.pi / max(feet, 1):
            end = (x + reach * np.cos(angle), reach * np.sin(angle), 0.02)
            parts.append(rod((x, 0, h * 0.2), end, 0.025))
        if not feet:
            parts.append(lathe(x, 0, [(reach, 0), (reach, 0.015), (thick, 0.05)]))
    return parts


def trestle(rng, a, b, h):
    """Two ends, of which each is an A, a T, a plate or a frame, and a beam between them."""
    x, style, half = a * rng.uniform(0.65, 1), rng.integers(4), rng.uniform(0.015, 0.04)
    parts = []
    for s in (-x, x):
        if style == 0:
            parts += tube([(s, -b, 0), (s, -b * 0.15, h)], half) + tube([(s, b, 0), (s, b * 0.15, h)], half)
        elif style == 1:
            parts += [box(s - 0.05, s + 0.05, -0.06, 0.06, 0, h), box(s - 0.05, s + 0.05, -b, b, 0, 0.06)]
        elif style == 2:
            parts.append(box(s - half, s + half, -b, b, 0, h))
        else:
            parts += tube([(s, -b, h), (s, -b, half), (s, b, half), (s, b, h)], half)
    if rng.random() < 0.6:
        z = h * rng.uniform(0.15, 0.85)
        parts.append(box(-x, x, -0.02, 0.02, z - 0.05, z + 0.05))
    return parts


def crossed_legs(rng, a, b, h):
    half = rng.uniform(0.012, 0.035)
    legs = [leg for y in (-b, b) for s in (-1, 1) for leg in tube([(-s * a * 0.8, y, 0), (s * a * 0.8, y, h)], half)]
    return [*legs, rod((0, -b, h / 2), (0, b, h / 2), half)]


def drum(rng, a, b, h):
    """A closed body, some with a drawer's front or a hollow."""
    a, b = a * rng.uniform(0.7, 1), b * rng.uniform(0.7, 1)
    body = slab(-a, a, -b, b, rng.choice([0, 0.06]), h, rng.choice([2, 8, 30]))
    plinth = slab(-a * 0.8, a * 0.8, -b * 0.8, b * 0.8, 0, 0.07, 8)
    return [body, plinth, box(-a * 0.8, a * 0.8, b - 0.02, b + 0.015, h * 0.55, h * 0.9)]


def c_frame(rng, a, b, h):
    """Feet that reach under a sofa, and posts at one side alone."""
    half = rng.uniform(0.01, 0.02)
    frames = [part for y in (-b, b) for part in tube([(a, y, half), (-a, y, half), (-a, y, h)], half)]
    return [*frames, rod((-a, -b, half), (-a, b, half), half)]


def two_panels(rng, a, b, h):
    """Panels at the sides, with a shelf, a back or a drawer."""
    t = rng.uniform(0.015, 0.04)
    panels = [box(s * (a - t / 2) - t / 2, s * (a - t / 2) + t / 2, -b, b, 0, h) for s in (-1, 1)]
    z = h * rng.uniform(0.1, 0.6)
    panels.append(box(-a, a, -b, b, z, z + t))
    if rng.random() < 0.5:
        panels.append(box(-a, a, -b, -b + t, 0, h))
    if rng.random() < 0.4:
        panels.append(box(-a + t, a - t, -b, b + 0.01, h * 0.65, h - 0.01))
    return panels


BASES = {
    "side": {four_legs: 4, pedestal: 1, drum: 3, c_frame: 0.7, two_panels: 3, crossed_legs: 0.5},
    "coffee": {four_legs: 4, trestle: 1, drum: 2.5, two_panels: 3, crossed_legs: 0.5},
    "dining": {four_legs: 5, two_panels: 1, pedestal: 1.5, trestle: 1.5, crossed_legs: 0.5},
    "round": {four_legs: 3, pedestal: 5, drum: 0.5},
    "console": {four_legs: 4, trestle: 2, two_panels: 2},
    "bar": {four_legs: 3, pedestal: 3, trestle: 1},
    "meeting": {four_legs: 3, pedestal: 2, trestle: 3, two_panels: 0.7},
}


def table(rng: np.random.Generator, kind: str | None = None) -> Piece:
    """A table of a kind of TABLES; of any, if it is None."""
    if kind is None:
        kind = str(rng.choice(list(TABLES), p=[t[-1] for t in TABLES.values()]))
    length0, length1, share0, share1, height0, height1, _ = TABLES[kind]
    length, height = rng.uniform(length0, length1), rng.uniform(height0, height1)
    a, b = length / 2, length / 2 * rng.uniform(share0, share1)
    power = 2.0 if kind == "round" else rng.choice([2, 4, 10, 40, 40, 40, 40, 40])  # 40: sharp corners
    thick = rng.choice([rng.uniform(0.01, 0.02), rng.uniform(0.02, 0.05), rng.uniform(0.05, 0.1)], p=[0.2, 0.6, 0.2])
    top = slab(-a, a, -b, b, height - thick, height, power) if power < 40 else box(-a, a, -b, b, height - thick, height)
    inset = 1 if power >= 10 else 0.82 if power > 2 else 0.68  # of a place under the corner of the top
    inset *= rng.uniform(0.82, 1)
    base = pick(rng, BASES[kind])(rng, a * inset, b * inset, height - thick)
    inset = 0.95 if power > 4 else 0.65
    count = rng.choice([0, rng.integers(1, 5), rng.integers(4, 14)], p=[0.06, 0.24, 0.7])
    things = on_top(rng, -a * inset, a * inset, -b * inset, b * inset, height, count)
    part = rng.choice([0, rng.uniform(0.3, 1), 1], p=[0.08, 0.27, 0.65])
    return settled(annotated_with(rng, Thing("table", [top, *base]), things, part))


# desks


def drawers(rng, x0, x1, y0, y1, z0, z1) -> list[Surface]:
    """A chest under a desk's top, its fronts to +y."""
    number, gap = rng.integers(2, 5), rng.uniform(0.004, 0.012)
    edges = np.linspace(z0 + 0.03, z1, number + 1)
    fronts = [
        box(x0, x1, y1, y1 + 0.02, low + gap, high - gap) for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    middle, half = (x0 + x1) / 2, rng.uniform(0.02, 0.1)
    grips = [box(middle - half, middle + half, y1 + 0.02, y1 + 0.045, z - 0.05, z - 0.035) for z in edges[1:]]
    return [box(x0, x1, y0, y1, z0, z1), *fronts, *grips]


def support(rng, side: int, x: float, y0: float, y1: float, h: float) -> list[Surface]:
    """What carries an end of a desk: side -1 is the left one, at its outer edge x."""
    style, inner = rng.choice(5, p=[0.24, 0.28, 0.12, 0.31, 0.05]), x - side * rng.uniform(0.3, 0.48)
    half = rng.uniform(0.012, 0.035)
    at = x - side * (half + rng.uniform(0, 0.08))
    if style == 0:  # a panel
        return [box(at - half, at + half, y0, y1, 0, h)]
    if style == 1:  # legs
        is_round = rng.random() < 0.5
        return [bar(at, y, half, 0, h, is_round) for y in (y0 + half, y1 - half)]
    if style == 2:  # a T
        middle = (y0 + y1) / 2
        return [
            box(at - 0.04, at + 0.04, middle - 0.05, middle + 0.05, 0, h),
            box(at - 0.04, at + 0.04, y0, y1, 0, 0.05),
        ]
    if style == 3:
        return drawers(rng, min(x, inner), max(x, inner), y0 + 0.03, y1 - 0.03, rng.choice([0, 0, 0.05, 0.15]), h)
    levels = np.linspace(0.05, h, rng.integers(2, 4))[:-1]  # shelves
    return [box(min(x, inner), max(x, inner), y0, y1, z, z + 0.02) for z in levels] + [
        box(at - 0.01, at + 0.01, y0, y1, 0, h) for at in (x, inner)
    ]


def workplace(rng, x: float, y0: float, y1: float, z: float) -> list[Thing]:
    """Monitors at the back with a keyboard before them, or a laptop, for one who sits at +y."""
    things = []
    if rng.random() < 0.75:
        screens = [monitor(rng) for _ in range(rng.choice([1, 1, 2]))]
        for i, thing in enumerate(screens):
            side = 0.0 if len(screens) == 1 else (-0.3, 0.3)[i]
            at = (x + side + rng.normal(0, 0.03), y0 + rng.uniform(0.14, 0.24), z)
            things += placed([thing], at, rng.normal(0.8 * side, 0.12))
    front = [keyboard(rng)] if things else [laptop(rng)]
    things += placed(front, (x + rng.normal(0, 0.05), y1 - rng.uniform(0.14, 0.22), z), rng.normal(0, 0.1))
    return things


def hutch(rng, x0, x1, y0, z) -> tuple[list[Surface], list[Thing]]:
    """Shelves that stand on the back of a desk, with things in them."""
    deep, high, t = rng.uniform(0.18, 0.32), rng.uniform(0.35, 0.95), 0.018
    low = z + rng.uniform(0.25, 0.6) * high
    boards = [box(x0, x1, y0, y0 + deep, h, h + t) for h in (low, z + high - t)]
    posts = [box(x, x + t, y0, y0 + deep, z, z + high) for x in np.linspace(x0, x1 - t, rng.integers(2, 5))]
    if rng.random() < 0.5:
        boards.append(box(x0, x1, y0, y0 + 0.01, z, z + high))
    things = on_top(rng, x0, x1, y0, y0 + deep, low + t, rng.integers(1, 7), z + high - low, ON_DESK)
    return boards + posts, things + on_top(rng, x0, x1, y0, y0 + deep, z + high, rng.integers(0, 4), makers=ON_DESK)


def one_desk(rng, width: float, depth: float, height: float) -> tuple[list[Surface], list[Thing]]:
    """A desk with its back at y = 0, its middle at x = 0, and what is on it and under it."""
    x, thick = width / 2, rng.uniform(0.018, 0.045)
    h = height - thick
    y0, y1 = rng.uniform(0, 0.05), depth - rng.uniform(0, 0.08)
    parts = [box(-x, x, 0, depth, h, height), *support(rng, -1, -x, y0, y1, h), *support(rng, 1, x, y0, y1, h)]
    if rng.random() < 0.55:  # a panel at the back
        parts.append(box(-x + 0.02, x - 0.02, y0 + 0.02, y0 + 0.04, rng.uniform(0, 0.55) * h, h))
    if rng.random() < 0.25:  # a drawer under the middle
        parts.append(box(-x * 0.35, x * 0.35, y0, y1, h - rng.uniform(0.06, 0.13), h))
    things, left, right, back = [], -x, x, 0.0
    if rng.random() < 0.18:
        shelves, things = hutch(rng, -x, x * rng.choice([1, 0.1]), 0, height)
        parts, back = parts + shelves, 0.3
    elif rng.random() < 0.8:
        at = rng.uniform(-0.3, 0.3) * width
        things, left, right = workplace(rng, at, 0, depth, height), max(-x, at - 0.35), min(x, at + 0.35)
        things += on_top(rng, -x, left, 0, depth, height, rng.integers(0, 5), makers=ON_DESK)
        left = right
    things += on_top(rng, left, x, back, depth, height, rng.integers(0, 7), makers=ON_DESK)
    if rng.random() < 0.25:
        at = rng.uniform(-x * 0.4, x * 0.4)
        things.append(
            Thing("otherprop", [box(at - 0.1, at + 0.1, 0.06, 0.5, 0, rng.uniform(0.35, 0.48))])
        )  # a computer
    return parts, things


def desk(rng: np.random.Generator) -> Piece:
    """One desk, one with a wing (an L), or several in a row or face to face, with or without screens between them."""
    width, depth, height = rng.uniform((1.0, 0.55, 0.69), (2.2, 0.85, 0.79))
    if rng.random() < 0.1:
        height = rng.uniform(0.9, 1.15)  # to stand at
    parts, things = one_desk(rng, width, depth, height)
    style = rng.random()
    if style < 0.14:  # a wing
        side, long, deep = rng.choice([-1, 1]), rng.uniform(0.9, 1.7), rng.uniform(0.4, 0.65)
        more, on_it = one_desk(rng, long, deep, height - rng.choice([0, rng.uniform(0, 0.06)]))
        offset = (side * width / 2, depth + long / 2, 0)
        parts += [moved(turned(s, side * np.pi / 2), offset) for s in more]
        things += placed(on_it, offset, side * np.pi / 2)
    elif style < 0.3:  # a second one, beside it or facing it
        more, on_it = one_desk(rng, width, depth, height)
        offset, angle = ((width, 0, 0), 0.0) if rng.random() < 0.75 else ((0, -0.02, 0), np.pi)
        parts += [moved(turned(s, angle), offset) for s in more]
        things += placed(on_it, offset, angle)
        if rng.random() < 0.5:
            high = height + rng.uniform(0.25, 0.6)
            across = box(width / 2 - 0.02, width / 2 + 0.02, 0, depth, height - 0.3, high)
            parts.append(box(-width / 2, width / 2, -0.03, 0.01, height - 0.3, high) if angle else across)
    share = rng.choice([0, rng.uniform(0, 0.5), 1], p=[0.62, 0.28, 0.1])
    return settled(annotated_with(rng, Thing("desk", parts), things, share))
