"""What the synthetic rooms are made of: tables of furniture, of look-alike pairs and of types of room.

An object is a list of boxes in fractions of its width (x, along the wall), depth (y, 0 at the back) and height (z);
a box may stick out of [0, 1]. The classes of a pair share one sampler of shape, size, height and colour, so nothing
on such an object tells which of them it is, unless it carries the cue of its class.
"""

from collections.abc import Callable
from typing import NamedTuple


class Box(NamedTuple):
    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float
    roundness: float = 0.0  # of the horizontal section: 0 a rectangle, 1 an ellipse
    folds: float = 0.0  # metres; amplitude of vertical folds, as cloth has
    holes: float = 0.0  # share that the scanner misses, as it does glass


class Furniture(NamedTuple):
    nyu40: int
    size: tuple[float, ...]  # metres; least and most width, least and most depth, least and most height
    place: str  # "free": on the floor, "wall": on the floor, its back to a wall, "hung": on a wall
    boxes: list[Box]
    bottom: tuple[float, float] = (0.0, 0.0)  # metres; range of the height of its lower edge


class Pair(NamedTuple):
    classes: tuple[str, ...]
    size: tuple[float, ...]
    place: str
    bottom: tuple[float, float]
    together: int  # how many stand where only the room's type decides
    shapes: list[Callable[[float], list[Box]]]  # functions of the thickness of a style, around 1


class RoomType(NamedTuple):
    classes: dict[str, str]  # pair -> its class in such a room; the studio has no rule
    pairs: tuple[str, ...]  # objects of the kinds local and near
    furniture: tuple[tuple[str, int, int], ...]  # that tells the type: name, fewest, most
    size: tuple[float, ...]  # metres; least and most width, least and most length, of a room without a zone


BODY = Box(0, 1, 0, 1, 0, 1)
LID = Box(0, 1, 0, 1, 0.95, 1)


def legs(t: float, top: float) -> list[Box]:
    return [Box(x, x + t, y, y + t, 0, top) for x in (0, 1 - t) for y in (0, 1 - t)]


def frame(t: float) -> list[Box]:
    """Four bars; three of them without the last, the lower one."""
    return [Box(0, t, 0, 1, 0, 1), Box(1 - t, 1, 0, 1, 0, 1), Box(t, 1 - t, 0, 1, 1 - t, 1), Box(t, 1 - t, 0, 1, 0, t)]


def tub(rim: float, base: float) -> list[Box]:
    """A basin: a base and four walls above it."""
    inner, sides = (rim, 1 - rim), ((0, rim), (1 - rim, 1))
    walls = [Box(*x, 0, 1, base, 1) for x in sides] + [Box(*inner, *y, base, 1) for y in sides]
    return [Box(0, 1, 0, 1, 0, base), *walls]


