"""Furniture that people designed: the models of Sweet Home 3D's libraries (.sh3f), sorted by nyu40 category.

A library is a zip: PluginFurnitureCatalog.properties (name, size and elevation in cm, creator) and Wavefront OBJ
models, in which y is up and the front is +z. Debian's package sweethome3d-furniture has five, CC BY 3.0 and CC0;
`credits` says whom to name where something was made with them. Sizes are the catalogues'. Metres.
"""

import itertools
import re
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fast_simplification import simplify

from data.rooms.surfaces import Piece, Surface, Thing

CATALOGUE = "PluginFurnitureCatalog.properties"
MAX_BYTES = 64 * 2**20  # of an entry, unpacked
MAX_FACES = 6_000  # 1 in 30 larger models then loses over 5 % of its surface; with 4,000, 1 in 16
CELL = 0.004  # m: vertices as close as that are one before a model is simplified, or parts that only touch come apart
MAX_SIZE = 4.0  # m, of a side: what is larger is no furniture, or its size is not in cm

# Words of a catalogue name, the first list that has one decides; None is of no use in a room. The categories are those
# of ScanNet's label table: there a stool is otherprop, a wardrobe otherfurniture, a stove otherstructure.
WORDS = (
    (
        None,
        "deck chair|beach|lounge|relax|wheelchair|high chair|garage|elevator|park|porch|street|outdoor|sleeping bag",
    ),
    (None, "shutter|plug|socket|switch|swimming|hedge|carpet|rug|parking|fountain|letters box|stone lantern|barrel"),
    (None, "range hood|cooktop|induction|basketball net|surveillance|intercom"),
    (
        "otherprop",
        "remote|table fan|tennis bat|car model|doll(?! house)|toilet (paper|brush)|paper towel|towel rack|stool|bike",
    ),
    (
        "otherprop",
        "(bread|medicine|flower|plant|pen) ?box|spotlight|flashlight|small oven|cooker|clothes (hanger|basket)",
    ),
    ("otherstructure", "light|ceiling lamp|stove|oven|hood|fireplace|island(?! bath)|shower stall"),
    ("lamp", "lamp|lantern"),
    ("refrigerator", "fridge|refrigerator|freezer"),
    ("night stand", "bedside table|night ?stand"),
    ("otherfurniture", "(pool|football) table|table tennis|(bunk|mezzanine|baby) bed|crib|wardrobe|safe|doll ?house"),
    ("otherfurniture", "(dressing|changing) table|(tv|television) (stand|cabinet)|piano|bench|workbench|puff"),
    ("otherfurniture", "dustbin|trash ?can|bin|radiator|washing machine|dryer|water cooler|treadmill|fitness tower"),
    ("otherfurniture", "clothes (rack|horse)|ladder|trunck|crate|punching ball|furnace|flipper|screen(?! door)"),
    ("shower curtain", "shower curtain"),
    ("curtain", "curtain"),
    ("blinds", "blind"),
    ("cabinet", "cabinet|vanity|cupboard|locker"),
    ("window", "window"),
    ("door", "door"),
    ("toilet", "toilets? unit|toilet|urinal"),
    ("sink", "washbasin|lavatory|sink"),
    ("bathtub", "bath|bathtub"),
    ("dresser", "dresser|chest"),
    ("bookshelf", "bookcase|bookshelf"),
    ("shelves", "shelves"),
    ("desk", "desk|technical table|wooden ([a-z]+ )?table"),
    ("bed", "bed|futon(?! couch)|mattress|opened convertible sofa"),
    ("sofa", "sofa|couch"),
    ("chair", "chair|armchair|seat"),
    ("table", "table"),
    ("television", "tv"),
    ("whiteboard", "white ?board"),
    ("books", "book"),
    ("bag", "handbag|briefcase|bag"),
    ("box", "box|gift"),
    ("clothes", "clothes|suit|dress|trousers|jacket|skirt"),
    ("towel", "towel"),
    ("floor mat", "doormat|bathmat"),
    ("otherprop", "plant|cactus|orchids|bamboo|yucca|spathiphyllum|tulips|lily|flowers|ficus|bonsai|christmas tree"),
    ("otherprop", "vase|jar|pottery|cup|mug|glass|teapot|bottle|bowl|plate|pan|tray|blender|mixer|toaster|microwave"),
    ("otherprop", "bread|coffee [a-z]+|knife stand|utensils|kitchen scale|creamer|milk|apples|cake|deep fryer"),
    ("otherprop", "sandwich maker|espresso kettle|boiler|spice tower|squeezer|stone grill|cosmetics|soap|laptop|ibook"),
    ("otherprop", "imac|keyboard|printer|phone|radio|stereo|speaker|camera|dvd|playstation|video projector|mp3 [a-z]+"),
    ("otherprop", "amplifier|clock|fan|teddy bear|deer|toy|biplane|rocking horse|basketball|soccer ball|guitar|frame"),
    ("otherprop", "backpack|suitcase|basket|shoes|sneakers|slippers|bootie|hat|helmet|candle|letter tray|calendar"),
    ("otherprop", "newspaper|umbrella|extinguisher|broom|potty|headphones|aquarium|water heater|thermometer|xylophone"),
)
# Models, by the catalogues' ids, whose names mislead; None where one holds things of several categories, or a wall's
MISLEADING = {
    "Blend Swap CC-0#bookcase": "cabinet",
    "Blend Swap CC-0#foldingChair": "otherprop",
    "Blend Swap CC-0#knifeStandSwap": None,
    "Blend Swap CC-0#lockedLocker": None,
    "Blend Swap CC-0#stove": None,
    "Blend Swap CC-0#umbrella": None,
    "Blend Swap CC-0#verticalShelves": "bookshelf",
    "Blend Swap CC-BY#kitchenSink": "cabinet",
    "Blend Swap CC-BY#towel": None,
    "Scopia#bamboo": None,
    "Scopia#bathroom1": None,
    "Scopia#bathroom_vanity": None,
    "Scopia#box_room": "cabinet",
    "Scopia#chandelier-lamp": None,
    "Scopia#dining_room": "cabinet",
    "Scopia#double_vanity": None,
    "Scopia#ext_chair": "sofa",
    "Scopia#ficusTree": None,
    "Scopia#kids_shelves": "bookshelf",
    "Scopia#kitchenHood": None,
    "Scopia#office_box": "cabinet",
    "Scopia#office_furniture1": "cabinet",
    "Scopia#seat_leon": None,
}
# What reading a zip and what is in it raises
BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Model(NamedTuple):
    name: str  # nyu40's
    title: str  # the catalogue's name for it
    surface: Surface  # in the frame of a Piece, the bottom at its elevation
    size: np.ndarray  # (3,) width, depth, height
    creator: str
    licence: str
    library: str


