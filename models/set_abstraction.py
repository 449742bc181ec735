"""Set abstraction of PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017): from N points to M centres with richer features.

Shapes: B clouds, N points, M centres, S neighbours, C channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

import ops
from models.shared_mlp import SharedMLP


class Scale(NamedTuple):
    """One ball size of a set-abstraction layer."""

    radius: float  # metres
    neighbours: int  # S
    mlp: tuple[int, ...]  # output channels


class SetAbstraction(nn.Module):
    """PointNet on the S neighbours of each centre, at one scale (SSG) or more (MSG, outputs concatenated).

    Textbook form: gather the neighbours x_j, f_j of a centre c_i, apply the MLP to [x_j - c_i, f_j], take the maximum
    over the neighbours. Here the first linear layer W = [W_x, W_f] comes before the gather, as
    W [x_j - c_i, f_j] = (W_x x_j + W_f f_j) - W_x c_i, and so works on N + M rows instead of M S.
    """

    def __init__(self, in_channels: int, scales: tuple[Scale, ...]):
        super().__init__()
        self.scales = scales
        self.mlps = nn.ModuleList(SharedMLP((3 + in_channels, *scale.mlp)) for scale in scales)
        self.out_channels = sum(scale.mlp[-1] for scale in scales)

    def forward(self, xyz: Tensor, features: Tensor | None, centres: Tensor) -> Tensor:
        """Points (B, N, 3) in metres, their features (B, N, in_channels) or None, centres (B, M, 3), which must be
        points of the cloud, so that no ball is empty -> features of the centres (B, M, out_channels)."""
        # the difference of the two terms loses fewest digits when both are small
        origin = xyz.mean(1, keepdim=True)  # (B, 1, 3)
        points = xyz - origin if features is None else torch.cat([xyz - origin, features], 2)  # (B, N, 3 + C)
        pooled = []
        for scale, mlp in zip(self.scales, self.mlps, strict=True):
            index = ops.ball_query(scale.radius, scale.neighbours, xyz.float(), centres.float())  # (B, M, S)
            at_points = mlp.linears[0](points)  # (B, N, C')
            at_centres = (centres - origin) @ mlp.linears[0].weight[:, :3].T  # (B, M, C')
            rows = ops.group_points(at_points, index) - at_centres.unsqueeze(2)  # (B, M, S, C')
            pooled.append(mlp.after_first_linear(rows).amax(2))  # (B, M, C'')
        return torch.cat(pooled, 2)  # (B, M, out_channels)
