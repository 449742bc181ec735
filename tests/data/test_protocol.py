"""Training chunks, evaluation tiles, augmented samples and scores against the original PointNet++ ScanNet code (2017).

The numbers here are written out, and not the constants of the modules under test.
"""

import numpy as np
import pytest

from data import chunks, metrics
from data.datasets import SceneFile, TrainingChunks
from data.labels import SCANNET20
from data.scenes import Scene, write_scene


def textbook_training_draw(xyz, classes, rng, size=1.5):
    low, high = xyz.min(0).astype(float), xyz.max(0).astype(float)
    for _ in range(10):
        centre = xyz[rng.integers(len(xyz))].astype(float)
        box_low = np.array([centre[0] - size / 2, centre[1] - size / 2, low[2]])
        box_high = np.array([centre[0] + size / 2, centre[1] + size / 2, high[2]])
        crop = np.flatnonzero(np.all((xyz >= box_low - 0.2) & (xyz <= box_high + 0.2), axis=1))
        core = np.all((xyz[crop] >= box_low - 0.01) & (xyz[crop] <= box_high + 0.01), axis=1)
        cells = np.floor((xyz[crop[core]] - box_low) / (box_high - box_low) * [31, 31, 62])
        occupied = len(np.unique(np.clip(cells, 0, [30, 30, 61]), axis=0)) / (31 * 31 * 62)
        if np.count_nonzero(classes[crop]) / len(crop) >= 0.7 and occupied >= 0.02:
            break
    drawn = rng.integers(len(crop), size=8192)
    return crop[drawn], core[drawn]


def textbook_tiles(xyz, rng, size=1.5):
    low, high = xyz.min(0).astype(float), xyz.max(0).astype(float)
    columns, rows = np.ceil((high - low)[:2] / size).astype(int)
    for i in range(columns):
        for j in range(rows):
            box_low = low + [size * i, size * j, 0]
            box_high = np.array([*(box_low[:2] + size), high[2]])
            crop = np.flatnonzero(np.all((xyz >= box_low - 0.2) & (xyz <= box_high + 0.2), axis=1))
            if len(crop):
                index = crop[rng.integers(len(crop), size=8192)]
                core = np.all((xyz[index] >= box_low - 0.001) & (xyz[index] <= box_high + 0.001), axis=1)
                if np.count_nonzero(core) / 8192 >= 0.01:
                    yield index, core


def assert_equal_draws(got, expected):
    assert len(got) == len(expected)
    for draw, (index, core) in zip(got, expected, strict=True):
        np.testing.assert_array_equal(draw.index, index)
        np.testing.assert_array_equal(draw.core, core)


@pytest.mark.parametrize("labelled", ["by place", "everywhere", "nowhere"])
def test_training_draws_are_those_of_the_textbook(labelled):
    """Points thin out along x, so that some crops are too empty; 40 to 100 % of each half metre are annotated."""
    rng = np.random.default_rng(0)
    xyz = (rng.random((24_000, 3)) ** [1.5, 1, 1] * [6, 6, 2.5]).astype(np.float32)
    by_place = rng.uniform(0.4, 1, (13, 13))[tuple((2 * xyz[:, :2]).astype(int).T)]
    share = {"by place": by_place, "everywhere": 1, "nowhere": 0}[labelled]
    classes = (rng.random(len(xyz)) < share).astype(np.uint8)
    for seed in range(12):
        got = chunks.training_crop(xyz, classes, np.random.default_rng(seed))
        assert_equal_draws([got], [textbook_training_draw(xyz, classes, np.random.default_rng(seed))])
        got = chunks.training_crop(xyz, classes, np.random.default_rng(seed), size=2.4)
        assert_equal_draws([got], [textbook_training_draw(xyz, classes, np.random.default_rng(seed), 2.4)])


