"""A network over the crops of one scene, and what it says of them, by vertex.

Shapes: B crops at a time, N points, F features, V vertices of a scene, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data import metrics
from data.labels import LabelSpace
from data.tiles import SceneTiles
from models.pointnet2 import PointNet2
from training import checkpoint
from training.progress import tracked

LEAST_PROBABILITY = 1e-6  # so that each has a logarithm
# Draws at a time. On the CPU the activations of one stay in the cache: 8 together take 1.7 x as long
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 1, 16


@dataclass(frozen=True)
class SceneResult:
    name: str
    vertices: int  # V
    tiles: int  # scored by pn2-wholescene
    counts: dict[str, np.ndarray]  # name of the count -> (C, C) confusion
    predicted: np.ndarray | None  # (V,) uint16 in 1..C-1, one per vertex; None without scannet-benchmark


@torch.inference_mode()
def run_batch(
    model: PointNet2, batch: list[tuple["SceneScore", np.ndarray]], batch_size: int, device: torch.device
) -> None:
    """Give each scene the logits of its crops. batch: 1 to batch_size pairs of a scene and points (N, 3 + F)."""
    points = [points for _, points in batch]
    points += points[-1:] * (batch_size - len(points))
    logits = model(torch.from_numpy(np.stack(points)).to(device)).float().cpu()  # (B, N, C)
    if not torch.isfinite(logits).all():
        raise checkpoint.CheckpointError("the network's logits are not finite: its weights are of no use")
    for (score, _), logits_of_crop in zip(batch, logits, strict=False):
        score.add(logits_of_crop)


def run_scene(
    model: PointNet2,
    scene: SceneTiles,
    space: LabelSpace,
    device: torch.device,
    batch_size: int | None = None,
    silent: bool = False,
) -> "SceneScore":
    """What the network says of one scene, by the crops of its tiles. batch_size: as in `evaluate`."""
    model.eval()
    batch_size = batch_size or default_batch_size(device)
    score = SceneScore(scene, space)
    starts = range(0, len(score.crops), batch_size)
    for start in tracked(starts, scene.name, "batches", silent):
        crops = score.crops[start : start + batch_size]
        run_batch(model, [(score, scene.points_of(crop)) for crop in crops], batch_size, device)
    return score


def default_batch_size(device: torch.device) -> int:
    return CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE


class SceneScore:
    """What the network has said of a scene so far. Nothing is kept but sums by vertex: of logits, or in votes of
    probabilities, which leave the averages steadier and the labels better (docs/PREDICT.md).
    """

    def __init__(self, scene: SceneTiles, space: LabelSpace):
        self.scene, self.space = scene, space
        self.crops = [*scene.tiles, *scene.covering]
        self.done = 0
        self.counts = metrics.no_counts(space.num_classes)
        # A row of sums for each vertex that is covered: for all of them, or for those that stand in for others
        seen = np.full(len(scene.points), scene.stand_in is None)
        if scene.stand_in is not None:
            seen[scene.stand_in] = True
        self.row = np.cumsum(seen) - 1
        rows = np.count_nonzero(seen) if scene.covering else 0
        self.sums, self.covered = torch.zeros(rows, space.num_classes), np.zeros(rows, dtype=bool)

    @property
    def finished(self) -> bool:
        return self.done == len(self.crops)

    @property
    def row_of_vertex(self) -> np.ndarray:
        """(V,) the row of `sums` that speaks for each vertex."""
        return self.row if self.scene.stand_in is None else self.row[self.scene.stand_in]

    def add(self, logits: Tensor) -> None:
        """Take the logits (N, C) of the next one of `crops`. Only its core points count, or in votes all, weighted."""
        crop, is_tile = self.crops[self.done], self.done < len(self.scene.tiles)
        self.done += 1
        counted = crop.core if crop.weight is None else crop.weight > 0
        index, logits = crop.index[counted], logits[torch.from_numpy(counted)]
        if is_tile:
            self._count(index, logits)
            return
        if crop.weight is not None:
            logits = logits.softmax(1) * torch.from_numpy(crop.weight[counted])[:, None]
        self.sums.index_add_(0, torch.from_numpy(self.row[index]), logits)
        self.covered[self.row[index]] = True

    def log_probabilities(self) -> Tensor:
        """(rows, C) float32 of votes: the logarithms of their mean probabilities. Takes the place of `sums`."""
        self.sums /= self.sums.sum(1, keepdim=True)
        return self.sums.clamp_(min=LEAST_PROBABILITY).log_()

    def _count(self, index: np.ndarray, logits: Tensor) -> None:
        best, known = logits[:, 1:].max(1)  # without class 0
        known += 1
        counts = metrics.tile_counts(
            xyz=self.scene.points[index, :3],
            truth=self.space.class_of[self.scene.label[index]],
            predicted=torch.where(logits[:, 0] >= best, 0, known).numpy(),  # of equal ones the first, as argmax does
            known=known.numpy(),
            num_classes=self.space.num_classes,
        )
        for name, matrix in counts.items():
            self.counts[name] += matrix

    def result(self) -> SceneResult:
        scene, predicted = self.scene, None
        if scene.covering:
            if not self.covered.all():
                raise RuntimeError(f"{scene.name}: {np.sum(~self.covered)} vertices were in no tile")
            predicted = (1 + self.sums[:, 1:].argmax(1)).numpy().astype(np.uint16)  # of a row
            predicted = predicted[self.row_of_vertex]  # (V,)
            if scene.label is not None:
                truth = self.space.class_of[scene.label]
                self.counts["vertex"] = metrics.confusion(truth, predicted, self.space.num_classes)
        return SceneResult(scene.name, len(scene.points), len(scene.tiles), self.counts, predicted)
