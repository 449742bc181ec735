"""Set abstraction of PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017): from N points to M centres with richer features.

Shapes: B clouds, N points, R distinct points of all clouds, M centres, S neighbours, C channels, P distinct pairs.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ops
from models.batch_norm import batch_norm_relu
from models.shared_mlp import SharedMLP
from ops import rows


class Scale(NamedTuple):
    """One ball size of a set-abstraction layer."""

    radius: float  # metres
    neighbours: int  # S
    mlp: tuple[int, ...]  # output channels


class SetAbstraction(nn.Module):
    """PointNet on the S neighbours of each centre, at one scale (SSG) or more (MSG, outputs concatenated).

    Textbook form: gather the neighbours x_j, f_j of a centre c_i, apply the MLP to [x_j - c_i, f_j], take the maximum
    over the neighbours. Three identities leave out what repeats:

    A linear layer W = [W_x, W_f] commutes with the gather: W [x_j - c_i, f_j] = W_x (x_j - c_i) + (W f)_j, with W_f f
    computed once a point. (W_x stays behind the gather: taking W_x c_i from W_x x_j would cancel most digits.)
    Equal pairs give equal rows: max over S slots = max over the distinct neighbours, and sums over slots = sums over
    distinct neighbours times their multiplicity. (On the CPU; elsewhere all slots are computed.)
    The last normalisation and ReLU rise with x: max relu(a x + b) = relu(a max x + b), or of min x where a < 0.
    """

    def __init__(self, in_channels: int, scales: tuple[Scale, ...]):
        super().__init__()
        self.in_channels, self.scales = in_channels, scales
        self.mlps = nn.ModuleList(SharedMLP((3 + in_channels, *scale.mlp)) for scale in scales)
        self.out_channels = sum(scale.mlp[-1] for scale in scales)

    def forward(
        self, xyz: Tensor, features: Tensor | None, centres: Tensor, distinct: rows.Distinct | None = None
    ) -> Tensor:
        """Points (B, N, 3) in metres, their features (B, N, in_channels) or None, centres (B, M, 3), which must be
        points, so that no ball is empty -> features of the centres (B, M, out_channels).

        Where `distinct` says which points are, features are of these alone: (R, in_channels).
        """
        distinct = distinct or rows.every_point(xyz)
        distinct_xyz, pooled = distinct.of(xyz), []  # (R, 3)
        for scale, mlp in zip(self.scales, self.mlps, strict=True):
            index = ops.ball_query(scale.radius, scale.neighbours, xyz.float(), centres.float())  # (B, M, S)
            pairs = rows.distinct_neighbours(index, distinct.inverse)  # P
            relative = pairs.from_centres(distinct_xyz, centres.flatten(0, 1))  # (P, 3)
            w_xyz, w_features = mlp.linears[0].weight.split([3, self.in_channels], 1)  # (C', 3), (C', in_channels)
            x = F.linear(relative, w_xyz)  # (P, C')
            if features is not None:
                x = x + rows.gather(F.linear(features, w_features).flatten(0, -2), pairs.neighbour)  # (P, C')
            x = mlp.from_first_to_last(x, pairs.multiplicity)  # (P, C'')
            pooled.append(batch_norm_relu(x, mlp.norms[-1], pairs.multiplicity, pairs.start))  # (B M, C'')
        y = torch.cat(pooled, 1) if len(pooled) > 1 else pooled[0]  # (B M, out_channels)
        return y.unflatten(0, centres.shape[:2])  # (B, M, out_channels)
