"""What TensorBoard is given, asked for as its browser does: over HTTP, from its own server, with no network."""

import json
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from tensorboard import program
from torch.utils.tensorboard import SummaryWriter

from data.coloured_ply import UNLABELLED
from data.datasets import WholeScenes, scene_files
from data.labels import SCANNET20
from data.scenes import read_manifest
from training import board


@pytest.fixture(scope="module")
def view(tiny_data):
    scenes = WholeScenes(scene_files(tiny_data, read_manifest(tiny_data), ["val"]), seed=0, covering=False)
    return board.SceneView(scenes, 1)


@pytest.fixture(scope="module")
def ask(view, tmp_path_factory):
    """A function that asks a server for a path of the mesh plugin; two epochs are in its folder, of one scene."""
    folder = tmp_path_factory.mktemp("board")
    writer = SummaryWriter(folder / "run")
    for epoch in (5, 10):
        view.add(writer, epoch, np.full(len(view.scene.points), epoch, np.uint8))
    writer.add_figure("val/confusion", board.confusion_figure(np.eye(21, dtype=int), SCANNET20), 10)
    writer.close()
    server = program.TensorBoard()
    # Read once: a thread that reads again every few seconds would take memory in tests that measure theirs
    server.configure(logdir=str(folder), port=0, load_fast="false", reload_interval=0)
    url = server.launch()

    def ask(path, **query):
        with urllib.request.urlopen(f"{url}data/plugin/{path}?{urllib.parse.urlencode(query)}", timeout=30) as reply:
            content = reply.read()
        return json.loads(content) if "json" in reply.headers["Content-Type"] else content

    deadline = time.monotonic() + 60
    while not ask("images/tags"):  # the last that was written; the server reads in a thread
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return ask


def test_input_truth_and_prediction_stand_side_by_side(ask, view):
    (tag,) = ask("mesh/tags")["run"]
    assert tag == "room4_00: input, ground truth, prediction"
    parts, n = ask("mesh/meshes", run="run", tag=tag, sample=0), len(view.index)
    assert [part["step"] for part in parts] == [5, 5, 10, 10]
    assert {tuple(part["data_shape"]) for part in parts} == {(1, 3 * n, 3)}
    config = json.loads(parts[0]["config"])
    assert config["material"]["cls"] == "PointsMaterial" and 0.01 < config["material"]["size"] < 0.1  # m
    assert config["camera"]["position"][0] == 0 and min(config["camera"]["position"][1:]) > 1  # in front and above

    label, xyz = view.scene.label[view.index], view.scene.points[view.index, :3]
    truth = SCANNET20.class_of[label]
    assert 3_000 < n < 5_000 and (label > 0).all()  # of 5,000 vertices; what is not annotated is not drawn
    for step in (5, 10):  # all that is predicted is class 5 and class 10
        content = {
            kind: ask("mesh/data", run="run", tag=tag, sample=0, content_type=kind, step=step)
            for kind in ("COLOR", "VERTEX")
        }
        colours = np.frombuffer(content["COLOR"], np.uint8).reshape(3, n, 3)
        assert (colours[0] == 128).all()
        np.testing.assert_array_equal(colours[1], np.where(truth[:, None] > 0, SCANNET20.palette[truth], UNLABELLED))
        assert (colours[2] == SCANNET20.palette[step]).all()
        places = np.frombuffer(content["VERTEX"], np.float32).reshape(3, n, 3)
        x, y, z = places.transpose(2, 0, 1) - places[:, :1].transpose(2, 0, 1)
        turned = xyz[:, [1, 0, 2]] * (1, -1, 1)  # the room is longer along x
        for copy in range(3):
            np.testing.assert_allclose(np.stack([x, -z, y], 2)[copy], turned - turned[0], atol=1e-5)
        assert places[0, :, 0].max() < places[1, :, 0].min() and places[1, :, 0].max() < places[2, :, 0].min()


def test_the_confusion_matrix_is_a_picture(ask):
    (image,) = ask("images/images", run="run", tag="val/confusion", sample=0)
    png = ask("images/individualImage", **dict(urllib.parse.parse_qsl(image["query"])))
    assert image["step"] == 10 and png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") == 1100


def test_the_shares_in_the_confusion_matrix():
    counts = np.zeros((21, 21), int)
    counts[1, 1], counts[1, 2], counts[1, 0], counts[3, 3], counts[0, 5] = 6, 3, 1, 7, 9
    (axes,) = board.confusion_figure(counts, SCANNET20).axes
    columns, rows = ([label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis))
    assert rows == list(SCANNET20.names[1:]) and columns == [*SCANNET20.names[1:], "none"]
    shares = {(rows[text.get_position()[1]], columns[text.get_position()[0]]): text.get_text() for text in axes.texts}
    expected = {("wall", "wall"): "60", ("wall", "floor"): "30", ("wall", "none"): "10", ("cabinet", "cabinet"): "100"}
    assert shares == expected


def test_a_large_scene_is_thinned_out_the_same_way_each_time(tiny_data, view, monkeypatch):
    monkeypatch.setattr(board, "MOST_POINTS", 1000)
    scenes = WholeScenes(scene_files(tiny_data, read_manifest(tiny_data), ["val"]), seed=0, covering=False)
    few, again = board.SceneView(scenes, 1), board.SceneView(scenes, 1)
    assert len(few.index) == 1000 and np.isin(few.index, view.index).all()
    assert np.array_equal(few.index, again.index)
