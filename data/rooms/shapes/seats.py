"""Seats: chairs, armchairs, stools, benches, sofas, ottomans, and what lies on them.

Each is put together from parts drawn apart from each other: stand, seat, back, arms, cushions. Sizes follow furniture
as made and medians of real scans (chair 0.67 x 0.57 m and 0.76 m high, sofa 1.6 x 0.83 and 0.74). The back edge of what
one sits on is at y = 0; framed() then moves the whole. Metres, radians.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data.rooms.shapes.clutter import on_top
from data.rooms.shapes.parts import pick, tube
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
    rod,
    turned,
)


def framed(things: list[Thing]) -> Piece:
    """A piece whose footprint is the extent of its things: from y = 0 on, x = 0 in the middle.

    Nothing is left below the floor; things of the first one's name become a part of it.
    """
    name = things[0].name
    things = [
        Thing(name, [s for t in things if t.name == name for s in t.surfaces]),
        *(t for t in things if t.name != name),
    ]
    above = (-np.inf, -np.inf, 0)
    things = [Thing(t.name, [s._replace(xyz=np.maximum(s.xyz, above)) for s in t.surfaces]) for t in things]
    low, high = bounds(things)
    width, depth = (high - low)[:2]
    return Piece(placed(things, (-(low[0] + high[0]) / 2, -low[1], 0)), float(width), float(depth))


def soft(surface: Surface, by: float, rng: np.random.Generator) -> Surface:
    """Upholstery and cloth are not even: displaced smoothly by about `by` m, along waves of 0.15 to 0.8 m."""
    waves = rng.normal(0, 1, (3, 4))
    waves *= 2 * np.pi / np.linalg.norm(waves, axis=0) / rng.uniform(0.15, 0.8, 4)
    shift = np.sin(surface.xyz @ waves + rng.uniform(0, 2 * np.pi, 4)) @ rng.normal(0, by / 2, (4, 3))
    return surface._replace(xyz=surface.xyz + shift)


def rounded(path: Sequence[Sequence[float]], times: int = 2) -> np.ndarray:
    """(n, k) -> (m, k): the corners of a path cut (Chaikin), its ends kept."""
    path = np.asarray(path, float)
    for _ in range(times):
        cut = np.stack((0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]), 1)
        path = np.concatenate((path[:1], cut.reshape(-1, path.shape[1]), path[-1:]))
    return path


def bent(path: Sequence[Sequence[float]], radius: float) -> list[Surface]:
    """A bent round bar along points (n, 3)."""
    return tube(rounded(path, 1), radius)


def shell(path: Sequence[Sequence[float]], thick: float, wrap: float = 0.0) -> Surface:
    """A bent board or pad along rows (y, z, half its width), from front to back or bottom to top.

    Its sides come towards the sitter by `wrap` m.
    """
    path = rounded(path)
    y, z, half = path.T
    along = np.gradient(path[:, :2], axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9

    def shape(u, v):
        i = np.rint(v * (len(path) - 1)).astype(int)
        across, out = np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)
        size = (across**6 + out**6) ** (-1 / 6)
        rise = out * size * thick / 2 + wrap * (across * size) ** 2
        return np.stack((across * size * half[i], y[i] + along[i, 1] * rise, z[i] - along[i, 0] * rise), 1)

    return grid(shape, 24, len(path) - 1)


def cloth(path: Sequence[Sequence[float]], x0: float, x1: float, rng: np.random.Generator, by: float = 0.02) -> Surface:
    """A wrinkled cloth that lies along a path of (y, z)."""
    y, z = rounded(path).T
    skew = rng.normal(0, 0.04)

    def shape(u, v):
        at = v * (len(y) - 1)
        x = x0 + (x1 - x0) * u + skew * (v - 0.5)
        return np.stack((x, np.interp(at, np.arange(len(y)), y), np.interp(at, np.arange(len(z)), z)), 1)

    return soft(grid(shape, 14, 24), by, rng)


def pillow(rng: np.random.Generator, width: float, depth: float, thick: float) -> Surface:
    """Around the origin, flat in x and y: thick in the middle, thin at its edges, its corners a little out."""
    pinch, power = rng.uniform(0, 0.12), rng.uniform(0.4, 0.7)

    def shape(u, v):
        x, y = np.cos(2 * np.pi * u), np.sin(np.pi * (v - 0.5))
        z = np.sign(np.sin(2 * np.pi * u)) * (np.abs((1 - x * x) * (1 - y * y)) + 1e-9) ** power
        x, y = x * (1 - pinch * (1 - y * y)), y * (1 - pinch * (1 - x * x))
        return np.stack((x * width / 2, y * depth / 2, z * thick / 2), 1)

    return soft(grid(shape, 24, 12), rng.uniform(0, 0.02), rng)


def legs(
    rng: np.random.Generator, xs: Sequence[float], ys: Sequence[float], z: float, splay: float = 0.0
) -> list[Surface]:
    """Feet at every x and y, square or round, the outer ones leaning out by `splay` m."""
    size, square = rng.uniform(0.014, 0.034), rng.random() < 0.5 and not splay
    x_mid, y_mid = np.mean(xs), np.mean(ys)
    if square:
        return [box(x - size, x + size, y - size, y + size, 0, z) for x in xs for y in ys]
    tops = [(x, y, z) for x in xs for y in ys]
    return [rod(p, (p[0] + splay * np.sign(p[0] - x_mid), p[1] + splay * np.sign(p[1] - y_mid), 0), size) for p in tops]


def star(rng: np.random.Generator, y: float, z: float) -> list[Surface]:
    """A column on four or five arms, with castors or glides."""
    reach, count, angle = rng.uniform(0.25, 0.36), rng.choice([4, 5, 5, 5]), rng.uniform(0, 2 * np.pi)
    castor, thick, rise = rng.uniform(0.015, 0.033), rng.uniform(0.014, 0.025), rng.uniform(0.0, 0.07)
    foot = 2 * castor + thick
    parts = [cylinder(0, y, rng.uniform(0.02, 0.035), foot, z)]
    for k in range(count):
        cos, sin = np.cos(angle + 2 * np.pi * k / count), np.sin(angle + 2 * np.pi * k / count)
        tip = (reach * cos, y + reach * sin)
        parts += [rod((0, y, foot + rise), (*tip, foot), thick), ellipsoid(*tip, castor, castor, castor, castor)]
    return parts


def pedestal(rng: np.random.Generator, y: float, z: float, radius: float) -> list[Surface]:
    """A column on a round plate or a trumpet's foot."""
    thin, plate = rng.uniform(0.02, 0.04), rng.uniform(0.01, 0.03)
    foot = thin * rng.uniform(1, 3)
    return [lathe(0, y, [(0, plate), (radius, 0), (radius, plate), (foot, plate + 0.03), (thin, z * 0.5), (thin, z)])]


