import pytest
import torch

from ops import cpu, rows


@pytest.fixture(autouse=True)
def kernels():
    try:
        cpu.load()
    except cpu.CompileError as error:
        pytest.skip(f"needs a C++ compiler: {error}")


def cloud(clouds=3, points=200, features=2, seed=0):
    """Points of which many are copies of others, by place or altogether."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, (clouds, points, 3 + features), generator=generator).float() / 7


def test_distinct_points_stand_for_all():
    points = cloud()
    distinct = rows.distinct_points(points)
    flat = points.flatten(0, 1)
    assert torch.equal(flat[distinct.first][distinct.inverse], points)
    assert sum(len(torch.unique(one, dim=0)) for one in points) == len(distinct.first) < len(flat)
    assert torch.equal(distinct.multiplicity, torch.bincount(distinct.inverse.flatten()).float())
    assert all(distinct.inverse[b].max() < distinct.inverse[b + 1].min() for b in range(2))  # clouds share nothing


def test_distinct_points_differ_by_any_feature_and_in_float64():
    points = cloud(1, 5).double()
    points[0, :] = points[0, 0]
    assert len(rows.distinct_points(points).first) == 1
    points[0, 3, 4] += 1e-12
    assert rows.distinct_points(points).inverse.tolist() == [[0, 0, 0, 1, 0]]


def test_distinct_points_of_half_precision():
    points = cloud(features=0).half()  # an odd number of values of 2 bytes
    assert torch.equal(rows.distinct_points(points).inverse, rows.distinct_points(points.float()).inverse)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_records_what_serves_other_points():
    """Which points are distinct is not a constant of the trace."""
    traced = torch.jit.trace(lambda points: rows.distinct_points(points).inverse, cloud(), check_trace=False)
    assert torch.equal(traced(cloud(seed=1)), torch.arange(600).view(3, 200))


def test_distinct_neighbours_are_those_of_the_slots():
    index = torch.randint(200, (3, 20, 16), generator=torch.Generator().manual_seed(1))
    distinct = rows.distinct_points(cloud())
    pairs = rows.distinct_neighbours(index, distinct.inverse)
    slots = torch.take_along_dim(distinct.inverse, index.flatten(1), 1).view(60, 16)
    for centre, (begin, end) in enumerate(zip(pairs.start[:-1], pairs.start[1:], strict=True)):
        expected, counts = torch.unique(slots[centre], return_counts=True)
        found, order = pairs.neighbour[begin:end].sort()
        assert torch.equal(found, expected) and torch.equal(pairs.multiplicity[begin:end][order], counts.float())
        assert (pairs.centre[begin:end] == centre).all()
    assert pairs.start[-1] == len(pairs.neighbour) < slots.numel()


def test_without_kernels_every_slot_is_a_pair(monkeypatch):
    monkeypatch.setattr(rows, "ready", lambda tensor: False)
    index = torch.randint(200, (3, 20, 16), generator=torch.Generator().manual_seed(1))
    distinct = rows.distinct_points(cloud())
    pairs = rows.distinct_neighbours(index, distinct.inverse)
    assert distinct.multiplicity is None and pairs.multiplicity is None
    assert torch.equal(pairs.neighbour.view(3, 20, 16), index + 200 * torch.arange(3).view(3, 1, 1))
    assert pairs.centre is None and pairs.start.tolist()[-2:] == [944, 960]


def test_neighbours_are_seen_from_their_centres(monkeypatch):
    index = torch.randint(200, (3, 20, 16), generator=torch.Generator().manual_seed(1))
    points, centres = torch.rand(600, 3), torch.rand(60, 3)
    seen = points[index + 200 * torch.arange(3).view(3, 1, 1)] - centres.view(3, 20, 1, 3)
    for ready in (True, False):
        monkeypatch.setattr(rows, "ready", lambda tensor, ready=ready: ready)
        pairs = rows.distinct_neighbours(index, torch.arange(600).view(3, 200))
        found = pairs.from_centres(points, centres)
        starts, ends = pairs.start[:-1].tolist(), pairs.start[1:].tolist()
        for i, (a, b) in enumerate(zip(starts, ends, strict=True)):
            assert torch.equal(found[a:b].unique(dim=0), seen.view(60, 16, 3)[i].unique(dim=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gather_has_the_gradient_of_indexing(dtype):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, 70, generator=generator).to(dtype).requires_grad_()
    row = torch.randint(9, (50,), generator=generator)
    upstream = torch.randint(-4, 5, (50, 70), generator=generator).to(dtype)
    assert torch.equal(rows.gather(features, row), features[row])
    (ours,) = torch.autograd.grad(rows.gather(features, row), features, upstream)
    (torchs,) = torch.autograd.grad(features[row], features, upstream)
    assert torch.equal(ours, torchs)


def test_dropout_doubles_half_of_each_copys_values():
    torch.manual_seed(0)
    features, row = torch.rand(4, 128).add_(1).requires_grad_(), torch.arange(4).repeat(500)
    dropped = rows.gather(features, row, 0.5)
    kept = dropped != 0
    assert torch.equal(dropped[kept], 2 * features[row][kept])
    assert abs(kept.float().mean().item() - 0.5) < 0.005  # 5 standard deviations of 256,000 coins
    assert kept.float().mean(0).sub(0.5).abs().max() < 0.06  # of 2000, in every channel
    assert (kept[0:4] != kept[4:8]).any()
    (gradient,) = torch.autograd.grad(dropped.sum(), features)
    torch.testing.assert_close(gradient, 2 * torch.zeros(4, 128).index_add(0, row, kept.float()))


def test_dropout_follows_the_seed_and_other_probabilities_are_torchs():
    features, row = torch.ones(3, 64), torch.arange(3).repeat(99)
    torch.manual_seed(1)
    first = rows.gather(features, row, 0.5)
    torch.manual_seed(1)
    assert torch.equal(rows.gather(features, row, 0.5), first)
    assert torch.equal(rows.gather(features, row, 0.0), features[row])
    assert (rows.gather(features, row, 0.9) != 0).float().mean() < 0.2


def test_the_number_of_threads_changes_no_bit():
    x, multiplicity = torch.randn(5000, 96, generator=torch.Generator().manual_seed(0)), torch.arange(5000) % 3 + 1.0
    threads = torch.get_num_threads()
    try:
        found = []
        for torch_threads in (1, 3):
            torch.set_num_threads(torch_threads)
            found.append(rows.moments(x, multiplicity))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(found[0][:2], found[1][:2], strict=True))
