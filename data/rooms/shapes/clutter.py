"""Small things on tops, and what stands about on floors: boxes, bags, bins, plants, lamps, racks, machines.

Sizes follow such things as made; the sizes of otherfurniture follow medians of real scans.
A small thing is made about the origin, standing on z = 0.
"""

from collections.abc import Callable

import numpy as np

from data.rooms.shapes.parts import moulded, pick, ring, settled, slab, tube
from data.rooms.surfaces import (
    Piece,
    Surface,
    Thing,
    bounds,
    box,
    cushion,
    cylinder,
    draped,
    grid,
    lathe,
    moved,
    placed,
    rod,
    sheet,
    turned,
)

TRIES = 5  # places tried for a small thing, before it is left out


# small things


def vessel(rng):
    """A bottle, cup, bowl, vase or jar: foot, belly, shoulder and mouth."""
    height = rng.uniform(0.05, 0.34)
    radius = rng.uniform(0.03, 0.07) if height > 0.15 else rng.uniform(0.035, 0.16)
    rings = zip(radius * rng.uniform([0.5, 0.7, 0.7, 0.25], 1), height * np.array([0, 0.35, 0.65, 1]), strict=True)
    return Thing("otherprop", [lathe(0, 0, [(0, 0), *rings, (0, height * rng.choice([0.3, 1]))])])


def book_row(rng, length: float, depth: float, height: float) -> list[Surface]:
    """Books that stand side by side with their backs to the front, from x = 0 up to `length`, the last ones leaning."""
    books, x = [], 0.0
    usual = height * rng.uniform(0.7, 0.95)
    while (x1 := x + rng.uniform(0.02, 0.06)) < length:
        deep = depth * rng.uniform(0.7, 1)
        books.append(box(x, x1, depth - deep, depth, 0, min(height, usual * rng.uniform(0.8, 1.1))))
        x = x1
    if books and x + 0.1 < length:
        books[-1] = turned(books[-1], rng.uniform(0, 0.25), "y", (books[-1].xyz[:, 0].max(), 0, 0))
    return books


def books(rng):
    if rng.random() < 0.35:
        length, depth = rng.uniform(0.1, 0.4), rng.uniform(0.12, 0.2)
        row = book_row(rng, length, depth, rng.uniform(0.18, 0.32))
        return Thing("books", [moved(s, (-length / 2, -depth / 2, 0)) for s in row])
    pile, z = [], 0.0
    for _ in range(rng.integers(1, 8)):
        (a, b), thick = rng.uniform((0.06, 0.08), (0.11, 0.16)), rng.uniform(0.01, 0.05)
        pile.append(moved(turned(box(-a, a, -b, b, z, z + thick), rng.normal(0, 0.2)), (*rng.normal(0, 0.012, 2), 0)))
        z += thick
    return Thing("books", pile)


def carton(rng, size=(0.1, 0.35)):
    """A box, closed or with its flaps open."""
    (a, b), height = rng.uniform(*size, 2) / 2, rng.uniform(*size) * rng.uniform(0.4, 1)
    if rng.random() < 0.7:
        return Thing("box", [box(-a, a, -b, b, 0, height)])
    sides = [box(-a, a, s * b - 0.005, s * b + 0.005, 0, height) for s in (-1, 1)]
    sides += [box(s * a - 0.005, s * a + 0.005, -b, b, 0, height) for s in (-1, 1)]
    for s in (-1, 1):
        flap = box(-a, a, s * b - 0.004, s * b + 0.004, height, height + b * rng.uniform(0.4, 0.9))
        sides.append(turned(flap, -s * rng.uniform(-0.4, 2.2), "x", (0, s * b, height)))
    inside = draped(-a, a, -b, b, height * rng.uniform(0.1, 0.6), height * 0.35, rng)
    return Thing("box", [*sides, box(-a, a, -b, b, 0, 0.01), inside])


def leaves(rng, z: float, reach: float, rise: float) -> list[Surface]:
    """Leaves that rise from (0, 0, z) by up to `rise`, and hang over by up to `reach`."""
    result = []
    wide, stem = reach * rng.uniform(0.08, 0.3), rng.uniform(0, 0.6)
    for _ in range(rng.integers(7, 22)):
        out, up, bow = reach * rng.uniform(0.3, 1), rise * rng.uniform(0.4, 1), rng.uniform(0.1, 0.7)

        def shape(u, v, out=out, up=up, bow=bow):
            half = wide * (u - 0.5) * (0.06 + np.clip(np.sin(np.pi * (v - stem) / (1 - stem)), 0, 1)) * 2
            return np.stack((out * v**1.5, half, z + up * (v - bow * v**3) / (1 - bow * 0.6)), 1)

        result.append(turned(grid(shape, 2, 7), rng.uniform(0, 2 * np.pi)))
    return result


