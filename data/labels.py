"""Label spaces: which ids the files of a data set hold, and what is to be learnt of them.

A label space goes with the data (manifest.json) and with what was trained on them (checkpoints, exports). Two
numberings meet in it: `ids` (0..65535) are what files hold, of scans and of scenes; `classes` (0..C-1) are what a
network tells apart: the named ones from 1 on, and 0 for everything else.
Built in: data/labels_<name>.json, which are examples of the file, too, and name their sources.
"""

import colorsys
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

BUILT_IN = ("scannet20", "scannet200", "s3dis")
NUM_IDS = 65_536  # scene files hold them as uint16
MAX_CLASSES = 1_000  # confusion counts are their square
NONE = "none"  # the name of class 0
# Files of format 1 know no label space but scannet20, and call by these names what `label` and `histogram` are now
LABEL_OF_FORMAT_1, HISTOGRAM_OF_FORMAT_1 = "nyu40", "nyu40_histogram"


class LabelError(ValueError):
    """A label space that is none: the message says what is wrong."""


class SemanticClass(NamedTuple):
    name: str
    ids: tuple[int, ...]  # in the files; a prediction is written as the first
    colour: tuple[int, int, int]
    weight: float | None = None  # share of the calibrated accuracy, before normalisation to 1


@dataclass(frozen=True)
class LabelSpace:
    """C - 1 classes by name, and the ids of what is none of them. Raises LabelError if they contradict each other."""

    name: str
    classes: tuple[SemanticClass, ...]  # class 1 first
    unannotated: tuple[int, ...] = ()  # ids of what nobody labelled
    other: tuple[int, ...] = ()  # ids of what was labelled, and is none of the classes

    def __post_init__(self):
        if not self.name.isprintable():
            raise LabelError(f"the name {self.name!r} is no text of one line")
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise LabelError(f"there are {len(self.classes)} classes, and there have to be 1 to {MAX_CLASSES}")
        owners = {}
        for owner, ids in [*((c.name, c.ids) for c in self.classes), *self._without_class]:
            for id in ids:
                if not 0 <= id < NUM_IDS:
                    raise LabelError(f"'{owner}' has the id {id}, and ids go from 0 to {NUM_IDS - 1}")
                if id in owners:
                    raise LabelError(f"'{owners[id]}' and '{owner}' both have the id {id}")
                owners[id] = owner
        if sum(len(c.ids) for c in self.classes) == NUM_IDS:
            raise LabelError("all ids are of classes, and there has to be one that is of none")
        names = [NONE, *(c.name.casefold() for c in self.classes)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise LabelError(f"two classes are called '{twice[0]}'" if twice[0] != NONE else f"'{NONE}' is class 0")
        if len({c.weight is None for c in self.classes}) > 1:
            raise LabelError("some classes have a weight and others have none: give it to all or to none")

    @property
    def _without_class(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return ("unannotated", self.unannotated), ("other", self.other)

    @property
    def num_classes(self) -> int:
        """C, with class 0: a network's outputs."""
        return 1 + len(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """(C,), with "none" first."""
        return (NONE, *(c.name for c in self.classes))

    @cached_property
    def palette(self) -> np.ndarray:
        """(C, 3) uint8 RGB; black for class 0."""
        return np.array([(0, 0, 0), *(c.colour for c in self.classes)], dtype=np.uint8)

    @cached_property
    def weights(self) -> np.ndarray | None:
        """(C - 1,) float64 weights of the calibrated accuracy; None if the space has none."""
        return None if self.classes[0].weight is None else np.array([c.weight for c in self.classes], dtype=np.float64)

    @cached_property
    def class_of(self) -> np.ndarray:
        """(65536,) uint16: ids -> classes; 0 for all that are no class's."""
        table = np.zeros(NUM_IDS, dtype=np.uint16)
        for number, semantic_class in enumerate(self.classes, start=1):
            table[list(semantic_class.ids)] = number
        return table

    @cached_property
    def is_annotated(self) -> np.ndarray:
        """(65536,) bool: the ids of classes and of `other`."""
        return (self.class_of > 0) | np.isin(np.arange(NUM_IDS), self.other)

    @cached_property
    def id_of(self) -> np.ndarray:
        """(C,) uint16: classes -> the ids that predictions are written with. Of class 0 an id that no class has."""
        free = np.flatnonzero(self.class_of == 0)
        none = (*self.unannotated, 0 if 0 in free else free[-1])[0]
        return np.array([none, *(c.ids[0] for c in self.classes)], dtype=np.uint16)

    def outside(self, histogram: dict[int, int]) -> dict[int, int]:
        """The part of {id: count} whose ids are not in this space."""
        known = self.is_annotated
        return {id: count for id, count in histogram.items() if not known[id] and id not in self.unannotated}

    def differences(self, other: "LabelSpace") -> list[str]:
        """What is otherwise in the other space, and changes what labels mean: the spaces' names and colours do not."""
        if len(self.classes) != len(other.classes):
            return [f"{len(self.classes)} classes and not {len(other.classes)}"]
        found = []
        for number, (ours, theirs) in enumerate(zip(self.classes, other.classes, strict=True), start=1):
            if (ours.name, ours.ids) != (theirs.name, theirs.ids):
                found.append(f"class {number} is {_told(ours)} and not {_told(theirs)}")
        for (what, ours), (_, theirs) in zip(self._without_class, other._without_class, strict=True):
            if apart := sorted({*ours} ^ {*theirs}):
                found.append(f"{what} differs in the ids {', '.join(map(str, apart[:10]))}")
        return found

    def as_json(self) -> dict:
        """What `from_json` reads."""
        classes = []
        for c in self.classes:
            entry = {"id": c.ids[0] if len(c.ids) == 1 else list(c.ids), "name": c.name, "colour": list(c.colour)}
            classes.append(entry if c.weight is None else entry | {"weight": c.weight})
        return {
            "name": self.name,
            "classes": classes,
            "unannotated": list(self.unannotated),
            "other": list(self.other),
        }


def from_json(content: dict) -> LabelSpace:
    """The space of a label file's content. Raises LabelError."""
    wanted = {"name", "classes"}
    if not isinstance(content, dict) or not wanted <= content.keys() <= wanted | {"unannotated", "other", "source"}:
        form = "it has to be an object of name, classes and, if there are such ids, unannotated and other"
        known = wanted | {"unannotated", "other", "source"}
        unknown = ", ".join(sorted(map(str, content.keys() - known))[:5]) if isinstance(content, dict) else ""
        raise LabelError(f"{form}{f', without {unknown}' if unknown else ''}")
    if not isinstance(content["name"], str) or not content["name"].strip():
        raise LabelError("its name is not a text")
    if not isinstance(content["classes"], list):
        raise LabelError("classes is not a list")
    if len(content["classes"]) > MAX_CLASSES:
        raise LabelError(f"there are {len(content['classes'])} classes, and at most {MAX_CLASSES} can be told apart")
    classes = tuple(_class_from_json(number, entry) for number, entry in enumerate(content["classes"], start=1))
    without = {key: _ids(key, content.get(key, [])) for key in ("unannotated", "other")}
    return LabelSpace(content["name"].strip(), classes, **without)


def label_space(name: str | Path) -> LabelSpace:
    """A built-in space by its name, or that of a JSON file. Raises LabelError, which names the file."""
    is_built_in = str(name) in BUILT_IN
    path = Path(__file__).with_name(f"labels_{name}.json") if is_built_in else Path(name)
    try:
        space = from_json(json.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        raise LabelError(f"{path}: no such file; built-in label spaces are {', '.join(BUILT_IN)}") from error
    except LabelError as error:
        raise LabelError(f"{path}: is no label space: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LabelError(f"{path}: cannot be read as JSON ({error})") from error
    if space.name in BUILT_IN and not is_built_in and space != label_space(space.name):
        raise LabelError(f"{path}: '{space.name}' is a built-in label space with other classes; choose another name")
    return space


def histogram(label: np.ndarray) -> dict[int, int]:
    """{id: count} of (V,) uint16 ids, in their order."""
    counts = np.bincount(label)
    return {int(id): int(counts[id]) for id in np.flatnonzero(counts)}


def name_width(names: Iterable[str]) -> int:
    """How wide a printed table's column of class names is."""
    return max(16, *(1 + len(name) for name in names))


def as_labels(values: np.ndarray, where: str) -> np.ndarray:
    """(V,) uint16 of (V,) integers of any type. Raises LabelError if they are not ids."""
    advice = "labels have to be one integer a point"
    if values.ndim != 1:
        raise LabelError(f"{where} has shape {values.shape}; {advice}")
    if values.dtype.kind not in "iu":
        raise LabelError(f"{where} is {values.dtype}; {advice}")
    if len(values) and not 0 <= values.min() <= values.max() < NUM_IDS:
        raise LabelError(f"{where} holds {values.min()} to {values.max()}; ids go from 0 to {NUM_IDS - 1}")
    return values.astype(np.uint16)


def _class_from_json(number, entry):
    where = f"class {number}"
    if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys() <= {"id", "name", "colour", "weight"}:
        raise LabelError(f"{where} has to be an object of id, name and, if you like, colour and weight")
    name, weight = entry["name"], entry.get("weight")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise LabelError(f"{where} has the name {name!r}, which is no text of one line")
    where = f"{where} ('{name}')"
    if not (ids := _ids(f"the id of {where}", entry["id"] if isinstance(entry["id"], list) else [entry["id"]])):
        raise LabelError(f"{where} has no id")
    colour = entry.get("colour", _colour(number))
    is_byte = [type(value) is int and 0 <= value <= 255 for value in colour] if isinstance(colour, list | tuple) else []
    if len(is_byte) != 3 or not all(is_byte):
        raise LabelError(f"{where} has the colour {colour}, which is not red, green and blue from 0 to 255")
    if weight is not None and not (type(weight) in (int, float) and 0 < weight < float("inf")):
        raise LabelError(f"{where} has the weight {weight}, which is no positive number")
    return SemanticClass(name.strip(), ids, tuple(colour), weight)


def _ids(what, values):
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise LabelError(f"{what} is {str(values)[:60]}, and has to be integers")
    return tuple(values)


def _colour(number):
    """A colour for the class of that number: hues that are far apart for numbers that are close."""
    hue = 0.618034 * number % 1  # the golden ratio
    return tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.45 + 0.2 * (number % 3), 0.9))


def _told(c):
    return f"'{c.name}' (id {', '.join(map(str, c.ids))})"


SCANNET20 = label_space("scannet20")  # the paper's, and the default
