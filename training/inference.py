"""A network over whole scenes: `evaluate` scores labelled ones, shared among ranks; `segment` labels anybody's own.

Shapes: V vertices of a scene, n of them with finite coordinates, k of these that the network sees, C classes.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from data import chunks, metrics
from data.augment import columns_moved
from data.columns import values_of
from data.datasets import INPUTS, WholeScenes
from data.features import POINT_FEATURES, channels_of, fields_of, points_of
from data.labels import LabelSpace
from data.ply import MAX_EXTENT
from data.scans import ScanError
from data.scenes import Scene
from data.tiles import VOTES, SceneTiles, with_votes
from models.pointnet2 import PointNet2
from training import checkpoint, ranks
from training.arguments import choose_device
from training.scene_scores import SceneResult, SceneScore, default_batch_size, run_batch, run_scene
from training.stopping import StopRequest, ignore_signals

MANY_CROPS = 300  # which take two cores some two minutes
ROWS = 2**17  # whose probabilities are computed at a time


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
            batch.append((score, scene.points_of(crop)))
            if len(batch) == batch_size:
                run_batch(model, batch, batch_size, device)
                batch.clear()
        while unfinished and unfinished[0].finished:
            yield unfinished.popleft().result()
    if batch:
        run_batch(model, batch, batch_size, device)
    yield from (score.result() for score in unfinished)


def classes_of_tiles(model: PointNet2, scene: SceneTiles, space: LabelSpace, device: torch.device) -> np.ndarray:
    """(V,) classes 0..C-1 of the vertices that pn2-wholescene draws as core points, 0 for the others."""
    drawn = run_scene(model, replace(scene, tiles=[], covering=scene.tiles), space, device, silent=True)
    return drawn.sums.argmax(1).numpy()


def add_counts(results: list[SceneResult]) -> dict[str, np.ndarray]:
    return {name: sum(result.counts[name] for result in results) for name in metrics.COUNTS}


@dataclass(frozen=True)
class Network:
    """A trained network with what it is to be given, and what its answers mean."""

    model: PointNet2
    inputs: dict  # data.datasets.INPUTS of its training
    space: LabelSpace
    temperature: float | None  # of scripts/calibrate.py; None: its confidence is not calibrated


@dataclass(frozen=True)
class Prediction:
    """What a network says of n vertices."""

    classes: np.ndarray  # (n,) uint16 in 1..C-1
    confidence: np.ndarray  # (n,) float32 in [0, 1]
    logits: np.ndarray  # (k, C) float32: the logarithms of the votes' mean probabilities
    row: np.ndarray  # (n,) int64: whose logits are each vertex's


def load_network(path: str | Path = checkpoint.SHIPPED / "rooms") -> Network:
    """What `checkpoint.read_published` reads, on the CPU. Raises CheckpointError."""
    content = checkpoint.read_published(path)
    model = checkpoint.build(content, path)
    inputs = INPUTS | content["config"]
    features = inputs["features"]
    if not {*features} <= POINT_FEATURES.keys() or channels_of(features) != model.config.extra_channels:
        raise checkpoint.CheckpointError(f"{path}: its features {features} are not those of its network")
    return Network(model, inputs, content["label_space"], content["temperature"])


def segment(
    xyz: np.ndarray,
    colours: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    intensities: np.ndarray | None = None,
    network: Network | str | Path = checkpoint.SHIPPED / "rooms",
    votes: int = VOTES,
    spacing: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """The class of each vertex of a room, as scripts/predict.py gives it, and how sure the network is of it.

    Args:
        xyz: (V, 3), metres, +z up. Of what is not finite, the label is that of no class and the confidence 0.
        colours: (V, 3); normals: (V, 3); intensities: (V,); of any type that a file may have (data/clouds.py). Only
            networks that take them need them.
        network: of `load_network`, or what that reads. The default was trained on generated rooms alone.
        votes: how often all is looked at, each time turned. spacing: metres, vertices in a cube of this edge are as
            one; None: as trained. seed: of the order in which the vertices are dealt out.

    Returns labels (V,) uint16, the ids of the network's label space, and confidence (V,) float32 in [0, 1].
    Raises CheckpointError, and ValueError for arrays that are not as above, or that span more than 1 km.
    """
    network = network if isinstance(network, Network) else load_network(network)
    xyz = np.asarray(xyz)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype.kind not in "fiu":
        raise ValueError(f"xyz is {xyz.shape} of {xyz.dtype}; it has to be (V, 3), of numbers")
    seen = np.isfinite(xyz).all(axis=1)
    if not seen.any():
        raise ValueError("xyz has no vertex with finite coordinates")
    given = {"colour": colours, "normal": normals, "intensity": intensities}
    fields = {name: _field(name, given[name], seen) for name in fields_of(network.inputs["features"])}
    own = xyz[seen].astype(np.float64)
    own -= own.min(axis=0)
    if own.max() > MAX_EXTENT:
        raise ValueError(f"xyz spans {own.max():.4g} m; rooms in metres are expected")
    spacing = network.inputs["spacing"] if spacing is None else spacing
    chunks.check_spacing(spacing, "spacing")
    scene = Scene("cloud", own.astype(np.float32), **fields)
    if votes != int(votes) or votes < 1:
        raise ValueError(f"votes is {votes!r}; it has to be a whole number of at least 1")
    try:
        found_device = choose_device(device, tf32=None)
    except SystemExit as error:  # which is for commands
        raise ValueError(str(error)) from None
    found = predict_scene(network, scene, found_device, votes, seed, *chunks.cubes(scene.xyz, spacing))
    labels, confidence = np.full(len(xyz), network.space.id_of[0], np.uint16), np.zeros(len(xyz), np.float32)
    labels[seen], confidence[seen] = network.space.id_of[found.classes], found.confidence
    return labels, confidence


def predict_scene(
    network: Network,
    scene: Scene,
    device: torch.device,
    votes: int,
    seed: int,
    first: np.ndarray,
    cube: np.ndarray,
    batch_size: int | None = None,
    silent: bool = True,
) -> Prediction:
    """What the network says of a scene with n vertices, in metres, that has the fields which its features need.

    first (k,), cube (n,): of `chunks.cubes`. batch_size: crops at a time, by default by device. Raises CheckpointError
    if the weights give no finite numbers.
    """
    inputs = network.inputs
    points, turning = points_of(scene, inputs["features"]), columns_moved(inputs["features"], "turns")
    tiles = SceneTiles(scene.name, points, None, tiles=[], covering=[], turning=turning)
    rng = np.random.default_rng(seed)
    tiles = with_votes(tiles, rng, inputs["points"], inputs["chunk_size"], first, cube, votes)
    if not silent and device.type == "cpu" and len(tiles.covering) > MANY_CROPS:
        fewer = f"; --votes 1 takes 1/{votes} of the time" if votes > 1 else ""
        crops = f"{len(tiles.covering)} crops of {inputs['chunk_size']:g} m"
        print(f"note: {crops} have to be predicted, however few vertices they have, in {votes} votes{fewer}")
    score = run_scene(network.model.to(device), tiles, network.space, device, batch_size, silent)
    classes, row = score.result().predicted, score.row_of_vertex
    logits = score.log_probabilities()
    of_row = np.zeros(len(logits), np.int64)
    of_row[row] = classes
    sure = confidence_of(logits, torch.from_numpy(of_row), network.temperature or 1.0)
    return Prediction(classes, sure.numpy()[row], logits.numpy(), row)


def confidence_of(logits: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """(k,) float32: the probability of (k,) int64 classes among all, "none of them" included: softmax(logits / T).

    Args: logits (k, C).
    """
    parts = zip(logits.split(ROWS), classes.split(ROWS), strict=True)
    return torch.cat([(part / temperature).softmax(1).gather(1, of[:, None])[:, 0] for part, of in parts])


def _field(name, values, seen):
    """(n, ...) of a scene's field, from what `segment` was given. Raises ValueError."""
    shape, notes = (len(seen),) if name == "intensity" else (len(seen), 3), []
    if values is None or np.shape(values) != shape:
        found = "none was given" if values is None else f"it is {np.shape(values)}"
        raise ValueError(f"the network takes a {name} of each vertex, an array {shape}; {found}")
    try:
        found = values_of(name, name, {name: np.asarray(values)[seen]}, int(seen.sum()), notes)
    except ScanError as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError("; ".join(notes))
    return found