def chair_stand(rng, kind, w, d, seat, top, lean) -> list[Surface]:
    """What carries a seat of half width w, depth d and height `seat`, with a back up to y = -lean at z = top."""
    r, x = rng.uniform(0.01, 0.016), w - 0.02
    if kind == "star":
        return [*star(rng, d / 2, seat - 0.03), box(-0.1, 0.1, d / 2 - 0.12, d / 2 + 0.1, seat - 0.08, seat - 0.03)]
    if kind == "pedestal":
        return pedestal(rng, d / 2, seat, rng.uniform(0.2, 0.3))
    if kind == "legs":
        parts = legs(rng, (-x, x), (0.02, d - 0.03), seat, rng.choice([0, rng.uniform(0.01, 0.09)]))
        if rng.random() < 0.4:  # stretchers
            z = rng.uniform(0.1, 0.3)
            parts += [rod((s * x, 0.02, z), (s * x, d - 0.03, z), r) for s in (-1, 1)]
            y = rng.choice([d / 2, d - 0.03])
            parts.append(rod((-x, y, z), (x, y, z), r))
        if rng.random() < 0.5:  # an apron
            parts.append(box(-x, x, 0.02, d - 0.03, seat - rng.uniform(0.04, 0.09), seat - 0.01))
        return parts
    if kind == "sled":
        path = [(d * 0.9, seat), (d, r), (rng.uniform(-0.06, 0.05), r), (0.03, seat)]
    elif kind == "cantilever":
        path = [(rng.uniform(-0.06, 0.06), r), (d, r), (d + 0.02, seat - 0.02), (0, seat - 0.02), (-lean, top)]
    else:  # folding: crossed legs, the ones that stand in front go on as the back
        path = [(d + 0.05, 0), (-lean, top)]
    parts = [part for s in (-1, 1) for part in bent([(s * x, *p) for p in path], r)]
    if kind == "folding":
        parts += [rod((s * (x - 0.02), -0.1, 0), (s * (x - 0.02), d - 0.05, seat), r) for s in (-1, 1)]
        parts += [rod((-x, y, 0.1), (x, y, 0.1), r) for y in (d, -0.03)]
    elif kind == "sled" or rng.random() < 0.7:
        y = d * 0.7 if kind == "sled" else path[0][0]
        parts.append(rod((-x, y, r), (x, y, r), r))
    return parts


