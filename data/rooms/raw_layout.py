"""Generated rooms, annotated as people do it and written in ScanNet's raw layout.

V vertices, F triangles, S segments.
"""

import json
from pathlib import Path

import numpy as np

from data.coloured_ply import write_coloured
from data.labels import SCANNET20

TABLE = "scannetv2-labels.combined.tsv"
FIRST_SPACE = {"train": 1000, "val": 6000}  # ScanNet's own spaces end at 806
MOST_SCENES = 6000  # more would meet the validation's spaces
UNANNOTATED = (0.08, 0.23)  # share of a scan's vertices
WRONG_SEGMENTS = 0.01


def scan_id(split: str, index: int) -> str:
    return f"scene{FIRST_SPACE[split] + index}_00"


def annotate(
    clutter: np.ndarray,
    segment: np.ndarray,
    owner: np.ndarray,
    rng: np.random.Generator,
    beside: np.ndarray | None = None,
) -> np.ndarray:
    """Owner that each segment (S,) is annotated with, or -1: whole segments, clutter and borders first; 1 % are wrong.

    Args: clutter (O,) bool by owner, segment (V,) of each vertex, owner (S,) of each segment,
        beside (S,) the owner that one is mistaken for; None: of any.
    """
    sizes = np.bincount(segment)
    clutter = clutter[owner]
    border = sizes < np.median(sizes) / 2  # pieces that occlusion cut
    order = np.argsort(rng.exponential(size=len(sizes)) / np.where(clutter | border, 1.8, 1.0))
    annotated = np.where(
        rng.random(len(sizes)) < WRONG_SEGMENTS, rng.choice(owner, len(sizes)) if beside is None else beside, owner
    )
    annotated[order[np.cumsum(sizes[order]) < rng.uniform(*UNANNOTATED) * len(segment)]] = -1
    return annotated


def write_raw(
    scans: Path, name: str, type_: str, xyz, colour, faces, nyu40, segment, annotated, owners: list[str], facts: dict,
    align: np.ndarray,
) -> None:  # fmt: skip
    """Write scans/<name>/ of one room.

    Args:
        type_: of the room.
        xyz: (V, 3) float32. colour: (V, 3) uint8. faces: (F, 3) int. nyu40: (V,) ids. segment: (V,) int.
        annotated: (S,) owner that each segment is annotated with, or -1.
        owners: raw category by owner.
        facts: by owner, what else the side file says of it: kind, pair and companion (an owner, or None).
        align: (4, 4) axis alignment.
    """
    folder, mesh = scans / name, f"{name}_vh_clean_2"
    folder.mkdir(parents=True, exist_ok=True)
    write_coloured(folder / f"{mesh}.ply", xyz, colour, faces)
    write_coloured(folder / f"{mesh}.labels.ply", xyz, SCANNET20.palette[SCANNET20.class_of[nyu40]], faces, nyu40)
    object_ids = {int(k): i for i, k in enumerate(np.unique(annotated[annotated >= 0]))}
    groups, objects = [], []
    for k, object_id in object_ids.items():
        about = {"objectId": object_id}
        groups.append(
            {"id": object_id, **about, "segments": np.flatnonzero(annotated == k).tolist(), "label": owners[k]}
        )
        objects.append({**about, "class": owners[k], "kind": "none", "pair": None, "companion": None})
        if k in facts:
            companion = facts[k]["companion"]
            objects[-1] |= {**facts[k], "companion": None if companion is None else object_ids.get(companion)}
    for file, content in {
        f"{mesh}.0.010000.segs.json": {"sceneId": name, "segIndices": segment.tolist()},
        f"{name}.aggregation.json": {
            "sceneId": f"scannet.{name}",
            "segGroups": groups,
            "segmentsFile": f"scannet.{mesh}.0.010000.segs.json",
        },
        f"{name}.kinds.json": {"sceneType": type_, "objects": objects},
    }.items():
        (folder / file).write_text(json.dumps(content))
    axes = " ".join(f"{value:.6f}" for value in align.ravel())
    (folder / f"{name}.txt").write_text(f"axisAlignment = {axes}\nsceneType = {type_}\n")


def turned_away(xyz: np.ndarray, yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """xyz (V, 3) as a scan has them, float32 in a frame of its own, and the (4, 4) that aligns the axes again."""
    align = np.eye(4)
    align[:2, :2] = [[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]
    xyz = xyz @ align[:3, :3]
    return (xyz - [*xyz[:, :2].min(0), 0]).astype(np.float32), align
