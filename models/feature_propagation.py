"""Feature propagation of PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017): features of M points brought to N points.

Shapes: B clouds, N points, R distinct points of all clouds, M coarse points, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ops
from models.cloud import Cloud
from models.shared_mlp import SharedMLP

MIN_SQUARED_DISTANCE = 1e-10  # square metres; of the original PointNet++ code


class FeaturePropagation(nn.Module):
    """Interpolates coarse features at the fine points, joins the fine points' own features, applies the MLP.

    Textbook form: MLP of [interpolated, own], at every point. Here equal points are computed once, and the first linear
    layer W = [W_c, W_s] comes before the interpolation, which is a weighted mean and so commutes with it:
    W [sum_k w_k f_k, s] = sum_k w_k (W_c f)_k + W_s s. W_c works on M rows instead of N.
    """

    def __init__(self, coarse_channels: int, skip_channels: int, mlp: tuple[int, ...]):
        super().__init__()
        self.coarse_channels = coarse_channels
        self.mlp = SharedMLP((coarse_channels + skip_channels, *mlp))

    def forward(self, cloud: Cloud, coarse_xyz: Tensor, skip: Tensor | None, coarse: Tensor) -> Tensor:
        """Fine points, coarse points (B, M >= 3, 3) in metres, features of the R distinct fine points
        (R or B x N, skip_channels) or None, and of the coarse points (B x M, coarse_channels) -> (R, mlp[-1])."""
        index, weight = inverse_distance_weights(cloud, coarse_xyz)  # (R, 3) each
        w_coarse, w_skip = self.mlp.linears[0].weight.tensor_split([self.coarse_channels], 1)  # (C', C) each
        coarse = F.linear(coarse, w_coarse).flatten(0, -2)  # (B x M, C')
        x = ops.three_interpolate(coarse[None], index[None], weight[None])[0]  # (R, C')
        if skip is not None:
            x = x + F.linear(skip, w_skip).flatten(0, -2)  # (R, C')
        return self.mlp.after_first_linear(x, cloud.copies)  # (R, mlp[-1])


def inverse_distance_weights(cloud: Cloud, coarse_xyz: Tensor) -> tuple[Tensor, Tensor]:
    """The three coarse points (B, M, 3) nearest to each distinct point, and their weights, proportional to the inverse
    squared distance, which sum to 1 -> index (R, 3) int64 among B M, weight (R, 3) float32."""
    B, M, _ = coarse_xyz.shape
    squared_distance, index = ops.three_nn(cloud.xyz.float(), coarse_xyz.float())  # (B, N, 3) each
    index = index + M * torch.arange(B, device=index.device)[:, None, None]  # among all clouds' coarse points
    weight = 1 / squared_distance.flatten(0, 1)[cloud.first].clamp(min=MIN_SQUARED_DISTANCE)  # (R, 3)
    return index.flatten(0, 1)[cloud.first], weight / weight.sum(1, keepdim=True)
