from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from plyfile import PlyData
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData
from torch import nn

from data.labels import SCANNET20
from models.batch_norm import set_batch_norm_momentum
from models.pointnet2 import PointNet2Config, build
from ops import reference
from scripts.experiments import latent_nodes
from training import checkpoint

CONFIG = {"unannotated": "drop", "other": "train", "features": []}  # of a training run


def network(points, **options):
    """An untrained network whose layers add something, with the batch statistics of points (N, 3)."""
    model = build(PointNet2Config(21, **{"context": "latentgnn", "latent_nodes": (7, 6, 5, 4), **options}), seed=0)
    set_batch_norm_momentum(model, 1.0)
    for number in latent_nodes.LAYERS:
        context = model.get_submodule(f"context{number}")
        nn.init.constant_(context.scale, 0.5)
        nn.init.constant_(context.logit_scale, 2.0) if context.logit_scale is not None else None
    with torch.no_grad():
        model.train()(points[None])
    return model.eval()


def save(model, data, folder):
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder / "last.pt", model, CONFIG)
    return ["--checkpoint", str(folder / "last.pt"), "--data", str(data)]


def cloud(seed=2):
    return torch.rand(3000, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.9, 1.9, 2.4])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernels": 2, "weight": "latent"},
        {"symmetric": True},
        {"kernels": 2, "l2v_norm": "points", "weight": None},
        {"learned_temperature": True},
        {"learned_temperature": True, "signed": True},
    ],
    ids=str,
)
def test_the_affinities_are_those_of_the_layers_dense_form(options):
    model, seen = network(cloud(seed=3), **options), {}
    for context in (model.context1, model.context4):
        context.register_forward_hook(lambda module, args, output: seen.update({module: (args[0], output)}))
    layers = latent_nodes.look(model, cloud())
    for layer, context in ((layers[0], model.context1), (layers[3], model.context4)):
        psi_v2l, psi_l2v, f = (torch.from_numpy(array) for array in (layer.psi_v2l, layer.psi_l2v, layer.f))
        v2l_axis, l2v_axis = 1 if context.symmetric else 2, 2 if context.l2v_norm == "points" else 1
        for psi, axis in ((psi_v2l, v2l_axis), (psi_l2v, l2v_axis)):
            assert (psi.min() < 0) == context.signed and psi.shape[1:] == (context.latent_nodes, len(layer.xyz))
            squares = psi.square().sum(axis)
            assert (squares > 0).any()
            torch.testing.assert_close(squares[squares > 0], torch.ones_like(squares[squares > 0]))

        x, y = (rows[0] for rows in seen[context])  # (M, C)
        with torch.no_grad():
            x_v2l = nn.functional.normalize(context.reduce_v2l(x.T[None]), dim=1)[0].T  # (M, c)
            messages = psi_l2v.transpose(1, 2) @ f @ psi_v2l @ x_v2l  # (K, M, c), A X of Eq. 12
            if context.weight_side is not None:
                messages = messages @ context.weight
            messages = messages.transpose(1, 2).flatten(0, 1)[None]  # (1, K c, M)
            if context.weight_side is not None:
                messages = context.weight_norm(messages).relu()
            added = 0.5 * context.mixture(messages)[0].T  # (M, C)
        torch.testing.assert_close(x + added, y, rtol=1e-3, atol=1e-3)  # batch norm makes small numbers large
        assert layer.update == pytest.approx((added.norm() / x.norm()).item(), rel=1e-3)
        assert layer.same == pytest.approx(
            (added.mean(0).square().sum() / added.square().mean(0).sum()).item(), rel=1e-3
        )


def test_a_layers_points_are_the_centres_of_its_set_abstraction():
    xyz = points = cloud()
    for layer in latent_nodes.look(network(points), points):
        index = reference.furthest_point_sample(xyz[None], len(layer.xyz))[0]
        xyz = xyz[index]
        np.testing.assert_array_equal(layer.xyz, xyz)


