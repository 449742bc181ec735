"""What stands where in a scanned room: walls with their openings, and furniture by the type of the room.

Metres; a room's frame has the floor at z = 0; a wall's frame is a Piece's (data/rooms/surfaces.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data.rooms.designed import designed
from data.rooms.shapes import bathrooms, beds, clutter, kitchens, openings, seats, storage, tables
from data.rooms.shapes.parts import pick
from data.rooms.surfaces import Piece, Thing, bounds, box, moved, placed, rectangle, turned

HEIGHT = (2.3, 3.2)
ROOMY = 1.2  # times the areas below
TRIES = 60  # places tried for a piece, before it is left out
BEFORE_WALL, ON_WALL = (0.005, 0.08), (0.001, 0.01)  # m between a wall and what stands before it or hangs on it
HUNG = 0.3  # m above the floor, from where on a piece hangs
PLAY = 0.02  # m by which footprints may overlap
Maker = Callable[[np.random.Generator], Piece]


class Rule(NamedTuple):
    """Between `fewest` and `most` of a piece, at a "wall", "free", "any" of both, or in the "middle"."""

    make: Maker
    fewest: int
    most: int
    place: str = "wall"


class Home(NamedTuple):
    """A type of room: its area in square metres, the share among rooms, and what is in it."""

    area: tuple[float, float]
    share: float
    rules: tuple[Rule, ...]


def meeting_table(rng):
    return tables.table(rng, "meeting")


def a_kitchen(rng):
    length = rng.uniform(1.4, 3.8)
    return (
        kitchens.corner_kitchen(rng, length, rng.uniform(1.2, 2.6))
        if rng.random() < 0.3
        else kitchens.kitchen(rng, length)
    )


HOMES = {
    "bedroom": Home((8, 24), 0.18, (
        Rule(beds.bed, 1, 2), Rule(storage.night_stand, 0, 2), Rule(storage.dresser, 0, 1), Rule(storage.cabinet, 0, 2),
        Rule(tables.desk, 0, 1), Rule(seats.chair, 0, 2, "any"), Rule(seats.armchair, 0, 1, "any"),
        Rule(storage.bookshelf, 0, 1), Rule(clutter.floor_piece, 1, 5, "any"), Rule(storage.tv_stand, 0, 1),
    )),
    "living room": Home((14, 36), 0.16, (
        Rule(seats.sofa, 1, 3, "any"), Rule(tables.table, 1, 3, "free"), Rule(seats.armchair, 0, 3, "any"),
        Rule(storage.tv_stand, 0, 1), Rule(storage.bookshelf, 0, 2), Rule(storage.cabinet, 0, 2),
        Rule(seats.ottoman, 0, 1, "free"), Rule(seats.chair, 0, 4, "any"), Rule(clutter.floor_piece, 2, 6, "any"),
    )),
    "kitchen": Home((6, 20), 0.09, (
        Rule(a_kitchen, 1, 2), Rule(kitchens.refrigerator, 0, 1), Rule(tables.table, 0, 1, "free"),
        Rule(kitchens.kitchen_island, 0, 1, "middle"), Rule(seats.stool, 0, 3, "free"), Rule(storage.cabinet, 0, 1),
        Rule(clutter.floor_piece, 0, 3, "any"),
    )),
    "bathroom": Home((3, 9), 0.17, (
        Rule(bathrooms.bathtub, 0, 1), Rule(bathrooms.toilet, 1, 1), Rule(bathrooms.washbasin, 1, 3),
        Rule(bathrooms.shower, 0, 1), Rule(bathrooms.shower_curtain, 0, 1), Rule(bathrooms.towel, 0, 2),
        Rule(bathrooms.bathroom_cabinet, 0, 1), Rule(storage.cabinet, 0, 1), Rule(clutter.floor_piece, 0, 2, "any"),
    )),
    "office": Home((9, 34), 0.13, (
        Rule(tables.desk, 1, 4, "any"), Rule(storage.cabinet, 0, 3), Rule(storage.bookshelf, 0, 3),
        Rule(seats.chair, 1, 4, "any"), Rule(tables.table, 0, 1, "any"), Rule(seats.sofa, 0, 1),
        Rule(openings.board, 0, 2), Rule(clutter.floor_piece, 1, 4, "any"),
    )),
    "meeting room": Home((12, 36), 0.07, (
        Rule(meeting_table, 1, 2, "middle"), Rule(seats.chair, 2, 8, "any"), Rule(storage.cabinet, 0, 1),
        Rule(openings.board, 0, 2), Rule(openings.wall_television, 0, 1), Rule(clutter.floor_piece, 0, 2, "any"),
    )),
    "lounge": Home((14, 40), 0.06, (
        Rule(seats.armchair, 2, 6, "free"), Rule(seats.sofa, 1, 3, "any"), Rule(tables.table, 1, 4, "free"),
        Rule(seats.chair, 1, 5, "any"), Rule(seats.bench, 0, 2), Rule(storage.bookshelf, 0, 4),
        Rule(clutter.floor_piece, 0, 3, "any"),
    )),
    "storage": Home((4, 16), 0.05, (
        Rule(storage.cabinet, 1, 4), Rule(storage.bookshelf, 1, 3), Rule(clutter.floor_piece, 3, 9, "any"),
        Rule(kitchens.refrigerator, 0, 1), Rule(tables.desk, 0, 1),
    )),
    "hallway": Home((5, 18), 0.05, (
        Rule(storage.cabinet, 0, 2), Rule(seats.bench, 0, 1), Rule(clutter.floor_piece, 1, 4, "any"),
    )),
    "studio": Home((16, 36), 0.04, (
        Rule(beds.bed, 1, 1), Rule(a_kitchen, 1, 1), Rule(kitchens.refrigerator, 0, 1), Rule(seats.sofa, 0, 1, "any"),
        Rule(tables.table, 1, 2, "free"), Rule(tables.desk, 0, 1), Rule(storage.cabinet, 0, 2),
        Rule(storage.bookshelf, 0, 1), Rule(clutter.floor_piece, 2, 5, "any"),
    )),
}  # fmt: skip
SEATED = {"table": (1, 6), "desk": (1, 2)}  # chairs put to them
HANGING = {
    openings.picture: 0.5, openings.pictures: 0.12, openings.wall_prop: 0.2, openings.mirror: 0.06,
    storage.wall_shelves: 0.06, clutter.radiator: 0.06,
}  # fmt: skip
DESIGNED = 0.4  # of the pieces that models of furniture replace, where there are some


class Wall(NamedTuple):
    start: np.ndarray  # (2,); x of its frame is 0 here
    angle: float  # of its frame's x
    length: float

    def at(self, x: float, y: float = 0.0) -> np.ndarray:
        """(2,) in the room of a place in the wall's frame."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.start + np.array([x * cos - y * sin, x * sin + y * cos])


