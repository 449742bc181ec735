"""Layers whose weights are not at their start, and clouds to try them on."""

import torch
from torch import Tensor, nn


def drawn(layer: nn.Module) -> nn.Module:
    """The same layer with normal weights, always the same."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


def cloud(*shape: int, seed: int = 1) -> Tensor:
    """Normal values, float64, always the same of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
