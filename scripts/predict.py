"""Predict the classes of a mesh or point cloud of your own: any PLY file.

    python scripts/predict.py --input room.ply [--checkpoint runs/x] [--out room_pred.ply]

--out has all that the input has, in the same order, and for each vertex `label`, the id of its class, and as red, green
and blue the class's colour. What the input had under these names is kept as input_label, input_red, ... The
network expects rooms in metres with +z up, as ScanNet's. What the file has instead is found where the evidence is
strong, and told; --up and --scale say it, --as-is takes the file as it is. Nothing of it is applied to --out.
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
from data.clouds import NAMES, READERS, values_of
from data.coloured_ply import KEPT, with_prediction
from data.datasets import INPUTS, SceneTiles, with_covering
from data.features import POINT_FEATURES, channels_of, fields_of, points_of
from data.labels import LabelSpace, name_width
from data.oddities import oddities, sizes
from data.page import PageError, need_plotly, write_page
from data.ply import MAX_EXTENT, coordinate_step, ply_column, ply_triangles, read_ply, vertex_normals
from data.scans import ScanError
from data.scenes import Scene
from data.standing import UPS, Standing, find_standing, placed_upright, standing_as_told, turned
from training import checkpoint
from training.arguments import choose_device, whole_number
from training.inference import run_scene
from training.stopping import error_line


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
    parser.add_argument("--input", required=True, type=Path, help="PLY mesh or points, binary or ASCII")
    parser.add_argument("--out", type=Path, help="PLY to write (default: <input>_pred.ply)")
    parser.add_argument("--html", type=Path, help="also write a page to look at, which needs no network")
    parser.add_argument("--scale", type=float, help="metres in a unit of the input: 0.001 for millimetres")
    parser.add_argument("--up", choices=UPS, help="the input's upward axis; --up=-z for a negative one")
    as_is = "look for no other axis or unit, and leave no vertex out"
    parser.add_argument("--as-is", action="store_true", help=as_is)
    parser.add_argument(
        "--spacing", type=float, help="metres: vertices in a cube of this edge are as one (default: as trained)"
    )
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the points drawn from the tiles")
    return parser


def _run(args: argparse.Namespace) -> int:
    out = args.out or args.input.with_name(f"{args.input.stem}_pred.ply")
    if refused := _refuse_flags(args, out):
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
    ply = read_ply(args.input, any_lists=True)
    xyz, seen, standing = coordinates(args.input, ply, args.up, args.scale, args.as_is)
    fields = {name: field(name, args.input, ply, seen, standing) for name in fields_of(features)}
    points = points_of(Scene(args.input.stem, xyz, **fields), features)

    ops.use(args.ops)
    if standing.found:
        print(f"{args.input}: {'; '.join(standing.found)}; taken so (--as-is: as the file has it)")
    print(
        f"device {device}, {ops.describe()}\n{args.input}: {len(seen)} vertices, {sizes(xyz)} m, weights "
        f"{checkpoint.weights_sha256(model)[:8]}"
    )
    spacing = config["spacing"] if args.spacing is None else args.spacing
    first, cube = chunks.cubes(xyz, spacing)
    if spacing:
        print(f"one vertex in each cube of {spacing:g} m is predicted: {len(first)}")
    for warning in warnings(args, ply, xyz, first, seen, standing, config["spacing"]):
        print(f"warning: {warning}")
    strays = 0 if standing.stray is None else int(standing.stray.sum())
    if missing := np.sum(~seen) - strays:
        print(f"warning: {missing} vertices have NaN or infinite coordinates: they get label {space.id_of[0]}")
    if strays:
        print(f"{strays} vertices are left out: they get label {space.id_of[0]}")
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
            with_prediction(ply, space.id_of[classes], space).write(temporary)
    except OSError as error:
        raise ScanError(f"{out}: cannot be written ({error.strerror}); free space or choose another --out") from error
    print(f"{class_summary(classes, space)}\n{out}")
    if args.html:
        try:
            own = field("colour", args.input, ply, seen, standing)
        except ScanError as error:
            own = None
            print(f"note: the page has no colours ({error})")
        try:
            said = write_page(args.html, args.input.name, xyz, space, {"prediction": classes[seen]}, own)
        except OSError as error:
            raise ScanError(f"--html {args.html}: cannot be written ({error.strerror}); {out} is whole") from error
        print(args.html, *filter(None, [said]), sep=": ")
    return 0


def _refuse_flags(args: argparse.Namespace, out: Path) -> str:
    """What is wrong with the flags, or ""."""
    if args.scale is not None and not 0 < args.scale < float("inf"):
        return f"--scale is {args.scale}; it has to be a positive number"
    if args.spacing and not chunks.LEAST_SPACING <= args.spacing < float("inf"):
        return f"--spacing is {args.spacing}; it has to be 0 or at least {chunks.LEAST_SPACING} m"
    for flag, path in {"--out": out, "--html": args.html}.items():
        if path and path.is_dir():
            return f"{flag} {path} is a folder; give the name of a file"
        if path and path.resolve() == args.input.resolve():
            return f"{flag} {path} is the input; choose another name"
    if args.html and args.html.resolve() == out.resolve():
        return f"--html {args.html} is also --out; choose another name"
    if args.input.is_dir():
        return f"--input {args.input} is a folder; give one PLY file"
    if args.input.suffix.lower() in READERS.keys() - {".ply"}:
        advice = "convert it, or preprocess it and score it by eval_scannet.py --predictions"
        return f"--input {args.input} is no PLY file; {advice}"
    return ""


def coordinates(
    path: Path, ply: PlyData, up: str | None = None, scale: float | None = None, as_is: bool = False
) -> tuple[np.ndarray, np.ndarray, Standing]:
    """xyz (n, 3) float32 in metres from the minimum, +z up, of the vertices seen (V,) bool, and how they stood.

    Vertices without finite coordinates are not seen, nor those that lie metres from all others. up, scale: None to
    find out, unless `as_is`. Raises ScanError.
    """
    original = np.stack([ply_column(path, ply, "vertex", axis, "fiu") for axis in "xyz"], axis=1)
    seen = np.isfinite(original).all(axis=1)
    if not seen.any():
        raise ScanError(f"{path}: there is no vertex with finite coordinates")
    xyz = original[seen].astype(np.float64)
    standing = standing_as_told(up, scale) if as_is else find_standing(xyz, triangles_of(path, ply, seen), up, scale)
    if standing.stray is not None:
        xyz, seen[seen] = xyz[~standing.stray], ~standing.stray
    xyz = placed_upright(xyz, standing)
    xyz = xyz - xyz.min(axis=0)  # in float64: coordinates on the globe have no millimetres left in float32
    if xyz.max() > MAX_EXTENT:
        advice = "if they are in millimetres, give --scale 0.001; " if scale is None else ""
        advice += "if a few vertices are far away, remove them"
        raise ScanError(f"{path}: the coordinates span {sizes(xyz)} m; rooms are expected. {advice}")
    return xyz.astype(np.float32), seen, standing


def triangles_of(path: Path, ply: PlyData, seen: np.ndarray) -> np.ndarray | None:
    """(F, 3) of the vertices seen (V,), numbered among themselves; None for a cloud, or faces that are no triangles."""
    try:
        triangles = ply_triangles(path, ply, len(seen))
    except ScanError:
        return None
    return (np.cumsum(seen) - 1)[triangles[seen[triangles].all(axis=1)]]


def field(name: str, path: Path, ply: PlyData, seen: np.ndarray, standing: Standing) -> np.ndarray:
    """(n, ...) of a scene's field that the network's features are made from, of the vertices `seen` (V,)."""
    vertex = ply["vertex"]
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
    if name == "normal":
        return turned(np.nan_to_num(values), standing.rotation).astype(np.float32)
    return values


def warnings(args, ply: PlyData, xyz: np.ndarray, first: np.ndarray, seen: np.ndarray, standing, spacing) -> list[str]:
    """What to tell of the input. xyz (n, 3): of the vertices `seen` (V,); the network is given the `first` (k,)."""
    step = standing.scale * coordinate_step([ply["vertex"][axis][seen] for axis in "xyz"])
    values = {"--scale": args.scale, "--spacing": args.spacing}
    given = tuple(flag for flag, value in values.items() if value is not None)
    doubts = (*standing.doubts, *oddities(xyz, step, given, first, spacing or None))
    return [f"{what}: {advice}" for what, advice in doubts]


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