class Room:
    def __init__(self, type_: str, rng: np.random.Generator):
        self.rng, self.home = rng, HOMES[type_]
        area, ratio = ROOMY * rng.uniform(*self.home.area), rng.uniform(1, 3 if type_ == "hallway" else 2)
        width, length = np.sqrt(area / ratio), np.sqrt(area * ratio)
        self.height = rng.uniform(*HEIGHT)
        self.spaces = [np.array([0, 0, width, length])]  # x0, y0, x1, y1; they touch
        if rng.random() < 0.45:  # an L, an alcove, a second space
            a, b = rng.uniform(min(0.8, width), width), rng.uniform(0.5, 0.6 * length + 0.5)
            x = rng.choice([0, width - a, rng.uniform(0, width - a)])
            self.spaces.append(np.array([x, length, x + a, length + b]))
        if rng.random() < 0.2:
            a, b = rng.uniform(0.6, 2.5), rng.uniform(min(1, length), length)
            y = rng.uniform(0, length - b)
            self.spaces.append(np.array([width, y, width + a, y + b]))
        self.walls = self._outline()
        self.holes = [[] for _ in self.walls]  # x0, x1, z0, z1 in each
        self.things: list[Thing] = []
        self.taken = []  # corners (4, 2), z0, z1
        self.seats = []  # footprints that chairs are put to: name, corners

    def _outline(self):
        """The walls around the union of the spaces."""
        lines = [np.unique([space[[i, i + 2]] for space in self.spaces]) for i in (0, 1)]
        middle = [(line[1:] + line[:-1]) / 2 for line in lines]
        inside = np.pad(self.inside(np.stack(np.meshgrid(*middle, indexing="ij"), -1)), 1)
        walls = []
        for axis in (0, 1):
            across, along = lines[axis], lines[1 - axis]
            cells = inside if axis == 0 else inside.T
            for i, at in enumerate(across):
                step = cells[i + 1, 1:-1].astype(int) - cells[i, 1:-1]  # 1: the room is on the far side
                for side in (-1, 1):
                    for j in np.flatnonzero(step == side):
                        ends = np.array([along[j], along[j + 1]])
                        walls.append((axis, at, side, ends))
        joined = []
        for axis, at, side, ends in walls:
            if joined and joined[-1][:3] == (axis, at, side) and joined[-1][3][1] == ends[0]:
                joined[-1][3][1] = ends[1]
            else:
                joined.append((axis, at, side, ends))
        result = []
        for axis, at, side, ends in joined:
            # its y looks into the room: along +x or -x (axis 0), +y or -y (axis 1); its x is that turned clockwise
            first = (axis == 0 and side < 0) or (axis == 1 and side > 0)
            point = (at, ends[0] if first else ends[1]) if axis == 0 else (ends[0] if first else ends[1], at)
            angle = {(0, 1): -np.pi / 2, (0, -1): np.pi / 2, (1, 1): 0.0, (1, -1): np.pi}[axis, side]
            result.append(Wall(np.array(point, float), angle, float(ends[1] - ends[0])))
        return result

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 2) are in a space."""
        return np.any([((points > s[:2]) & (points < s[2:])).all(-1) for s in self.spaces], axis=0)

    def is_free(self, corners: np.ndarray, z0: float, z1: float, table: np.ndarray | None = None) -> bool:
        """Whether nothing stands between z0 and z1 over a footprint; what has the footprint `table` does not count."""
        middle = (corners + np.roll(corners, 1, 0)) / 2
        shrunk = corners + (corners.mean(0) - corners) * 0.02
        if not self.inside(np.concatenate((shrunk, middle + (corners.mean(0) - middle) * 0.02))).all():
            return False
        others = (other for other, bottom, top in self.taken if other is not table and z0 < top and z1 > bottom)
        return not any(_meet(corners, other) for other in others)

    def add(self, piece: Piece, at: np.ndarray, angle: float, table: np.ndarray | None = None) -> bool:
        """Put a piece with the back's middle at `at` (2,), if there is space; under its table, it may stand."""
        low, high = bounds(piece.things)
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, sin], [-sin, cos]])  # acts on rows
        half = piece.width / 2
        footprint = np.array([(-half, 0), (half, 0), (half, piece.depth), (-half, piece.depth)]) @ rotation + at
        z0, z1 = max(float(low[2]), 0), float(high[2])
        if z1 > self.height or not self.is_free(footprint, z0, z1, table):
            return False
        self.things += placed(piece.things, (*at, 0), angle)
        self.taken.append((footprint, z0, z1))
        if piece.things[0].name in SEATED:
            self.seats.append((piece.things[0].name, footprint))
        return True

    def put(self, piece: Piece, place: str) -> bool:
        rng, gap = self.rng, ON_WALL if bounds(piece.things)[0][2] > HUNG else BEFORE_WALL
        for _ in range(TRIES):
            if place == "wall" or (place == "any" and rng.random() < 0.5):
                wall = self.walls[self._a_wall()]
                if wall.length < piece.width:
                    continue
                x = rng.uniform(piece.width / 2, wall.length - piece.width / 2)
                if rng.random() < 0.3:  # in the corner
                    x = piece.width / 2 if rng.random() < 0.5 else wall.length - piece.width / 2
                done = self.add(piece, wall.at(x, rng.uniform(*gap)), wall.angle)
            else:
                space = self.spaces[0 if place == "middle" else rng.integers(len(self.spaces))]
                along = 0.0 if space[2] - space[0] > space[3] - space[1] else np.pi / 2
                angle = along + rng.integers(2) * np.pi if place == "middle" else rng.uniform(0, 2 * np.pi)
                if place != "middle" and rng.random() < 0.4:
                    angle = rng.integers(4) * np.pi / 2
                centre = rng.uniform(space[:2], space[2:])
                if place == "middle":
                    centre = (space[:2] + space[2:]) / 2 + rng.normal(0, 0.2, 2)
                back = np.array([np.sin(angle), -np.cos(angle)]) * piece.depth / 2
                done = self.add(piece, centre + back, angle)
            if done:
                return True
        return False

    def open_wall(self, opening: openings.Opening) -> bool:
        """Set a door or window into a wall, at a place where nothing stands before it."""
        rng, piece = self.rng, opening.piece
        for _ in range(TRIES):
            k = self._a_wall()
            wall, half = self.walls[k], piece.width / 2
            if wall.length < piece.width + 0.1:
                continue
            x = rng.uniform(half, wall.length - half)
            hole = opening.hole and (x + opening.hole[0], x + opening.hole[1], *opening.hole[2:])
            if hole and (
                hole[3] > self.height or any(hole[0] < b + 0.1 and hole[1] > a - 0.1 for a, b, *_ in self.holes[k])
            ):
                continue
            reach = np.linspace(-0.1, bounds(piece.things)[0][1], 4)
            behind = np.array([wall.at(x + a * half, y) for a in (-1, -0.5, 0, 0.5, 1) for y in reach])
            if hole and self.inside(behind).any():
                continue  # it would come out in the next space
            if self.add(piece, wall.at(x), wall.angle):
                if hole:
                    self.holes[k].append(hole)
                return True
        return False

    def seat(self) -> None:
        """Chairs to tables and desks, most of them turned to it."""
        rng = self.rng
        for name, corners in self.seats:
            for _ in range(rng.integers(*SEATED[name], endpoint=True)):
                piece, done = seats.chair(rng), False
                for _ in range(12):
                    side, share = rng.integers(4), rng.uniform(0.15, 0.85)
                    if name == "desk" and rng.random() < 0.8:
                        side = 2  # its front
                    a, b = corners[side], corners[(side + 1) % 4]
                    out = np.array([(b - a)[1], -(b - a)[0]]) / (np.linalg.norm(b - a) + 1e-9)
                    at = a + (b - a) * share + out * (piece.depth + rng.uniform(-0.25, 0.3))
                    turn = np.arctan2(-out[1], -out[0]) - np.pi / 2 + rng.normal(0, 0.35)
                    if rng.random() < 0.15:
                        turn = rng.uniform(0, 2 * np.pi)
                    if done := self.add(piece, at, turn, corners):
                        break
                if not done:
                    break

    def build(self) -> None:
        """Floor, walls around the openings, ceiling."""
        floor = [rectangle((s[0], s[1], 0), (s[2] - s[0], 0, 0), (0, s[3] - s[1], 0)) for s in self.spaces]
        ceiling = [rectangle((s[0], s[1], self.height), (s[2] - s[0], 0, 0), (0, s[3] - s[1], 0)) for s in self.spaces]
        sides = [
            Thing("wall", list(_around(wall, holes, self.height)))
            for wall, holes in zip(self.walls, self.holes, strict=True)
        ]
        self.things = [Thing("floor", floor), Thing("ceiling", ceiling), *sides, *self.things]

    def _a_wall(self):
        """Index of one, a long one more often."""
        return pick(self.rng, {k: wall.length for k, wall in enumerate(self.walls)})


