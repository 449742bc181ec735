"""Torch datasets over preprocessed scenes: training chunks, and whole scenes cut into tiles for evaluation.

A scene file is opened, read and closed within one item, so that datasets can be handed to worker processes and hold
no scene between items. Every random choice follows from (seed, epoch, position) in training and from (seed, scene) in
evaluation, whichever worker makes it. V vertices, T tiles, N points, F extra channels per point.
"""

import fnmatch
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from data import chunks
from data.augment import AUGMENTATIONS, Chunk, columns_moved
from data.features import channels_of, fields_of, points_of
from data.labels import SCANNET20, LabelSpace
from data.scene_cache import SceneCache, Seen
from data.scenes import SPLITS, SceneError, read_scene
from data.tiles import SceneTiles, with_covering, with_votes

SampleKey = tuple[int, int, int]  # epoch, position in the epoch, index of the scene


@dataclass(frozen=True)
class LabelPolicy:
    """What becomes of points outside the classes. The defaults are the original's.

    unannotated: vertices that no annotation covers: "drop" them, or "ignore": keep them with weight 0.
    other: annotated vertices of none of the classes: "train" them as class 0, or "ignore".
    """

    unannotated: str = "drop"
    other: str = "train"
    space: LabelSpace = SCANNET20

    def __post_init__(self):
        for name, value, allowed in (
            ("unannotated", self.unannotated, ("drop", "ignore")),
            ("other", self.other, ("train", "ignore")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is '{value}'; it can be {' or '.join(allowed)}")

    def kept(self, label: np.ndarray) -> np.ndarray:
        """(V,) bool: vertices that the network sees. label: (V,) uint16 ids."""
        return self.space.is_annotated[label] if self.unannotated == "drop" else np.ones(len(label), dtype=bool)

    def trained(self, label: np.ndarray) -> np.ndarray:
        """(V,) bool: vertices that the loss counts. label: (V,) ids."""
        return self.space.class_of[label] > 0 if self.other == "ignore" else self.space.is_annotated[label]

    def trains_on(self, histogram: dict[int, int]) -> bool:
        """Whether there are vertices that the loss counts among those of {id: count}."""
        return bool(self.trained(np.array(list(histogram), dtype=np.int64)).any())

    def class_weights(self, histogram: dict[int, int]) -> np.ndarray:
        """(C,) float32 loss weights 1 / ln(1.2 + class frequency) from {id: count} of the training vertices."""
        ids = np.array(list(histogram))
        counts = np.where(self.trained(ids), list(histogram.values()), 0)
        by_class = np.bincount(self.space.class_of[ids], weights=counts, minlength=self.space.num_classes)
        return (1 / np.log(1.2 + by_class / by_class.sum())).astype(np.float32)


# What a network is given of a scene: the training flags' names and defaults. What a run or an export does not name has
# its default.
INPUTS = {
    "features": [],
    "chunk_size": chunks.CHUNK_SIZE,
    "points": chunks.POINTS_PER_CHUNK,
    "spacing": 0.0,
    "unannotated": "drop",
    "other": "train",
}


@dataclass(frozen=True)
class SceneFile:
    """A scene as the manifest describes it."""

    name: str
    path: Path
    vertices: int  # V
    histogram: dict[int, int]  # vertices by id; empty for a scan without labels

    def read_points(self, features: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """points (V, 3 + F) float32 and label (V,) uint16 or None."""
        scene = read_scene(self.path, fields=("xyz", "label", *fields_of(features)))
        labelled = scene.label is not None
        if (scene.name, len(scene.xyz), labelled) != (self.name, self.vertices, bool(self.histogram)):
            raise SceneError(f"{self.path}: is not the scene that manifest.json describes; preprocess it again")
        return points_of(scene, features), scene.label


def scene_files(data_dir: str | Path, manifest: dict, chosen: Sequence[str]) -> list[SceneFile]:
    """The scenes that `choose_scenes` chooses. SceneError if there are none."""
    entries = manifest["scenes"]
    return [
        SceneFile(name, Path(data_dir) / entries[name]["file"], entries[name]["vertices"], entries[name]["histogram"])
        for name in choose_scenes(data_dir, manifest, chosen)
    ]


def choose_scenes(data_dir: str | Path, manifest: dict, chosen: Sequence[str]) -> list[str]:
    """The names of the scenes that are there, once each and in the order of what chooses them.

    chosen: names of splits or scenes, patterns of names as in a shell ("Area_5*"), text files of names, one a line.
    SceneError for one that chooses nothing.
    """
    found = {}
    for choice in chosen:
        names = _names_by(choice, manifest)
        if absent := [name for name in names if name not in manifest["scenes"]]:
            why = manifest["failed"].get(absent[0], "preprocess it first, or remove the name")
            raise SceneError(f"{choice}: {data_dir} has no scene '{absent[0]}' ({why})")
        if not names and is_file_of_names(choice):
            raise SceneError(f"{choice}: the file has no names of scenes, one a line")
        if not names and choice.endswith(".txt"):
            raise SceneError(f"{choice}: there is no such file of names, and {data_dir} has no scene that is called so")
        if not names and choice in SPLITS:
            raise SceneError(f"{data_dir}: the {choice} split has no scenes; preprocess scans of that split first")
        if not names:
            some = ", ".join(list(manifest["scenes"])[:3])
            raise SceneError(f"{data_dir}: no split and no scene is called '{choice}' (scenes are {some} ...)")
        found |= dict.fromkeys(names)
    return list(found)


def expected_scenes(manifest: dict, chosen: Sequence[str]) -> int:
    """How many scenes `chosen` should be: of splits what preprocessing expected; of others those that failed, too."""
    splits = [split for split in SPLITS if split in chosen]
    names = {name for choice in chosen for name in _names_by(choice, manifest)}
    if not splits:  # whose expected numbers have the failed ones in them
        names |= {name for name in manifest["failed"] for choice in chosen if fnmatch.fnmatchcase(name, choice)}
    counted = {name for split in splits for name in manifest["splits"][split]}
    return sum(manifest["expected"][split] for split in splits) + len(names - counted)


def is_file_of_names(choice: str) -> bool:
    return choice.endswith(".txt") and Path(choice).is_file()


def _names_by(choice: str, manifest: dict) -> list[str]:
    if choice in SPLITS:
        return manifest["splits"][choice]
    if is_file_of_names(choice):
        return Path(choice).read_text(encoding="utf-8-sig", errors="replace").split()
    listed = [name for split in SPLITS for name in manifest["splits"][split]]
    return [name for name in listed if fnmatch.fnmatchcase(name, choice)]


class TrainingChunks(Dataset):
    """One augmented training chunk for each key (epoch, position, scene) that ChunkBatches yields.

    With a spacing, in metres, chunks are thinned (`chunks.thin`). weighted: by class, as LabelPolicy says.
    Items: points (N, 3 + F) float32, classes (N,) int64, weight (N,) float32, scene int.
    Scenes without a vertex that the policy trains on are left out and named in `left_out`.
    With a `cache`, of `cache_sizes`, scene files are read once; the items are the same.
    """

    def __init__(
        self,
        scenes: Sequence[SceneFile],
        seed: int,
        policy: LabelPolicy | None = None,
        features: Sequence[str] = (),
        chunk_size: float = chunks.CHUNK_SIZE,
        points: int = chunks.POINTS_PER_CHUNK,
        spacing: float = 0.0,
        augment: Sequence[str] = ("rotate", "dropout"),
        weighted: bool = True,
    ):
        self.seed, self.chunk_size, self.points, self.spacing = seed, chunk_size, points, spacing
        self.augment = [augmentation for name, augmentation in AUGMENTATIONS.items() if name in augment]
        self.policy, self.features = policy or LabelPolicy(), tuple(features)
        self.cache: SceneCache | None = None
        self.scenes = [scene for scene in scenes if self.policy.trains_on(scene.histogram)]
        self.left_out = [scene.name for scene in scenes if not self.policy.trains_on(scene.histogram)]
        if not self.scenes:
            raise SceneError("no training scene has vertices to train on: none is annotated, or --other leaves none")
        if not weighted:
            self.class_weights = np.ones(self.policy.space.num_classes, dtype=np.float32)
            return
        self.class_weights = self.policy.class_weights(sum((Counter(s.histogram) for s in self.scenes), Counter()))

    def __len__(self) -> int:
        return len(self.scenes)

    def names_of(self, batch: dict[str, torch.Tensor]) -> list[str]:
        """The scenes of a batch."""
        return [f"scene {self.scenes[scene].name}" for scene in batch["scene"]]

    def __getitem__(self, key: SampleKey) -> dict[str, torch.Tensor | int]:
        epoch, position, scene = key
        rng = np.random.default_rng([self.seed, epoch, 1 + position])  # 0 is the epoch's order
        chunk = self._draw(scene, rng)
        for augmentation in self.augment:
            chunk = augmentation(chunk, self.features, rng)
        return {
            "points": torch.from_numpy(chunk.points),
            "classes": torch.from_numpy(chunk.classes),
            "weight": torch.from_numpy(chunk.weight.astype(np.float32)),
            "scene": scene,
        }

    def cache_sizes(self) -> tuple[list[int], int]:
        """What a cache is made for: the vertices of each scene, and F."""
        return [scene.vertices for scene in self.scenes], channels_of(self.features)

    def distinct_points(self) -> int:
        """How many vertices the first chunk has, of which its points are drawn."""
        return len(np.unique(self._draw(0, np.random.default_rng(self.seed)).vertex))

    def _draw(self, scene: int, rng: np.random.Generator) -> Chunk:
        seen = (self.cache and self.cache.read(scene)) or self._read(scene)
        drawn = self.points, self.chunk_size, self.spacing, seen.grid
        crop = chunks.training_crop(seen.xyz, seen.classes, rng, *drawn)
        columns = [values.take(crop.index, axis=0) for values in (seen.xyz, seen.features)]
        points = np.concatenate(columns, axis=1) if self.features else columns[0]  # (N, 3 + F)
        classes = seen.classes[crop.index].astype(np.int64)  # (N,)
        weight = self.class_weights[classes] * crop.core * seen.trained[crop.index]

        return Chunk(points, classes, weight, crop.index)

    def _read(self, scene: int) -> Seen:
        points, label = self.scenes[scene].read_points(self.features)
        kept = np.flatnonzero(self.policy.kept(label))
        points, label = points.take(kept, axis=0), label[kept]  # take: in a fifth of the time of points[kept]
        xyz = np.ascontiguousarray(points[:, :3])
        seen = Seen(xyz, points[:, 3:], self.policy.space.class_of[label], self.policy.trained(label))
        if self.cache:
            self.cache.write(scene, seen)
        return seen


class ChunkBatches(Sampler[list[SampleKey]]):
    """One rank's share of the batches of sample keys: every scene once an epoch in random order.

    batch_size counts the chunks of all ranks together; rank r takes the r-th of world_size equal parts of each batch,
    so that the ranks' parts in order are the batch of one rank alone. The last incomplete batch is dropped; with
    fewer scenes than a batch, scenes repeat in rounds until one is full. Call set_epoch before each epoch.
    A step of the optimizer is for `accumulate` batches, one after the other.
    Raises ValueError if world_size does not divide batch_size.
    """

    def __init__(
        self, num_scenes: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ):
        if batch_size % world_size:
            raise ValueError(f"a batch of {batch_size} chunks cannot be divided among {world_size} ranks equally")
        self.num_scenes, self.batch_size, self.seed, self.accumulate = num_scenes, batch_size, seed, accumulate
        self.rank, self.share = rank, batch_size // world_size
        self.epoch = self.first_step = 0

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """What the next iteration yields: the batches of this epoch from this step on. One that has begun goes on."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        """Steps of a whole epoch, wherever the next iteration starts."""
        return max(self.num_scenes // (self.batch_size * self.accumulate), 1)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        rng = np.random.default_rng([self.seed, self.epoch, 0])
        rounds = -(-self.batch_size * self.accumulate // self.num_scenes)
        order = np.concatenate([rng.permutation(self.num_scenes) for _ in range(rounds)]).tolist()
        keys = [(self.epoch, position, scene) for position, scene in enumerate(order)]
        batches = range(self.first_step * self.accumulate, len(self) * self.accumulate)
        starts = [batch * self.batch_size + self.rank * self.share for batch in batches]
        return iter([keys[start : start + self.share] for start in starts])


class WholeScenes(Dataset):
    """Whole scenes cut into tiles. Item: SceneTiles.

    covering: also crops until every vertex was in a core, or with votes those of so many turned scenes.
    """

    def __init__(
        self,
        scenes: Sequence[SceneFile],
        seed: int,
        policy: LabelPolicy | None = None,
        features: Sequence[str] = (),
        covering: bool = True,
        chunk_size: float = chunks.CHUNK_SIZE,
        points: int = chunks.POINTS_PER_CHUNK,
        spacing: float = 0.0,
        votes: int = 0,
    ):
        self.scenes, self.seed, self.covering, self.chunk_size = list(scenes), seed, covering, chunk_size
        self.points, self.spacing, self.votes = points, spacing, votes
        self.policy, self.features = policy or LabelPolicy(), tuple(features)

    @classmethod
    def as_trained(
        cls,
        scenes: Sequence[SceneFile],
        seed: int,
        config: dict,
        space: LabelSpace,
        covering: bool = True,
        votes: int = 0,
    ) -> "WholeScenes":
        """Labelled, with the features and in tiles of the size that a training run of the settings `config` had."""
        config = INPUTS | config
        policy = LabelPolicy(config["unannotated"], config["other"], space)
        drawn = config["chunk_size"], config["points"], config["spacing"]
        return cls(scenes, seed, policy, config["features"], covering, *drawn, votes)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> SceneTiles:
        scene = self.scenes[index]
        points, label = scene.read_points(self.features)
        rng = np.random.default_rng([self.seed, zlib.crc32(scene.name.encode())])

        tiles = []
        if label is not None and self.policy.kept(label).any():
            kept = np.flatnonzero(self.policy.kept(label))
            kept = kept[chunks.cubes(points[kept, :3], self.spacing)[0]]
            crops = chunks.tile_crops(points[kept, :3], rng, self.points, self.chunk_size)
            tiles = [crop._replace(index=kept[crop.index]) for crop in crops]
        whole = SceneTiles(scene.name, points, label, tiles, [], turning=columns_moved(self.features, "turns"))
        if not self.covering:
            return whole
        cubes = chunks.cubes(points[:, :3], self.spacing)
        if self.votes:
            return with_votes(whole, rng, self.points, self.chunk_size, *cubes, self.votes)
        return with_covering(whole, rng, self.points, self.chunk_size, *cubes)
