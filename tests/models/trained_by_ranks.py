"""Every network trained with synchronised statistics by any number of ranks, on the same batches of 4 clouds: three
steps of SGD in float64, without dropout, at few centres.

    torchrun ... trained_by_ranks.py FILE

FILE gets losses, weights and buffers. Each rank checks that its weights and buffers are those of the others, bit by
bit, and that every parameter has a gradient.
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
from training.step import Step
from training.stopping import StopRequest

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
    ranks.copy_weights_of_rank_0(model)

    def loss_of(batch):
        return weighted_cross_entropy_sum(model(batch[0]), *batch[1:])

    step = Step(model, torch.optim.SGD(model.parameters(), lr=0.01), loss_of)
    generator, losses = torch.Generator().manual_seed(1), []
    share = slice(rank * CLOUDS // world_size, (rank + 1) * CLOUDS // world_size)
    for _ in range(STEPS):
        distinct = torch.rand(CLOUDS, DISTINCT, 3, generator=generator)  # metres
        drawn = torch.randint(DISTINCT, (CLOUDS, POINTS), generator=generator)
        points = torch.take_along_dim(distinct, drawn.unsqueeze(2), 1).double()[share]
        classes = torch.randint(21, (CLOUDS, POINTS), generator=generator)[share]
        weight = torch.rand(CLOUDS, POINTS, generator=generator).masked_fill(drawn % 5 == 0, 0)[share]
        losses.append(step([(points, classes, weight)], StopRequest()).loss)
        assert all(parameter.grad.any() for parameter in model.parameters())
    assert len(set(ranks.gather_from_ranks(checkpoint.weights_sha256(model)))) == 1
    return {"losses": torch.tensor(losses, dtype=torch.float64), **model.state_dict()}


def main() -> None:
    with ranks.process_group():
        trained = train_all()
        if ranks.rank() == 0:
            torch.save(trained, sys.argv[1])


if __name__ == "__main__":
    main()
