import pytest
import torch

from models import pointnet2, textbook
from ops import rows


@pytest.fixture
def few_centres(monkeypatch):
    """The same network on fewer points, for speed."""
    for module in (pointnet2, textbook):
        monkeypatch.setattr(module, "CENTRES", (64, 32, 16, 8))


@pytest.fixture(params=["distinct rows in C++", "all rows in torch"])
def either_form(request, monkeypatch):
    """Runs a test with each of the two forms that the networks' layers have."""
    if request.param == "all rows in torch":
        monkeypatch.setattr(rows, "ready", lambda tensor: False)


@pytest.fixture
def sum_of_copies():
    """Features (B, N, C) of a cloud -> (R, C): those of equal points added up."""

    def add_up(features, distinct):
        sums = torch.zeros_like(distinct.of(features))
        return sums.index_add(0, distinct.inverse.flatten(), features.flatten(0, 1))

    return add_up
