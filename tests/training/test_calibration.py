"""A temperature and a reliability curve, against plain formulas."""

import numpy as np
import pytest
import torch

from training.calibration import BINS, fit_temperature, reliability
from training.inference import confidence_of


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_made_logits_too_sure(sharpness):
    """Truths are drawn from softmax(logits), which is then made sharper: the best temperature is that factor."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    truth = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    found = fit_temperature(sharpness * logits, truth)
    assert found == pytest.approx(sharpness, rel=0.05)
    losses = {
        t: -(sharpness * logits / t).log_softmax(1)[torch.arange(len(truth)), truth].mean()
        for t in (found, 0.97 * found, 1.03 * found)
    }
    assert min(losses, key=losses.get) == found


def test_confidence_is_the_softmax_and_falls_with_the_temperature():
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.5, 0.0, -1.0]])
    classes = torch.tensor([1, 2])
    for temperature in (0.5, 1.0, 4.0):
        powers = np.exp(logits.numpy() / temperature)
        expected = powers[[0, 1], [1, 2]] / powers.sum(1)
        np.testing.assert_allclose(confidence_of(logits, classes, temperature), expected, rtol=1e-5)
    best = [float(confidence_of(logits[:1], classes[:1], t)) for t in (0.2, 1, 5, 100)]
    assert best == sorted(best, reverse=True) and all(0 <= sure <= 1 for sure in best)


def test_reliability_by_bins():
    """10 vertices of confidence 0.95, of which 6 are right; 30 of 0.31, of which 15 are; 1 of 1.0, wrong."""
    confidence = np.repeat([0.95, 0.31, 1.0], [10, 30, 1])
    right = np.repeat([True, False, True, False, False], [6, 4, 15, 15, 1])
    curve = reliability(confidence, right)
    assert BINS == 10 and curve.share[[3, 9]] == pytest.approx([30 / 41, 11 / 41])
    assert curve.accuracy[[3, 9]] == pytest.approx([0.5, 6 / 11])
    assert curve.confidence[[3, 9]] == pytest.approx([0.31, (9.5 + 1) / 11])
    assert np.isnan(curve.accuracy[[0, 5]]).all()
    assert curve.error == pytest.approx((30 * 0.19 + abs(9.5 + 1 - 6)) / 41)
