import numpy as np
import pytest

from data import metrics
from data.labels import SCANNET20, label_space

C = SCANNET20.num_classes


def brute_force_first_in_voxel(xyz, size):
    seen, first = set(), []
    low = xyz.min(0).astype(np.float64)
    for index, point in enumerate(xyz):
        key = tuple(np.floor((point - low) / size).astype(int))
        if key not in seen:
            seen.add(key)
            first.append(index)
    return first


def test_first_in_voxel_matches_a_loop():
    xyz = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    for size in (0.02, 0.0484, 0.3):
        assert sorted(metrics.first_in_voxel(xyz, size)) == brute_force_first_in_voxel(xyz, size)


def test_the_original_keys_collide_where_ours_do_not():
    # cells (nx, 0, 0) and (0, 1, 0) of the original; the extent is 0.2 x 0.2 x 0.02 m
    xyz = np.array([[0, 0, 0], [0.2, 0, 0], [0, 0.02, 0], [0.2, 0.2, 0.02]])
    assert len(metrics.first_in_voxel(xyz, 0.02)) == 4
    assert len(metrics.first_in_voxel_pointnet2(xyz, 0.02)) == 3


def test_confusion_counts_pairs():
    truth, predicted = np.array([0, 1, 1, 20, 20]), np.array([5, 1, 2, 0, 20])
    counts = metrics.confusion(truth, predicted, C)
    assert counts.sum() == 5 and counts.shape == (C, C)
    assert all(counts[t, p] == 1 for t, p in zip(truth, predicted, strict=True))


def test_scores_by_hand():
    """Two walls, four floors and a chair; a class 0 point is not scored, a prediction of 0 is wrong."""
    truth = np.array([1, 1, 2, 2, 2, 2, 5, 0])
    predicted = np.array([1, 0, 2, 2, 2, 1, 2, 1])
    counts = metrics.no_counts(C)
    for name in counts:
        counts[name] = metrics.confusion(truth, predicted, C)
    got = metrics.scores(counts, SCANNET20)
    assert got["pixel_accuracy"] == pytest.approx(4 / 7)
    assert got["class_voxel_accuracy"] == pytest.approx((1 / 2 + 3 / 4 + 0) / 3)
    assert got["class_voxel_accuracy_20"] == pytest.approx((1 / 2 + 3 / 4 + 0) / 20)
    w = [0, *SCANNET20.weights]
    assert got["calibrated_voxel_accuracy"] == pytest.approx((w[1] / 2 + w[2] * 3 / 4) / (w[1] + w[2] + w[5]))
    assert got["calibrated_voxel_accuracy_20"] == pytest.approx((w[1] / 2 + w[2] * 3 / 4) / sum(w))
    assert got["voxel_accuracy_majority"] == pytest.approx(4 / 7)
    assert got["iou"]["wall"] == pytest.approx(1 / 3) and got["iou"]["floor"] == pytest.approx(3 / 5)
    assert got["iou"]["bed"] is None and got["class_voxel_accuracies"]["chair"] == 0
    assert got["mean_iou"] == pytest.approx((1 / 3 + 3 / 5 + 0) / 3)


def test_a_class_that_is_only_predicted_counts_as_0_in_scannets_own_mean_iou():
    """Of beds there is nothing but a prediction; chairs are predicted only where ground truth is outside the 20."""
    counts = metrics.no_counts(C)
    counts["vertex"][1, [1, 2, 4]] = 6, 1, 1  # wall: IoU 6 / 9
    counts["vertex"][2, [1, 2]] = 1, 3  # floor: 3 / 5
    counts["vertex"][0, [1, 2, 5]] = 7, 7, 7
    got = metrics.scores(counts, SCANNET20)
    assert got["mean_iou"] == pytest.approx((6 / 9 + 3 / 5) / 2)
    assert got["mean_iou_scannet"] == pytest.approx((6 / 9 + 3 / 5 + 0) / 3)
    assert got["iou"]["bed"] is None and got["iou"]["chair"] is None


def test_scores_without_ground_truth_are_none():
    got = metrics.scores(metrics.no_counts(C), SCANNET20)
    assert got["voxel_accuracy"] is None and got["class_voxel_accuracy"] is None and got["iou"]["wall"] is None
    assert {name for name in metrics.DEFINITIONS if got[name] is not None} == set()


def test_every_scalar_score_has_a_definition():
    scalars = {
        name for name, value in metrics.scores(metrics.no_counts(C), SCANNET20).items() if not isinstance(value, dict)
    }
    assert {name for name in scalars if not name.endswith("_20")} == set(metrics.DEFINITIONS)


def test_means_over_all_classes_have_a_name_in_every_space_and_another_in_the_papers():
    counts = {name: np.eye(C, dtype=np.int64) for name in metrics.COUNTS}
    got = metrics.scores(counts, SCANNET20)
    over_all = {name for name in got if name.endswith("_all")}
    assert len(over_all) == 4 and {name.replace("_all", "_20") for name in over_all} <= got.keys()
    assert all(got[name] == got[name.replace("_all", "_20")] == 1 for name in over_all)
    space = label_space("s3dis")
    got = metrics.scores(metrics.no_counts(space.num_classes), space)
    assert over_all <= got.keys() and not any(name.endswith("_20") for name in got)
    assert list(got["iou"]) == list(space.names[1:])


def test_without_weights_there_is_no_calibrated_mean():
    space = label_space("s3dis")
    got = metrics.scores({name: np.eye(14, dtype=np.int64) for name in metrics.COUNTS}, space)
    assert got["calibrated_voxel_accuracy"] is got["calibrated_voxel_accuracy_all"] is None
    assert got["class_voxel_accuracy"] == got["class_voxel_accuracy_all"] == 1


def test_tile_counts_use_the_first_point_of_a_voxel_and_drop_unlabelled_voxels():
    xyz = np.array([[0, 0, 0], [0.001, 0, 0], [0.1, 0, 0], [0.101, 0, 0], [0.5, 0.5, 0.5]])
    truth = np.array([1, 2, 0, 2, 3])
    predicted, known = np.array([1, 1, 1, 1, 0]), np.array([1, 1, 1, 1, 3])
    counts = metrics.tile_counts(xyz, truth, predicted, known, C)
    scores = metrics.scores({**metrics.no_counts(C), **counts}, SCANNET20)
    assert scores["pixel_accuracy"] == pytest.approx(1 / 4)
    assert scores["voxel_accuracy"] == pytest.approx(1 / 2)  # voxels of label 1 and 3; the one of label 0 is dropped
    assert scores["voxel_accuracy_known"] == 1
    assert metrics.tile_counts(xyz[:0], truth[:0], predicted[:0], known[:0], C) == {}