def test_tiles_are_those_of_the_textbook():
    """A large scene with a gap; and small ones, of which stragglers make a second tile, 0.2 to 4 % of it core."""
    rng = np.random.default_rng(0)
    large = (rng.random((40_000, 3)) * [9, 3.2, 2.4]).astype(np.float32)
    large = large[(large[:, 0] < 1.6) | (large[:, 0] > 6.5)]
    small = (rng.random((5_000, 3)) * [1.5, 1.4, 2.4]).astype(np.float32)
    stragglers = np.float32([1.51, 0.7, 1]) + np.zeros((24, 1), dtype=np.float32)
    for seed, xyz in enumerate([large, *(np.concatenate([small, stragglers[:k]]) for k in range(1, 25))]):
        expected = list(textbook_tiles(xyz, np.random.default_rng(seed)))
        assert_equal_draws(list(chunks.tile_crops(xyz, np.random.default_rng(seed))), expected)
    for size in (0.7, 3.0, 20.0):
        expected = list(textbook_tiles(large, np.random.default_rng(0), size))
        assert_equal_draws(list(chunks.tile_crops(large, np.random.default_rng(0), size=size)), expected)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """30 samples of one scene: their vertices' xyz in the scene, points and weights. The colour says which vertex."""
    rng = np.random.default_rng(0)
    xyz = (rng.random((6_000, 3)) * [4, 4, 2]).astype(np.float32)
    colour = np.stack([np.arange(6_000) % 256, np.arange(6_000) // 256, np.zeros(6_000)], axis=1).astype(np.uint8)
    path = tmp_path_factory.mktemp("protocol") / "scene0000_00.h5"
    write_scene(path, Scene("scene0000_00", xyz, np.ones(6_000, dtype=np.uint16), colour))
    scene = SceneFile("scene0000_00", path, vertices=6_000, histogram={1: 6_000})
    dataset = TrainingChunks([scene], seed=0, features=["colour"])
    found = []
    for position in range(30):
        sample = dataset[(1, position, 0)]
        points = sample["points"].numpy()
        vertex = np.rint(points[:, 3:5] * 255).astype(int) @ [1, 256]
        found.append((xyz[vertex], points[:, :3], sample["weight"].numpy()))
    return found


def test_the_loss_counts_the_core_and_not_its_context(samples):
    contexts = [np.ptp(xyz[weight == 0], axis=0)[:2].max() for xyz, _, weight in samples]
    cores = [np.ptp(xyz[weight > 0], axis=0)[:2].max() for xyz, _, weight in samples]
    assert max(cores) <= 1.5 + 2 * 0.01 + 1e-5
    assert max(contexts) > 1.8


def test_up_to_seven_eighths_of_a_chunk_become_copies_of_its_first_point(samples):
    shares = [np.mean((points == points[0]).all(1)) for _, points, _ in samples]
    assert min(shares) < 0.1 and 0.75 < max(shares) < 0.9
    assert all((weight[1:][(points[1:] == points[0]).all(1)] == 0).mean() > 0.9 for _, points, weight in samples)


def test_chunks_are_turned_by_any_angle_about_z(samples):
    quarters = set()
    for xyz, points, _ in samples:
        plane, turned = xyz[:, :2] @ [1, 1j], points[:, :2] @ [1, 1j]
        rotation = turned / plane
        np.testing.assert_allclose(rotation, rotation[0], atol=1e-3)
        np.testing.assert_array_equal(points[:, 2], xyz[:, 2])
        quarters.add(int(np.angle(rotation[0]) // (np.pi / 2)))
    assert quarters == {-2, -1, 0, 1}


def test_each_score_reads_its_own_counts():
    """Under the k-th name, from 1, k of 10 walls and 1 of 10 floors are right; the others are taken for each other."""
    counts = metrics.no_counts(SCANNET20.num_classes)
    for k, name in enumerate(("pixel", "voxel", "voxel_484", "voxel_known", "voxel_pointnet2", "vertex"), start=1):
        counts[name][1, 1:3] = k, 10 - k
        counts[name][2, 1:3] = 9, 1
    counts["voxel"][2, 1] = 19  # so that floor is the commonest class in voxels alone
    got = metrics.scores(counts, SCANNET20)
    wall, floor = SCANNET20.weights[:2] / SCANNET20.weights[:2].sum()
    expected = {
        "pixel_accuracy": 2 / 20,
        "class_pixel_accuracy": (1 / 10 + 1 / 10) / 2,
        "voxel_accuracy": 3 / 30,
        "class_voxel_accuracy": (2 / 10 + 1 / 20) / 2,
        "calibrated_voxel_accuracy": wall * 2 / 10 + floor * 1 / 20,
        "voxel_accuracy_majority": 20 / 30,
        "voxel_accuracy_484": 4 / 20,
        "voxel_accuracy_known": 5 / 20,
        "voxel_accuracy_pointnet2": 6 / 20,
        "vertex_accuracy": 7 / 20,
        "mean_iou": (6 / (10 + 9) + 1 / (10 + 4)) / 2,
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_voxels_are_of_2_cm_of_48_mm_and_of_the_original_keys():
    """Each class is one point. The original rounds up, so that 1 and 2 differ, and gives 4 and 5 the same key."""
    xyz = np.array([[0, 0, 0], [0.001, 0, 0], [0.03, 0, 0], [0.2, 0, 0], [0, 0.02, 0], [0.2, 0.2, 0.02]])
    truth = np.arange(1, 7)
    counts = metrics.tile_counts(xyz, truth, predicted=truth, known=truth, num_classes=SCANNET20.num_classes)
    classes = {name: set(np.flatnonzero(matrix.sum(1))) for name, matrix in counts.items()}
    assert classes == {
        "pixel": {1, 2, 3, 4, 5, 6},
        "voxel": {1, 3, 4, 5, 6},
        "voxel_known": {1, 3, 4, 5, 6},
        "voxel_484": {1, 4, 6},
        "voxel_pointnet2": {1, 2, 3, 4, 6},
    }
