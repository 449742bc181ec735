"""Predict the classes of a mesh or point cloud of your own: a PLY file, or any other that data/formats/ reads.

    python scripts/predict.py --input room.ply [--checkpoint runs/x] [--out room_pred.ply]

--out is a PLY file with all that the input has, in the same order, and for each vertex `label`, the id of its class,
and as red, green and blue the class's colour. What the input had under these names is kept as input_label, input_red
and so on. Of a LAS or LAZ file one of these is written as well, beside it, with the extra dimension `label`. The
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
from data.coloured_ply import with_prediction, write_ply
from data.columns import KEPT, NAMES, values_of
from data.datasets import INPUTS, SceneTiles, with_covering
from data.features import POINT_FEATURES, channels_of, fields_of, points_of
from data.formats.as_ply import outputs, read_input
from data.formats.las import write_las
from data.formats.plys import colours_from_faces
from data.formats.reading import READERS
from data.labels import LabelSpace, name_width
from data.oddities import oddities, sizes
from data.page import PageError, need_plotly, write_page
from data.ply import MAX_EXTENT, coordinate_step, ply_column, ply_triangles, vertex_normals
from data.scans import ScanError
from data.scenes import Scene
from training import checkpoint
from training.arguments import choose_device, whole_number
from training.inference import run_scene
from training.stopping import error_line

UPS = ("x", "y", "z", "-x", "-y", "-z")


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except (checkpoint.CheckpointError, ScanError, PageError, ops.cpu.CompileError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what has a name is whole", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = "a run's folder, last.pt, best.pt or export/ (default: rooms, the weights that come along)"
    parser.add_argument("--checkpoint", type=Path, default=checkpoint.SHIPPED / "rooms", help=own)
    parser.add_argument("--input", required=True, type=Path, help=f"mesh or points: {', '.join(READERS)}")
    parser.add_argument("--out", type=Path, help="PLY, LAS or LAZ file to write (default: <input>_pred.ply)")
    classification = "of a LAS or LAZ file, also write the ids that fit there into the field classification"
    parser.add_argument("--las-classification", action="store_true", help=classification)
    parser.add_argument("--html", type=Path, help="also write a page to look at, which needs no network")
    parser.add_argument("--scale", type=float, default=1.0, help="metres in a unit of the input: 0.001 for millimetres")
    parser.add_argument("--up", choices=UPS, default="z", help="the input's upward axis; --up=-z for a negative one")
    parser.add_argument(
        "--spacing", type=float, help="metres: vertices in a cube of this edge are as one (default: as trained)"
    )
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the points drawn from the tiles")
    return parser


def _run(args: argparse.Namespace) -> int:
    try:
        out, las = outputs(args.input, args.out)
        refused = _refuse_flags(args, out, las)
    except ValueError as error:
        refused = str(error)
    if refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    if args.html:
        need_plotly()
    device = choose_device(args.device)
    content = checkpoint.read_published(args.checkpoint)
    model = checkpoint.build(content, args.checkpoint)
    config, space = INPUTS | content["config"], content["label_space"]
    features = config["features"]
    if not {*features} <= POINT_FEATURES.keys() or channels_of(features) != model.config.extra_channels:
        raise checkpoint.CheckpointError(f"{args.checkpoint}: its features {features} are not those of its network")
    ply, notes, left_out = read_input(args.input)
    xyz, seen = coordinates(args.input, ply, args.scale, args.up, left_out)
    fields = {name: field(name, args.input, ply, seen, args.up) for name in fields_of(features)}
    points = points_of(Scene(args.input.stem, xyz, **fields), features)

    ops.use(args.ops)
    print(
        f"device {device}, {ops.describe()}\n{args.input}: {len(seen)} vertices, {sizes(xyz)} m, weights "
        f"{checkpoint.weights_sha256(model)[:8]}"
    )
    spacing = config["spacing"] if args.spacing is None else args.spacing
    first, cube = chunks.cubes(xyz, spacing)
    if spacing:
        print(f"one vertex in each cube of {spacing:g} m is predicted: {len(first)}")
    for note in notes:
        print(f"note: {note}")
    if not seen.all():
        what = "have NaN or infinite coordinates" if left_out is None else "are faint splats, or have no coordinates"
        print(f"warning: {np.sum(~seen)} vertices {what}: they get label {space.id_of[0]}")
    for warning in warnings(ply, xyz, first, seen, args.scale, args.up):
        print(f"warning: {warning}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.touch()  # if that fails, then before the work
            rng = np.random.default_rng(args.seed)
            scene = SceneTiles(args.input.name, points, None, tiles=[], covering=[])
            scene = with_covering(scene, rng, config["points"], config["chunk_size"], first, cube)
            classes = np.zeros(len(seen), np.uint16)
            score = run_scene(model.to(device), scene, space, device, args.batch_size)
            classes[seen] = score.result().predicted
            label = space.id_of[classes].astype(np.uint16)
            write_ply(temporary, with_prediction(ply, label, space))
        if las:
            with replacing(las) as temporary:
                write_las(args.input, temporary, {"label": label}, label if args.las_classification else None)
    except OSError as error:
        raise ScanError(f"{out}: cannot be written ({error.strerror}); free space or choose another --out") from error
    print(class_summary(classes, space), *filter(None, [out, las]), sep="\n")
    if args.html:
        try:
            own = field("colour", args.input, ply, seen, args.up)
        except ScanError as error:
            own = None
            print(f"note: the page has no colours ({error})")
        try:
            said = write_page(args.html, args.input.name, xyz, space, {"prediction": classes[seen]}, own)
        except OSError as error:
            raise ScanError(f"--html {args.html}: cannot be written ({error.strerror}); {out} is whole") from error
        print(args.html, *filter(None, [said]), sep=": ")
    return 0


def _refuse_flags(args: argparse.Namespace, out: Path, las: Path | None) -> str:
    """What is wrong with the flags, or ""."""
    if not 0 < args.scale < float("inf"):
        return f"--scale is {args.scale}; it has to be a positive number"
    if args.spacing and not chunks.LEAST_SPACING <= args.spacing < float("inf"):
        return f"--spacing is {args.spacing}; it has to be 0 or at least {chunks.LEAST_SPACING} m"
    for flag, path in (("--out", out), ("--out", las), ("--html", args.html)):
        if path and path.is_dir():
            return f"{flag} {path} is a folder; give the name of a file"
        if path and path.resolve() == args.input.resolve():
            return f"{flag} {path} is the input; choose another name"
    if args.html and args.html.resolve() in [path.resolve() for path in (out, las) if path]:
        return f"--html {args.html} is also --out; choose another name"
    if args.input.is_dir():
        return f"--input {args.input} is a folder; give one file"
    if args.las_classification and not las:
        return f"--las-classification: {args.input} is no LAS or LAZ file; leave it out"
    return ""


def coordinates(
    path: Path, ply: PlyData, scale: float, up: str, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """xyz (n, 3) float32 in metres from the minimum, +z up, of the vertices (V,) bool that have finite coordinates and
    are not left out (V,)."""
    original = np.stack([ply_column(path, ply, "vertex", axis, "fiu") for axis in "xyz"], axis=1)
    seen = np.isfinite(original).all(axis=1)
    if left_out is not None:
        seen &= ~left_out
    if not seen.any():
        raise ScanError(f"{path}: there is no vertex with finite coordinates")
    xyz = turned(original[seen].astype(np.float64) * scale, up)
    xyz -= xyz.min(axis=0)  # in float64: coordinates on the globe have no millimetres left in float32
    if xyz.max() > MAX_EXTENT:
        advice = "if they are in millimetres, give --scale 0.001; if a few vertices are far away, remove them"
        raise ScanError(f"{path}: the coordinates span {sizes(xyz)} m; rooms are expected. {advice}")
    return xyz.astype(np.float32), seen


def turned(vectors: np.ndarray, up: str) -> np.ndarray:
    """(V, 3) with the axis `up` as +z: a rotation, no mirror."""
    axis = "xyz".index(up[-1])
    vectors = np.roll(vectors, 2 - axis, axis=1)
    return vectors * (1, -1, -1) if up[0] == "-" else vectors


def field(name: str, path: Path, ply: PlyData, seen: np.ndarray, up: str) -> np.ndarray:
    """(n, ...) of a scene's field that the network's features are made from, of the vertices `seen` (V,)."""
    vertex = ply["vertex"]
    if name == "colour" and (colour := colours_from_faces(path, ply)) is not None:
        return colour[seen]
    columns, notes = {}, []
    for key in (key for names in NAMES[name] for key in names):
        stored = KEPT + key if KEPT + key in vertex else key  # the scan's own, where that beside it is a prediction's
        if stored in vertex:
            columns[key] = vertex[stored][seen]
    values = values_of(name, path, columns, int(seen.sum()), notes)
    if values is None and name == "normal" and len(faces := ply_triangles(path, ply, len(vertex))):
        values = vertex_normals(np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64), faces)[seen]
    if values is None:
        wanted = " or ".join(", ".join(names) for names in NAMES[name])
        more = ", or the mesh its triangles" if name == "normal" else ""
        text = "; ".join(notes) if notes else f"give the vertices {wanted}{more}"
        raise ScanError(f"{path}: the network takes a {name} of each vertex; {text}")
    for note in notes:
        print(f"note: {note}")
    return turned(np.nan_to_num(values), up).astype(np.float32) if name == "normal" else values


def warnings(ply: PlyData, xyz: np.ndarray, first: np.ndarray, seen: np.ndarray, scale: float, up: str) -> list[str]:
    """What to tell of the input. xyz (n, 3): of the vertices `seen` (V,); the network is given the `first` (k,)."""
    step = scale * coordinate_step([ply["vertex"][axis][seen] for axis in "xyz"])
    return [f"{what}: {advice}" for what, advice in oddities(xyz, step, scale, up, first)]


def class_summary(classes: np.ndarray, space: LabelSpace) -> str:
    """A line for each class (V,) that occurs, the commonest first."""
    counts = np.bincount(classes, minlength=space.num_classes)
    width = name_width(space.names)
    lines = [f"{'class':{width}}{'id':>6}{'vertices':>12}{'%':>7}"]
    for index in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]:
        share = 100 * counts[index] / len(classes)
        lines.append(f"{space.names[index]:{width}}{space.id_of[index]:>6}{counts[index]:>12}{share:>7.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
