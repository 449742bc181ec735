"""Tables of numbers as text, in: XYZ, TXT and CSV, a point a line, by NumPy. V points.

Columns are named by a first line, as `x,y,z,r,g,b` or CloudCompare's `//X Y Z R G B`; without one, by what they hold.
"""

import re
from pathlib import Path

import numpy as np

from data.columns import LABELS, NAMES, whole
from data.formats.stored import Stored

TEXT = (".xyz", ".txt", ".csv")  # endings
HEAD = 65536  # bytes in which the table has to begin
QUOTE = '"'
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf)", re.I | re.A)
KNOWN = {*LABELS, *(name for of_field in NAMES.values() for names in of_field for name in names)}
MOST_COLUMNS = 1000  # far more than a point has; each is a column of the output, which takes time
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how text in it begins
UNIT = 0.01  # by which the length of a normal may differ from 1, as written with few digits
NORMAL, COLOUR = ["nx", "ny", "nz"], ["red", "green", "blue"]


def is_table(path: Path) -> bool:
    """Whether the file has a line of three numbers or more near its beginning, or is other text. Raises OSError."""
    return _first_row(path) is not None


def read_text(path: Path) -> Stored:
    """A table's columns by name; the coordinates are doubles, whole numbers have the smallest type that holds them.

    Without names they are x, y, z, then three normals where they have unit length, red, green and blue where they are
    from 0 to 1 or whole from 0 to 255, and column4, column5, ...; of seven, x y z r g b label. Raises ValueError.
    """
    if (first := _first_row(path)) is None:
        with path.open("rb") as stream:
            is_utf16 = stream.read(2) in UTF16
        raise ValueError("it is UTF-16; save it as UTF-8" if is_utf16 else "it has no line of three numbers or more")
    skipped, row, names, encoding = first
    if (wide := len(_words(row))) > MOST_COLUMNS:  # of those before HEAD
        raise ValueError(f"it has more than {MOST_COLUMNS} columns; leave out what is not needed")
    delimiter = next((mark for mark in ";," if mark in row), None)
    if "," in row and any(len(_words(part)) > 1 for part in row.split(delimiter)):  # more in it than one number
        raise ValueError("it has decimal commas, or two marks between numbers; write 0.5 with a point, and one mark")
    used = range(wide) if delimiter and row.endswith(delimiter) else None
    quote = QUOTE if QUOTE in row else None
    table = np.loadtxt(
        path, delimiter=delimiter, skiprows=skipped, ndmin=2, encoding=encoding, usecols=used, quotechar=quote
    )
    columns = [*table.T]
    if names and len(names) != len(columns):
        raise ValueError(f"it has {len(columns)} columns and the names {' '.join(names)[:300]}")
    xyz = next((xyz for xyz in NAMES["xyz"] if names and {*xyz} <= {*names}), names)
    columns = [
        column if place < 3 and not names or names and names[place] in xyz else _narrow(column)
        for place, column in enumerate(columns)
    ]
    notes = ()
    if not names:
        names = _guessed(columns)
        notes = (f"{path}: no line names x, y and z; its columns are taken for {' '.join(names)[:300]}",)
    return Stored(dict(zip(names, columns, strict=True)), notes=notes)


def _first_row(path):
    """How many lines stand before the first row of numbers, that row, the names of its columns or None, and the
    encoding; None if there is no such row."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    encoding = "utf-8-sig" if head.startswith(BYTE_ORDER_MARK) else "latin-1"  # in which every byte is a character
    if b"\0" in head:
        return None
    names = None
    for number, line in enumerate(head.decode(encoding, "replace").split("\n")):
        words = _words(line)
        if len(words) > 2 and all(NUMBER.fullmatch(word) for word in words):
            return number, line.strip(), names, encoding
        words = [word.lower() if word.lower() in KNOWN else word for word in words]
        if any({*xyz} <= {*words} for xyz in NAMES["xyz"]) and len({*words}) == len(words):
            names = words
    return None


def _words(line):
    """The fields of a line, without quotes and the marks of a comment."""
    return [word for word in re.split(r"[;,\s]+", line.replace(QUOTE, "").lstrip("#/!; \t")) if word]


def _narrow(column):
    """Whole numbers as the smallest type of u1, u2 and i4 that holds them; other numbers as they are."""
    values = whole(column)
    if values.dtype.kind != "i":
        return values
    low, high = values.min(), values.max()
    fit = (t for t in ("u1", "u2", "i4") if np.iinfo(t).min <= low <= high <= np.iinfo(t).max)
    return values.astype(next(fit, "f8"))


def _guessed(columns):
    """Names of the columns (V,), by what they hold."""
    names, place = [*"xyz"], 3
    while place < len(columns):
        three, found = columns[place : place + 3], None
        if len(three) == 3 and "nx" not in names and _is_normal(three):
            found = NORMAL
        elif len(three) == 3 and "red" not in names and _is_colour(three):
            found = COLOUR
        names += found or [f"column{place + 1}"]
        place = len(names)
    if names[3:] == [*COLOUR, "column7"] and columns[6].dtype.kind in "iu":
        names[6] = "label"
    return names


def _is_normal(three):
    return bool((np.abs(np.linalg.norm(np.stack(three, axis=1).astype("f4"), axis=1) - 1) < UNIT).all())


def _is_colour(three):
    are_bytes = all(column.dtype == np.uint8 for column in three)
    return are_bytes or all(0 <= column.min() <= column.max() <= 1 for column in three)