def kind(entry: dict[str, str]) -> str | None:
    """The nyu40 category of a model of a catalogue; None: of no use in a room."""
    title = entry.get("name", "").lower()
    by_name = next((name for name, words in WORDS if re.search(rf"\b({words})\b", title)), None)
    return MISLEADING.get(entry.get("id"), by_name)


def read_obj(text: bytes) -> Surface:
    """The polygons of a Wavefront OBJ file as triangles. ValueError: it is broken, or has none."""
    xyz, faces = [], []
    for line in re.sub(rb"\\\r?\n", b" ", text).splitlines():
        match line.split():
            case [b"v", x, y, z, *_]:
                xyz.append((float(x), float(y), float(z)))
            case [b"f", *corners]:
                ids = [int(corner.split(b"/")[0]) for corner in corners]
                ids = [i + len(xyz) if i < 0 else i - 1 for i in ids]  # counted from 1, or back from the latest
                faces.extend((ids[0], *two) for two in zip(ids[1:], ids[2:], strict=False))
    if not faces:
        raise ValueError("it has no faces")
    if min(map(min, faces)) < 0 or max(map(max, faces)) >= len(xyz) or not np.isfinite(xyz).all():
        raise ValueError("a face has a vertex that is not there, or a vertex is not finite")
    used, ids = np.unique(faces, return_inverse=True)
    return Surface(np.array(xyz)[used], ids.reshape(-1, 3))


def read_catalogue(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Of a catalogue's text: what it says of itself, and of each of its models."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    own, models = {}, {}
    for key, number, value in re.findall(r"^(\w+)(?:#(\d+))?\s*[=:]\s*(.*?)\s*$", text, re.M):
        (models.setdefault(number, {}) if number else own)[key] = value
    return own, list(models.values())


def read_entry(library: zipfile.ZipFile, name: str) -> bytes:
    if library.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES >> 20} MB")
    return library.read(name)


