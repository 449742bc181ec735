import dataclasses
import gc
import tracemalloc

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data import augment
from data.chunks import POINTS_PER_CHUNK
from data.datasets import ChunkBatches, LabelPolicy, SceneFile, TrainingChunks, WholeScenes
from data.features import channels_of, columns_of
from data.labels import SCANNET20, histogram
from data.scenes import Scene, SceneError, write_scene


def write_room(folder, name, seed, labelled=True, vertices=4_000):
    """A scene file of a small room: floor, wall, unannotated clutter and a ceiling (nyu40 22, outside the 20)."""
    rng = np.random.default_rng(seed)
    xyz = (rng.random((vertices, 3)) * (2.5, 2.0, 2.0)).astype(np.float32)
    label = rng.choice(np.array([2, 1, 0, 22], dtype=np.uint16), size=vertices, p=[0.5, 0.3, 0.1, 0.1])
    if not labelled:
        label[:] = 0
    xyz[label == 2, 2] = 0
    colour = rng.integers(256, size=(vertices, 3)).astype(np.uint8)
    normal = np.tile(np.float32([1, 0, 0]), (vertices, 1))
    write_scene(folder / f"{name}.h5", Scene(name, xyz, label, colour, normal, faces=np.zeros((0, 3), np.int32)))
    return SceneFile(name, folder / f"{name}.h5", vertices, histogram(label))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return [write_room(folder, f"scene900{k}_00", k) for k in range(5)]


def batches_of(scenes, workers, epoch, batch_size=2, **share):
    dataset = TrainingChunks(scenes, seed=7)
    sampler = ChunkBatches(len(dataset), batch_size, seed=7, **share)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers))


def assert_same_batches(ours, expected):
    assert len(ours) == len(expected) > 0
    for a, b in zip(ours, expected, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in ("points", "classes", "weight", "scene"))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than there are cores
