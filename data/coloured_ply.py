"""PLY files that show classes: binary, uchar red green blue, which every viewer colours by, and `label`, the id.

V vertices, F triangles. Ids and colours are a label space's.
"""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyListProperty

from data.atomic_write import replacing
from data.columns import KEPT
from data.formats.plys import labels_of_faces
from data.labels import NUM_IDS, LabelSpace
from data.ply import RGB, in_place, like_element
from data.scenes import read_scene

UNLABELLED = (205, 205, 205)  # not annotated, or of none of the classes
RIGHT, WRONG = (0, 158, 115), (213, 94, 0)  # green and red that the colour-blind can tell apart (Okabe and Ito, 2008)


def class_colours(label: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(V, 3) uint8 of (V,) ids; grey for those of none of the classes, and for numbers that are no id."""
    is_id = (label >= 0) & (label < NUM_IDS)
    classes = np.where(is_id, space.class_of[np.where(is_id, label, 0)], 0)
    return np.where(classes[:, None] > 0, space.palette[classes], np.uint8(UNLABELLED))


def error_colours(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(V, 3) uint8 of (V,) classes: green where they agree, red where not, grey where the truth is class 0."""
    colours = np.where((truth == predicted)[:, None], np.uint8(RIGHT), np.uint8(WRONG))
    return np.where(truth[:, None] > 0, colours, np.uint8(UNLABELLED))


def colours_of_scene(scene_file: Path) -> np.ndarray:
    """(V, 3) uint8 of the scan's vertices; grey for a scan without colours. Raises SceneError."""
    scene = read_scene(scene_file, fields=None)
    return np.full(scene.xyz.shape, UNLABELLED, np.uint8) if scene.colour is None else scene.colour


def write_coloured(path: Path, xyz, colour, faces=None, label=None, **more: np.ndarray) -> None:
    """A mesh with ScanNet's properties: xyz (V, 3) float32 or float64, colour (V, 3) uint8, faces (F, 3), label (V,).

    more: further properties of the vertices by name, (V,) each.
    """
    columns = dict(zip("xyz", xyz.T, strict=True)) | dict(zip(RGB, colour.T, strict=True))
    columns["alpha"] = np.full(len(xyz), 255, np.uint8)
    if label is not None:
        columns["label"] = label.astype("<u2")
    columns |= more
    vertex = np.rec.fromarrays(list(columns.values()), names=list(columns))
    face = np.zeros(0 if faces is None else len(faces), [("vertex_indices", "<i4", (3,))])
    if faces is not None:
        face["vertex_indices"] = faces
    write_ply(path, PlyData([PlyElement.describe(vertex, "vertex"), PlyElement.describe(face, "face")], byte_order="<"))


def write_ply(path: Path, ply: PlyData) -> None:
    """`ply` as plyfile writes it, but faster: lists of one length are written as one table, not row by row."""
    if ply.text or any(element.data.dtype.hasobject for element in ply.elements):
        ply.write(path)
        return
    with path.open("wb") as stream:
        stream.write(ply.header.encode("ascii") + b"\n")
        for element in ply.elements:
            _with_lengths(element, ply.byte_order).tofile(stream)


def _with_lengths(element, byte_order):
    """An element's rows, with the length of each list before it; the lists of a property are all as long."""
    rows, types, lengths = element.data, [], {}
    for prop in element.properties:
        shape = rows.dtype[prop.name].shape
        if isinstance(prop, PlyListProperty):
            lengths[f"length of {prop.name}"] = shape[0]
            types.append((f"length of {prop.name}", byte_order + prop.len_dtype))
        types.append((prop.name, byte_order + prop.val_dtype, shape))
    if not lengths and rows.dtype == np.dtype(types):
        return rows
    table = np.empty(len(rows), types)
    for name in table.dtype.names:
        table[name] = lengths[name] if name in lengths else rows[name]
    return table


def write_comparison(folder: Path, scene_file: Path, predicted: np.ndarray, space: LabelSpace) -> None:
    """<scene>_prediction.ply, and of a scene with labels _truth.ply and _errors.ply: its mesh, in its vertices' order
    and at the scan's own place, in double precision where that needs it.

    Args: predicted (V,) classes, none of them 0. Raises SceneError if the scene file cannot be read.
    """
    scene = read_scene(scene_file, ("xyz", "label", "faces"))
    xyz = in_place(scene.xyz, scene.offset)
    label = space.id_of[predicted]
    views = {"prediction": (class_colours(label, space), label)}
    if scene.label is not None:
        views["truth"] = class_colours(scene.label, space), scene.label
        views["errors"] = error_colours(space.class_of[scene.label], predicted), None
    folder.mkdir(parents=True, exist_ok=True)
    for view, (colour, label) in views.items():
        with replacing(folder / f"{scene.name}_{view}.ply") as temporary:
            write_coloured(temporary, xyz, colour, scene.faces, label)


def with_prediction(ply: PlyData, label: np.ndarray, confidence: np.ndarray, space: LabelSpace) -> PlyData:
    """`ply` with `label`, (V,) ids, `confidence` (V,) and class colours; written it is binary, all else is as it was.

    Where the vertices have a label, confidence or colours already, those are kept as input_label, input_red, ...; what
    is called so already stays: it was kept by an earlier prediction. Faces that have colours get those of their
    commonest class.
    """
    of_vertices = {"label": label.astype(np.uint16), "confidence": confidence.astype(np.float32)}
    new = {"vertex": of_vertices | dict(zip(RGB, class_colours(label, space).T, strict=True))}
    if (of_faces := labels_of_faces(None, ply, label)) is not None:
        new["face"] = dict(zip(RGB, class_colours(of_faces, space).T, strict=True))
    elements = [_with_columns(element, new.get(element.name, {})) for element in ply.elements]
    return PlyData(elements, byte_order="<", comments=ply.comments, obj_info=ply.obj_info)


def _with_columns(element, new):
    """The element with the columns `new`, those that had their names under others."""
    if not new:
        return element
    old = {name: element.data[name] for name in element.data.dtype.names}
    kept = {KEPT + name: old[name] for name in new if name in old and KEPT + name not in old}
    columns = old | new | kept  # the new ones in the place of the old
    types = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    table = np.empty(len(element.data), types)
    for name, values in columns.items():
        table[name] = values
    return like_element(table, element, element.name)