def chair_back(rng, kind, w, seat, top, lean, thick) -> list[Surface]:
    """A back between posts or of one board, from the seat to y = -lean at z = top."""

    def at(z):  # y of the back's middle
        return -lean * (z - seat) / (top - seat)

    low, bend = seat + rng.uniform(0.0, 0.45) * (top - seat), rng.uniform(0, 0.07)
    narrow = rng.uniform(0.7, 1.05)  # its top against its foot
    if kind == "panel":
        middle, wide = (low + top) / 2, w * rng.uniform(0.8, 1)
        curve = rng.normal(0, 0.02)
        ends = rng.uniform(0.75, 1)
        rows = [(at(low), low, wide * ends), (at(low), low + 0.04, wide), (at(middle) + curve, middle, wide)]
        rows += [(at(top), top - 0.05, wide * narrow), (at(top), top, wide * narrow * ends)]
        spine = [rod((0, 0, seat - 0.05), (0, at(middle) - 0.02, middle), 0.02)] if low > seat + 0.02 else []
        return [shell(rows, thick, bend), *spine]
    r = rng.uniform(0.011, 0.02)
    posts = [rod((s * (w - r), 0, seat - 0.02), (s * (w - r), at(top), top), r) for s in (-1, 1)]

    def rail(z, height):
        return shell([(at(z), z - height / 2, w - r), (at(z), z + height / 2, w - r)], thick, -bend)

    parts = [*posts, rail(top - 0.03, rng.uniform(0.04, 0.12))]
    if kind == "rails":
        count = rng.integers(1, 5)
        height = min(rng.uniform(0.03, 0.09), 0.7 * (top - low) / (count + 1))
        return parts + [rail(low + (top - low) * (k + 0.5) / (count + 1), height) for k in range(count)]
    count, size = rng.integers(2, 8), rng.uniform(0.008, 0.03)
    if kind == "splat":
        count, size = 1, rng.uniform(0.04, 0.1)
    foot = rng.choice([seat, low])
    for x in np.linspace(-w, w, count + 2)[1:-1]:
        row = [(at(foot), foot, size), (at(top) - bend / 2, top - 0.05, size)]
        parts.append(moved(shell(row, 0.014), (x, 0, 0)))
    return [*parts, rail(foot, 0.04)] if foot > seat else parts


def chair_arms(rng, w, d, seat, top, lean, panels=0.0) -> list[Surface]:
    kind, z = pick(rng, {"pads": 0.45, "loops": 0.35, "panels": panels}), seat + rng.uniform(0.16, 0.27)
    x, length = w + rng.uniform(0.0, 0.06), rng.uniform(0.5, 0.9) * d
    half, r = rng.uniform(0.02, 0.05), rng.uniform(0.01, 0.02)
    parts = []
    for s in (-1, 1):
        if kind == "pads":
            parts.append(cushion(s * x - half, s * x + half, d * 0.8 - length, d * 0.8, z - 0.03, z, 10))
            y = d * 0.8 - length / 2
            under = seat - 0.03
            parts += bent([(s * w * 0.5, d / 2, under), (s * x, d / 2, under), (s * x, y, z - 0.02)], 1.4 * r)
        elif kind == "loops":
            parts += bent([(s * x, d * 0.9, seat - 0.05), (s * x, d * 0.9, z), (s * x, -0.5 * lean, z + 0.01)], r)
            parts.append(cushion(s * x - half, s * x + half, 0.0, length, z, z + 0.025, 10))
        else:
            parts.append(box(s * x - r, s * x + r, 0, d * 0.9, seat - rng.uniform(0.1, 0.3), z))
    return parts


def on_chair(rng, w, d, seat, top, lean) -> list[Thing]:
    """Sometimes: clothes over the back, a bag on it or on the seat, a pillow."""
    things = []
    if rng.random() < 0.12:
        drop, half = rng.uniform(0.15, 0.6) * (top - 0.1), w * rng.uniform(0.6, 1.15)
        path = [(0.08 - 0.3 * lean, max(seat + 0.05, top - drop)), (0.05 - lean, top + 0.03)]
        path += [(-lean - 0.04, top + 0.03), (-lean - 0.07, top - drop)]
        things.append(Thing(pick(rng, {"clothes": 0.5, "chair": 0.5}), [cloth(path, -half, half, rng)]))
    if rng.random() < 0.06:
        x, size = rng.uniform(-0.08, 0.08), rng.uniform(0.12, 0.18)
        if rng.random() < 0.5:
            y0, y1, z = -lean - 0.18, -lean - 0.02, rng.uniform(0.25, 0.5)
        else:
            y0, y1, z = d * 0.4, d * 0.8, seat
        things.append(Thing("bag", [soft(cushion(x - size, x + size, y0, y1, z, z + 2 * size, 5), 0.02, rng)]))
    elif rng.random() < 0.1:
        thick = rng.uniform(0.06, 0.14)
        leaning = turned(pillow(rng, 0.8 * w + 0.1, 0.8 * w + 0.1, thick), rng.choice([0, rng.uniform(1, 1.3)]), "x")
        low = leaning.xyz[:, 2].min()
        name = pick(rng, {"pillow": 0.6, "chair": 0.4})
        things.append(Thing(name, [moved(leaning, (0, d * rng.uniform(0.3, 0.5), seat - low))]))
    return things


