"""Train a network on ScanNet chunks; plain `python train_scannet.py` trains on generated rooms.

    python train_scannet.py --data datasets/scannet --model latentgnn --kernels 1
    torchrun --standalone --nproc-per-node=4 train_scannet.py --data datasets/scannet

Defaults are the paper's: Adam at 1e-3, 200 epochs of one chunk per scene, batches of 64, learning rate x 0.7 and
batch-norm momentum halved every 200,000 chunks. The run folder gets config, log, metrics, TensorBoard and checkpoints.

SIGTERM and SIGINT (Ctrl-C) save and stop at the end of the step; --resume auto with the same command goes on there.
Exit codes: 0 trained, 1 failed, 2 wrong flags, 130 and 143 stopped by SIGINT and SIGTERM.
"""

import argparse
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Before torch is imported: its idle OpenMP threads then spin for microseconds before they sleep, not for milliseconds.
# As fast on a quiet machine; where other processes want the same cores, a step is 3 to 40 times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import ops
from data.augment import AUGMENTATIONS
from data.chunks import LEAST_SPACING
from data.datasets import (
    INPUTS,
    ChunkBatches,
    LabelPolicy,
    SceneFile,
    TrainingChunks,
    WholeScenes,
    expected_scenes,
    is_file_of_names,
    scene_files,
)
from data.features import POINT_FEATURES, channels_of
from data.labels import SCANNET20, LabelSpace
from data.rooms.default import default_rooms
from data.scenes import SceneError, read_manifest
from models import pointnet2
from models.batch_norm import set_batch_norm_momentum
from models.context import CONTEXTS, contexts_of_models
from models.pointnet2 import CENTRES
from models.sync_batch_norm import synchronise
from training import checkpoint, ranks
from training.arguments import (
    TF32_HELP,
    add_network_flags,
    choose_device,
    flags_of_file,
    network_fields,
    precision,
    refuse_options,
    whole_number,
)
from training.graph import Graph, eagerly
from training.loader import CACHES, ahead, chunk_loader, share_cache
from training.loop import Run, refuse_infinite_weights, set_learning_rate, steps
from training.losses import weighted_cross_entropy_sum
from training.recipes import DECAY_EVERY, RECIPES, bn_momentum, cosine, learning_rate
from training.run_folder import NOT_SETTINGS, Found, RunLog, environment, open_run_folder, refuse_run_folder, write_json
from training.step import Step
from training.stopping import StopRequest, TrainingError, run_command
from training.validation import Validation

SELECTION = "names of splits or scenes, patterns ('Area_5*'), or text files of names"
BOUNDS = (  # flag, least, most, unit
    ("lr", 1e-12, 1e3, ""),
    ("chunk_size", 1e-3, 1e3, " metres"),
    ("bn_momentum", 1e-6, 1, ""),
    ("label_smoothing", 0, 0.99, ""),
    ("weight_decay", 0, 1e3, ""),
    ("clip", 0, 1e12, ""),
)
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
CONTEXT_OF_MODEL = contexts_of_models("pointnet2")

# What may differ between a run and its resumption; everything else would make another experiment of it
FREE_ON_RESUME = ("workers", "cache", "device", "ops", "compile", "graph", "validate_every", "save_every", "data")


def main(argv: list[str] | None = None) -> int:
    return run_command(parse_config, train, argv, (SceneError, ops.cpu.CompileError))


