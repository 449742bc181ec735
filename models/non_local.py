"""The non-local block (Wang, Girshick, Gupta and He, CVPR 2018), the baseline that LatentGNN is compared with.

Shapes: B clouds, N points, C channels, h = C / 2 inner channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.latentgnn import LAYOUTS, in_float32, is_half_precision, takes_rows

AFFINITIES = ("dot", "laplacian", "softmax")


class NonLocal(nn.Module):
    """X + BN(W (A g)), with an N x N affinity A between embedded points theta and phi.

    affinity, with S = theta^T phi (N x N):
        "dot":       A = S / N.
        "laplacian": A = D^-1 S, D the row sums of |S|, the degree of a graph with signed weights.
        "softmax":   A = softmax(S) over each row, the embedded Gaussian.

    layout, of points: "rows" (B, N, C) or "channels_first" (B, C, N). Maps are channels-first always.

    Convolutions have no biases, and the scale of the batch norm starts at 0, so that a fresh block is the identity.
    """

    def __init__(self, channels: int, affinity: str = "dot", *, layout: str = "rows"):
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"NonLocal: channels must be even and at least 2, got {channels}")
        for name, value, allowed in (("affinity", affinity, AFFINITIES), ("layout", layout, tuple(LAYOUTS))):
            if value not in allowed:
                raise ValueError(f"NonLocal: {name} must be one of {allowed}, got {value!r}")
        self.channels, self.affinity, self.layout = channels, affinity, layout
        self.theta = nn.Conv1d(channels, channels // 2, 1, bias=False)
        self.phi = nn.Conv1d(channels, channels // 2, 1, bias=False)
        self.g = nn.Conv1d(channels, channels // 2, 1, bias=False)
        self.weight = nn.Conv1d(channels // 2, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Points in the block's layout, or a map (B, C, H, W) or (B, C, D, H, W) -> the same shape and, without
        autocast, dtype.

        Weights of half precision are computed with in float32. Raises ValueError for another number of axes or
        channels, and without autocast for weights of another dtype.
        """
        is_rows = takes_rows(self, x)
        if is_half_precision(self, self.weight.weight, x):
            return in_float32(self, x)
        columns = (x.transpose(1, 2) if is_rows else x.flatten(2)).contiguous()  # (B, C, N)
        theta, phi, g = self.theta(columns), self.phi(columns), self.g(columns)  # (B, h, N) each
        if self.affinity == "dot":  # without a softmax (theta phi^T) g is theta (phi^T g): no N x N matrix
            y = (g @ (phi / phi.shape[2]).transpose(1, 2)) @ theta  # (B, h, N)
        elif self.affinity == "laplacian":
            a = F.normalize(theta.transpose(1, 2) @ phi, p=1, dim=2)  # (B, N, N)
            y = g @ a.transpose(1, 2)  # (B, h, N)
        else:  # of such contiguous tensors torch forms no N x N matrix
            heads = (t.transpose(1, 2).unsqueeze(1).contiguous() for t in (theta, phi, g))  # (B, 1, N, h) each
            y = F.scaled_dot_product_attention(*heads, scale=1.0).squeeze(1).transpose(1, 2)  # (B, h, N)
        update = self.norm(self.weight(y))  # (B, C, N)
        return x + (update.transpose(1, 2) if is_rows else update.view(x.shape))  # the shape of x