def chair(rng: np.random.Generator) -> Piece:
    """For a table or a desk; now and then an easy chair or a stack of chairs."""
    if rng.random() < 0.1:
        return armchair(rng)
    office = rng.random() < 0.42
    stands = {"star": 0.84, "cantilever": 0.08, "sled": 0.08}
    if not office:
        stands = {"legs": 0.6, "sled": 0.1, "cantilever": 0.1, "folding": 0.08, "pedestal": 0.04, "star": 0.08}
    stand = pick(rng, stands)
    w, d = rng.uniform(0.2, 0.28), rng.uniform(0.4, 0.5)
    seat, lean = rng.uniform(0.42, 0.48), rng.uniform(0.02, 0.11)
    top = seat + rng.uniform(0.26, 0.5)
    if stand == "star":
        seat, top = (z + rng.uniform(0, 0.1) for z in (seat, top))
    thick = rng.uniform(0.03, 0.1) if office or rng.random() < 0.3 else rng.uniform(0.01, 0.025)
    parts = chair_stand(rng, stand, w, d, seat, top, lean)
    if rng.random() < (0.25 if stand != "folding" else 0):  # seat and back in one, on a cross
        x, z = w - 0.02, seat - 0.06
        parts += [rod((s * x, y, z + 0.04), (0, d / 2, z), 0.012) for s in (-1, 1) for y in (0.02, d - 0.03)]
        hip, end = rng.uniform(0.85, 1.1) * w, rng.uniform(0.6, 1.05) * w
        rows = [(d + 0.02, seat - 0.05, 0.9 * w), (d - 0.04, seat, w), (0.0, seat - 0.03, hip)]
        rows += [(-0.6 * lean, (seat + top) / 2, w), (-lean, top - 0.05, end), (-lean, top, 0.8 * end)]
        parts.append(shell(rows, thick, rng.uniform(0, 0.11)))
    else:
        pad = max(thick, rng.uniform(0.02, 0.05))
        if rng.random() < 0.6:
            padded = cushion(-w, w, 0, d, seat - pad, seat + 0.3 * pad, rng.uniform(6, 14))
            parts.append(soft(padded, 0.2 * pad, rng))
        else:
            front = rng.uniform(0.9, 1.1) * w
            rows = [(d, seat - pad / 2 - 0.01, front), (d - 0.05, seat - pad / 2, front), (0, seat - pad / 2, w)]
            parts.append(shell(rows, pad, rng.uniform(0, 0.02)))
        backs = {"panel": 1.0} if office else {"panel": 0.4, "rails": 0.25, "slats": 0.25, "splat": 0.1}
        parts += chair_back(rng, pick(rng, backs), w, seat, top, lean, thick)
    if rng.random() < (0.75 if office else 0.25):
        parts += chair_arms(rng, w, d, seat, top, lean, 0.2 if stand == "legs" else 0)
    if office and rng.random() < 0.12:  # a head rest
        parts.append(cushion(-0.14, 0.14, -lean - 0.06, -lean + 0.02, top + 0.03, top + 0.17, 5))
        parts.append(rod((0, -lean, top - 0.05), (0, -lean - 0.02, top + 0.08), 0.015))
    if not office and stand != "pedestal" and rng.random() < 0.03:
        stack = [moved(part, (0, 0.03 * k, 0.09 * k)) for k in range(1, rng.integers(2, 6)) for part in parts]
        return framed([Thing("chair", parts + stack)])
    return framed([Thing("chair", parts), *on_chair(rng, w, d, seat, top, lean)])


class Style(NamedTuple):
    """What all rows of a sofa share."""

    feet: float  # height
    seat: float  # height of its top
    top: float  # of the frame of the back
    back: float  # thickness of the frame of the back
    lean: float  # radians
    depth: float  # all of it
    arm: float  # thickness; 0: none
    arm_top: float
    arm_kind: str
    pad: float  # thickness of the cushions
    loose: bool  # cushions that lie on it, against one padded block
    power: float  # how square what is padded is


def sofa_style(rng: np.random.Generator, armless: float) -> Style:
    seat, pad = rng.uniform(0.38, 0.47), rng.uniform(0.09, 0.2)
    kind = pick(rng, {"block": 0.5, "rolled": 0.2, "board": 0.15, "frame": 0.15})
    arm = {"block": rng.uniform(0.1, 0.28), "rolled": rng.uniform(0.14, 0.24)}.get(kind, rng.uniform(0.03, 0.07))
    top = seat + rng.uniform(0.2, 0.4)
    return Style(
        feet=rng.choice([0.01, rng.uniform(0.03, 0.12)], p=[0.88, 0.12]),
        seat=seat,
        top=top,
        back=rng.uniform(0.08, 0.25),
        lean=rng.uniform(0, 0.22),
        depth=rng.uniform(0.68, 0.95),
        arm=0 if rng.random() < armless else arm,
        arm_top=min(seat + rng.uniform(0.08, 0.26), top),
        arm_kind=kind,
        pad=pad,
        loose=rng.random() < 0.7,
        power=rng.uniform(5, 14),
    )


