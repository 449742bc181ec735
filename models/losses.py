"""The training loss."""

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """sum(w CE) / #{w != 0}, as TensorFlow's SUM_BY_NONZERO_WEIGHTS in the original PointNet++ code; 0 if no w != 0.

    Args:
        logits: (B, N, classes) float; classes: (B, N) int64; weight: (B, N) float32. Returns a float32 scalar.
    """
    losses = F.cross_entropy(logits.flatten(0, 1).float(), classes.flatten(), reduction="none")  # (B * N,)
    return torch.dot(losses, weight.flatten()) / torch.count_nonzero(weight).clamp(min=1)