# fmt: off
FURNITURE = {  # by raw category, the name that the label table translates
    # the same number in every type of room: this says nothing about it
    "chair": Furniture(5, (.42, .52, .44, .56, .80, .95), "free", [*legs(.1, .5), Box(0, 1, .05, 1, .48, .55),
        Box(.03, .97, 0, .1, .5, 1)]),
    "door": Furniture(8, (.8, .95, .05, .08, 1.85, 2.05), "hung", [*frame(.06)[:3], Box(.06, .94, 0, .5, 0, .97),
        Box(.84, .88, .5, 1.3, .47, .5)]),
    "trash can": Furniture(39, (.3, .4, .3, .4, .45, .7), "wall", [Box(0, 1, 0, 1, 0, 1, 1)]),
    "box": Furniture(29, (.3, .6, .3, .5, .25, .5), "free", [BODY]),
    "bag": Furniture(37, (.3, .45, .25, .35, .35, .5), "free", [Box(0, 1, 0, 1, 0, .85, .7),
        Box(.3, .7, .4, .6, .85, 1)]),
    "pillar": Furniture(38, (.25, .5, .2, .4, 2.2, 2.35), "wall", [BODY]),
    "object": Furniture(40, (.12, .35, .1, .25, .1, .35), "on", [Box(0, 1, 0, 1, 0, 1, .4)]),
    "pillow": Furniture(18, (.4, .55, .3, .4, .1, .18), "on", [Box(0, 1, 0, 1, 0, 1, .6)]),
    # tells the type of the room, or decides beside an object of a pair
    "office chair": Furniture(5, (.55, .65, .55, .65, .95, 1.1), "free", [
        Box(.46, .54, .46, .54, .05, .4, 1), Box(0, 1, .46, .54, .03, .1), Box(.46, .54, 0, 1, .03, .1),
        Box(.1, .9, .15, .95, .4, .5, .6), Box(.15, .85, .05, .18, .58, 1, .3), Box(.02, .1, .3, .7, .6, .65),
        Box(.9, .98, .3, .7, .6, .65)]),
    "stool": Furniture(5, (.38, .45, .38, .45, .55, .7), "free", [Box(0, 1, 0, 1, .88, 1, 1),
        Box(.4, .6, .4, .6, .06, .88, 1), Box(.1, .9, .1, .9, 0, .06, 1)]),
    "armchair": Furniture(5, (.75, .95, .75, .9, .8, .95), "free", [Box(0, 1, 0, 1, .1, .45),
        Box(0, 1, 0, .25, .45, 1, .2), Box(0, .18, .25, 1, .45, .7), Box(.82, 1, .25, 1, .45, .7)]),
    "toilet": Furniture(33, (.42, .5, .66, .74, .78, .88), "wall", [Box(0, 1, 0, .28, .45, 1),
        Box(.25, .75, .15, .75, 0, .4, .7), Box(.05, .95, .22, 1, .38, .52, 1)]),
    "sink": Furniture(34, (.45, .55, .36, .44, .88, .94), "wall", [
        Box(.4, .6, .1, .45, 0, .8, .8), *(b._replace(z0=.82 + .18 * b.z0, z1=.82 + .18 * b.z1) for b in tub(.1, .3)),
        Box(.46, .54, .08, .35, 1, 1.2)]),
    "bathtub": Furniture(36, (1.3, 1.5, .62, .72, .45, .55), "wall", tub(.08, .4)),
    "mirror": Furniture(19, (.6, .9, .03, .05, .6, .9), "hung", [Box(0, 1, 0, 1, 0, 1, holes=.2)], (1.1, 1.2)),
    "stove": Furniture(39, (.58, .65, .58, .65, .88, .94), "wall", [
        BODY, *(Box(x, x + .34, y, y + .34, 1, 1.04, 1) for x in (.1, .56) for y in (.14, .56)),
        Box(.1, .9, 1, 1.08, .72, .77), Box(0, 1, 0, .08, 1, 1.2)]),
    "dishwasher": Furniture(39, (.58, .62, .56, .6, .82, .86), "wall", [BODY, Box(.1, .9, 1, 1.1, .85, .92),
        Box(0, 1, 1, 1.03, .1, .8)]),
    "nightstand": Furniture(32, (.4, .5, .36, .45, .85, .95), "wall", [Box(0, 1, 0, 1, .08, .55),
        Box(.45, .55, .4, .6, .55, .75, 1), Box(.2, .8, .15, .85, .75, 1, 1)]),
    "clothes": Furniture(21, (.9, 1.3, .4, .5, 1.4, 1.6), "wall", [
        Box(0, 1, .46, .54, .96, 1), Box(0, .03, .1, .9, 0, .96), Box(.97, 1, .1, .9, 0, .96),
        Box(.12, .88, .25, .75, .35, .93, 0, .05)]),
    "tv stand": Furniture(39, (1.2, 1.6, .36, .45, .95, 1.15), "wall", [Box(0, 1, 0, 1, 0, .4),
        Box(.4, .6, .3, .6, .4, .45), Box(.08, .92, .4, .5, .45, 1)]),
    "ottoman": Furniture(39, (.55, .8, .55, .8, .36, .44), "free", [Box(0, 1, 0, 1, 0, 1, .9)]),
    "floor lamp": Furniture(35, (.4, .5, .4, .5, 1.5, 1.75), "free", [Box(.2, .8, .2, .8, 0, .03, 1),
        Box(.46, .54, .46, .54, .03, .8, 1), Box(0, 1, 0, 1, .78, 1, 1)]),
    "plant": Furniture(40, (.5, .7, .5, .7, 1.0, 1.3), "free", [
        Box(.3, .7, .3, .7, 0, .25, 1), Box(.46, .54, .46, .54, .25, .5, 1), Box(.1, .9, .1, .9, .45, .7, 1, .06),
        Box(.22, .78, .22, .78, .7, 1, 1, .06)]),
    "radiator": Furniture(39, (.8, 1.2, .1, .14, .55, .65),
        "hung", [*(Box(x / 8, x / 8 + .09, 0, 1, 0, 1) for x in range(8)), Box(0, 1, .2, .6, .08, .92)], (.12, .18)),
    "suitcase": Furniture(37, (.42, .5, .25, .3, .95, 1.1), "free", [
        Box(0, 1, 0, 1, .05, .65), Box(.2, .26, .4, .6, .65, .97), Box(.74, .8, .4, .6, .65, .97),
        Box(.2, .8, .4, .6, .97, 1)]),
    "books": Furniture(23, (.4, .5, .35, .45, .5, .7), "free", [Box(.1 * (i % 3), 1 - .1 * (i % 2), .08 * (i % 2),
        1 - .1 * (i % 3), i / 5, i / 5 + .17) for i in range(5)]),
    "whiteboard": Furniture(30, (1.5, 2.2, .04, .06, .9, 1.1), "hung", [*frame(.03), Box(.03, .97, 0, .5, .03, .97),
        Box(.2, .8, 1, 2.5, -.04, 0)], (.8, 1.0)),
    "television": Furniture(25, (1.0, 1.4, .07, .1, .6, .8), "hung", [BODY], (1.1, 1.3)),
    "stack of boxes": Furniture(29, (.6, .9, .5, .6, .9, 1.5), "wall", [Box(0, 1, 0, 1, 0, .4),
        Box(.08, .85, .1, .95, .4, .75), Box(.2, .7, .05, .8, .75, 1)]),
    "ladder": Furniture(39, (.45, .55, .5, .7, 1.6, 1.9), "wall", [*legs(.1, 1),
        *(Box(.1, .9, .9, 1, z / 6, z / 6 + .04) for z in range(1, 6)), LID]),
}
EVERYWHERE = ("chair", "door", "trash can", "box", "bag", "pillar", "object", "pillow")