def pot(rng, radius: float, height: float) -> Surface:
    foot = rng.uniform(0.6, 1)
    profile = [(0, 0), (foot, 0), (1, height), (0.9, height), (0.88, height * 0.9), (0, height * 0.9)]
    return moulded(radius, radius * rng.uniform(0.8, 1), profile, rng.choice([2, 2, 8]))


def plant(rng, radius=(0.04, 0.11), rise=(0.1, 0.4)):
    radius, rise = rng.uniform(*radius), rng.uniform(*rise)
    height = radius * rng.uniform(1, 2.2)
    if rng.random() < 0.65:
        growth = leaves(rng, height * 0.9, rise * rng.uniform(0.3, 0.9), rise)
    else:  # a crown on a stem
        stem, crown = rise * rng.uniform(0, 0.6), rise * rng.uniform(0.25, 0.45)
        growth = [rod((0, 0, height * 0.8), (0, 0, height + stem + crown), 0.01 + 0.04 * radius)]
        for _ in range(rng.integers(4, 9)):
            x, y, z = rng.normal(0, crown * 0.45, 3)
            r = crown * rng.uniform(0.3, 0.65, 3)
            low = np.array([x, y, height + stem + crown + z]) - r
            growth.append(cushion(*np.stack((low, low + 2 * r), 1).ravel(), power=rng.uniform(1.2, 2.2)))
    return Thing("otherprop", [pot(rng, radius, height), *growth])


def lamp(rng, height=(0.25, 0.65)):
    """A foot, a stem and a shade, or a jointed arm with a head."""
    height = rng.uniform(*height)
    wide, thin = min(0.3, 0.05 + 0.16 * height) * rng.uniform(0.8, 1.3), rng.uniform(0.008, 0.018)
    foot = lathe(0, 0, [(0, 0), (wide, 0), (wide * rng.uniform(0.2, 1), rng.uniform(0.015, 0.05)), (thin, 0.06)])
    if rng.random() < 0.3:
        elbow = np.array([-wide * rng.uniform(0, 1.5), 0, height * rng.uniform(0.5, 0.8)])
        head = elbow + (height * rng.uniform(0.3, 0.6), 0, height * rng.uniform(0.05, 0.25))
        cone = lathe(*head[:2], [(0.02, head[2] + 0.06), (rng.uniform(0.05, 0.1), head[2] - 0.08)])
        return Thing("lamp", [foot, *tube([(0, 0, 0.02), elbow, head], thin), turned(cone, -0.4, "y", head)])
    shade, low = min(0.28, 0.1 + 0.14 * height) * rng.uniform(0.8, 1.2), height - rng.uniform(0.13, 0.28)
    if height < 0.8 and rng.random() < 0.6:  # a belly instead of a stem
        r = rng.uniform(0.03, 0.09, 3)
        stem = lathe(0, 0, [(r[0], 0), (r[1], low * 0.3), (r[2], low * 0.7), (0.012, low), (0.012, height - 0.02)])
    else:
        stem = rod((0, 0, 0.01), (0, 0, height - 0.02), thin)
    return Thing("lamp", [foot, stem, lathe(0, 0, [(shade, low), (shade * rng.uniform(0.4, 1), height)])])


def screen(rng, width: float, name: str = "otherprop") -> Thing:
    """A monitor or a television on its stand, turned to +y."""
    height, thick, lift = width * rng.uniform(0.54, 0.68), rng.uniform(0.02, 0.06), rng.uniform(0.04, 0.14)
    surfaces = [box(-width / 2, width / 2, -thick / 2, thick / 2, lift, lift + height)]
    if rng.random() < 0.5:
        surfaces.append(box(-width / 5, width / 5, -thick / 2 - 0.03, 0, lift + height / 4, lift + height * 0.75))
    surfaces.append(box(-0.03, 0.03, -thick / 2 - 0.03, -thick / 2, 0, lift + height / 2))
    foot = slab(-width * 0.25, width * 0.25, -0.12, 0.1, 0, rng.uniform(0.01, 0.025), rng.choice([2, 8]))
    return Thing(name, [*surfaces, foot])


