import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("data.coco", exc_type=ImportError)

from data.coco import Batches, CocoError, Images, TrainingImages, evaluate


@pytest.fixture(scope="module")
def training(coco_data):
    return TrainingImages(coco_data, "train2017", seed=0)


def drawn(training, index, mirrored):
    """Item of an image at a position where it is mirrored, or is not."""
    plain = training.read(index)[0]
    for position in range(20):
        image, target = training[position, index]
        if torch.equal(image, plain) != mirrored:
            return image, target
    raise AssertionError("20 positions gave the same")


def test_crowds_slivers_and_empty_images_are_not_trained_on(training):
    assert [training.id_of(index) for index in range(len(training))] == [11, 12, 13]
    _, target = drawn(training, 2, mirrored=False)
    assert target["image_id"] == 13 and target["labels"].tolist() == [1]
    assert training.category_ids == (3, 7)


def test_targets_are_what_was_drawn(training):
    image, target = drawn(training, 0, mirrored=False)
    assert image.shape == (3, 150, 160) and image.dtype == torch.float32 and 0 <= image.min() < image.max() <= 1
    assert target["boxes"].tolist() == [[20, 30, 90, 110], [100, 20, 150, 90]]
    assert target["labels"].tolist() == [1, 2]  # categories 3 and 7
    masks = target["masks"]
    assert masks.shape == (2, 150, 160) and masks.dtype == torch.uint8
    assert masks.sum((1, 2)).tolist() == pytest.approx([70 * 80, 50 * 70 / 2], rel=0.03)
    assert image[0][masks[0].bool()].mean() > 0.8 and image[2][masks[1].bool()].mean() > 0.8
    assert all(type(value) is torch.Tensor for value in (image, *list(target.values())[:3]))


def test_half_of_the_images_are_mirrored_with_their_targets(training):
    (plain, target), (image, mirrored) = (drawn(training, 0, mirrored) for mirrored in (False, True))
    assert torch.equal(image, plain.flip(2)) and torch.equal(mirrored["masks"], target["masks"].flip(2))
    assert mirrored["boxes"].tolist() == [[70, 30, 140, 110], [10, 20, 60, 90]]
    flips = sum(not torch.equal(training[position, 0][0], plain) for position in range(60))
    assert 18 < flips < 42
    assert torch.equal(training[7, 0][0], training[7, 0][0])


def test_every_image_is_seen_once_before_any_is_seen_again():
    keys = [key for batch in Batches(images=5, batch_size=4, steps=10, seed=3) for key in batch]
    assert [position for position, _ in keys] == list(range(40))
    rounds = np.array([index for _, index in keys]).reshape(8, 5)
    assert (np.sort(rounds, axis=1) == range(5)).all() and len({tuple(order) for order in rounds}) > 1


def test_batches_do_not_depend_on_where_a_run_began_or_on_the_number_of_ranks():
    whole = list(Batches(5, 4, steps=6, seed=3))
    assert list(Batches(5, 4, steps=6, seed=3, first_step=2)) == whole[2:]
    assert len(Batches(5, 4, steps=6, seed=3, first_step=2)) == 4
    shares = [list(Batches(5, 4, steps=6, seed=3, rank=rank, ranks=2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == whole
    assert list(Batches(5, 4, steps=6, seed=4)) != whole


class Oracle(nn.Module):
    """Answers what the annotations say: with `share` of every mask and box, counted from the left."""

    def __init__(self, images, share=1.0, score=0.9):
        super().__init__()
        self.images, self.share, self.score, self.calls = images, share, score, 0
        self.config = type("Config", (), {"category_ids": images.category_ids})

    def forward(self, batch):
        image, _, annotations = self.images.read(self.calls)
        assert torch.equal(batch[0], image)
        self.calls += 1
        annotations = [a for a in annotations if not a["iscrowd"]]
        boxes, masks = torch.zeros(len(annotations), 4), torch.zeros(len(annotations), 1, *image.shape[1:])
        for k, annotation in enumerate(annotations):
            x, y, width, height = annotation["bbox"]
            boxes[k] = torch.tensor([x, y, x + self.share * width, y + height])
            masks[k, 0] = torch.from_numpy(self.images.coco.annToMask(annotation))
            masks[k, 0, :, int(x + self.share * width) :] = 0
        labels = torch.tensor([1 + self.images.category_ids.index(a["category_id"]) for a in annotations])
        return [{"boxes": boxes, "masks": masks, "labels": labels, "scores": torch.full((len(boxes),), self.score)}]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_annotations_themselves_score_one(coco_data, workers):
    images = Images(coco_data, "val2017")
    assert len(images) == 5
    scores = evaluate(Oracle(images), images, torch.device("cpu"), workers)
    known = ("ap", "ap50", "ap75")
    assert [scores[f"{kind}_{name}"] for kind in ("box", "mask") for name in known] == pytest.approx([1] * 6)


def test_parts_of_the_objects_count_at_low_overlap_alone(coco_data):
    images = Images(coco_data, "val2017")
    scores = evaluate(Oracle(images, share=0.72), images, torch.device("cpu"))
    assert scores["box_ap50"] == pytest.approx(1) and scores["box_ap75"] == 0
    assert scores["box_ap"] == pytest.approx(0.5)  # at 0.5, 0.55, 0.6, 0.65, 0.7 of ten thresholds
    assert 0 < scores["mask_ap"] < 1 and scores["mask_ap"] != scores["box_ap"]


def test_no_detections_score_zero(coco_data):
    images = Images(coco_data, "val2017")

    class Blind(Oracle):
        def forward(self, batch):
            return [{name: values[:0] for name, values in super().forward(batch)[0].items()}]

    scores = evaluate(Blind(images), images, torch.device("cpu"))
    assert scores["box_ap"] == scores["mask_ap50"] == 0


def test_bad_sets_are_refused_by_name(coco_data, tmp_path):
    with pytest.raises(CocoError, match="instances_val2017.json is not there"):
        Images(tmp_path, "val2017")
    shutil.copytree(coco_data, tmp_path / "coco")
    annotations = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    content = json.loads(annotations.read_text())
    for text in ("{", "[]", '{"annotations": [1]}', "{}", json.dumps({**content, "categories": []})):
        annotations.write_text(text)
        with pytest.raises(CocoError, match="instances_val2017.json: "):
            Images(tmp_path / "coco", "val2017")
    annotations.write_text(json.dumps({**content, "annotations": []}))
    assert len(Images(tmp_path / "coco", "val2017")) == 5
    with pytest.raises(CocoError, match="no image of val2017 has an annotated object"):
        TrainingImages(tmp_path / "coco", "val2017", seed=0)
