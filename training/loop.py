"""The training loop, whatever the network: batches in, steps of the optimizer out, on one rank or on several.

for loss, stopping in steps(run, step, loader, schedule, names_of, stop):
    ...  # log it; save and end if stopping; validate now and then
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoint, ranks
from training.run_folder import RunLog
from training.step import Done, Step
from training.stopping import StopRequest, TrainingError

OF_THE_DEVICE = ("lr", "foreach", "fused", "capturable")  # an optimizer's options: how it computes, and where


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
            for saved, ours in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
                saved.update({name: ours[name] for name in OF_THE_DEVICE if name in ours})
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.epoch, self.losses = state["step"], state["epoch"], state["losses"]
            self.best = state["best_voxel_accuracy"]
        except (RuntimeError, ValueError, KeyError) as error:
            raise checkpoint.CheckpointError(f"training cannot go on from the run's checkpoint: {error}") from error


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of all weights, from the next step on."""
    (group,) = optimizer.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)  # in place: a captured step reads it there
    else:
        group["lr"] = rate


def steps(
    run: Run,
    step: Step,
    batches: Iterable,
    schedule: Callable[[int], Any],
    names_of: Callable[[Any], list[str]],
    stop: StopRequest,
) -> Iterator[tuple[float, bool]]:
    """Trains on batch after batch. Yields after each step its loss, and whether the run has to stop there.

    Args:
        schedule: steps done -> the step's key; sets what changes with them, such as the learning rate, before it.
        names_of: batch -> what to name, such as "scene room1", if the loss is not finite, which raises TrainingError.
    """
    for parts in zip(*[iter(batches)] * step.accumulate, strict=False):  # what is left over in the end is dropped
        key = schedule(run.step)
        torch.manual_seed(ranks.seed_of_step(run.config["seed"], run.step, ranks.rank()))  # the same if resumed
        done = step(parts, stop, key)
        run.step += 1
        if not done.is_finite:
            is_finite = all(loss.isfinite() for loss in step.own_losses)
            blame(run, done, is_finite, [name for batch in parts for name in names_of(batch)])
        run.losses.append(done.loss)
        yield done.loss, done.stopping


def blame(run: Run, done: Done, own_loss_is_finite: bool, names: list[str]) -> None:
    """Raises TrainingError with the names on those ranks whose own loss is not finite; on all if there is none."""
    shares = ranks.gather_from_ranks((names, own_loss_is_finite))
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
