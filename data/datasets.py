"""Torch datasets over preprocessed scenes: training chunks, and whole scenes cut into tiles for evaluation.

A scene file is opened, read and closed within one item, so that datasets can be handed to worker processes and hold
no scene between items. Every random choice follows from (seed, epoch, position) in training and from (seed, scene) in
evaluation, whichever worker makes it. V vertices, T tiles, N points, F extra channels per point.
"""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from data import augment, chunks
from data.labels import NUM_CLASSES, NUM_NYU40, NYU40_TO_CLASS
from data.scenes import SceneError, read_scene

POINT_FEATURES = {"colour": 3, "normal": 3}  # optional channels after xyz, in this order
TURNED = ("xyz", "normal")  # what turns with the room

SampleKey = tuple[int, int, int]  # epoch, position in the epoch, index of the scene


@dataclass(frozen=True)
class LabelPolicy:
    """What becomes of points outside the 20 classes. The defaults are the original's.

    unannotated: vertices that no annotation covers (nyu40 id 0): "drop" them, or "ignore": keep them with weight 0.
    other: annotated vertices of other nyu40 classes: "train" them as class 0, or "ignore".
    """

    unannotated: str = "drop"
    other: str = "train"

    def __post_init__(self):
        for name, value, allowed in (
            ("unannotated", self.unannotated, ("drop", "ignore")),
            ("other", self.other, ("train", "ignore")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is '{value}'; it can be {' or '.join(allowed)}")

    def kept(self, nyu40: np.ndarray) -> np.ndarray:
        """(V,) bool: vertices that the network sees."""
        return nyu40 > 0 if self.unannotated == "drop" else np.ones(len(nyu40), dtype=bool)

    def trained(self, nyu40: np.ndarray) -> np.ndarray:
        """(V,) bool: vertices that the loss counts."""
        return (nyu40 > 0) & ((NYU40_TO_CLASS[nyu40] > 0) | (self.other == "train"))

    def class_weights(self, nyu40_histogram: np.ndarray) -> np.ndarray:
        """(21,) float32 loss weights 1 / ln(1.2 + class frequency) from the (41,) counts of the training vertices."""
        ids = np.arange(len(nyu40_histogram))
        counts = np.where(self.trained(ids), nyu40_histogram, 0)
        by_class = np.bincount(NYU40_TO_CLASS, weights=counts, minlength=NUM_CLASSES)
        return (1 / np.log(1.2 + by_class / by_class.sum())).astype(np.float32)


# What a network is given of a scene: the training flags' names and defaults. What a run or an export does not name has
# its default.
INPUTS = {"features": [], "chunk_size": chunks.CHUNK_SIZE, **dataclasses.asdict(LabelPolicy())}


@dataclass(frozen=True)
class SceneFile:
    """A scene as the manifest describes it."""

    name: str
    path: Path
    vertices: int  # V
    nyu40_histogram: np.ndarray  # (41,) vertices by nyu40 id; all 0 for a scan without labels

    def read_points(self, features: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """points (V, 3 + F) float32 and nyu40 (V,) uint8 or None. Colours are scaled to [0, 1]."""
        scene = read_scene(self.path, fields=("xyz", "nyu40", *features))
        labelled = scene.nyu40 is not None
        if (scene.name, len(scene.xyz), labelled) != (self.name, self.vertices, self.nyu40_histogram.any()):
            raise SceneError(f"{self.path}: is not the scene that manifest.json describes; preprocess it again")
        columns = [scene.xyz]
        if "colour" in features:
            columns.append(scene.colour.astype(np.float32) / 255)
        if "normal" in features:
            columns.append(scene.normal)
        return np.concatenate(columns, axis=1) if features else scene.xyz, scene.nyu40


def scene_files(data_dir: str | Path, manifest: dict, split: str) -> list[SceneFile]:
    """The scenes of one split that preprocessing has written. SceneError if there are none."""
    names = manifest["splits"][split]
    if not names:
        raise SceneError(f"{data_dir}: the {split} split has no scenes; preprocess scans of that split first")
    entries = manifest["scenes"]
    return [
        SceneFile(
            name,
            Path(data_dir) / entries[name]["file"],
            entries[name]["vertices"],
            np.array(entries[name]["nyu40_histogram"]),
        )
        for name in names
    ]


class TrainingChunks(Dataset):
    """One augmented training chunk for each key (epoch, position, scene) that ChunkBatches yields.

    Items: points (N, 3 + F) float32, classes (N,) int64, weight (N,) float32, scene int.
    Scenes without a vertex that the policy trains on are left out and named in `left_out`.
    """

    def __init__(
        self,
        scenes: Sequence[SceneFile],
        seed: int,
        policy: LabelPolicy | None = None,
        features: Sequence[str] = (),
        chunk_size: float = chunks.CHUNK_SIZE,
    ):
        self.seed, self.chunk_size = seed, chunk_size
        self.policy, self.features = policy or LabelPolicy(), tuple(features)
        trained = self.policy.trained(np.arange(NUM_NYU40))  # (41,) bool, nyu40 ids
        self.scenes = [scene for scene in scenes if scene.nyu40_histogram[trained].any()]
        self.left_out = [scene.name for scene in scenes if not scene.nyu40_histogram[trained].any()]
        if not self.scenes:
            raise SceneError("no training scene has vertices to train on: none is annotated, or --other leaves none")
        self.class_weights = self.policy.class_weights(sum(scene.nyu40_histogram for scene in self.scenes))

    def __len__(self) -> int:
        return len(self.scenes)

    def names_of(self, batch: dict[str, torch.Tensor]) -> list[str]:
        """The scenes of a batch."""
        return [f"scene {self.scenes[scene].name}" for scene in batch["scene"]]

    def __getitem__(self, key: SampleKey) -> dict[str, torch.Tensor | int]:
        epoch, position, scene = key
        rng = np.random.default_rng([self.seed, epoch, 1 + position])  # 0 is the epoch's order
        points, nyu40 = self.scenes[scene].read_points(self.features)
        kept = np.flatnonzero(self.policy.kept(nyu40))
        points, nyu40 = points.take(kept, axis=0), nyu40[kept]  # take: in a fifth of the time of points[kept]

        crop = chunks.training_crop(points[:, :3], NYU40_TO_CLASS[nyu40], rng, size=self.chunk_size)
        points, nyu40 = points[crop.index], nyu40[crop.index]  # (N, 3 + F), (N,)
        classes = NYU40_TO_CLASS[nyu40].astype(np.int64)
        weight = self.class_weights[classes] * crop.core * self.policy.trained(nyu40)

        points, classes, weight = augment.drop_points(points, classes, weight, rng)
        points = _rotate(points, self.features, rng.uniform(0, 2 * np.pi))
        return {
            "points": torch.from_numpy(points),
            "classes": torch.from_numpy(classes),
            "weight": torch.from_numpy(weight.astype(np.float32)),
            "scene": scene,
        }


class ChunkBatches(Sampler[list[SampleKey]]):
    """One rank's share of the batches of sample keys: every scene once an epoch in random order.

    batch_size counts the chunks of all ranks together; rank r takes the r-th of world_size equal parts of each batch,
    so that the ranks' parts in order are the batch of one rank alone. The last incomplete batch is dropped; with
    fewer scenes than a batch, scenes repeat in rounds until one is full. Call set_epoch before each epoch.
    Raises ValueError if world_size does not divide batch_size.
    """

    def __init__(self, num_scenes: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        if batch_size % world_size:
            raise ValueError(f"a batch of {batch_size} chunks cannot be divided among {world_size} ranks equally")
        self.num_scenes, self.batch_size, self.seed = num_scenes, batch_size, seed
        self.rank, self.share = rank, batch_size // world_size
        self.epoch = self.first_step = 0

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """What the next iteration yields: the batches of this epoch from this step on. One that has begun goes on."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the next iteration starts."""
        return max(self.num_scenes // self.batch_size, 1)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        rng = np.random.default_rng([self.seed, self.epoch, 0])
        rounds = -(-self.batch_size // self.num_scenes)
        order = np.concatenate([rng.permutation(self.num_scenes) for _ in range(rounds)]).tolist()
        keys = [(self.epoch, position, scene) for position, scene in enumerate(order)]
        starts = [step * self.batch_size + self.rank * self.share for step in range(self.first_step, len(self))]
        return iter([keys[start : start + self.share] for start in starts])


@dataclass(frozen=True)
class SceneTiles:
    """A scene as the two evaluation protocols see it."""

    name: str
    points: np.ndarray  # (V, 3 + F) float32
    nyu40: np.ndarray | None  # (V,) uint8
    tiles: list[chunks.Crop]  # of the vertices that the label policy keeps; none of a scan without labels
    covering: list[chunks.Crop]  # of all vertices


class WholeScenes(Dataset):
    """Whole scenes cut into tiles. Item: SceneTiles. `covering`: also crops until every vertex was in a core."""

    def __init__(
        self,
        scenes: Sequence[SceneFile],
        seed: int,
        policy: LabelPolicy | None = None,
        features: Sequence[str] = (),
        covering: bool = True,
        chunk_size: float = chunks.CHUNK_SIZE,
    ):
        self.scenes, self.seed, self.covering, self.chunk_size = list(scenes), seed, covering, chunk_size
        self.policy, self.features = policy or LabelPolicy(), tuple(features)

    @classmethod
    def as_trained(cls, scenes: Sequence[SceneFile], seed: int, config: dict, covering: bool = True) -> "WholeScenes":
        """Labelled, with the features and in tiles of the size that a training run of the settings `config` had."""
        config = INPUTS | config
        policy = LabelPolicy(config["unannotated"], config["other"])
        return cls(scenes, seed, policy, config["features"], covering, config["chunk_size"])

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> SceneTiles:
        scene = self.scenes[index]
        points, nyu40 = scene.read_points(self.features)
        rng = np.random.default_rng([self.seed, zlib.crc32(scene.name.encode())])

        kept = np.flatnonzero(self.policy.kept(nyu40)) if nyu40 is not None else np.zeros(0, dtype=np.int64)
        tiles = chunks.tile_crops(points[kept, :3], rng, size=self.chunk_size) if len(kept) else []
        tiles = [crop._replace(index=kept[crop.index]) for crop in tiles]
        covering = list(chunks.covering_crops(points[:, :3], rng, size=self.chunk_size)) if self.covering else []
        return SceneTiles(scene.name, points, nyu40, tiles, covering)


def columns_of(features: Sequence[str]) -> dict[str, slice]:
    """Where "xyz" and each of the features stand in a point (3 + F,)."""
    columns, end = {"xyz": slice(0, 3)}, 3
    for name, channels in POINT_FEATURES.items():
        if name in features:
            columns[name] = slice(end, end + channels)
            end += channels
    return columns


def _rotate(points: np.ndarray, features: Sequence[str], angle: float) -> np.ndarray:
    """A copy of points (N, 3 + F), turned about +z by an angle in radians."""
    points = points.copy()
    for name, columns in columns_of(features).items():
        if name in TURNED:
            points[:, columns] = augment.rotate_about_z(points[:, columns], angle)
    return points