def make_room(rng: np.random.Generator, models: dict | None = None) -> tuple[str, list[Thing]]:
    """The type of a room, and its things; the floor comes first. models: of furniture, by the name of the thing."""
    type_ = pick(rng, {name: home.share for name, home in HOMES.items()})
    room = Room(type_, rng)
    _shape(room, rng)
    for _ in range(rng.integers(1, 4)):
        room.open_wall(openings.door(rng, room.height))
    for _ in range(rng.integers(0, 4)):
        make = openings.window_with_curtain if rng.random() < 0.4 else openings.window
        room.open_wall(make(rng, room.height))
    for rule in room.home.rules:
        for _ in range(rng.integers(rule.fewest, rule.most, endpoint=True)):
            room.put(_designed(rng, rule.make(rng), models), rule.place)
    room.seat()
    for _ in range(rng.poisson(2.5)):
        room.put(pick(rng, HANGING)(rng), "wall")
    for _ in range(rng.poisson(2.0)):
        room.put(clutter.floor_piece(rng), "any")
    room.build()
    return type_, room.things


def _designed(rng, piece, models):
    """A piece, or a designed model of the same class in its stead."""
    if not models or rng.random() >= DESIGNED:
        return piece
    low, high = bounds(piece.things)
    like = [
        model
        for model in models.get(piece.things[0].name, [])
        if abs(model.surface.xyz[:, 2].min() - low[2]) < 0.3 and 0.5 < model.size[2] / (high[2] - low[2]) < 2
    ]
    return designed(rng, like[rng.integers(len(like))]) if like else piece


