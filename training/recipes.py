"""Named sets of training flags, and the schedules. A flag that is given wins over its recipe."""

import math

RECIPES = {
    "paper": {},  # the flags' own defaults
    "modern": {
        "spacing": 0.05,
        "points": 4096,  # a chunk of 1.5 m passes some 2,400 cubes of 5 cm
        "features": ["height"],
        "augment": ["dropout", "rotate", "flip", "scale", "jitter"],
        "schedule": "cosine",
        "bn_momentum": 0.1,
        "lr": 2e-3,
    },
}
# Of the original PointNet++ code (2017); schedules count chunks, so that they do not depend on the batch size
DECAY_EVERY = 200_000
LEARNING_RATE_DECAY = 0.7
BN_MOMENTUM_DECAY = 0.5
BN_MOMENTUM_FLOOR = 0.01


def learning_rate(base: float, chunks_seen: int, decay_every: int = DECAY_EVERY) -> float:
    """The paper's staircase."""
    return base * LEARNING_RATE_DECAY ** (chunks_seen // decay_every)


def cosine(base: float, chunks_seen: int, total: int, warm_up: int = 0) -> float:
    """From 0 up to the base in a straight line over the warm-up, then half a cosine down to 0 at `total` chunks."""
    if chunks_seen < warm_up:
        return base * (chunks_seen + 1) / warm_up
    done = (chunks_seen - warm_up) / max(total - warm_up, 1)
    return base * 0.5 * (1 + math.cos(math.pi * min(done, 1)))


def bn_momentum(base: float, chunks_seen: int, decay_every: int = DECAY_EVERY) -> float:
    return max(base * BN_MOMENTUM_DECAY ** (chunks_seen // decay_every), BN_MOMENTUM_FLOOR)
