"""Confidence that is right as often as it says: one temperature for a network (Guo et al., ICML 2017), and the check.

n vertices, C classes.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

TEMPERATURES = (0.05, 20.0)  # between which the best is looked for
STEPS = 60  # of halving: to the last digit of float64
BINS = 10  # of confidence, of equal width


class Reliability(NamedTuple):
    """How often predictions of about one confidence are right, by bins; empty bins have NaN."""

    share: np.ndarray  # (BINS,) of the vertices
    confidence: np.ndarray  # (BINS,) mean
    accuracy: np.ndarray  # (BINS,)

    @property
    def error(self) -> float:
        """The expected calibration error: the mean |accuracy - confidence| of a vertex."""
        return float(np.nansum(self.share * np.abs(self.accuracy - self.confidence)))


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """The T at which softmax(logits / T) gives the truth the highest likelihood.

    The likelihood is concave in 1 / T: its slope is followed to 0. Args: logits (n, C) float; truth (n,) int64.
    """
    logits = logits.double()
    right = logits.gather(1, truth[:, None])[:, 0]
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(STEPS):
        middle = (low + high) / 2
        expected = ((logits * middle).softmax(1) * logits).sum(1)
        low, high = (middle, high) if (right - expected).mean() > 0 else (low, middle)
    return 1 / middle


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """Args: confidence (n,) in [0, 1]; right (n,) bool."""
    number = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    count, sure, hits = (np.bincount(number, weights, BINS) for weights in (None, confidence, right))
    with np.errstate(invalid="ignore"):
        return Reliability(count / len(confidence), sure / count, hits / count)
