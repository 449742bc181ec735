"""Training steps beside those of torch's DistributedDataParallel, in float64 without dropout, on any number of ranks.

torchrun ... step_of_ranks.py
"""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from models import pointnet2
from training import ranks
from training.losses import weighted_cross_entropy_sum
from training.step import Step
from training.stopping import StopRequest

STEPS, CLIP = 4, 0.5


def batch_of(seed, channels=3, dtype=torch.float32):
    """Two clouds of 60 points, a third of which have no weight."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(2, 60, channels, generator=generator).to(dtype)
    classes, weight = (torch.randint(most, (2, 60), generator=generator) for most in (21, 3))
    return {"points": points, "classes": classes, "weight": weight.to(dtype)}


def assert_equal_steps():
    model = pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), ranks.rank()).double().train()
    model.dropout.p = 0
    other = copy.deepcopy(model)
    parallel = DistributedDataParallel(other) if dist.is_initialized() else other  # it takes the weights of rank 0
    adam = torch.optim.Adam(other.parameters(), lr=1e-3)
    ranks.copy_weights_of_rank_0(model)

    def loss_of(batch, network=model):
        return weighted_cross_entropy_sum(network(batch["points"]), batch["classes"], batch["weight"])

    step = Step(model, torch.optim.Adam(model.parameters(), lr=1e-3), loss_of, clip=CLIP)
    for number in range(STEPS):
        batch = batch_of(10 * number + ranks.rank(), dtype=torch.float64)
        done = step([batch], StopRequest())
        total, count = loss_of(batch, parallel)
        total_of_all, count_of_all = ranks.sum_over_ranks(torch.stack([total.detach(), count]))
        adam.zero_grad()
        (total * ranks.world_size() / count_of_all).backward()
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), CLIP)
        adam.step()
        expected = torch.stack([total_of_all / count_of_all, norm])
        torch.testing.assert_close(
            torch.tensor([done.loss, done.gradient], dtype=torch.float64), expected, rtol=1e-10, atol=0
        )
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        other.load_state_dict(model.state_dict())  # else a step multiplies the rounding of those before it
    assert ranks.gather_from_ranks(done) == [done] * ranks.world_size()


if __name__ == "__main__":
    pointnet2.CENTRES = (16, 8, 4, 4)
    with ranks.process_group():
        assert_equal_steps()
