"""What TensorBoard shows beside numbers: the confusion matrix, and scenes as points in 3-D. V vertices, n points."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from data.coloured_ply import class_colours, colours_of_scene
from data.datasets import WholeScenes
from data.labels import LabelSpace

CELL = 9 / 21  # inches, in the confusion matrix: that of ScanNet is 11 x 10
MOST_NUMBERED = 60  # classes; of more, its cells are smaller and have no numbers
MOST_INCHES = 40  # of its side, which then takes 2 s and 0.5 GB to draw
MOST_POINTS = 10_000  # of a scene, three times over: 0.5 MB for each epoch
POINT_SIZE = 0.012  # of the cloud's radius: some two pixels where all of it is seen
GAP = 1.0  # m, between a scene and the next
FIELD_OF_VIEW, ELEVATION = 40, np.deg2rad(50)  # of the camera: degrees, and how far above the horizon it is
Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # the browser's axes: x, y, z @ Y_UP = x, z, -y


def confusion_figure(counts: np.ndarray, space: LabelSpace) -> Figure:
    """Where the voxels of each class go, in percent of the class. counts: (C, C)."""
    truth, classes = counts[1:], space.num_classes  # (C - 1, C)
    share = 100 * truth / np.maximum(truth.sum(1, keepdims=True), 1)
    order = [*range(1, classes), 0]  # "none" last
    cell = CELL if classes <= MOST_NUMBERED else min(CELL / 2, MOST_INCHES / classes)
    figure = Figure(figsize=(2 + cell * classes, 1 + cell * classes), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share[:, order], cmap="Blues", vmin=0, vmax=100)
    text = {"fontsize": None if classes <= MOST_NUMBERED else 7}
    axes.set_xticks(range(classes), [space.names[c] for c in order], rotation=60, ha="right", **text)
    axes.set_yticks(range(classes - 1), space.names[1:], **text)
    axes.set(xlabel="predicted", ylabel="ground truth", title="voxels by class, % of the ground truth")
    if classes > MOST_NUMBERED:
        return figure
    for row, column in zip(*np.nonzero(share[:, order] >= 0.5), strict=True):
        value = share[row, order[column]]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "black")
    return figure


def add_points(board: SummaryWriter, tag: str, xyz: np.ndarray, colour: np.ndarray, step: int) -> None:
    """Coloured points for the mesh plugin, seen from above: xyz (n, 3) in metres, +z up, and colour (n, 3) uint8."""
    centred = xyz - (xyz.min(0) + xyz.max(0)) / 2
    radius = float(np.linalg.norm(centred, axis=1).max())
    position = radius / np.sin(np.deg2rad(FIELD_OF_VIEW / 2)) * np.array([0, np.sin(ELEVATION), np.cos(ELEVATION)])
    board.add_mesh(
        tag,
        torch.from_numpy((centred @ Y_UP).astype(np.float32))[None],  # (1, n, 3)
        torch.from_numpy(colour)[None],
        config_dict={
            "material": {"cls": "PointsMaterial", "size": POINT_SIZE * radius},
            "camera": {"cls": "PerspectiveCamera", "fov": FIELD_OF_VIEW, "position": position.tolist()},
        },
        global_step=step,
    )


class SceneView:
    """A validation scene in 3-D: from left to right its colours, its ground truth and the prediction.

    Shown are core points of the crops that pn2-wholescene scores, at most 10,000 and the same ones at every epoch.
    """

    def __init__(self, scenes: WholeScenes, number: int):
        self.scene, self.space = scenes[number], scenes.policy.space
        self.colour = colours_of_scene(scenes.scenes[number].path)  # (V, 3) uint8
        is_drawn = np.zeros(len(self.scene.points), dtype=bool)
        for crop in self.scene.tiles:
            is_drawn[crop.index[crop.core]] = True
        drawn = np.flatnonzero(is_drawn)
        rng = np.random.default_rng(scenes.seed)
        self.index = np.sort(rng.choice(drawn, min(len(drawn), MOST_POINTS), replace=False))  # (n,)

    def add(self, board: SummaryWriter, epoch: int, predicted: np.ndarray) -> None:
        """predicted: (V,) classes."""
        if not len(self.index):
            return  # nothing of it is annotated
        label = self.scene.label, self.space.id_of[predicted]
        colours = self.colour, *(class_colours(ids, self.space) for ids in label)
        xyz = self.scene.points[self.index, :3]
        if np.ptp(xyz[:, 0]) > np.ptp(xyz[:, 1]):  # side by side stand the long sides
            xyz = xyz[:, [1, 0, 2]] * np.float32([1, -1, 1])  # a rotation, no mirror
        apart = np.float32([np.ptp(xyz[:, 0]) + GAP, 0, 0])
        row = np.concatenate([xyz + place * apart for place in range(len(colours))])
        colour = np.concatenate([of_vertices[self.index] for of_vertices in colours])
        add_points(board, f"{self.scene.name}: input, ground truth, prediction", row, colour, epoch)
