"""models/mean_feature.py: a linear map of the mean feature."""

import pytest
import torch

from models.mean_feature import MeanFeature


def trained(channels: int = 4, **options) -> MeanFeature:
    layer = MeanFeature(channels, **options)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.randn(channels, channels, generator=torch.Generator().manual_seed(0)))
    return layer


def test_adds_a_map_of_the_mean():
    x, layer = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(1)), trained()
    expected = torch.stack([cloud + layer.linear.weight @ cloud.mean(0) for cloud in x])
    torch.testing.assert_close(layer(x), expected)


def test_starts_as_the_identity():
    x = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(MeanFeature(4)(x), x)


def test_layouts_and_maps_agree():
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    rows, columns = trained(), trained(layout="channels_first")
    torch.testing.assert_close(columns(x.mT).mT, rows(x))
    torch.testing.assert_close(rows(x.mT.unflatten(2, (2, 3))), rows(x).mT.unflatten(2, (2, 3)))


def test_half_precision_computes_in_float32():
    x, layer = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(1)), trained()
    y = layer.half()(x.half())
    assert y.dtype == torch.float16
    torch.testing.assert_close(y, layer.float()(x.half().float()).half())


def test_bad_input():
    with pytest.raises(ValueError, match="MeanFeature takes points"):
        MeanFeature(4)(torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match="layout must be one of"):
        MeanFeature(4, layout="columns")
    with pytest.raises(ValueError, match="MeanFeature.*float64.*float32"):
        MeanFeature(4)(torch.zeros(1, 5, 4, dtype=torch.float64))
