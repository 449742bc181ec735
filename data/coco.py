"""COCO's images and instance masks for training and evaluation, and its box and mask average precision.

On disk, as COCO is unpacked: <root>/annotations/instances_<split>.json and <root>/<split>/<file name>, splits
train2017 and val2017. Any set in that form will do. Labels are COCO's category ids, as in torchvision's own networks.
Needs torchvision and pycocotools.

Shapes: H, W of an image as it lies on disk (the network scales it), n objects in it.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from data.datasets import SampleKey

try:
    from pycocotools import mask as rle
    from pycocotools.cocoeval import COCOeval
    from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
    from torchvision.ops import box_convert
    from torchvision.transforms import v2
except (ImportError, RuntimeError) as missing:  # torchvision built for another torch raises RuntimeError
    advice = "use an environment made with pip install -r scripts/coco/requirements.txt"
    raise ImportError(f"{missing}; {advice}") from missing

MIN_BOX_SIDE = 1  # pixels; annotations below are of no use to the detector, as in the references of torchvision
FLIP = 0.5  # of the training images
SCORES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # COCOeval's first six, in its order

to_plain_tensor = v2.ToPureTensor()
to_pixels = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), to_plain_tensor])
mirror = v2.RandomHorizontalFlip(p=1)  # what is random is drawn by the data set


class CocoError(Exception):
    """The message names the file, what is wrong with it and what to do."""


def open_split(root: str | Path, split: str, for_training: bool = False) -> CocoDetection:
    """The images of a split, in the order of their COCO ids: (3, H, W) float32 in [0, 1], with COCO's annotations.

    All of them; for_training those with objects, and of their annotations neither crowds nor slivers.
    CocoError if the annotations or the images are not where COCO has them.
    """
    folder, path = Path(root) / split, Path(root) / "annotations" / f"instances_{split}.json"
    for needed in (path, folder):
        if not needed.exists():
            raise CocoError(f"{needed} is not there; --data has to be a folder with COCO's annotations/ and {split}/")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            images = CocoDetection(folder, str(path), transform=to_pixels)
            if for_training:
                annotations = images.coco.dataset["annotations"]
                images.coco.dataset["annotations"] = [a for a in annotations if _is_trained_on(a)]
                images.coco.createIndex()
                images.ids = [image for image in images.ids if image in images.coco.imgToAnns]
        first_label = min(images.coco.cats, default=0)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise CocoError(f"{path}: is no instance annotation file of COCO ({error!r})") from error
    if not images.ids:
        raise CocoError(f"{path}: lists no images{' with objects to train on' if for_training else ''}")
    if first_label < 1:
        raise CocoError(f"{path}: needs categories with ids of at least 1, as 0 is the background")
    return images


def _is_trained_on(annotation: dict) -> bool:
    return not annotation.get("iscrowd") and min(annotation["bbox"][2:]) >= MIN_BOX_SIDE


class TrainingImages(Dataset):
    """Images with objects, and targets; half of them are mirrored.

    Items, for a key of ChunkBatches: image (3, H, W) and boxes (n, 4) x y x y in pixels, labels (n,) int64,
    masks (n, H, W) uint8, image_id. What is drawn follows from the seed and the key, whichever process draws it.
    """

    def __init__(self, root: str | Path, split: str, seed: int):
        images, self.seed = open_split(root, split, for_training=True), seed
        self.classes = 1 + max(images.coco.cats)  # with the background, which is 0
        self.images = wrap_dataset_for_transforms_v2(images, target_keys=("boxes", "labels", "masks", "image_id"))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, dict]:
        epoch, position, index = key
        item = self.images[index]
        if np.random.default_rng([self.seed, epoch, 1, position]).random() < FLIP:
            item = mirror(*item)
        return to_plain_tensor(*item)


@torch.inference_mode()
def evaluate(model: nn.Module, images: CocoDetection, device: torch.device, workers: int = 0) -> dict:
    """COCO's average precision of boxes and masks, {"box_ap", "box_ap50", ..., "mask_ap_large"}, fractions in [0, 1].

    None where the split has no object of that size. `model` is in evaluation mode afterwards.
    """
    model.eval()
    loader = DataLoader(images, batch_size=None, num_workers=workers)
    progress = tqdm(loader, desc="images", unit="image", leave=False, disable=None)
    boxes, masks = [], []  # what was found, as COCO's result files have it
    for image_id, (image, _) in zip(images.ids, progress, strict=True):
        found = {name: values.cpu() for name, values in model([image.to(device)])[0].items()}
        pixels = (found["masks"][:, 0] > 0.5).permute(1, 2, 0).numpy()  # (H, W, n)
        codes = rle.encode(np.asfortranarray(pixels, dtype=np.uint8))
        corners = box_convert(found["boxes"], "xyxy", "xywh").tolist()
        for k, (label, score) in enumerate(zip(found["labels"].tolist(), found["scores"].tolist(), strict=True)):
            detection = {"image_id": image_id, "category_id": label, "score": score}
            boxes.append({**detection, "bbox": corners[k]})
            masks.append({**detection, "segmentation": codes[k]})
    # pycocotools takes no empty list of results; this one overlaps with nothing
    nothing = {"image_id": images.ids[0], "category_id": min(images.coco.cats), "score": 0.0, "bbox": [0, 0, 0, 0]}
    scores = {}
    for name, kind, detections in (("box", "bbox", boxes), ("mask", "segm", masks)):
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(images.coco, images.coco.loadRes(detections or [nothing]), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        values = (None if value < 0 else float(value) for value in evaluation.stats[: len(SCORES)])
        scores |= {f"{name}_{score}": value for score, value in zip(SCORES, values, strict=True)}
    return scores
