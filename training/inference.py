"""A network over whole scenes: every tile of every scene, shared among ranks, counted and put together again.

Shapes: B crops at a time, N points, F features, V vertices of a scene, C classes.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from data import metrics
from data.datasets import SceneTiles, WholeScenes
from data.labels import LabelSpace
from models.pointnet2 import PointNet2
from training import checkpoint, ranks
from training.progress import tracked
from training.stopping import StopRequest, ignore_signals

# Draws at a time. On the CPU the activations of one stay in the cache: 8 together take 1.7 x as long
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 1, 16


@dataclass(frozen=True)
class SceneResult:
    name: str
    vertices: int  # V
    tiles: int  # scored by pn2-wholescene
    counts: dict[str, np.ndarray]  # name of the count -> (C, C) confusion
    predicted: np.ndarray | None  # (V,) uint16 in 1..C-1, one per vertex; None without scannet-benchmark


def evaluate(
    model: PointNet2,
    scenes: WholeScenes,
    device: torch.device,
    batch_size: int | None = None,
    workers: int = 0,
    stop: StopRequest | None = None,
) -> list[SceneResult] | None:
    """Score the scenes, in order; None if a rank was told to stop. Worker processes read and tile the next ones
    meanwhile. Of W ranks, which all have to call this, each scores every W-th scene and returns the results of all.

    The network takes `batch_size` crops at a time, of one scene or of several: by default 1 on the CPU, and 16 on a
    GPU. The last batch is filled up with copies of its last crop: matrix products of another shape may be rounded
    otherwise, and what a scene gets must not depend on the scenes beside it.
    """
    model.eval()
    batch_size = batch_size or default_batch_size(device)
    rank, world_size = ranks.rank(), ranks.world_size()
    share = Subset(scenes, range(rank, len(scenes), world_size))  # unpadded: a rank's may be empty
    loader = DataLoader(share, batch_size=None, num_workers=workers, worker_init_fn=ignore_signals)
    progress = tqdm(loader, desc="scenes", unit="scene", leave=False, disable=None if rank == 0 else True)
    results = []
    for result in _results(model, progress, scenes.policy.space, device, batch_size):
        results.append(result)
        if stop and stop.signal:
            break
    shares = ranks.gather_from_ranks((results, bool(stop and stop.signal)))
    if any(stopped for _, stopped in shares):
        return None
    return [shares[number % world_size][0][number // world_size] for number in range(len(scenes))]


def _results(
    model: PointNet2, scenes: Iterable[SceneTiles], space: LabelSpace, device: torch.device, batch_size: int
) -> Iterator[SceneResult]:
    unfinished, batch = deque(), []
    for scene in scenes:
        score = SceneScore(scene, space)
        unfinished.append(score)
        for crop in score.crops:
            batch.append((score, scene.points[crop.index]))
            if len(batch) == batch_size:
                _run_batch(model, batch, batch_size, device)
                batch.clear()
        while unfinished and unfinished[0].finished:
            yield unfinished.popleft().result()
    if batch:
        _run_batch(model, batch, batch_size, device)
    yield from (score.result() for score in unfinished)


@torch.inference_mode()
def _run_batch(
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
        _run_batch(model, [(score, scene.points[crop.index]) for crop in crops], batch_size, device)
    return score


def classes_of_tiles(model: PointNet2, scene: SceneTiles, space: LabelSpace, device: torch.device) -> np.ndarray:
    """(V,) classes 0..C-1 of the vertices that pn2-wholescene draws as core points, 0 for the others."""
    drawn = run_scene(model, replace(scene, tiles=[], covering=scene.tiles), space, device, silent=True)
    return drawn.logits.argmax(1).numpy()


def default_batch_size(device: torch.device) -> int:
    return CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE


class SceneScore:
    """What the network has said of a scene so far. No logits are kept but their sums by vertex."""

    def __init__(self, scene: SceneTiles, space: LabelSpace):
        self.scene, self.space = scene, space
        self.crops = [*scene.tiles, *scene.covering]
        self.done = 0
        self.counts = metrics.no_counts(space.num_classes)
        # A row of logits for each vertex that is covered: for all of them, or for those that stand in for others
        seen = np.full(len(scene.points), scene.stand_in is None)
        if scene.stand_in is not None:
            seen[scene.stand_in] = True
        self.row = np.cumsum(seen) - 1
        rows = np.count_nonzero(seen) if scene.covering else 0
        self.logits, self.covered = torch.zeros(rows, space.num_classes), np.zeros(rows, dtype=bool)

    @property
    def finished(self) -> bool:
        return self.done == len(self.crops)

    def add(self, logits: Tensor) -> None:
        """Take the logits (N, C) of the next one of `crops`. Only its core points count."""
        crop, is_tile = self.crops[self.done], self.done < len(self.scene.tiles)
        self.done += 1
        index, logits = crop.index[crop.core], logits[torch.from_numpy(crop.core)]
        if is_tile:
            self._count(index, logits)
        else:
            self.logits.index_add_(0, torch.from_numpy(self.row[index]), logits)
            self.covered[self.row[index]] = True

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
            predicted = (1 + self.logits[:, 1:].argmax(1)).numpy().astype(np.uint16)  # of a row
            predicted = predicted[self.row if scene.stand_in is None else self.row[scene.stand_in]]  # (V,)
            if scene.label is not None:
                truth = self.space.class_of[scene.label]
                self.counts["vertex"] = metrics.confusion(truth, predicted, self.space.num_classes)
        return SceneResult(scene.name, len(scene.points), len(scene.tiles), self.counts, predicted)


def add_counts(results: list[SceneResult]) -> dict[str, np.ndarray]:
    return {name: sum(result.counts[name] for result in results) for name in metrics.COUNTS}