def _parser() -> argparse.ArgumentParser:
    """A setting that a checkpoint or a file of flags does not name has its flag's default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, help="JSON file of flags, such as a run's config.json; flags given here win")
    add("--data", type=Path, help="preprocessed scenes (default: rooms generated once into datasets/synthetic)")
    add("--recipe", choices=list(RECIPES), default="paper", help="a set of defaults for the flags below")
    add("--train", nargs="+", default=["train"], metavar="S", help=f"scenes to train on: {SELECTION}")
    add("--val", nargs="+", default=["val"], metavar="S", help="scenes to validate on, in the same way")
    add("--init-from", type=Path, help="start with the weights of a checkpoint, run, export or 'rooms', where they fit")
    add("--name", help="name of the run (default: the model's)")
    add("--out", type=Path, help="run folder (default: runs/<name>)")
    add("--resume", choices=["auto"], help="go on from the run folder's last.pt; start afresh if it has none")
    add("--model", choices=list(CONTEXT_OF_MODEL), default="latentgnn")
    add_network_flags(parser, pointnet2.PointNet2Config)
    add("--features", nargs="*", choices=list(POINT_FEATURES), help="point features beside xyz")
    add("--chunk-size", type=float, help="edge of the chunks, and of the tiles, in m")
    add("--points", type=whole_number(1), help="drawn from a chunk or tile")
    add("--spacing", type=float, help="m; not 0: chunks are thinned to a vertex in each cube of about this edge")
    add("--unannotated", choices=["drop", "ignore"], help="vertices without annotation")
    add("--other", choices=["train", "ignore"], help="annotated vertices of none of the classes")
    parser.set_defaults(**INPUTS)  # of these six
    add("--augment", nargs="*", choices=list(AUGMENTATIONS), default=["dropout", "rotate"], help="of training chunks")
    add("--class-weights", choices=["log", "none"], default="log", help="of the loss: 1 / ln(1.2 + frequency), or 1")
    add("--label-smoothing", type=float, default=0.0, help="share of the target that is spread over all classes")
    add("--epochs", type=whole_number(1), default=200, help="one chunk per scene each")
    add("--batch-size", type=whole_number(1), default=64, help="chunks a step, of all GPUs together")
    add("--accumulate", type=whole_number(1), default=1, help="batches a step, each with statistics of its own")
    add("--optimiser", choices=list(OPTIMISERS), default="adam")
    add("--weight-decay", type=float, default=0.0, help="of the optimiser")
    add("--clip", type=float, default=0.0, help="largest norm of the gradient; 0: any")
    add("--lr", type=float, default=1e-3, help="learning rate at the start, or after the warm-up")
    add("--schedule", choices=["step", "cosine"], default="step", help="of the learning rate: x 0.7, or down to 0")
    add("--warm-up", type=whole_number(0), default=0, help="chunks, in which a cosine rises before")
    add("--bn-momentum", type=float, default=0.5, help="weight of the newest batch in the running statistics")
    add("--decay-every", type=whole_number(1), default=DECAY_EVERY, help="chunks, in the schedules of both")
    add("--sync-bn", action=argparse.BooleanOptionalAction, default=False, help="batch statistics of all GPUs together")
    add("--validate-every", type=whole_number(0), default=5, help="epochs; 0: never, and there is no best.pt")
    add("--save-every", type=whole_number(1), default=1, help="epochs")
    add("--seed", type=whole_number(0), default=0)
    add("--workers", type=whole_number(0), default=2, help="processes that read scenes and cut chunks, for each GPU")
    add(
        "--cache",
        choices=CACHES,
        default="auto",
        help="auto: scenes are unpacked once, to a temporary file, if it fits",
    )
    add("--device", default="auto")
    add("--tf32", action=argparse.BooleanOptionalAction, default=False, help=TF32_HELP)
    add("--amp", choices=["none", "bf16"], default="none", help="autocast of the forward pass, in training only")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile the training step")
    add("--graph", action=argparse.BooleanOptionalAction, default=True, help="replay the step as a CUDA graph")
    add("--ops", choices=ops.CHOICES, default="auto", help="implementation of the point operators")
    return parser


def parse_config(argv: list[str]) -> argparse.Namespace:
    """Flags over the JSON file of --config over the recipe's defaults. Keys of the file are the flags' names; those
    that recipes set are not read where --recipe is given beside the file.

    A flag of another model's layer is refused; in the file it is ignored, with a line that says so.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    of_recipes = {name for recipe in RECIPES.values() for name in recipe} if "--recipe" in argv else ()
    flags = [*(flags_of_file(given.config, parser, of_recipes) if given.config else []), *argv]
    parser.set_defaults(**RECIPES[parser.parse_args(flags).recipe])
    given, args = parser.parse_args(argv), parser.parse_args(flags)
    given.model, foreign = args.model, foreign_flags(args.model)
    refuse_options(parser, given, foreign)
    for name in foreign:
        if getattr(args, name) != (default := parser.get_default(name)):
            print(f"--config {args.config}: {name} is no option of {args.model}, and ignored")
            setattr(args, name, default)
    try:
        with torch.device("meta"):
            pointnet2.PointNet2(network_config(args, SCANNET20.num_classes))
    except ValueError as error:
        parser.error(str(error))
    for name, least, most, unit in BOUNDS:
        if not least <= getattr(args, name) <= most:
            flag = f"--{name.replace('_', '-')} is {getattr(args, name)}"
            parser.error(f"{flag}; it has to be {least:g} to {most:g}{unit}")
    if args.warm_up and args.schedule != "cosine":
        parser.error("--warm-up is for --schedule cosine; leave it out")
    if args.spacing and not LEAST_SPACING <= args.spacing < args.chunk_size:
        parser.error(f"--spacing is {args.spacing}; it has to be 0, or {LEAST_SPACING} m to below a chunk's edge")
    if args.compile and args.sync_bn:
        parser.error("--sync-bn is not compiled; leave out --compile")
    args.features = [name for name in POINT_FEATURES if name in args.features]  # their order in a point
    args.augment = [name for name in AUGMENTATIONS if name in args.augment]  # the order in which they are done
    if args.init_from and not checkpoint.is_shipped(args.init_from):
        args.init_from = args.init_from.resolve()
    args.init_from = args.init_from and str(args.init_from)
    for name in ("train", "val"):  # files of names are found again from elsewhere
        choices = getattr(args, name)
        setattr(args, name, [str(Path(c).resolve()) if is_file_of_names(c) else c for c in choices])
    args.name = args.name or (f"latentgnn_k{args.kernels}" if args.model == "latentgnn" else args.model)
    args.out = args.out or Path("runs") / args.name
    return args


