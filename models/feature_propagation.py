"""Feature propagation of PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017): features of M points brought to N points.

Shapes: B clouds, N points, R distinct points of all clouds, M coarse points, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ops
from models.shared_mlp import SharedMLP
from ops.rows import Distinct

MIN_SQUARED_DISTANCE = 1e-10  # square metres; of the original PointNet++ code


class FeaturePropagation(nn.Module):
    """Interpolates coarse features at the fine points, joins the fine points' own features, applies the MLP.

    Textbook form: MLP of [interpolated, own]. Here the first linear layer W = [W_c, W_s] comes before the
    interpolation, which is a weighted mean and so commutes with it:
    W [sum_k w_k f_k, s] = sum_k w_k (W_c f)_k + W_s s. W_c works on M rows instead of N.
    """

    def __init__(self, coarse_channels: int, skip_channels: int, mlp: tuple[int, ...]):
        super().__init__()
        self.channels = coarse_channels, skip_channels
        self.mlp = SharedMLP((coarse_channels + skip_channels, *mlp))

    def forward(
        self, xyz: Tensor, coarse_xyz: Tensor, skip: Tensor | None, coarse: Tensor, distinct: Distinct | None = None
    ) -> Tensor:
        """Fine points (B, N, 3), coarse points (B, M >= 3, 3) in metres, their features (B, N, skip_channels) or None
        and (B, M, coarse_channels) -> (B, N, mlp[-1]).

        Where `distinct` says which fine points are, only these are computed: skip (R, skip_channels) -> (R, mlp[-1]).
        """
        found = inverse_distance_weights(xyz, coarse_xyz)  # (B, N, 3) each
        index, weight = (distinct.of(each) if distinct else each.flatten(0, 1) for each in found)  # (R, 3) each
        w_coarse, w_skip = self.mlp.linears[0].weight.split(self.channels, 1)  # (C', C) each
        coarse = F.linear(coarse, w_coarse).flatten(0, -2)  # (B M, C')
        x = ops.three_interpolate(coarse[None], index[None], weight[None]).squeeze(0)  # (R, C')
        if skip is not None:
            x = x + F.linear(skip, w_skip).flatten(0, -2)  # (R, C')
        if distinct:
            return self.mlp.after_first_linear(x, distinct.multiplicity)  # (R, mlp[-1])
        return self.mlp.after_first_linear(x).unflatten(0, xyz.shape[:2])  # (B, N, mlp[-1])


def inverse_distance_weights(xyz: Tensor, coarse_xyz: Tensor) -> tuple[Tensor, Tensor]:
    """The three coarse points (B, M, 3) nearest to each point (B, N, 3), and their weights, proportional to the inverse
    squared distance, which sum to 1 -> index (B, N, 3) int64 among B M, weight (B, N, 3) float32."""
    B, M, _ = coarse_xyz.shape
    squared_distance, index = ops.three_nn(xyz.float(), coarse_xyz.float())  # (B, N, 3) each
    index = index + torch.arange(0, B * M, M, device=index.device)[:, None, None]  # among all clouds' coarse points
    weight = squared_distance.clamp(min=MIN_SQUARED_DISTANCE).reciprocal()  # (B, N, 3)
    return index, weight / weight.sum(2, keepdim=True)