def test_spread_likeness_and_rank():
    weights = np.zeros((4, 10), np.float32)
    weights[0, :5], weights[1, 3], weights[2, 5:] = 0.2, 7, 0.1
    np.testing.assert_allclose(latent_nodes.spread(weights, 1), [5, 1, 5, 0])
    np.testing.assert_allclose(latent_nodes.spread(weights * (-1) ** np.arange(10), 1), [5, 1, 5, 0])
    cosine = 1 / np.sqrt(5)  # of rows 0 and 1; row 2 meets neither, and row 3 is not active
    assert latent_nodes.likeness(weights) == pytest.approx(cosine / 3)
    assert np.isnan(latent_nodes.likeness(weights[2:]))

    random = np.maximum(np.random.default_rng(0).normal(size=(300, 2000)), 0)  # what the legend says of random weights
    assert latent_nodes.spread(random, 1).mean() / 2000 == pytest.approx(latent_nodes.RANDOM, abs=0.01)
    assert latent_nodes.likeness(random) == pytest.approx(latent_nodes.RANDOM, abs=0.01)
    v2l, l2v = random[:80, :1000], random[80:160, :1000]
    z = nn.functional.normalize(torch.from_numpy(v2l) @ cloud()[:1000].double().sub(0.9), dim=1)
    assert latent_nodes.rank(v2l, (z @ z.T).softmax(1).numpy(), l2v) == pytest.approx(1, abs=0.01)
    assert latent_nodes.rank(v2l, np.eye(80), l2v) > 1.05

    apart = np.eye(3, 12)
    assert latent_nodes.rank(apart, np.eye(3), apart) == pytest.approx(3)
    assert latent_nodes.rank(apart, np.full((3, 3), 1 / 3), apart) == pytest.approx(1)
    v2l, f, l2v = (np.random.default_rng(1).random(shape) for shape in ((3, 12), (3, 3), (3, 12)))
    squares = np.linalg.svd(l2v.T @ f @ v2l, compute_uv=False) ** 2
    assert latent_nodes.rank(v2l, f, l2v) == pytest.approx(squares.sum() ** 2 / np.square(squares).sum())


def test_pages_ply_tensorboard_and_table(tiny_data, tmp_path, capsys):
    chunk = latent_nodes.cut_chunk(latent_nodes.find_scene(tiny_data, "room3_00"), CONFIG, SCANNET20, tile=1, seed=0)
    model = network(chunk.points, kernels=2)
    arguments = save(model, tiny_data, tmp_path / "run") + ["--layer", "1", "4", "--nodes", "2", "--tile", "1"]
    assert latent_nodes.main(arguments) == 0
    out = tmp_path / "run" / "latent_nodes" / "room3_00"  # the first for validation
    assert (out / "latent_nodes.txt").read_text() in capsys.readouterr().out

    pages = ["layer1_kernel1", "layer1_kernel2", "layer4_kernel1", "layer4_kernel2"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["latent_nodes.txt", "tensorboard", *(f"{page}{suffix}" for page in pages for suffix in (".ply", ".png"))]
    )
    layer = latent_nodes.look(model, chunk.points)[3]
    nodes = latent_nodes.strongest(layer, 1, 2)
    giving = np.square(layer.psi_l2v[1]).sum(1)
    gathering = layer.psi_v2l[1].any(1)
    assert gathering[nodes].all() and giving[nodes].tolist() == sorted(giving[gathering])[:-3:-1]

    vertex = PlyData.read(out / "layer4_kernel2.ply")["vertex"].data.reshape(2, 3, len(chunk.xyz))
    np.testing.assert_array_equal(vertex["node"][:, :, 0], [[0, *nodes + 1]] * 2)
    np.testing.assert_allclose(vertex["x"][0, 0], chunk.xyz[:, 0], rtol=1e-6)
    assert vertex["x"][0, 0].max() < vertex["x"][0, 1].min() and vertex["y"][0, 0].min() > vertex["y"][1, 0].max()
    nearest = np.argmin(np.linalg.norm(chunk.xyz[100] - layer.xyz, axis=1))
    for row, psi in enumerate((layer.psi_v2l, layer.psi_l2v)):
        np.testing.assert_array_equal(vertex["weight"][row, 1:, 100], psi[1, nodes, nearest])
        weights = vertex["weight"][row, 1]
        dark, pale = np.argmax(weights), np.argmin(np.where(weights > 0, weights, 1))
        assert vertex["red"][row, 1, dark] < vertex["red"][row, 1, pale]
        assert (vertex["red"][row, 1, weights == 0] == latent_nodes.REST).all()

    board = EventAccumulator(str(out / "tensorboard"), size_guidance={"tensors": 0, "images": 0})
    board.Reload()
    page = (255 * imread(out / "layer1_kernel1.png")[..., :3]).round()
    assert board.Tags()["images"] == pages and board.Images(pages[0])[0].height == len(page) and page.std() > 10
    meshes = board.Tags()["tensors"]
    for name in ("chunk/colours", "chunk/ground_truth", "layer4_kernel1/gathers_from", "layer4_kernel2/gives_to"):
        assert f"{name}_VERTEX" in meshes and f"{name}_COLOR" in meshes
    events = board.Tensors("layer4_kernel2/gives_to_COLOR")
    assert [event.step for event in events] == [1, 2]
    shown = torch.tensor(list(events[0].tensor_proto.tensor_content or events[0].tensor_proto.float_val))
    assert shown.numel() in (3 * len(chunk.xyz), 12 * len(chunk.xyz)) and len(chunk.xyz) <= 20_000
    plugin = board.SummaryMetadata("layer4_kernel2/gives_to_VERTEX").plugin_data.content
    assert "PointsMaterial" in MeshPluginData.FromString(plugin).json_config

    before = {path: path.read_bytes() for path in out.glob("layer*")}
    assert latent_nodes.main([*arguments, "--layer", "4"]) == 0
    assert len(list((out / "tensorboard").iterdir())) == 1
    assert all(path.read_bytes() == content for path, content in before.items())


