import json
import os
import re
import shutil
import types

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from data.clouds import find_clouds
from data.coloured_ply import UNLABELLED, write_coloured
from data.features import points_of
from data.labels import SCANNET20
from data.placed import Placed, field
from data.rooms import rooms
from data.rooms.meshes import box_mesh
from data.scenes import Scene
from data.standing import UPS, Standing, rotation_of
from models import pointnet2
from scripts import predict
from training import checkpoint, inference

FLOOR, WALL = 2, 1  # both the class and the nyu40 id
RGB = ("red", "green", "blue")


class ByHeight(torch.nn.Module):
    """A network that calls everything floor that is below 1 cm, and all else wall."""

    config = types.SimpleNamespace(extra_channels=0)

    def forward(self, points):
        low = points[..., 2] < 0.01
        return torch.nn.functional.one_hot(torch.where(low, FLOOR, WALL), 21).float()


@pytest.fixture
def by_height(monkeypatch, network):
    monkeypatch.setattr(checkpoint, "build", lambda content, path: ByHeight())
    return network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The export folder of an untrained network, with its last.pt beside it."""
    folder = tmp_path_factory.mktemp("run")
    model = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0)
    checkpoint.save(folder / "last.pt", model, {})  # a setting that it does not name has its default
    checkpoint.export(folder / "export", model)
    return folder / "export"


@pytest.fixture(scope="module")
def room():
    """A room of 4 m x 3 m x 2.2 m, z = 0 the floor: vertices (V, 3) float32 and triangles."""
    shell = box_mesh(np.array([4.0, 3.0, 2.2]), np.full(3, 0.3), np.random.default_rng(0), inside_out=True)
    return shell.xyz.astype(np.float32), shell.faces


@pytest.fixture(scope="module")
def furnished():
    """(V, 3) float64 of a room with furniture, its lowest vertex at 0."""
    xyz, *_ = rooms.mesh_room(rooms.plan_room(3, "train", 2), np.random.default_rng(0))
    return xyz - xyz.min(axis=0)


@pytest.fixture
def run(tmp_path, capsys):
    """A function that predicts tmp_path / "in.ply" and returns the exit code, the file written, and what was said."""

    def run(network, *flags):
        out = tmp_path / "out.ply"
        code = predict.main(
            ["--checkpoint", str(network), "--input", str(tmp_path / "in.ply"), "--out", str(out)] + [*flags]
        )
        said = capsys.readouterr()
        return code, PlyData.read(out) if out.exists() else None, said.out + said.err

    return run


def element(name, columns, **lists):
    table = np.empty(len(next(iter(columns.values()))), [(key, getattr(v, "dtype", "O")) for key, v in columns.items()])
    for key, values in columns.items():
        table[key] = values
    return PlyElement.describe(table, name, **lists, comments=[f"about {name}"])


def objects(lists):
    array = np.empty(len(lists), "O")
    array[:] = lists
    return array


@pytest.mark.parametrize("form", ["ascii", "<", ">"])
def test_whatever_is_in_the_file_stays(by_height, room, run, tmp_path, form):
    xyz, faces = room
    rng = np.random.default_rng(1)
    neighbours = objects([rng.random(n).astype("f4") for n in rng.integers(1, 4, len(xyz))])
    vertex = {"quality": rng.random(len(xyz)), "z": xyz[:, 2], "y": xyz[:, 1], "x": xyz[:, 0], "flags": neighbours}
    face = {"vertex_index": None, "material": np.arange(len(faces), dtype="i2")}
    face["vertex_index"] = objects(
        [row[: 2 + i % 2].tolist() + [0] * (i % 3) for i, row in enumerate(faces.astype("i4"))]
    )
    if form == ">":  # beside a list, plyfile writes big-endian numbers as little-endian ones
        del vertex["flags"], face["material"]
    elements = [
        element("camera", {"angle": np.array([0.5], "f4")}),
        element("vertex", vertex, val_types={"flags": "f4"}, len_types={"flags": "u2"}),
        element("face", face),
    ]
    order = "=" if form == "ascii" else form
    ply = PlyData(elements, form == "ascii", order, comments=["a scan"], obj_info=["of a room"])
    ply.write(tmp_path / "in.ply")
    code, out, said = run(by_height)
    assert code == 0 and "warning" not in said, said
    assert [e.name for e in out.elements] == ["camera", "vertex", "face"] and not out.text
    assert (out.comments[0], out.obj_info) == ("a scan", ["of a room"])
    for before in ply.elements:
        after = out[before.name]
        assert str(before.properties[0]) == str(after.properties[0])
        for name in before.data.dtype.names:
            assert all(np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True)), name
    assert np.array_equal(out["vertex"]["label"], np.where(xyz[:, 2] < 0.01, FLOOR, WALL))
    assert [out["vertex"].data.dtype[name] for name in RGB] == [np.uint8] * 3
    assert np.array_equal(np.stack([out["vertex"][name] for name in RGB], 1), SCANNET20.palette[out["vertex"]["label"]])


def test_the_summary_counts_the_classes(by_height, room, run, tmp_path):
    write_coloured(tmp_path / "in.ply", room[0], np.zeros((len(room[0]), 3), np.uint8), room[1])
    _, out, said = run(by_height)
    floor = int((room[0][:, 2] < 0.01).sum())
    lines = [line.split() for line in said.splitlines()]
    assert ["wall", "1", str(len(room[0]) - floor), f"{100 - 100 * floor / len(room[0]):.1f}"] in lines
    assert ["floor", "2", str(floor), f"{100 * floor / len(room[0]):.1f}"] in lines
    assert not any(line[:1] == ["cabinet"] for line in lines)


def test_what_the_prediction_takes_the_place_of_is_kept_once(by_height, room, run, tmp_path):
    xyz, faces = room
    colour = np.random.default_rng(0).integers(0, 256, (len(xyz), 3), np.uint8)
    write_coloured(tmp_path / "in.ply", xyz, colour, faces, label=np.full(len(xyz), 7))
    for _ in range(2):
        code, out, _ = run(by_height)
        assert code == 0 and np.array_equal(np.stack([out["vertex"]["input_" + name] for name in RGB], 1), colour)
        assert (out["vertex"]["input_label"] == 7).all() and set(out["vertex"]["label"]) == {FLOOR, WALL}
        assert np.array_equal(np.stack(out["face"]["vertex_indices"]), faces)
        (tmp_path / "out.ply").rename(tmp_path / "in.ply")


@pytest.mark.parametrize("up", UPS)
def test_scale_and_up_tell_of_other_coordinates(by_height, room, run, tmp_path, up):
    """Millimetres, 500 km and 5000 km from the origin, as integers and on any side: the labels are the room's."""
    axis, sign = "xyz".index(up[-1]), -1 if up[0] == "-" else 1
    places = {name: None for name in "xyz"}
    places["xyz"[axis]] = sign * room[0][:, 2].astype(float)
    others = [name for name in "xyz" if places[name] is None]
    places |= {others[0]: room[0][:, 0].astype(float), others[1]: room[0][:, 1].astype(float)}
    far = {name: np.rint(1000 * values).astype("i4") + 5 * 10**8 for name, values in places.items()}
    PlyData([element("vertex", far)]).write(tmp_path / "in.ply")
    code, out, said = run(by_height, "--scale", "0.001", f"--up={up}")
    assert code == 0 and "warning" not in said and " x 2.2 m" in said
    assert np.array_equal(out["vertex"]["label"], np.where(room[0][:, 2] < 0.01, FLOOR, WALL))
    assert np.array_equal(out["vertex"]["x"], far["x"])
    double = {name: values.astype("f8") / 1000 for name, values in far.items()}
    PlyData([element("vertex", double)]).write(tmp_path / "in.ply")
    assert np.array_equal(run(by_height, f"--up={up}")[1]["vertex"]["label"], out["vertex"]["label"])


