"""The training loop, whatever the network: batches in, steps of the optimizer out, on one rank or on several.

for loss, stopping in steps(run, loader, loss_of, schedule, names_of, stop):
    ...  # log it; save and end if stopping; validate now and then
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training import checkpoint, ranks
from training.run_folder import RunLog
from training.stopping import StopRequest, TrainingError


@dataclass
class Run:
    """What goes on from step to step, and from a checkpoint."""

    model: nn.Module  # as checkpoints hold it: without the wrappers of several ranks and of torch.compile
    optimizer: torch.optim.Optimizer
    config: dict  # the run's settings
    identity: dict  # what else a checkpoint is compared by on resumption
    history: RunLog | None = None
    step: int = 0  # since the first epoch began
    epoch: int = 0  # whole ones
    losses: list[float] = field(default_factory=list)  # of the steps since they were logged
    best: float = -1.0  # validation score

    def save(self, path: Path, selected_on: str | None = None) -> None:
        """checkpoint.save of the network and all that a resumption needs."""
        progress = {"step": self.step, "epoch": self.epoch, "losses": self.losses, "best_voxel_accuracy": self.best}
        state = {**self.identity, "optimizer": self.optimizer.state_dict(), **progress}
        checkpoint.save(path, self.model, self.config, selected_on, **state)

    def save_and_stop(self, path: Path, stop: StopRequest) -> int:
        """Ends a run that was asked to stop, on all ranks. Returns the exit code."""
        if self.step:
            ranks.on_rank_0(self.save, path)
        self.history.stopped(self.step)
        return stop.exit_code

    def resume(self, state: dict) -> None:
        """Takes over a checkpoint's entries. Raises CheckpointError if they do not fit."""
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.epoch, self.losses = state["step"], state["epoch"], state["losses"]
            self.best = state["best_voxel_accuracy"]
        except (RuntimeError, ValueError, KeyError) as error:
            raise checkpoint.CheckpointError(f"training cannot go on from the run's checkpoint: {error}") from error


class Step(NamedTuple):
    loss: float  # of all ranks
    gradient: float  # its norm
    own_loss_is_finite: bool  # of this rank
    stopping: bool  # a rank was asked to stop

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


def steps(
    run: Run,
    batches: Iterable,
    loss_of: Callable[[Any], tuple[Tensor, Tensor]],
    schedule: Callable[[int], Any],
    names_of: Callable[[Any], list[str]],
    stop: StopRequest,
    accumulate: int = 1,
    clip: float = 0.0,
) -> Iterator[tuple[float, bool]]:
    """Trains on batch after batch. Yields after each step its loss, and whether the run has to stop there.

    Args:
        loss_of: batch -> this rank's sum of losses, and the number that it is divided by in the end, as scalars.
        schedule: steps done -> nothing; sets what changes with them, such as the learning rate, for the next step.
        names_of: batch -> what to name, such as "scene room1", if the loss is not finite, which raises TrainingError.
        accumulate: batches a step, each with its own batch statistics; clip: largest norm of the gradient, 0: any.
    """
    for parts in zip(*[iter(batches)] * accumulate, strict=False):  # what is left over in the end is dropped
        schedule(run.step)
        torch.manual_seed(ranks.seed_of_step(run.config["seed"], run.step, ranks.rank()))  # the same if resumed
        done = step(run, parts, loss_of, stop, clip)
        run.step += 1
        if not done.is_finite:
            blame(run, done, [name for batch in parts for name in names_of(batch)])
        run.losses.append(done.loss)
        yield done.loss, done.stopping


def step(
    run: Run,
    parts: Sequence[Any],
    loss_of: Callable[[Any], tuple[Tensor, Tensor]],
    stop: StopRequest,
    clip: float = 0.0,
) -> Step:
    """One step of the optimizer on this rank's shares of batches; none if loss or gradient is not finite.

    The loss is the mean over the batches of theirs.
    """
    run.optimizer.zero_grad(set_to_none=True)
    loss = stopping = 0
    finite = True
    for batch in parts:
        total, count = loss_of(batch)
        # All that ranks tell each other besides gradients: their parts of the loss, and whether they have to stop
        shares = torch.stack([total.detach(), count, count.new_tensor(stop.signal > 0)])
        total_of_all, count_of_all, stopping_of_all = ranks.sum_over_ranks(shares)
        count_of_all = count_of_all.clamp(min=1)
        # gradients are averaged over the ranks: hence world_size
        (total * ranks.world_size() / count_of_all / len(parts)).backward()
        loss, stopping = loss + total_of_all / count_of_all / len(parts), stopping + stopping_of_all
        finite = total.isfinite() & finite
    weights = [p for p in run.model.parameters() if p.grad is not None]
    gradient = torch.nn.utils.get_total_norm([p.grad for p in weights])
    if clip:
        torch.nn.utils.clip_grads_with_norm_(weights, clip, gradient)
    loss, gradient, stopping = torch.stack([loss, gradient, stopping]).tolist()
    done = Step(loss, gradient, bool(finite), bool(stopping))
    if done.is_finite:
        run.optimizer.step()
    return done


def blame(run: Run, done: Step, names: list[str]) -> None:
    """Raises TrainingError with the names on those ranks whose own loss is not finite; on all if there is none."""
    shares = ranks.gather_from_ranks((names, done.own_loss_is_finite))
    bad = [names for names, is_finite in shares if not is_finite] or [names for names, _ in shares]
    listed = ", ".join(name for names in bad for name in names)
    where = f"in epoch {run.epoch + 1}, step {run.step}, with {listed}"
    message = f"loss {done.loss}, gradient norm {done.gradient} {where}"
    run.history.say(message)
    ranks.on_rank_0(_fail, f"{message}. Nothing after the last checkpoint was saved; look at these, or lower --lr")


def refuse_infinite_weights(run: Run) -> None:
    """Raises TrainingError, before such weights are saved."""
    if not all(torch.isfinite(p).all() for p in run.model.parameters()):
        ranks.on_rank_0(_fail, f"weights are not finite after step {run.step}, and were not saved. Lower --lr")


def _fail(message: str) -> None:
    raise TrainingError(message)
