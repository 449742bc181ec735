"""Predict the classes of meshes or point clouds of your own: PLY files, or any other that data/formats/ reads.

    python scripts/predict.py --input room.ply [--checkpoint runs/x] [--out room_pred.ply]
    python scripts/predict.py --input scans more/room.ply [--out FOLDER]

--out is a PLY file with all that the input has, in the same order, and for each vertex `label`, the id of its class,
`confidence`, how sure the network is of it from 0 to 1, and as red, green and blue the class's colour. What the input
had under these names is kept as input_label, input_red, ... Of a LAS or LAZ file one of these is written as well,
beside it, with label and confidence as extra dimensions.

The network expects rooms in metres with +z up, as ScanNet's. What the file has instead is found where the evidence is
strong, and told; --up and --scale say it, --as-is takes the file as it is. Nothing of it is applied to --out. It also
expects about the density that it was trained on: of a denser cloud, --spacing predicts a part for all.

Of several files, or of folders and those below, --out, --html and --logits are folders. A scan that cannot be predicted
costs one line and the exit status 1; the others go on.
"""

import argparse
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import ops
from data import chunks
from data.atomic_write import replacing
from data.coloured_ply import with_prediction, write_ply
from data.columns import PREDICTED
from data.features import fields_of
from data.formats.as_ply import outputs, read_input
from data.formats.las import write_las
from data.formats.reading import READERS
from data.formats.text import TEXT
from data.inputs import find_inputs, refuse_outputs
from data.labels import LabelSpace, name_width
from data.logits import write_logits
from data.oddities import sizes
from data.page import PageError, need_plotly, write_page
from data.placed import field, place, warnings
from data.scans import ScanError
from data.scenes import Scene
from data.standing import UPS
from data.tiles import VOTES
from training import checkpoint
from training.arguments import TF32_HELP, choose_device, precision, whole_number
from training.inference import Network, load_network, predict_scene
from training.stopping import error_line

ENDINGS = [ending for ending in READERS if ending not in TEXT]  # looked for in folders; text may be anything
DOUBTFUL = 0.5  # confidence, below which vertices are counted


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # names of files may be in no encoding, and a log shows what is odd before the work
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
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
    parser.add_argument("--scale", type=float, help="metres in a unit of the input: 0.001 for millimetres")
    parser.add_argument("--up", choices=UPS, help="the input's upward axis; --up=-z for a negative one")
    as_is = "look for no other axis or unit, and leave no vertex out"
    parser.add_argument("--as-is", action="store_true", help=as_is)
    parser.add_argument(
        "--spacing", type=float, help="metres: vertices in a cube of this edge are as one (default: as trained)"
    )
    votes = "looks at all, each turned: more are steadier, and take longer (default: %(default)s)"
    parser.add_argument("--votes", type=whole_number(1), default=VOTES, help=votes)
    parser.add_argument("--batch-size", type=whole_number(1), help="tiles at a time (default: by device)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tf32", action="store_true", help=TF32_HELP)
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
    device, network = choose_device(args.device, args.tf32), load_network(args.checkpoint)
    ops.use(args.ops)
    print(f"device {device}, {precision()}, {ops.describe()}, weights {checkpoint.weights_sha256(network.model)[:8]}")
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
    if args.scale is not None and not 0 < args.scale < float("inf"):
        raise ValueError(f"--scale is {args.scale}; it has to be a positive number")
    if args.spacing is not None:
        chunks.check_spacing(args.spacing, "--spacing")
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
    written = [(flag, path, job.input) for job in jobs for flag, path in zip(flags, job[1:], strict=True) if path]
    refuse_outputs([job.input for job in jobs], written)
    return jobs, several


def predict_file(job: Job, network: Network, device: torch.device, args: argparse.Namespace) -> None:
    """Read a scan, predict it and write what is asked for. Raises ScanError, OSError, CheckpointError."""
    path, space = job.input, network.space
    ply, notes, left_out = read_input(path)
    placed = place(path, ply, left_out, args.up, args.scale, args.as_is)
    xyz, seen = placed.xyz, placed.seen
    scene = Scene(path.name, xyz, **{name: field(placed, name) for name in fields_of(network.inputs["features"])})
    print(f"{path}: {len(seen)} vertices, {sizes(xyz)} m", flush=True)
    spacing = network.inputs["spacing"] if args.spacing is None else args.spacing
    first, cube = chunks.cubes(xyz, spacing)
    if spacing:
        print(f"one vertex in each cube of {spacing:g} m is predicted: {len(first)}")
    for note in notes:
        print(f"note: {note}")
    given = tuple(f"--{flag}" for flag in ("scale", "spacing") if getattr(args, flag) is not None)
    for warning in warnings(placed, first, given, network.inputs["spacing"] or None):
        print(f"warning: {warning}")
    _tell_left_out(placed, left_out, space.id_of[0])
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
        raise ScanError(f"{job.out}: cannot be written ({error.strerror or error}); {advice}") from error
    print(f"{class_summary(classes, space)}\n{confidence_summary(found.confidence, network)}")
    print(*filter(None, [job.out, job.las]), sep="\n")
    _write_more(job, found, network, placed)


def _tell_left_out(placed, left_out, label):
    """How the scan stands, if not as expected, and how many vertices get no class."""
    standing, seen = placed.standing, placed.seen
    if standing.found:
        print(f"{placed.path}: {'; '.join(standing.found)}; taken so (--as-is: as the file has it)")
    strays = 0 if standing.stray is None else int(standing.stray.sum())
    if missing := np.sum(~seen) - strays:
        what = "have NaN or infinite coordinates" if left_out is None else "are faint splats, or have no coordinates"
        print(f"warning: {missing} vertices {what}: they get label {label}")
    if strays:
        print(f"{strays} vertices are left out: they get label {label}")


def _write_more(job, found, network, placed):
    """The logits and the page, where they are asked for. Raises ScanError."""
    flag, path = "--logits", job.logits
    try:
        if job.logits:
            write_logits(path, found.logits, found.row, placed.seen, network.space, network.temperature or 1.0)
            print(path)
        flag, path = "--html", job.html
        if job.html:
            try:
                own = field(placed, "colour")
            except ScanError as error:
                own = None
                print(f"note: the page has no colours ({error})")
            views = {"prediction": found.classes}
            title = job.input.name.encode(errors="replace").decode()
            said = write_page(path, title, placed.xyz, network.space, views, own, found.confidence)
            print(path, *filter(None, [said]), sep=": ")
    except OSError as error:
        raise ScanError(f"{flag} {path}: cannot be written ({error.strerror or error}); {job.out} is whole") from error


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
