"""models/double_attention.py: nodes gather by softmaxes over points, points receive by softmaxes over nodes."""

import torch
from drawn import cloud, drawn

from models.double_attention import DoubleAttention


def test_equals_its_definition_point_by_point():
    layer, x = drawn(DoubleAttention(8, latent_nodes=3)).double(), cloud(2, 7, 8)
    for points, y in zip(x, layer(x), strict=True):
        gather, give = torch.exp(layer.gather(points)), torch.exp(layer.distribute(points))  # (7, 3)
        nodes = [sum(gather[j, n] * layer.reduce(points[j]) for j in range(7)) / gather[:, n].sum() for n in range(3)]
        for i in range(7):
            received = sum(give[i, n] * nodes[n] for n in range(3)) / give[i].sum()
            torch.testing.assert_close(y[i], points[i] + layer.extend.weight @ received)
