"""One step of the optimizer, on one rank or on several, whatever the network."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training import ranks
from training.graph import eagerly
from training.stopping import StopRequest

LOSS, COUNT, STOPPING = -3, -2, -1  # behind the gradients of all weights, in one vector


class Done(NamedTuple):
    loss: float  # of all ranks
    gradient: float  # its norm
    stopping: bool  # a rank was asked to stop

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


class Step:
    """Forward, loss, backward, mean over the ranks, norm, clipping and update; no update if loss or gradient is not
    finite. Ranks start with equal weights (`ranks.copy_weights_of_rank_0`), and keep them.

    Beside the batch nothing is copied between host and device but three numbers, which are read in the end.

    Args:
        loss_of: batch -> this rank's sum of losses, and the number that it is divided by in the end, as scalars.
        accumulate: batches a step, each with its own batch statistics; the loss is the mean of theirs.
        clip: largest norm of the gradient, 0: any.
        run_as: function -> what is called in its stead, with a key before its arguments: see training/graph.py.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[Any], tuple[Tensor, Tensor]],
        accumulate: int = 1,
        clip: float = 0.0,
        run_as: Callable[[Callable], Callable] = eagerly,
    ):
        self.optimizer, self.loss_of, self.accumulate, self.clip = optimizer, loss_of, accumulate, clip
        self.weights = [p for p in model.parameters() if p.requires_grad]
        sizes = [p.numel() for p in self.weights]
        self.mean = self.weights[0].new_zeros(sum(sizes) + 3)  # over the ranks
        for weight, gradient in zip(self.weights, self.mean[:LOSS].split(sizes), strict=True):
            weight.grad = gradient.view_as(weight)
        self.skips = bool(optimizer.defaults.get("fused"))  # such an Adam leaves out an update without the host
        self.own_losses: list[Tensor] = []  # of this rank, of the last step's batches
        self.share, self.update = run_as(self._share), run_as(self._update)

    def __call__(self, parts: Sequence[Any], stop: StopRequest, key: Any = None) -> Done:
        """A step on this rank's shares of batches. key: of the Python numbers that change, such as a momentum."""
        loss, gradient, stopping = self.queue(parts, stop, key).tolist()
        done = Done(loss, gradient, bool(stopping))
        if done.is_finite and not self.skips:
            self.optimizer.step()
        return done

    def queue(self, parts: Sequence[Any], stop: StopRequest, key: Any = None) -> Tensor:
        """All that needs no answer from the device -> loss, norm of the gradient, whether to stop (3,)."""
        self.own_losses = []
        for number, batch in enumerate(parts):
            share = self.share(key, batch)  # (weights + 3,)
            self.own_losses.append(share[LOSS].clone())
            share[STOPPING].fill_(stop.signal > 0)
            if ranks.world_size() > 1:
                ranks.sum_over_ranks(share)
                share[:COUNT] /= share[COUNT].clamp(min=1)
            self.mean.add_(share) if number else self.mean.copy_(share)
        return self.update(None)

    def _share(self, batch: Any) -> Tensor:
        """Gradients of the mean loss of a batch, it, its count, and room for STOPPING (weights + 3,). Of several ranks,
        whose statistics may be synchronised, the sum for the mean: its gradients are of one scale on all."""
        total, count = self.loss_of(batch)
        loss = (total if ranks.world_size() > 1 else total / count.clamp(min=1)) / self.accumulate
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        return torch.cat([*(g.flatten() for g in gradients), torch.stack([loss.detach(), count, count])])

    def _update(self) -> Tensor:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.weights])
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(self.weights, self.clip, norm)
        numbers = torch.stack([self.mean[LOSS], norm, self.mean[STOPPING]])
        if self.skips:
            self.optimizer.found_inf = numbers.isfinite().all().logical_not().float()
            self.optimizer.step()
        return numbers
