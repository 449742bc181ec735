import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("data.coco", exc_type=ImportError)

from data.coco import CocoError, TrainingImages, evaluate, open_split


@pytest.fixture(scope="module")
def training(coco_data):
    return TrainingImages(coco_data, "train2017", seed=0)


@pytest.fixture(scope="module")
def images(coco_data):
    return open_split(coco_data, "val2017")


def drawn(training, images, index, mirrored):
    """Item of an image at a position where it is mirrored, or is not."""
    plain = images[index][0]
    for position in range(20):
        image, target = training[0, position, index]
        if torch.equal(image, plain) != mirrored:
            return image, target
    raise AssertionError("20 positions gave the same")


def test_crowds_slivers_and_empty_images_are_not_trained_on(training, images):
    assert [training[0, 0, index][1]["image_id"] for index in range(len(training))] == [11, 12, 13]
    _, target = drawn(training, images, 2, mirrored=False)
    assert target["image_id"] == 13 and target["labels"].tolist() == [3]
    assert training.classes == 8


def test_targets_are_what_was_drawn(training, images):
    image, target = drawn(training, images, 0, mirrored=False)
    assert image.shape == (3, 150, 160) and image.dtype == torch.float32 and 0 <= image.min() < image.max() <= 1
    assert target["boxes"].tolist() == [[20, 30, 90, 110], [100, 20, 150, 90]]
    assert target["labels"].tolist() == [3, 7]
    masks = target["masks"]
    assert masks.shape == (2, 150, 160) and masks.dtype == torch.uint8
    assert masks.sum((1, 2)).tolist() == pytest.approx([70 * 80, 50 * 70 / 2], rel=0.03)
    assert image[0][masks[0].bool()].mean() > 0.8 and image[2][masks[1].bool()].mean() > 0.8
    assert all(type(value) is torch.Tensor for value in (image, target["boxes"], target["labels"], masks))


def test_half_of_the_images_are_mirrored_with_their_targets(training, images):
    (plain, target), (image, mirrored) = (drawn(training, images, 0, mirrored) for mirrored in (False, True))
    assert torch.equal(image, plain.flip(2)) and torch.equal(mirrored["masks"], target["masks"].flip(2))
    assert mirrored["boxes"].tolist() == [[70, 30, 140, 110], [10, 20, 60, 90]]
    flipped = np.array([[not torch.equal(training[epoch, k, 0][0], plain) for k in range(30)] for epoch in (0, 1)])
    assert 18 < flipped.sum() < 42 and not np.array_equal(*flipped)
    assert torch.equal(training[1, 7, 0][0], training[1, 7, 0][0])


class Oracle(nn.Module):
    """Answers what the annotations say: with `share` of every mask and box, counted from the left."""

    def __init__(self, images, share=1.0, score=0.9):
        super().__init__()
        self.images, self.share, self.score, self.calls = images, share, score, 0

    def forward(self, batch):
        image, annotations = self.images[self.calls]
        assert torch.equal(batch[0], image)
        self.calls += 1
        annotations = [a for a in annotations if not a["iscrowd"]]
        boxes, masks = torch.zeros(len(annotations), 4), torch.zeros(len(annotations), 1, *image.shape[1:])
        for k, annotation in enumerate(annotations):
            x, y, width, height = annotation["bbox"]
            boxes[k] = torch.tensor([x, y, x + self.share * width, y + height])
            masks[k, 0] = torch.from_numpy(self.images.coco.annToMask(annotation))
            masks[k, 0, :, int(x + self.share * width) :] = 0
        labels = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)
        return [{"boxes": boxes, "masks": masks, "labels": labels, "scores": torch.full((len(boxes),), self.score)}]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_annotations_themselves_score_one(images, workers):
    assert len(images) == 5
    scores = evaluate(Oracle(images), images, torch.device("cpu"), workers)
    known = ("ap", "ap50", "ap75")
    assert [scores[f"{kind}_{name}"] for kind in ("box", "mask") for name in known] == pytest.approx([1] * 6)
    assert scores["box_ap_small"] is None and len(scores) == 12


def test_parts_of_the_objects_count_at_low_overlap_alone(images):
    scores = evaluate(Oracle(images, share=0.72), images, torch.device("cpu"))
    assert scores["box_ap50"] == pytest.approx(1) and scores["box_ap75"] == 0
    assert scores["box_ap"] == pytest.approx(0.5)  # at 0.5, 0.55, 0.6, 0.65, 0.7 of ten thresholds
    assert 0 < scores["mask_ap"] < 1 and scores["mask_ap"] != scores["box_ap"]


def test_no_detections_score_zero(images):
    class Blind(Oracle):
        def forward(self, batch):
            return [{name: values[:0] for name, values in super().forward(batch)[0].items()}]

    scores = evaluate(Blind(images), images, torch.device("cpu"))
    assert scores["box_ap"] == scores["mask_ap50"] == 0 and scores["mask_ap_small"] is None


def test_bad_sets_are_refused_by_name(coco_data, tmp_path):
    with pytest.raises(CocoError, match="instances_val2017.json is not there"):
        open_split(tmp_path, "val2017")
    shutil.copytree(coco_data, tmp_path / "coco")
    annotations = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    content = json.loads(annotations.read_text())
    categories = [{"id": 0, "name": "rectangle"}, {"id": 3, "name": "triangle"}]
    for text in (
        "{",
        "[]",
        '{"annotations": [1]}',
        "{}",
        *(json.dumps({**content, "categories": c}) for c in ([], categories)),
    ):
        annotations.write_text(text)
        with pytest.raises(CocoError, match="instances_val2017.json: "):
            open_split(tmp_path / "coco", "val2017")
    for boxless in ({}, {"annotations": [{"id": 1, "image_id": 11, "category_id": 3}]}):
        annotations.write_text(json.dumps({**content, "annotations": [], **boxless}))
        assert len(open_split(tmp_path / "coco", "val2017")) == 5
        with pytest.raises(CocoError, match="no images with objects to train on|no instance annotation file"):
            TrainingImages(tmp_path / "coco", "val2017", seed=0)