def test_weights_with_a_sign_are_shown_by_their_size(tiny_data):
    chunk = latent_nodes.cut_chunk(latent_nodes.find_scene(tiny_data, "room3_00"), CONFIG, SCANNET20, tile=1, seed=0)
    layer = latent_nodes.look(network(chunk.points, signed=True), chunk.points)[3]
    sizes = replace(layer, psi_v2l=np.abs(layer.psi_v2l), psi_l2v=np.abs(layer.psi_l2v))
    nodes = latent_nodes.strongest(layer, 0, 2)
    assert (layer.psi_v2l[0, nodes] < 0).any() and (layer.psi_l2v[0, nodes] < 0).any()
    assert (latent_nodes.draw_page(chunk, layer, 0, nodes) == latent_nodes.draw_page(chunk, sizes, 0, nodes)).all()
    assert (latent_nodes.shades(layer.psi_l2v[0]) == latent_nodes.shades(sizes.psi_l2v[0])).all()


def test_dead_nodes_and_scans_without_labels(tiny_data, tmp_path, capsys):
    chunk = latent_nodes.cut_chunk(latent_nodes.find_scene(tiny_data, "room5_00"), CONFIG, SCANNET20, tile=None, seed=0)
    model = network(chunk.points)
    with torch.no_grad():
        model.context4.psi_v2l[1].bias.fill_(-100)  # no node gathers
        model.context4.psi_l2v[1].bias[0] = -100  # one gives nothing
    out = tmp_path / "out"
    arguments = [*save(model, tiny_data, tmp_path / "run"), "--scene", "room5_00", "--layer", "4", "--out", str(out)]
    assert latent_nodes.main(arguments) == 0
    cells = capsys.readouterr().out.splitlines()[4].replace(" %", "").split()
    assert cells[:4] == ["4", "1", "16", "4"] and cells[8:11] == ["0", "3", "-"]
    assert len(imread(out / "layer4_kernel1.png")) > 100
    assert set(PlyData.read(out / "layer4_kernel1.ply")["vertex"]["node"]) == {0}


def test_what_cannot_be_shown_is_refused(tiny_data, tmp_path, capsys):
    plain = save(build(PointNet2Config(21), seed=0), tiny_data, tmp_path / "plain")
    arguments = save(network(cloud()), tiny_data, tmp_path / "run")
    for flags, message in (
        (plain, "has no LatentGNN (context: none); take one trained with --model latentgnn"),
        (
            [*arguments, "--scene", "attic"],
            "there is no scene 'attic'; manifest.json lists those there are, as room3_00",
        ),
        ([*arguments, "--tile", "99"], "has no tile 99; its tiles are 0 to"),
        (["--checkpoint", str(tmp_path / "none.pt")], "there is no such checkpoint file"),
    ):
        assert latent_nodes.main([*flags, "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
