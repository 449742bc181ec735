"""Times calls beside each other in one run: the order shuffled in every round, the first round not counted."""

import time
from collections.abc import Callable

import numpy as np

SEED = 0  # of the order of the calls


def alternate(calls: dict[str, Callable], rounds: int, wait: Callable = lambda: None) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds` rounds, in every one of which each runs once, in another order.

    wait: for what a call has left a GPU to do.
    """
    rng = np.random.default_rng(SEED)
    seconds = {name: [] for name in calls}
    for counts in [False] + [True] * rounds:
        for name in rng.permutation(list(calls)):
            wait()
            start = time.perf_counter()
            calls[name]()
            wait()
            if counts:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median(seconds: list[float]) -> float:
    return float(np.median(seconds))


def spread(seconds: list[float], unit: float = 1e-3, digits: int = 1) -> str:
    """ "median (quartile-quartile)" in units of `unit` seconds."""
    low, middle, high = np.percentile(seconds, [25, 50, 75]) / unit
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