PAIRS = {
    "slab": Pair(("desk", "table"), (1.3, 2.0, .7, .95, .70, .78), "wall", (0, 0), 3, [
        lambda t: [LID, *legs(.06 * t, .95)],
        lambda t: [LID, Box(0, .04 * t, 0, 1, 0, .95), Box(1 - .04 * t, 1, 0, 1, 0, .95)],
        lambda t: [LID, *(Box(x, x + .06 * t, *y)
            for x in (.12, .82) for y in ((.4, .6, .05, .95), (.05, .95, 0, .06)))]]),
    "box": Pair(("counter", "cabinet"), (.9, 1.5, .48, .62, .86, .94), "wall", (0, 0), 3, [
        lambda t: [BODY],
        lambda t: [Box(.02 * t, 1 - .02 * t, 0, .95, 0, .95), LID],
        lambda t: [Box(.03 * t, 1 - .03 * t, 0, .94, 0, .1), Box(0, 1, 0, 1, .1, 1)]]),
    "sheet": Pair(("shower curtain", "curtain"), (.9, 1.5, .05, .08, 1.7, 2.1), "hung", (.1, .3), 2, [
        lambda t: [Box(0, 1, 0, 1, 0, 1, 0, .04 * t)],
        lambda t: [Box(0, .48, 0, 1, 0, 1, 0, .04 * t), Box(.52, 1, 0, 1, 0, 1, 0, .04 * t)]]),
    "tall": Pair(("refrigerator", "bookshelf", "cabinet"), (.6, .9, .42, .65, 1.6, 1.9), "wall", (0, 0), 3, [
        lambda t: [BODY],
        lambda t: [Box(0, 1, 0, 1, 0, .6), Box(.02, .98, 0, .96, .6, .6 + .02 * t), Box(0, 1, 0, 1, .6 + .02 * t, 1)],
        lambda t: [Box(.04 * t, 1 - .04 * t, 0, .94, 0, .06), Box(0, 1, 0, 1, .06, 1)]]),
    "rectangle": Pair(("window", "picture"), (.8, 1.4, .04, .07, .8, 1.2), "hung", (.9, 1.1), 3, [
        lambda t: [*frame(.06 * t), Box(.06 * t, 1 - .06 * t, 0, .4, .06 * t, 1 - .06 * t, holes=.3)],
        lambda t: [*frame(.1 * t), Box(.1 * t, 1 - .1 * t, 0, .4, .1 * t, 1 - .1 * t, holes=.3)]]),
    "padded": Pair(("bed", "sofa"), (1.7, 2.1, .9, 1.5, .42, .55), "wall", (0, 0), 2, [
        lambda t: [Box(0, 1, 0, 1, 0, .5), Box(.01, .99, .01, .99, .5, 1, .08 * t)],
        lambda t: [*legs(.06 * t, .25), Box(0, 1, 0, 1, .25, 1, .1)]]),
}

