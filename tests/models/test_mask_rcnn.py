import subprocess
import sys

import pytest
import torch
from torch import nn

from models.context import CONTEXTS
from models.mask_rcnn import MaskRCNNConfig, build


@pytest.fixture(scope="module")
def detection():
    reason = "torchvision is not there, or not for this torch: make test-coco"
    return pytest.importorskip("torchvision.models.detection", reason=reason, exc_type=(ImportError, RuntimeError))


SMALL = {"classes": 3, "backbone": "resnet18", "pretrained": False, "min_size": 96}
IMAGES = [torch.rand(3, 96, 80, generator=torch.Generator().manual_seed(1))]
TARGETS = [{"boxes": torch.tensor([[10.0, 20, 60, 70]]), "labels": torch.tensor([2])}]
TARGETS[0]["masks"] = torch.zeros(1, 96, 80, dtype=torch.uint8)
TARGETS[0]["masks"][0, 20:70, 10:60] = 1


def parameters(**options):
    with torch.device("meta"):
        model = build(MaskRCNNConfig(**options), seed=0)
    return sum(p.numel() for p in model.parameters())


def test_needs_torchvision_only_to_build():
    code = "import models.mask_rcnn, sys; models.mask_rcnn.MaskRCNNConfig(); assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg16"}, "backbone must be of .*'resnet50'.*got 'vgg16'"),
        ({"context": "attention"}, "context must be of"),
        ({"stages": (3, 2)}, r"stages must be of \(3, 4, 5\), got 2"),
    ],
)
def test_bad_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        MaskRCNNConfig(**options)


def test_the_plain_network_is_torchvisions(detection):
    with torch.device("meta"):
        model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    assert parameters(context="none", pretrained=False) == sum(p.numel() for p in model.parameters())
    assert parameters(context="none") == 44_401_393  # as torchvision documents it, with the batch norm frozen


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({"stages": (3,)}, 59_777),
        ({"stages": (4,)}, 213_505),
        ({"stages": (5,)}, 815_617),
        ({"stages": (3, 4, 5)}, 59_777 + 213_505 + 815_617),
        ({"stages": (4,), "kernels": 2}, 213_504 + 2 * 64 * 100 + 64 * 64 + 64 * 1024 + 1),
        ({"stages": (4,), "backbone": "resnext101_32x8d"}, 213_505),
        ({"stages": (4,), "context": "non_local"}, 4 * 1024 * 512 + 2 * 1024),
    ],
    ids=str,
)
def test_parameters_added(detection, options, added):
    assert parameters(**options) - parameters(**{**options, "context": "none"}) == added


@pytest.mark.parametrize("context", [name for name in CONTEXTS if name != "none"])
def test_fresh_context_changes_neither_weights_nor_detections(detection, context):
    before = torch.get_rng_state()
    plain = build(MaskRCNNConfig(**SMALL, context="none"), seed=0).eval()
    model = build(MaskRCNNConfig(**SMALL, context=context, stages=(3, 4, 5)), seed=0).eval()
    assert torch.equal(torch.get_rng_state(), before)
    old, new = plain.state_dict(), model.state_dict()
    assert all(torch.equal(new[key], old[key]) for key in old)
    with torch.no_grad():
        expected, got = plain(IMAGES)[0], model(IMAGES)[0]
    assert len(expected["boxes"]) and all(torch.equal(got[name], expected[name]) for name in expected)


def test_only_stem_and_stage_2_of_a_pretrained_backbone_are_not_trained(detection):
    model = build(MaskRCNNConfig(**{**SMALL, "pretrained": True}, stages=(3, 4, 5)), seed=0)
    frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert all(p.requires_grad for p in build(MaskRCNNConfig(**SMALL), seed=0).parameters())


def test_weights_of_a_classifier_fill_the_backbone(detection, tmp_path, monkeypatch):
    from torchvision.models import ResNet18_Weights, resnet18

    classifier = resnet18(weights=None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where torch.hub finds what it would download otherwise
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    file = tmp_path / "hub" / "checkpoints" / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(classifier.state_dict(), file)
    model = build(MaskRCNNConfig(**{**SMALL, "pretrained": True}, stages=(4,)), seed=0, download=True)
    assert torch.equal(model.backbone.body.layer3[1].conv1.weight, classifier.layer3[1].conv1.weight)


def test_a_training_step_reaches_every_layer(detection):
    model = build(MaskRCNNConfig(**SMALL, stages=(3, 4, 5)), seed=0)
    torch.manual_seed(0)
    losses = model(IMAGES * 2, TARGETS * 2)
    names = ["loss_box_reg", "loss_classifier", "loss_mask", "loss_objectness", "loss_rpn_box_reg"]
    assert sorted(losses) == names and all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(model.backbone.body[f"layer{layer}"].context.scale.grad != 0 for layer in (2, 3, 4))