def sofa_row(rng, style: Style, x0, x1, seats: int, arms=(True, True), depth=0.0) -> list[Surface]:
    """Seats side by side from x0 to x1, arms included; its back at y = 0. depth: of a chaise, if not the style's."""
    depth, lumps = depth or style.depth, rng.uniform(0.003, 0.011)
    bottom = style.seat - style.pad
    parts = [soft(cushion(x0, x1, 0.02, depth - 0.02, style.feet, bottom + 0.03, 20), lumps / 3, rng)]
    if style.feet > 0.02:
        inset = rng.uniform(0.03, 0.12)
        parts += legs(rng, (x0 + inset, x1 - inset), (inset, depth - inset), style.feet + 0.01)
    left, right = x0 + style.arm * arms[0], x1 - style.arm * arms[1]
    front = style.back + 0.02
    edges = np.linspace(left, right, seats + 1)
    out = rng.uniform(-0.02, 0.06)  # of the seat before the base
    for a, b in pairwise(edges):
        seat = cushion(a + 0.004, b - 0.004, front, depth + out, bottom, style.seat + 0.02, style.power)
        parts.append(soft(seat, lumps, rng))
        if style.loose:
            thick, high = style.pad * rng.uniform(0.9, 1.3), style.top - style.seat + rng.uniform(-0.08, 0.1)
            a, b = a + rng.uniform(0, 0.02), b - rng.uniform(0, 0.02)
            rest = cushion(a, b, front, front + thick, style.seat - 0.02, style.seat + high, rng.uniform(3.5, 7))
            tilt, yaw = style.lean + rng.uniform(-0.02, 0.12), rng.normal(0, 0.03)
            rest = turned(rest, tilt, "x", (0, front + thick / 2, style.seat))
            parts.append(soft(turned(rest, yaw, "z", ((a + b) / 2, front, 0)), 1.5 * lumps, rng))
    parts.append(soft(sofa_back(style, left - 0.01, right + 0.01), lumps, rng))
    for s, x in zip((1, -1), (x0, x1), strict=True):
        if style.arm and arms[0 if s > 0 else 1]:
            parts += sofa_arm(rng, style, x, x + s * style.arm, lumps)
    return parts


def sofa_back(style: Style, x0, x1) -> Surface:
    back = cushion(x0, x1, 0, style.back, style.feet, style.top, style.power)
    return turned(back, style.lean, "x", (0, style.back, style.seat))


def sofa_arm(rng, style: Style, x, inner, lumps) -> list[Surface]:
    a, b = sorted((x, inner))
    z, y = style.arm_top, style.depth
    if style.arm_kind == "frame":
        r, middle = style.arm / 3, (a + b) / 2
        bar = bent([(middle, y - r, 0), (middle, y - r, z), (middle, 0.1, z + 0.01), (middle, 0.08, 0)], r)
        return [*bar, box(a, b, 0.08, y - r, z, z + 0.025)]
    if style.arm_kind == "board":
        return [box(a, b, 0.02, y - 0.01, style.feet, z)]
    arm = soft(cushion(a, b, 0, y, style.feet, z, style.power + 2), lumps, rng)
    if style.arm_kind == "rolled":
        r, middle = 0.55 * (b - a), (a + b) / 2
        z -= r / 2
        return [arm, rod((middle, 0.03, z), (middle, y, z), r), ellipsoid(middle, y, z, r, 0.01, r)]
    return [turned(arm, rng.normal(0, 0.03), "x", (0, 0, z))]


def on_sofa(rng, style: Style, x0, x1, name: str) -> list[Thing]:
    """Pillows that lean against the back or lie about, and now and then a throw or things."""
    things, front = [], style.back + (style.pad if style.loose else 0)
    count = rng.choice([0, rng.integers(1, 4), rng.integers(3, 7)], p=[0.45, 0.4, 0.15])
    for _ in range(min(count, int(2.5 * (x1 - x0)))):
        size, thick = rng.uniform(0.3, 0.5), rng.uniform(0.08, 0.2)
        it = pillow(rng, size * rng.uniform(1, 1.4), size, thick)
        if rng.random() < 0.75:
            it = turned(it, rng.uniform(0.9, 1.4), "x")
        it = turned(it, rng.normal(0, 0.3))
        low = it.xyz.min(0)
        margin = min(0.3, 0.49 * (x1 - x0))
        x, y = rng.uniform(x0 + margin, x1 - margin), front - low[1] - rng.uniform(0, 0.05)
        at = (x, y, style.seat - low[2] - 0.01)
        things.append(Thing(pick(rng, {"pillow": 0.8, name: 0.2}), [moved(it, at)]))
    if rng.random() < 0.18:
        half = min(rng.uniform(0.2, 0.45), 0.45 * (x1 - x0))
        x = rng.uniform(x0 + half, x1 - half)
        path = [(style.depth + 0.07, style.seat - rng.uniform(0.05, 0.3)), (style.depth + 0.06, style.seat + 0.05)]
        path += [(front + 0.06, style.seat + 0.06), (front, style.top + 0.05), (-0.03, style.top + 0.05)]
        path += [(-0.04, style.top - rng.uniform(0.05, 0.4))]
        some = path[: rng.integers(3, 7)] if rng.random() < 0.5 else path[-rng.integers(3, 7) :]
        name = pick(rng, {name: 0.5, "otherprop": 0.35, "clothes": 0.15})
        things.append(Thing(name, [cloth(some, x - half, x + half, rng, 0.03)]))
    if rng.random() < 0.1:
        x, size, y = rng.uniform(x0 + 0.2, x1 - 0.19), rng.uniform(0.12, 0.25), (front + style.depth) / 2
        heap = cushion(x - size, x + size, y - 0.15, y + 0.15, style.seat, style.seat + size, 3)
        things.append(Thing(pick(rng, {"clothes": 0.5, "bag": 0.5}), [soft(heap, 0.04, rng)]))
    return things


