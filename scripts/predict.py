"""Predict the classes of meshes or point clouds of your own: PLY files, or any other that data/formats/ reads.

    python scripts/predict.py --input room.ply [--checkpoint runs/x] [--out room_pred.ply]
    python scripts/predict.py --input scans more/room.ply [--out FOLDER]

--out is a PLY file with all that the input has, in the same order, and for each vertex `label`, the id of its class,
`confidence`, how sure the network is of it from 0 to 1, and as red, green and blue the class's colour. What the input
had under these names is kept as input_label, input_red, ... Of a LAS or LAZ file one of these is written as well,
beside it, with label and confidence as extra dimensions. The network expects rooms in metres with +z up, as ScanNet's:
--scale and --up tell of others, and are not applied to --out. It also expects about the density that it was trained on:
of a denser cloud, --spacing predicts a part for all.

Of several files, or of folders and those below, --out, --html and --logits are folders. A scan that cannot be predicted
costs one line and the exit status 1; the others go on.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from plyfile import PlyData

import ops
from data import chunks
from data.atomic_write import replacing
from data.coloured_ply import with_prediction, write_ply
from data.columns import KEPT, NAMES, PREDICTED, values_of
from data.features import fields_of
from data.formats.as_ply import outputs, read_input
from data.formats.las import write_las
from data.formats.plys import colours_from_faces
from data.formats.reading import READERS
from data.formats.text import TEXT
from data.inputs import find_inputs, refuse_outputs
from data.labels import LabelSpace, name_width
from data.logits import write_logits
from data.oddities import oddities, sizes
from data.page import PageError, need_plotly, write_page
from data.ply import MAX_EXTENT, coordinate_step, ply_column, ply_triangles, vertex_normals
from data.scans import ScanError
from data.scenes import Scene
from data.tiles import VOTES
from training import checkpoint
from training.arguments import choose_device, whole_number
from training.inference import Network, load_network, predict_scene
from training.stopping import error_line

ENDINGS = [ending for ending in READERS if ending not in TEXT]  # looked for in folders; text may be anything
DOUBTFUL = 0.5  # confidence, below which vertices are counted
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
    files = f"files ({', '.join(READERS)}), and folders of them"
    parser.add_argument("--input", required=True, type=Path, nargs="+", help=files)
    parser.add_argument("--out", type=Path, help="PLY, LAS or LAZ to write, or a folder (default: <input>_pred.ply)")
    classification = "of LAS and LAZ files, also write the ids that fit there into the field classification"
    parser.add_argument("--las-classification", action="store_true", help=classification)
    parser.add_argument("--html", type=Path, help="also write a page to look at, which needs no network")
    parser.add_argument("--logits", type=Path, help="also write what the network says of every class, as NPZ")
    parser.add_argument("--scale", type=float, default=1.0, help="metres in a unit of the input: 0.001 for millimetres")
    parser.add_argument("--up", choices=UPS, default="z", help="the input's upward axis; --up=-z for a negative one")
    parser.add_argument(
        "--spacing", type=float, help="metres: vertices in a cube of this edge are as one (default: as trained)"
    )
    votes = "looks at all, each turned: more are steadier, and take longer (default: %(default)s)"
    parser.add_argument("--votes", type=whole_number(1), default=VOTES, help=votes)
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ops", choices=ops.CHOICES, default="auto")
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="of the order in which the points are dealt out"
    )
    return parser


class Job(NamedTuple):
    """A scan, and what is to be written of it."""

    input: Path
    out: Path
    las: Path | None  # beside `out`
    html: Path | None
    logits: Path | None


def _run(args: argparse.Namespace) -> int:
    try:
        jobs, several = choose_jobs(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.html:
        need_plotly()
    device, network = choose_device(args.device), load_network(args.checkpoint)
    ops.use(args.ops)
    print(f"device {device}, {ops.describe()}, weights {checkpoint.weights_sha256(network.model)[:8]}")
    if not several:
        predict_file(jobs[0], network, device, args)
        return 0
    failed = 0
    for number, job in enumerate(jobs, start=1):
        print(f"\n{number} of {len(jobs)}:", end=" ", flush=True)
        failed += not _attempt(job, network, device, args)
    print(f"\n{len(jobs) - failed} scans predicted, {failed} failed")
    return 1 if failed else 0


def _attempt(job: Job, network: Network, device: torch.device, args: argparse.Namespace) -> bool:
    """`predict_file`; whatever a file makes it raise costs a line, and is False."""
    try:
        predict_file(job, network, device, args)
        return True
    except (checkpoint.CheckpointError, PageError, ops.cpu.CompileError):  # would be those of all files
        raise
    except (ScanError, OSError) as error:
        cause = str(error)
    except Exception as error:
        cause = f"{job.input}: {type(error).__name__}: {error}"
    print(f"failed: {' '.join(cause.split())}", flush=True)
    return False


def choose_jobs(args: argparse.Namespace) -> tuple[list[Job], bool]:
    """What is to be done, and whether it is of several scans. Raises ValueError for flags that cannot be."""
    if not 0 < args.scale < float("inf"):
        raise ValueError(f"--scale is {args.scale}; it has to be a positive number")
    if args.spacing and not chunks.LEAST_SPACING <= args.spacing < float("inf"):
        raise ValueError(f"--spacing is {args.spacing}; it has to be 0 or at least {chunks.LEAST_SPACING} m")
    several = len(args.input) > 1 or args.input[0].is_dir()
    folders = {"--out": args.out, "--html": args.html, "--logits": args.logits}
    for flag, folder in folders.items():
        if several and folder and folder.exists() and not folder.is_dir():
            raise ValueError(f"{flag} {folder} is a file; of several inputs give a folder")

    def place(given, name, ending):
        return given / f"{name}{ending}" if given and several else given

    jobs = []
    for path, name in find_inputs(args.input, ENDINGS):
        out, las = outputs(path, place(args.out, name, f"{PREDICTED}.ply"))
        jobs.append(Job(path, out, las, place(args.html, name, ".html"), place(args.logits, name, ".npz")))
    if args.las_classification and not any(job.las for job in jobs):
        raise ValueError(f"--las-classification: {args.input[0]} is no LAS or LAZ file; leave it out")
    flags = ("--out", "--out", "--html", "--logits")
    written = [pair for job in jobs for pair in zip(flags, job[1:], strict=True) if pair[1]]
    refuse_outputs([job.input for job in jobs], written)
    return jobs, several


def predict_file(job: Job, network: Network, device: torch.device, args: argparse.Namespace) -> None:
    """Read a scan, predict it and write what is asked for. Raises ScanError, OSError, CheckpointError."""
    path, space = job.input, network.space
    ply, notes, left_out = read_input(path)
    xyz, seen = coordinates(path, ply, args.scale, args.up, left_out)
    names = fields_of(network.inputs["features"])
    scene = Scene(path.name, xyz, **{name: field(name, path, ply, seen, args.up) for name in names})
    print(f"{path}: {len(seen)} vertices, {sizes(xyz)} m", flush=True)
    spacing = network.inputs["spacing"] if args.spacing is None else args.spacing
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
    classes, confidence = np.zeros(len(seen), np.uint16), np.zeros(len(seen), np.float32)
    try:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(job.out) as temporary:
            temporary.touch()  # if that fails, then before the work
            found = predict_scene(
                network, scene, device, args.votes, args.seed, first, cube, args.batch_size, silent=False
            )
            classes[seen], confidence[seen] = found.classes, found.confidence
            label = space.id_of[classes].astype(np.uint16)
            write_ply(temporary, with_prediction(ply, label, confidence, space))
        if job.las:
            with replacing(job.las) as temporary:
                more = {"label": label, "confidence": confidence}
                write_las(path, temporary, more, label if args.las_classification else None)
    except OSError as error:
        advice = "free space or choose another --out"
        raise ScanError(f"{job.out}: cannot be written ({error.strerror}); {advice}") from error
    print(f"{class_summary(classes, space)}\n{confidence_summary(found.confidence, network)}")
    print(*filter(None, [job.out, job.las]), sep="\n")
    _write_more(job, found, network, ply, xyz, seen, args.up)


def _write_more(job, found, network, ply, xyz, seen, up):
    """The logits and the page, where they are asked for. Raises ScanError."""
    flag, path = "--logits", job.logits
    try:
        if job.logits:
            write_logits(path, found.logits, found.row, seen, network.space, network.temperature or 1.0)
            print(path)
        flag, path = "--html", job.html
        if job.html:
            try:
                own = field("colour", job.input, ply, seen, up)
            except ScanError as error:
                own = None
                print(f"note: the page has no colours ({error})")
            said = write_page(path, job.input.name, xyz, network.space, {"prediction": found.classes}, own)
            print(path, *filter(None, [said]), sep=": ")
    except OSError as error:
        raise ScanError(f"{flag} {path}: cannot be written ({error.strerror}); {job.out} is whole") from error


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


def confidence_summary(confidence: np.ndarray, network: Network) -> str:
    """A line about (n,) confidences."""
    doubtful = 100 * np.mean(confidence < DOUBTFUL)
    known = "" if network.temperature else " (not calibrated for these weights)"
    return (
        f"confidence{known}: {confidence.mean():.2f} on average, under {DOUBTFUL} for {doubtful:.1f} % of the vertices"
    )


if __name__ == "__main__":
    sys.exit(main())
