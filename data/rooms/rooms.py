"""Rooms in ScanNet's raw layout that teach something true: look-alike objects that only the room tells apart.

`plan_room` decides a room's type, what stands where, and every label; `write_room` meshes a plan and writes its scan.
An object of a pair (objects.PAIRS) is of one kind, which a side file of the scan names:

    local   it carries the cue of its class
    near    it carries none; a companion 0.6 to 1.4 m away decides, inside a 1.5 m chunk
    room    only the room's type decides, and nothing nearer than FAR tells it: no 1.5 m chunk can know
    double  only where it is asked for: two stand side by side, of two classes, each with the companion that decides
            it; the other's is DOUBLE_MARGIN farther from its middle, and a 3 m chunk around the two holds all four

V vertices, S segments; metres; a plan's frame has a corner of the room at the origin, +z up.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.chunks import CHUNK_SIZE, CONTEXT
from data.labels import SCANNET20
from data.rooms.meshes import box_mesh, part_mesh, roughen, seen_faces, segments
from data.rooms.objects import COMPANIONS, CUES, EVERYWHERE, FURNITURE, PAIRS, ROOM_TYPES, Box
from data.rooms.raw_layout import FIRST_SPACE, annotate, scan_id, turned_away, write_raw
from data.scannet import NUM_NYU40

STYLE_FAMILIES = {"train": (0, 12), "val": (12, 18)}  # a family is a draw of shapes and proportions
# Two points that share a chunk (1.5 m, context 0.2 m) are at most 1.7 * sqrt(2) = 2.4 m apart; cues stick out
FAR = 2.7
NEAR = (0.6, 1.4)
DOUBLE_CLASSES = {"tall": ("bookshelf", "cabinet"), "rectangle": ("window", "picture")}  # small, companions stand free
DOUBLE_GAP = (0.2, 0.5)  # m between the two
DOUBLE_NEAR = (0.1, 0.6)  # m from the front of one to its companion; the first also between the two companions
DOUBLE_MARGIN = 0.3  # m by which the middle of one is farther from the other's companion than from its own
DOUBLE_REACH = 1.5  # m from the middle of the two to any corner of the four: half of a large chunk, at any turn
DOUBLE_TRIES = 500  # about one in 30 fits
UNTOLD = ("near", "room", "double")  # kinds of objects that carry no cue
NEAR_SHARE = 0.55  # of the objects that are not of the kind "room", those that hang in every room aside
ZONE = 2.4  # length of the end of a room where the objects of the kind "room" stand
SIZE_WITH_ZONE = (2.8, 5.0, 7.0, 10.5)  # least and most width and length: of every type alike, so they do not tell it
HEIGHT = (2.4, 3.0)
PLANS = (  # what the zone of room i decides, i modulo 20, or a type without a zone; any stretch is a fair mixture
    ("slab", "desk"), ("rectangle", "picture"), "bathroom", ("tall", "refrigerator"), ("padded", "sofa"),
    ("sheet", "curtain"), "studio", ("box", "counter"), ("padded", "bed"), ("slab", "table"),
    ("sheet", "shower curtain"), "meeting room", ("tall", "bookshelf"), ("box", "cabinet"), ("rectangle", "window"),
    "kitchen", ("tall", "cabinet"), "studio", "storage", "bedroom",
)  # fmt: skip
SHELL = ("wall", "wall", "wall", "wall", "floor", "ceiling")  # the sides of a room's box, in the mesher's order
SHELL_SPACING = np.array([0.0535, 0.0535, 0.037])  # 350 vertices a square metre of floor, 505 of wall
CEILING_SHARE = 0.25  # of the rooms; most ceilings are missing
WALL_TOP = (1.2, 2.6)  # walls are cut at random heights
NYU40 = {"ceiling": 22}  # raw category -> nyu40 id: the label table
NYU40 |= dict(zip(SCANNET20.names[1:], SCANNET20.id_of[1:].tolist(), strict=True))
NYU40 |= {name: furniture.nyu40 for name, furniture in FURNITURE.items()}
COLOURS = np.array(  # white, grey, beech, oak, walnut, black, blue, green, red
    [(225, 222, 215), (150, 150, 150), (205, 175, 130), (165, 125, 85), (110, 75, 50), (60, 60, 65), (85, 105, 145),
     (115, 135, 105), (150, 75, 65)]
)  # fmt: skip
TELLING_STEPS = 4  # of red, green and blue: no two telling colours are closer than 85 of 255
TELLING_COLOURS = {  # what an object alone tells -> the colour of a grid
    look: tuple(85 * (i // TELLING_STEPS**power % TELLING_STEPS) for power in (2, 1, 0))
    for i, look in enumerate([*NYU40, *(f"any {pair}" for pair in PAIRS)])
}
TILES = {"chunk": CHUNK_SIZE, "large chunk": 3.0}  # m; of the evaluation, and of a variant with larger chunks
TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # cosine and sine of quarter turns
SEEN = 20  # vertices by which an object counts as seen, the smallest segment of ScanNet
SHARES = {  # percent of ScanNet's vertices that carry one of the 20 classes
    "wall": 32.0, "floor": 24.4, "cabinet": 4.3, "bed": 2.9, "chair": 7.7, "sofa": 2.6, "table": 3.8, "door": 4.8,
    "window": 4.2, "bookshelf": 2.5, "picture": 0.5, "counter": 0.5, "desk": 2.0, "curtain": 2.3, "refrigerator": 0.6,
    "shower curtain": 0.3, "toilet": 0.3, "sink": 0.3, "bathtub": 0.4, "otherfurniture": 3.7,
}  # fmt: skip
BOUND = 2.0  # factor by which a made share may differ


def turned_size(size: np.ndarray, turn: int) -> np.ndarray:
    """(3,) m after so many quarter turns."""
    return size[[1, 0, 2] if turn % 2 else [0, 1, 2]]


@dataclass(frozen=True)
class Item:
    name: str  # raw category
    boxes: list[Box]
    low: np.ndarray  # (3,) bounds in the room
    high: np.ndarray
    turn: int  # quarter turns; at 0 its back is to the wall y = 0
    colour: np.ndarray  # (3,)
    kind: str = "none"  # "local", "near", "room", "double" for an object of a pair
    pair: str | None = None
    companion: int | None = None  # the item that decides its class, as an index

    @property
    def size(self) -> np.ndarray:
        """(3,) m in its own frame, as Box has it."""
        return turned_size(self.high - self.low, self.turn)

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3), acts on rows: from its own frame to the room's."""
        cos, sin = TURNS[self.turn]
        return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])

    @property
    def looks_like(self) -> str:
        """What the object alone tells: its name, or of one without a cue its pair."""
        return f"any {self.pair}" if self.kind in UNTOLD else self.name

    @property
    def tells(self) -> bool:
        """Whether it says anything about the room's type."""
        if self.pair:
            return self.kind == "local" and self.pair != "rectangle"  # windows and pictures hang in every room
        return self.name not in EVERYWHERE


