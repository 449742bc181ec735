"""A picture of a scan, seen from above one corner with the near walls cut away, and of its labels beside it.

python scripts/render_scene.py --input scan.ply --out picture.png [--labels scan.labels.ply prediction.txt ...]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from data.coloured_ply import RGB, UNLABELLED, class_colours
from data.labels import NUM_IDS, SCANNET20, LabelError, label_space
from data.page import PageError, write_page
from data.ply import ply_column, ply_triangles, read_ply
from data.scans import ScanError

ELEVATION, AZIMUTH = np.deg2rad(48), np.deg2rad(28)  # the view, from the long side of the room
CAMERA_DISTANCE = 2.2  # of the scene's diagonal
CUT = 1.9  # m above the floor; where a mesh without faces is cut off
LIGHT = np.array([0.25, -0.2, 0.95])  # right, down, towards the camera


def long_side(xy: np.ndarray) -> float:
    """Angle (radians) of the long side of the smallest rectangle around xy (N, 2)."""
    angles = np.deg2rad(np.arange(0, 90))
    axes = np.stack((np.stack((np.cos(angles), np.sin(angles))), np.stack((-np.sin(angles), np.cos(angles)))))
    along = np.einsum("nc,acd->nad", xy[:: max(1, len(xy) // 5000)], axes)  # (N', 2, angles)
    length, width = np.quantile(along, 0.99, axis=0) - np.quantile(along, 0.01, axis=0)
    best = int(np.argmin(length * width))
    return float(angles[best] + (0 if length[best] >= width[best] else np.pi / 2))


def view_axes(turn: float) -> np.ndarray:
    """(3, 3), in columns: right, down and towards a camera at the angle `turn` (radians) about the vertical."""
    back = np.array([np.cos(turn) * np.cos(ELEVATION), np.sin(turn) * np.cos(ELEVATION), np.sin(ELEVATION)])
    right = np.array([-np.sin(turn), np.cos(turn), 0])
    return np.stack((right, np.cross(right, back), back), 1)


def render(xyz: np.ndarray, colour: np.ndarray, faces: np.ndarray | None = None, width: int = 900) -> np.ndarray:
    """Image (H, width, 3) uint8 of a mesh, or of a point cloud where faces is None, on white.

    Args: xyz (V, 3) in metres, +z up; colour (V, 3) uint8; faces (F, 3) int or None. Triangles seen from behind are
    left out, so the ceiling and the near walls of a room do not hide it.
    """
    centre = (xyz.min(0) + xyz.max(0)) / 2
    view = (xyz - centre) @ view_axes(AZIMUTH - np.pi / 2 + long_side(xyz[:, :2]))  # (V, 3)
    distance = CAMERA_DISTANCE * np.linalg.norm(np.ptp(xyz, axis=0))
    depth = distance - view[:, 2]
    flat = view[:, :2] / depth[:, None]
    low, high = flat.min(0), flat.max(0)
    scale = (width - 1) / (high - low)[0]
    height = int((high - low)[1] * scale) + 1
    points = np.column_stack(((flat - low) * scale, depth))  # pixels, pixels, metres
    colour = colour.astype(np.float32)

    if faces is None:
        keep = xyz[:, 2] < xyz[:, 2].min() + CUT
        points = np.concatenate([points[keep] + (i, j, 0) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        colour = np.tile(colour[keep], (9, 1))
    else:
        a, b, c = view[faces].transpose(1, 0, 2)
        flat_normal = np.cross(c - a, b - a)  # view is left-handed
        smooth = np.stack([np.bincount(faces.ravel(), np.repeat(n, 3), len(xyz)) for n in flat_normal.T], 1)  # (V, 3)
        normal = smooth[faces].mean(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        front = (normal * ((0, 0, distance) - a)).sum(1) > 0
        faces, shade = faces[front], 0.65 + 0.35 * np.clip(normal[front] @ LIGHT, 0, None)
        corners = points[faces]  # (F, 3, 3)
        edge = np.linalg.norm(corners[:, 0, :2] - corners[:, 1, :2], axis=1)
        n = int(np.clip(np.quantile(edge, 0.98) * 1.5, 2, 24))  # samples along an edge: one a pixel
        i, j = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
        weights = np.column_stack((i, j, n - i - j)) / n  # (S, 3)
        points = np.einsum("sk,fkc->fsc", weights, corners).reshape(-1, 3)
        colour = np.repeat(colour[faces].mean(1) * shade[:, None], len(weights), axis=0)

    image = np.full((height, width, 3), 255, np.uint8)
    order = np.argsort(-points[:, 2])  # far first: the nearest is written last
    x, y = np.clip(np.rint(points[order, :2]).astype(int), 0, (width - 1, height - 1)).T
    image[y, x] = np.clip(colour[order], 0, 255)
    return image


def read_labels(path: Path, vertices: int) -> np.ndarray:
    """(V,) ids from a PLY file with `label`, or from a text file with one id a line. Raises ScanError."""
    if path.suffix == ".ply":
        label = ply_column(path, read_ply(path), "vertex", "label", "iu")
    else:
        try:
            label = np.loadtxt(path, dtype=int)
        except (OSError, ValueError) as error:
            raise ScanError(f"{path}: has no labels, one id a line ({error})") from error
    if label.shape != (vertices,):
        raise ScanError(f"{path}: {label.size} labels for {vertices} vertices")
    return label.astype(int)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="PLY mesh or point cloud")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, PNG, or a page, HTML")
    parser.add_argument("--labels", type=Path, nargs="*", default=[], help="ids: PLY with `label`, or one a line")
    parser.add_argument("--label-space", default=SCANNET20.name, help="of the labels: a name or a JSON file")
    parser.add_argument("--titles", nargs="*", default=[], help="of the panels (default: the files' names)")
    args = parser.parse_args(argv)
    try:
        draw(args)
    except (ScanError, LabelError, PageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(args.out)
    return 0


def draw(args: argparse.Namespace) -> None:
    if args.out.resolve() in {path.resolve() for path in (args.input, *args.labels)}:
        raise ScanError(f"--out {args.out} is also read; choose another name")
    ply, space = read_ply(args.input), label_space(args.label_space)
    xyz = np.column_stack([ply_column(args.input, ply, "vertex", axis, "fiu") for axis in "xyz"]).astype(np.float64)
    if not len(xyz) or not np.isfinite(xyz).all():
        raise ScanError(f"{args.input}: {'vertices have NaN or infinite' if len(xyz) else 'there are no'} coordinates")
    faces = ply_triangles(args.input, ply, len(xyz))
    colour = np.full(xyz.shape, 180)
    if all(channel in ply["vertex"] for channel in RGB):
        colour = np.column_stack([ply_column(args.input, ply, "vertex", channel, "u") for channel in RGB])
    labels = [read_labels(path, len(xyz)) for path in args.labels]
    panels = [colour, *(class_colours(label, space) for label in labels)]
    titles = args.titles + [path.stem for path in (args.input, *args.labels)][len(args.titles) :]
    classes = [space.class_of[np.where((label >= 0) & (label < NUM_IDS), label, 0)] for label in labels]

    if args.out.suffix.lower() == ".html":
        if len({"colours", *titles[1:]}) <= len(labels):
            raise ScanError(f"two panels have one name: {', '.join(titles[1:])}; give --titles that differ")
        views = dict(zip(titles[1:], classes, strict=True))
        if said := write_page(args.out, args.input.name, xyz, space, views, colour.astype(np.uint8)):
            print(said)
        return
    figure = Figure(figsize=(7 * len(panels), 7), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, title, colours in zip(axes, titles, panels, strict=True):
        axis.imshow(render(xyz, colours, faces if len(faces) else None))
        axis.set_title(title)
        axis.axis("off")
    legend = [Patch(color=space.palette[k] / 255, label=space.names[k]) for k in np.unique(classes) if k]
    if labels:
        legend.append(Patch(color=np.array(UNLABELLED) / 255, label="no label, or another class"))
        figure.legend(handles=legend, loc="outside lower center", ncols=10, frameon=False)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    raise SystemExit(main())
