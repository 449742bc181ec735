"""The weights that come with the project: they load by name, and label a fixed cloud as they did."""

from pathlib import Path

import numpy as np
import pytest
import torch

import train_scannet
from data import chunks
from data.datasets import INPUTS, SceneTiles, with_covering
from data.features import points_of
from data.scenes import Scene
from training import checkpoint
from training.inference import run_scene

FOLDER = checkpoint.SHIPPED / "rooms"
EXPECTED = Path(__file__).parent / "data" / "files" / "cloud_by_rooms.npy"  # classes
MOST_BYTES = 16 * 2**20


def cloud() -> np.ndarray:
    """(V, 3) float32: a room of 4 m x 3 m with a table, a bed of two blocks and a cabinet."""
    rng, parts = np.random.default_rng(0), []
    for low, high in (
        ((0, 0, 0), (4, 3, 0)), ((0, 0, 0), (4, 0, 2.2)), ((0, 0, 0), (0, 3, 2.2)), ((0, 3, 0), (4, 3, 2.2)),
        ((1, 1, 0.7), (2.2, 1.7, 0.72)), ((2.2, 1.2, 0.25), (4, 3, 0.5)), ((0, 2, 0), (0.5, 3, 1.7)),
    ):  # fmt: skip
        low, high = np.array(low, float), np.array(high, float)
        size = high - low
        for axis in range(3):  # the sides across an axis
            other = np.delete(size, axis)
            for end in {low[axis], high[axis]}:
                some = low + size * rng.random((int(500 * other.prod()), 3))
                some[:, axis] = end
                parts.append(some)
    return np.concatenate(parts).astype(np.float32)


def labels_of(name: str) -> np.ndarray:
    content = checkpoint.read_published(name)
    model, config = checkpoint.build(content, name), INPUTS | content["config"]
    xyz = cloud()
    points = points_of(Scene("cloud", xyz), config["features"])
    first, cube = chunks.cubes(xyz, config["spacing"])
    scene = SceneTiles("cloud", points, None, tiles=[], covering=[])
    rng = np.random.default_rng(0)
    scene = with_covering(scene, rng, config["points"], config["chunk_size"], first, cube)
    return run_scene(model, scene, content["label_space"], torch.device("cpu")).result().predicted


def test_they_are_small_and_described():
    assert (FOLDER / "model.safetensors").stat().st_size < MOST_BYTES
    card = (FOLDER / "README.md").read_text()
    assert all(word in card for word in ("make_synthetic.py", "train_scannet.py", "MIT", "never seen"))


def test_they_label_a_fixed_cloud_as_they_did():
    expected = np.load(EXPECTED)
    found = labels_of("rooms")
    assert len(found) == len(expected) and (found == expected).mean() >= 0.99
    assert set(np.unique(found)) >= {1, 2}, "walls and floor at least"


def test_training_starts_from_them_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = train_scannet.parse_config(["--init-from", "rooms"])
    assert args.init_from == "rooms" and checkpoint.resolve("rooms") == FOLDER
    (tmp_path / "rooms").mkdir()
    assert not checkpoint.is_shipped("rooms"), "what lies here is meant first"


@pytest.mark.parametrize("name", ["room", "../weights/rooms"])
def test_other_names_are_paths(name):
    assert not checkpoint.is_shipped(name)
