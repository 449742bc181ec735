"""What is odd about a scan that should be a room in metres, standing on its floor. It is told; nothing is changed."""

from typing import NamedTuple

import numpy as np

from data.chunks import cubes
from data.ply import FINE_STEP

TALL = 20.0  # m; a taller scan is a hall, or not in metres
SMALL = 1.0  # m; one that is smaller in every direction is an object, or not in metres
CUBE = 0.1  # m, of the cells by which flat areas and density are measured
# Largest flat area across another axis / across +z: at most 1.1 in 16 generated rooms, 0.9 to 5.6 if they lie on a side
STEEP = 1.25
LOW = 2.8  # m; a lower scan may be a bathroom or a corridor, with walls that are larger than its floor
DENSE = 50  # vertices in an occupied cube of 10 cm; generated rooms have 5, ScanNet's scans 2 to 18
STRAY_SHARE = 0.001  # of the vertices at either end of an axis, which do not decide how large the others' box is
STRAY = 5.0  # m beyond a box twice as large as the others'; what lies there is no part of the room


class Oddity(NamedTuple):
    what: str
    advice: str  # in flags of scripts/predict.py, where it has one


def oddities(
    xyz: np.ndarray, step: float, scale: float = 1.0, up: str = "z", used: np.ndarray | None = None
) -> list[Oddity]:
    """What is odd about the vertices xyz (n, 3), in metres and with +z up.

    Args: step between neighbouring numbers that the file could hold, in metres; scale and up: how the file's own
        coordinates were turned into xyz, for the advice; used (k,): the vertices whose density counts, None for all.
    """
    found = []
    if step > FINE_STEP:
        what = f"its coordinates have steps of {step:.2g} m"
        found.append(Oddity(what, "export them as double, nearer to 0, or with a finer scale"))
    density = vertices_a_cube(xyz if used is None else xyz[used])
    low, high = np.quantile(xyz, [STRAY_SHARE, 1 - STRAY_SHARE], axis=0)
    margin = (high - low) / 2 + STRAY
    stray = ((xyz < low - margin) | (xyz > high + margin)).any(axis=1)
    if stray.any():
        first = np.flatnonzero(stray)[0]
        what = f"{stray.sum()} vertices lie far from all others (first: number {first})"
        found.append(Oddity(what, "if they are no part of the room, remove them"))
        xyz = xyz[~stray]
    xyz = xyz - xyz.min(axis=0)
    if xyz.max() >= SMALL and not xyz[:, 2].any():
        found.append(Oddity("flat: all vertices have one height", "a network that sees heights learns nothing of them"))
    if xyz[:, 2].max() > TALL:
        advice = f"if these are centimetres, give --scale {scale / 100:g}"
        found.append(Oddity(f"{xyz[:, 2].max():.4g} m is tall for a room", advice))
    if xyz.max() < SMALL:
        found.append(Oddity(f"{sizes(xyz)} m is small for a room", "if the unit is not the metre, give --scale"))
    if density > DENSE:
        advice = "if the network knows fewer, give --spacing the distance of the vertices that it was trained on"
        found.append(Oddity(f"dense: {density:.0f} vertices in a cube of 10 cm", f"{advice} (generated rooms: 0.05)"))
    area = plane_areas(xyz)
    if xyz[:, 2].max() > LOW and max(area[:2]) > STEEP * area[2]:
        axis = "xyz"[("xyz".index(up[-1]) + 1 + int(np.argmax(area[:2]))) % 3]
        advice = f"if {axis} is up, give --up={axis} (or -{axis})"
        found.append(Oddity(f"the largest flat area faces {axis}, not {up[-1]}", advice))
    return found


def vertices_a_cube(xyz: np.ndarray) -> float:
    """How many of the vertices (n, 3), in metres, lie in an occupied cube of 10 cm on average."""
    return len(xyz) / len(cubes(xyz - xyz.min(axis=0), CUBE)[0])


def plane_areas(xyz: np.ndarray) -> np.ndarray:
    """(3,) m^2: the largest area of a layer of 10 cm across x, y and z; the floor's is that across the upward axis.

    Args: xyz (n, 3), metres from the minimum.
    """
    cells = np.floor(xyz[cubes(xyz, CUBE)[0]] / CUBE).astype(np.int64)  # (k, 3)
    return np.array([np.bincount(layer).max() for layer in cells.T]) * CUBE**2


def sizes(xyz: np.ndarray) -> str:
    """Length x width x height of the box around xyz (n, 3)."""
    return " x ".join(f"{size:.4g}" for size in np.ptp(xyz, axis=0))
