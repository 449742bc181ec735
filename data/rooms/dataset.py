"""A set of generated rooms in one of two styles: "scanned", for training that transfers to real scans, or "plain"."""

import json
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data.atomic_write import replacing
from data.preprocessing import KILLED, worker_processes
from data.rooms import rooms
from data.rooms.raw_layout import MOST_SCENES, TABLE, scan_id

STYLES = ("scanned", "plain")
REPORT = "synthetic.json"
INSTALL = "pip install -r scripts/requirements-rooms.txt"


def make_dataset(
    out: Path,
    scenes: int = 64,
    seed: int = 0,
    workers: int = 2,
    shuffled: bool = False,
    telling_colours: bool = False,
    *,
    style: str = "plain",
    furniture: Path | None = None,
    doubles: bool = False,
) -> dict:
    """Write out/{scans,splits,scannetv2-labels.combined.tsv,synthetic.json}, a quarter of the scenes for validation.

    A finished set with the same arguments is left as it is, an unfinished one is made again. The bytes do not depend
    on `workers`.

    Args:
        style: of STYLES. shuffled: the control set of style plain (rooms.shuffle_labels).
        telling_colours: style plain; a vertex's colour says what its object alone tells, its class or its pair.
        doubles: style plain; rooms with look-alikes of two classes side by side, each with its companion.
        furniture: style scanned; a folder of .sh3f archives, whose models are mixed in.

    Returns the content of synthetic.json. Raises FileExistsError if `out` holds anything else, ValueError for fewer
    than 2 scenes or more than MOST_SCENES, for options of the other style and for a folder without furniture.
    """
    if not 2 <= scenes <= MOST_SCENES:
        raise ValueError(f"cannot make {scenes} scenes: give 2 to {MOST_SCENES}; a quarter of them are for validation")
    if seed < 0 or workers < 1:
        raise ValueError(f"seed {seed}, workers {workers}: the seed has to be at least 0, the workers at least 1")
    arguments = {"scenes": scenes, "seed": seed, **_of_style(style, shuffled, telling_colours, furniture, doubles)}
    if found := _found(out, arguments):
        return found
    scanned, credits_of = _need_scanned(furniture) if style == "scanned" else (None, {})
    (out / "splits").mkdir(parents=True, exist_ok=True)
    _write_report(out, {"finished": False, "arguments": arguments})
    val = max(1, scenes // 4)
    counts = {"train": scenes - val, "val": val}
    for split, count in counts.items():
        names = [scan_id(split, i) for i in range(count)]
        (out / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    if style == "plain":
        plans = [p for split, count in counts.items() for p in rooms.plan_rooms(seed, split, count, shuffled, doubles)]
        _write_table(out, rooms.NYU40)
        write = partial(rooms.write_room, scans=out / "scans", telling_colours=telling_colours)
        report = rooms.report_on(list(_in_parallel(write, plans, workers)), shuffled)
    else:
        _write_table(out, scanned.ID_OF)
        tasks = [(split, seed, i) for split, count in counts.items() for i in range(count)]
        write = partial(scanned.write_scanned, scans=out / "scans", furniture=furniture)
        summaries = list(_in_parallel(write, tasks, workers))
        shares = rooms.class_shares([s for s in summaries if s["split"] == "train"])
        report = {"vertices": sum(sum(s["nyu40"]) for s in summaries), "shares": shares, **credits_of}
    report = {"finished": True, "arguments": arguments, **report}
    _write_report(out, report)
    return report


def _of_style(style, shuffled, telling_colours, furniture, doubles) -> dict:
    """The arguments that belong to a style, as the report names them. ValueError: one is the other's."""
    if style not in STYLES:
        raise ValueError(f"style is '{style}'; it can be {' or '.join(STYLES)}")
    if style == "plain":
        if furniture:
            raise ValueError("furniture is for style scanned; leave it out")
        options = {"shuffle_labels": shuffled, "telling_colours": telling_colours}
        return options | ({"doubles": True} if doubles else {})
    if shuffled or telling_colours or doubles:
        raise ValueError("shuffled labels, telling colours and doubles are for style plain; leave them out")
    return {"style": style, "furniture": furniture and str(furniture)}


def _need_scanned(furniture):
    """The module that makes rooms of style scanned, and whom its furniture is owed to. ValueError: one is missing."""
    try:
        from data.rooms import designed, scanned
    except ImportError as error:
        raise ValueError(f"style scanned needs more libraries: {INSTALL} ({error})") from error
    if furniture:
        print(f"reading the furniture of {furniture}", flush=True)
    return scanned, {"credits": designed.credits(designed.read_furniture(furniture))} if furniture else {}


def _found(out: Path, arguments: dict) -> dict | None:
    """The report of a finished set with these arguments, if it is in `out`."""
    if not out.exists() or not any(out.iterdir()):
        return None
    try:
        found = json.loads((out / REPORT).read_text())
        made = found["arguments"]
        made = made if "style" in made else {"telling_colours": False, **made}
    except (OSError, ValueError, KeyError, TypeError):
        found, made = {}, "something else"
    if made != arguments:
        raise FileExistsError(f"{out} holds {made}, wanted {arguments}: give another --out, or delete it first")
    complete = found.get("finished") and len(list((out / "scans").glob("*/*.kinds.json"))) == arguments["scenes"]
    return found if complete else None


def _write_table(out: Path, nyu40: dict[str, int]) -> None:
    """The label table: nyu40 ids of raw categories."""
    rows = [f"{i}\t{name}\t{id_}\n" for i, (name, id_) in enumerate(sorted(nyu40.items()), 1)]
    (out / TABLE).write_text("id\traw_category\tnyu40id\n" + "".join(rows))


def _write_report(out: Path, report: dict) -> None:
    with replacing(out / REPORT) as temporary:
        temporary.write_text(json.dumps(report, indent=1))


def _in_parallel(write, tasks: list, workers: int) -> Iterator[dict]:
    """What `write` returns for each task, in their order."""
    with worker_processes(min(workers, len(tasks))) as executor:
        try:
            yield from tqdm(executor.map(write, tasks), total=len(tasks), desc="rooms", unit="room")
        except BrokenProcessPool as error:
            raise OSError(KILLED) from error
