"""`write_raw_scan`: a tiny scan in ScanNet's raw layout, for tests to read or to spoil."""

import json

import numpy as np
import pytest
from plyfile import PlyData, PlyElement, PlyListProperty

LABEL_TABLE = {"wall": 1, "floor": 2, "office chair": 5, "pillow": 18}  # raw category -> nyu40 id
CATEGORIES = list(LABEL_TABLE)


@pytest.fixture
def write_raw_scan(tmp_path):
    """A function that writes scan `name` into `root` (default: tmp_path / "scans") and returns its folder.

    A grid of `side` x `side` vertices 10 cm apart; four segments, one a category of LABEL_TABLE, the last unannotated.
    `labelled=False`: a test scan, mesh and txt only. `text`, `byte_order`, `label_type`: the PLY encoding.
    """

    def write(
        name="scene0000_00", root=None, side=6, labelled=True, text=False, byte_order="<", label_type="u2", seed=0
    ):
        folder = (root or tmp_path / "scans") / name
        folder.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        count = side * side
        vertex = np.empty(
            count,
            [("red", "u1"), ("x", "f4"), ("y", "f4"), ("z", "f4"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")],
        )
        vertex["x"], vertex["y"] = np.divmod(np.arange(count), side)
        vertex["x"] *= 0.1
        vertex["y"] *= 0.1
        vertex["z"] = rng.uniform(0, 0.05, count)
        for channel in ("red", "green", "blue", "alpha"):
            vertex[channel] = rng.integers(0, 256, count)
        corner = np.arange(count).reshape(side, side)[:-1, :-1].ravel()
        triangles = np.concatenate(
            [
                np.stack([corner, corner + side, corner + 1], 1),
                np.stack([corner + 1, corner + side, corner + side + 1], 1),
            ]
        )
        face = np.empty(len(triangles), [("vertex_indices", "i4", (3,))])
        face["vertex_indices"] = triangles
        write_ply(folder / f"{name}_vh_clean_2.ply", vertex, face, text, byte_order)
        (folder / f"{name}.txt").write_text(
            "axisAlignment = 0 -1 0 2  1 0 0 3  0 0 1 0  0 0 0 1 \nsceneType = Office\n"
        )
        if not labelled:
            return folder
        segment = 10 * (np.arange(count) * len(CATEGORIES) // count)  # ids with gaps: 0, 10, 20, 30
        nyu40 = np.array([LABEL_TABLE[category] for category in CATEGORIES])[segment // 10]
        nyu40[segment == 30] = 0
        labels = np.empty(count, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("label", label_type)])
        for axis in "xyz":
            labels[axis] = vertex[axis]
        labels["label"] = nyu40
        write_ply(folder / f"{name}_vh_clean_2.labels.ply", labels, face, text, byte_order)
        groups = [{"id": i, "label": CATEGORIES[i], "segments": [10 * i]} for i in range(len(CATEGORIES) - 1)]
        (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segment.tolist()}))
        (folder / f"{name}.aggregation.json").write_text(json.dumps({"sceneId": name, "segGroups": groups}))
        return folder

    return write


@pytest.fixture
def label_table_file(tmp_path):
    """A table as ScanNet v2's: other columns about the two that count, CRLF, padded names."""
    path = tmp_path / "labels.tsv"
    rows = ["id\traw_category\tcategory\tnyu40id\tnyu40class"]
    rows += [f"{i}\t {name} \t{name}\t{nyu40}\tx" for i, (name, nyu40) in enumerate(LABEL_TABLE.items())]
    path.write_bytes("\r\n".join([*rows, ""]).encode())
    return path


def write_ply(path, vertex, face, text=False, byte_order="<"):
    elements = [PlyElement.describe(vertex, "vertex")]
    if face is not None:
        lists = np.empty(len(face), [("vertex_indices", "O")])
        lists["vertex_indices"] = list(face["vertex_indices"])
        element = PlyElement.describe(
            lists, "face", len_types={"vertex_indices": "u1"}, val_types={"vertex_indices": "i4"}
        )
        assert isinstance(element.properties[0], PlyListProperty)
        elements.append(element)
    PlyData(elements, text=text, byte_order="=" if text else byte_order).write(str(path))
