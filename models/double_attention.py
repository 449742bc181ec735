"""The double attention block (A2-Nets; Chen, Kalantidis, Li, Yan and Feng, NeurIPS 2018), of LatentGNN's kin.

Points go through nodes, as in LatentGNN. What differs: between the nodes there is no graph; both affinities are
softmaxes of maps of all C channels, so that gathering sums to 1 over the points and giving over the nodes; maps have
biases, and there is neither batch norm nor ReLU.

Shapes: B clouds, N points, C channels, c = C / stride bottleneck channels, d latent nodes.
"""

from torch import Tensor, nn

from models.row_context import RowContext, check_sizes, last_map


class DoubleAttention(RowContext):
    """X + W Y: a node gathers a mean of the points by weights of its own, and a point receives a mean of the nodes.

    latent_nodes: d; the paper's block has c of them. stride: C / c; the paper's is 4.
    """

    def __init__(self, channels: int, latent_nodes: int, stride: int = 4, *, layout: str = "rows"):
        super().__init__(channels, layout)
        check_sizes(self, channels, latent_nodes, stride)
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