def written(path, xyz):
    PlyData([element("vertex", dict(zip("xyz", xyz.T, strict=True)))]).write(path)


@pytest.mark.parametrize(
    ("change", "flags", "warning"),
    [
        (lambda xyz: xyz, [], None),
        (lambda xyz: xyz / 10, [], r"0.4 x 0.3 x 0.22 m is small for a room"),
        (lambda xyz: xyz / 10, ["--scale", "1"], None),
        (lambda xyz: xyz * 10, ["--as-is"], r"22 m is tall for a room: if its unit is the foot, give --scale 0.3048"),
        (lambda xyz: xyz + np.float32(4e6), [], r"its coordinates have steps of 0.25 m: export them as double"),
    ],
    ids=["as it should be", "decimetres", "as given", "feet", "on the globe"],
)
def test_what_is_odd_is_said(by_height, room, run, tmp_path, change, flags, warning):
    written(tmp_path / "in.ply", change(room[0]))
    code, _, said = run(by_height, *flags)
    warnings = [line for line in said.splitlines() if line.startswith("warning")]
    assert code == 0 and len(warnings) == (warning is not None), said
    assert warning is None or re.search(f"warning: {warning}", said), said


def test_how_the_input_stands_is_found_told_and_applied(by_height, furnished, run, tmp_path):
    """Centimetres, y up, and a stray: the labels are the upright room's. What is told is not looked for."""
    xyz, low = furnished[:, [0, 2, 1]] * [100, 100, -100], furnished[:, 2] < 0.01
    written(tmp_path / "in.ply", np.concatenate([xyz, [[90000.0, 0, 0]]]))
    code, out, said = run(by_height)
    assert code == 0 and "warning" not in said
    assert re.search(r"in.ply: y is up, not z \(.*\); its unit is the centimetre \(.*\); 1 vertices lie metres", said)
    assert np.array_equal(out["vertex"]["label"], [*np.where(low, FLOOR, WALL), 0])
    assert "1 vertices are left out: they get label 0" in said
    code, _, said = run(by_height, "--as-is")
    assert code == 1 and "the coordinates span 9" in said and "is up" not in said
    code, _, said = run(by_height, "--up=-y", "--scale", "0.01")
    assert code == 0 and "is up" not in said and "unit" not in said and "warning" not in said


