"""Can a context layer use the context of a chunk, if everything else is made easy?

    python scripts/experiments/context_probe.py [--network layer --rows none latentgnn_k1 --seeds 0 1 2]

Training on whole rooms spends most of its time on learning what objects look like, and few points depend on context.
Here the colour of a point says what its object alone tells (make_synthetic.py --telling-colours): its class or, of an
object without a cue, the pair of classes that it can be. Chunks are centred on such objects and the loss counts
nothing else, so that what is left to learn is context.

--task near: that a companion is in the chunk is all to know, and a mean over the chunk tells it. double: two objects
that look alike stand side by side, of two classes, each with its companion (make_synthetic.py --doubles). Chunks of 3 m
are around the two, in training and to be scored, so the companions' positions decide.

--network layer: each point's colour, one context layer, and a classifier; no coordinates in the task near, and x and y
from the middle of the chunk's points in the task double, in every row. whole: PointNet++ with colours and a context
layer at its four levels. Row "mean" has the plainest context there is, a learned linear map of the mean feature;
"latentgnn_d1" a single latent node, so that nothing is exchanged between nodes.

Of a LatentGNN alone a run also has the effective rank of its affinity A, as it is and without what all points of a
chunk receive alike.

A finished run is one JSON file; the same command goes on with what is missing, and makes the tables of
docs/results/context.md.
"""

import argparse
import json
import os
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm, trange

from data import augment
from data.chunks import CHUNK_SIZE, CONTEXT, tile_crops
from data.datasets import scene_files
from data.features import channels_of
from data.labels import SCANNET20
from data.rooms.objects import PAIRS
from data.rooms.rooms import TELLING_STEPS, TILES
from data.scenes import SceneError, read_manifest
from models.batch_norm import set_batch_norm_momentum
from models.context import build_context
from models.latentgnn import LatentGNN
from models.pointnet2 import PointNet2, PointNet2Config
from scripts.demo import ROOT, room_commands
from scripts.demo import run as run_command
from scripts.experiments import score_kinds
from scripts.experiments.latent_nodes import affinities_of, rank
from scripts.experiments.reproduce_table3 import commit, write_result
from scripts.experiments.table3_report import (
    EQUALS,
    ORACLES,
    around_marks,
    difference,
    mean_and_deviation,
    oracle_of,
    percent,
    put_between,
    table_head,
    table_line,
)
from training.arguments import choose_device, whole_number
from training.losses import weighted_cross_entropy_sum


class Setting(NamedTuple):
    title: str
    points: int  # of a chunk; fewer than usual, as colours say what is fine
    steps: int


ROWS = {  # title, and what differs in the configuration
    "none": ("no context", {}),
    "mean": ("mean feature", {"context": "mean_feature"}),
    "non_local": ("non-local block", {"context": "non_local"}),
    "latentgnn_k1": ("LatentGNN, K = 1", {"context": "latentgnn"}),
    "latentgnn_k3": ("LatentGNN, K = 3", {"context": "latentgnn", "kernels": 3}),
    "latentgnn_d1": ("LatentGNN, K = 1, d = 1", {"context": "latentgnn", "latent_nodes": (1, 1, 1, 1)}),
    "latentgnn_temperature": ("LatentGNN, K = 1, temperature", {"context": "latentgnn", "learned_temperature": True}),
    "latentgnn_signed": ("LatentGNN, K = 1, signed", {"context": "latentgnn", "signed": True}),
    "latentgnn_both": (
        "LatentGNN, K = 1, temperature, signed",
        {"context": "latentgnn", "learned_temperature": True, "signed": True},
    ),
    "double_attention": ("double attention", {"context": "double_attention"}),
    "induced_points": ("induced points", {"context": "induced_points"}),
}
CHANNELS = 64  # of the layer alone, which is that of PointNet++'s first level
NETWORKS = {
    "layer": Setting("One layer alone", 512, 2000),
    "whole": Setting("PointNet++ with four layers", 1024, 1500),
}


