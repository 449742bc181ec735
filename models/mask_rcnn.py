"""Mask R-CNN with a ResNet-FPN backbone and context layers in it, the network of the LatentGNN paper's Tables 1 and 2.

The detector is torchvision's, imported when a network is built: everything else runs without it. Stages are the
paper's: stages 3, 4 and 5 are torchvision's layer2, layer3 and layer4.
"""

from dataclasses import dataclass

import torch
from torch import nn

from models.context import CONTEXTS, build_context
from models.insert import insert_context

# Channels after stage 5, half as many a stage earlier: the paper's backbones, and a small one to try things with
BACKBONES = {"resnet50": 2048, "resnet101": 2048, "resnext101_32x8d": 2048, "resnet18": 512}
LATENT_NODES = {3: 150, 4: 100, 5: 50}  # d by stage, as in the paper
TRAINED_LAYERS = 3  # of a pretrained backbone: all but the stem and stage 2, as in Mask R-CNN


@dataclass(frozen=True)
class MaskRCNNConfig:
    """What rebuilds a network.

    Attributes:
        classes: with the background, class 0. Class k is COCO's category with the id k, some of which are unused.
        stages: which stages end in a context layer.
        kernels, stride: K of LatentGNN, and C / c of layers with latent nodes. The paper's parameters are those of
            stride 16; the authors' scripts set 8. LatentGNN has no batch norm here: two images a GPU are too few.
        pretrained: batch norm of the backbone stays as it was pretrained, its stem and stage 2 are not trained.
            Otherwise all of it is trained, with batch norm.
        min_size: pixels of the short side that images are scaled to, or less where the long one would be above 5/3 of
            it (1333 for 800).
    """

    classes: int = 91
    backbone: str = "resnet50"
    context: str = "latentgnn"
    stages: tuple[int, ...] = (4,)
    kernels: int = 1
    stride: int = 16
    pretrained: bool = True
    min_size: int = 800

    def __post_init__(self):
        choices = [("backbone", self.backbone, BACKBONES), ("context", self.context, CONTEXTS)]
        for name, value, allowed in choices + [("stages", stage, LATENT_NODES) for stage in self.stages]:
            if value not in allowed:
                raise ValueError(f"MaskRCNNConfig: {name} must be of {tuple(allowed)}, got {value!r}")


def context_layers(config: MaskRCNNConfig) -> dict[str, nn.Module]:
    """Path in the network -> a new context layer for maps (B, C, H, W)."""
    layers, channels = {}, BACKBONES[config.backbone]
    for stage in config.stages if config.context != "none" else ():
        options = {"latent_nodes": LATENT_NODES[stage], "norm": None}
        layers[f"backbone.body.layer{stage - 1}"] = build_context(config, channels >> (5 - stage), **options)
    return layers


def build(config: MaskRCNNConfig, seed: int, download: bool = False) -> nn.Module:
    """torchvision's MaskRCNN with random weights drawn from `seed`; the global random state is left as it was.

    In training mode it takes images and targets and returns a dict of losses, in evaluation mode it takes images and
    returns detections; shapes as in torchvision's documentation.

    Args:
        download: give the backbone torchvision's ImageNet weights, from the folder where torch.hub keeps them or the
            net; OSError if they are not to be had.

    Raises ImportError if torchvision is missing, RuntimeError if it does not fit torch.
    """
    from torchvision.models import get_model_weights
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    weights = get_model_weights(config.backbone)["IMAGENET1K_V1"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the GPUs' generators
        try:
            backbone = resnet_fpn_backbone(
                backbone_name=config.backbone,
                weights=weights if download else None,
                norm_layer=FrozenBatchNorm2d if config.pretrained else nn.BatchNorm2d,
                trainable_layers=TRAINED_LAYERS if config.pretrained else 5,
            )
        except OSError as error:
            folder = f"{torch.hub.get_dir()}/checkpoints"
            raise OSError(f"{weights.url} cannot be downloaded ({error}); put that file into {folder}") from error
        model = MaskRCNN(backbone, config.classes, min_size=config.min_size, max_size=config.min_size * 5 // 3)
        insert_context(model, context_layers(config))  # after torchvision froze its layers: these are always trained
    model.config = config
    return model
