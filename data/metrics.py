"""Confusion counts of a segmented scene, and the named scores computed from them.

Counts are integers, so they add up over tiles, scenes and processes without rounding. Rows are the ground truth and
columns the prediction, both in 0..C-1; row 0 (no class) is never scored, column 0 is a wrong prediction.
Sources: the original PointNet++ ScanNet code (2017) for accuracies, ScanNet's benchmark for IoU.
"""

import numpy as np

from data.chunks import cube_keys, first_of_each
from data.labels import SCANNET20, LabelSpace, name_width

VOXEL_SIZE = 0.02  # m
COARSE_VOXEL_SIZE = 0.0484  # m, the size that 3DMV and others report

COUNTS = ("pixel", "voxel", "voxel_484", "voxel_known", "voxel_pointnet2", "vertex")
OVER_ALL = ("class_pixel_accuracy", "class_voxel_accuracy", "calibrated_voxel_accuracy", "mean_iou")
DEFINITIONS = {
    "pixel_accuracy": "right / all core points drawn, pooled over all tiles",
    "voxel_accuracy": "the same, once per occupied 2 cm voxel: label and prediction of the first point drawn in it",
    "class_pixel_accuracy": "mean over classes of the pixel accuracy within the class",
    "class_voxel_accuracy": "mean over classes of the voxel accuracy within the class",
    "calibrated_voxel_accuracy": "class voxel accuracies weighted by ScanNet's class weights",
    "voxel_accuracy_484": "voxel accuracy with 4.84 cm voxels",
    "class_voxel_accuracy_484": "class voxel accuracy with 4.84 cm voxels",
    "voxel_accuracy_known": "voxel accuracy, the prediction restricted to the classes, without 0",
    "voxel_accuracy_pointnet2": "voxel accuracy with the original code's voxel keys, of which some collide",
    "voxel_accuracy_majority": "voxel accuracy of always answering the commonest class",
    "vertex_accuracy": "right / all mesh vertices in the classes, the prediction restricted to them",
    "mean_iou": "mean over classes of TP / (TP + FP + FN) over mesh vertices, without classes that are only predicted",
    "mean_iou_scannet": "the same by ScanNet's own formula, in which a class that is only predicted counts as 0",
} | {f"{name}_all": f"{name}, but over all classes, absent ones as 0" for name in OVER_ALL}


def confusion(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) int64 counts of (truth, predicted) pairs, both (N,) integers in 0..C-1."""
    pairs = truth.astype(np.int64) * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def first_in_voxel(xyz: np.ndarray, size: float) -> np.ndarray:
    """Indices of the first point in each occupied voxel. xyz (N, 3), N >= 1; voxels of `size` m from the minimum."""
    return first_of_each(cube_keys(xyz, size))


def first_in_voxel_pointnet2(xyz: np.ndarray, size: float) -> np.ndarray:
    """The same with the original code's keys, in which cell (nx, j, k) collides with (0, j + 1, k)."""
    i, j, k = (np.ceil((axis - axis.min()) / size).astype(np.int64) for axis in _axes(xyz))  # (N,) each
    nx, ny = i.max(), j.max()
    return first_of_each(i + j * nx + k * nx * ny)


