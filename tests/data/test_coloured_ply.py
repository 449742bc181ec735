import numpy as np
from plyfile import PlyData

from data.coloured_ply import RIGHT, UNLABELLED, WRONG, class_colours, error_colours, write_coloured
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
