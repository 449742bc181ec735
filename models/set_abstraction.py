"""Set abstraction of PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017): from N points to M centres with richer features.

Shapes: B clouds, N points, M centres, S neighbours, C channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    over the neighbours. Here the first linear layer W = [W_x, W_f] is taken apart: W_f f_j is computed before the
    gather, for N rows instead of M S. W_x stays behind it: taking W_x c_i from W_x x_j would cancel most digits.
    """

    def __init__(self, in_channels: int, scales: tuple[Scale, ...]):
        super().__init__()
        self.scales = scales
        self.mlps = nn.ModuleList(SharedMLP((3 + in_channels, *scale.mlp)) for scale in scales)
        self.out_channels = sum(scale.mlp[-1] for scale in scales)

    def forward(self, xyz: Tensor, features: Tensor | None, centres: Tensor) -> Tensor:
        """Points (B, N, 3) in metres, their features (B, N, in_channels) or None, centres (B, M, 3), which must be
        points of the cloud, so that no ball is empty -> features of the centres (B, M, out_channels)."""
        pooled = []
        for scale, mlp in zip(self.scales, self.mlps, strict=True):
            index = ops.ball_query(scale.radius, scale.neighbours, xyz.float(), centres.float())  # (B, M, S)
            w_xyz, w_features = mlp.linears[0].weight.tensor_split([3], 1)  # (C', 3), (C', in_channels)
            rows = F.linear(ops.group_points(xyz, index) - centres.unsqueeze(2), w_xyz)  # (B, M, S, C')
            if features is not None:
                rows = rows + ops.group_points(F.linear(features, w_features), index)  # (B, M, S, C')
            pooled.append(mlp.after_first_linear(rows).amax(2))  # (B, M, C'')
        return torch.cat(pooled, 2)  # (B, M, out_channels)
