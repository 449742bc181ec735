import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.batch_norm import batch_norm_relu, set_batch_norm_momentum
from models.shared_mlp import SharedMLP
from ops import rows


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_norm(channels=5):
    norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.3).double()
    with torch.no_grad():
        norm.weight.copy_(normal(channels, seed=1))  # of both signs
        norm.bias.copy_(normal(channels, seed=2))
        norm.running_mean.copy_(normal(channels, seed=3))
    return norm


def results(function, x, norm, upstream):
    norm, x = copy.deepcopy(norm), x.clone().requires_grad_()
    y = function(x, norm)
    return [y.detach(), *torch.autograd.grad(y, [x, *norm.parameters()], upstream), *norm.buffers()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("multiplicity", [None, torch.arange(300) % 4 + 1], ids=["once", "several times"])
def test_batch_norm_relu_equals_torch(training, multiplicity):
    """Of rows that stand there as often as multiplicity says."""
    x, norm, upstream = normal(300, 5) + 2, make_norm().train(training), normal(5, 300, seed=4).T
    often = torch.arange(300).repeat_interleave(1 if multiplicity is None else multiplicity)
    ours = results(lambda x, norm: batch_norm_relu(x, norm, multiplicity), x, norm, upstream)
    torchs = results(
        lambda x, norm: F.relu(norm(x[often])), x, norm, (upstream / torch.bincount(often)[:, None])[often]
    )
    torchs[0] = torchs[0][often.diff(prepend=torch.tensor([-1])) > 0]
    torch.testing.assert_close(ours, torchs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_the_maximum_over_groups_equals_torchs(training):
    x, norm = normal(300, 5) + 2, make_norm().train(training)
    pairs, multiplicity = torch.tensor([1, 7, 30, 2, 260]), torch.arange(300) % 4 + 1
    start, upstream = F.pad(pairs.cumsum(0), (1, 0)), normal(5, 5, seed=4).T
    often = torch.arange(300).repeat_interleave(multiplicity)

    def textbook(x, norm):
        y = F.relu(norm(x[often])).split([multiplicity[a:b].sum() for a, b in itertools.pairwise(start)])
        return torch.stack([one.amax(0) for one in y])

    ours = results(lambda x, norm: batch_norm_relu(x, norm, multiplicity, start), x, norm, upstream)
    torch.testing.assert_close(ours, results(textbook, x, norm, upstream), rtol=1e-10, atol=1e-12)


def test_both_forms_have_the_same_bits_in_evaluation(monkeypatch):
    x, norm, start = normal(300, 5).float(), make_norm().float().eval(), torch.arange(0, 301, 10)
    expected = batch_norm_relu(x, norm), batch_norm_relu(x, norm, None, start)
    monkeypatch.setattr(rows, "ready", lambda tensor: False)
    assert torch.equal(batch_norm_relu(x, norm), expected[0])
    assert torch.equal(batch_norm_relu(x, norm, None, start), expected[1])


def test_batch_norm_relu_is_accurate_on_many_rows(either_form):
    """In float32 against float64; torch's own batch norm of rows is 50 times off the first bound."""
    x, upstream = normal(200_000, 8, dtype=torch.float32) * 0.5 + 3, normal(200_000, 8, seed=1, dtype=torch.float32) + 1
    norm = nn.BatchNorm1d(8)
    exact = results(batch_norm_relu, x.double(), copy.deepcopy(norm).double(), upstream.double())
    y, _, scale_grad, shift_grad, mean, variance, _ = results(batch_norm_relu, x, norm, upstream)
    assert (y - exact[0]).abs().max() < 3e-6
    for got, expected in ((scale_grad, exact[2]), (shift_grad, exact[3]), (mean, exact[4]), (variance, exact[5])):
        torch.testing.assert_close(got.double(), expected, rtol=3e-5, atol=0)


def test_batch_norm_relu_of_one_row(either_form):
    with pytest.raises(ValueError, match="more than 1 (row|value)"):
        batch_norm_relu(normal(1, 5), make_norm().train())
    assert batch_norm_relu(normal(1, 5), make_norm().eval()).shape == (1, 5)


def test_batch_norm_relu_takes_half_precision():
    norm, x = make_norm().float(), normal(50, 5).bfloat16().requires_grad_()
    y = batch_norm_relu(x, norm)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16 and torch.isfinite(x.grad).all()


def test_set_batch_norm_momentum():
    model = nn.ModuleDict({"a": SharedMLP((3, 4)), "b": nn.BatchNorm1d(4)})
    set_batch_norm_momentum(model, 0.25)
    assert model["a"].norms[0].momentum == model["b"].momentum == 0.25
    x = normal(10, 3, dtype=torch.float32)
    model["a"](x)
    expected = 0.25 * F.linear(x, model["a"].linears[0].weight).mean(0)
    torch.testing.assert_close(model["a"].norms[0].running_mean, expected)
