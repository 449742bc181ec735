"""What is odd about a scan that should be a room in metres, standing on its floor. It is told; nothing is changed."""

from typing import NamedTuple

import numpy as np

from data.chunks import cubes
from data.ply import FINE_STEP
from data.standing import UNITS, find_standing, placed_upright

TALL = 20.0  # m; a taller scan is a hall, or not in metres
HEIGHT = 2.6  # m, of a usual room
SMALL = 1.0  # m; one that is smaller in every direction is an object, or not in metres
SPACING = 0.05  # m, of the vertices of generated rooms
DENSE = 50  # vertices in an occupied cube of 10 cm; generated rooms have 5, ScanNet's scans 2 to 18
# Vertices in an occupied cube of twice the spacing. Of 34 generated rooms thinned to it at least 2.6 are, to 1.4 times
# it 1.9, to twice it at most 1.5
SPARSE = 1.7


class Oddity(NamedTuple):
    what: str
    advice: str  # in flags of scripts/predict.py, where it has one


def odd_scan(xyz: np.ndarray, step: float, triangles: np.ndarray | None = None) -> list[Oddity]:
    """What is odd about the vertices xyz (n, 3), n >= 1, and triangles (F, 3) of a scan that is taken as it is.

    Args: step: as of `oddities`.
    """
    standing = find_standing(xyz, triangles)
    found = [Oddity(what, "") for what in standing.found] + [Oddity(*doubt) for doubt in standing.doubts]
    kept = xyz if standing.stray is None else xyz[~standing.stray]
    return found + oddities(placed_upright(kept, standing), step)


def oddities(
    xyz: np.ndarray,
    step: float,
    given: tuple[str, ...] = (),
    used: np.ndarray | None = None,
    spacing: float | None = None,
) -> list[Oddity]:
    """What is odd about the vertices xyz (n, 3), in metres and with +z up.

    Args: step between neighbouring numbers that the file could hold, in metres; given: the flags, as "--scale", that
        no advice asks for; used (k,): the vertices that a network is given, None for all; spacing in metres of those
        that it knows, None for one that is to be trained on them.
    """
    found = []
    if step > FINE_STEP:
        what = f"its coordinates have steps of {step:.2g} m"
        found.append(Oddity(what, "export them as double, nearer to 0, or with a finer scale"))
    height, longest = np.ptp(xyz[:, 2]), np.ptp(xyz, axis=0).max()
    if longest >= SMALL and not height:
        found.append(Oddity("flat: all vertices have one height", "a network that sees heights learns nothing of them"))
    if "--scale" not in given and height > TALL:
        unit = min(UNITS, key=lambda name: abs(np.log(height * UNITS[name] / HEIGHT)))
        found.append(
            Oddity(f"{height:.4g} m is tall for a room", f"if its unit is the {unit}, give --scale {UNITS[unit]}")
        )
    if "--scale" not in given and longest < SMALL:
        found.append(Oddity(f"{sizes(xyz)} m is small for a room", "if the unit is not the metre, give --scale"))
    return found + _of_density(xyz if used is None else xyz[used], spacing, "--spacing" in given)


def _of_density(xyz, spacing, given):
    """Oddities of how densely the vertices (k, 3) lie."""
    if not given and (density := vertices_a_cube(xyz)) > DENSE:
        advice = "if the network knows fewer, give --spacing the distance of the vertices that it was trained on"
        what = f"dense: {density:.0f} vertices in a cube of 10 cm"
        return [Oddity(what, f"{advice} (generated rooms: {SPACING:g})")]
    if spacing and np.ptp(xyz, axis=0).max() >= SMALL and vertices_a_cube(xyz, 2 * spacing) < SPARSE:
        what = f"sparse: most vertices are further than {100 * 1.4 * spacing:.2g} cm apart"
        return [
            Oddity(what, f"the network knows {100 * spacing:.3g} cm; expect little, or scan or export it more finely")
        ]
    return []


def vertices_a_cube(xyz: np.ndarray, edge: float = 0.1) -> float:
    """How many of the vertices (n, 3), in metres, lie in an occupied cube of that edge on average."""
    return len(xyz) / len(cubes(xyz - xyz.min(axis=0), edge)[0])


def sizes(xyz: np.ndarray) -> str:
    """Length x width x height of the box around xyz (n, 3)."""
    return " x ".join(f"{size:.4g}" for size in np.ptp(xyz, axis=0))
