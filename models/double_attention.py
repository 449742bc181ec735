"""The double attention block (A2-Nets; Chen, Kalantidis, Li, Yan and Feng, NeurIPS 2018), of LatentGNN's kin.

LatentGNN without a graph between its nodes, whose two affinities are softmaxes, so that all of them are positive and
sum to 1. Shapes: B clouds, N points, C channels, c = C / stride bottleneck channels, d latent nodes.
"""

from torch import Tensor, nn

from models.row_context import RowContext, last_map


class DoubleAttention(RowContext):
    """X + W Y: a node gathers a mean of the points by weights of its own, and a point receives a mean of the nodes.

    latent_nodes: d; the paper's block has c of them. stride: C / c; the paper's is 4.
    """

    def __init__(self, channels: int, latent_nodes: int, stride: int = 4, *, layout: str = "rows"):
        super().__init__(channels, layout)
        if latent_nodes < 1 or channels % stride:
            given = f"latent_nodes {latent_nodes}, channels {channels}, stride {stride}"
            raise ValueError(f"DoubleAttention: a latent node at least, and stride has to divide channels, got {given}")
        self.reduce = nn.Linear(channels, channels // stride)
        self.gather = nn.Linear(channels, latent_nodes)
        self.distribute = nn.Linear(channels, latent_nodes)
        self.extend = last_map(channels // stride, channels)

    def update(self, rows: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        gathering = self.gather(rows).softmax(1)  # (B, N, d), over the points
        giving = self.distribute(rows).softmax(2)  # (B, N, d), over the nodes
        nodes = gathering.transpose(1, 2) @ self.reduce(rows)  # (B, d, c)
        return self.extend(giving @ nodes)  # (B, N, C)
