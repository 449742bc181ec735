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
from pathlib import Path

# Before torch is imported: its idle OpenMP threads then spin for microseconds before they sleep, not for milliseconds.
# As fast on a quiet machine; where other processes want the same cores, a step is 3 to 40 times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import ops
from data.chunks import POINTS_PER_CHUNK
from data.datasets import INPUTS, POINT_FEATURES, ChunkBatches, LabelPolicy, TrainingChunks, WholeScenes, scene_files
from data.labels import NUM_CLASSES
from data.rooms.default import default_rooms
from data.scenes import SceneError, read_manifest
from models import pointnet2
from models.batch_norm import set_batch_norm_momentum
from models.context import CONTEXTS, contexts_of_models
from models.sync_batch_norm import synchronise
from training import checkpoint, ranks
from training.arguments import (
    add_network_flags,
    choose_device,
    flags_of_file,
    network_fields,
    refuse_options,
    whole_number,
)
from training.loop import Run, refuse_infinite_weights, steps
from training.losses import weighted_cross_entropy_sum
from training.run_folder import NOT_SETTINGS, Found, RunLog, environment, open_run_folder, refuse_run_folder, write_json
from training.stopping import StopRequest, TrainingError, ignore_signals, run_command
from training.validation import Validation

# Schedules of the original PointNet++ code (2017), counted in chunks so that they do not depend on the batch size
DECAY_EVERY = 200_000
LEARNING_RATE_DECAY = 0.7
BN_MOMENTUM_DECAY = 0.5
BN_MOMENTUM_FLOOR = 0.01

CONTEXT_OF_MODEL = contexts_of_models("pointnet2")

# What may differ between a run and its resumption; everything else would make another experiment of it
FREE_ON_RESUME = ("epochs", "workers", "device", "ops", "compile", "validate_every", "save_every", "data")


