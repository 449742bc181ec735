import json
import shlex

import numpy as np
import pytest
import torch

from data.labels import SCANNET20
from data.rooms.rooms import TELLING_COLOURS
from models.latentgnn import LatentGNN
from models.mean_feature import MeanFeature
from scripts import make_synthetic, preprocess_scannet
from scripts.experiments import context_probe

COMMANDS = {"make_synthetic.py": make_synthetic.main, "preprocess_scannet.py": preprocess_scannet.main}
MARKS = f"before\n{context_probe.BEGIN}\n{context_probe.END}\nafter\n"


@pytest.fixture
def room():
    """A desk at x = 2 m that is asked for, a wall at x = 3.5 m and one at x = 9 m; the colour is x / 10."""
    x = np.repeat(np.float32([2, 3.5, 9]), 100)
    points = np.zeros((300, 6), np.float32)
    points[:, 0], points[:, 3:] = x, x[:, None] / 10
    classes = np.where(x == 2, SCANNET20.names.index("desk"), SCANNET20.names.index("wall")).astype(np.int64)
    thing = {"objectId": 5, "class": "desk", "pair": "slab", "kind": "near"}
    return context_probe.Room(points, np.where(x == 2, 5, -1), classes, [thing], x == 2)


def test_a_chunk_is_around_an_asked_object_and_counts_it_alone(room):
    points, classes, counted = context_probe.chunk(room, np.random.default_rng(0), size=3.0, num_points=700)
    x = 10 * points[:, 3]  # before the rotation
    assert points.shape == (700, 6) and set(np.round(x, 3)) == {2, 3.5}
    assert np.array_equal(counted, x < 3) and np.array_equal(classes == SCANNET20.names.index("desk"), counted)
    np.testing.assert_allclose(np.hypot(*points[:, :2].T), x, rtol=1e-5)  # turned about the z axis
    assert (context_probe.chunk(room, np.random.default_rng(0), 1.5, 700)[0][:, 3] < 0.3).all()


def test_the_mean_context_tells_every_point_the_same():
    model = context_probe.network("whole", "mean", seed=0)
    assert isinstance(model.context4, MeanFeature)
    assert torch.equal(model.context2(torch.ones(1, 3, 128)), torch.ones(1, 3, 128))  # as the others at their start
    torch.nn.init.normal_(model.context1.linear.weight)
    x = torch.randn(2, 9, 64)
    added = model.context1(x) - x
    torch.testing.assert_close(added, model.context1.linear(x.mean(1)).unsqueeze(1).expand_as(x))


