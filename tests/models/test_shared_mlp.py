import copy

import torch

from models.shared_mlp import SharedMLP
from models.textbook import shared_mlp_forward


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_shared_mlp_equals_convolutions(either_form):
    torch.manual_seed(0)
    mlp, x = SharedMLP((4, 8, 6)).double(), normal(2, 30, 4)
    expected = shared_mlp_forward(copy.deepcopy(mlp), x.transpose(1, 2).contiguous()).transpose(1, 2)
    torch.testing.assert_close(mlp(x.flatten(0, 1)), expected.flatten(0, 1), rtol=1e-10, atol=1e-12)


def test_shared_mlp_starts_xavier_uniform_without_biases():
    mlp = SharedMLP((300, 500))
    assert [name for name, _ in mlp.named_parameters()] == ["linears.0.weight", "norms.0.weight", "norms.0.bias"]
    bound = (6 / 800) ** 0.5
    assert 0.99 * bound < mlp.linears[0].weight.abs().max() <= bound
    assert mlp.norms[0].eps == 1e-3