def monitor(rng):
    return screen(rng, rng.uniform(0.38, 0.72))


def laptop(rng):
    a, b = rng.uniform((0.14, 0.1), (0.19, 0.13))
    lid = turned(box(-a, a, -b, -b + 0.01, 0.02, 0.02 + 2 * b), rng.uniform(0, 0.6), "x", (0, -b, 0.02))
    return Thing("otherprop", [box(-a, a, -b, b, 0, 0.02), *([lid] if rng.random() < 0.8 else [])])


def keyboard(rng):
    a, b = rng.uniform((0.14, 0.055), (0.23, 0.085))
    return Thing("otherprop", [turned(box(-a, a, -b, b, 0, 0.02), -rng.uniform(0, 0.1), "x", (0, b, 0))])


def papers(rng):
    a, b = rng.uniform((0.07, 0.1), (0.15, 0.21))
    return Thing("paper", [turned(box(-a, a, -b, b, 0, rng.uniform(0.005, 0.06)), rng.uniform(0, 3))])


def device(rng):
    """A speaker, printer, toaster, console, coffee machine: a block, often with a part set back or on top."""
    (a, b), height, power = rng.uniform((0.05, 0.06), (0.22, 0.2)), rng.uniform(0.06, 0.4), rng.uniform(6, 20)
    if rng.random() < 0.4:
        return Thing("otherprop", [slab(-a, a, -b, b, 0, height, power)])
    low, back = height * rng.uniform(0.2, 0.7), rng.uniform(-0.4, 0.7) * b
    return Thing(
        "otherprop", [slab(-a, a, -b, b, 0, low, power), slab(-a * 0.95, a * 0.95, -b, back, low, height, power)]
    )


def lump(rng):
    """A toy, a fruit, a soft bag, a ball."""
    a, b, height = rng.uniform(0.04, [0.16, 0.12, 0.24])
    return Thing(
        str(rng.choice(["otherprop", "otherprop", "bag"])), [cushion(-a, a, -b, b, 0, height, rng.uniform(1.6, 6))]
    )


def basket(rng, size=(0.08, 0.22), height=(0.05, 0.2)):
    """Open on top: a basket, tray, crate or bowl, empty or with something in it."""
    a, b = rng.uniform(*size, 2)
    height, foot, power = rng.uniform(*height), rng.uniform(0.7, 1), rng.choice([2, 4, 12])
    profile = [(0, 0), (foot, 0), (1, height), (0.95, height), (foot * 0.93, 0.012), (0, 0.012)]
    full = draped(-a * 0.6, a * 0.6, -b * 0.6, b * 0.6, height * rng.uniform(0.2, 0.8), height * 0.5, rng)
    return Thing("otherprop", [moulded(a, b, profile, power), *([full] if rng.random() < 0.6 else [])])


def stood_picture(rng):
    """A photograph in a frame, a clock, a sign."""
    a, height = rng.uniform((0.04, 0.08), (0.2, 0.35))
    leaning = turned(box(-a, a, -0.01, 0.01, 0, height), rng.uniform(0.05, 0.3), "x", (0, 0, 0))
    return Thing("otherprop", [leaning])


def cloth(rng):
    a, b = rng.uniform(0.08, 0.25, 2)
    return Thing(str(rng.choice(["clothes", "towel"])), [draped(-a, a, -b, b, 0.005, rng.uniform(0.03, 0.14), rng)])


SMALL = {
    vessel: 5, books: 3, carton: 2, papers: 2, device: 2, lump: 2, basket: 1.5, plant: 1, lamp: 1, laptop: 1,
    stood_picture: 1, cloth: 0.7, monitor: 0.3,
}  # fmt: skip


def on_top(rng, x0, x1, y0, y1, z, count, height=np.inf, makers: dict[Callable, float] = SMALL) -> list[Thing]:
    """Up to `count` small things, apart from each other, on a flat top; lower than `height`, which is above z."""
    things, taken = [], []
    for _ in range(count):
        thing = pick(rng, makers)(rng)
        angle = rng.normal(0, 0.25) + (rng.integers(4) * np.pi / 2 if rng.random() < 0.3 else 0)
        low, high = bounds(placed([thing], (0, 0, 0), angle))
        size = high - low
        if size[0] > x1 - x0 or size[1] > y1 - y0 or size[2] > height:
            continue
        for _ in range(TRIES):
            at = rng.uniform((x0, y0), (x1 - size[0], y1 - size[1]))
            if all((at > b).any() or (at + size[:2] < a).any() for a, b in taken):
                taken.append((at, at + size[:2]))
                things += placed([thing], (*(at - low[:2]), z - min(low[2], 0)), angle)
                break
    return things