def test_points_without_coordinates_get_no_class(by_height, room, run, tmp_path):
    xyz = room[0].copy()
    xyz[5], xyz[7, 1], xyz[9, 2] = np.nan, np.inf, np.finfo(np.float32).max  # with which some scanners mark them
    write_coloured(tmp_path / "in.ply", xyz, np.zeros(xyz.shape, np.uint8))
    code, out, said = run(by_height)
    assert code == 0 and "warning: 3 vertices have NaN or infinite coordinates: they get label 0" in said
    assert np.flatnonzero(out["vertex"]["label"] == 0).tolist() == [5, 7, 9]
    assert tuple(out["vertex"][5][name] for name in RGB) == UNLABELLED
    write_coloured(tmp_path / "in.ply", xyz[5:6], np.zeros((1, 3), np.uint8))
    (tmp_path / "out.ply").unlink()
    assert run(by_height)[:2] == (1, None)


def test_of_a_dense_cloud_a_part_is_predicted_for_all(by_height, room, run, tmp_path, monkeypatch):
    """Each vertex of the room 200 times, within 2 mm."""
    rng = np.random.default_rng(0)
    dense = (np.repeat(room[0], 200, axis=0) + rng.uniform(0, 0.002, (200 * len(room[0]), 3))).astype("f4")
    write_coloured(tmp_path / "in.ply", rng.permutation(dense), np.zeros(dense.shape, np.uint8))
    seen = []
    tiles = inference.run_scene
    monkeypatch.setattr(
        inference, "run_scene", lambda model, scene, *rest: (seen.append(scene), tiles(model, scene, *rest))[1]
    )
    said = run(by_height)[2]
    assert "warning: dense: " in said and "give --spacing" in said
    code, out, said = run(by_height, "--spacing", "0.1")
    assert code == 0 and "warning" not in said
    assert seen[0].stand_in is None and len(np.unique(seen[1].stand_in)) < len(dense) / 50
    assert np.array_equal(out["vertex"]["label"], np.where(out["vertex"]["z"] < 0.05, FLOOR, WALL))
    assert run(by_height, "--spacing", "1e-5")[0] == 2


@pytest.mark.parametrize("points", [1, 2, 300])
def test_clouds_smaller_than_a_chunk(network, run, tmp_path, points):
    xyz = np.random.default_rng(0).random((points, 3)).astype("f4")
    write_coloured(tmp_path / "in.ply", xyz, np.zeros((points, 3), np.uint8))
    code, out, _ = run(network)
    assert code == 0 and len(out["vertex"]) == points and (out["vertex"]["label"] > 0).all()


