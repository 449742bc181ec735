"""PLY files by other names, with colours on their faces, and of Gaussian splats."""

import numpy as np
import pytest
from plyfile import PlyData, PlyElement
from test_clouds import COLOUR, PLACES, XYZ, V, equal, table, write_ply

from data.clouds import read_cloud
from data.coloured_ply import class_colours, with_prediction
from data.formats.as_ply import read_input
from data.formats.plys import colours_from_faces
from data.labels import SCANNET20
from data.scans import ScanError

RGB = ("red", "green", "blue")
FACES = [(0, 1, 2), (2, 3, 4), (4, 0, 2)]
LABEL = np.uint16([1, 2, 2, 5, 5] + [7] * (V - 5))
OF_FACES = np.uint16([2, 5, 5])  # the commonest of each face's corners; of three that differ the first: see below
COLOURS = np.uint8([[200, 0, 0], [0, 100, 0], [0, 0, 51]])


def write(path, columns, element="vertex", faces=None, text=False, **of_faces):
    elements = [PlyElement.describe(table(columns), element)]
    if faces is not None:
        corners = np.empty(len(faces), "O")
        corners[:] = [np.array(face, np.int32) for face in faces]
        elements.append(PlyElement.describe(table({"vertex_indices": corners} | of_faces), "face"))
    PlyData(elements, text, "=" if text else "<", comments=["a scan"]).write(path)
    return path


def predicted(path, out):
    """The file that scripts/predict.py would write, with LABEL."""
    with_prediction(read_input(path).ply, LABEL, np.ones(len(LABEL)), SCANNET20).write(out)
    return PlyData.read(out)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("element", ["vertex", "point", "points"])
@pytest.mark.parametrize(
    ("names", "as_stored"),
    [
        (("r", "g", "b"), COLOUR),
        (("diffuse_red", "diffuse_green", "diffuse_blue"), COLOUR),
        (RGB, (COLOUR / 255).astype(np.float32)),
        (RGB, COLOUR.astype(np.float32)),
        (RGB, COLOUR + np.float32(0.25)),
    ],
    ids=["r", "diffuse", "fractions", "whole floats", "other floats"],
)
def test_other_names(tmp_path, text, element, names, as_stored):
    columns = dict(zip(("X", "Y", "Z"), XYZ.T, strict=True)) | dict(zip(names, as_stored.T, strict=True))
    as_stored = np.minimum(as_stored, 255)
    columns |= dict(zip(names, as_stored.T, strict=True)) | {"quality": np.arange(V, dtype=np.int32)}
    path = write(tmp_path / "a.ply", columns, element, FACES, text)
    scan = read_cloud(path)
    equal(scan, xyz=XYZ.astype(np.float32), colour=COLOUR, faces=np.int32(FACES))
    ply = read_input(path).ply
    assert ply.comments == ["a scan"] and {"x", "y", "z", *names, "quality"} == {*ply["vertex"].data.dtype.names}
    np.testing.assert_array_equal(ply["vertex"]["z"], XYZ[:, 2])
    again = predicted(path, tmp_path / "out.ply")
    kept = again["vertex"][names[0] if names[0] != "red" else "input_red"]
    np.testing.assert_allclose(kept, as_stored[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(again["vertex"]["label"], LABEL)
    assert len(again["face"]) == len(FACES)


def test_a_scan_keeps_its_own_colours_beside_those_of_a_prediction(tmp_path):
    path = write(tmp_path / "a.ply", PLACES | dict(zip("rgb", COLOUR.T, strict=True)))
    predicted(path, tmp_path / "out.ply")
    equal(read_cloud(tmp_path / "out.ply"), colour=COLOUR)


def test_colours_of_faces(tmp_path):
    """A vertex has the mean of its faces'; the output's faces have the colours of the prediction, and keep theirs."""
    path = write(tmp_path / "a.ply", PLACES, faces=FACES, **dict(zip(RGB, COLOURS.T, strict=True)))
    wanted = np.zeros((V, 3), np.uint8)
    wanted[:5] = [[100, 0, 26], [200, 0, 0], [67, 33, 17], [0, 100, 0], [0, 50, 26]]
    equal(read_cloud(path), colour=wanted)
    for again in ("first.ply", "second.ply"):  # of the output, too
        np.testing.assert_array_equal(colours_from_faces(path, read_input(path).ply), wanted)
        out, path = predicted(path, tmp_path / again), tmp_path / again
        assert len(out["face"].properties) == 7
        found = np.stack([out["face"][name] for name in RGB], 1)
        np.testing.assert_array_equal(found, class_colours(OF_FACES, SCANNET20))
        np.testing.assert_array_equal(np.stack([out["face"]["input_" + name] for name in RGB], 1), COLOURS)
        np.testing.assert_array_equal(np.stack(out["face"]["vertex_indices"]), FACES)


def test_colours_of_polygons(tmp_path):
    faces = [(0, 1, 2, 3), (), (4,), (3, 1, 0)]
    colour = dict(zip(RGB, np.tile(np.uint8([[9], [8], [7], [6]]), 3).T, strict=True))
    ply = read_input(write(tmp_path / "a.ply", PLACES, faces=faces, **colour)).ply
    out = with_prediction(ply, LABEL, np.ones(len(LABEL)), SCANNET20)
    found = np.stack([out["face"][name] for name in RGB], 1)
    np.testing.assert_array_equal(found, class_colours(np.uint16([2, 0, 5, 5]), SCANNET20))
    ply = write(tmp_path / "a.ply", PLACES, faces=[(0, 1, V)] * 4, **colour)
    with pytest.raises(ScanError, match="a.ply: faces refer to other vertices"):
        read_input(ply)


def test_gaussian_splats(tmp_path):
    """Their colours are those seen from everywhere; the faint ones are told apart."""
    opacity = np.linspace(-6, 6, V).astype(np.float32)
    opacity[0] = np.nan
    dc = ((COLOUR / 255 - 0.5) / 0.28209479177387814).astype(np.float32)
    columns = PLACES | {f"f_dc_{channel}": dc[:, channel] for channel in range(3)} | {"opacity": opacity}
    path = write_ply(tmp_path / "a.ply", columns)
    ply, notes, left_out = read_input(path)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(left_out, ~(opacity >= np.log(0.1 / 0.9)))
    assert f"Gaussian splats, {left_out.sum()} of {V} fainter than 0.1" in notes[0] and 15 < left_out.sum() < 25
    scan = read_cloud(path)
    equal(scan, colour=COLOUR)
    assert scan.notes == notes
    assert read_input(write_ply(path, PLACES | {"opacity": opacity})).left_out is None


@pytest.mark.parametrize(
    ("element", "columns", "cause"),
    [
        ("camera", PLACES, "no element 'vertex' or 'point', only camera"),
        ("vertex", {"packed_position": np.arange(V, dtype=np.int32)}, "compressed form"),
        ("vertex", {"x": XYZ[:, 0], "Y": XYZ[:, 1], "Z": XYZ[:, 2]}, "x|y"),
    ],
)
def test_plys_without_points(tmp_path, element, columns, cause):
    path = write(tmp_path / "a.ply", columns, element)
    with pytest.raises(ScanError, match=f"a.ply: .*{cause}"):
        read_cloud(path)