@dataclass(frozen=True)
class Plan:
    name: str  # scan id
    split: str
    type: str
    size: np.ndarray  # (3,)
    items: list[Item]
    seed: tuple[int, ...]

    @property
    def owners(self) -> list[str]:
        """Raw categories of what a vertex can be of: the shell, then the items."""
        return [*SHELL, *(item.name for item in self.items)]


def plan_room(seed: int, split: str, index: int, doubles: bool = False) -> Plan:
    """Room `index` of a split; depends on nothing but the arguments.

    doubles: with objects of the kind double, in a studio, as any other type would decide the class of a pair.
    """
    stream = (seed, FIRST_SPACE[split], index)
    rng = np.random.default_rng(stream)
    pair, room_type = None, "studio" if doubles else PLANS[index % len(PLANS)]
    if isinstance(room_type, tuple):
        pair, label = room_type
        room_type = str(rng.choice([t for t, rules in ROOM_TYPES.items() if rules.classes.get(pair) == label]))
    rules = ROOM_TYPES[room_type]
    ranges = SIZE_WITH_ZONE if pair else rules.size
    size = np.array([rng.uniform(*ranges[:2]), rng.uniform(*ranges[2:]), rng.uniform(*HEIGHT)])
    plan = Plan(scan_id(split, index), split, room_type, size, [], stream)
    room = Furnisher(plan, family=int(rng.integers(*STYLE_FAMILIES[split])), rng=rng)

    for _ in range(rng.integers(1, 3)):
        room.add("door")
    if pair:
        for _ in range(PAIRS[pair].together):
            room.add_of_pair(pair, "room", label)
    if doubles:
        room.add_doubles()
    near = rng.permutation(len(rules.pairs)) < int(len(rules.pairs) * NEAR_SHARE + rng.random())
    for k in np.argsort(~near, kind="stable"):  # near ones first, they need the most space
        pair = rules.pairs[k]
        label = rules.classes.get(pair) or str(rng.choice(PAIRS[pair].classes))
        if not (near[k] and room.add_near(pair, label)):
            room.add_of_pair(pair, "local", label)
    room.add_of_pair("rectangle", "local", str(rng.choice(PAIRS["rectangle"].classes)))
    for name, fewest, most in rules.furniture:
        for _ in range(rng.integers(fewest, most + 1)):
            room.add(name)
    room.add_everyday_things()
    return plan


