import numpy as np
from plyfile import PlyData, PlyElement

from data.coloured_ply import RIGHT, UNLABELLED, WRONG, class_colours, error_colours, write_coloured, write_ply
from data.labels import SCANNET20


def test_colours_of_ids():
    colours = class_colours(np.array([0, 1, 39, 22, 40, 41, -1]), SCANNET20)
    assert colours.dtype == np.uint8
    assert np.array_equal(colours, [UNLABELLED, SCANNET20.palette[1], SCANNET20.palette[20], *[UNLABELLED] * 4])


def test_colours_of_errors():
    colours = error_colours(np.array([0, 1, 1, 20]), np.array([1, 1, 2, 20]))
    assert np.array_equal(colours, [UNLABELLED, RIGHT, WRONG, RIGHT])


def test_a_mesh_and_a_cloud(tmp_path):
    xyz, colour = (
        np.random.default_rng(0).random((4, 3)).astype(np.float32),
        np.arange(12, dtype=np.uint8).reshape(4, 3),
    )
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    for name, given in (("mesh.ply", faces), ("cloud.ply", None)):
        write_coloured(tmp_path / name, xyz, colour, given, label=np.array([0, 1, 39, 40]))
        ply = PlyData.read(tmp_path / name)
        assert not ply.text and ply.byte_order == "<"
        assert np.array_equal(np.stack([ply["vertex"][axis] for axis in "xyz"], 1), xyz)
        assert np.array_equal(np.stack([ply["vertex"][channel] for channel in ("red", "green", "blue")], 1), colour)
        assert ply["vertex"]["label"].tolist() == [0, 1, 39, 40] and (ply["vertex"]["alpha"] == 255).all()
        assert len(ply["face"]) == (2 if given is not None else 0)
        assert all(np.array_equal(a, b) for a, b in zip(ply["face"]["vertex_indices"], faces, strict=False))


def test_lists_of_one_length_are_written_as_plyfile_writes_them(tmp_path):
    """Byte by byte, with other properties around them, other types, and elements without lists."""
    rng = np.random.default_rng(0)
    vertex = np.rec.fromarrays(rng.random((4, 50)).astype("f4"), names="x,y,z,quality")
    face = np.zeros(30, [("before", "u2"), ("vertex_index", "i4", (3,)), ("texcoord", "f4", (6,)), ("after", "f8")])
    face["vertex_index"], face["texcoord"] = rng.integers(0, 50, (30, 3)), rng.random((30, 6))
    face["before"], face["after"] = np.arange(30), rng.random(30)
    types = {"len_types": {"vertex_index": "u1", "texcoord": "u4"}, "val_types": {"texcoord": "f4"}}
    elements = [PlyElement.describe(vertex, "vertex"), PlyElement.describe(face, "face", **types)]
    ply = PlyData(elements, byte_order="<", comments=["a scan"])
    write_ply(tmp_path / "ours.ply", ply)
    ply.write(tmp_path / "theirs.ply")
    assert (tmp_path / "ours.ply").read_bytes() == (tmp_path / "theirs.ply").read_bytes()