# on the floor


def box_pile(rng):
    things, x = [], 0.0
    for _ in range(rng.choice([1, 1, 2, 3])):
        z, wide = 0.0, 0.0
        for _ in range(rng.choice([1, 1, 2, 3])):
            thing = carton(rng, (0.2, 0.65))
            low, high = bounds([thing])
            at = (x + (high - low)[0] / 2, rng.normal(0, 0.04), z - min(low[2], 0))
            things += placed([thing], at, rng.normal(0, 0.1))
            z, wide = z + high[2] - low[2], max(wide, (high - low)[0])
        x += wide + rng.uniform(0, 0.1)
    return things


def bag(rng):
    """A backpack, a shopping bag, a handbag, a sack."""
    a, b, height = rng.uniform((0.12, 0.06, 0.2), (0.3, 0.2, 0.55))
    rings = zip(rng.uniform([0.7, 0.9, 0.75, 0.4], 1), height * np.array([0.03, 0.3, 0.7, 1]), strict=True)
    lean = rng.normal(0, 0.15)
    surfaces = [moulded(a, b, [(0, 0), *rings, (0, height * rng.uniform(0.9, 1))], rng.uniform(2, 5))]
    for y in rng.uniform(-b, b, rng.integers(0, 3)):
        top = height + rng.uniform(0.02, 0.2)
        surfaces += tube(
            [(-a / 2, y, height * 0.85), (-a / 3, y, top), (a / 3, y, top), (a / 2, y, height * 0.85)], 0.012
        )
    if rng.random() < 0.5:  # a pocket
        surfaces.append(cushion(-a * 0.7, a * 0.7, b * 0.3, b * 1.5, height * 0.08, height * 0.5))
    return [Thing("bag", [turned(s, lean, "x") for s in surfaces])]


def suitcase(rng):
    a, b, height = rng.uniform((0.17, 0.09, 0.45), (0.27, 0.17, 0.75))
    if rng.random() < 0.3:  # lies
        a, b, height = height / 2, a, 2 * b
        return [
            Thing(
                "bag",
                [cushion(-a, a, -b, b, 0, height, 12), *tube([(-0.1, b, height / 2), (0.1, b, height / 2)], 0.015)],
            )
        ]
    grip = height + rng.uniform(0.03, 0.4)
    bow = tube([(-a / 2, -b, height * 0.8), (-a / 2, -b, grip), (a / 2, -b, grip), (a / 2, -b, height * 0.8)], 0.01)
    return [
        Thing(
            "bag", [cushion(-a, a, -b, b, 0.03, height, 12), *bow, box(-a * 0.8, a * 0.8, -b * 0.8, b * 0.8, 0, 0.05)]
        )
    ]


def clothes_heap(rng):
    a, b, height = rng.uniform((0.2, 0.15, 0.1), (0.6, 0.45, 0.5))
    heaps = [draped(-a, a, -b, b, 0, height, rng), turned(draped(-a, a, -b, b, 0, height, rng), rng.uniform(0, 3))]
    return [Thing("clothes", heaps)]


def floor_lamp(rng):
    return [lamp(rng, (1.2, 1.85))]


def floor_plant(rng):
    return [plant(rng, (0.1, 0.24), (0.4, 1.3))]


def ribs(rng, width: float, deep: float, z0: float, z1: float) -> list[Surface]:
    """A radiator: a ribbed or a plain panel, or pillars side by side."""
    style = rng.random()
    if style < 0.35:
        return [box(-width / 2, width / 2, 0, deep, z0, z1)]
    step = rng.uniform(0.045, 0.09)
    at = np.arange(-width / 2 + step / 2, width / 2, step)
    if style < 0.65:
        return [
            box(-width / 2, width / 2, 0.01, deep * 0.7, z0, z1),
            *(box(x - 0.012, x + 0.012, 0, deep, z0, z1) for x in at),
        ]
    pillars = [slab(x - step * 0.4, x + step * 0.4, 0, deep, z0, z1, 4) for x in at]
    return [*pillars, *(rod((-width / 2, deep / 2, z), (width / 2, deep / 2, z), 0.02) for z in (z0 + 0.06, z1 - 0.06))]