def test_checkpoint_and_export_and_every_run_give_the_same_bytes(network, room, run, tmp_path):
    xyz = room[0][room[0][:, 0] < 1.4]
    write_coloured(tmp_path / "in.ply", xyz, np.zeros(xyz.shape, np.uint8))
    written = []
    for weights in (network, network.parent / "last.pt", network):
        assert run(weights)[0] == 0
        written.append((tmp_path / "out.ply").read_bytes())
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("features", [["colour"], ["normal"], ["colour", "normal"]])
def test_point_features(room, run, tmp_path, features):
    """The network gets what training gives it: colours in [0, 1], those before a prediction, and normals."""
    xyz, faces = room
    model = pointnet2.build(pointnet2.PointNet2Config(21, extra_channels=3 * len(features)), seed=0)
    checkpoint.export(tmp_path / "export", model, features=features)
    colour = np.random.default_rng(0).integers(0, 256, (len(xyz), 3), np.uint8)
    write_coloured(tmp_path / "in.ply", xyz, colour, faces)
    assert run(tmp_path / "export")[0] == 0
    first = PlyData.read(tmp_path / "out.ply")
    (tmp_path / "out.ply").rename(tmp_path / "in.ply")
    code, again, _ = run(tmp_path / "export")
    assert code == 0 and np.array_equal(first["vertex"]["label"], again["vertex"]["label"])
    every = np.ones(len(xyz), dtype=bool)
    if "colour" in features:
        scene = Scene("in", xyz, colour=field(Placed("in.ply", again, xyz, every, Standing()), "colour"))
        values = points_of(scene, ["colour"])[:, 3:]
        assert values.dtype == np.float32 and np.allclose(255 * values, colour)
    if "normal" in features:
        floor = field(Placed("in.ply", again, xyz, every, Standing()), "normal")[(xyz[:, 2] < 0.01)]
        assert np.median(floor[:, 2]) == pytest.approx(1)
        assert np.median(
            field(Placed("in.ply", again, xyz, every, Standing(rotation_of("x"))), "normal")[xyz[:, 2] < 0.01][:, 1]
        ) == pytest.approx(1)
        polygons = element("face", {"vertex_indices": objects([*faces.astype("i4"), np.arange(16, dtype="i4")])})
        PlyData([again["vertex"], polygons]).write(tmp_path / "in.ply")
        code, _, said = run(tmp_path / "export")
        assert code == 0, said
        write_coloured(tmp_path / "in.ply", xyz, colour)
        assert "in.ply: a normal of each vertex is needed; give the vertices nx" in run(tmp_path / "export")[2]


def test_tiles_are_of_the_size_that_the_network_was_trained_on(room, run, tmp_path, monkeypatch):
    model = pointnet2.build(pointnet2.PointNet2Config(21), seed=0)
    checkpoint.export(tmp_path / "export", model, chunk_size=2.5)
    write_coloured(tmp_path / "in.ply", room[0], np.zeros(room[0].shape, np.uint8), room[1])
    seen, run_scene = [], inference.run_scene
    monkeypatch.setattr(
        inference, "run_scene", lambda model, scene, *rest: (seen.append(scene), run_scene(model, scene, *rest))[1]
    )
    assert run(tmp_path / "export", "--votes", "2")[0] == 0
    (scene,) = seen
    widths = [np.ptp(scene.points_of(crop)[crop.core, :2], axis=0).max() for crop in scene.covering if crop.core.any()]
    assert 2.4 < max(widths) <= 2.502  # its core, by 1 mm on either side