def tile_counts(
    xyz: np.ndarray, truth: np.ndarray, predicted: np.ndarray, known: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Confusion counts of one tile's drawn core points under every way of counting that `scores` reads.

    Args:
        xyz: (N, 3) m; truth, predicted: (N,) in 0..C-1; known: (N,) the prediction without 0. N may be 0.
    """
    if len(xyz) == 0:
        return {}
    voxel = first_in_voxel(xyz, VOXEL_SIZE)
    coarse = first_in_voxel(xyz, COARSE_VOXEL_SIZE)
    original = first_in_voxel_pointnet2(xyz, VOXEL_SIZE)
    return {
        "pixel": confusion(truth, predicted, num_classes),
        "voxel": confusion(truth[voxel], predicted[voxel], num_classes),
        "voxel_484": confusion(truth[coarse], predicted[coarse], num_classes),
        "voxel_known": confusion(truth[voxel], known[voxel], num_classes),
        "voxel_pointnet2": confusion(truth[original], predicted[original], num_classes),
    }


def no_counts(num_classes: int) -> dict[str, np.ndarray]:
    return {name: np.zeros((num_classes, num_classes), dtype=np.int64) for name in COUNTS}


def accuracy(counts: np.ndarray) -> float | None:
    """Right / all over all rows but 0; None if there is nothing to score."""
    return _ratio(np.trace(counts[1:, 1:]), counts[1:].sum())


def class_accuracies(counts: np.ndarray) -> np.ndarray:
    """(C - 1,) float64, nan for a class that the ground truth does not have."""
    return _ratios(np.diag(counts)[1:], counts[1:].sum(1))


def class_ious(counts: np.ndarray, scannet: bool = False) -> np.ndarray:
    """(C - 1,) float64. Ground truth outside the classes is left out, and what is predicted there.

    nan for a class that the ground truth does not have; with `scannet`, for one that is not predicted either.
    """
    counts = counts[1:]
    right, truth, predicted = np.diag(counts[:, 1:]), counts.sum(1), counts[:, 1:].sum(0)
    union = truth + predicted - right
    return _ratios(right, union if scannet else np.where(truth > 0, union, 0))


def scores(counts: dict[str, np.ndarray], space: LabelSpace) -> dict[str, float | dict | None]:
    """The named scores as fractions in [0, 1], None where nothing was there to score. DEFINITIONS says what each is.

    Args: counts from `tile_counts`, summed, and under "vertex" the confusion over mesh vertices.
    """
    pixel, voxel = class_accuracies(counts["pixel"]), class_accuracies(counts["voxel"])
    iou = class_ious(counts["vertex"])
    voxels = counts["voxel"][1:].sum(1)
    weights = space.weights
    over_all = {
        "class_pixel_accuracy_all": _mean_all(pixel),
        "class_voxel_accuracy_all": _mean_all(voxel),
        "calibrated_voxel_accuracy_all": None if weights is None else _mean_all(voxel, weights),
        "mean_iou_all": _mean_all(iou),
    }
    if space.name == SCANNET20.name:  # as they are called there
        over_all |= {name.replace("_all", f"_{len(space.classes)}"): value for name, value in over_all.items()}
    return {
        "pixel_accuracy": accuracy(counts["pixel"]),
        "voxel_accuracy": accuracy(counts["voxel"]),
        "class_pixel_accuracy": _mean(pixel),
        "class_voxel_accuracy": _mean(voxel),
        "calibrated_voxel_accuracy": None if weights is None else _mean(voxel, weights),
        "voxel_accuracy_484": accuracy(counts["voxel_484"]),
        "class_voxel_accuracy_484": _mean(class_accuracies(counts["voxel_484"])),
        "voxel_accuracy_known": accuracy(counts["voxel_known"]),
        "voxel_accuracy_pointnet2": accuracy(counts["voxel_pointnet2"]),
        "voxel_accuracy_majority": _ratio(voxels.max(), voxels.sum()),
        "vertex_accuracy": accuracy(counts["vertex"]),
        "mean_iou": _mean(iou),
        "mean_iou_scannet": _mean(class_ious(counts["vertex"], scannet=True)),
        **over_all,
        "class_voxel_accuracies": _by_class(voxel, space),
        "iou": _by_class(iou, space),
    }


def class_table(report: dict) -> str:
    """Accuracy by class in percent, and IoU where scannet-benchmark was run; "-" for an absent class."""
    columns = {"voxel acc.": (report["class_voxel_accuracies"], report["class_voxel_accuracy"])}
    if report["mean_iou"] is not None:
        columns["IoU"] = (report["iou"], report["mean_iou"])
    width = name_width(report["iou"])
    lines = [f"{'class':{width}}" + "".join(f"{title:>12}" for title in columns)]
    for name in report["iou"]:
        lines.append(f"{name:{width}}" + "".join(f"{percent(by_class[name]):>12}" for by_class, _ in columns.values()))
    lines.append(f"{'mean':{width}}" + "".join(f"{percent(mean):>12}" for _, mean in columns.values()))
    return "\n".join(lines)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _axes(xyz: np.ndarray) -> np.ndarray:
    """(3, N) float64: a row for each axis, which numpy reads several times faster than columns."""
    return np.ascontiguousarray(xyz.T, dtype=np.float64)


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _ratios(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    present = ~np.isnan(values)
    if not present.any():
        return None
    return float(np.average(values[present], weights=None if weights is None else weights[present]))


def _mean_all(values: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    return _mean(values if np.isnan(values).all() else np.nan_to_num(values), weights)


def _by_class(values: np.ndarray, space: LabelSpace) -> dict[str, float | None]:
    return {name: None if np.isnan(v) else float(v) for name, v in zip(space.names[1:], values, strict=True)}