def foreign_flags(model: str) -> list[str]:
    """The options of other models' context layers."""
    every = {option for context in CONTEXTS for option in pointnet2.options_of(context)}
    return sorted(every - {*pointnet2.options_of(CONTEXT_OF_MODEL[model])})


def train(args: argparse.Namespace, stop: StopRequest) -> int:
    """The run, in every rank. Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    config = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    device = choose_device(args.device, args.tf32)
    data, found, initial = ranks.on_rank_0(prepare, args, config)
    config["data"] = str(data.folder.resolve())
    chunks, batches, loader = training_chunks(args, data, device)

    model, optimizer = build(args, network_config(args, data.space.num_classes), device)
    identity = {"scenes_digest": data.digest, "world_size": ranks.world_size(), "space": data.space}
    run = Run(model, optimizer, config, identity)
    notes = share_cache(chunks, args.cache) + (notes_of_start(args, model, initial, data.space) if initial else [])
    if found:
        run.resume(found.state)
    run.history = open_log(args, run, device, chunks, batches, data, found, notes)
    validation = validation_of(args, run, device, data)
    ranks.copy_weights_of_rank_0(model)
    step = step_of(args, run, device)
    rates_of = functools.partial(rates, args, len(batches))
    schedule = functools.partial(set_rates, run, rates_of)
    last = args.out / "checkpoints" / checkpoint.LAST

    stop.listen()
    if validation and not found and validation.score(model, 0, stop) is None:
        return run.save_and_stop(last, stop)
    progress = tqdm(total=args.epochs * len(batches), initial=run.step, unit="step", disable=run.history.silent or None)
    for epoch in range(run.epoch + 1, args.epochs + 1):
        started, before, speed = time.perf_counter(), run.step, 0.0
        batches.set_epoch(epoch, first_step=len(run.losses))
        model.train()
        for loss, stopping in steps(run, step, ahead(loader, device), schedule, chunks.names_of, stop):
            run.history.step(epoch, run.step, loss)
            points, (rate, _) = (run.step - before) * chunks_of_step(args) * args.points, rates_of(run.step - 1)
            speed = points / (time.perf_counter() - started)
            progress.set_postfix_str(f"loss {loss:.3f}, lr {rate:.1e}, {speed:,.0f} points/s", refresh=False)
            progress.update()
            if stopping:
                return run.save_and_stop(last, stop)

        log_epoch(args, run, len(batches), epoch, speed)
        refuse_infinite_weights(run)
        final, accuracy = epoch == args.epochs, -1.0
        if validation and (epoch % args.validate_every == 0 or final):
            accuracy = validation.score(model, epoch, stop)
            if accuracy is None:
                return run.save_and_stop(last, stop)
        run.epoch, run.losses = epoch, []
        if accuracy > run.best:
            run.best = accuracy
            on = f"voxel accuracy on the validation split, every {args.validate_every} epochs"
            ranks.on_rank_0(run.save, last.with_name("best.pt"), on)
        if epoch % args.save_every == 0 or final:
            ranks.on_rank_0(run.save, last)
    progress.close()
    inputs = {name: getattr(args, name) for name in INPUTS}
    ranks.on_rank_0(functools.partial(checkpoint.export, args.out / "export", model, data.space, **inputs))
    run.history.say(f"checkpoints in {last.parent}; score one with eval_scannet.py --checkpoint {last}")
    run.history.close()
    return 0


def build(
    args: argparse.Namespace, network: pointnet2.PointNet2Config, device: torch.device
) -> tuple[pointnet2.PointNet2, torch.optim.Optimizer]:
    ops.use(args.ops)
    model = pointnet2.build(network, args.seed).to(device)
    if args.sync_bn:
        synchronise(model)
    options = {"lr": args.lr, "betas": (0.9, 0.999), "weight_decay": args.weight_decay}
    if device.type == "cuda":  # all of an update on the device, with the rate where a captured one reads it
        options |= {"lr": torch.tensor(args.lr, device=device), "fused": True, "capturable": True}
    return model, OPTIMISERS[args.optimiser](model.parameters(), **options)


def step_of(args: argparse.Namespace, run: Run, device: torch.device) -> Step:
    """The training step, as a CUDA graph where it can be one; the log says which."""
    forward = torch.compile(run.model) if args.compile else run.model
    obstacles = (
        ("there is no graph on this device", device.type != "cuda"),
        ("--no-graph", not args.graph),
        ("--compile", args.compile),
        ("--sync-bn", args.sync_bn),
        ("its point operators are not Triton's", not ops.serve_without_waiting(next(run.model.parameters()))),
    )
    why_not = next((reason for reason, is_there in obstacles if is_there), "")
    run.history.say(f"the step runs eagerly: {why_not}" if why_not else "the step is replayed as a CUDA graph")
    run_as = eagerly if why_not else functools.partial(Graph, device=device)
    loss_of = functools.partial(chunk_loss, forward, device, args)
    return Step(run.model, run.optimizer, loss_of, args.accumulate, args.clip, run_as)


def chunk_loss(
    network: nn.Module, device: torch.device, args: argparse.Namespace, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The sum of the weighted losses of a batch of chunks, and the number of points that it is of."""
    points = batch["points"].to(device)  # (B, N, 3 + extra)
    classes, weight = batch["classes"].to(device), batch["weight"].to(device)  # (B, N) each
    with torch.autocast(device.type, torch.bfloat16, enabled=args.amp == "bf16"):
        logits = network(points)  # (B, N, C)
    return weighted_cross_entropy_sum(logits, classes, weight, args.label_smoothing)