class Task(NamedTuple):
    flags: str  # of make_synthetic.py
    rows: list[str]  # where none are named
    chunk_size: float  # m
    data: str  # where the rooms are made
    known: dict[str, str]  # oracles, and what they know


LAYERS = ["none", "mean", "non_local", "latentgnn_k1", "latentgnn_k3"]
TASKS = {  # by the kind of the objects that are asked for
    "near": Task("--telling-colours", [*LAYERS, "latentgnn_d1"], CHUNK_SIZE, "datasets/probe", ORACLES),
    "double": Task(
        "--telling-colours --doubles",
        LAYERS,
        TILES["large chunk"],
        "datasets/probe_double",
        {"local": "the object alone, or the chunk without positions", "around": "all of the chunk"},
    ),
}
DRAWN = list(dict.fromkeys(known for task in TASKS.values() for known in task.known.values()))  # of a colour each
RANKED = 32  # rooms, one of doubles once a pair, of which a chunk each says what rank a layer's affinity has
DRAWS = 4  # of the chunk around two doubles, to be scored
WAVELENGTHS = (8.0, 4.0, 2.0, 1.0)  # m; of the waves that stand for x and y
COMPARED = {"none": "no context", "mean": "the mean feature", "latentgnn_k1": "LatentGNN, K = 1"}
SCENES = 512  # a quarter of them to be scored
BATCH_SIZE = 16
LEARNING_RATE = 3e-3  # of Adam; falls to 0 linearly
BN_MOMENTUM = 0.1
LOSS_EVERY = 50  # steps over which the recorded loss is averaged
BEGIN, END = "<!-- made by context_probe.py: -->", "<!-- :made by context_probe.py -->"


def look_of(colour: Tensor) -> Tensor:
    """The number in TELLING_COLOURS of telling colours (..., 3) in [0, 1]: (...) int64."""
    steps = (colour * (TELLING_STEPS - 1)).round().long()
    return (steps[..., 0] * TELLING_STEPS + steps[..., 1]) * TELLING_STEPS + steps[..., 2]


def waves(xy: Tensor) -> Tensor:
    """Sines and cosines of positions (B, N, 2) from the middle of each cloud's points: (B, N, 16)."""
    angle = torch.stack([2 * torch.pi / length * (xy - xy.mean(1, keepdim=True)) for length in WAVELENGTHS], -1)
    return torch.cat((angle.sin(), angle.cos()), -1).flatten(2)


class LayerAlone(nn.Module):
    """A context layer on points of which nothing but the colour is known or, with `places`, also x and y."""

    def __init__(self, context: nn.Module, places: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(TELLING_STEPS**3, CHANNELS)
        self.context = context
        self.head = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.BatchNorm1d(CHANNELS), nn.ReLU())
        self.classifier = nn.Linear(CHANNELS, SCANNET20.num_classes)
        self.places = nn.Linear(4 * len(WAVELENGTHS), CHANNELS) if places else None

    def forward(self, points: Tensor) -> Tensor:
        """x, y, z and a telling colour (B, N, 6) -> logits (B, N, 21)."""
        known = self.context(self.features(points))  # (B, N, C)
        return self.classifier(self.head(known.flatten(0, 1))).unflatten(0, points.shape[:2])  # (B, N, 21)

    def features(self, points: Tensor) -> Tensor:
        """What the context layer is given: (B, N, 6) -> (B, N, C)."""
        known = self.embedding(look_of(points[..., 3:]))  # (B, N, C)
        if self.places is not None:
            known = known + self.places(waves(points[..., :2]))  # (B, N, C)
        return torch.relu(known)


