"""Feature propagation of PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017): features of M points brought to N points.

Shapes: B clouds, N points, M coarse points, C channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

import ops
from models.shared_mlp import SharedMLP

MIN_SQUARED_DISTANCE = 1e-10  # square metres; of the original PointNet++ code


class FeaturePropagation(nn.Module):
    """Interpolates coarse features at the fine points, joins the fine points' own features, applies the MLP.

    Textbook form: MLP of [interpolated, own]. Here the first linear layer W = [W_c, W_s] comes before the
    interpolation, which is a weighted mean and so commutes with it: W_c works on M rows instead of N.
    """

    def __init__(self, coarse_channels: int, skip_channels: int, mlp: tuple[int, ...]):
        super().__init__()
        self.coarse_channels = coarse_channels
        self.mlp = SharedMLP((coarse_channels + skip_channels, *mlp))

    def forward(self, xyz: Tensor, coarse_xyz: Tensor, skip: Tensor | None, coarse: Tensor) -> Tensor:
        """Fine points (B, N, 3) and coarse points (B, M >= 3, 3) in metres, the fine points' features
        (B, N, skip_channels) or None, the coarse points' features (B, M, coarse_channels) -> (B, N, mlp[-1])."""
        index, weight = inverse_distance_weights(xyz, coarse_xyz)  # (B, N, 3) each
        w_coarse, w_skip = self.mlp.linears[0].weight.tensor_split([self.coarse_channels], 1)  # (C', C) each
        rows = ops.three_interpolate(F.linear(coarse, w_coarse), index, weight)  # (B, N, C')
        if skip is not None:
            rows = rows + F.linear(skip, w_skip)  # (B, N, C')
        return self.mlp.after_first_linear(rows)  # (B, N, mlp[-1])


def inverse_distance_weights(xyz: Tensor, coarse_xyz: Tensor) -> tuple[Tensor, Tensor]:
    """The three coarse points (B, M, 3) nearest to each point (B, N, 3), and their weights, proportional to the inverse
    squared distance, which sum to 1 -> index (B, N, 3) int64, weight (B, N, 3) float32."""
    squared_distance, index = ops.three_nn(xyz.float(), coarse_xyz.float())  # (B, N, 3) each
    weight = 1 / squared_distance.clamp(min=MIN_SQUARED_DISTANCE)  # (B, N, 3)
    return index, weight / weight.sum(2, keepdim=True)
