"""Scenes of one vertex a cube: in training, in evaluation, and what is the same without."""

import numpy as np
import pytest
import torch

from data import chunks
from data.datasets import INPUTS, ChunkBatches, SceneFile, TrainingChunks, WholeScenes
from data.labels import histogram
from data.scenes import Scene, write_scene


def dense_room(seed=0, vertices=40_000):
    xyz = np.random.default_rng(seed).random((vertices, 3)) * (2.5, 2.0, 0.5)
    return xyz.astype(np.float32)


@pytest.fixture
def scene(tmp_path):
    xyz = dense_room()
    label = np.where(xyz[:, 0] < 1, 1, 2).astype(np.uint16)
    label[:500] = 0
    write_scene(tmp_path / "room.h5", Scene("room", xyz, label))
    return SceneFile("room", tmp_path / "room.h5", len(xyz), histogram(label))


def test_thinning_leaves_a_random_vertex_in_each_cube():
    xyz, spacing = dense_room(), 0.1
    one, other = (chunks.thin(xyz, spacing, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.array_equal(one, chunks.thin(xyz, spacing, np.random.default_rng(0))) and not np.array_equal(one, other)
    assert (np.diff(one) > 0).all()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        thinned = chunks.thin(xyz, spacing, rng)
        again = np.random.default_rng(seed)
        edge, shift = spacing * again.uniform(*chunks.CUBE_EDGES), again.random(3)
        cells = np.floor((xyz.astype(np.float64) - xyz.min(0)) / edge + shift)
        assert len(thinned) == len(np.unique(cells, axis=0)) == len(np.unique(cells[thinned], axis=0))


def test_which_vertex_stays_is_even():
    xyz = np.float32([[0, 0, 0], [0.001, 0, 0], [0.002, 0, 0], [5, 0, 0]])
    kept = [chunks.thin(xyz, 1.0, np.random.default_rng(seed)) for seed in range(600)]
    whole = [pair for pair in kept if len(pair) == 2]  # the grid parts the three now and then
    counts = np.bincount([pair[0] for pair in whole], minlength=3)
    assert len(whole) > 550 and counts.min() > 0.8 * len(whole) / 3


def test_a_training_chunk_has_fewer_vertices_and_as_many_points(scene):
    for spacing in (0.0, 0.2):
        dataset = TrainingChunks([scene], seed=0, spacing=spacing, points=4096, augment=())
        sample = dataset[(1, 0, 0)]
        distinct = len(torch.unique(sample["points"], dim=0))
        assert sample["points"].shape == (4096, 3)
        assert distinct < 900 if spacing else distinct > 3_000  # 1.9 x 1.9 x 0.5 m in cubes of at least 15 cm
    assert dataset.distinct_points() < 900


def test_evaluation_speaks_for_every_vertex_by_one_in_its_cube(scene):
    config = INPUTS | {"spacing": 0.1, "points": 1024}
    whole = WholeScenes.as_trained([scene], 0, config, TrainingChunks([scene], 0).policy.space)[0]
    cells = np.floor((whole.points[:, :3].astype(np.float64) - whole.points[:, :3].min(0)) / 0.1)
    assert np.array_equal(cells[whole.stand_in], cells)
    seen = np.unique(np.concatenate([crop.index[crop.core] for crop in whole.covering]))
    assert np.array_equal(seen, np.unique(whole.stand_in)) and len(seen) == len(np.unique(cells, axis=0))
    drawn = np.unique(np.concatenate([crop.index for crop in whole.tiles]))
    assert (whole.label[drawn] > 0).all() and len(np.unique(cells[drawn], axis=0)) == len(drawn)
    assert all(len(crop.index) == 1024 for crop in [*whole.tiles, *whole.covering])


def test_batches_of_a_step_are_those_of_one_large_batch():
    large = ChunkBatches(num_scenes=20, batch_size=8, seed=0)
    for ranks in (1, 2):
        parts = [ChunkBatches(20, 4, 0, rank, ranks, accumulate=2) for rank in range(ranks)]
        assert all(len(part) == len(large) for part in parts)
        shares = [list(part) for part in parts]
        joined = [sum((share[batch] for share in shares), []) for batch in range(2 * len(large))]
        assert [one + two for one, two in zip(joined[::2], joined[1::2], strict=True)] == list(large)
        parts[0].set_epoch(0, first_step=1)
        assert list(parts[0]) == shares[0][2:]
    few = ChunkBatches(num_scenes=3, batch_size=4, seed=0, accumulate=2)
    assert len(few) == 1 and [len(batch) for batch in few] == [4, 4]
