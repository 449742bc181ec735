"""ScanNet's facts: classes, nyu40 ids, colours, class weights, splits.

Two label spaces meet here. `nyu40` ids (0..40) are what scans are annotated with and what the scene files store;
`classes` (0..20) are what the network predicts: the 20 benchmark classes and 0 for everything else.
Sources: ScanNet's benchmark documentation (classes, colours, splits); the PointNet++ ScanNet code of 2017 (weights).
"""

import re
from typing import NamedTuple

import numpy as np


class SemanticClass(NamedTuple):
    name: str
    nyu40: int
    colour: tuple[int, int, int]
    weight: float  # share of the calibrated accuracy, before normalisation to 1


SEMANTIC_CLASSES = (  # class 1 first
    SemanticClass("wall", 1, (174, 199, 232), 0.388),
    SemanticClass("floor", 2, (152, 223, 138), 0.357),
    SemanticClass("cabinet", 3, (31, 119, 180), 0.024),
    SemanticClass("bed", 4, (255, 187, 120), 0.020),
    SemanticClass("chair", 5, (188, 189, 34), 0.038),
    SemanticClass("sofa", 6, (140, 86, 75), 0.025),
    SemanticClass("table", 7, (255, 152, 150), 0.033),
    SemanticClass("door", 8, (214, 39, 40), 0.022),
    SemanticClass("window", 9, (197, 176, 213), 0.004),
    SemanticClass("bookshelf", 10, (148, 103, 189), 0.016),
    SemanticClass("picture", 11, (196, 156, 148), 0.002),
    SemanticClass("counter", 12, (23, 190, 207), 0.006),
    SemanticClass("desk", 14, (247, 182, 210), 0.017),
    SemanticClass("curtain", 16, (219, 219, 141), 0.007),
    SemanticClass("refrigerator", 24, (255, 127, 14), 0.003),
    SemanticClass("shower curtain", 28, (158, 218, 229), 0.0004),
    SemanticClass("toilet", 33, (44, 160, 44), 0.002),
    SemanticClass("sink", 34, (112, 128, 144), 0.002),
    SemanticClass("bathtub", 36, (227, 119, 194), 0.002),
    SemanticClass("otherfurniture", 39, (82, 84, 163), 0.029),
)
NUM_CLASSES = 1 + len(SEMANTIC_CLASSES)  # 21, with class 0
CLASS_NAMES = ("none", *(c.name for c in SEMANTIC_CLASSES))
NUM_NYU40 = 41  # ids 0 (no annotation) to 40

CLASS_TO_NYU40 = np.array([0, *(c.nyu40 for c in SEMANTIC_CLASSES)], dtype=np.uint8)  # (21,)
NYU40_TO_CLASS = np.zeros(NUM_NYU40, dtype=np.uint8)  # (41,); ids outside the 20 are class 0
NYU40_TO_CLASS[CLASS_TO_NYU40] = np.arange(NUM_CLASSES)
PALETTE = np.array([(0, 0, 0), *(c.colour for c in SEMANTIC_CLASSES)], dtype=np.uint8)  # (21, 3) RGB
CALIBRATION_WEIGHTS = np.array([0.0, *(c.weight for c in SEMANTIC_CLASSES)])  # (21,)

# labels.ply of these scans holds ids that nyu40 does not have; they mean nothing and count as unannotated
KNOWN_STRAY_LABELS = {"scene0270_00": {50}, "scene0270_02": {50}, "scene0384_00": {149}}

SPLITS = ("train", "val", "test")
SPLIT_SIZES = {"train": 1201, "val": 312, "test": 100}  # scans, ScanNet v2
FIRST_TEST_SPACE, LAST_TEST_SPACE = 707, 806
VAL_SPACES = frozenset(
    int(space)
    for space in """
    11 15 19 25 30 46 50 63 64 77 81 84 86 88 95 100 131 139 144 146 149 153 164 169 187 193 196 203 207 208 217
    221 222 231 246 249 251 256 257 277 278 300 304 307 314 316 328 329 334 338 342 343 351 353 354 355 356 357
    377 378 382 389 406 412 414 423 426 427 430 432 435 441 458 461 462 474 488 490 494 496 500 518 527 535 549
    550 552 553 558 559 565 568 574 575 578 580 583 591 593 595 598 599 606 607 608 609 616 618 621 629 633 643
    644 645 647 648 651 652 653 655 658 660 663 664 665 670 671 678 684 685 686 689 690 693 695 696 697 699 700
    701 702 704
    """.split()
)
SCAN_ID = re.compile(r"scene(\d{4})_(\d{2})")


def official_split(scan_id: str) -> str:
    """Split of ScanNet v2 ("train", "val" or "test") that a scan such as "scene0011_00" belongs to.

    Raises ValueError if the id is not of that form or its space is not one of ScanNet's (0..806).
    """
    match = SCAN_ID.fullmatch(scan_id)
    if match is None:
        raise ValueError(f"'{scan_id}' is not a ScanNet scan id (scene<4-digit space>_<2-digit scan>); give --splits")
    space = int(match.group(1))
    if space > LAST_TEST_SPACE:
        raise ValueError(f"'{scan_id}': ScanNet has no space {space} (0 to {LAST_TEST_SPACE}); give --splits")
    if space >= FIRST_TEST_SPACE:
        return "test"
    return "val" if space in VAL_SPACES else "train"
