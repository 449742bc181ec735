"""`segment`: arrays in, labels and confidence out, as scripts/predict.py writes them."""

import numpy as np
import pytest
from plyfile import PlyData

from data.coloured_ply import write_coloured
from models import pointnet2
from scripts import predict
from training import checkpoint
from training.inference import load_network, segment


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An untrained network that takes colours and normals, and one vertex in 5 cm."""
    folder = tmp_path_factory.mktemp("export")
    model = pointnet2.build(pointnet2.PointNet2Config(21, extra_channels=6), seed=0)
    checkpoint.export(folder, model, features=["colour", "normal"], spacing=0.05, points=1024)
    return folder


@pytest.fixture
def cloud():
    """xyz (V, 3), far from the origin, colours and normals; of two vertices the place is not known."""
    rng = np.random.default_rng(0)
    xyz = (rng.random((3_000, 3)) * (2, 1.4, 1) + 50).astype(np.float32)
    xyz[[4, 9], [0, 2]] = np.nan, np.inf
    normal = rng.normal(size=(3_000, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return xyz, rng.integers(0, 256, (3_000, 3), np.uint8), normal.astype(np.float32)


def test_it_is_what_the_command_writes(export, cloud, tmp_path):
    xyz, colour, normal = cloud
    path, out = tmp_path / "in.ply", tmp_path / "out.ply"
    write_coloured(path, xyz, colour, **dict(zip(("nx", "ny", "nz"), normal.T, strict=True)))
    flags = ["--checkpoint", str(export), "--input", str(path), "--out", str(out), "--device", "cpu", "--seed", "3"]
    assert predict.main(flags) == 0
    labels, confidence = segment(xyz, colour, normal, network=export, seed=3, device="cpu")
    written = PlyData.read(out)["vertex"]
    assert labels.dtype == np.uint16 and np.array_equal(labels, written["label"])
    assert confidence.dtype == np.float32 and np.array_equal(confidence, written["confidence"])
    assert np.flatnonzero(labels == 0).tolist() == np.flatnonzero(confidence == 0).tolist() == [4, 9]
    assert 0 <= confidence.min() and confidence.max() <= 1
    loaded = segment(xyz.astype(np.float64), colour, normal, network=load_network(export), seed=3, device="cpu")
    assert np.array_equal(loaded[0], labels) and np.array_equal(loaded[1], confidence)
    fewer = segment(xyz, colour, normal, network=export, votes=1, spacing=0.2, device="cpu")
    assert not np.array_equal(fewer[1], confidence)


def test_arrays_that_do_not_fit_are_refused(export, cloud):
    xyz, colour, normal = cloud
    network = load_network(export)
    for arrays, message in (
        ((xyz[:, :2], colour, normal), r"xyz is \(3000, 2\)"),
        ((np.full((5, 3), np.nan), colour[:5], normal[:5]), "no vertex with finite"),
        ((xyz, None, normal), "takes a colour .* none was given"),
        ((xyz, colour, normal[:7]), r"takes a normal .* it is \(7, 3\)"),
        ((xyz, colour - 9.5, normal), "colours go from -9.5 to"),
        ((1000 * xyz, colour, normal), "rooms in metres"),
    ):
        with pytest.raises(ValueError, match=message):
            segment(*arrays, network=network)
    with pytest.raises(ValueError, match="spacing is 1e-05"):
        segment(xyz, colour, normal, network=network, spacing=1e-5)
    for flags, message in (
        ({"votes": 0}, "votes is 0; it has to be a whole number of at least 1"),
        ({"votes": 1.5}, "votes is 1.5"),
        ({"device": "abacus"}, "abacus"),
    ):
        with pytest.raises(ValueError, match=message):
            segment(xyz, colour, normal, network=network, **flags)
    with pytest.raises(ValueError, match="of complex64; it has to be"):
        segment(xyz.astype(np.complex64), colour, normal, network=network)
    with pytest.raises(checkpoint.CheckpointError):
        segment(xyz, network=export / "none")
