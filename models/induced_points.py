"""Attention through induced points (Set Transformer; Lee et al., ICML 2019), of LatentGNN's kin.

The latent nodes are learned vectors, the same for every cloud, which look at all points; then all points look at them.
Shapes: B clouds, N points, C channels, c = C / stride bottleneck channels, d latent nodes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.row_context import RowContext, check_sizes, last_map

HEADS = 4  # as in the paper's experiments


class InducedPoints(RowContext):
    """X + W ISAB(X), the paper's induced set attention block in c channels, without its layer norms.

    latent_nodes: d, the induced points. stride: C / c.
    """

    def __init__(self, channels: int, latent_nodes: int, stride: int = 4, *, layout: str = "rows"):
        super().__init__(channels, layout)
        check_sizes(self, channels, latent_nodes, stride, HEADS)
        c = channels // stride
        self.points = nn.Parameter(nn.init.xavier_uniform_(torch.empty(latent_nodes, c)))
        self.gather = AttentionBlock(c, channels, c)
        self.give = AttentionBlock(channels, c, c)
        self.extend = last_map(c, channels)

    def update(self, rows: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        nodes = self.gather(self.points.expand(rows.shape[0], -1, -1), rows)  # (B, d, c)
        return self.extend(self.give(rows, nodes))  # (B, N, C)


class AttentionBlock(nn.Module):
    """The paper's MAB, in which each of n vectors looks at m others with HEADS heads, in a plainer form.

    Without layer norms and without the map behind the heads; what is added to their output is the query, not x, as the
    two may have different widths.
    """

    def __init__(self, of_queries: int, of_keys: int, channels: int):
        super().__init__()
        self.query = nn.Linear(of_queries, channels)
        self.key = nn.Linear(of_keys, channels)
        self.value = nn.Linear(of_keys, channels)
        self.feed_forward = nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Queries (B, n, of_queries), keys and values (B, m, of_keys) -> (B, n, channels)."""
        query, key, value = self.query(x), self.key(y), self.value(y)  # (B, n, c), (B, m, c), (B, m, c)
        heads = (t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (query, key, value))  # (B, HEADS, ., c / HEADS)
        h = query + F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)  # (B, n, c)
        return h + F.relu(self.feed_forward(h))  # (B, n, c)
