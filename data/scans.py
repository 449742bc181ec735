"""A raw ScanNet scan: mesh, labels and alignment, as arrays in the mesh's vertex order. Files: data/README.md."""

import csv
import difflib
import io
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from plyfile import PlyData, PlyListProperty, PlyParseError

from data.scannet import KNOWN_STRAY_LABELS, NUM_NYU40

# The list properties that are read, and their lengths, which let plyfile map the file, 100 x faster than row by row
LISTS = {"face": {"vertex_indices": 3, "vertex_index": 3, "texcoord": 6}}
SHORT_COUNTS = ("uchar", "uint8", "char", "int8")  # types of a list's length
RGB = ("red", "green", "blue")
MAX_HEADER = 65536  # bytes of a PLY header; ScanNet's have 300
MAX_CORNERS = 16  # of a face; larger ones are hardly the surface of a scan
MAX_EXTENT = 1000.0  # metres; a scan that spans more is not in metres, or has stray vertices
FINE_STEP = 0.001  # metres; coarser coordinates lose the detail that a network looks at
SAME_PLACE = 0.001  # metres between a vertex of the mesh and the same one of labels.ply
NAMED = 10  # unknown categories that are named
RIGID = 1e-3  # |R^T R - 1| of a rotation that is written with a few digits


class ScanError(Exception):
    """A raw scan or label table that cannot be read: the message names the file and the cause."""


@dataclass(frozen=True)
class Scan:
    """V vertices and F triangles, +z up."""

    name: str
    xyz: np.ndarray  # (V, 3) float32, metres
    colour: np.ndarray | None  # (V, 3) uint8 RGB; None: a scan without colours
    nyu40: np.ndarray | None  # (V,) uint8, 0 (no annotation) to 40; None: a scan without labels
    faces: np.ndarray  # (F, 3) int32, vertex indices
    offset: np.ndarray | None  # (3,) float64: xyz + offset are the file's coordinates; None: xyz are
    step: float  # metres between neighbouring coordinates that the file could hold
    axis_alignment: np.ndarray | None  # (4, 4) float64, turns walls parallel to x and y; not applied; None: not told
    unknown: Counter = field(default_factory=Counter)  # instances by category, of those that the label table lacks


class Mesh(NamedTuple):
    """As of Scan."""

    xyz: np.ndarray
    colour: np.ndarray | None
    faces: np.ndarray
    offset: np.ndarray | None
    step: float


def scan_files(folder) -> dict[str, Path]:
    """The files of the scan in `folder` that are read, whether they are there or not."""
    folder = Path(folder)
    name = folder.name
    return {
        "mesh": folder / f"{name}_vh_clean_2.ply",
        "labels": folder / f"{name}_vh_clean_2.labels.ply",
        "segments": folder / f"{name}_vh_clean_2.0.010000.segs.json",
        # not <name>_vh_clean.aggregation.json: its segments are those of the full-resolution mesh
        "aggregation": folder / f"{name}.aggregation.json",
        "info": folder / f"{name}.txt",
    }


