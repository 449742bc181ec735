import pytest
import torch

from training.losses import weighted_cross_entropy_sum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weighted_cross_entropy_matches_a_loop(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 21, generator=generator).to(dtype)
    classes = torch.randint(21, (2, 5), generator=generator)
    weight = torch.tensor([[1.0, 0, 2, 0, 3], [0, 0, 0, 0, 0.5]])
    expected = 0.0
    for b in range(2):
        for n in range(5):
            expected += float(weight[b, n]) * -float(logits[b, n].log_softmax(0)[classes[b, n]])
    total, count = weighted_cross_entropy_sum(logits, classes, weight)
    assert total.item() == pytest.approx(expected, rel=1e-6) and count.item() == 4
    assert total.dtype == count.dtype == dtype


def test_half_precision_is_added_up_in_float32():
    logits = torch.linspace(0, 1, 21).bfloat16().expand(1, 100_000, 21)
    total, count = weighted_cross_entropy_sum(logits, torch.zeros(1, 100_000).long(), torch.ones(1, 100_000))
    assert total.dtype == torch.float32 and count.item() == 100_000
    assert (total / count).item() == pytest.approx(-logits[0, 0].float().log_softmax(0)[0].item(), rel=1e-4)


def test_without_any_weight_the_sum_is_zero_and_has_a_gradient():
    logits = torch.zeros(1, 3, 21, requires_grad=True)
    total, count = weighted_cross_entropy_sum(logits, torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3))
    total.backward()
    assert total.item() == count.item() == 0 and (logits.grad == 0).all()
