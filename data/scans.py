"""A raw ScanNet scan: mesh, labels and alignment, as arrays in the mesh's vertex order. Files: data/README.md."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyListProperty, PlyParseError

from data.scannet import KNOWN_STRAY_LABELS, NUM_NYU40

# The list properties that are read, and their lengths, which let plyfile map the file, 100 x faster than row by row
LISTS = {"face": {"vertex_indices": 3, "vertex_index": 3, "texcoord": 6}}
MAX_HEADER = 65536  # bytes of a PLY header; ScanNet's have 300
MAX_EXTENT = 1000.0  # metres; a scan that spans more is not in metres, or has stray vertices


class ScanError(Exception):
    """A raw scan or label table that cannot be read: the message names the file and the cause."""


@dataclass(frozen=True)
class Scan:
    """V vertices and F triangles, +z up."""

    name: str
    xyz: np.ndarray  # (V, 3) float32, metres
    colour: np.ndarray  # (V, 3) uint8 RGB
    nyu40: np.ndarray | None  # (V,) uint8, 0 (no annotation) to 40; None: a scan without labels
    faces: np.ndarray  # (F, 3) int32, vertex indices
    axis_alignment: np.ndarray  # (4, 4) float64, turns walls parallel to x and y; not applied


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
    xyz, colour, faces = read_mesh(files["mesh"])
    labels, aggregation = files["labels"], files["aggregation"]
    nyu40 = None
    if label_table is not None and aggregation.exists():
        nyu40 = _labels_from_segments(files["segments"], aggregation, label_table, len(xyz))
    elif label_table is not None and labels.exists():
        raise ScanError(f"{aggregation}: missing, and with a label table labels come from it; add it or drop --labels")
    elif labels.exists():
        nyu40 = _labels_from_ply(labels, KNOWN_STRAY_LABELS.get(folder.name, ()), len(xyz))
    elif aggregation.exists():
        raise ScanError(f"{labels}: missing, though the scan is annotated; add it or give the label table (--labels)")
    return Scan(folder.name, xyz, colour, nyu40, faces, _read_axis_alignment(files["info"]))


def read_mesh(path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xyz (V, 3) float32, colour (V, 3) uint8 and faces (F, 3) int32 of a PLY mesh of triangles, or of a cloud (F = 0).

    Properties are found by name, any byte order or ASCII. Memory is bounded by the file's size, whatever its header
    declares. Raises ScanError.
    """
    ply = read_ply(path)
    with np.errstate(over="ignore"):  # beyond float32 is inf, refused below
        xyz = np.stack([ply_column(path, ply, "vertex", key, "fiu") for key in "xyz"], axis=1).astype(np.float32)
    if not len(xyz):
        raise ScanError(f"{path}: the mesh has no vertices")
    if not np.isfinite(xyz).all():
        raise ScanError(
            f"{path}: {np.count_nonzero(~np.isfinite(xyz).all(axis=1))} vertices have NaN or infinite coordinates"
        )
    if (extent := float(np.ptp(xyz.astype(np.float64), axis=0).max())) > MAX_EXTENT:
        raise ScanError(f"{path}: spans {extent:.3g} m, more than {MAX_EXTENT:.0f}: coordinates have to be in metres")
    colour = np.stack([ply_column(path, ply, "vertex", key, "u") for key in ("red", "green", "blue")], axis=1)
    if colour.dtype != np.uint8:
        raise ScanError(f"{path}: colours are {colour.dtype}, not uchar")
    return xyz, colour, ply_triangles(path, ply, len(xyz))


