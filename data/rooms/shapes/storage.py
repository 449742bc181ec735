"""Furniture that stores: cabinets, wardrobes, dressers, night stands, bookshelves, wall shelves, television stands.

All are cases of boards, divided into cells; a cell has a front or holds things. Sizes follow furniture as made and
medians of real scans.
"""

from typing import NamedTuple

import numpy as np

from data.rooms.shapes.clutter import (
    basket,
    book_row,
    books,
    carton,
    device,
    lamp,
    on_top,
    plant,
    screen,
    stood_picture,
    vessel,
)
from data.rooms.shapes.parts import annotated_with, settled, tube
from data.rooms.surfaces import Piece, Surface, Thing, box, cushion, cylinder, moved, placed, rod, turned


class Cell(NamedTuple):
    x0: float
    x1: float
    z0: float
    z1: float


class Fronts(NamedTuple):
    """The style of the doors and drawers of a piece; metres."""

    thick: float
    gap: float  # around a front
    frame: float  # width of a raised frame around a front; 0: it is plain
    handle: str  # "bar", "knob", "cup" or "none"
    ajar: float  # share of the doors that stand open


def fronts(rng) -> Fronts:
    frame = rng.uniform(0.04, 0.09) if rng.random() < 0.35 else 0.0
    handle = str(rng.choice(["bar", "knob", "cup", "none"], p=[0.4, 0.25, 0.1, 0.25]))
    return Fronts(rng.uniform(0.015, 0.03), rng.uniform(0.002, 0.01), frame, handle, rng.choice([0, 0.3], p=[0.6, 0.4]))


def cells(rng, x0, x1, z0, z1, columns: int, rows: int, even: float = 0.5) -> list[Cell]:
    """Columns of as many rows each; `even` is the chance that all rows are equally high."""
    edges, result = np.linspace(x0, x1, columns + 1), []
    share = rng.dirichlet(np.full(rows, 12.0)) if rng.random() > even else np.full(rows, 1 / rows)
    own = rng.random() < 0.3  # each column its own rows
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        if own:
            share = rng.dirichlet(np.full(rows, 12.0))
        levels = z0 + (z1 - z0) * np.array([0, *np.cumsum(share)])
        result += [Cell(a, b, c, d) for c, d in zip(levels[:-1], levels[1:], strict=True)]
    return result


def case(all_cells: list[Cell], y0: float, y1: float, t: float, back: bool = True) -> list[Surface]:
    """The boards around and between cells."""
    x0, _, z0, _ = np.min(all_cells, axis=0)
    _, x1, _, z1 = np.max(all_cells, axis=0)
    boards = [box(x1 - t, x1, y0, y1, z0, z1), box(x0, x1, y0, y1, z1 - t, z1)]
    boards += [box(x0, x1, y0, y0 + 0.01, z0, z1)] if back else []
    for a, b, c, d in all_cells:
        boards += [box(a, a + t, y0, y1, c, d), box(a, b, y0, y1, c, c + t)]
    return boards


def grip(rng, handle: str, x: float, y: float, z: float, upright: bool) -> list[Surface]:
    half = rng.uniform(0.04, 0.12)
    if handle == "knob":
        return [box(x - 0.014, x + 0.014, y, y + 0.03, z - 0.014, z + 0.014)]
    if handle == "cup":
        return [box(x - 0.045, x + 0.045, y, y + 0.025, z - 0.015, z + 0.015)]
    a, b = ((0, 0, half), (0, 0, -half)) if upright else ((half, 0, 0), (-half, 0, 0))
    return [rod(np.add((x, y + 0.03, z), a), np.add((x, y + 0.03, z), b), 0.007)] if handle == "bar" else []