def radiator(rng: np.random.Generator) -> Piece:
    """As fixed to a wall, often under a window."""
    width, low, deep = rng.uniform(0.5, 1.7), rng.uniform(0.06, 0.18), rng.uniform(0.06, 0.18)
    high = low + rng.uniform(0.3, 0.7)
    back = rng.uniform(0.02, 0.05)
    surfaces = [moved(s, (0, back, 0)) for s in ribs(rng, width, deep, low, high)]
    pipe = [rod((width / 2 - 0.03, back + deep / 2, 0), (width / 2 - 0.03, back + deep / 2, low + 0.05), 0.012)]
    fixed = [box(s * width / 3 - 0.02, s * width / 3 + 0.02, 0, back + 0.01, low + 0.05, high - 0.05) for s in (-1, 1)]
    return Piece([Thing("otherfurniture", [*surfaces, *pipe, *fixed])], width, back + deep)


def heater(rng):
    """A radiator on feet."""
    width, deep, high = rng.uniform((0.3, 0.1, 0.4), (0.6, 0.24, 0.7))
    feet = [box(s * width / 3 - 0.03, s * width / 3 + 0.03, -0.04, deep + 0.04, 0, 0.08) for s in (-1, 1)]
    return [Thing("otherfurniture", [*ribs(rng, width, deep, 0.07, high), *feet])]


def trash_can(rng):
    a, height = rng.uniform((0.1, 0.25), (0.22, 0.85))
    b, foot, power = a * rng.uniform(0.6, 1), rng.uniform(0.65, 1), rng.choice([2, 2, 4, 12])
    if rng.random() < 0.35:  # with a lid
        lid = [(1.04, height * 0.86), (1.04, height * 0.9), (0.7, height), (0, height)]
        return [Thing("otherfurniture", [moulded(a, b, [(0, 0), (foot, 0), (1, height * 0.86), *lid], power)])]
    full = height * rng.uniform(0.1, 0.8)
    rim = [(1, height), (0.93, height), (foot + (0.93 - foot) * full / height, full), (0, full)]
    return [Thing("otherfurniture", [moulded(a, b, [(0, 0), (foot, 0), *rim], power)])]


def laundry_basket(rng):
    return [basket(rng, (0.17, 0.32), (0.25, 0.65))._replace(name=str(rng.choice(["otherfurniture", "otherprop"])))]


def fan(rng):
    height = rng.uniform(0.4, 1.35)
    if rng.random() < 0.3:  # a tower
        r = rng.uniform(0.08, 0.14)
        profile = [(0, 0), (1.3 * r, 0), (1.3 * r, 0.04), (r * 0.9, 0.06), (r, height), (0, height)]
        return [Thing("otherprop", [lathe(0, 0, profile)])]
    radius = min(rng.uniform(0.14, 0.24), height * 0.4)
    hub = (0, 0, height - radius)
    cage = [
        ring(hub, radius, 0.025),
        turned(moved(lathe(0, 0, [(0, -0.06), (radius, 0), (0, 0.06)]), hub), np.pi / 2, "x", hub),
    ]
    foot = cylinder(0, 0, rng.uniform(0.13, 0.22), 0, 0.03)
    return [Thing("otherprop", [*cage, foot, rod((0, -0.05, 0), (0, -0.05, height - radius), 0.015)])]


def drying_rack(rng):
    a, b, height = rng.uniform((0.4, 0.22, 0.8), (0.9, 0.35, 1.15))
    rack = []
    for x in (-a, a):
        rack += tube([(x, -b, 0), (x, b, height)], 0.012) + tube([(x, b, 0), (x, -b, height)], 0.012)
    rack += [rod((-a, y, height), (a, y, height), 0.01) for y in np.linspace(-b, b, rng.integers(4, 9))]
    things = [Thing("otherfurniture", rack)]
    for y in rng.uniform(-b, b, rng.integers(0, 5)):
        x, wide, low = rng.uniform(-a, a * 0.3), rng.uniform(0.3, 0.7) * a, height - rng.uniform(0.2, 0.6)
        things.append(
            Thing("clothes", [sheet(x, x + wide, y + s, low, height + 0.01, 0.015, 0.15, rng) for s in (-0.02, 0.02)])
        )
    return things


