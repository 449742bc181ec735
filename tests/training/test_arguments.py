import pytest
import torch

from training.arguments import choose_device, precision


@pytest.fixture(autouse=True)
def as_before():
    """torch's settings are back as they were after each test."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("tf32", [False, True])
def test_products_and_convolutions_compute_alike(tf32):
    assert choose_device("cpu", tf32) == torch.device("cpu")
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    assert precision() == ("TF32" if tf32 else "float32")


def test_float32_is_the_default_and_none_changes_nothing():
    torch.backends.cudnn.allow_tf32 = True
    choose_device("cpu", None)
    assert torch.backends.cudnn.allow_tf32
    choose_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(SystemExit, match="--device nothing cannot be used here"):
        choose_device("nothing")
