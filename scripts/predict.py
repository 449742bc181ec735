"""Predict the classes of a mesh or point cloud of your own: any PLY file.

    python scripts/predict.py --checkpoint runs/x/checkpoints/last.pt --input room.ply --out room_pred.ply

--out has all that the input has, in the same order, and for each vertex `label`, its nyu40 id, and as red, green and
blue ScanNet's colour of the class. What the input had under these names is kept as input_label, input_red, ... The
network expects rooms in metres with +z up, as ScanNet's: --scale and --up tell of others, and are not applied to --out.
It also expects about the density that it was trained on: of a denser cloud, --spacing predicts a part for all.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from plyfile import PlyData

import ops
from data import chunks
from data.atomic_write import replacing
from data.coloured_ply import KEPT, RGB, with_prediction
from data.datasets import POINT_FEATURES, SceneTiles, chunk_size_of
from data.scannet import CLASS_NAMES, CLASS_TO_NYU40, NUM_CLASSES
from data.scans import MAX_EXTENT, ScanError, ply_column, ply_triangles, read_ply, vertex_normals
from eval_scannet import choose_device, run_scene, whole_number
from models import checkpoint
from models.stopping import error_line

UPS = ("x", "y", "z", "-x", "-y", "-z")
TALL = 20.0  # m; a taller scan is a hall, or not in metres
SMALL = 1.0  # m; one that is smaller in every direction is an object, or not in metres
CUBE = 0.1  # m, of the cells by which flat areas and density are measured
# Largest flat area across another axis / across +z: at most 1.1 in 16 generated rooms, 0.9 to 5.6 if they lie on a side
STEEP = 1.25
DENSE = 50  # vertices in an occupied cube of 10 cm; generated rooms have 5
LEAST_SPACING = 0.001  # m
FINE_STEP = 0.001  # m; coarser coordinates lose the detail that the network looks at


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except (checkpoint.CheckpointError, ScanError, ops.cpu.CompileError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path, help="last.pt or best.pt of a run, or its export/")
    parser.add_argument("--input", required=True, type=Path, help="PLY mesh or points, binary or ASCII")
    parser.add_argument("--out", type=Path, help="PLY to write (default: <input>_pred.ply)")
    parser.add_argument("--scale", type=float, default=1.0, help="metres in a unit of the input: 0.001 for millimetres")
    parser.add_argument("--up", choices=UPS, default="z", help="the input's upward axis; --up=-z for a negative one")
    parser.add_argument("--spacing", type=float, default=0.0, help="metres: vertices in a cube of this edge are as one")
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the points drawn from the tiles")
    return parser


def _run(args: argparse.Namespace) -> int:
    out = args.out or args.input.with_name(f"{args.input.stem}_pred.ply")
    if not 0 < args.scale < float("inf"):
        print(f"error: --scale is {args.scale}; it has to be a positive number", file=sys.stderr)
        return 2
    if args.spacing and not LEAST_SPACING <= args.spacing < float("inf"):
        print(f"error: --spacing is {args.spacing}; it has to be 0 or at least {LEAST_SPACING} m", file=sys.stderr)
        return 2
    if out.resolve() == args.input.resolve():
        print(f"error: --out {out} is the input; choose another name", file=sys.stderr)
        return 2
    device = choose_device(args.device)
    content = checkpoint.read_published(args.checkpoint)
    model = checkpoint.build(content, args.checkpoint)
    features = content["config"]["features"]
    if sum(POINT_FEATURES.get(name, 0) for name in features) != model.config.extra_channels:
        raise checkpoint.CheckpointError(f"{args.checkpoint}: its features {features} are not those of its network")
    ply = read_ply(args.input, any_lists=True)
    xyz, seen = coordinates(args.input, ply, args.scale, args.up)
    columns = [feature(name, args.input, ply, args.up)[seen] for name in features]
    points = np.concatenate([xyz, *columns], axis=1)

    ops.use(args.ops)
    print(
        f"device {device}, {ops.describe()}\n{args.input}: {len(seen)} vertices, {_sizes(xyz)} m, weights "
        f"{checkpoint.weights_sha256(model)[:8]}"
    )
    for warning in warnings(ply, xyz, seen, args.scale, args.up):
        print(f"warning: {warning}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.touch()  # if that fails, then before the work
            first, cube = cubes(xyz, args.spacing)
            rng = np.random.default_rng(args.seed)
            draws = list(chunks.covering_draws(xyz[first], rng, size=chunk_size_of(content["config"])))
            scene = SceneTiles(args.input.name, points[first], None, tiles=[], covering=draws)
            classes = np.zeros(len(seen), np.uint8)
            classes[seen] = run_scene(model.to(device), scene, device, args.batch_size).result().predicted[cube]
            with_prediction(ply, CLASS_TO_NYU40[classes]).write(temporary)
    except OSError as error:
        raise ScanError(f"{out}: cannot be written ({error.strerror}); free space or choose another --out") from error
    print(f"{class_summary(classes)}\n{out}")
    return 0


def coordinates(path: Path, ply: PlyData, scale: float, up: str) -> tuple[np.ndarray, np.ndarray]:
    """xyz (n, 3) float32 in metres from the minimum, +z up, of the vertices (V,) bool that have finite coordinates."""
    original = np.stack([ply_column(path, ply, "vertex", axis, "fiu") for axis in "xyz"], axis=1)
    seen = np.isfinite(original).all(axis=1)
    if not seen.any():
        raise ScanError(f"{path}: there is no vertex with finite coordinates")
    xyz = turned(original[seen].astype(np.float64) * scale, up)
    xyz -= xyz.min(axis=0)  # in float64: coordinates on the globe have no millimetres left in float32
    if xyz.max() > MAX_EXTENT:
        advice = "if they are in millimetres, give --scale 0.001; if a few vertices are far away, remove them"
        raise ScanError(f"{path}: the coordinates span {_sizes(xyz)} m; rooms are expected. {advice}")
    return xyz.astype(np.float32), seen


def cubes(xyz: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """The first vertex (k,) in each occupied cube, and the number (n,) of the cube that each of the vertices is in.

    Args: xyz (n, 3), 0 to 1000 m; edge of the cubes in metres, 0: each vertex is alone.
    """
    if not edge:
        return np.arange(len(xyz)), np.arange(len(xyz))
    keys = np.floor(xyz.astype(np.float64) / edge).astype(np.int64) @ (1 << np.array([42, 21, 0]))
    _, first, cube = np.unique(keys, return_index=True, return_inverse=True)
    return first, cube


def turned(vectors: np.ndarray, up: str) -> np.ndarray:
    """(V, 3) with the axis `up` as +z: a rotation, no mirror."""
    axis = "xyz".index(up[-1])
    vectors = np.roll(vectors, 2 - axis, axis=1)
    return vectors * (1, -1, -1) if up[0] == "-" else vectors


def feature(name: str, path: Path, ply: PlyData, up: str) -> np.ndarray:
    """(V, C) float32, the network's point feature "colour" in [0, 1] or "normal"."""
    vertex = ply["vertex"]
    if name == "colour":
        prefix = KEPT if all(KEPT + channel in vertex for channel in RGB) else ""  # beside those of a prediction
        colour = np.stack([ply_column(path, ply, "vertex", prefix + channel, "u") for channel in RGB], axis=1)
        return colour.astype(np.float32) / np.iinfo(colour.dtype).max
    if "nx" in vertex:
        normal = np.stack([ply_column(path, ply, "vertex", axis, "f") for axis in ("nx", "ny", "nz")], axis=1)
    elif len(faces := ply_triangles(path, ply, len(vertex))):
        normal = vertex_normals(np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64), faces)
    else:
        raise ScanError(
            f"{path}: the network takes normals; give the vertices nx, ny and nz, or the mesh its triangles"
        )
    return turned(np.nan_to_num(normal), up).astype(np.float32)


