"""Ranks: the processes that torchrun started, each of which takes a share of the work.

A process that torchrun did not start is a world of one, to which the functions here do nothing: it is rank 0 of 1, and
a sum over ranks is its own.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

# How long a rank waits for the others before it fails: more than rank 0 needs for what it does alone. A rank that has
# died is noticed within seconds, by the connection that closes or by torchrun; this is for one that hangs.
TIMEOUT = timedelta(minutes=30)

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Within: this process and the others of torchrun's environment are one group. Rank r of a machine has its GPU r.

    After an error the group is left as it is, because taking it down in order would wait for ranks that still work;
    torchrun ends those when this process ends.
    """
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if together:
        gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
        if local_rank < gpus:
            torch.cuda.set_device(local_rank)
        # By the tensor's device; what tensors do not carry, such as the outcome of on_rank_0, goes through gloo
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=TIMEOUT)
    yield
    if together:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Replaces the tensor by its sum over the ranks, the same on each; returns it. All ranks have to call this."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather_from_ranks(value: T) -> list[T]:
    """What each rank gave, in the ranks' order. All ranks have to call this."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def on_rank_0(function: Callable[..., T], *args: Any) -> T:
    """What function(*args) returns on rank 0, on every rank; it runs nowhere else. All ranks have to call this.

    Raises what it raises on rank 0. The other ranks then end with exit code 1, silently: rank 0 has said why.
    """
    outcome: list[Any] = [None, False]  # what it returned, whether it failed
    error = None
    if rank() == 0:
        try:
            outcome[0] = function(*args)
        except (Exception, SystemExit) as raised:
            outcome[1], error = True, raised
    if dist.is_initialized():
        dist.broadcast_object_list(outcome)
    if error is not None:
        raise error
    if outcome[1]:
        raise SystemExit(1)
    return outcome[0]


def copy_weights_of_rank_0(model: nn.Module) -> None:
    """Makes a network the same on every rank. Training keeps its weights so, but for batch norm's running statistics,
    which it does not read."""
    if dist.is_initialized():
        for weight in model.parameters():
            dist.broadcast(weight.detach(), 0)
    copy_buffers_of_rank_0(model)


def copy_buffers_of_rank_0(model: nn.Module) -> None:
    """Makes batch norm's running statistics the same on every rank: those that rank 0 saves in checkpoints."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def seed_of_step(seed: int, step: int, rank: int) -> int:
    """For the random numbers of one step on one rank, such as dropout's: the same in a run that was resumed."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
