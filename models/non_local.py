"""The non-local block (Wang, Girshick, Gupta and He, CVPR 2018), the baseline that LatentGNN is compared with.

Shapes: B clouds, N points, C channels, h = C / 2 inner channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.row_context import RowContext

AFFINITIES = ("dot", "laplacian", "softmax")


class NonLocal(RowContext):
    """X + BN(W (A g)), with an N x N affinity A between embedded points theta and phi.

    affinity, with S = theta^T phi (N x N):
        "dot":       A = S / N.
        "laplacian": A = D^-1 S, D the row sums of |S|, the degree of a graph with signed weights.
        "softmax":   A = softmax(S) over each row, the embedded Gaussian.

    Convolutions have no biases, and the scale of the batch norm starts at 0, so that a fresh block is the identity.
    """

    def __init__(self, channels: int, affinity: str = "dot", *, layout: str = "rows"):
        super().__init__(channels, layout)
        if channels < 2 or channels % 2:
            raise ValueError(f"NonLocal: channels must be even and at least 2, got {channels}")
        if affinity not in AFFINITIES:
            raise ValueError(f"NonLocal: affinity must be one of {AFFINITIES}, got {affinity!r}")
        self.affinity = affinity
        self.theta = nn.Conv1d(channels, channels // 2, 1, bias=False)
        self.phi = nn.Conv1d(channels, channels // 2, 1, bias=False)
        self.g = nn.Conv1d(channels, channels // 2, 1, bias=False)
        self.weight = nn.Conv1d(channels // 2, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        nn.init.zeros_(self.norm.weight)

    def update(self, rows: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        columns = rows.transpose(1, 2).contiguous()  # (B, C, N)
        theta, phi, g = self.theta(columns), self.phi(columns), self.g(columns)  # (B, h, N) each
        if self.affinity == "dot":  # without a softmax (theta phi^T) g is theta (phi^T g): no N x N matrix
            y = (g @ (phi / phi.shape[2]).transpose(1, 2)) @ theta  # (B, h, N)
        elif self.affinity == "laplacian":
            a = F.normalize(theta.transpose(1, 2) @ phi, p=1, dim=2)  # (B, N, N)
            y = g @ a.transpose(1, 2)  # (B, h, N)
        else:  # of such contiguous tensors torch forms no N x N matrix
            heads = (t.transpose(1, 2).unsqueeze(1).contiguous() for t in (theta, phi, g))  # (B, 1, N, h) each
            y = F.scaled_dot_product_attention(*heads, scale=1.0).squeeze(1).transpose(1, 2)  # (B, h, N)
        return self.norm(self.weight(y)).transpose(1, 2)  # (B, N, C)