class Furnisher:
    """Adds items to a plan where there is space and where the kinds allow it, in the style of a family."""

    def __init__(self, plan: Plan, family: int, rng: np.random.Generator):
        style = np.random.default_rng(family)
        self.variant, self.thickness = int(style.integers(6)), style.uniform(0.7, 1.4)
        self.scale = np.array([*style.uniform(0.88, 1.12, 2), 1.0])
        self.plan, self.rng = plan, rng

    def add(self, name: str, near: Item | None = None, reach: tuple[float, float] = NEAR) -> bool:
        furniture = FURNITURE[name]
        draft = self._draft(name, furniture.boxes, furniture.size)
        return self._put(draft, furniture.place, furniture.bottom, near, reach)

    def add_of_pair(self, pair: str, kind: str, label: str) -> bool:
        draft, shape = self._draft_of_pair(pair, kind, label), PAIRS[pair]
        place = "free" if pair == "slab" and self.rng.random() < 0.5 else shape.place
        return self._put(draft, place, shape.bottom)

    def add_near(self, pair: str, label: str) -> bool:
        """An object of the kind near and its companion; neither, if there is no space for both."""
        items = self.plan.items
        for _ in range(4):
            if not self.add_of_pair(pair, "near", label):
                return False
            if self.add(COMPANIONS[label], near=items[-1], reach=(NEAR[0], self.rng.uniform(0.8, NEAR[1]))):
                items[-2] = replace(items[-2], companion=len(items) - 1)
                return True
            items.pop()
        return False

    def add_doubles(self) -> None:
        """Of each pair in DOUBLE_CLASSES two objects of the kind double and their companions, where there is space."""
        items = self.plan.items
        for pair in DOUBLE_CLASSES:
            group = self._draft_double(pair)
            if group is None:
                continue
            low, high = (np.stack([getattr(item, end) for item in group]) for end in ("low", "high"))  # (4, 3)
            size = high.max(0) - low.min(0)  # (3,); all four are put as one
            whole = Item("double", [], np.zeros(3), size, 0, np.zeros(3), "double", pair)
            if not self._put(whole, PAIRS[pair].place, (0.0, 0.0)):
                continue
            whole = items.pop()
            items += [_turned(item, (low.min(0) + high.max(0)) / 2, whole) for item in group]
            for i in (-4, -3):  # their companions are the last two
                items[i] = replace(items[i], companion=len(items) + i + 2)

    def _draft_double(self, pair: str) -> list[Item] | None:
        """Two objects side by side, their backs to y = 0, and their companions in front; None if that does not fit."""
        rng, shape = self.rng, PAIRS[pair]
        for _ in range(DOUBLE_TRIES):
            drafts = [
                self._draft_of_pair(pair, "double", name) for name in rng.permutation(DOUBLE_CLASSES[pair]).tolist()
            ]
            # As narrow as the pair can be; both alike, or what fits would depend on the class
            size = np.array([shape.size[0] * self.scale[0], *drafts[0].high[1:]])
            low = np.array([0, 0, rng.uniform(*shape.bottom)])
            lows = low, low + [size[0] + rng.uniform(*DOUBLE_GAP), 0, 0]
            group = [replace(draft, low=low, high=low + size) for draft, low in zip(drafts, lows, strict=True)]
            for name in [draft.name for draft in drafts]:
                companion = FURNITURE[COMPANIONS[name]]
                draft, turn = self._draft(COMPANIONS[name], companion.boxes, companion.size), int(rng.integers(4))
                size_of = turned_size(draft.high, turn)
                x = rng.uniform(0, group[1].high[0] - size_of[0])
                low = np.array([x, size[1] + rng.uniform(*DOUBLE_NEAR), 0])
                group.append(replace(draft, low=low, high=low + size_of, turn=turn))
            if is_double(*group):
                return group
        return None

    def _draft_of_pair(self, pair: str, kind: str, label: str) -> Item:
        shape = PAIRS[pair]
        boxes = shape.shapes[self.variant % len(shape.shapes)](self.thickness)
        draft = self._draft(label, boxes + (CUES[label] if kind == "local" else []), shape.size)
        return replace(draft, kind=kind, pair=pair)

    def add_everyday_things(self) -> None:
        """What stands on, at and between the rest in every type of room alike."""
        rng, (width, length, _) = self.rng, self.plan.size
        for base in [item for item in self.plan.items if item.pair in ("slab", "box", "padded")]:
            for _ in range(rng.integers(1, 4)):
                self._put_on(base, "pillow" if base.pair == "padded" else "object")
            if base.pair == "slab":
                for _ in range(rng.integers(0, 4)):
                    self.add("chair", near=base, reach=(0.03, 0.25))
        for name, area in (("pillar", 15), ("trash can", 25), ("chair", 15), ("box", 6), ("bag", 7)):
            for _ in range(rng.poisson(width * length / area)):
                self.add(name)

    def _draft(self, name: str, boxes: list[Box], ranges: tuple[float, ...]) -> Item:
        """An item of a random size and colour at the origin."""
        size = np.array([self.rng.uniform(*ranges[i : i + 2]) for i in (0, 2, 4)]) * self.scale
        return Item(name, boxes, np.zeros(3), size, 0, self.rng.choice(COLOURS) + self.rng.normal(0, 10, 3))

    def _put_on(self, base: Item, name: str) -> None:
        item = self._draft(name, FURNITURE[name].boxes, FURNITURE[name].size)
        space = np.maximum(base.high - base.low - item.high, 0)[:2]
        low = np.append(base.low[:2] + self.rng.random(2) * space, base.high[2])
        self.plan.items.append(replace(item, low=low, high=low + item.high))

    def _put(self, item: Item, place: str, bottom, near: Item | None = None, reach=NEAR) -> bool:
        """Try random places; what tells the type keeps its distance from the objects that must stay in doubt."""
        rng, room, size, n = self.rng, self.plan.size, item.high, 200
        turn = rng.integers(4, size=n)
        half = np.where((turn % 2 == 0)[:, None], size[:2], size[1::-1]) / 2  # (n, 2)
        centre = half + rng.random((n, 2)) * (room[:2] - 2 * half)
        if near is not None:
            span = (near.high - near.low)[:2] / 2 + reach[1] + half
            centre = (near.low + near.high)[:2] / 2 + rng.uniform(-1, 1, (n, 2)) * span
        if place != "free":  # walls y = 0, x = width, y = length, x = 0
            walls = np.stack((half[:, 1], room[0] - half[:, 0], room[1] - half[:, 1], half[:, 0]), 1)
            centre[range(n), (turn + 1) % 2] = walls[range(n), turn]
        z = np.full((n, 1), rng.uniform(*bottom))
        low, high = np.hstack((centre - half, z)), np.hstack((centre + half, z + size[2]))
        free = ((low > -1e-6) & (high < room + 1e-6)).all(1)
        if item.kind == "room":
            free &= low[:, 1] > room[1] - ZONE
        for other in self.plan.items:
            gap = np.maximum(low - other.high, other.low - high)  # (n, 3), negative where they overlap
            apart = np.hypot(*np.maximum(gap[:, :2], 0).T)
            in_doubt = {item.kind if other.tells else "", other.kind if item.tells else ""}
            free &= gap.max(1) > 0.03
            far = "room" in in_doubt or _decides(item, other) or _decides(other, item)
            free &= apart >= (FAR if far else NEAR[0] if "near" in in_doubt else 0)
            if other is near:
                free &= (apart >= reach[0]) & (apart <= reach[1])
        if not free.any():
            return False
        k = int(np.argmax(free))
        self.plan.items.append(replace(item, low=low[k], high=high[k], turn=int(turn[k])))
        return True