def fitted(surface: Surface, rotation: np.ndarray, size: np.ndarray, elevation: float) -> Surface:
    """From an OBJ's frame to a Piece's, as large as the catalogue says."""
    xyz = surface.xyz @ rotation.T
    xyz = (xyz - xyz.min(0)) / np.maximum(np.ptp(xyz, 0), 1e-9) * size[[0, 2, 1]]
    xyz = np.stack((size[0] / 2 - xyz[:, 0], xyz[:, 2], xyz[:, 1] + elevation), 1)
    return thinned(Surface(xyz, surface.faces))


def thinned(surface: Surface) -> Surface:
    """With no more than MAX_FACES triangles, or not many more: what looks the same where that is possible."""
    if len(surface.faces) <= MAX_FACES:
        return surface
    cells, same = np.unique(np.round(surface.xyz / CELL), axis=0, return_inverse=True)
    faces = same[surface.faces]
    corners, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    faces = faces[first[(np.diff(corners) > 0).all(1)]]  # each once, and none without an area
    xyz = cells * CELL
    if len(faces) > MAX_FACES:
        xyz, faces = simplify(xyz.astype(np.float32), faces.astype(np.int32), target_count=MAX_FACES, agg=5)
    return Surface(xyz.astype(float), faces.astype(int))


def floats(text: str) -> np.ndarray:
    values = np.array(text.split(), float)
    if not np.isfinite(values).all():
        raise ValueError(f"'{text}' is not finite")
    return values


def read_model(library: zipfile.ZipFile, entry: dict[str, str], name: str, licence: str) -> Model:
    """A model of a catalogue, as an nyu40 category. One of BROKEN: it is missing or broken."""
    size = floats(f"{entry['width']} {entry['depth']} {entry['height']}") / 100
    if not 0 < size.min() <= size.max() < MAX_SIZE:
        raise ValueError(f"its sides of {', '.join(f'{side:g}' for side in size)} m are not a piece of furniture's")
    rotation = floats(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1")).reshape(3, 3)
    surface = read_obj(read_entry(library, entry["model"].lstrip("/")))
    surface = fitted(surface, rotation, size, floats(entry.get("elevation", "0")).item() / 100)
    licence = " ".join(entry.get("license", licence).split())
    return Model(name, entry["name"], surface, size, entry.get("creator", "?"), licence, Path(library.filename).stem)


def read_library(path: Path) -> list[Model]:
    """Its models that are of use in a room; prints which are broken. One of BROKEN: the library itself is."""
    models = []
    with zipfile.ZipFile(path) as library:
        own, entries = read_catalogue(read_entry(library, CATALOGUE).decode("latin-1"))
        if not entries:
            raise ValueError(f"{CATALOGUE} lists no models")
        for entry in entries:
            name = kind(entry)
            try:
                models += [read_model(library, entry, name, own.get("license", "?"))] if name else []
            except BROKEN as error:
                print(f"skipped the model {entry.get('id')} of {path}: {error!r}")
    return models


def read_furniture(folder: Path) -> dict[str, list[Model]]:
    """The models in a folder's libraries that are of use in a room, by nyu40 category; prints what is broken.

    ValueError: there are no libraries, or no models in them.
    """
    paths = sorted(Path(folder).glob("*.sh3f"))
    if not paths:
        raise ValueError(f"{folder} has no furniture libraries (*.sh3f): Debian's sweethome3d-furniture has some")
    models = {}
    for path in paths:
        try:
            for model in read_library(path):
                models.setdefault(model.name, []).append(model)
        except BROKEN as error:
            print(f"skipped {path}: {error!r}")
    if not models:
        raise ValueError(f"{folder}: none of its furniture libraries has a model that can be used")
    return models


def designed(rng: np.random.Generator, model: Model) -> Piece:
    """A model as it is made in other sizes, or its mirror image."""
    stretch = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)
    width, depth, _ = model.size * stretch
    stretch[0] *= rng.choice((-1, 1))
    bottom = np.array((0, 0, model.surface.xyz[:, 2].min()))
    surface = model.surface._replace(xyz=(model.surface.xyz - bottom) * stretch + bottom)
    return Piece([Thing(model.name, [surface])], width, depth)


def credits(models: dict[str, list[Model]]) -> str:
    """Whom to name for the models, in Markdown: a line for each library."""
    creators = {}
    for model in itertools.chain.from_iterable(models.values()):
        creators.setdefault(f"* {model.library} ({model.licence})", set()).add(model.creator)
    return "".join(f"{library}: {', '.join(sorted(names))}\n" for library, names in sorted(creators.items()))
