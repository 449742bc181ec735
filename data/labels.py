"""The label space: classes, nyu40 ids, colours, class weights.

Two numberings meet here. `nyu40` ids (0..40) are what scans are annotated with and what the scene files store;
`classes` (0..20) are what the network predicts: the 20 benchmark classes and 0 for everything else.
Sources: ScanNet's benchmark documentation (classes, colours); the PointNet++ ScanNet code of 2017 (weights).
"""

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