def front(rng, cell: Cell, y: float, style: Fronts, door: bool, right: bool) -> list[Surface]:
    """A door or a drawer's front before a cell; a door's hinges are at the left or the right, and it may be open."""
    x0, x1, z0, z1 = np.array(cell) + np.array([1, -1, 1, -1]) * style.gap
    face = y + style.thick
    parts, frame = [box(x0, x1, y, face, z0, z1)], style.frame
    if frame and min(x1 - x0, z1 - z0) > 3 * frame:
        raised = [
            (x0, x0 + frame, z0, z1),
            (x1 - frame, x1, z0, z1),
            (x0, x1, z0, z0 + frame),
            (x0, x1, z1 - frame, z1),
        ]
        parts += [box(a, b, face, face + 0.012, c, d) for a, b, c, d in raised]
        face += 0.012
    if door:
        at = x0 + 0.035 if right else x1 - 0.035
        height = (z0 + z1) / 2 if z1 - z0 > 1 else z1 - 0.12 * (z1 - z0) if z0 < 0.7 else z0 + 0.12 * (z1 - z0)
        parts += grip(rng, style.handle, at, face, height, True)
        if rng.random() < style.ajar:
            angle = rng.uniform(0.1, 1.7) * (-1 if right else 1)
            parts = [turned(part, angle, "z", (x1 if right else x0, y, 0)) for part in parts]
        return parts
    number = 2 if x1 - x0 > 0.75 else 1
    for at in np.linspace(x0, x1, 2 * number + 1)[1::2]:
        parts += grip(rng, style.handle, at, face, z0 + (z1 - z0) * rng.choice([0.5, 0.75]), False)
    if rng.random() < style.ajar / 2:  # pulled out
        out = rng.uniform(0.03, 0.2)
        body = box(x0 + 0.01, x1 - 0.01, y - out, y, z0, z0 + 0.7 * (z1 - z0))
        parts = [moved(part, (0, out, 0)) for part in [*parts, body]]
    return parts


def fill(rng, cell: Cell, y0: float, y1: float, t: float) -> list[Thing]:
    """What stands in an open cell: books, things, boxes, or nothing."""
    x0, x1, z0, z1 = cell.x0 + t, cell.x1, cell.z0 + t, cell.z1
    width, height, deep = x1 - x0, z1 - z0 - t, y1 - y0
    style = rng.choice(["books", "things", "boxes", "nothing"], p=[0.42, 0.28, 0.12, 0.18])
    if style == "books" and height > 0.12:
        row = book_row(
            rng, width * rng.uniform(0.3, 1), min(deep * 0.95, rng.uniform(0.14, 0.24)), min(height * 0.95, 0.33)
        )
        offset = (x0, y1 - deep * rng.uniform(0, 0.15) - min(deep, 0.24), z0)
        return [Thing("books", [moved(s, np.maximum(offset, (x0, y0, z0))) for s in row])] if row else []
    if style == "things":
        makers = {vessel: 3, books: 3, carton: 1, basket: 1, device: 0.7, stood_picture: 1, plant: 0.3}
        return on_top(rng, x0, x1, y0, y1, z0, rng.integers(1, 5), height, makers)
    if style == "boxes":
        share = rng.uniform(0.5, 0.95, 2)
        return [Thing("box", [box(x0 + 0.01, x0 + width * share[0], y0 + 0.01, y1 - 0.01, z0, z0 + height * share[1])])]
    return []


def foot(rng, x0, x1, y0, y1, z: float) -> list[Surface]:
    """A plinth that stands back, or legs, up to the height z."""
    if z < 0.02:
        return []
    if z < 0.13 and rng.random() < 0.6:
        return [box(x0 + 0.01, x1 - 0.01, y0, y1 - 0.05, 0, z)]
    half, inset, is_round = rng.uniform(0.012, 0.03), rng.uniform(0, 0.06), rng.random() < 0.5
    at = [(x, y) for x in (x0 + half + inset, x1 - half - inset) for y in (y0 + half, y1 - half - inset)]
    if is_round:
        return [cylinder(x, y, half, 0, z) for x, y in at]
    return [box(x - half, x + half, y - half, y + half, 0, z) for x, y in at]


