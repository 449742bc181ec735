import pytest

from ops import rows


@pytest.fixture(params=["distinct rows in C++", "all rows in torch"])
def either_form(request, monkeypatch):
    """Runs a test with each of the two forms that the networks' layers have."""
    if request.param == "all rows in torch":
        monkeypatch.setattr(rows, "ready", lambda tensor: False)


@pytest.fixture
def sum_of_copies():
    """Features (B, N, C) of a cloud -> (R, C): those of equal points added up."""

    def add_up(features, cloud):
        rows = features.new_zeros(len(cloud.first), features.shape[2])
        return rows.index_add(0, cloud.row.flatten(), features.flatten(0, 1))

    return add_up