@dataclass
class Room:
    """The annotated vertices V of a room."""

    points: np.ndarray  # (V, 6) float32: x, y, z, and the telling colour
    owner: np.ndarray  # (V,) objectId
    classes: np.ndarray  # (V,) int64 in 0..20
    things: list[dict]  # the objects that are asked for
    asked: np.ndarray  # (V,) bool: vertices of these
    middle: np.ndarray | None = None  # (2,) x, y between two doubles, of the chunk; None: it is around an asked vertex


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS), default="near")
    parser.add_argument("--network", choices=list(NETWORKS), default="layer")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help="default: by task")
    parser.add_argument("--seeds", nargs="+", type=whole_number(0), default=[0, 1, 2])
    parser.add_argument("--chunk-size", type=float, choices=list(TILES.values()), help="metres; the task double has 3")
    parser.add_argument("--steps", type=whole_number(1), help=f"of {BATCH_SIZE} chunks (default: by network)")
    parser.add_argument("--scenes", type=whole_number(2), default=SCENES, help="generated rooms")
    parser.add_argument("--data", type=Path, help="where the rooms are made (default: by task)")
    parser.add_argument("--results", type=Path, default=Path("docs/results/probe"))
    parser.add_argument("--report", type=Path, default=ROOT / "docs/results/context.md", help="where the table is put")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    task = TASKS[args.task]
    args.steps = args.steps or NETWORKS[args.network].steps
    args.rows, args.data = args.rows or task.rows, args.data or Path(task.data)
    args.chunk_size = args.chunk_size or task.chunk_size
    try:
        if args.task == "double" and args.chunk_size != task.chunk_size:
            raise ValueError(f"the task double has chunks of {task.chunk_size:g} m, not {args.chunk_size:g}")
        run_all(args)
    except (ValueError, OSError, SceneError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_all(args: argparse.Namespace) -> None:
    """Train and score what has no result yet, seed after seed, and make the table of all results."""
    settings = {name: getattr(args, name) for name in ("network", "chunk_size", "steps", "scenes")}
    settings["points"] = NETWORKS[args.network].points
    settings |= {} if args.task == "near" else {"task": args.task}  # what was run before there were tasks stays valid
    plan = [(row, seed) for seed in args.seeds for row in args.rows]
    name = f"{'' if args.task == 'near' else args.task + '-'}{args.network}-{args.chunk_size:g}m"
    files = {run: ROOT / args.results / f"{name}-{run[0]}-seed{run[1]}.json" for run in plan}
    for file in files.values():
        if file.exists() and (found := json.loads(file.read_text())["settings"]) != settings:
            raise ValueError(f"{file} has the settings {found}, not {settings}: give those, or another --results")
    around_marks(args.report, BEGIN, END)  # raises before the work
    missing = {run: file for run, file in files.items() if not file.exists()}
    if missing:
        scans, data = args.data / "scans", args.data / "scenes"
        for command in room_commands(scans, data, f"--scenes {args.scenes} {TASKS[args.task].flags}"):
            run_command(command)
        training = read_rooms(ROOT / data, ROOT / scans, "train", args.task)
        held_out = read_rooms(ROOT / data, ROOT / scans, "val", args.task)
        oracles = json.loads((ROOT / scans / "synthetic.json").read_text())["oracles"]
    device = choose_device(args.device)
    asked = f"--task {args.task} " if "task" in settings else ""
    for number, ((row, seed), file) in enumerate(missing.items(), start=1):
        started = time.perf_counter()
        model = network(args.network, row, seed, places=args.task == "double").to(device)
        title = f"{number}/{len(missing)} {row}, seed {seed}"
        losses = train(model, training, seed, settings, title)
        result = {
            "row": row,
            "seed": seed,
            "settings": settings,
            "command": f"python scripts/experiments/context_probe.py {asked}--network {args.network} --rows {row} "
            f"--seeds {seed} --chunk-size {args.chunk_size:g} --steps {args.steps} --scenes {args.scenes}",
            "commit": commit(),
            "device": str(device),
            "torch": torch.__version__,
            "loss": losses,
            "kinds": score(model, held_out, settings),
            "rank": affinity_ranks(model, held_out, settings),
            "oracles": oracles,
            "seconds": round(time.perf_counter() - started),
        }
        write_result(file, result)
        right = score_kinds.scores(result["kinds"])[args.task]["right"]
        print(f"{row}, seed {seed}: loss {losses[-1]:.3f}, right {right:.3f}, {result['seconds']} s -> {file}")
    results = [json.loads(file.read_text()) for file in sorted((ROOT / args.results).glob("*-seed*.json"))]
    write_report(args.report, results)


def read_rooms(data: Path, scans: Path, split: str, kind: str) -> list[Room]:
    """The rooms of a split that have annotated objects of a kind."""
    rooms, files = [], scene_files(data, read_manifest(data), [split])
    for file in tqdm(files, desc=f"reading {split}", unit="room", disable=None):
        points, label = file.read_points(("colour",))
        owner, things = score_kinds.objects_of_pairs(scans / "scans" / file.name)
        things = [thing for thing in things if thing["kind"] == kind]
        asked = np.isin(owner, [thing["objectId"] for thing in things])
        kept = np.flatnonzero(label > 0)  # as in training: what is not annotated is dropped
        if asked[kept].any():
            classes = SCANNET20.class_of[label[kept]].astype(np.int64)
            room = Room(points[kept], owner[kept], classes, things, asked[kept])
            rooms += once_a_pair(room) if kind == "double" else [room]
    return rooms


def once_a_pair(room: Room) -> list[Room]:
    """A room of doubles once for each of its pairs, so that what is asked for is always in the chunk around it."""
    found = []
    for pair in PAIRS:
        things = [thing for thing in room.things if thing["pair"] == pair]
        asked = np.isin(room.owner, [thing["objectId"] for thing in things])
        if asked.any():
            xy = room.points[asked, :2]
            found.append(replace(room, things=things, asked=asked, middle=(xy.min(0) + xy.max(0)) / 2))
    return found


def network(name: str, row: str, seed: int, places: bool = False) -> nn.Module:
    """A network with weights drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        config = PointNet2Config(SCANNET20.num_classes, extra_channels=channels_of(["colour"]), **ROWS[row][1])
        if name == "layer":
            return LayerAlone(build_context(config, CHANNELS, latent_nodes=config.latent_nodes[0]), places)
        model = PointNet2(replace(config, context="none"))
        for level, latent_nodes in enumerate(config.latent_nodes, start=1):  # drawn last: the rest is equal in all rows
            channels = model.get_submodule(f"sa{level}").out_channels
            model.set_submodule(f"context{level}", build_context(config, channels, latent_nodes=latent_nodes))
        return model


def chunk(room: Room, rng: np.random.Generator, size: float, num_points: int) -> tuple[np.ndarray, ...]:
    """A chunk around what is asked for: points (N, 6), classes (N,), and whether the loss counts it (N,)."""
    centre = room.points[rng.choice(np.flatnonzero(room.asked)), :2] if room.middle is None else room.middle
    index, core = draw_around(room, centre, rng, size, num_points)
    points = room.points[index]
    points[:, :3] = augment.rotate_about_z(points[:, :3], rng.uniform(0, 2 * np.pi))
    return points, room.classes[index], room.asked[index] & core


def draw_around(room: Room, centre: np.ndarray, rng, size: float, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices drawn from a chunk around a place (2,), and whether they are in its core: (N,) each."""
    distance = np.maximum(np.abs(room.points[:, 0] - centre[0]), np.abs(room.points[:, 1] - centre[1]))  # (V,)
    index = rng.choice(np.flatnonzero(distance <= size / 2 + CONTEXT), size=num_points)
    return index, distance[index] <= size / 2


def train(model: nn.Module, rooms: list[Room], seed: int, settings: dict, title: str) -> list[float]:
    """Train in place. Returns the loss, averaged over every LOSS_EVERY steps."""
    device, steps = next(model.parameters()).device, settings["steps"]
    cut = settings["chunk_size"], settings["points"]
    set_batch_norm_momentum(model.train(), BN_MOMENTUM)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for step in trange(steps, desc=title, unit="step", disable=None):
        rng = np.random.default_rng([seed, step])
        chosen = rng.integers(len(rooms), size=BATCH_SIZE)
        batch = [torch.from_numpy(np.stack(a)) for a in zip(*(chunk(rooms[i], rng, *cut) for i in chosen), strict=True)]
        points, classes, counted = (a.to(device) for a in batch)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        torch.manual_seed(int(rng.integers(2**63)))  # dropout
        total, count = weighted_cross_entropy_sum(model(points), classes, counted.float())
        loss = total / count.clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise ValueError(f"{title}: the loss is {losses[-1]} after step {step}")
    return [round(np.mean(losses[i : i + LOSS_EVERY]).item(), 4) for i in range(0, steps, LOSS_EVERY)]


@torch.inference_mode()
def score(model: nn.Module, rooms: list[Room], settings: dict) -> score_kinds.Counts:
    """Counts over the core points drawn from the tiles of every room, as pn2-wholescene draws them, or, of doubles,
    from chunks around them."""
    device, counts = next(model.parameters()).device, score_kinds.no_counts()
    model.eval()
    for number, room in enumerate(tqdm(rooms, desc="scoring", unit="room", leave=False, disable=None)):
        rng = np.random.default_rng(number)
        cut = settings["chunk_size"], settings["points"]
        if room.middle is None:
            draws = ((draw.index, draw.core) for draw in tile_crops(room.points[:, :3], rng, cut[1], cut[0]))
        else:
            draws = (draw_around(room, room.middle, rng, *cut) for _ in range(DRAWS))
        for index, in_core in draws:
            core = index[in_core]
            if room.asked[core].any():
                logits = model(torch.from_numpy(room.points[index]).unsqueeze(0).to(device))[0]  # (N, 21)
                answers = logits.argmax(1).cpu().numpy()[in_core]
                for thing in room.things:
                    score_kinds.count_answers(thing, answers[room.owner[core] == thing["objectId"]], counts)
    return counts


@torch.inference_mode()
def affinity_ranks(model: nn.Module, rooms: list[Room], settings: dict) -> list[float] | None:
    """Effective rank of A of one LatentGNN alone (latent_nodes.py), and that of A without the mean of its rows, which
    all points of the chunk receive alike: means over kernels and over a chunk of each of the first RANKED of `rooms`.
    None of another network."""
    if not (isinstance(model, LayerAlone) and isinstance(model.context, LatentGNN)):
        return None
    found, device = [], next(model.parameters()).device
    model.eval()
    for number, room in enumerate(rooms[:RANKED]):
        points, *_ = chunk(room, np.random.default_rng(number), settings["chunk_size"], settings["points"])
        psi_v2l, psi_l2v, f = affinities_of(model.context, model.features(torch.from_numpy(points[None]).to(device)))
        for v2l, l2v, graph in zip(psi_v2l, psi_l2v, f, strict=True):
            found.append([rank(v2l, graph, l2v), rank(v2l, graph, l2v - l2v.mean(1, keepdims=True))])
    return np.mean(found, axis=0).round(2).tolist()


def task_of(settings: dict) -> str:
    return settings.get("task", "near")


def possible(settings: dict) -> dict[str, float]:
    """What one could know -> the accuracy that it allows, for the settings and oracles of a group."""
    task = task_of(settings)
    oracles = {
        what: oracle_of(settings["oracles"], name, settings["chunk_size"]) for name, what in TASKS[task].known.items()
    }
    return {what: of_kind[task] for what, of_kind in oracles.items()}


def grouped(results: list[dict]) -> list[tuple[dict, dict[str, list[dict]]]]:
    """For each network and size of chunks the settings, and by row the scores of its runs."""
    groups: dict[str, list[dict]] = {}
    for result in results:
        groups.setdefault(json.dumps(result["settings"]), []).append(result)
    found = []
    for group in groups.values():
        scores = {row: [] for row in ROWS if row in {result["row"] for result in group}}
        for result in group:
            of_task = score_kinds.scores(result["kinds"])[task_of(result["settings"])]
            scores[result["row"]].append(of_task | {"rank": result.get("rank")})  # not of the oldest runs
        found.append((group[0]["settings"] | {"oracles": group[0]["oracles"]}, scores))
    return sorted(found, key=lambda group: list(TASKS).index(task_of(group[0])))


def write_report(path: Path, results: list[dict]) -> None:
    """Put the tables and the picture of the results into the report, between its two marks."""
    picture = path.with_name("context_probe.png")
    lines = [
        f"![Right on the objects asked for by layer, a mark a run; dashed: what one could know]({picture.name})",
        "",
    ]
    groups = grouped(results)
    for number, (settings, scores) in enumerate(groups):
        if task_of(settings) == "double" and (number == 0 or task_of(groups[number - 1][0]) == "near"):
            lines += ["### Two look-alikes side by side", ""]
        lines += [*_table(settings, scores), ""]
    put_between(path, BEGIN, END, "\n".join(lines))
    draw(picture, groups)


def _table(settings: dict, scores: dict[str, list[dict]]) -> list[str]:
    lines = [
        f"{_title(settings)} and {settings['points']} points, {settings['steps'] * BATCH_SIZE:,} of them in batches of "
        f"{BATCH_SIZE}; {settings['scenes']} rooms, a quarter of them scored:",
        "",
    ]
    header = [f"{task_of(settings)} objects, %", "seeds", "right"]
    header += [f"difference to {title} (smallest that shows)" for title in COMPARED.values()]
    is_ranked = any(run["rank"] for runs in scores.values() for run in runs)
    header += ["told apart", *["rank of A, and without its mean"] * is_ranked]
    lines += table_head(header)
    body = []
    for row, runs in scores.items():
        cells = [ROWS[row][0], len(runs), mean_and_deviation([run["right"] for run in runs])]
        for other in COMPARED:
            values, base = ([run["right"] for run in scores.get(name, [])] for name in (row, other))
            comparable = row != other and min(len(values), len(base)) > 1
            cells.append(difference(values, base) if comparable else "")
        cells += [mean_and_deviation([run["told apart"] for run in runs])]
        ranks = [run["rank"] for run in runs if run["rank"]]
        of = f" ({len(ranks)} of {len(runs)})" if len(ranks) < len(runs) else ""
        cells += [", ".join(f"{value:.1f}" for value in np.mean(ranks, axis=0)) + of] if ranks else []
        body.append(cells)
    body += [[f"possible, knowing {known}", "", percent(accuracy)] for known, accuracy in possible(settings).items()]
    return lines + [table_line(cells + [""] * (len(header) - len(cells))) for cells in body]


def _title(settings: dict) -> str:
    where = "" if task_of(settings) == "near" else "two doubles, "
    return f"{NETWORKS[settings['network']].title}, {where}chunks of {settings['chunk_size']:g} m"


def draw(path: Path, groups: list[tuple[dict, dict[str, list[dict]]]]) -> None:
    """A panel for each network and size of chunks: a mark a run, and what one could know as lines."""
    widths = [max(len(scores), 5) for _, scores in groups]  # five rows or more: the title needs as much
    figure = Figure(figsize=(0.85 * sum(widths), 4.4), layout="constrained")
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axis, (settings, scores) in zip(axes, groups, strict=True):
        for place, runs in enumerate(scores.values()):
            axis.plot([place] * len(runs), [100 * run["right"] for run in runs], "oC0", alpha=0.6)
        for known, accuracy in possible(settings).items():
            if known != ORACLES["room"]:
                line = {"color": f"C{1 + DRAWN.index(known)}", "linestyle": "--"}
                axis.axhline(100 * accuracy, label=f"possible, knowing {known}", **line)
        titles = [ROWS[row][0].replace(" = ", EQUALS) for row in scores]
        titles = [textwrap.fill(title, 10, break_long_words=False) for title in titles]
        axis.set_xticks(range(len(scores)), titles, fontsize="small")
        axis.set(title=_title(settings), xlim=(-0.5, len(scores) - 0.5))
        axis.grid(True, axis="y", alpha=0.3)
    axes[0].set_ylabel("right on the objects asked for, %")
    labelled = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