def shoes(rng, x: float, y: float, z: float) -> list[Surface]:
    long, high = rng.uniform(0.12, 0.15), rng.uniform(0.06, 0.13)
    pair = [cushion(x + s - 0.045, x + s + 0.045, y - long, y + long, z, z + high * 0.7, 3) for s in (-0.055, 0.055)]
    return pair + [cushion(x + s - 0.04, x + s + 0.04, y - long, y, z, z + high, 3) for s in (-0.055, 0.055)]


def shoe_rack(rng):
    a, deep, levels = rng.uniform(0.3, 0.55), rng.uniform(0.22, 0.34), rng.integers(2, 5)
    z = np.cumsum([rng.uniform(0.05, 0.15), *np.repeat(rng.uniform(0.16, 0.25), levels - 1)])
    rack = [box(-a, a, 0, deep, h, h + 0.015) for h in z]
    rack += [box(s * a - 0.012, s * a + 0.012, y, y + 0.03, 0, z[-1] + 0.1) for s in (-1, 1) for y in (0, deep - 0.03)]
    at = [(x, h) for h in z for x in np.arange(-a + 0.13, a - 0.1, 0.25) if rng.random() < 0.6]
    return [Thing("otherfurniture", rack), *(Thing("otherprop", shoes(rng, x, deep / 2, h + 0.015)) for x, h in at)]


def loose_shoes(rng):
    return [Thing("otherprop", [turned(s, rng.normal(0, 0.3)) for s in shoes(rng, 0, 0, 0)])]


def rolled_rug(rng):
    radius, half = rng.uniform(0.06, 0.15), rng.uniform(0.5, 1.3)
    if rng.random() < 0.6:
        return [Thing("otherprop", [rod((-half, 0, radius), (half, 0, radius), radius)])]
    lean = rng.uniform(0.05, 0.15) * half
    return [Thing("otherprop", [rod((0, lean, radius * 0.3), (0, 0, min(2, 2 * half)), radius)])]


def vacuum_cleaner(rng):
    a, high = rng.uniform((0.13, 0.9), (0.19, 1.2))
    if rng.random() < 0.5:  # upright
        body = [
            box(-a, a, 0, 0.3, 0, 0.12),
            turned(cushion(-0.1, 0.1, 0.02, 0.2, 0.1, high * 0.7, 4), 0.12, "x", (0, 0.1, 0.1)),
        ]
        return [Thing("otherprop", [*body, rod((0, 0.05, high * 0.5), (0, -0.08, high), 0.02)])]
    bend = rng.uniform((0.1, -0.3, 0.7), (0.5, 0.3, 1.1))
    hose = tube([(0, 0.2, 0.2), (0.15, 0.35, 0.4), bend, (bend[0] + 0.1, bend[1] + 0.3, 0.05)], 0.022)
    return [Thing("otherprop", [cushion(-a, a, -0.22, 0.22, 0, rng.uniform(0.22, 0.32), 4), *hose])]


def piano(rng):
    a, deep, high, keys = rng.uniform((0.65, 0.3, 0.95, 0.6), (0.76, 0.4, 1.3, 0.7))
    front = deep + rng.uniform(0.2, 0.28)
    if rng.random() < 0.35:  # an electric one, on its stand
        stand = [box(s * a * 0.9 - 0.02, s * a * 0.9 + 0.02, 0.05, 0.3, 0, keys) for s in (-1, 1)]
        rest = turned(box(-0.3, 0.3, 0.03, 0.04, keys + 0.1, keys + 0.35), 0.2, "x", (0, 0.03, keys + 0.1))
        return [
            Thing(
                "otherfurniture",
                [box(-a, a, 0, 0.34, keys, keys + 0.12), *stand, rest, box(-a, a, 0.05, 0.08, 0.2, 0.3)],
            )
        ]
    body = [
        box(-a, a, 0, deep, 0, high),
        box(-a, a, deep, front, keys, keys + 0.07),
        box(-a, a, 0, deep + 0.02, high, high + 0.02),
    ]
    cheeks = [box(s * a - 0.04, s * a + 0.04, deep, front, keys - 0.05, keys + 0.13) for s in (-0.95, 0.95)]
    legs = [box(s * a - 0.03, s * a + 0.03, front - 0.08, front - 0.02, 0, keys) for s in (-0.95, 0.95)]
    return [Thing("otherfurniture", [*body, *cheeks, *legs])]