def test_what_cannot_be_predicted_is_one_line_and_leaves_no_file(network, room, run, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "in.ply", tmp_path / "out.ply"
    write_coloured(source, room[0] * 1000, np.zeros(room[0].shape, np.uint8), room[1])
    code, written, said = run(network, "--as-is")
    assert (code, written) == (1, None) and "in.ply: the coordinates span 4000 x 3000 x 2200 m" in said
    assert "--scale 0.001" in said
    write_coloured(source, room[0], np.zeros(room[0].shape, np.uint8), room[1])
    assert "last.pt: there is no such checkpoint" in run(tmp_path / "last.pt")[2]
    assert "holds no readable model.safetensors" in run(tmp_path)[2]
    assert run(network, "--scale", "0")[0] == 2
    (tmp_path / "empty").mkdir()
    assert predict.main(["--checkpoint", str(network), "--input", str(tmp_path / "empty")]) == 2
    assert "empty: has no file that ends in .ply" in capsys.readouterr().err
    assert predict.main(["--checkpoint", str(network), "--input", str(source), "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert predict.main(["--checkpoint", str(network), "--input", str(source), "--out", str(source)]) == 2
    whole = source.read_bytes()
    source.write_bytes(whole[:-20])
    code, written, said = run(network)
    assert (code, written) == (1, None) and "error: " in said and "in.ply: truncated, or not a PLY file" in said
    source.write_bytes(whole)

    out.write_bytes(b"earlier")
    content = torch.load(network.parent / "last.pt", weights_only=True)
    content["model"]["classifier.bias"].fill_(float("nan"))
    torch.save(content, tmp_path / "nan.pt")
    flags = ["--checkpoint", str(tmp_path / "nan.pt"), "--input", str(source), "--out", str(out)]
    assert predict.main(flags) == 1 and "logits are not finite" in capsys.readouterr().err
    monkeypatch.setattr(predict, "write_ply", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    flags[1] = str(network)
    assert predict.main(flags) == 1
    assert "out.ply: cannot be written (No space left on device); free space" in capsys.readouterr().err
    monkeypatch.setattr(predict, "write_ply", lambda *_: (_ for _ in ()).throw(OSError("3 of 9 written")))  # NumPy's
    assert predict.main([*flags, "--votes", "1"]) == 1
    assert "out.ply: cannot be written (3 of 9 written)" in capsys.readouterr().err
    assert out.read_bytes() == b"earlier" and source.read_bytes() == whole
    assert not list(tmp_path.glob("*.tmp"))


def test_a_page_shows_what_was_predicted(by_height, room, run, tmp_path):
    pytest.importorskip("plotly")
    xyz, faces = room
    write_coloured(tmp_path / "in.ply", xyz, np.full(xyz.shape, 90, np.uint8), faces)
    code, _, said = run(by_height, "--html", str(tmp_path / "pages" / "room.html"))
    text = (tmp_path / "pages" / "room.html").read_text()
    assert code == 0 and "room.html" in said
    low = 100 * (xyz[:, 2] < 0.01).mean()
    assert f"floor {low:.1f} %" in text and f"wall {100 - low:.1f} %" in text and "colours" in text


def test_a_page_takes_the_place_of_nothing(by_height, room, run, tmp_path):
    write_coloured(tmp_path / "in.ply", room[0], np.full(room[0].shape, 90, np.uint8), room[1])
    before = (tmp_path / "in.ply").read_bytes()
    for page in (tmp_path / "in.ply", tmp_path / "out.ply", tmp_path):
        code, out, said = run(by_height, "--html", str(page))
        assert code == 2 and out is None and "--html" in said
    assert (tmp_path / "in.ply").read_bytes() == before


def test_without_plotly_nothing_is_predicted_in_vain(by_height, room, run, tmp_path, monkeypatch):
    monkeypatch.setattr("data.page.find_spec", lambda name: None)
    write_coloured(tmp_path / "in.ply", room[0], np.full(room[0].shape, 90, np.uint8), room[1])
    code, out, said = run(by_height, "--html", str(tmp_path / "room.html"))
    assert code == 1 and out is None and "requirements-formats" in said


def read_confidence(ply):
    return ply["vertex"]["confidence"]


def test_seeds_differ_a_little_and_one_seed_never(network, room, run, tmp_path):
    xyz = room[0][room[0][:, 0] < 1.4]
    write_coloured(tmp_path / "in.ply", xyz, np.zeros(xyz.shape, np.uint8))
    flags = "--votes", "2", "--logits", str(tmp_path / "logits.npz")
    written = []
    for seed in ("1", "2", "1"):
        code, out, _ = run(network, *flags, "--seed", seed)
        assert code == 0
        written.append(
            (read_confidence(out), (tmp_path / "out.ply").read_bytes(), (tmp_path / "logits.npz").read_bytes())
        )
    assert written[0][1:] == written[2][1:]
    assert not np.array_equal(written[0][0], written[1][0]) and np.allclose(written[0][0], written[1][0], atol=0.2)


def test_confidence_is_that_of_the_logits_at_the_networks_temperature(network, room, run, tmp_path):
    """Softmax of the file's logits; the hotter, the less sure. Of what is not seen there are none."""
    xyz = room[0][room[0][:, 0] < 1.4]
    xyz[3, 0] = np.nan
    write_coloured(tmp_path / "in.ply", xyz, np.zeros(xyz.shape, np.uint8), confidence=np.full(len(xyz), 7, "f4"))
    config, found = json.loads((network / "config.json").read_text()), {}
    for temperature in (None, 0.5, 3.0):
        hot = shutil.copytree(network, tmp_path / f"at_{temperature}")
        if temperature:
            (hot / "config.json").write_text(json.dumps(config | {"temperature": temperature}))
        code, out, said = run(hot, "--votes", "1", "--logits", str(tmp_path / "logits.npz"))
        assert code == 0 and ("confidence (not calibrated" in said) == (temperature is None)
        sure, saved = read_confidence(out), np.load(tmp_path / "logits.npz")
        assert sure.dtype == np.float32 and (out["vertex"]["input_confidence"] == 7).all()
        assert saved["logits"].shape == (len(xyz), 21) and saved["temperature"] == (temperature or 1)
        assert np.isnan(saved["logits"][3]).all() and (sure[3], out["vertex"]["label"][3]) == (0, 0)
        assert saved["names"][2] == "floor" and saved["ids"].tolist() == SCANNET20.id_of.tolist()
        seen = np.arange(len(xyz)) != 3
        expected = torch.from_numpy(saved["logits"][seen] / np.float32(temperature or 1)).softmax(1).numpy()
        column = 1 + expected[:, 1:].argmax(1)
        np.testing.assert_allclose(sure[seen], expected.max(1, where=np.arange(21) > 0, initial=0), rtol=1e-4)
        assert (out["vertex"]["label"][seen] == saved["ids"][column]).mean() > 0.99  # but for equal ones
        found[temperature] = sure[seen]
        likeliest = expected[:, 1:].max(1) > expected[:, 0]  # of all, "none of the classes" among them
    assert likeliest.sum() > 50 and (found[0.5] > found[None])[likeliest].all()
    assert (found[3.0] < found[None])[likeliest].all()


def test_a_temperature_that_is_none_is_refused(network, room, run, tmp_path):
    write_coloured(tmp_path / "in.ply", room[0], np.zeros(room[0].shape, np.uint8))
    config = json.loads((network / "config.json").read_text())
    hot = shutil.copytree(network, tmp_path / "hot")
    for temperature in (0, -1, "hot", float("inf")):
        (hot / "config.json").write_text(json.dumps(config | {"temperature": temperature}))
        code, out, said = run(hot)
        assert (code, out) == (1, None) and "hot: holds no readable" in said


@pytest.fixture
def scans(room, tmp_path):
    """A folder of three rooms and a broken file, an earlier prediction and a file that macOS makes."""
    folder = tmp_path / "scans"
    (folder / "upstairs").mkdir(parents=True)
    for name in ("a.ply", "upstairs/a.ply", "upstairs/c.PLY", "a_pred.ply"):
        write_coloured(folder / name, room[0], np.zeros(room[0].shape, np.uint8), room[1])
    (folder / "b.ply").write_bytes((folder / "a.ply").read_bytes()[:-9])
    (folder / "._a.ply").write_bytes(b"macOS")
    return folder


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_of_folders_and_files_one_bad_one_does_not_end_the_rest(by_height, scans, room, tmp_path, capsys, monkeypatch):
    loaded, load = [], predict.load_network
    monkeypatch.setattr(predict, "load_network", lambda path: loaded.append(path) or load(path))
    write_coloured(tmp_path / "more.ply", room[0], np.zeros(room[0].shape, np.uint8))
    given = [str(scans), str(tmp_path / "more.ply"), str(tmp_path / "missing.ply")]
    flags = ["--checkpoint", str(by_height), "--input", *given, "--out", str(tmp_path / "out"), "--votes", "1"]
    assert predict.main([*flags, "--logits", str(tmp_path / "logits")]) == 1
    said = capsys.readouterr().out
    names = ["a", "more", "upstairs/a", "upstairs/c"]
    assert files_of(tmp_path / "out") == [f"{name}_pred.ply" for name in names]
    assert files_of(tmp_path / "logits") == [f"{name}.npz" for name in names]
    assert len(loaded) == 1 and said.count("failed: ") == 2 and "4 scans predicted, 2 failed" in said
    assert re.search(r"^\d of 6: failed: .*scans/b.ply: truncated", said, re.M) and "missing.ply: " in said
    for name in names:
        vertex = PlyData.read(tmp_path / "out" / f"{name}_pred.ply")["vertex"]
        assert np.array_equal(vertex["label"], np.where(vertex["z"] < 0.01, FLOOR, WALL))
    (scans / "b.ply").unlink()
    assert predict.main(["--checkpoint", str(by_height), "--input", str(scans), "--votes", "1"]) == 0
    assert (scans / "upstairs" / "c_pred.ply").is_file() and "a_pred_pred.ply" not in files_of(scans)


def test_several_scans_have_a_place_each(by_height, scans, tmp_path, capsys):
    start = ["--checkpoint", str(by_height), "--input"]
    both = [str(scans / "a.ply"), str(scans / "upstairs" / "a.ply")]
    (tmp_path / "file").write_bytes(b"")
    for flags, message in (
        ([*both, "--out", str(tmp_path / "out")], f"would be written twice, of {both[0]} and of {both[1]}"),
        ([str(scans), "--out", str(tmp_path / "file")], "is a file; of several inputs give a folder"),
    ):
        assert predict.main(start + flags) == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_was_written_into_a_folder_is_not_predicted(by_height, scans, tmp_path, capsys):
    (scans / "b.ply").unlink()
    np.savetxt(scans / "table.xyz", np.eye(3))
    start = ["--checkpoint", str(by_height), "--votes", "1", "--input"]
    assert predict.main([*start, str(scans / "table.xyz")]) == 0
    for _ in range(2):
        assert predict.main([*start, str(scans), "--out", str(scans / "made"), "--logits", str(scans / "made")]) == 0
        said = capsys.readouterr().out
        assert "3 scans predicted, 0 failed" in said and "given by name; 1 are left out: table.xyz" in said
    assert find_clouds(scans).keys() == {"a", "table", "upstairs_a", "upstairs_c"}
    for path in files_of(scans):
        if not path.endswith("table.xyz"):
            (scans / path).unlink()
    assert predict.main([*start, str(scans)]) == 2
    said = capsys.readouterr()
    assert "has no file that ends in" in said.err and "1 are left out: table.xyz" in said.out


def test_a_device_is_not_replaced(by_height, room, run, tmp_path):
    written(tmp_path / "in.ply", room[0])
    os.mkfifo(tmp_path / "pipe")
    for flag in ("--html", "--logits"):
        code, _, said = run(by_height, flag, str(tmp_path / "pipe"))
        assert code == 2 and f"error: {flag} {tmp_path}/pipe is a device or a pipe; give the name of a file" in said
    assert (tmp_path / "pipe").is_fifo()


def test_a_name_in_no_encoding(by_height, room, tmp_path, capsys):
    pytest.importorskip("plotly")
    path = tmp_path / os.fsdecode(b"b\xfcro.ply")
    written(path, room[0])
    flags = ["--checkpoint", str(by_height), "--votes", "1", "--html", str(tmp_path / "a.html")]
    assert predict.main([*flags, "--input", str(path)]) == 0
    assert r"b\udcfcro.ply: " in capsys.readouterr().out and "b?ro.ply" in (tmp_path / "a.html").read_text("utf-8")
    assert path.with_name(os.fsdecode(b"b\xfcro_pred.ply")).is_file()


def test_many_crops_are_told_before_the_work(by_height, run, tmp_path):
    written(tmp_path / "in.ply", np.random.default_rng(0).random((400, 3)) * [30, 30, 3])
    said = run(by_height, "--device", "cpu", "--votes", "2")[2]
    assert re.search(r"note: \d{3} crops of 1.5 m have to be .* in 2 votes; --votes 1 takes 1/2 of", said)
