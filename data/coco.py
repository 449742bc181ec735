"""COCO's images and instance masks for training and evaluation, and its box and mask average precision.

On disk, as COCO is unpacked: <root>/annotations/instances_<split>.json and <root>/<split>/<file name>, splits
train2017 and val2017. Any set in that form will do. Needs torchvision and pycocotools.

Shapes: H, W of an image as it lies on disk (the network scales it), n objects in it.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

try:
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    from torchvision import tv_tensors
    from torchvision.datasets import CocoDetection
    from torchvision.transforms.v2 import functional as transforms
except (ImportError, RuntimeError) as missing:  # torchvision built for another torch raises RuntimeError
    advice = "use an environment made with pip install -r scripts/requirements-coco.txt"
    raise ImportError(f"{missing}; {advice}") from missing

MIN_BOX_SIDE = 1  # pixels; annotations below are of no use to the detector, as in the references of torchvision
FLIP = 0.5  # of the training images
SCORES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # COCOeval's first six, in its order

Key = tuple[int, int]  # position in the training run, index of the image


class CocoError(Exception):
    """The message names the file, what is wrong with it and what to do."""


class Images(Dataset):
    """The images of a split, (3, H, W) float32 in [0, 1], with their COCO ids. For evaluation: none is left out."""

    def __init__(self, root: str | Path, split: str):
        """CocoError if the annotations or the images are not where COCO has them."""
        folder, annotations = Path(root) / split, Path(root) / "annotations" / f"instances_{split}.json"
        for path in (annotations, folder):
            if not path.exists():
                raise CocoError(f"{path} is not there; --data has to be a folder with COCO's annotations/ and {split}/")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
                self.detection = CocoDetection(folder, str(annotations))
            self.coco: COCO = self.detection.coco
            self.category_ids = tuple(sorted(self.coco.cats))
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
            raise CocoError(f"{annotations}: is no instance annotation file of COCO ({error!r})") from error
        if not self.category_ids or not self.detection.ids:
            raise CocoError(f"{annotations}: lists no images or no categories")
        self.indices: Sequence[int] = range(len(self.detection.ids))

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[Tensor, int, list[dict]]:
        """Image, COCO id, and COCO's annotations of image `index`."""
        image, annotations = self.detection[self.indices[index]]
        pixels = transforms.to_dtype(transforms.to_image(image), torch.float32, scale=True)
        return pixels.as_subclass(Tensor), self.id_of(index), annotations

    def id_of(self, index: int) -> int:
        return self.detection.ids[self.indices[index]]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(index)[:2]


class TrainingImages(Images):
    """Images with targets, half of them mirrored. Crowds are not trained on, images without other objects left out.

    Items, for a key of Batches: image (3, H, W) and boxes (n, 4) x y x y in pixels, labels (n,) int64 in 1...,
    masks (n, H, W) uint8, image_id. What is drawn follows from (seed, position), whichever process draws it.
    """

    def __init__(self, root: str | Path, split: str, seed: int):
        super().__init__(root, split)
        self.seed = seed
        self.labels = {category: label for label, category in enumerate(self.category_ids, start=1)}
        usable = (any(map(trainable, self.coco.imgToAnns[image])) for image in self.detection.ids)
        self.indices = [index for index, good in enumerate(usable) if good]
        if not self.indices:
            raise CocoError(f"{root}: no image of {split} has an annotated object to train on")

    def __getitem__(self, key: Key) -> tuple[Tensor, dict]:
        position, index = key
        image, image_id, annotations = self.read(index)
        annotations = [annotation for annotation in annotations if trainable(annotation)]
        corners = torch.tensor([annotation["bbox"] for annotation in annotations], dtype=torch.float32)
        corners[:, 2:] += corners[:, :2]  # from x y width height
        boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=tuple(image.shape[1:]))
        masks = tv_tensors.Mask(np.stack([self.coco.annToMask(annotation) for annotation in annotations]))
        if np.random.default_rng([self.seed, 1, position]).random() < FLIP:
            image, boxes, masks = map(transforms.horizontal_flip, (image, boxes, masks))
        target = {
            "boxes": boxes.as_subclass(Tensor),
            "masks": masks.as_subclass(Tensor),
            "labels": torch.tensor([self.labels[annotation["category_id"]] for annotation in annotations]),
            "image_id": image_id,
        }
        return image, target


def trainable(annotation: dict) -> bool:
    return not annotation.get("iscrowd") and min(annotation["bbox"][2:]) >= MIN_BOX_SIDE


class Batches(Sampler[list[Key]]):
    """The keys of each training step, from `first_step` on: a rank's share of the step's images.

    Images come in a new random order each time that all were seen; a batch may hold the end of one order and the
    beginning of the next, so that none is left out. The order follows from the seed, and not from the number of ranks.
    """

    def __init__(
        self, images: int, batch_size: int, steps: int, seed: int, first_step: int = 0, rank: int = 0, ranks: int = 1
    ):
        self.images, self.batch_size, self.steps, self.seed = images, batch_size, steps, seed
        self.first_step, self.rank, self.ranks = first_step, rank, ranks

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Key]]:
        current, order = -1, None
        for step in range(self.first_step, self.steps):
            batch = []
            for position in range(step * self.batch_size + self.rank, (step + 1) * self.batch_size, self.ranks):
                epoch, place = divmod(position, self.images)
                if epoch != current:
                    current, order = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.images)
                batch.append((position, int(order[place])))
            yield batch


@torch.inference_mode()
def evaluate(model: nn.Module, images: Images, device: torch.device, workers: int = 0) -> dict[str, float | None]:
    """COCO's average precision of boxes and masks, {"box_ap", "box_ap50", ..., "mask_ap_large"}, fractions in [0, 1].

    None where the split has no object of that size. `model` is in evaluation mode afterwards.
    """
    model.eval()
    category_ids, boxes, masks = model.config.category_ids, [], []
    loader = DataLoader(images, batch_size=None, num_workers=workers)
    for image, image_id in tqdm(loader, desc="images", unit="image", leave=False, disable=None):
        found = {name: values.cpu() for name, values in model([image.to(device)])[0].items()}
        for k, (x0, y0, x1, y1) in enumerate(found["boxes"].tolist()):
            detection = {
                "image_id": image_id,
                "category_id": category_ids[found["labels"][k] - 1],
                "score": found["scores"][k].item(),
            }
            mask = np.asfortranarray(found["masks"][k, 0].numpy() > 0.5, dtype=np.uint8)  # (H, W)
            boxes.append({**detection, "bbox": [x0, y0, x1 - x0, y1 - y0]})
            masks.append({**detection, "segmentation": rle.encode(mask)})
    scores = {}
    for name, kind, detections in (("box", "bbox", boxes), ("mask", "segm", masks)):
        values = _average_precision(images.coco, kind, detections)
        scores |= {f"{name}_{score}": value for score, value in zip(SCORES, values, strict=True)}
    return scores


def _average_precision(truth: COCO, kind: str, detections: list[dict]) -> list[float | None]:
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(detections) if detections else COCO()  # loadRes fails on an empty list
        if not detections:
            found.dataset = {"images": truth.dataset["images"], "categories": [], "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value < 0 else float(value) for value in evaluation.stats[: len(SCORES)]]