def sofa(rng: np.random.Generator) -> Piece:
    """One row of seats, with a chaise, or around one corner or two."""
    style = sofa_style(rng, armless=0.12)
    form = pick(rng, {"row": 0.7, "chaise": 0.1, "corner": 0.16, "horseshoe": 0.04})
    seats = int(rng.choice([2, 3, 4], p=[0.66, 0.3, 0.04])) - (form in ("corner", "horseshoe"))
    length = seats * rng.uniform(0.5, 0.7) + 2 * style.arm
    cushions = seats if rng.random() < 0.8 else int(rng.integers(1, 4))
    if form == "row":
        parts = sofa_row(rng, style, 0, length, cushions)
    elif form == "chaise":
        wide = rng.uniform(0.65, 0.9)
        parts = sofa_row(rng, style, 0, length, cushions, (True, False))
        parts += sofa_row(rng, style, length, length + wide, 1, (False, rng.random() < 0.4), rng.uniform(1.3, 1.75))
        length += wide
    else:
        inner, side = length, int(rng.integers(1, 3))
        parts = sofa_row(rng, style, 0, length, cushions, (form == "corner", False))
        for right in (True, False)[: 1 if form == "corner" else 2]:
            reach = side * rng.uniform(0.55, 0.75)
            arm = rng.random() < 0.6
            row = sofa_row(rng, style, 0, reach + style.depth, side + 1, (False, arm))
            row = [moved(turned(part, np.pi / 2), (inner + style.depth, 0, 0)) for part in row]
            row.append(sofa_back(style, inner - 0.02, inner + style.depth))
            parts += row if right else [p._replace(xyz=p.xyz * (-1, 1, 1) + (inner, 0, 0)) for p in row]
    if rng.random() < 0.5:
        parts = [part._replace(xyz=part.xyz * (-1, 1, 1) + (length, 0, 0)) for part in parts]
    return framed([Thing("sofa", parts), *on_sofa(rng, style, style.arm, length - style.arm, "sofa")])


def tub(rng: np.random.Generator) -> list[Surface]:
    """A round chair: a back that comes around as arms."""
    seat, top, r = rng.uniform(0.38, 0.46), rng.uniform(0.66, 0.85), rng.uniform(0.31, 0.4)
    thick, front, reach = rng.uniform(0.05, 0.14), rng.uniform(0.0, 0.25), rng.uniform(1.5, 2.2)
    fall, foot, flare = rng.uniform(0, 0.2), rng.uniform(0.03, 0.2), rng.uniform(0, 0.1)
    square = rng.uniform(2, 5)

    def shape(u, v):
        angle = reach * (2 * u - 1)  # 0 at the back
        cos, sin = np.cos(angle), np.sin(angle)
        size = (np.abs(cos) ** square + np.abs(sin) ** square) ** (-1 / square)
        high = top - fall * np.abs(2 * u - 1) ** 2
        wall = thick * np.minimum(1, 12 * np.minimum(u, 1 - u))  # closed at the front
        out = np.where(v < 0.5, flare * np.minimum(1, v / 0.45), flare * np.minimum(1, (1 - v) / 0.45) - wall)
        z = np.interp(v, [0, 0.45, 0.5, 0.55, 1], [0, 0.97, 1, 0.97, 0])
        return np.stack(((r + out) * size * sin, r - (r + out) * size * cos, foot + (high - foot) * z), 1)

    parts = [soft(grid(shape, 32, 20), 0.004, rng)]
    x = r - thick * 0.9
    block = cushion(-x, x, thick, 2 * r + front - 0.1, foot + 0.02, seat + 0.02, rng.uniform(3, 8))
    parts.append(soft(block, 0.01, rng))
    return parts + armchair_stand(rng, r * 0.58, r, foot + 0.06)


def armchair_stand(rng, half, y, z) -> list[Surface]:
    """Legs, or what it turns on, below z."""
    kind = pick(rng, {"legs": 0.6, "plate": 0.2, "star": 0.2 if z > 0.13 else 0})
    if kind == "star":
        return star(rng, y, z)
    if kind == "plate":
        return [cylinder(0, y, half, 0, 0.02), cylinder(0, y, 0.04, 0, z)]
    return legs(rng, (-half, half), (y - half, y + half), z, rng.uniform(0, 0.05))