def is_double(a: Item, b: Item, of_a: Item, of_b: Item) -> bool:
    """Whether two objects and their companions stand as the kind double wants it: every corner of an object is nearer
    to its own companion, its middle by DOUBLE_MARGIN, and all are within DOUBLE_REACH of the middle of the two."""
    middle = (np.minimum(a.low, b.low) + np.maximum(a.high, b.high))[:2] / 2
    if max(np.hypot(*(corner - middle)) for item in (a, b, of_a, of_b) for corner in _corners(item)) > DOUBLE_REACH:
        return False
    if np.maximum(of_a.low - of_b.high, of_b.low - of_a.high).max() < DOUBLE_NEAR[0]:
        return False
    for item, own, other in ((a, of_a, of_b), (b, of_b, of_a)):
        centre = (item.low + item.high)[:2] / 2
        if _distance(centre, other) - _distance(centre, own) < DOUBLE_MARGIN:
            return False
        if any(_distance(corner, other) <= _distance(corner, own) for corner in _corners(item)):
            return False
    return True


def _corners(item: Item) -> list[tuple[float, float]]:
    return [(x, y) for x in (item.low[0], item.high[0]) for y in (item.low[1], item.high[1])]


def _distance(point: tuple[float, float], item: Item) -> float:
    """Metres on the floor from a point to an item's bounds."""
    return float(np.hypot(*np.maximum(np.maximum(item.low[:2] - point, point - item.high[:2]), 0)))