@pytest.mark.parametrize("workers", [2, 4])
def test_samples_do_not_depend_on_the_number_of_workers(scenes, workers):
    alone = batches_of(scenes, 0, epoch=3)
    assert_same_batches(batches_of(scenes, workers, epoch=3), alone)
    other = batches_of(scenes, 0, epoch=4)
    assert not torch.equal(alone[0]["points"], other[0]["points"])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_see_the_samples_of_one(scenes, ranks):
    parts = [batches_of(scenes, 0, epoch=3, batch_size=4, rank=rank, world_size=ranks) for rank in range(ranks)]
    assert all(len(batch["points"]) == 4 // ranks for part in parts for batch in part)
    gathered = [
        {name: torch.cat([batch[name] for batch in step]) for name in step[0]} for step in zip(*parts, strict=True)
    ]
    assert_same_batches(gathered, batches_of(scenes, 0, epoch=3, batch_size=4))


def test_a_batch_that_the_ranks_cannot_share_equally_is_refused():
    with pytest.raises(ValueError, match="a batch of 6 chunks cannot be divided among 4 ranks"):
        ChunkBatches(num_scenes=10, batch_size=6, seed=0, rank=0, world_size=4)


@pytest.mark.parametrize("share", [{}, {"rank": 1, "world_size": 2}])
def test_an_epoch_can_start_at_any_of_its_steps(share):
    sampler = ChunkBatches(num_scenes=13, batch_size=4, seed=0, **share)
    sampler.set_epoch(2)
    whole = list(sampler)
    for step in range(4):
        sampler.set_epoch(2, first_step=step)
        assert list(sampler) == whole[step:] and len(sampler) == 3
    sampler.set_epoch(3)
    assert [keys[0][0] for keys in sampler] == [3, 3, 3]  # the following epoch is whole again


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iteration_keeps_the_epoch_that_it_began_with(scenes, workers):
    """Also with persistent workers, which are asked for batches ahead of those that training has seen."""
    dataset = TrainingChunks(scenes, seed=7)
    sampler = ChunkBatches(len(dataset), 1, seed=7)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    for epoch, first_step in [(3, 0), (4, 2)]:
        sampler.set_epoch(epoch, first_step)
        running = iter(loader)
        sampler.set_epoch(9)
        assert_same_batches(list(running), batches_of(scenes, 0, epoch, batch_size=1)[first_step:])


def test_sample_layout(scenes):
    batch = batches_of(scenes, 0, epoch=1)[0]
    assert batch["points"].shape == (2, POINTS_PER_CHUNK, 3) and batch["points"].dtype == torch.float32
    assert batch["classes"].shape == (2, POINTS_PER_CHUNK) and batch["classes"].dtype == torch.int64
    assert batch["weight"].shape == (2, POINTS_PER_CHUNK) and batch["weight"].dtype == torch.float32
    assert set(batch["classes"].unique().tolist()) == {0, 1, 2}


def test_every_scene_once_an_epoch_and_incomplete_batches_dropped():
    sampler = ChunkBatches(num_scenes=10, batch_size=4, seed=0)
    sampler.set_epoch(1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 2
    assert len({scene for batch in batches for _, _, scene in batch}) == 8
    assert [position for batch in batches for _, position, _ in batch] == list(range(8))
    sampler.set_epoch(2)
    assert list(sampler) != batches


def test_few_scenes_repeat_until_one_batch_is_full(scenes):
    sampler = ChunkBatches(num_scenes=3, batch_size=8, seed=0)
    (batch,) = list(sampler)
    assert len(sampler) == 1 and len(batch) == 8
    counts = np.bincount([scene for _, _, scene in batch])
    assert counts.min() >= 2 and counts.max() <= 3
    dataset = TrainingChunks(scenes, seed=0)
    twice = [dataset[key]["points"] for key in batch if key[2] == batch[0][2]]
    assert not torch.equal(twice[0], twice[1])  # the same scene, another chunk


def test_chunks_leave_nothing_behind_in_their_process(scenes):
    """So a worker's memory is flat over epochs: what one scene or one chunk held would be 50 kB or 200 kB."""
    dataset = TrainingChunks(scenes, seed=7)
    dataset[(1, 0, 0)]  # what libraries keep once
    tracemalloc.start()
    try:
        handles = h5py.h5f.get_obj_count()
        for epoch in range(2, 5):
            for scene in range(1, 5):
                dataset[(epoch, scene, scene)]
        gc.collect()
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 40_000 < 200_000 < most
    assert h5py.h5f.get_obj_count() == handles


def test_label_policies():
    label = np.array([0, 1, 22, 39], dtype=np.uint16)
    assert LabelPolicy().kept(label).tolist() == [False, True, True, True]
    assert LabelPolicy(unannotated="ignore").kept(label).all()
    assert LabelPolicy().trained(label).tolist() == [False, True, True, True]
    assert LabelPolicy(other="ignore").trained(label).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="unannotated is 'keep'; it can be drop or ignore"):
        LabelPolicy(unannotated="keep")


def test_class_weights_follow_the_frequencies():
    histogram = {0: 50, 1: 30, 22: 10}  # unannotated, wall, ceiling
    weights = LabelPolicy().class_weights(histogram)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[[0, 1, 2]], 1 / np.log(1.2 + np.array([0.25, 0.75, 0])), rtol=1e-6)
    np.testing.assert_allclose(LabelPolicy(other="ignore").class_weights(histogram)[1], 1 / np.log(2.2), rtol=1e-6)


def test_ignored_points_are_seen_with_weight_0(scenes):
    dataset = TrainingChunks(scenes, seed=0, policy=LabelPolicy("ignore", "ignore"))
    sample = dataset[(1, 0, 0)]
    assert (sample["weight"][sample["classes"] == 0] == 0).all() and (sample["classes"] == 0).any()
    kept = sample["weight"] > 0
    expected = torch.from_numpy(dataset.class_weights)[sample["classes"][kept]]
    torch.testing.assert_close(sample["weight"][kept], expected)


def test_scenes_without_annotation_are_left_out_and_named(scenes, tmp_path):
    blank = write_room(tmp_path, "scene9009_00", 9, labelled=False)
    assert TrainingChunks([*scenes, blank], seed=0).left_out == ["scene9009_00"]
    with pytest.raises(SceneError, match="no training scene has vertices to train on"):
        TrainingChunks([blank], seed=0)