def _shape(room, rng):
    """What makes a room less of a box: a cut corner, a column, a sloping ceiling."""
    x0, y0, x1, y1 = room.spaces[0]
    height = room.height
    if rng.random() < 0.12:
        size = rng.uniform(0.5, 1.2)
        corner = np.array([(x0, y0), (x1, y0), (x0, y1), (x1, y1)][rng.integers(4)])
        half = size / np.sqrt(2) * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        room.things.append(
            Thing("wall", [moved(turned(box(-size, size, -size, size, 0, height), np.pi / 4), (*corner, 0))])
        )
        room.taken.append((corner + half, 0, height))
    if rng.random() < 0.15:
        a, b = rng.uniform(0.2, 0.6, 2)
        column = Piece([Thing("wall", [box(-a / 2, a / 2, 0, b, 0, height - 0.01)])], a, b)
        room.put(column, "wall" if rng.random() < 0.7 else "free")
    if rng.random() < 0.1:
        low, reach = rng.uniform(1.1, 1.9), rng.uniform(0.8, min(2.2, x1 - x0))
        slope = rectangle((x0, y0, low), (0, y1 - y0, 0), (reach, 0, height - low))
        room.things.append(Thing("ceiling", [slope]))
        room.taken.append((np.array([(x0, y0), (x0 + reach, y0), (x0 + reach, y1), (x0, y1)]), low, height))


def _around(wall, holes, height):
    """The parts of a wall beside, below and above its holes."""
    parts, x = [], 0.0
    for x0, x1, z0, z1 in sorted(holes):
        parts += [(x, x0, 0, height), (x0, x1, 0, z0), (x0, x1, z1, height)]
        x = x1
    parts.append((x, wall.length, 0, height))
    along = np.array([np.cos(wall.angle), np.sin(wall.angle), 0])
    for a, b, low, high in parts:
        if b - a > 1e-6 and high - low > 1e-6:
            yield rectangle((*wall.at(a), low), along * (b - a), (0, 0, high - low))


def _meet(a, b):
    """Whether two convex quadrangles (4, 2) overlap by more than PLAY: no line of a side parts them."""
    for corners in (a, b):
        for side in np.roll(corners, -1, 0) - corners:
            normal = np.array([-side[1], side[0]]) / (np.hypot(*side) + 1e-12)
            at, bt = a @ normal, b @ normal
            if at.max() - PLAY <= bt.min() or bt.max() - PLAY <= at.min():
                return False
    return True
