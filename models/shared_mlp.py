"""The shared MLP of PointNet++ on rows (R, C): one small network applied to every point, as plain matrix products."""

import itertools

from torch import Tensor, nn

from models.batch_norm import batch_norm_relu

EPS = 1e-3  # of batch norm, in the original PointNet++ code (TensorFlow's default)


class SharedMLP(nn.Module):
    """Linear without bias, batch norm and ReLU, for each pair of neighbouring numbers in `channels`.

    Set abstraction and feature propagation apply the first linear layer on their own, because it commutes with
    gathering and with interpolation, and set abstraction the last normalisation as well, because it commutes with the
    maximum: between them lies `from_first_to_last`.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(c, eps=EPS) for c in channels[1:])
        for linear in self.linears:
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, multiplicity: Tensor | None = None) -> Tensor:
        """(R, channels[0]) -> (R, channels[-1]); multiplicity (R,): how many equal rows each stands for, None for 1."""
        return self.after_first_linear(self.linears[0](x), multiplicity)

    def after_first_linear(self, x: Tensor, multiplicity: Tensor | None = None) -> Tensor:
        """(R, channels[1]) -> (R, channels[-1])."""
        return batch_norm_relu(self.from_first_to_last(x, multiplicity), self.norms[-1], multiplicity)

    def from_first_to_last(self, x: Tensor, multiplicity: Tensor | None = None) -> Tensor:
        """(R, channels[1]) after the first linear layer -> (R, channels[-1]) after the last one."""
        for norm, linear in zip(self.norms[:-1], self.linears[1:], strict=True):
            x = linear(batch_norm_relu(x, norm, multiplicity))  # (R, C)
        return x
