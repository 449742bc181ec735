"""models/mean_feature.py: a linear map of the mean feature."""

import torch
from drawn import cloud, drawn

from models.mean_feature import MeanFeature


def test_adds_a_map_of_the_mean():
    x, layer = cloud(2, 7, 4), drawn(MeanFeature(4)).double()
    expected = torch.stack([points + layer.linear.weight @ points.mean(0) for points in x])
    torch.testing.assert_close(layer(x), expected)
