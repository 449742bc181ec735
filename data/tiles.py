"""What a network sees of a whole scene: the points of its tiles, once or in several votes.

V vertices, k of them that are seen (with a spacing one in each cube), N points of a crop, F extra channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data import chunks
from data.augment import turn_about_z

VOTES = 5  # of scripts/predict.py: docs/PREDICT.md has what each number costs and gives
MIRROR = np.diag(np.float32([-1, 1, 1]))


@dataclass(frozen=True)
class SceneTiles:
    """A scene as the two evaluation protocols see it."""

    name: str
    points: np.ndarray  # (V, 3 + F) float32
    label: np.ndarray | None  # (V,) uint16
    tiles: list[chunks.Crop]  # of the vertices that the label policy keeps; none of a scan without labels
    covering: list[chunks.Crop]  # of all vertices, or with a spacing of one in each cube
    stand_in: np.ndarray | None = None  # (V,) int64, with a spacing: the vertex of `covering` that speaks for each
    turning: Sequence[slice] = (slice(0, 3),)  # the columns of points that turn with the scene: xyz and normals

    def points_of(self, crop: chunks.Crop) -> np.ndarray:
        """(N, 3 + F) float32: those of a crop, turned as it says."""
        points = self.points[crop.index]
        if crop.turn is not None:
            for columns in self.turning:
                points[:, columns] = points[:, columns] @ crop.turn
        return points


def with_covering(
    scene: SceneTiles, rng: np.random.Generator, num_points: int, chunk_size: float, first: np.ndarray, cube: np.ndarray
) -> SceneTiles:
    """The scene with crops that cover all its vertices, by the first in each cube. first, cube: of `chunks.cubes`."""
    crops = chunks.covering_crops(scene.points[first, :3], rng, num_points, chunk_size)
    covering = [crop._replace(index=first[crop.index]) for crop in crops]
    return _covered(scene, covering, first, cube)


def with_votes(
    scene: SceneTiles,
    rng: np.random.Generator,
    num_points: int,
    chunk_size: float,
    first: np.ndarray,
    cube: np.ndarray,
    votes: int,
) -> SceneTiles:
    """As `with_covering`, with crops that show all of the scene `votes` times: each time turned about z and cut into
    tiles anew, every second time mirrored.

    The angles are fixed: random ones would make two seeds differ, and gain nothing. Each is in the next quadrant, and
    they divide a right angle evenly, after which the grid of tiles repeats.
    """
    covering = []
    for vote in range(votes):
        turn = turn_about_z(np.pi / 2 * (vote + (vote + 0.5) / votes))
        turn = MIRROR @ turn if vote % 2 else turn
        for crop in chunks.dealt_crops(scene.points[first, :3] @ turn, rng, num_points, chunk_size):
            covering.append(crop._replace(index=first[crop.index], turn=turn))
    return _covered(scene, covering, first, cube)


def _covered(scene, covering, first, cube):
    return replace(scene, covering=covering, stand_in=first[cube] if len(first) < len(cube) else None)
