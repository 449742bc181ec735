"""scripts/predict.py on files of other formats than PLY, by a network that calls low points floor, and others wall."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement
from test_predict import FLOOR, WALL, ByHeight

from data.formats.as_ply import outputs
from scripts import predict
from training import checkpoint

sys.path.append(str(Path(__file__).parents[1] / "data"))
from test_formats import EVERY, write

ROOM = np.random.default_rng(0).uniform(0, (3, 2.5, 2.2), (60, 3)).round(3)
ROOM[::3, 2] = 0
LABEL = np.where(ROOM[:, 2] < 0.01, FLOOR, WALL)


class WithHeight(ByHeight):
    """As the weights that come along, it takes a feature."""

    config = types.SimpleNamespace(extra_channels=1)


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that predicts a file and returns the exit code and what was said."""
    monkeypatch.setattr(checkpoint, "build", lambda content, path: WithHeight())

    def run(path, *flags):
        code = predict.main(["--input", str(path), "--spacing", "0", *map(str, flags)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize("name", EVERY)
def test_every_format_gives_a_ply_file(run, tmp_path, name):
    path = write(tmp_path / name, ROOM)
    code, said = run(path)
    assert code == 0, said
    out = PlyData.read(tmp_path / f"{path.stem}_pred.ply")["vertex"]
    np.testing.assert_array_equal(out["label"], LABEL)
    np.testing.assert_allclose(np.stack([out[axis] for axis in "xyz"], 1), ROOM, atol=1e-5)
    assert [out.data.dtype[name] for name in ("red", "green", "blue")] == [np.uint8] * 3
    path.write_bytes(path.read_bytes()[:70])
    if path.suffix not in (".obj", ".csv", ".xyz", ".txt"):
        code, said = run(path)
        assert code == 1 and name in said and said.count("\n") == 2 and "Traceback" not in said  # the device, and it


@pytest.mark.parametrize("point_format", [2, 7])
@pytest.mark.parametrize("ending", [".las", ".laz"])
def test_las_keeps_all_that_it_has(run, tmp_path, ending, point_format):
    laspy = pytest.importorskip("laspy")
    rng = np.random.default_rng(1)
    header = laspy.LasHeader(point_format=point_format)
    header.scales, header.offsets = [0.001, 0.001, 0.002], [500_000, 5_000_000, 100]
    header.system_identifier, header.file_source_id = "a scanner", 7
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "the coordinates' system", b"PROJCS[...]"))
    header.vlrs.append(laspy.VLR("copc", 1, "of the order of points", bytes(160)))
    header.add_extra_dims([laspy.ExtraBytesParams("label", "u1"), laspy.ExtraBytesParams("quality", "f8")])
    las = laspy.LasData(header)
    las.xyz = ROOM + header.offsets
    las.classification, las.intensity = rng.integers(0, 30, 60), rng.integers(0, 65_536, 60)
    las.red, las.return_number, las.label = rng.integers(0, 65_536, 60), np.full(60, 1), np.arange(60)
    las.quality, las.point_source_id = rng.random(60), np.arange(60)
    path = tmp_path / f"room{ending}"
    las.write(str(path))
    code, said = run(path, "--las-classification")
    assert code == 0 and f"room_pred{ending}" in said and "room_pred.ply" in said, said
    out = laspy.read(tmp_path / f"room_pred{ending}")
    assert out.label.dtype == np.uint16 and out.header.are_points_compressed == (ending == ".laz")
    np.testing.assert_array_equal(out.label, LABEL)
    np.testing.assert_array_equal(out.classification, LABEL)
    np.testing.assert_array_equal(out["input_label"], las.label)
    np.testing.assert_array_equal(out["input_classification"], las.classification)
    for name in {*las.point_format.dimension_names} - {"label", "classification"}:
        np.testing.assert_array_equal(out[name], las[name], err_msg=name)
    for name in ("scales", "offsets", "version", "system_identifier", "file_source_id", "uuid"):
        assert np.array_equal(getattr(out.header, name), getattr(las.header, name)), name
    assert [record.record_id for record in out.header.vlrs if record.user_id == "LASF_Projection"] == [2112]
    assert not [record for record in out.header.vlrs if record.user_id == "copc"]
    ply = PlyData.read(tmp_path / "room_pred.ply")["vertex"]
    np.testing.assert_array_equal(ply["x"], las.x)
    np.testing.assert_array_equal(ply["input_label"], las.label)
    np.testing.assert_array_equal(ply["quality"], las.quality)
    code, _ = run(tmp_path / f"room_pred{ending}", "--out", tmp_path / "again.las")  # the first input's stays
    np.testing.assert_array_equal(laspy.read(tmp_path / "again.las")["input_label"], las.label)
    assert code == 0 and (tmp_path / "again.ply").exists()