def _decides(item: Item, other: Item) -> bool:
    """Whether an item could be taken for the companion of a double."""
    return other.kind == "double" and item.name in (COMPANIONS[c] for c in DOUBLE_CLASSES[other.pair])


def _turned(item: Item, middle: np.ndarray, whole: Item) -> Item:
    """An item that stands around `middle` (3,), as it stands in a whole that was put into a room."""
    centre = ((item.low + item.high) / 2 - middle) @ whole.rotation + (whole.low + whole.high) / 2
    size = turned_size(item.high - item.low, whole.turn)
    return replace(item, low=centre - size / 2, high=centre + size / 2, turn=(item.turn + whole.turn) % 4)


def mesh_room(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What cameras saw of a room: xyz (V, 3), faces (F, 3), owner (V,) (0..5 the SHELL, then the items), piece (V,)."""
    shell = box_mesh(plan.size, SHELL_SPACING, rng, inside_out=True)
    side = shell.cell >> 18
    centre, face_side = shell.xyz[shell.faces].mean(1), side[shell.faces].min(1)
    top = rng.uniform(*WALL_TOP, 4)[np.minimum(face_side, 3)] + 0.2 * np.sin(centre[:, :2] @ rng.uniform(1, 3, 2))
    keep = np.where(face_side < 4, centre[:, 2] < top, (face_side == 4) | (rng.random() < CEILING_SHARE))
    for item in plan.items:  # the depth tolerance would show the wall behind what hangs flat on it
        if min(item.high[:2] - item.low[:2]) < 0.2:
            keep &= ~((centre > item.low - 0.02) & (centre < item.high + 0.02)).all(1)

    xyz, faces, owner, piece = [shell.xyz], [shell.faces[keep]], [side], [shell.cell]
    count = len(shell.xyz)
    for i, item in enumerate(plan.items):
        size = item.size
        for box in item.boxes:
            mesh = part_mesh(box, size, rng)
            piece.append(mesh.cell + (len(piece) << 24))
            xyz.append((mesh.xyz - size / 2) @ item.rotation + (item.low + item.high) / 2)
            faces.append(mesh.faces + count)
            owner.append(np.full(len(mesh.xyz), len(SHELL) + i))
            count += len(mesh.xyz)
    xyz, faces, owner, piece = (np.concatenate(a) for a in (xyz, faces, owner, piece))
    xyz = roughen(xyz, rng)

    cameras = np.column_stack((rng.uniform(0.3, plan.size[:2] - 0.3, (200, 2)), rng.uniform(1.4, 1.7, 200)))
    bounds = np.array([(item.low - 0.25, item.high + 0.25) for item in plan.items])  # (items, 2, 3)
    blocked = ((cameras[:, None] > bounds[:, 0]) & (cameras[:, None] < bounds[:, 1])).all(-1).any(1)
    cameras = cameras[~blocked][: rng.integers(6, 13)]
    steepest = np.tan(np.deg2rad(rng.uniform(10, 35, len(cameras))))
    used, faces = np.unique(faces[seen_faces(xyz, faces, cameras, steepest)], return_inverse=True)
    return xyz[used], faces.reshape(-1, 3), owner[used], piece[used]


def annotated_room(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """What was scanned of a room, and its labels: xyz (V, 3), faces (F, 3), nyu40 (V,), owner (V,) as in mesh_room,
    segment (V,), and annotated (S,) as `annotate` gives it."""
    xyz, faces, owner, piece = mesh_room(plan, rng)
    segment, segment_owner = segments(piece, owner)
    clutter = np.array([SCANNET20.class_of[NYU40[name]] == 0 for name in plan.owners])
    annotated = annotate(clutter, segment, segment_owner, rng)
    nyu40 = np.array([*(NYU40[name] for name in plan.owners), 0])[annotated[segment]]  # -1 is the last entry, 0
    return xyz, faces, nyu40, owner, segment, annotated


def write_room(plan: Plan, scans: Path, telling_colours: bool = False) -> dict:
    """Write the scan of a plan to scans/<scan id>/; returns what the shares and the oracles need (see `summarise`)."""
    rng = np.random.default_rng([*plan.seed, 1])
    xyz, faces, nyu40, owner, segment, annotated = annotated_room(plan, rng)
    paint = rng.choice(COLOURS[:3], len(SHELL)) + rng.normal(0, 10, (len(SHELL), 3))
    light = 0.85 + 0.3 * np.sin(xyz @ rng.normal(0, 0.4, 3) + rng.uniform(0, 6)) ** 2
    colour = np.concatenate((paint, [item.colour for item in plan.items]))[owner] * light[:, None]
    colour = np.clip(colour + rng.normal(0, 6, xyz.shape), 0, 255).astype(np.uint8)
    if telling_colours:
        looks = [*SHELL, *(item.looks_like for item in plan.items)]
        colour = np.array([TELLING_COLOURS[look] for look in looks], np.uint8)[owner]
    xyz, align = turned_away(xyz, rng.uniform(0, 2 * np.pi))
    facts = {}
    for i, item in enumerate(plan.items, len(SHELL)):
        companion = None if item.companion is None else len(SHELL) + item.companion
        facts[i] = {"kind": item.kind, "pair": item.pair, "companion": companion}
    owners = plan.owners
    write_raw(scans, plan.name, plan.type, xyz, colour, faces, nyu40, segment, annotated, owners, facts, align)
    return summarise(plan, xyz, nyu40, owner, annotated[segment] == owner)


def summarise(plan: Plan, xyz, nyu40, owner, rightly) -> dict:
    """Vertices by nyu40 id, and for each object of a pair its views: of the whole room, and of the evaluation's tiles
    of the sizes that TILES names; of doubles also "around", of the large chunk around the two. Without positions all
    that is in there tells them no more than the object alone.

    A view is: rightly annotated vertices of the object in the tile; whether its companion is seen in tile and context;
    the types of room that can hold all that is seen there.
    """
    everything = np.ones(len(xyz), bool)
    windows = [("room", everything, everything)]
    for name, size in TILES.items():
        offset = xyz[:, :2] - xyz[:, :2].min(0)
        tile = np.floor(offset / size)  # (V, 2)
        for t in np.unique(tile, axis=0):
            from_border = np.minimum(offset - t * size, (t + 1) * size - offset)
            windows.append((name, (tile == t).all(1), (from_border >= -CONTEXT).all(1)))
    first, n = len(SHELL), len(SHELL) + len(plan.items)
    for i, k in other_of_double(plan.items).items():
        both = (owner == first + i) | (owner == first + k)
        if i < k and both.any():
            middle = (xyz[both, :2].min(0) + xyz[both, :2].max(0)) / 2
            distance, half = np.abs(xyz[:, :2] - middle).max(1), TILES["large chunk"] / 2  # (V,)
            windows.append(("around", both & (distance <= half), distance <= half + CONTEXT))
    views = [{name: [] for name in ("room", *TILES, "around")} for _ in plan.items]
    for name, core, inside in windows:
        vertices = np.bincount(owner[core & rightly], minlength=n)[first:].tolist()
        seen = np.bincount(owner[inside], minlength=n)[first:] >= SEEN
        types = set(ROOM_TYPES).intersection(*(types_with(o) for o, s in zip(plan.items, seen, strict=True) if s))
        for item, view, count in zip(plan.items, views, vertices, strict=True):
            if count:
                has_companion = item.companion is not None and bool(seen[item.companion])
                view[name].append((count, has_companion, sorted(types)))
    objects = [
        {"class": item.name, "kind": item.kind, "pair": item.pair, "views": view}
        for item, view in zip(plan.items, views, strict=True)
        if item.pair and view["room"]
    ]
    counts = np.bincount(nyu40, minlength=NUM_NYU40).tolist()
    return {"split": plan.split, "type": plan.type, "nyu40": counts, "objects": objects}


def other_of_double(items: list[Item]) -> dict[int, int]:
    """Of each object of the kind double, as an index, the one beside it; a room has two of a pair at most."""
    doubles = [i for i, item in enumerate(items) if item.kind == "double"]
    return {i: k for i in doubles for k in doubles if i != k and items[i].pair == items[k].pair}


def types_with(item: Item) -> set[str]:
    """The types of room in which an item can stand."""
    if not item.tells:
        return set(ROOM_TYPES)
    labels = {item.name} if item.pair else {label for label, name in COMPANIONS.items() if name == item.name}
    types = {"studio"} if labels else set()
    for name, rules in ROOM_TYPES.items():
        decided = {rules.classes.get(item.pair)} if item.pair else set(rules.classes.values())
        if labels & decided or item.name in (f[0] for f in rules.furniture):
            types.add(name)
    return types


def oracles(summaries: list[dict], shuffled: bool) -> dict[str, dict[str, float]]:
    """Expected accuracy a vertex, by kind, in the validation rooms, of the best guess that knows an object's shape and

    local: nothing else, so it is the prior of the pair; chunk: all in the tile; large chunk: all in a larger tile
    (TILES); room: all in the room; around: of doubles, all in the large chunk around the two.
    """
    prior = Counter()  # vertices of all rooms, by kind, pair, class and type of room
    for summary in summaries:
        for o in summary["objects"]:
            prior[o["kind"], o["pair"], o["class"], summary["type"]] += o["views"]["room"][0][0]

    def expected(o: dict, companion: bool, types) -> float:
        if o["kind"] == "local" or (companion and not shuffled):
            return 1.0
        types = ROOM_TYPES if shuffled else types
        weights = [sum(prior[o["kind"], o["pair"], c, t] for t in types) for c in PAIRS[o["pair"]].classes]
        return max(weights) / sum(weights)

    right, total = Counter(), Counter()  # vertices, by what is known and kind
    for o in (o for s in summaries if s["split"] == "val" for o in s["objects"]):
        ((n, _, _),) = o["views"]["room"]
        total["local", o["kind"]] += n
        right["local", o["kind"]] += n * expected(o, False, ROOM_TYPES)
        for name, views in o["views"].items():
            for m, companion, types in views:
                total[name, o["kind"]] += m
                right[name, o["kind"]] += m * expected(o, companion, types)
    names = [name for name in ("local", *TILES, "room", "around") if any(key[0] == name for key in total)]
    kinds = sorted({kind for _, kind in total})
    return {name: {k: round(right[name, k] / total[name, k], 4) for k in kinds if (name, k) in total} for name in names}


def shuffle_labels(plans: list[Plan]) -> list[Plan]:
    """The control set: labels of the kinds UNTOLD permuted among the objects of each pair; shapes stay."""
    rng = np.random.default_rng(plans[0].seed)
    plans = [replace(plan, items=list(plan.items)) for plan in plans]
    for pair in PAIRS:
        where = [(p, i) for p in plans for i, o in enumerate(p.items) if o.pair == pair and o.kind in UNTOLD]
        labels = rng.permutation([p.items[i].name for p, i in where]).tolist()
        for (p, i), label in zip(where, labels, strict=True):
            p.items[i] = replace(p.items[i], name=label)
    return plans


def plan_rooms(seed: int, split: str, scenes: int, shuffled: bool, doubles: bool = False) -> list[Plan]:
    """The plans of a split; shuffled: of the control set; doubles: as in plan_room."""
    plans = [plan_room(seed, split, i, doubles) for i in range(scenes)]
    return shuffle_labels(plans) if shuffled else plans


def report_on(summaries: list[dict], shuffled: bool) -> dict:
    """What a set of rooms holds and what can be known in it; summaries: as write_room gives them."""
    kinds = Counter(o["kind"] for s in summaries for o in s["objects"])
    return {
        "vertices": sum(sum(s["nyu40"]) for s in summaries),
        "kinds": {k: round(n / kinds.total(), 4) for k, n in sorted(kinds.items())},
        "oracles": oracles(summaries, shuffled),
        "shares": class_shares([s for s in summaries if s["split"] == "train"]),
        "wanted": SHARES,
    }


def class_shares(summaries: list[dict]) -> dict[str, float]:
    """Percent of the vertices that carry one of the 20 classes, by class."""
    vertices = np.sum([s["nyu40"] for s in summaries], axis=0)[SCANNET20.id_of[1:]]
    return dict(zip(SCANNET20.names[1:], (100 * vertices / vertices.sum()).round(3).tolist(), strict=True))


def share_bounds(shares: dict[str, float]) -> list[tuple[tuple[str, ...], float, float, bool]]:
    """(classes, made, wanted, within BOUND) for each class without a pair and each set of classes that pairs join."""
    groups = [PAIRS[pair].classes for pair in ("slab", "sheet", "rectangle", "padded")]
    groups.append(("counter", *PAIRS["tall"].classes))  # the cabinet belongs to two pairs
    groups += [(name,) for name in SHARES if not any(name in group for group in groups)]
    sums = [(group, sum(shares[c] for c in group), sum(SHARES[c] for c in group)) for group in groups]
    return [(group, made, wanted, wanted / BOUND <= made <= wanted * BOUND) for group, made, wanted in sums]
