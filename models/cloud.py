"""A batch of clouds of which equal points are computed once.

Shapes: B clouds, N points, R distinct points of all clouds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ops import rows


class Cloud(NamedTuple):
    """Features of a cloud are rows (R, C), one for each distinct point; features[row] are those of every point."""

    xyz: Tensor  # (B, N, 3), metres
    distinct_xyz: Tensor  # (R, 3)
    row: Tensor  # (B, N) int64, the row of each point
    first: Tensor  # (R,) int64, a point of each row, among B N
    copies: Tensor | None  # (R,) float32, how many points each row stands for; None for one


def cloud_of(points: Tensor) -> Cloud:
    """x, y, z and any features of points (B, N, 3 + F); two points are equal if all of these are."""
    xyz, distinct = points[..., :3].contiguous(), rows.distinct_points(points)
    return Cloud(xyz, xyz.flatten(0, 1)[distinct.first], *distinct)


def cloud_of_centres(xyz: Tensor) -> Cloud:
    """Centres (B, M, 3): one row each."""
    row = torch.arange(xyz.shape[0] * xyz.shape[1], device=xyz.device)  # (B M,)
    return Cloud(xyz, xyz.flatten(0, 1), row.view(xyz.shape[:2]), row, None)