def exercise_machine(rng):
    if rng.random() < 0.5:  # a treadmill
        a, long, high = rng.uniform((0.32, 1.4, 1.1), (0.42, 1.9, 1.4))
        deck, motor = box(-a, a, 0.1, long, 0.08, 0.17), box(-a, a, 0, 0.35, 0.02, 0.27)
        rails = [p for s in (-a, a) for p in tube([(s, 0.2, 0), (s, 0.45, high), (s, 0.9, high - 0.25)], 0.03)]
        feet = [box(s * a - 0.04, s * a + 0.04, 0, long, 0, 0.1) for s in (-1, 1)]
        return [Thing("otherfurniture", [deck, motor, *rails, *feet, box(-a, a, 0.38, 0.5, high - 0.1, high + 0.15)])]
    long, seat, grip = rng.uniform((0.35, 0.75, 1.0), (0.5, 0.95, 1.25))
    frame = tube([(-long, 0, 0.05), (0, 0, 0.4), (long, 0, 0.05)], 0.03) + tube(
        [(0, 0, 0.35), (-long * 0.5, 0, seat)], 0.03
    )
    frame += tube([(long * 0.3, 0, 0.3), (long * 0.55, 0, grip)], 0.03)
    frame += [rod((x, -0.25, 0.04), (x, 0.25, 0.04), 0.03) for x in (-long, long)]
    frame += [rod((long * 0.55, -0.22, grip), (long * 0.55, 0.22, grip), 0.018)]
    wheel, x = rng.uniform(0.18, 0.26), long * 0.5
    flywheel = moved(turned(cylinder(0, 0, wheel, -0.05, 0.05), np.pi / 2, "x"), (x, 0, wheel + 0.1))
    saddle = cushion(-long * 0.5 - 0.14, -long * 0.5 + 0.14, -0.1, 0.1, seat, seat + 0.08)
    return [Thing("otherfurniture", [*frame, flywheel, saddle])]


def stand_with_device(rng):
    """A trolley or a low rack, with a printer or the like."""
    a, b, high = rng.uniform((0.2, 0.14, 0.35), (0.4, 0.26, 0.9))
    levels = np.linspace(rng.uniform(0.08, 0.2), high, rng.integers(2, 5))
    rack = [box(-a, a, -b, b, z - 0.02, z) for z in levels]
    thick, over = rng.uniform(0.01, 0.02), rng.choice([0, 0.1])
    rack += [rod((x, y, 0), (x, y, high + over), thick) for x in (-a, a) for y in (-b, b)]
    things = [
        Thing("otherfurniture", rack),
        *on_top(rng, -a, a, -b, b, high, rng.integers(1, 3), makers={device: 1, carton: 0.3}),
    ]
    for z, above in zip(levels[:-1], levels[1:], strict=True):
        things += on_top(rng, -a, a, -b, b, z, rng.integers(0, 3), above - z - 0.02)
    return things


def ironing_board(rng):
    a, b, high = rng.uniform((0.5, 0.15, 0.75), (0.7, 0.2, 0.95))
    board = slab(-a, a, -b, b, high - 0.04, high, 3)
    legs = [p for y in (-b * 0.7, b * 0.7) for p in tube([(-a * 0.6, y, 0), (a * 0.5, y, high)], 0.012)]
    legs += [p for y in (-b * 0.5, b * 0.5) for p in tube([(a * 0.6, y, 0), (-a * 0.5, y, high)], 0.012)]
    if rng.random() < 0.3:  # folded, it leans on the wall
        leaning = turned(slab(-b, b, -a, a, 0, 0.06, 3), np.pi / 2 + rng.uniform(0.05, 0.15), "x")
        return [Thing("otherfurniture", [moved(leaning, (0, 0, a))])]
    return [Thing("otherfurniture", [board, *legs])]


def bicycle(rng):
    size = rng.uniform(0.75, 1.08)
    back, front, crank, saddle, head = (
        (-0.5, 0, 0.34),
        (0.53, 0, 0.34),
        (-0.07, 0, 0.3),
        (-0.25, 0, 0.9),
        (0.38, 0, 0.85),
    )
    frame = tube([back, crank, head, (-0.2, 0, 0.75), back], 0.022) + tube([crank, saddle], 0.02)
    frame += tube([front, head, (0.36, 0, 1.02)], 0.02) + [rod((0.4, -0.28, 1.02), (0.4, 0.28, 1.02), 0.016)]
    frame += [ring(wheel, 0.32, 0.02) for wheel in (back, front)] + [cushion(-0.38, -0.12, -0.07, 0.07, 0.88, 0.95)]
    frame += [rod((-0.07, -0.15, 0.2), (-0.07, 0.15, 0.4), 0.015)]
    return [Thing("otherprop", [Surface(s.xyz * size, s.faces) for s in frame])]


