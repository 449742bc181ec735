"""models/induced_points.py: learned vectors look at the points, the points at what they then hold."""

import torch
from drawn import cloud, drawn

from models.induced_points import HEADS, InducedPoints


def attention_block(block, x, y):
    """The same head by head, of rows x (n, C) and y (m, C')."""
    q, k, v = block.query(x), block.key(y), block.value(y)
    heads = zip(*(t.chunk(HEADS, 1) for t in (q, k, v)), strict=True)
    h = q + torch.cat([(a @ b.T / b.shape[1] ** 0.5).softmax(1) @ c for a, b, c in heads], 1)
    return h + torch.relu(block.feed_forward(h))


def test_equals_its_definition_cloud_by_cloud():
    layer, x = drawn(InducedPoints(32, latent_nodes=3)).double(), cloud(2, 7, 32)
    for points, y in zip(x, layer(x), strict=True):
        nodes = attention_block(layer.gather, layer.points, points)  # (3, 8)
        expected = points + attention_block(layer.give, points, nodes) @ layer.extend.weight.T
        torch.testing.assert_close(y, expected)