def test_ids_that_do_not_fit_into_a_classification(tmp_path):
    laspy = pytest.importorskip("laspy")
    from data.formats.las import write_las

    ids = np.uint16([0, 5, 31, 32, 255, 256])
    for point_format, wanted in ((2, [0, 5, 31, 0, 0, 0]), (7, [0, 5, 31, 32, 255, 0])):
        las = laspy.LasData(laspy.LasHeader(point_format=point_format))
        las.xyz = np.zeros((6, 3))
        las.write(str(tmp_path / "a.las"))
        confidence = np.linspace(0, 1, 6, dtype=np.float32)
        write_las(tmp_path / "a.las", tmp_path / "b.laz", {"label": ids, "confidence": confidence}, ids)
        out = laspy.read(tmp_path / "b.laz")
        assert np.asarray(out.classification).tolist() == wanted and np.array_equal(out.label, ids)
        assert np.array_equal(out.confidence, confidence) and out.confidence.dtype == np.float32


def test_faint_splats_get_no_class(run, tmp_path):
    columns = dict(zip("xyz", ROOM.T, strict=True)) | {"opacity": np.tile([3.0, -3.0], 30)}
    columns |= {f"f_dc_{channel}": np.zeros(60) for channel in range(3)}
    rows = np.rec.fromarrays([*columns.values()], names=[*columns])
    PlyData([PlyElement.describe(rows, "vertex")]).write(tmp_path / "splats.ply")
    code, said = run(tmp_path / "splats.ply", "--out", tmp_path / "out.ply")
    assert code == 0 and "Gaussian splats, 30 of 60 fainter than 0.1" in said and "30 vertices are faint" in said
    label = PlyData.read(tmp_path / "out.ply")["vertex"]["label"]
    np.testing.assert_array_equal(label, np.where(np.arange(60) % 2, 0, LABEL))
    rows["opacity"] = -3
    PlyData([PlyElement.describe(rows, "vertex")]).write(tmp_path / "splats.ply")
    code, said = run(tmp_path / "splats.ply", "--out", tmp_path / "out.ply")
    assert code == 1 and "no vertex with finite coordinates; all others are faint splats" in said


@pytest.mark.parametrize(
    ("source", "out", "wanted"),
    [
        ("a.ply", None, ("a_pred.ply", None)),
        ("a.ply", "b", ("b", None)),
        ("a.e57", None, ("a_pred.ply", None)),
        ("a.LAZ", None, ("a_pred.ply", "a_pred.laz")),
        ("a.copc.laz", None, ("a.copc_pred.ply", "a.copc_pred.laz")),
        ("a.laz", "b.las", ("b.ply", "b.las")),
        ("a.las", "b.ply", ("b.ply", "b.las")),
        ("a.las", "b.of.2026", ("b.of.2026", "b.of.2026.las")),
        ("a.ply", "b.laz", "only of a LAS or LAZ file"),
        ("a.pcd", "b.pcd", "are PLY files"),
    ],
)
def test_names_of_what_is_written(source, out, wanted):
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=wanted):
            outputs(Path(source), Path(out))
    else:
        found = outputs(Path(source), Path(out) if out else None)
        assert found == tuple(Path(name) if name else None for name in wanted)


def test_flags_that_do_not_go_with_a_format(run, tmp_path):
    las, ply = write(tmp_path / "a.las", ROOM), write(tmp_path / "b.ply", ROOM)
    before = las.read_bytes()
    for path, flags, cause in (
        (las, ("--out", tmp_path / "a.ply"), "a.las is an input"),
        (las, ("--out", tmp_path / "a.las"), "a.las is an input"),
        (las, ("--html", tmp_path / "a_pred.las"), "would be written twice"),
        (ply, ("--las-classification",), "is no LAS or LAZ file"),
        (ply, ("--out", tmp_path / "b.las"), "only of a LAS or LAZ file"),
    ):
        code, said = run(path, *flags)
        assert code == 2 and cause in said and said.count("\n") == 1, said
    assert las.read_bytes() == before and not (tmp_path / "a_pred.las").exists()
