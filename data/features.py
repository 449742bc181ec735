"""Point features beside xyz: how many channels each has, what it is made from, and what moves it.

A new one is a line in POINT_FEATURES. Training reads it from scene files, prediction from what the input file has.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data.scenes import Scene

FLOOR_QUANTILE = 0.02  # of z: a few vertices lie below the floor


class PointFeature(NamedTuple):
    channels: int
    fields: tuple[str, ...]  # of a scene that `values` looks at, beside xyz
    values: Callable[[Scene], np.ndarray]  # a whole scene -> (V, channels) float32
    turns: bool = False  # with the room, as a normal does: three channels
    scales: bool = False  # with the room, as a height does


def height(scene: Scene) -> np.ndarray:
    """(V, 1) float32 metres above the scene's floor. z alone does not tell: rooms have their floor anywhere."""
    z = scene.xyz[:, 2:]
    return z - np.quantile(z, FLOOR_QUANTILE).astype(np.float32)


POINT_FEATURES = {  # in the order in which they follow xyz
    "colour": PointFeature(3, ("colour",), lambda scene: scene.colour.astype(np.float32) / 255),
    "normal": PointFeature(3, ("normal",), lambda scene: scene.normal, turns=True),
    "intensity": PointFeature(1, ("intensity",), lambda scene: scene.intensity[:, None]),
    "height": PointFeature(1, (), height, scales=True),
}


def fields_of(features: Sequence[str]) -> list[str]:
    """The fields of a scene that the features are made from, beside xyz."""
    return [field for name in features for field in POINT_FEATURES[name].fields]


def points_of(scene: Scene, features: Sequence[str]) -> np.ndarray:
    """(V, 3 + F) float32: xyz and the features, in the order of POINT_FEATURES, of a scene that has their fields."""
    columns = [POINT_FEATURES[name].values(scene) for name in POINT_FEATURES if name in features]
    return np.concatenate([scene.xyz, *columns], axis=1) if columns else scene.xyz


def columns_of(features: Sequence[str]) -> dict[str, slice]:
    """Where each of the features stands in a point (3 + F,)."""
    columns, end = {}, 3
    for name, feature in POINT_FEATURES.items():
        if name in features:
            columns[name] = slice(end, end + feature.channels)
            end += feature.channels
    return columns


def channels_of(features: Sequence[str]) -> int:
    """F."""
    return sum(POINT_FEATURES[name].channels for name in features)
