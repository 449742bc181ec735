import json
import os

import numpy as np
import pytest

from data.labels import SCANNET20, histogram
from data.scenes import FORMAT_VERSION, Scene, write_manifest, write_scene

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py


@pytest.fixture(scope="session")
def tiny_data(rooms):
    """A preprocessed data set: 3 training, 2 validation and 1 unlabelled test scene, each one small room."""
    return rooms(train=3, val=2, test=1)


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """A function that makes a preprocessed data set of so many small rooms; those of the test split are unlabelled."""

    def make(train, val, test=0):
        folder = tmp_path_factory.mktemp("rooms")
        names = [f"room{number}_00" for number in range(train + val + test)]
        splits = {"train": names[:train], "val": names[train : train + val], "test": names[train + val :]}
        (folder / "scenes").mkdir()
        entries = {}
        for seed, name in enumerate(names):
            scene = _room(name, seed, labelled=name not in splits["test"])
            write_scene(folder / "scenes" / f"{name}.h5", scene)
            labels = scene.label if scene.label is not None else np.zeros(0, np.uint16)
            entries[name] = {
                "file": f"scenes/{name}.h5",
                "vertices": len(scene.xyz),
                "labelled": scene.label is not None,
                "sha256": "",
                "histogram": histogram(labels),
            }
        expected = {split: len(names) for split, names in splits.items()}
        manifest = {"format_version": FORMAT_VERSION, "label_space": SCANNET20, "splits": splits}
        manifest |= {"expected": expected, "failed": {}}
        write_manifest(folder, {**manifest, "scenes": entries})
        return folder

    return make


def _room(name, seed, labelled):
    """Floor, a wall, a table, unannotated clutter and a ceiling (nyu40 2, 1, 7, 0, 22)."""
    rng = np.random.default_rng(seed)
    label = rng.choice(np.array([2, 1, 7, 0, 22], dtype=np.uint16), size=5_000, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    xyz = (rng.random((5_000, 3)) * (2.2, 1.8, 2.2)).astype(np.float32)
    xyz[label == 2, 2] = 0
    xyz[label == 1, 0] = 0
    xyz[label == 22, 2] = 2.2
    table = label == 7
    xyz[table] = xyz[table] * np.float32([0.4, 0.4, 0]) + np.float32([0.8, 0.6, 0.75])
    return Scene(name, xyz, label if labelled else None, np.full((5_000, 3), 128, np.uint8))


@pytest.fixture(scope="session")
def coco_data(tmp_path_factory):
    """A set in COCO's form, train2017 and val2017 alike: bright rectangles (category 3) and triangles (category 7).

    Images 11 to 13 have one or two objects each, 14 has a crowd alone and 15 nothing; 13 has a crowd too, and in
    train2017 a rectangle half a pixel wide.
    """
    from PIL import Image, ImageDraw

    root = tmp_path_factory.mktemp("coco")
    objects = {  # image -> category and corners
        11: [(3, (20, 30, 90, 30, 90, 110, 20, 110)), (7, (100, 90, 150, 90, 125, 20))],
        12: [(7, (15, 140, 105, 140, 60, 35))],
        13: [(3, (40, 40, 120, 40, 120, 90, 40, 90))],
        14: [],
        15: [],
    }
    images, annotations = [], []
    for image, shapes in objects.items():
        height, width = (120, 160) if image == 14 else (150, 160)
        images.append({"id": image, "file_name": f"{image:012}.png", "height": height, "width": width})
        for category, corners in shapes:
            x, y = corners[0::2], corners[1::2]
            box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
            area = box[2] * box[3] / (1 if category == 3 else 2)
            annotations.append({"category_id": category, "segmentation": [corners], "bbox": box, "area": area})
            annotations[-1] |= {"image_id": image, "iscrowd": 0}
        if image in (13, 14):  # a crowd: the last 10 columns, as an uncompressed run length code by columns
            code = {"size": [height, width], "counts": [height * (width - 10), height * 10]}
            annotations.append({"category_id": 3, "segmentation": code, "bbox": [width - 10, 0, 10, height]})
            annotations[-1] |= {"image_id": image, "area": height * 10, "iscrowd": 1}
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    sliver = {**annotations[0], "id": 99, "image_id": 13, "bbox": [0, 0, 0.5, 50], "area": 25}
    sliver["segmentation"] = [[0, 0, 0.5, 0, 0.5, 50, 0, 50]]
    categories = [{"id": 7, "name": "triangle"}, {"id": 3, "name": "rectangle"}]

    (root / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        for entry in images:
            noise = np.random.default_rng(entry["id"]).integers(0, 60, (entry["height"], entry["width"], 3), np.uint8)
            picture = Image.fromarray(noise)
            for category, corners in objects[entry["id"]]:
                colour = (220, 60, 40) if category == 3 else (40, 90, 230)
                ImageDraw.Draw(picture).polygon(corners, fill=colour)
            picture.save(root / split / entry["file_name"])
        listed = annotations + [sliver] * (split == "train2017")
        content = {"images": images, "annotations": listed, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
