"""The context layers of PointNet++ and of Mask R-CNN, by name: the one place where they are listed.

A layer of your own is a class and a name here. It maps (B, N, C) to (B, N, C), its constructor takes C first, and its
options are those further parameters that the network's configuration has a field for.
"""

import inspect
from typing import Any

from torch import nn

from models.latentgnn import LatentGNN
from models.non_local import NonLocal

CONTEXTS: dict[str, type[nn.Module]] = {"none": nn.Identity, "non_local": NonLocal, "latentgnn": LatentGNN}


def build_context(config: Any, channels: int, **given: Any) -> nn.Module:
    """A new layer config.context for C channels; its options come from what is given here, else from the fields."""
    values, parameters = vars(config) | given, inspect.signature(CONTEXTS[config.context]).parameters
    return CONTEXTS[config.context](channels, **{name: values[name] for name in values.keys() & parameters})


def has_option(context: str, name: str) -> bool:
    """Whether the constructor of that layer takes a parameter of that name."""
    return name in inspect.signature(CONTEXTS[context]).parameters