def learning_rate(base: float, chunks_seen: int, decay_every: int = DECAY_EVERY) -> float:
    return base * LEARNING_RATE_DECAY ** (chunks_seen // decay_every)


def bn_momentum(base: float, chunks_seen: int, decay_every: int = DECAY_EVERY) -> float:
    return max(base * BN_MOMENTUM_DECAY ** (chunks_seen // decay_every), BN_MOMENTUM_FLOOR)


def main(argv: list[str] | None = None) -> int:
    return run_command(parse_config, train, argv, (SceneError, ops.cpu.CompileError))


def _parser() -> argparse.ArgumentParser:
    """A setting that a checkpoint or a file of flags does not name has its flag's default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, help="JSON file of flags, such as a run's config.json; flags given here win")
    add("--data", type=Path, help="preprocessed scenes (default: rooms generated once into datasets/synthetic)")
    add("--name", help="name of the run (default: the model's)")
    add("--out", type=Path, help="run folder (default: runs/<name>)")
    add("--resume", choices=["auto"], help="go on from the run folder's last.pt; start afresh if it has none")
    add("--model", choices=list(CONTEXT_OF_MODEL), default="latentgnn")
    add_network_flags(parser, pointnet2.PointNet2Config)
    add("--features", nargs="*", choices=list(POINT_FEATURES), help="point features beside xyz")
    add("--chunk-size", type=float, help="edge of the chunks of 8192 points, and of the tiles, in m")
    add("--unannotated", choices=["drop", "ignore"], help="vertices without annotation")
    add("--other", choices=["train", "ignore"], help="annotated vertices outside the 20 classes")
    parser.set_defaults(**INPUTS)  # of these four
    add("--epochs", type=whole_number(1), default=200, help="one chunk per scene each")
    add("--batch-size", type=whole_number(1), default=64, help="chunks a step, of all GPUs together")
    add("--lr", type=float, default=1e-3)
    add("--bn-momentum", type=float, default=0.5, help="weight of the newest batch in the running statistics")
    add("--decay-every", type=whole_number(1), default=DECAY_EVERY, help="chunks, in the schedules of both")
    add("--sync-bn", action=argparse.BooleanOptionalAction, default=False, help="batch statistics of all GPUs together")
    add("--validate-every", type=whole_number(0), default=5, help="epochs; 0: never, and there is no best.pt")
    add("--save-every", type=whole_number(1), default=1, help="epochs")
    add("--seed", type=whole_number(0), default=0)
    add("--workers", type=whole_number(0), default=2, help="processes that read scenes and cut chunks, for each GPU")
    add("--device", default="auto")
    add("--amp", choices=["none", "bf16"], default="none", help="autocast of the forward pass, in training only")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile the training step")
    add("--ops", choices=ops.CHOICES, default="auto", help="implementation of the point operators")
    return parser


def parse_config(argv: list[str]) -> argparse.Namespace:
    """Flags over the JSON file of --config over the paper's defaults. Keys of the file are the flags' names.

    A flag of another model's layer is refused; in the file it is ignored, with a line that says so.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    args = parser.parse_args([*flags_of_file(given.config, parser), *argv]) if given.config else given
    given.model, foreign = args.model, foreign_flags(args.model)
    refuse_options(parser, given, foreign)
    for name in foreign:
        if getattr(args, name) != (default := parser.get_default(name)):
            print(f"--config {args.config}: {name} is no option of {args.model}, and ignored")
            setattr(args, name, default)
    try:
        with torch.device("meta"):
            pointnet2.PointNet2(network_config(args))
    except ValueError as error:
        parser.error(str(error))
    if not 0 < args.lr < float("inf"):
        parser.error(f"--lr is {args.lr}; it has to be a positive number")
    if not 0 < args.chunk_size < float("inf"):
        parser.error(f"--chunk-size is {args.chunk_size}; it has to be a positive number of metres")
    if not 0 < args.bn_momentum <= 1:
        parser.error(f"--bn-momentum is {args.bn_momentum}; it has to be above 0, and at most 1")
    if args.compile and args.sync_bn:
        parser.error("--sync-bn is not compiled; leave out --compile")
    args.features = [name for name in POINT_FEATURES if name in args.features]  # their order in a point
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
    network, device = network_config(args), choose_device(args.device)
    data_dir, manifest, found = ranks.on_rank_0(prepare, args, config, network)
    config["data"] = str(data_dir.resolve())
    chunks, batches, loader = training_chunks(args, data_dir, manifest)

    model, optimizer = build(args, network, device)
    identity = {"scenes_digest": scenes_digest(manifest), "world_size": ranks.world_size()}
    run = Run(model, optimizer, config, identity)
    if found:
        run.resume(found.state)
    run.history = open_log(args, run, device, chunks, batches, manifest, found)
    validation = validation_of(args, run, device, data_dir, manifest)
    forward = ranks.parallel(torch.compile(model) if args.compile else model)
    loss_of = functools.partial(chunk_loss, forward, device, args.amp)
    schedule = functools.partial(set_rates, args, run)
    last = args.out / "checkpoints" / checkpoint.LAST

    stop.listen()
    if validation and not found and validation.score(model, 0, stop) is None:
        return run.save_and_stop(last, stop)
    progress = tqdm(total=args.epochs * len(batches), initial=run.step, unit="step", disable=run.history.silent or None)
    for epoch in range(run.epoch + 1, args.epochs + 1):
        started, before, speed = time.perf_counter(), run.step, 0.0
        batches.set_epoch(epoch, first_step=len(run.losses))
        model.train()
        for loss, stopping in steps(run, loader, loss_of, schedule, chunks.names_of, stop):
            run.history.step(epoch, run.step, loss)
            points, rate = (run.step - before) * args.batch_size * POINTS_PER_CHUNK, optimizer.param_groups[0]["lr"]
            speed = points / (time.perf_counter() - started)
            progress.set_postfix_str(f"loss {loss:.3f}, lr {rate:.1e}, {speed:,.0f} points/s", refresh=False)
            progress.update()
            if stopping:
                return run.save_and_stop(last, stop)

        log_epoch(args, run, epoch, speed)
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
    inputs = args.features, args.chunk_size, args.unannotated, args.other
    ranks.on_rank_0(checkpoint.export, args.out / "export", model, *inputs)
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
    return model, torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.999))


def chunk_loss(network: nn.Module, device: torch.device, amp: str, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The sum of the weighted losses of a batch of chunks, and the number of points that it is of."""
    with torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16"):
        logits = network(batch["points"].to(device))  # (B, N, 21)
    return weighted_cross_entropy_sum(logits, batch["classes"].to(device), batch["weight"].to(device))


def rates(args: argparse.Namespace, step: int) -> tuple[float, float]:
    """Learning rate and batch-norm momentum of the step after so many."""
    chunks = step * args.batch_size
    return learning_rate(args.lr, chunks, args.decay_every), bn_momentum(args.bn_momentum, chunks, args.decay_every)


def set_rates(args: argparse.Namespace, run: Run, step: int) -> None:
    run.optimizer.param_groups[0]["lr"], momentum = rates(args, step)
    set_batch_norm_momentum(run.model, momentum)


def network_config(args: argparse.Namespace) -> pointnet2.PointNet2Config:
    return pointnet2.PointNet2Config(
        num_classes=NUM_CLASSES,
        context=CONTEXT_OF_MODEL[args.model],
        extra_channels=sum(POINT_FEATURES[name] for name in args.features),
        **{name: getattr(args, name) for name in network_fields(pointnet2.PointNet2Config)},
    )


def prepare(
    args: argparse.Namespace, config: dict, network: pointnet2.PointNet2Config
) -> tuple[Path, dict, Found | None]:
    """What one process does for all before a run: makes the data and the run folder, locks it, reads its checkpoint.

    Returns the data folder, its manifest, and what was found to resume.
    """
    refuse_run_folder(args)
    data_dir = args.data or default_rooms()
    manifest = read_manifest(data_dir)
    found = open_run_folder(args, network, config, [*FREE_ON_RESUME, *foreign_flags(args.model)], _parser())
    if found and found.state.get("scenes_digest") != scenes_digest(manifest):
        raise TrainingError(f"{found.path} was trained on other scenes than those of {data_dir}; give its --data")
    return data_dir, manifest, found


def scenes_digest(manifest: dict) -> str:
    """Identity of the training scenes, wherever they lie."""
    files = [(name, manifest["scenes"][name]["sha256"]) for name in manifest["splits"]["train"]]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def training_chunks(
    args: argparse.Namespace, data_dir: Path, manifest: dict
) -> tuple[TrainingChunks, ChunkBatches, DataLoader]:
    files, policy = scene_files(data_dir, manifest, "train"), LabelPolicy(args.unannotated, args.other)
    chunks = TrainingChunks(files, args.seed, policy, args.features, args.chunk_size)
    batches = ChunkBatches(len(chunks), args.batch_size, args.seed, ranks.rank(), ranks.world_size())
    loader = DataLoader(
        chunks,
        batch_sampler=batches,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        worker_init_fn=ignore_signals,
    )
    return chunks, batches, loader


def validation_of(
    args: argparse.Namespace, run: Run, device: torch.device, data_dir: Path, manifest: dict
) -> Validation | None:
    if not (manifest["splits"]["val"] and args.validate_every):
        return None
    files = scene_files(data_dir, manifest, "val")
    scenes = WholeScenes.as_trained(files, args.seed, run.config, covering=False)
    return Validation(scenes, device, args.workers, run.history)


def open_log(
    args: argparse.Namespace,
    run: Run,
    device: torch.device,
    chunks: TrainingChunks,
    batches: ChunkBatches,
    manifest: dict,
    found: Found | None,
) -> RunLog:
    """The run's log, which has said what is trained on what."""
    history = RunLog(args.out, kept_epochs=run.epoch if found else -1, kept_steps=run.step)
    if ranks.rank() == 0:
        write_json(args.out / "config.json", run.config)
        write_json(args.out / "environment.json", environment(device))
    history.say(f"{args.name} in {args.out}: {sum(p.numel() for p in run.model.parameters()):,} parameters")
    history.say(f"{ranks.world_size()} x {device}, {ops.describe()}")
    history.say(
        f"{len(chunks)} training scenes ({manifest['expected']['train']} expected), "
        f"{len(manifest['splits']['val']) if args.validate_every else 0} validation scenes, batch {args.batch_size}, "
        f"{len(batches)} steps an epoch, {args.epochs} epochs, seed {args.seed}"
    )
    if chunks.left_out:
        history.say(f"without annotation and left out: {', '.join(chunks.left_out)}")
    if found and found.notice:
        history.say(found.notice)
    if found:
        history.say(f"going on after {run.epoch} epochs and {len(run.losses)} steps")
    return history


def log_epoch(args: argparse.Namespace, run: Run, epoch: int, speed: float) -> None:
    rate, momentum = rates(args, run.step - 1)  # of the last step, which may have been before a resumption
    loss = np.mean(run.losses).item()
    values = {"loss": loss, "lr": rate, "bn_momentum": momentum}
    text = f"epoch {epoch}: loss {loss:.4f}, lr {rate:.2e}"
    if speed:  # not of an epoch whose last step was before a resumption
        values["points_per_second"], text = speed, f"{text}, {speed:,.0f} points/s"
    run.history.record(epoch, "train", values)
    run.history.say(text)


if __name__ == "__main__":
    sys.exit(main())