def chunks_of_step(args: argparse.Namespace) -> int:
    return args.batch_size * args.accumulate


def rates(args: argparse.Namespace, steps_an_epoch: int, step: int) -> tuple[float, float]:
    """Learning rate and batch-norm momentum of the step after so many."""
    chunks, total = step * chunks_of_step(args), args.epochs * steps_an_epoch * chunks_of_step(args)
    momentum = bn_momentum(args.bn_momentum, chunks, args.decay_every)
    if args.schedule == "cosine":
        return cosine(args.lr, chunks, total, args.warm_up), momentum
    return learning_rate(args.lr, chunks, args.decay_every), momentum


def set_rates(run: Run, rates_of: Callable[[int], tuple[float, float]], step: int) -> float:
    """For the step after so many. Returns the momentum: the one number of a step that only its code holds."""
    rate, momentum = rates_of(step)
    set_learning_rate(run.optimizer, rate)
    set_batch_norm_momentum(run.model, momentum)
    return momentum


def network_config(args: argparse.Namespace, num_classes: int) -> pointnet2.PointNet2Config:
    return pointnet2.PointNet2Config(
        num_classes=num_classes,
        context=CONTEXT_OF_MODEL[args.model],
        extra_channels=channels_of(args.features),
        **{name: getattr(args, name) for name in network_fields(pointnet2.PointNet2Config)},
    )