def lift(rng) -> float:
    """Of a body above the floor: none, a plinth, or legs."""
    return rng.choice([0, rng.uniform(0.04, 0.12), rng.uniform(0.1, 0.28)], p=[0.4, 0.4, 0.2])


def cased(rng, width, depth, z0, z1, columns, rows, kinds: dict[str, float], top: float = 0.0):
    """A body from z0 to z1 whose cells are of `kinds` ("door", "drawer", "open"), by their shares; its surfaces, and
    what is in it. top: how far its top board stands over."""
    y1, t, style = depth, rng.uniform(0.015, 0.03), fronts(rng)
    x = width / 2
    z = z1 - (rng.uniform(0.015, 0.05) if top else 0)
    all_cells = cells(rng, -x, x, z0, z, columns, rows)
    surfaces, inside = case(all_cells, 0, y1, t), []
    if top:
        surfaces.append(box(-x - top, x + top, 0, y1 + top + style.thick, z, z1))
    by_column = rng.random() < 0.4
    names, shares = list(kinds), np.array(list(kinds.values())) / sum(kinds.values())
    kind = str(rng.choice(names, p=shares))
    for i, cell in enumerate(all_cells):
        if not by_column or i % rows == 0:
            kind = str(rng.choice(names, p=shares))
        if kind == "open":
            inside += fill(rng, cell, 0.01, y1, t)
        elif kind == "door" and cell.x1 - cell.x0 > 0.65:  # a pair
            middle = (cell.x0 + cell.x1) / 2
            surfaces += front(rng, cell._replace(x1=middle), y1, style, True, False)
            surfaces += front(rng, cell._replace(x0=middle), y1, style, True, True)
        else:
            surfaces += front(rng, cell, y1, style, kind == "door", i // rows % 2 == 1)
    return surfaces, inside


def low_cabinet(rng):
    """A sideboard, a cupboard, a chest: with things on top."""
    width, depth, z0, height = rng.uniform(0.4, 1.6), rng.uniform(0.36, 0.6), lift(rng), rng.uniform(0.6, 1.1)
    kinds = {"door": 4, "drawer": rng.choice([0, 2]), "open": rng.choice([0, 0.8])}
    columns, rows = max(1, round(width / rng.uniform(0.4, 0.8))), rng.choice([1, 1, 2])
    surfaces, things = cased(rng, width, depth, z0, height, columns, rows, kinds, rng.choice([0, 0.015]))
    things += on_top(rng, -width / 2, width / 2, 0, depth, height, rng.choice([0, 3, 6, 10]))
    return surfaces + foot(rng, -width / 2, width / 2, 0, depth, z0), things


def tall_cabinet(rng):
    """A cupboard or a wardrobe, with doors, drawers below, or an open part."""
    width, depth, z0, height = (
        rng.uniform(0.4, 1.4),
        rng.uniform(0.4, 0.68),
        min(lift(rng), 0.15),
        rng.uniform(1.6, 2.3),
    )
    x = width / 2
    columns, split = max(1, round(width / rng.uniform(0.42, 0.8))), z0 + rng.uniform(0.2, 0.6) * (height - z0)
    if rng.random() < 0.5:
        surfaces, things = cased(rng, width, depth, z0, height, columns, 1, {"door": 1})
    else:
        below = {"door": 1} if rng.random() < 0.5 else {"drawer": 1}
        surfaces, things = cased(
            rng, width, depth, z0, split, columns, 1 if "door" in below else rng.integers(1, 4), below
        )
        above, in_it = cased(
            rng, width, depth * rng.choice([1, 0.75]), split, height, columns, rng.choice([1, 3]),
            {"door": 3, "open": rng.choice([0, 1])},
        )  # fmt: skip
        surfaces, things = surfaces + above, things + in_it
    if rng.random() < 0.2:
        surfaces.append(box(-x - 0.03, x + 0.03, 0, depth + 0.04, height - 0.05, height))
    things += on_top(rng, -x, x, 0, depth, height, rng.choice([0, 2, 5]), makers={carton: 3, basket: 2, books: 1})
    return surfaces + foot(rng, -x, x, 0, depth, z0), things


def fitted_wardrobe(rng):
    """Wall to wall or nearly so; doors that slide past each other, or doors and a row of small ones above."""
    width, depth, height = rng.uniform((1.2, 0.5, 2.0), (2.8, 0.7, 2.4))
    x, number = width / 2, int(rng.integers(2, 4))
    if rng.random() < 0.5:
        z = height - rng.uniform(0.35, 0.5)
        columns = round(width / rng.uniform(0.45, 0.6))
        surfaces, _ = cased(rng, width, depth, 0.05, z, columns, 1, {"door": 1})
        above, _ = cased(rng, width, depth, z, height, columns, 1, {"door": 1})
        return [*surfaces, *above, box(-x, x, 0, depth - 0.03, 0, 0.05)], []
    surfaces, wide = case([Cell(-x, x, 0, height)], 0, depth, 0.03), width / number
    for i in range(number):
        at, y = -x + i * wide, depth - 0.03 - 0.035 * (i % 2)
        surfaces.append(box(at - 0.02, at + wide + 0.02, y, y + 0.025, 0.04, height - 0.06))
    return surfaces, []


def filing_cabinet(rng):
    number, width, depth = rng.choice([1, 1, 2, 3]), rng.uniform(0.38, 0.5), rng.uniform(0.45, 0.66)
    rows = int(rng.integers(2, 5))
    height = 0.06 + rows * rng.uniform(0.29, 0.34)
    surfaces, _ = cased(rng, number * width, depth, 0.03, height, number, rows, {"drawer": 1})
    x = number * width / 2
    things = on_top(rng, -x, x, 0, depth, height, rng.choice([0, 1, 3]))
    return [*surfaces, box(-x, x, 0, depth - 0.03, 0, 0.03)], things


def hung_cabinet(rng):
    width, depth, low = rng.uniform((0.4, 0.22, 1.3), (1.9, 0.4, 1.7))
    high = min(2.3, low + rng.uniform(0.4, 0.95))
    columns = max(1, round(width / rng.uniform(0.35, 0.7)))
    return cased(rng, width, depth, low, high, columns, 1, {"door": 4, "open": rng.choice([0, 1])})


CABINETS = {low_cabinet: 0.23, tall_cabinet: 0.35, fitted_wardrobe: 0.18, filing_cabinet: 0.08, hung_cabinet: 0.16}


def made(rng, name: str, surfaces: list[Surface], things: list[Thing], share: float = 0.1) -> Piece:
    """The piece of a body and what is in and on it, of which a share is annotated with it."""
    return settled(annotated_with(rng, Thing(name, surfaces), things, share))


def cabinet(rng: np.random.Generator) -> Piece:
    make = list(CABINETS)[rng.choice(len(CABINETS), p=list(CABINETS.values()))]
    return made(rng, "cabinet", *make(rng), share=0.8)


def dresser(rng: np.random.Generator) -> Piece:
    """A chest of drawers, with things on it; some with a mirror."""
    width, depth, height, z0 = *rng.uniform((0.6, 0.38, 0.7), (1.65, 0.55, 1.25)), min(lift(rng), 0.2)
    x, columns = width / 2, 1 if width < 0.85 else int(rng.integers(1, 4))
    kinds = {"drawer": 12, "door": 1}
    surfaces, things = cased(rng, width, depth, z0, height, columns, rng.integers(3, 6), kinds, rng.choice([0, 0.02]))
    if height < 1 and rng.random() < 0.3:
        a, high = x * rng.uniform(0.4, 0.95), rng.uniform(0.5, 0.95)
        mirror = turned(
            box(-a, a, 0.02, 0.045, height + 0.03, height + high), -rng.uniform(0, 0.1), "x", (0, 0.02, height)
        )
        things.append(Thing("mirror", [mirror]))
    things += on_top(rng, -x, x, 0.08, depth, height, rng.choice([0, 2, 4, 8]))
    return made(rng, "dresser", surfaces + foot(rng, -x, x, 0, depth, z0), things)


def night_stand(rng: np.random.Generator) -> Piece:
    """Beside a bed: drawers, a door or open, often with a lamp."""
    width, depth, height, z0 = *rng.uniform((0.36, 0.32, 0.42), (0.62, 0.5, 0.72)), lift(rng)
    x, kinds = width / 2, {"drawer": 4, "door": 0.6, "open": rng.choice([0, 2])}
    surfaces, things = cased(rng, width, depth, z0, height, 1, rng.integers(1, 4), kinds, rng.choice([0, 0.02]))
    if rng.random() < 0.6:
        things += placed([lamp(rng)], (rng.uniform(-0.3, 0.3) * width, depth * 0.4, height))
        things += on_top(rng, -x, x, depth * 0.6, depth, height, rng.integers(0, 3))
    else:
        things += on_top(rng, -x, x, 0, depth, height, rng.integers(0, 4))
    return made(rng, "night stand", surfaces + foot(rng, -x, x, 0, depth, z0), things)


def shelf_unit(rng):
    """Open shelves or cubes; with or without a back; some with doors below."""
    width, depth, height, z0 = *rng.uniform((0.4, 0.22, 0.75), (1.7, 0.4, 2.2)), rng.choice([0, 0.06, 0.1])
    x, t, y1 = width / 2, rng.uniform(0.015, 0.04), depth
    cube = rng.uniform(0.3, 0.42)
    columns = max(1, round(width / (cube if rng.random() < 0.35 else rng.uniform(0.5, 0.95))))
    rows = max(2, round((height - z0) / rng.uniform(0.27, 0.45)))
    surfaces, low = [], z0
    if height > 1.5 and rng.random() < 0.2:
        low = z0 + rng.uniform(0.4, 0.8)
        surfaces, _ = cased(rng, width, depth, z0, low, columns, 1, {"door": 1})
        rows = max(2, rows - 2)
    all_cells = cells(rng, -x, x, low, height, columns, rows, even=0.7)
    surfaces += case(all_cells, 0, y1, t, back=rng.random() < 0.65) + foot(rng, -x, x, 0, depth, z0)
    return surfaces, [thing for cell in all_cells for thing in fill(rng, cell, 0.01, y1, t)], (x, depth, height)


def ladder_shelf(rng):
    """Leaning ladders with boards between them, deeper below."""
    a, depth, height = rng.uniform((0.25, 0.35, 1.4), (0.5, 0.55, 2.0))
    surfaces, things = [rod((s * a, depth, 0), (s * a, 0.03, height), 0.018) for s in (-1, 1)], []
    levels = np.linspace(rng.uniform(0.1, 0.4), height * rng.uniform(0.8, 0.95), rng.integers(3, 6))
    for z in levels:
        deep = max(0.15, depth * (1 - z / height))
        surfaces.append(box(-a, a, 0, deep, z, z + 0.02))
        things += on_top(rng, -a, a, 0, deep, z + 0.02, rng.integers(0, 4), levels[1] - levels[0])
    return surfaces, things, (a, 0.1, levels[-1] + 0.02)


def rack(rng):
    """Posts and boards, as of metal or wire."""
    a, deep, height = rng.uniform((0.3, 0.28, 0.9), (0.75, 0.5, 2.0))
    surfaces, things = [rod((x, y, 0), (x, y, height), 0.015) for x in (-a, a) for y in (0, deep)], []
    levels = np.linspace(rng.uniform(0.08, 0.3), height - rng.uniform(0.02, 0.1), rng.integers(3, 6))
    surfaces += [box(-a, a, 0, deep, z - 0.025, z) for z in levels]
    for z, above in zip(levels[:-1], levels[1:], strict=True):
        things += fill(rng, Cell(-a, a, z, above), 0, deep, 0.02)
    if rng.random() < 0.3:
        surfaces += tube([(-a, 0, 0.1), (a, 0, height), (a, 0, 0.1), (-a, 0, height)], 0.008)
    return surfaces, things, (a, deep, levels[-1])


def bookshelf(rng: np.random.Generator) -> Piece:
    """A shelf that stands, filled in part; most of its books are annotated as part of it."""
    make = [shelf_unit, ladder_shelf, rack][rng.choice(3, p=[0.76, 0.08, 0.16])]
    surfaces, things, (x, depth, height) = make(rng)
    if rng.random() < 0.5:
        things += on_top(rng, -x, x, 0, depth, height, rng.integers(1, 4))
    name = "shelves" if make is rack and rng.random() < 0.5 else "bookshelf"
    return made(rng, name, surfaces, things, rng.uniform(0.4, 1))


def wall_shelves(rng: np.random.Generator) -> Piece:
    """Boards on a wall, with or without brackets, and what stands on them."""
    surfaces, things, t = [], [], rng.uniform(0.018, 0.045)
    low, step, x, deep = rng.uniform((0.9, 0.28, 0.25, 0.14), (1.5, 0.42, 0.75, 0.32))
    same = rng.random() < 0.6
    for z in low + step * np.arange(rng.integers(1, 4)):
        a, shift = (x, 0) if same else (x * rng.uniform(0.5, 1), rng.uniform(-0.3, 0.3))
        surfaces.append(box(shift - a, shift + a, 0, deep, z - t, z))
        if rng.random() < 0.4:
            surfaces += [
                box(shift + s - 0.012, shift + s + 0.012, 0, deep * 0.8, z - t - 0.12, z - t)
                for s in (-a * 0.7, a * 0.7)
            ]
        cell = Cell(shift - a, shift + a, z - t, z + step - t)
        things += fill(rng, cell, 0, deep, t)
    return made(rng, "shelves", surfaces, things, rng.uniform(0.2, 0.9))


def television(rng, width: float) -> Thing:
    """A flat one on its foot, or a deep one with a tube."""
    if rng.random() < 0.8:
        return screen(rng, width, "television")
    a, deep = rng.uniform(0.22, 0.42), rng.uniform(0.35, 0.52)
    high = 1.55 * a
    return Thing(
        "television", [box(-a, a, -0.1, 0.06, 0, high), cushion(-a * 0.75, a * 0.75, -deep, 0, 0.05, high * 0.9, 6)]
    )


def tv_stand(rng: np.random.Generator) -> Piece:
    """A low, long body with a television on it or on the wall above it."""
    width, depth, height, z0 = *rng.uniform((0.7, 0.36, 0.38), (2.1, 0.58, 0.75)), lift(rng)
    x, tv = width / 2, rng.uniform(0.65, 1.4)
    kinds = {"open": 3, "door": rng.choice([0, 2]), "drawer": rng.choice([0, 2])}
    columns = max(1, round(width / rng.uniform(0.45, 0.8)))
    surfaces, things = cased(rng, width, depth, z0, height, columns, rng.integers(1, 3), kinds, rng.choice([0, 0.02]))
    at = rng.uniform(-0.1, 0.1) * width
    if rng.random() < 0.75:
        set_ = settled([television(rng, min(tv, 1.3 * width))])
        things += placed(set_.things, (at, rng.uniform(0, max(0.01, depth - set_.depth)), height), rng.normal(0, 0.04))
    else:
        z, high = height + rng.uniform(0.2, 0.6), tv * rng.uniform(0.55, 0.62)
        things.append(Thing("television", [box(at - tv / 2, at + tv / 2, 0.03, rng.uniform(0.06, 0.11), z, z + high)]))
    for a, b in ((-x, at - 0.6 * tv), (at + 0.6 * tv, x)):
        things += on_top(rng, a, b, 0, depth, height, rng.integers(0, 4)) if b > a else []
    name = str(rng.choice(["cabinet", "otherfurniture"]))
    return made(rng, name, surfaces + foot(rng, -x, x, 0, depth, z0), things, 0.0)
