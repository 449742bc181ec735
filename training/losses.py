"""The training loss."""

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_cross_entropy_sum(
    logits: Tensor, classes: Tensor, weight: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """sum(w CE) and #{w != 0}. The loss is their quotient, as TensorFlow's SUM_BY_NONZERO_WEIGHTS in the original
    PointNet++ code; of a batch that ranks share, the quotient of their sums over the ranks. Both are 0 if no w != 0.

    Args:
        logits: (B, N, classes) float; classes: (B, N) int64; weight: (B, N) float32.
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016, section 7).
    Returns two scalars in the logits' precision, float32 if that is less.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # from half precision under autocast
    losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none", label_smoothing=smoothing)
    return torch.dot(losses, weight.flatten().to(losses.dtype)), torch.count_nonzero(weight).to(losses.dtype)