def lounge(rng: np.random.Generator) -> list[Surface]:
    """A long pad, laid back, in a frame of wood or tubes; some of them rock, some lie on a stand that turns."""
    w, d, front = rng.uniform(0.26, 0.34), rng.uniform(0.48, 0.58), rng.uniform(0.36, 0.44)
    sink, lean, top = rng.uniform(0.02, 0.1), rng.uniform(0.2, 0.45), rng.uniform(0.75, 1.08)
    pad = rng.uniform(0.04, 0.14)
    rows = [(d + 0.02, front - 0.06, w), (d, front, w), (0.02, front - sink, w), (-0.6 * lean, (front + top) / 2, w)]
    rows += [(-lean, top - 0.06, w * rng.uniform(0.8, 1)), (-lean, top, w * 0.8)]
    parts = [soft(shell(rows, pad, rng.uniform(0, 0.06)), 0.008, rng)]
    kind = pick(rng, {"frame": 0.6, "rocker": 0.12, "star": 0.28})
    if kind == "star":
        parts += star(rng, d / 2 - 0.05, front - sink)
        return parts + (chair_arms(rng, w, d, front, top, lean) if rng.random() < 0.6 else [])
    r, x, z = rng.uniform(0.014, 0.028), w + 0.03, front + rng.uniform(0.12, 0.2)
    for s in (-1, 1):
        foot = 0.07 if kind == "rocker" else 0.0
        parts += [rod((s * x, d, foot), (s * x, d, z), r), rod((s * x, -lean * 0.5, foot), (s * x, -lean * 0.3, z), r)]
        parts.append(box(s * x - 1.8 * r, s * x + 1.8 * r, -lean * 0.5, d + 0.03, z - 0.01, z + 0.02))
        parts.append(rod((s * x, d, front - 0.1), (s * x, -lean * 0.4, front - sink - 0.08), r))
        if kind == "rocker":
            parts += bent([(s * x, y, 0.02 + 0.5 * (y - d / 3) ** 2) for y in np.linspace(-0.4, d + 0.1, 5)], 0.018)
    return parts + [rod((-x, y, front - sink - 0.1), (x, y, front - sink - 0.1), r) for y in (0.0, d)]


def armchair(rng: np.random.Generator) -> Piece:
    """For one: a sofa's shapes, a tub, a lounge chair, a wing chair, a recliner with its foot rest out."""
    kind = pick(rng, {"sofa": 0.42, "wing": 0.08, "recliner": 0.1, "tub": 0.2, "lounge": 0.2})
    name = pick(rng, {"chair": 0.6, "sofa": 0.4} if kind in ("sofa", "recliner") else {"chair": 0.92, "sofa": 0.08})
    if kind in ("tub", "lounge"):
        return framed([Thing(name, tub(rng) if kind == "tub" else lounge(rng))])
    style = sofa_style(rng, armless=0.1)._replace(depth=rng.uniform(0.64, 0.88))
    if kind != "sofa":
        high = rng.uniform(0.52, 0.66)
        style = style._replace(top=style.seat + high, arm=max(style.arm, 0.08), lean=rng.uniform(0.08, 0.3))
    width = rng.uniform(0.48, 0.64) + 2 * style.arm
    parts = sofa_row(rng, style, 0, width, 1)
    if kind == "wing":
        for x in (style.arm / 2, width - style.arm / 2):
            wing = cushion(x - 0.05, x + 0.05, 0, rng.uniform(0.22, 0.35), style.arm_top - 0.1, style.top - 0.02, 5)
            parts.append(turned(wing, style.lean, "x", (0, style.back, style.seat)))
    if kind == "recliner" and rng.random() < 0.5:
        rest = cushion(style.arm, width - style.arm, style.depth, style.depth + 0.45, style.seat - 0.14, style.seat, 7)
        parts.append(turned(soft(rest, 0.01, rng), rng.uniform(-0.6, 0.1), "x", (0, style.depth, style.seat)))
    return framed([Thing(name, parts), *on_sofa(rng, style, style.arm, width - style.arm, name)])


def stool(rng: np.random.Generator) -> Piece:
    """Low, for a counter or for a bar; some have a low back."""
    seat = rng.uniform(*((0.38, 0.52), (0.58, 0.7), (0.7, 0.82))[rng.integers(3)])
    w, pad = rng.uniform(0.14, 0.22), rng.uniform(0.02, 0.12)
    d, kind = 2 * w * rng.uniform(0.8, 1.05), pick(rng, {"round": 0.5, "square": 0.3, "saddle": 0.2})
    if kind == "round":
        d = 2 * w
        side = [(0.9 * w, seat - pad), (w, seat - 0.7 * pad), (w, seat - 0.01), (0.85 * w, seat)]
        parts = [lathe(0, w, [(0, seat - pad), *side, (0, seat)])]
    elif kind == "square":
        parts = [soft(cushion(-w, w, 0, d, seat - pad, seat, rng.uniform(8, 16)), 0.003, rng)]
    else:
        rows = [(d, seat - pad, w), (d - 0.03, seat - pad / 2, w), (0, seat - pad / 2, w)]
        parts = [shell(rows, pad, rng.uniform(0.01, 0.04))]
    stand, splay = pick(rng, {"legs": 0.62, "pedestal": 0.2, "star": 0.18}), rng.uniform(0, 0.08)
    ring = rng.uniform(0.15, 0.4) * seat
    if stand == "legs":
        inset = 0.3 * w if kind == "round" else 0.03
        parts += legs(rng, (-w + inset, w - inset), (inset, d - inset), seat - pad / 2, splay)
        x, y0, y1 = w - inset + splay * 0.7, inset - splay * 0.7, d - inset + splay * 0.7
        corners = [(-x, y0), (x, y0), (x, y1), (-x, y1)]
        parts += [rod((*corners[k - 1], ring), (*corners[k], ring), 0.011) for k in range(4)]
    else:
        parts += star(rng, d / 2, seat) if stand == "star" else pedestal(rng, d / 2, seat, rng.uniform(0.16, 0.24))
        if seat > 0.55:
            parts.append(lathe(0, d / 2, [(0.15, ring), (0.17, ring), (0.17, ring + 0.02), (0.15, ring + 0.02)]))
    if rng.random() < 0.3:
        top = seat + rng.uniform(0.12, 0.35)
        back = "rails" if kind != "round" and rng.random() < 0.6 else "panel"
        parts += chair_back(rng, back, w, seat, top, 0.04, rng.uniform(0.012, 0.04))
    return framed([Thing("chair", parts)])