@pytest.mark.parametrize("name", context_probe.NETWORKS)
@pytest.mark.parametrize("row", context_probe.ROWS)
def test_networks_follow_from_the_seed_and_see_what_a_colour_tells(name, row):
    state = torch.get_rng_state()
    model = context_probe.network(name, row, seed=3).eval()
    assert torch.equal(torch.get_rng_state(), state)
    again = context_probe.network(name, row, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    points = torch.zeros(1, 40, 6)
    points[..., :3] = torch.rand(1, 40, 3, generator=torch.Generator().manual_seed(0))
    points[:, :20, 3:] = torch.tensor(TELLING_COLOURS["stool"]) / 255
    with torch.inference_mode():
        logits = model(points)
    assert logits.shape == (1, 40, 21) and not torch.allclose(logits[0, 0], logits[0, 30])
    if name == "layer":  # it knows of no place
        assert torch.allclose(logits[0, :20], logits[0, :1].expand(20, 21), atol=1e-5)

    layers = [model.context] if name == "layer" else [model.get_submodule(f"context{level}") for level in (1, 2, 3, 4)]
    latent_nodes = [80] if name == "layer" else [80, 40, 20, 10]
    for layer, nodes in zip(layers, latent_nodes, strict=True):
        if isinstance(layer, LatentGNN):
            assert (layer.logit_scale is not None) == (row in ("latentgnn_temperature", "latentgnn_both"))
            assert layer.signed == (row in ("latentgnn_signed", "latentgnn_both"))
            assert (layer.latent_nodes, layer.kernels) == (
                1 if row == "latentgnn_d1" else nodes,
                1 + 2 * row.endswith("k3"),
            )
        for parameter in layer.parameters():
            torch.nn.init.constant_(parameter, 0.3) if not parameter.any() else None  # what starts at 0
    if name == "layer":
        with torch.inference_mode():
            before = model(points)[0, 0]
            points[:, 20:, 3:] = 1 / 3
            after = model(points)[0, 0]
        assert torch.equal(before, after) == (row == "none")


def test_rows_of_the_layers_options_are_trained_if_named(monkeypatch):
    seen = []
    monkeypatch.setattr(context_probe, "run_all", lambda args: seen.append(args.rows))
    assert context_probe.main([]) == context_probe.main(["--rows", "latentgnn_both"]) == 0
    default = ["none", "mean", "non_local", "latentgnn_k1", "latentgnn_k3", "latentgnn_d1"]
    assert seen == [default, ["latentgnn_both"]]


def test_a_colour_is_what_it_tells():
    colours = torch.tensor(list(TELLING_COLOURS.values())) / 255
    assert context_probe.look_of(colours).tolist() == list(range(len(TELLING_COLOURS)))


def test_answers_are_counted_by_object(room):
    room.points[:50, 4] = 0.9  # a half of the desk, called a table

    class ByColour(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.names = torch.nn.Parameter(
                torch.eye(21)[[SCANNET20.names.index("desk"), SCANNET20.names.index("table")]]
            )

        def forward(self, points):
            return self.names[(points[..., 4] > 0.8).long()]  # (B, N, 21); walls at 9 m are tables too

    counts = context_probe.score(ByColour(), [room], {"chunk_size": 1.5, "points": 2048})
    drawn, answered, right = counts["near"]["slab"]["desk"]
    assert answered == drawn > 500 and 0.4 < right / drawn < 0.6
    assert counts["near"]["slab"]["table"] == [0, 0, 0]


@pytest.mark.parametrize("row", ["latentgnn_k1", "latentgnn_signed", "latentgnn_d1"])
def test_the_ranks_of_an_affinity_are_those_of_its_singular_values(room, row):
    settings = {"chunk_size": 3.0, "points": 200}
    room.points[:, 3:] = np.random.default_rng(0).random((300, 3))
    model = context_probe.network("layer", row, seed=0).train()
    torch.nn.init.normal_(model.embedding.weight, std=5, generator=torch.Generator().manual_seed(0))
    found = context_probe.affinity_ranks(model, [room], settings)
    assert not model.training  # or batch norm would have counted the chunk among its batches

    points, *_ = context_probe.chunk(room, np.random.default_rng(0), 3.0, 200)
    v2l, l2v, f = (m[0] for m in context_probe.affinities_of(model.context, model.features(torch.tensor(points[None]))))
    a = l2v.T @ f @ v2l  # (N, N): a row is what a point receives
    for rank, matrix in zip(found, (a, a - a.mean(0)), strict=True):
        squares = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
        assert rank == pytest.approx(squares.sum() ** 2 / np.square(squares).sum(), abs=0.006)
    assert found == [1, 1] if row == "latentgnn_d1" else max(found) > 1.03


def test_other_networks_have_no_rank(room):
    for name, row in (("layer", "mean"), ("whole", "latentgnn_k1")):
        model = context_probe.network(name, row, seed=0)
        assert context_probe.affinity_ranks(model, [room], {"chunk_size": 3.0, "points": 200}) is None


def test_a_finished_run_is_left_and_the_table_is_made_of_all(tmp_path, monkeypatch, capsys):
    ran = []

    def run_command(command):
        program, *arguments = shlex.split(command)
        ran.append(program)
        assert not COMMANDS[program.removeprefix("scripts/")](arguments)

    monkeypatch.setattr(context_probe, "run_command", run_command)
    report = tmp_path / "RESULTS.md"
    assert context_probe.main(["--report", str(report)]) == 1 and not ran  # there is none
    report.write_text(MARKS)
    arguments = ["--steps", "1", "--scenes", "4", "--seeds", "0", "1", "--device", "cpu", "--report", str(report)]
    arguments += ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    assert context_probe.main([*arguments, "--rows", "none"]) == 0
    assert context_probe.main([*arguments, "--rows", "none", "latentgnn_k1", "--chunk-size", "3"]) == 0
    assert len(ran) == 4
    ran.clear()
    assert context_probe.main([*arguments, "--rows", "none"]) == 0 and not ran
    assert context_probe.main([*arguments, "--steps", "2"]) == 1
    assert "not {'network': 'layer', 'chunk_size': 1.5" in capsys.readouterr().err

    result = json.loads((tmp_path / "results" / "layer-3m-latentgnn_k1-seed1.json").read_text())
    assert len(result["loss"]) == 1 and result["settings"]["chunk_size"] == 3.0
    assert 1 <= result["rank"][0] <= 80
    assert json.loads((tmp_path / "results" / "layer-3m-none-seed1.json").read_text())["rank"] is None
    counted = {
        kind: sum(n for pair in pairs.values() for n, *_ in pair.values()) for kind, pairs in result["kinds"].items()
    }
    assert counted["near"] > 0 and counted["local"] == counted["room"] == 0
    text = report.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "One layer alone, chunks of 1.5 m and 512 points, 16 of them" in text and "chunks of 3 m" in text
    assert (tmp_path / "context_probe.png").stat().st_size > 10_000
    assert text.count("| no context | 2 |") == 2 and text.count("| LatentGNN, K = 1 | 2 |") == 1
    assert "task" not in result["settings"] and "--task" not in result["command"]

    arguments[arguments.index("--data") + 1] = str(tmp_path / "doubles")
    assert context_probe.main([*arguments, "--task", "double", "--chunk-size", "1.5"]) == 1
    assert "chunks of 3 m, not 1.5" in capsys.readouterr().err
    assert context_probe.main([*arguments, "--task", "double", "--rows", "mean"]) == 0
    result = json.loads((tmp_path / "results" / "double-layer-3m-mean-seed1.json").read_text())
    assert result["settings"]["task"] == "double" and "--task double" in result["command"]
    assert sum(n for pair in result["kinds"]["double"].values() for n, *_ in pair.values()) > 0
    assert result["oracles"]["around"]["double"] == 1.0
    before, after = report.read_text().split("### Two look-alikes side by side")
    assert before.count("| no context | 2 |") == 2 and after.count("| mean feature | 2 |") == 1
    assert "| possible, knowing the object alone, or the chunk without positions |" in after


class ByColour(torch.nn.Module):
    """Answers of a function of a cloud (N, 6), a class's name for every point."""

    def __init__(self, answer):
        super().__init__()
        self.one_hot, self.answer = torch.nn.Parameter(torch.eye(21)), answer

    def forward(self, points):
        names = self.answer(points[0].numpy())
        return self.one_hot[[SCANNET20.names.index(name) for name in names]].unsqueeze(0)


def test_doubles_are_right_by_the_nearest_companion_and_half_right_by_one_answer():
    """A bookshelf at x = 2 and a cabinet at x = 3, with books and a suitcase in front of them, and a wall far away."""
    x, y = np.repeat(np.float32([2, 3, 2, 3, 9]), 100), np.repeat(np.float32([1, 1, 1.5, 1.5, 9]), 100)
    looks = np.repeat(["any tall", "any tall", "books", "suitcase", "wall"], 100)
    points = np.zeros((500, 6), np.float32)
    points[:, 0], points[:, 1] = x, y
    points[:, 3:] = np.array([TELLING_COLOURS[look] for look in looks]) / 255
    owner = np.repeat([1, 2, 3, 4, -1], 100)
    names = np.repeat(["bookshelf", "cabinet", "otherfurniture", "otherfurniture", "wall"], 100)
    classes = np.array([SCANNET20.names.index(name) for name in names])
    things = [
        {"objectId": i, "class": name, "pair": "tall", "kind": "double"}
        for i, name in ((1, "bookshelf"), (2, "cabinet"))
    ]
    (room,) = context_probe.once_a_pair(context_probe.Room(points, owner, classes, things, np.isin(owner, (1, 2))))
    assert room.middle.tolist() == [2.5, 1.0]
    chunk, _, counted = context_probe.chunk(room, np.random.default_rng(0), 3.0, 400)
    assert chunk.shape == (400, 6) and 0.4 < counted.mean() < 0.6  # of four objects two, and no wall

    def nearest(cloud):
        look = context_probe.look_of(torch.from_numpy(cloud[:, 3:])).numpy()
        of = {name: cloud[look == list(TELLING_COLOURS).index(name), :2] for name in ("books", "suitcase")}
        assert all(len(xy) for xy in of.values()) and len(cloud) == 400  # a chunk holds both
        books, suitcase = (np.hypot(*(cloud[:, None, :2] - xy).T).min(0) for xy in of.values())
        return np.where(books < suitcase, "bookshelf", "cabinet")

    for answer, right in ((nearest, 1.0), (lambda cloud: ["cabinet"] * len(cloud), 0.5)):
        counts = context_probe.score(ByColour(answer), [room], {"chunk_size": 3.0, "points": 400})
        found = context_probe.score_kinds.scores(counts)["double"]
        assert found["right"] == pytest.approx(right, abs=0.05 if right < 1 else 0)
        assert found["told apart"] == (1.0 if right == 1 else 0.0)


def test_a_chunk_asks_for_the_pair_that_it_is_around(room):
    """A desk at x = 2 m, which is asked for, and a window at 3.5 m, in the same chunk of 3 m."""
    room.owner[100:200], room.asked[100:200] = 6, True
    room.things.append({"objectId": 6, "class": "window", "pair": "rectangle", "kind": "double"})
    slab, rectangle = context_probe.once_a_pair(room)
    assert (slab.middle[0], rectangle.middle[0]) == (2, 3.5)
    points, _, counted = context_probe.chunk(rectangle, np.random.default_rng(0), 3.0, 400)
    x = np.round(10 * points[:, 3], 3)
    assert set(x) == {2, 3.5} and np.array_equal(counted, x == 3.5)
    counts = context_probe.score(
        ByColour(lambda cloud: ["desk"] * len(cloud)), [rectangle], {"chunk_size": 3.0, "points": 400}
    )
    assert not any(vertices for vertices, *_ in counts["double"]["slab"].values())


@pytest.mark.parametrize("row", context_probe.TASKS["double"].rows)
def test_a_layer_alone_knows_places_where_they_decide(row):
    model = context_probe.network("layer", row, seed=3, places=True).eval()
    points = torch.rand(1, 40, 6, generator=torch.Generator().manual_seed(0))
    points[..., 3:] = 0.0
    with torch.inference_mode():
        logits, moved = model(points), model(points + torch.tensor([5.0, -2.0, 0, 0, 0, 0]))
    assert not torch.allclose(logits[0, 0], logits[0, 1])
    torch.testing.assert_close(logits, moved, atol=1e-4, rtol=1e-4)  # from the middle of the points