def read_scan(folder, label_table: dict[str, int] | None = None) -> Scan:
    """Read the scan in `folder`, which is named by its scan id.

    With `label_table` (from `read_label_table`) labels come from segments, aggregation and table, without it from
    labels.ply. A scan that has neither aggregation nor labels.ply (ScanNet's test scans) has labels None; one that has
    only the source not asked for is an error, as the two can differ. Raises ScanError.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScanError(f"{folder}: no such folder")
    files = scan_files(folder)
    mesh = read_mesh(files["mesh"])
    labels, aggregation = files["labels"], files["aggregation"]
    nyu40, unknown = None, Counter()
    if label_table is not None and aggregation.exists():
        nyu40, unknown = _labels_from_segments(files["segments"], aggregation, label_table, len(mesh.xyz))
    elif label_table is not None and labels.exists():
        raise ScanError(f"{aggregation}: missing, and with a label table labels come from it; add it or drop --labels")
    elif labels.exists():
        nyu40 = _labels_from_ply(labels, KNOWN_STRAY_LABELS.get(folder.name, ()), mesh)
    elif aggregation.exists():
        raise ScanError(f"{labels}: missing, though the scan is annotated; add it or give the label table (--labels)")
    alignment = read_axis_alignment(files["info"])
    return Scan(folder.name, nyu40=nyu40, axis_alignment=alignment, unknown=unknown, **mesh._asdict())


def read_mesh(path) -> Mesh:
    """A PLY mesh, or a cloud (F = 0); polygons are cut into triangles. Colours are uchar red, green, blue, or none.

    Properties are found by name, any byte order or ASCII. Memory is bounded by the file's size, whatever its header
    declares. Raises ScanError.
    """
    ply = read_ply(path)
    columns = [ply_column(path, ply, "vertex", key, "fiu") for key in "xyz"]
    exact = np.stack(columns, axis=1).astype(np.float64)
    if not len(exact):
        raise ScanError(f"{path}: the mesh has no vertices")
    with np.errstate(over="ignore"):  # beyond float32 is inf
        finite = np.isfinite(exact.astype(np.float32)).all(axis=1)
    if not finite.all():
        raise ScanError(f"{path}: {np.count_nonzero(~finite)} vertices have NaN or infinite coordinates")
    if (extent := float(np.ptp(exact, axis=0).max())) > MAX_EXTENT:
        raise ScanError(f"{path}: spans {extent:.3g} m, more than {MAX_EXTENT:.0f}: coordinates have to be in metres")
    colour = None
    if any(key in ply["vertex"] for key in RGB):
        colour = np.stack([ply_column(path, ply, "vertex", key, "u") for key in RGB], axis=1)
        if colour.dtype != np.uint8:
            raise ScanError(f"{path}: colours are {colour.dtype}, not uchar")
    xyz, offset = near_origin(exact)
    return Mesh(xyz, colour, ply_triangles(path, ply, len(xyz)), offset, coordinate_step(columns))


def near_origin(exact) -> tuple[np.ndarray, np.ndarray | None]:
    """xyz (V, 3) float32 and offset (3,) float64 of coordinates (V, 3) float64: xyz + offset is `exact`.

    Whole metres are taken off, down to the minimum, where steps of float32 would be above FINE_STEP, as those of map
    coordinates are; elsewhere the offset is None.
    """
    if np.spacing(np.float32(np.abs(exact).max())) <= FINE_STEP:
        return exact.astype(np.float32), None
    offset = np.floor(exact.min(axis=0))
    return (exact - offset).astype(np.float32), offset


def coordinate_step(columns) -> float:
    """The largest distance of neighbouring numbers that columns (V,) of coordinates could hold; 0 for integers."""
    return max(float(np.spacing(np.abs(c).max())) if c.dtype.kind == "f" else 0.0 for c in columns)


def read_ply(path, any_lists=False) -> PlyData:
    """A PLY file, binary or ASCII, once its header was compared with its size. Raises ScanError.

    Lists can only be a face's, those in LISTS, of up to 255 values, so that memory is bounded by the file's size
    whatever it declares. With `any_lists` they can be any. Lists of another length than in LISTS are read row by row, a
    second for 200,000.
    """
    path = Path(path)
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise ScanError(f"{path}: missing")
        header = _read_header(path, any_lists)
        with tempfile.TemporaryFile() if header.mended else path.open("rb") as file:
            if header.mended:  # plyfile takes its own spelling alone
                with path.open("rb") as original:
                    original.seek(header.size)
                    file.write(header.mended)
                    shutil.copyfileobj(original, file)
                file.seek(0)
            stream = io.TextIOWrapper(file, encoding="ascii", newline="") if header.text else file
            try:
                ply = PlyData.read(stream, known_list_len=LISTS)
            except PlyParseError:
                if header.text or not (header.short_lists or any_lists):
                    raise
                stream.seek(0)
                ply = PlyData.read(stream)
            if stream.read().strip():
                raise ValueError("there are data after the last element, so the header's counts are wrong")
    except (PlyParseError, OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise ScanError(f"{path}: truncated, or not a PLY file ({error})") from error
    return ply


def ply_column(path, ply, element, name, kinds) -> np.ndarray:
    """One property of `ply`, read from `path`, as an array; `kinds` are the dtype kinds accepted. Raises ScanError."""
    try:
        values = np.asarray(ply[element].data[name])
    except (KeyError, ValueError) as error:
        raise ScanError(f"{path}: the PLY file has no {element} property '{name}'") from error
    if values.dtype.kind not in kinds:
        raise ScanError(f"{path}: {element} property '{name}' has the wrong type ({values.dtype})")
    return values


def ply_triangles(path, ply, vertices) -> np.ndarray:
    """(F, 3) int32 vertex indices of the faces of `ply`, read from `path`; F = 0 for a cloud. Raises ScanError.

    A polygon of up to MAX_CORNERS corners becomes the triangles of its first corner with each edge that it is not on.
    """
    if "face" not in ply:
        return np.zeros((0, 3), np.int32)
    names = [prop.name for prop in ply["face"].properties]
    name = "vertex_index" if "vertex_index" in names else "vertex_indices"
    faces = ply_column(path, ply, "face", name, "iuO")
    corners = ply["face"].ply_property(name)
    if not isinstance(corners, PlyListProperty) or corners.val_dtype.startswith("f"):
        raise ScanError(f"{path}: face property '{name}' is not a list of integers")
    if faces.dtype.kind == "O":  # a list a row
        faces = _fans(path, faces)
    if faces.size and not 0 <= faces.min() <= faces.max() < vertices:
        raise ScanError(f"{path}: faces refer to vertices {faces.min()} to {faces.max()} of {vertices}")
    return faces.astype(np.int32)


def vertex_normals(xyz, faces) -> np.ndarray:
    """(V, 3) float32 unit normals from xyz (V, 3) and faces (F, 3): means over a vertex's triangles weighted by area.

    A vertex without a triangle, or with triangles of no area only, gets (0, 0, 0).
    """
    a, b, c = (xyz[faces[:, corner]].astype(np.float64) for corner in range(3))
    normal = np.cross(b - a, c - a)  # (F, 3), as long as twice the area
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), minlength=len(xyz)) for axis in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length > 0, length, 1)).astype(np.float32)


def read_label_table(path) -> dict[str, int]:
    """Raw category name -> nyu40 id, from ScanNet's scannetv2-labels.combined.tsv or a table with its two columns.

    Names are stripped; a category without an id is unannotated (0); the last of equal names counts, as in ScanNet's
    own tools. A name in quotes is known with and without them. Raises ScanError.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, ValueError, csv.Error) as error:
        raise ScanError(f"{path}: the label table cannot be read ({error})") from error
    header = [_unquoted(cell) for cell in rows[0]] if rows else []
    for column in ("raw_category", "nyu40id"):
        if column not in header:
            raise ScanError(
                f"{path}: the label table has no column '{column}' (it has: {', '.join(header)[:200]}); "
                "ScanNet v2's scannetv2-labels.combined.tsv is needed, the v1 table has other columns"
            )
    name_column, id_column = header.index("raw_category"), header.index("nyu40id")
    table, without_quotes = {}, {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            name, nyu40 = row[name_column].strip(), int(_unquoted(row[id_column]) or 0)
        except (IndexError, ValueError) as error:
            raise ScanError(f"{path}: row {line} has no raw_category or no integer nyu40id") from error
        if not 0 <= nyu40 < NUM_NYU40:
            raise ScanError(f"{path}: row {line} has nyu40id {nyu40}, not 0 to {NUM_NYU40 - 1}")
        table[name] = without_quotes[_unquoted(name)] = nyu40
    return without_quotes | table


def _unquoted(cell):
    """As a spreadsheet reads it: "a ""b"" c" is a "b" c."""
    return "".join(next(csv.reader([cell.strip()], delimiter="\t"))).strip()


class _Header(NamedTuple):
    """What matters of a PLY header before plyfile reads it."""

    text: bool  # the file is ASCII
    short_lists: bool  # no list can have more than 255 values
    size: int  # bytes
    mended: bytes | None  # the same in ASCII and without indentation, where that is needed


def _read_header(path, any_lists):
    """The header of a PLY file. Raise ValueError if it declares more than the file can hold.

    plyfile allocates what the header declares before it reads it. Lines and words are split as plyfile does.
    """
    with path.open("rb") as stream:
        head, size = stream.read(MAX_HEADER), path.stat().st_size
    newline = b"\r\n" if head[3:5] == b"\r\n" else head[3:4]
    lines = [line.strip() for line in head.split(newline)[:-1]] if newline else []
    if b"end_header" not in lines:
        raise ValueError(f"no header of at most {MAX_HEADER} bytes")
    end = 1 + lines.index(b"end_header")
    raw = newline.join(head.split(newline)[:end]) + newline
    lines = [
        line.decode("ascii", "replace" if line.startswith((b"comment", b"obj_info")) else "strict").replace(
            "\ufffd", "?"
        )
        for line in lines[:end]
    ]
    mended = "".join(line + newline.decode("ascii") for line in lines).encode("ascii")
    text, short_lists, element, rows, values = False, True, "", 0, 0
    for line in lines:
        words = line.split()
        if words[:2] == ["format", "ascii"]:
            text = True
        elif words[:1] == ["element"]:
            element, rows = words[1], int(words[2])
            if not 0 <= rows <= size:
                raise ValueError(f"the header declares {rows} rows of '{element}', the file has {size} bytes")
        elif words[:2] == ["property", "list"]:
            known = LISTS.get(element, {})
            if words[-1] not in known and not any_lists:
                lists = ", ".join(LISTS["face"])
                raise ValueError(f"'{element}' has the list '{words[-1]}'; only a face can have lists: {lists}")
            values += rows  # their lengths
            short_lists = short_lists and words[2] in SHORT_COUNTS
        elif words[:1] == ["property"]:
            values += rows
    if values > size:
        raise ValueError(f"the header declares {values} values, the file has {size} bytes")
    return _Header(text, short_lists, len(raw), mended if mended != raw else None)


def _fans(path, faces):
    """(F, 3) int64 triangles of polygons, one (corners,) array a row."""
    corners = np.fromiter(map(len, faces), np.int64, len(faces))
    if len(faces) and not 3 <= corners.min() <= corners.max() <= MAX_CORNERS:
        odd = next(row for row, count in enumerate(corners) if not 3 <= count <= MAX_CORNERS)
        raise ScanError(f"{path}: face {odd} has {corners[odd]} corners, not 3 to {MAX_CORNERS}; use triangles")
    triangles = corners - 2  # of each face
    flat = np.concatenate([np.zeros(0, np.int64), *faces])
    first = np.repeat(np.cumsum(corners) - corners, triangles)
    second = first + 1 + np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return flat[np.stack([first, second, second + 1], axis=1)]


def _labels_from_ply(path, stray, mesh):
    """(V,) uint8 of labels.ply, whose vertices have to be the mesh's in its order; ids in `stray` become 0."""
    ply = read_ply(path)
    labels = ply_column(path, ply, "vertex", "label", "iu")
    if len(labels) != len(mesh.xyz):
        raise ScanError(f"{path}: {len(labels)} labels for the mesh's {len(mesh.xyz)} vertices")
    xyz = np.stack([ply_column(path, ply, "vertex", key, "fiu") for key in "xyz"], axis=1).astype(np.float64)
    there = mesh.xyz if mesh.offset is None else mesh.xyz + mesh.offset
    apart = ~(np.abs(xyz - there).max(axis=1) <= SAME_PLACE)  # NaN too
    if apart.any():
        first = np.flatnonzero(apart)[0]
        raise ScanError(
            f"{path}: its vertices are not the mesh's, or in another order: vertex {first} is at {_place(xyz[first])}, "
            f"the mesh's at {_place(there[first])}. Write it again with the mesh's own vertices"
        )
    labels = np.where(np.isin(labels, list(stray)), 0, labels)
    outside = np.unique(labels[(labels < 0) | (labels >= NUM_NYU40)])
    if len(outside):
        raise ScanError(f"{path}: labels {', '.join(map(str, outside[:5]))} are not nyu40 ids (0 to {NUM_NYU40 - 1})")
    return labels.astype(np.uint8)


def _place(point):
    return " ".join(f"{value:.3f}" for value in point)


def _labels_from_segments(segments_path, aggregation_path, label_table, vertices):
    """(V,) uint8: each annotated instance gives its segments' vertices the id of its category; the unknown categories.

    Categories that the table lacks are unannotated (0), an error if nothing else is left. An instance listed twice
    (scene0217_00) changes nothing; of instances that share a segment the last counts, as in ScanNet's own tools.
    """
    segments = _integers(segments_path, "segIndices", _read_json(segments_path).get("segIndices"))
    if len(segments) != vertices:
        raise ScanError(f"{segments_path}: {len(segments)} segment indices for the mesh's {vertices} vertices")
    if segments.min() < 0:
        raise ScanError(f"{segments_path}: negative segment index {segments.min()}")
    groups = _read_json(aggregation_path).get("segGroups")
    if not isinstance(groups, list):
        raise ScanError(f"{aggregation_path}: 'segGroups' is not a list")
    members = [np.zeros(0, np.int64)]  # the segments of each group
    for number, group in enumerate(groups):
        if not isinstance(group, dict) or not isinstance(group.get("label"), str):
            raise ScanError(f"{aggregation_path}: segGroups[{number}] has no 'label'")
        members.append(_integers(aggregation_path, f"segGroups[{number}].segments", group.get("segments")))
    categories = [group["label"].strip() for group in groups]
    unknown = Counter(category for category in categories if category not in label_table)
    group_label = np.array([label_table.get(category, 0) for category in categories], np.uint8)
    group_of_member = np.repeat(np.arange(len(groups)), [len(ids) for ids in members[1:]])
    members = np.concatenate(members)

    segment_ids, segment_of_vertex = np.unique(segments, return_inverse=True)
    position = np.minimum(np.searchsorted(segment_ids, members), len(segment_ids) - 1)
    if len(absent := np.flatnonzero(segment_ids[position] != members)):
        number, segment = group_of_member[absent[0]], members[absent[0]]
        raise ScanError(f"{aggregation_path}: segGroups[{number}] lists segment {segment}, which no vertex has")
    segment_label = np.zeros(len(segment_ids), np.uint8)
    segment_label[position] = group_label[group_of_member]  # in the groups' order, so the last one stays
    if unknown and not segment_label.any():
        raise ScanError(
            f"{aggregation_path}: no label is left, as the label table lacks {named_categories(unknown, label_table)}"
        )
    return segment_label[segment_of_vertex], unknown


def named_categories(unknown: Counter, label_table: dict[str, int]) -> str:
    """The commonest of the categories that the table lacks, how often each, and the name that was probably meant."""
    in_lower_case = {name.casefold(): name for name in label_table}

    def told(category, count):
        meant = in_lower_case.get(category.casefold())
        return f"{category!r} ({count}{f', {meant!r} is probably meant' if meant else ''})"

    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    return ", ".join(told(*entry) for entry in unknown.most_common(NAMED)) + more


def _read_json(path):
    try:
        if not path.is_file():
            raise ScanError(f"{path}: missing, and labels from the label table need it")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScanError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ScanError(f"{path}: holds a JSON {type(content).__name__}, not an object")
    return content


def _integers(path, key, values):
    """The JSON list of integers `values`, found at `key`, as an (n,) int64 array."""
    if not isinstance(values, list) or not all(type(value) is int and abs(value) < 2**63 for value in values):
        raise ScanError(f"{path}: '{key}' is not a list of integers")
    return np.array(values, dtype=np.int64)


def read_axis_alignment(path) -> np.ndarray | None:
    """(4, 4) float64 from a scan's `key = value` file; None if there is no such file or no axisAlignment in it.

    Raises ScanError if the key is spelt otherwise, or if its value is no rigid motion.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return None
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error})") from error
    values = {key.strip(): value for key, _, value in (line.partition("=") for line in lines)}
    if "axisAlignment" not in values:
        if close := [key for key in values if difflib.get_close_matches("axisalignment", [key.lower()], cutoff=0.8)]:
            raise ScanError(f"{path}: has the key '{close[0]}'; it has to be spelt axisAlignment")
        return None
    try:
        matrix = np.array([float(number) for number in values["axisAlignment"].split()]).reshape(4, 4)
    except ValueError as error:
        raise ScanError(f"{path}: axisAlignment is not 16 numbers") from error
    if not np.isfinite(matrix).all():
        raise ScanError(f"{path}: axisAlignment holds NaN or infinite numbers")
    rotation = matrix[:3, :3]
    turns = np.abs(rotation.T @ rotation - np.eye(3)).max() <= RIGID and np.linalg.det(rotation) > 0
    if not turns or np.abs(matrix[3] - [0, 0, 0, 1]).max() > RIGID:
        raise ScanError(f"{path}: axisAlignment is no rigid motion: a rotation, a translation and 0 0 0 1, row by row")
    return matrix