CUES = {  # what only an object of the kind "local" carries
    "desk": [Box(.66, .94, .1, .92, 0, .95), Box(.1, .6, .05, .35, 1, 1.2), Box(.15, .55, .12, .2, 1.2, 1.75)],
    "table": [Box(.4, .6, .35, .65, 0, .95, 1), Box(.06, .94, .46, .54, .15, .24), Box(.38, .62, .3, .7, 1, 1.14, 1)],
    "counter": [Box(0, 1, 0, .06, 1, 1.5), Box(-.03, 1.03, 1, 1.12, .9, 1), Box(.46, .54, .1, .3, 1, 1.28)],
    "cabinet": [Box(x, x + w, y, y + .07, *z) for x, w, y, z in ((.04, .43, 1, (.08, .92)), (.53, .43, 1, (.08, .92)),
        (.4, .05, 1.06, (.4, .6)), (.55, .05, 1.06, (.4, .6)))],
    "shower curtain": [Box(-.05, 1.05, .3, .7, 1.05, 1.07),
        *(Box(x / 5, x / 5 + .03, .2, .8, .98, 1.06) for x in range(5))],
    "curtain": [Box(-.04, 1.04, -.3, 2.8, .92, 1.06), Box(.2, .8, 1, 2.2, .42, .5)],
    "refrigerator": [Box(0, 1, 1, 1.05, .64, .99), Box(0, 1, 1, 1.05, .06, .6), Box(.1, .15, 1.05, 1.16, .2, .55),
        Box(.1, .15, 1.05, 1.16, .66, .9)],
    "bookshelf": [*(Box(0, 1, 1, 1.4, z / 5, z / 5 + .02) for z in range(5)), Box(0, .03, 1, 1.4, 0, 1),
        Box(.97, 1, 1, 1.4, 0, 1), *(Box(x, x + .25, 1, 1.25, z / 5 + .02, z / 5 + .15)
            for x, z in ((.1, 1), (.4, 2), (.65, 0), (.6, 3), (.1, 4)))],
    "window": [Box(.47, .53, 0, 1.5, 0, 1), Box(0, 1, 0, 1.5, .47, .53), Box(-.08, 1.08, 0, 4, -.08, -.02)],
    "picture": [Box(.22, .78, .4, 1.1, .22, .78), Box(.35, .65, 0, 3.2, 1.04, 1.12)],
    "bed": [Box(-.04, 0, 0, 1, 0, 2.1), Box(.03, .2, .1, .46, 1, 1.28, .8), Box(.03, .2, .54, .9, 1, 1.28, .8)],
    "sofa": [Box(0, 1, 0, .2, 1, 1.85), Box(0, .1, .2, 1, 1, 1.4), Box(.9, 1, .2, 1, 1, 1.4)],
}
COMPANIONS = {  # what stands 0.6 to 1.4 m from an object of the kind "near" and decides its class
    "desk": "office chair", "table": "stool", "counter": "sink", "cabinet": "suitcase", "shower curtain": "toilet",
    "curtain": "radiator", "refrigerator": "stove", "bookshelf": "books", "window": "plant", "picture": "floor lamp",
    "bed": "nightstand", "sofa": "tv stand",
}

ROOM_TYPES = {
    "bedroom": RoomType(
        dict(slab="desk", box="cabinet", sheet="curtain", tall="cabinet", rectangle="picture", padded="bed"),
        ("padded", "slab", "tall", "sheet"), (("nightstand", 1, 2), ("clothes", 1, 1)), (3.0, 4.2, 3.8, 5.5)),
    "living room": RoomType(
        dict(slab="table", box="cabinet", sheet="curtain", tall="bookshelf", rectangle="picture", padded="sofa"),
        ("padded", "padded", "slab", "tall"),
        (("tv stand", 1, 1), ("armchair", 1, 2), ("ottoman", 1, 1), ("floor lamp", 1, 1)), (3.5, 5.5, 4.5, 6.5)),
    "kitchen": RoomType(
        dict(slab="table", box="counter", tall="refrigerator", rectangle="window"), ("box", "slab", "tall"),
        (("stove", 1, 1), ("sink", 0, 1), ("dishwasher", 1, 1), ("stool", 1, 2)), (2.6, 4.0, 3.6, 5.0)),
    "bathroom": RoomType(
        dict(box="counter", sheet="shower curtain", rectangle="window"), ("sheet", "box"),
        (("bathtub", 1, 1), ("toilet", 1, 1), ("sink", 0, 1), ("mirror", 1, 1)), (2.4, 3.4, 3.6, 4.8)),
    "office": RoomType(
        dict(slab="desk", box="cabinet", sheet="curtain", tall="bookshelf", rectangle="window", padded="sofa"),
        ("slab", "slab", "tall", "rectangle"), (("office chair", 2, 3), ("whiteboard", 1, 1)), (3.0, 5.0, 4.0, 6.0)),
    "meeting room": RoomType(
        dict(slab="table", tall="bookshelf", rectangle="window"), ("slab", "slab", "rectangle"),
        (("whiteboard", 1, 1), ("television", 1, 1), ("armchair", 1, 3)), (3.5, 5.5, 5.0, 7.0)),
    "storage": RoomType(
        dict(box="cabinet", tall="cabinet", rectangle="picture"), ("tall", "box", "rectangle"),
        (("stack of boxes", 2, 4), ("ladder", 1, 1), ("suitcase", 1, 2)), (2.2, 3.2, 4.5, 8.0)),
    "studio": RoomType({}, ("padded", "slab", "tall", "box", "sheet"), (), (4.0, 6.0, 5.5, 8.0)),
}
# fmt: on
