import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import ranks

SEEN_BY_TWO_RANKS = """
import torch
from training import ranks

def fail():
    print("only rank 0 is here", flush=True)
    raise OSError("no space")

def check():
    rank = ranks.rank()
    assert ranks.world_size() == 2
    assert ranks.sum_over_ranks(torch.tensor([1, rank])).tolist() == [2, 1]
    assert ranks.gather_from_ranks(f"rank {rank}") == ["rank 0", "rank 1"]
    assert ranks.on_rank_0(lambda: ["made by", rank]) == ["made by", 0]

    torch.manual_seed(rank)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    ranks.copy_weights_of_rank_0(model)
    assert ranks.gather_from_ranks(model[0].weight.tolist()) == 2 * [model[0].weight.tolist()]
    model(torch.full((4, 2), 1.0 + rank))
    means = ranks.gather_from_ranks(model[1].running_mean.tolist())
    assert means[0] != means[1]
    ranks.copy_buffers_of_rank_0(model)
    assert ranks.gather_from_ranks(model[1].running_mean.tolist()) == 2 * means[:1]

    try:
        ranks.on_rank_0(fail)
    except OSError:
        assert rank == 0
    except SystemExit as end:
        assert (rank, end.code) == (1, 1)
    else:
        raise AssertionError("nothing was raised")
    print(f"rank {rank} is through", flush=True)

with ranks.process_group():
    check()  # a function, so that what it made is gone before the group is, as in training
"""


def test_two_ranks(tmp_path):
    script = tmp_path / "seen.py"
    script.write_text(SEEN_BY_TWO_RANKS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(torchrun, capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == 0, ended.stderr
    for text in ("only rank 0 is here", "rank 0 is through", "rank 1 is through"):
        assert ended.stdout.count(text) == 1


def test_a_process_of_its_own_is_a_world_of_one():
    with ranks.process_group():
        model = torch.nn.Linear(2, 2)
        assert (ranks.rank(), ranks.world_size()) == (0, 1)
        assert ranks.sum_over_ranks(torch.ones(2)).tolist() == [1, 1]
        assert ranks.gather_from_ranks("alone") == ["alone"]
        ranks.copy_weights_of_rank_0(model)
        assert ranks.on_rank_0(sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            ranks.on_rank_0(lambda: 1 / 0)
