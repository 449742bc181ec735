"""Every network trained with synchronised statistics by any number of ranks, on the same batches of 4 clouds: three
steps of SGD in float64, without dropout, at few centres.

    torchrun ... trained_by_ranks.py FILE

FILE gets losses, weights and buffers. Each rank checks that its weights and buffers are those of the others, bit by
bit, and that every parameter has a gradient: DDP is not told to look for unused ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

import ops
from models import pointnet2
from models.sync_batch_norm import synchronise
from training import checkpoint, ranks
from training.losses import weighted_cross_entropy_sum

NETWORKS = {  # name -> operators, and the configuration
    "pointnet2": ("auto", {}),
    "pointnet2, all rows": ("reference", {}),
    "msg": ("auto", {"grouping": "msg"}),
    "non_local": ("auto", {"context": "non_local"}),
    "latentgnn": ("auto", {"context": "latentgnn", "kernels": 3}),
}
CLOUDS, POINTS, DISTINCT = 4, 256, 150
CENTRES = (64, 32, 16, 8)
STEPS = 3


def train_all() -> dict[str, dict[str, torch.Tensor]]:
    pointnet2.CENTRES = CENTRES
    trained = {}
    for name, (implementation, config) in NETWORKS.items():
        ops.use(implementation)
        trained[name] = train(pointnet2.PointNet2Config(21, **config))
    return trained


def train(config: pointnet2.PointNet2Config) -> dict[str, torch.Tensor]:
    rank, world_size = ranks.rank(), ranks.world_size()
    model = pointnet2.build(config, seed=rank).double()  # it is rank 0's weights that are trained
    model.dropout.p = 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("context") and name.endswith((".scale", ".norm.weight")):
                parameter.fill_(0.5)  # else these layers would be the identity
    synchronise(model)
    forward = ranks.parallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator, losses = torch.Generator().manual_seed(1), []
    share = slice(rank * CLOUDS // world_size, (rank + 1) * CLOUDS // world_size)
    for _ in range(STEPS):
        distinct = torch.rand(CLOUDS, DISTINCT, 3, generator=generator)  # metres
        drawn = torch.randint(DISTINCT, (CLOUDS, POINTS), generator=generator)
        points = torch.take_along_dim(distinct, drawn.unsqueeze(2), 1).double()[share]
        classes = torch.randint(21, (CLOUDS, POINTS), generator=generator)[share]
        weight = torch.rand(CLOUDS, POINTS, generator=generator).masked_fill(drawn % 5 == 0, 0)[share]
        total, count = weighted_cross_entropy_sum(forward(points), classes, weight)
        total_of_all, count_of_all = ranks.sum_over_ranks(torch.stack([total.detach(), count]))
        optimizer.zero_grad(set_to_none=True)
        (total * world_size / count_of_all).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(total_of_all / count_of_all)
    assert len(set(ranks.gather_from_ranks(checkpoint.weights_sha256(model)))) == 1
    return {"losses": torch.stack(losses), **model.state_dict()}


def main() -> None:
    with ranks.process_group():
        trained = train_all()
        if ranks.rank() == 0:
            torch.save(trained, sys.argv[1])


if __name__ == "__main__":
    main()