def bench(rng: np.random.Generator) -> Piece:
    """A plank, slats or a pad on legs or ends, with or without a back, a shelf, things on it."""
    half, d, seat = rng.uniform(0.4, 0.95), rng.uniform(0.3, 0.5), rng.uniform(0.38, 0.5)
    thick, kind = rng.uniform(0.02, 0.06), pick(rng, {"plank": 0.35, "slats": 0.2, "pad": 0.45})
    if kind == "slats":
        count = rng.integers(3, 7)
        step = d / count
        parts = [box(-half, half, k * step, (k + 0.75) * step, seat - thick, seat) for k in range(count)]
    else:
        parts = [box(-half, half, 0, d, seat - thick, seat)]
    if kind == "pad":
        parts.append(soft(cushion(-half, half, 0, d, seat - 0.02, seat + rng.uniform(0.03, 0.12), 10), 0.01, rng))
    stand, x = pick(rng, {"legs": 0.5, "ends": 0.25, "chest": 0.25}), half * rng.uniform(0.75, 0.97)
    if stand == "legs":
        parts += legs(rng, (-x, x), (0.04, d - 0.04), seat - thick, rng.choice([0, rng.uniform(0, 0.04)]))
        if rng.random() < 0.4:
            z = rng.uniform(0.1, 0.2)
            parts.append(box(-x, x, 0.04, d - 0.04, z, z + 0.02))
    elif stand == "ends":
        parts += [box(s * x - 0.02, s * x + 0.02, 0.01, d - 0.01, 0, seat - thick) for s in (-1, 1)]
    else:
        parts.append(box(-half + 0.02, half - 0.02, 0.02, d - 0.02, 0, seat - thick))
    if rng.random() < 0.25:
        kind, top = pick(rng, {"panel": 0.3, "rails": 0.35, "slats": 0.35}), seat + rng.uniform(0.25, 0.5)
        parts += chair_back(rng, kind, half, seat, top, rng.uniform(0, 0.1), rng.uniform(0.015, 0.05))
    things = [Thing(pick(rng, {"otherfurniture": 0.75, "chair": 0.25}), parts)]
    if rng.random() < 0.4:
        things += on_top(rng, -half + 0.05, half - 0.05, 0.06, d - 0.02, seat + 0.01, int(rng.integers(1, 4)))
    return framed(things)


def ottoman(rng: np.random.Generator) -> Piece:
    """A padded block, a drum or a bag of beans; some on legs, some with a tray's things."""
    a, b, top = rng.uniform(0.22, 0.48), rng.uniform(0.2, 0.36), rng.uniform(0.3, 0.48)
    kind, low = pick(rng, {"block": 0.6, "drum": 0.25, "beans": 0.15}), rng.choice([0.02, rng.uniform(0.04, 0.18)])
    if kind == "block":
        parts = [soft(cushion(-a, a, 0, 2 * b, low, top, rng.uniform(6, 16)), 0.008, rng)]
        parts += legs(rng, (-a + 0.09, a - 0.09), (0.09, 2 * b - 0.09), low + 0.07)
    elif kind == "drum":
        side = [(0.85, 0.01), (1, 0.2 * top), (rng.uniform(1, 1.12), top / 2), (1, 0.9 * top), (0.8, top)]
        parts = [soft(lathe(0, a, [(0, 0.01), *((a * r, z) for r, z in side), (0, top)]), 0.006, rng)]
    else:
        a, top = a + 0.15, top + rng.uniform(0.1, 0.35)
        profile = [(0, 0.02), (0.95, 0.03), (1, 0.2 * top), (0.8, 0.6 * top), (0.35, 0.95 * top), (0, top)]
        heap = lathe(0, a, rounded([(a * r, z) for r, z in profile]))
        parts = [turned(soft(heap, 0.05, rng), rng.uniform(0, 2 * np.pi), about=(0, a, 0))]
    things = [Thing(pick(rng, {"otherfurniture": 0.75, "sofa": 0.25}), parts)]
    if kind == "block" and rng.random() < 0.2:
        things += on_top(rng, -a + 0.05, a - 0.05, 0.05, 2 * b - 0.05, top, int(rng.integers(1, 3)))
    return framed(things)