def warnings(ply: PlyData, xyz: np.ndarray, seen: np.ndarray, scale: float, up: str) -> list[str]:
    """What is odd for a room in metres that stands on its floor. xyz (n, 3) are those of the vertices `seen` (V,)."""
    found = []
    if not seen.all():
        found.append(f"{np.sum(~seen)} vertices have NaN or infinite coordinates: they get label 0")
    originals = [ply["vertex"][axis][seen] for axis in "xyz"]
    step = scale * max(float(np.spacing(np.abs(o).max())) if o.dtype.kind == "f" else 0.0 for o in originals)
    if step > FINE_STEP:
        found.append(f"so far from 0 its float coordinates have steps of {step:.2g} m: export them as double, or moved")
    if xyz[:, 2].max() > TALL:
        found.append(
            f"{xyz[:, 2].max():.4g} m is tall for a room: if these are centimetres, give --scale {scale / 100:g}"
        )
    if xyz.max() < SMALL:
        found.append(f"{_sizes(xyz)} m is small for a room: if the unit is not the metre, give --scale")
    if (density := len(xyz) / len(cubes(xyz, CUBE)[0])) > DENSE:
        advice = "give --spacing the distance of the vertices that it was trained on (generated rooms: 0.05)"
        found.append(f"dense: {density:.0f} vertices in a cube of 10 cm; if the network knows fewer, {advice}")
    area = plane_areas(xyz)
    if max(area[:2]) > STEEP * area[2]:
        axis = "xyz"[("xyz".index(up[-1]) + 1 + int(np.argmax(area[:2]))) % 3]
        found.append(
            f"the largest flat area faces {axis}, not {up[-1]}: if {axis} is up, give --up={axis} (or -{axis})"
        )
    return found


def plane_areas(xyz: np.ndarray) -> np.ndarray:
    """(3,) m^2: the largest area of a layer of 10 cm across x, y and z; the floor's is that across the upward axis."""
    cells = np.floor(xyz[cubes(xyz, CUBE)[0]] / CUBE).astype(np.int64)  # (k, 3)
    return np.array([np.bincount(layer).max() for layer in cells.T]) * CUBE**2


def class_summary(classes: np.ndarray) -> str:
    """A line for each class (V,) that occurs, the commonest first."""
    counts = np.bincount(classes, minlength=NUM_CLASSES)
    lines = [f"{'class':16}{'nyu40':>6}{'vertices':>12}{'%':>7}"]
    for index in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]:
        share = 100 * counts[index] / len(classes)
        lines.append(f"{CLASS_NAMES[index]:16}{CLASS_TO_NYU40[index]:>6}{counts[index]:>12}{share:>7.1f}")
    return "\n".join(lines)


def _sizes(xyz: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in np.ptp(xyz, axis=0))


if __name__ == "__main__":
    sys.exit(main())
