import pytest
import torch

from models.losses import weighted_cross_entropy


def test_weighted_cross_entropy_matches_a_loop():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 21, generator=generator)
    classes = torch.randint(21, (2, 5), generator=generator)
    weight = torch.tensor([[1.0, 0, 2, 0, 3], [0, 0, 0, 0, 0.5]])
    total = 0.0
    for b in range(2):
        for n in range(5):
            total += float(weight[b, n]) * -float(logits[b, n].log_softmax(0)[classes[b, n]])
    assert weighted_cross_entropy(logits, classes, weight).item() == pytest.approx(total / 4, rel=1e-6)


def test_without_any_weight_the_loss_is_zero_and_has_a_gradient():
    logits = torch.zeros(1, 3, 21, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()