def test_a_file_that_is_not_the_manifests_scene_is_refused(scenes):
    swapped = dataclasses.replace(scenes[0], path=scenes[1].path)
    unlabelled = dataclasses.replace(scenes[0], histogram={})
    for scene in (swapped, unlabelled, dataclasses.replace(scenes[0], vertices=3)):
        with pytest.raises(SceneError, match="is not the scene that manifest.json describes"):
            WholeScenes([scene], seed=0)[0]


def test_point_features_follow_xyz_and_normals_turn_with_them(scenes):
    sample = TrainingChunks(scenes, seed=0, features=("colour", "normal"))[(1, 0, 0)]
    points = sample["points"]
    assert points.shape == (POINTS_PER_CHUNK, 9)
    assert points[:, 3:6].min() >= 0 and points[:, 3:6].max() <= 1
    normal = points[:, 6:]
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(len(normal)))
    assert not torch.allclose(normal[0], torch.tensor([1.0, 0, 0])) and (normal == normal[0]).all()


@pytest.mark.parametrize("features", [("normal", "height"), ("colour", "height"), ("colour", "normal", "height")])
def test_positions_and_normals_turn_wherever_they_stand_and_nothing_else_does(features):
    columns = {"xyz": slice(0, 3)} | columns_of(features)
    width = 3 + channels_of(features)
    assert sorted(np.concatenate([np.arange(width)[where] for where in columns.values()])) == list(range(width))
    points = np.random.default_rng(0).random((20, width), dtype=np.float32)
    chunk = augment.Chunk(points, np.zeros(20, np.int64), np.ones(20, np.float32), np.arange(20))
    turned = augment.rotate(chunk, features, np.random.default_rng(0)).points
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi)
    for name, where in columns.items():
        vector = name in ("xyz", "normal")
        expected = augment.rotate_about_z(points[:, where], angle) if vector else points[:, where]
        assert np.array_equal(turned[:, where], expected), name


def test_what_a_run_does_not_name_is_what_there_was_before_the_flag(scenes):
    whole = WholeScenes.as_trained(scenes, 0, {}, SCANNET20)
    assert (whole.policy, tuple(whole.features), whole.chunk_size) == (LabelPolicy("drop", "train"), (), 1.5)
    whole = WholeScenes.as_trained(scenes, 0, {"other": "ignore", "features": ["normal"], "chunk_size": 3.0}, SCANNET20)
    assert (whole.policy, tuple(whole.features), whole.chunk_size) == (LabelPolicy("drop", "ignore"), ("normal",), 3.0)


def test_whole_scenes_do_not_depend_on_order_or_workers(scenes):
    forwards = [WholeScenes(scenes, seed=0)[k] for k in range(5)]
    loader = DataLoader(WholeScenes(scenes[::-1], seed=0), batch_size=None, num_workers=2)
    for a, b in zip(forwards, list(loader)[::-1], strict=True):
        assert a.name == b.name and np.array_equal(a.points, b.points) and np.array_equal(a.label, b.label)
        for one, other in zip([*a.tiles, *a.covering], [*b.tiles, *b.covering], strict=True):
            assert np.array_equal(one.index, other.index) and np.array_equal(one.core, other.core)


def test_whole_scenes_drop_unannotated_vertices_from_tiles_only(scenes):
    scene = WholeScenes(scenes, seed=0)[0]
    assert scene.points.shape == (4_000, 3) and all(draw.index.shape == (POINTS_PER_CHUNK,) for draw in scene.tiles)
    drawn = np.concatenate([draw.index for draw in scene.tiles])
    assert (scene.label == 0).any() and (scene.label[drawn] > 0).all()
    assert set(drawn) > set(np.flatnonzero(scene.label == 22)[:10])
    assert covered(scene) == set(range(4_000))


def covered(scene):
    return set(np.concatenate([draw.index[draw.core] for draw in scene.covering]))


def test_a_scan_without_labels_has_no_tiles_but_is_covered(tmp_path):
    xyz = np.random.default_rng(0).random((300, 3)).astype(np.float32)
    write_scene(tmp_path / "scene0707_00.h5", Scene("scene0707_00", xyz, None, np.zeros((300, 3), np.uint8)))
    scene = WholeScenes([SceneFile("scene0707_00", tmp_path / "scene0707_00.h5", 300, {})], seed=0)[0]
    assert scene.label is None and scene.tiles == []
    assert covered(scene) == set(range(300))