def read_ply(path, any_lists=False) -> PlyData:
    """A PLY file, binary or ASCII, once its header was compared with its size. Raises ScanError.

    Lists can only be a face's, with the lengths in LISTS, so that memory is bounded by the file's size whatever it
    declares. With `any_lists` they can be any; of another length they are read row by row, a second for 200,000.
    """
    path = Path(path)
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise ScanError(f"{path}: missing")
        text = _check_header(path, any_lists)
        with path.open(encoding="ascii", newline="") if text else path.open("rb") as stream:
            try:
                ply = PlyData.read(stream, known_list_len=LISTS)
            except PlyParseError:
                if text or not any_lists:
                    raise
                stream.seek(0)
                ply = PlyData.read(stream)
            if stream.read().strip():
                raise ValueError("there are data after the last element, so the header's counts are wrong")
    except (PlyParseError, OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        kind = "a PLY file" if any_lists else "a PLY file of triangles"
        raise ScanError(f"{path}: truncated, or not {kind} ({error})") from error
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
    """(F, 3) int32 vertex indices of the faces of `ply`, read from `path`; F = 0 for a cloud. Raises ScanError."""
    if "face" not in ply:
        return np.zeros((0, 3), np.int32)
    names = [prop.name for prop in ply["face"].properties]
    name = "vertex_index" if "vertex_index" in names else "vertex_indices"
    faces = ply_column(path, ply, "face", name, "iuO")
    corners = ply["face"].ply_property(name)
    if not isinstance(corners, PlyListProperty) or corners.val_dtype.startswith("f"):
        raise ScanError(f"{path}: face property '{name}' is not a list of integers")
    if faces.dtype.kind == "O":  # ASCII: a list a row
        if any(len(row) != 3 for row in faces):
            raise ScanError(f"{path}: not all faces are triangles")
        faces = np.array(faces.tolist(), np.int64).reshape(-1, 3)
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
    own tools. Raises ScanError.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="\t"))
    except (OSError, ValueError, csv.Error) as error:
        raise ScanError(f"{path}: the label table cannot be read ({error})") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    for column in ("raw_category", "nyu40id"):
        if column not in header:
            raise ScanError(
                f"{path}: the label table has no column '{column}' (it has: {', '.join(header)[:200]}); "
                "ScanNet v2's scannetv2-labels.combined.tsv is needed, the v1 table has other columns"
            )
    name_column, id_column = header.index("raw_category"), header.index("nyu40id")
    table = {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            name, nyu40 = row[name_column].strip(), int(row[id_column].strip() or 0)
        except (IndexError, ValueError) as error:
            raise ScanError(f"{path}: row {line} has no raw_category or no integer nyu40id") from error
        if not 0 <= nyu40 < NUM_NYU40:
            raise ScanError(f"{path}: row {line} has nyu40id {nyu40}, not 0 to {NUM_NYU40 - 1}")
        table[name] = nyu40
    return table


def _check_header(path, any_lists):
    """Whether the PLY file is ASCII. Raise ValueError if its header declares more than the file can hold.

    plyfile allocates what the header declares before it reads it. Lines and words are split as plyfile does.
    """
    with path.open("rb") as stream:
        head, size = stream.read(MAX_HEADER), path.stat().st_size
    newline = b"\r\n" if head[3:5] == b"\r\n" else head[3:4]
    header, end, _ = head.partition(newline + b"end_header" + newline)
    if not end:
        raise ValueError(f"no header of at most {MAX_HEADER} bytes")
    text, element, rows, values = False, "", 0, 0
    for line in header.decode("ascii").split(newline.decode("ascii")):
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
            values += rows * (1 if any_lists else 1 + known[words[-1]])
        elif words[:1] == ["property"]:
            values += rows
    if values > size:
        raise ValueError(f"the header declares {values} values, the file has {size} bytes")
    return text


def _labels_from_ply(path, stray, vertices):
    """(V,) uint8 of labels.ply; ids in `stray` become 0."""
    labels = ply_column(path, read_ply(path), "vertex", "label", "iu")
    if len(labels) != vertices:
        raise ScanError(f"{path}: {len(labels)} labels for the mesh's {vertices} vertices")
    labels = np.where(np.isin(labels, list(stray)), 0, labels)
    outside = np.unique(labels[(labels < 0) | (labels >= NUM_NYU40)])
    if len(outside):
        raise ScanError(f"{path}: labels {', '.join(map(str, outside[:5]))} are not nyu40 ids (0 to {NUM_NYU40 - 1})")
    return labels.astype(np.uint8)


def _labels_from_segments(segments_path, aggregation_path, label_table, vertices):
    """(V,) uint8: each annotated instance gives its segments' vertices the id of its category.

    Categories that the table lacks are unannotated (0). An instance listed twice (scene0217_00) changes nothing; of
    instances that share a segment the last counts, as in ScanNet's own tools.
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
    group_label = np.array([label_table.get(group["label"].strip(), 0) for group in groups], np.uint8)
    group_of_member = np.repeat(np.arange(len(groups)), [len(ids) for ids in members[1:]])
    members = np.concatenate(members)

    segment_ids, segment_of_vertex = np.unique(segments, return_inverse=True)
    position = np.minimum(np.searchsorted(segment_ids, members), len(segment_ids) - 1)
    if len(unknown := np.flatnonzero(segment_ids[position] != members)):
        number, segment = group_of_member[unknown[0]], members[unknown[0]]
        raise ScanError(f"{aggregation_path}: segGroups[{number}] lists segment {segment}, which no vertex has")
    segment_label = np.zeros(len(segment_ids), np.uint8)
    segment_label[position] = group_label[group_of_member]  # in the groups' order, so the last one stays
    return segment_label[segment_of_vertex]


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


def _read_axis_alignment(path):
    """(4, 4) float64 from a scan's `key = value` file; the identity if the file or the key is missing."""
    try:
        if not path.is_file():
            return np.eye(4)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error})") from error
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "axisAlignment":
            try:
                matrix = np.array([float(number) for number in value.split()]).reshape(4, 4)
            except ValueError as error:
                raise ScanError(f"{path}: axisAlignment is not 16 numbers") from error
            if not np.isfinite(matrix).all():
                raise ScanError(f"{path}: axisAlignment holds NaN or infinite numbers")
            return matrix
    return np.eye(4)