class Data(NamedTuple):
    """The scenes of a run."""

    folder: Path
    space: LabelSpace
    train: list[SceneFile]
    val: list[SceneFile]  # empty: there is no validation
    expected: int  # training scenes, with those that preprocessing could not make
    digest: str  # identity of the training scenes, wherever they lie


def prepare(args: argparse.Namespace, config: dict) -> tuple[Data, Found | None, dict | None]:
    """What one process does for all before a run: makes the data and the run folder, locks it, reads its checkpoint.

    Returns the scenes, what was found to resume, and the entries of --init-from for a run that starts.
    """
    refuse_run_folder(args)
    data = choose_data(args, args.data or default_rooms())
    network, free = network_config(args, data.space.num_classes), [*FREE_ON_RESUME, *foreign_flags(args.model)]
    chunks = args.epochs * max(len(data.train) // chunks_of_step(args), 1) * chunks_of_step(args)
    if args.warm_up >= chunks:
        raise TrainingError(f"--warm-up {args.warm_up} is not shorter than the run, which has {chunks} chunks")
    free.append("num_classes")  # label spaces are compared below, and tell more
    if args.schedule == "step":
        free.append("epochs")  # the length of a cosine is a part of it
    found = open_run_folder(args, network, config, free, _parser())
    if found and (differences := found.state["label_space"].differences(data.space)):
        raise TrainingError(f"{found.path} has other classes than {data.folder}: {'; '.join(differences[:5])}")
    if found and found.state.get("scenes_digest") != data.digest:
        raise TrainingError(f"{found.path} was trained on other scenes than those of {data.folder}; give its --data")
    initial = checkpoint.read_published(args.init_from) if args.init_from and not found else None
    return data, found, initial


def notes_of_start(args: argparse.Namespace, model: pointnet2.PointNet2, initial: dict, space: LabelSpace) -> list[str]:
    """Takes the weights of --init-from. What there is to say of them."""
    notes, theirs = [checkpoint.take_weights(model, initial, args.init_from, space)], INPUTS | initial["config"]
    inputs = [(name, theirs[name], getattr(args, name)) for name in INPUTS]
    differing = [f"{name} was {was}, is {is_now}" for name, was, is_now in inputs if was != is_now]
    return notes + ([f"warning: they were trained with other inputs: {'; '.join(differing)}"] if differing else [])


def choose_data(args: argparse.Namespace, folder: Path) -> Data:
    """The scenes of --train and --val; of data without a val split there are none to validate on. Raises SceneError."""
    manifest = read_manifest(folder)
    train = scene_files(folder, manifest, args.train)
    val = scene_files(folder, manifest, args.val) if args.val != ["val"] or manifest["splits"]["val"] else []
    val = val if args.validate_every else []
    files = [(scene.name, manifest["scenes"][scene.name]["sha256"]) for scene in train]
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return Data(folder, manifest["label_space"], train, val, expected_scenes(manifest, args.train), digest)


def training_chunks(
    args: argparse.Namespace, data: Data, device: torch.device
) -> tuple[TrainingChunks, ChunkBatches, DataLoader]:
    policy = LabelPolicy(args.unannotated, args.other, data.space)
    drawn, weighted = (args.chunk_size, args.points, args.spacing), args.class_weights == "log"
    chunks = TrainingChunks(data.train, args.seed, policy, args.features, *drawn, args.augment, weighted)
    share = args.batch_size, args.seed, ranks.rank(), ranks.world_size(), args.accumulate
    batches = ChunkBatches(len(chunks), *share)
    return chunks, batches, chunk_loader(chunks, batches, args.workers, device)


def validation_of(args: argparse.Namespace, run: Run, device: torch.device, data: Data) -> Validation | None:
    if not data.val:
        return None
    scenes = WholeScenes.as_trained(data.val, args.seed, run.config, data.space, covering=False)
    return Validation(scenes, device, args.workers, run.history)


def open_log(
    args: argparse.Namespace,
    run: Run,
    device: torch.device,
    chunks: TrainingChunks,
    batches: ChunkBatches,
    data: Data,
    found: Found | None,
    notes: list[str],
) -> RunLog:
    """The run's log, which has said what is trained on what, and the notes."""
    history = RunLog(args.out, kept_epochs=run.epoch if found else -1, kept_steps=run.step)
    if ranks.rank() == 0:
        write_json(args.out / "config.json", run.config)
        write_json(args.out / "environment.json", environment(device))
    history.say(f"{args.name} in {args.out}: {sum(p.numel() for p in run.model.parameters()):,} parameters")
    history.say(f"{ranks.world_size()} x {device}, {precision()}, {ops.describe()}")
    history.say(
        f"{len(chunks)} training scenes ({data.expected} expected), {len(data.val)} validation scenes, "
        f"{len(data.space.classes)} classes of {data.space.name}, batch {args.batch_size}, "
        f"{len(batches)} steps an epoch, {args.epochs} epochs, seed {args.seed}"
    )
    if both := {scene.name for scene in data.train} & {scene.name for scene in data.val}:
        history.say(f"warning: {len(both)} scenes are in --train and in --val: what is learnt by heart scores there")
    if ranks.rank() == 0 and (distinct := chunks.distinct_points()) < CENTRES[0]:
        advice = "take a smaller --spacing, more --points or a larger --chunk-size"
        few = f"fewer than the {CENTRES[0]} centres of the first level"
        history.say(f"warning: the first chunk has {distinct} distinct points, {few}: {advice}")
    if chunks.left_out:
        history.say(f"without annotation and left out: {', '.join(chunks.left_out)}")
    for note in notes + ([found.notice] if found and found.notice else []):
        history.say(note)
    if found:
        history.say(f"going on after {run.epoch} epochs and {len(run.losses)} steps")
    return history


def log_epoch(args: argparse.Namespace, run: Run, steps_an_epoch: int, epoch: int, speed: float) -> None:
    rate, momentum = rates(args, steps_an_epoch, run.step - 1)  # of the last step, maybe before a resumption
    loss = np.mean(run.losses).item()
    values = {"loss": loss, "lr": rate, "bn_momentum": momentum}
    text = f"epoch {epoch}: loss {loss:.4f}, lr {rate:.2e}"
    if speed:  # not of an epoch whose last step was before a resumption
        values["points_per_second"], text = speed, f"{text}, {speed:,.0f} points/s"
    run.history.record(epoch, "train", values)
    run.history.say(text)


if __name__ == "__main__":
    sys.exit(main())