def coat_stand(rng):
    height = rng.uniform(1.5, 1.95)
    angles = np.arange(4) * np.pi / 2
    feet = [rod((0, 0, 0.12), (0.28 * np.cos(t), 0.28 * np.sin(t), 0.02), 0.015) for t in angles]
    hooks = [rod((0, 0, height - 0.15), (0.16 * np.cos(t), 0.16 * np.sin(t), height), 0.012) for t in angles]
    things = [Thing("otherfurniture", [rod((0, 0, 0), (0, 0, height), 0.02), *feet, *hooks])]
    for t in rng.permutation(angles)[: rng.integers(0, 5)]:
        wide, low = rng.uniform(0.13, 0.22), height - rng.uniform(0.5, 1.1)
        profile = [(1, low), (0.9, low + 0.3), (0.8, height - 0.25), (0.2, height - 0.08)]
        coat = moulded(rng.uniform(0.06, 0.12), wide, profile, 3, x=0.15)
        things.append(Thing("clothes", [turned(coat, t)]))
    return things


def step_ladder(rng):
    a, high = rng.uniform((0.2, 0.6), (0.26, 1.9))
    reach, steps = high * rng.uniform(0.25, 0.35), int(high / 0.24)
    sides = [p for s in (-a, a) for p in tube([(s, reach, 0), (s, 0, high), (s, -reach, 0)], 0.02)]
    treads = [box(-a, a, reach * (1 - k / steps) - 0.05, reach * (1 - k / steps) + 0.05, h - 0.03, h)
              for k in range(1, steps + 1) for h in [high * k / steps]]  # fmt: skip
    return [Thing("otherfurniture", [*sides, *treads])]


def guitar(rng):
    size = rng.uniform(0.85, 1.1)
    halves = [cushion(-0.2, 0.2, -0.06, 0.06, 0.05, 0.38, 3), cushion(-0.15, 0.15, -0.06, 0.06, 0.3, 0.58, 3)]
    neck = [box(-0.03, 0.03, -0.02, 0.02, 0.5, 0.95), box(-0.045, 0.045, -0.015, 0.015, 0.93, 1.1)]
    prop = [rod((0, -0.05, 0.6), (0, -0.35, 0), 0.012), rod((-0.2, 0, 0.02), (0.2, 0, 0.08), 0.015)]
    return [Thing("otherprop", [turned(Surface(s.xyz * size, s.faces), 0.15, "x") for s in halves + neck] + prop)]


def appliance(rng):
    """A washing machine, a safe, a cooler, a paper shredder: a block with a door, a panel or a lid."""
    a, b, high = rng.uniform((0.16, 0.12, 0.35), (0.31, 0.29, 0.95))
    door = (
        turned(cylinder(0, 0, 0.6 * a, 0, 0.03), -np.pi / 2, "x")
        if rng.random() < 0.5
        else box(-0.8 * a, 0.8 * a, 0, 0.02, -0.3 * high, 0.3 * high)
    )
    lid = slab(-a, a, -b, b * rng.uniform(0.4, 1), high, high + rng.uniform(0.02, 0.1), 10)
    body = slab(-a, a, -b, b, 0, high, rng.uniform(10, 30))
    return [Thing("otherfurniture", [body, moved(door, (0, b, high * 0.48)), lid])]


FLOOR = {
    box_pile: 3, trash_can: 6, bag: 3, suitcase: 1, clothes_heap: 1.5, floor_lamp: 1.5, floor_plant: 2, heater: 1.5,
    laundry_basket: 1.5, fan: 1, drying_rack: 0.7, shoe_rack: 1, loose_shoes: 1, rolled_rug: 0.5, vacuum_cleaner: 0.7,
    piano: 0.4, exercise_machine: 0.6, stand_with_device: 1.5, ironing_board: 0.5, bicycle: 0.6, coat_stand: 0.6,
    step_ladder: 0.5, guitar: 0.4, appliance: 1.5,
}  # fmt: skip


def floor_piece(rng: np.random.Generator) -> Piece:
    """Something that stands about."""
    return settled(pick(rng, FLOOR)(rng))
