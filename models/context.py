"""The context layers of PointNet++ and of Mask R-CNN, by name: the one place where they are listed.

A layer of your own is a class and a name here. It maps (B, N, C) to (B, N, C), its constructor takes C first, and its
options are those further parameters that the network's configuration has a field for. In Mask R-CNN it is given maps
(B, C, H, W), and `norm`, if it takes that, is None: two images a GPU are too few for batch norm.
"""

import inspect
from typing import Any

from torch import nn

from models.double_attention import DoubleAttention
from models.induced_points import InducedPoints
from models.latentgnn import LatentGNN
from models.mean_feature import MeanFeature
from models.non_local import NonLocal

CONTEXTS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "mean_feature": MeanFeature,
    "non_local": NonLocal,
    "double_attention": DoubleAttention,
    "induced_points": InducedPoints,
    "latentgnn": LatentGNN,
}


def build_context(config: Any, channels: int, **given: Any) -> nn.Module:
    """A new layer config.context for C channels; its options come from what is given here, else from the fields.

    Raises ValueError if the layer needs an option that is neither.
    """
    layer, values = CONTEXTS[config.context], vars(config) | given
    options = {name: values[name] for name in values.keys() & inspect.signature(layer).parameters}
    try:
        return layer(channels, **options)
    except TypeError as error:
        raise ValueError(f"context layer {config.context!r} cannot be made of {options}: {error}") from error


def contexts_of_models(plain: str) -> dict[str, str]:
    """Name of a model -> its context layer: `plain` has none, the others are called as theirs."""
    return {plain if context == "none" else context: context for context in CONTEXTS}


def has_option(context: str, name: str) -> bool:
    """Whether the constructor of that layer takes a parameter of that name."""
    return name in inspect.signature(CONTEXTS[context]).parameters
