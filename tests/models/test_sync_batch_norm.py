import subprocess
import sys

import pytest
import torch
import trained_by_ranks
from torch import nn

import ops
from models import pointnet2
from models.sync_batch_norm import SyncBatchNorm1d, synchronise


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_train_as_one_rank_does(tmp_path, monkeypatch, ranks):
    monkeypatch.setattr(pointnet2, "CENTRES", pointnet2.CENTRES)  # set back after the test
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [sys.executable, *torchrun, trained_by_ranks.__file__, str(tmp_path / "trained.pt")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    together = torch.load(tmp_path / "trained.pt")
    try:
        alone = trained_by_ranks.train_all()
    finally:
        ops.use("auto")
    for network, expected in alone.items():
        assert together[network].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(together[network][name], value, rtol=1e-8, atol=1e-8, msg=f"{network} {name}")
        torch.testing.assert_close(together[network]["losses"], expected["losses"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_batch_norm(shape, training):
    results = []
    for convert in (False, True):
        torch.manual_seed(0)
        norm, x = nn.BatchNorm1d(5, momentum=0.3).double().train(training), torch.randn(shape, dtype=torch.float64)
        nn.init.normal_(norm.weight)
        if convert:
            synchronise(norm)
        assert type(norm) is (SyncBatchNorm1d if convert else nn.BatchNorm1d)
        y = norm(x.requires_grad_())
        gradients = torch.autograd.grad(y, [x, *norm.parameters()], torch.randn(shape, dtype=torch.float64))
        results.append([y, *gradients, *norm.buffers()])
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(value, expected)


def test_half_precision_is_widened_and_given_back():
    norm = nn.BatchNorm1d(3)
    synchronise(norm)
    x = (1000 + torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))).bfloat16()
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean(0))


def test_a_synchronised_network_has_the_keys_of_another():
    plain, synchronised = (
        pointnet2.build(pointnet2.PointNet2Config(21, context="latentgnn"), seed=0) for _ in range(2)
    )
    synchronise(synchronised)
    assert not any(type(module) is nn.BatchNorm1d for module in synchronised.modules())
    assert synchronised.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(synchronised.state_dict())
