"""Train a network on ScanNet chunks; plain `python train_scannet.py` trains on generated rooms.

    python train_scannet.py --data datasets/scannet --model latentgnn --kernels 1
    torchrun --standalone --nproc-per-node=4 train_scannet.py --data datasets/scannet

Defaults are the paper's: Adam at 1e-3, 200 epochs of one chunk per scene, batches of 64, learning rate x 0.7 and
batch-norm momentum halved every 200,000 chunks. The run folder gets config, log, metrics, TensorBoard and checkpoints.

SIGTERM and SIGINT (Ctrl-C) save and stop at the end of the step; --resume auto with the same command goes on there.
Exit codes: 0 trained, 1 failed, 2 wrong flags, 130 and 143 stopped by SIGINT and SIGTERM.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from pathlib import Path

# Before torch is imported: its idle OpenMP threads then spin for microseconds before they sleep, not for milliseconds.
# As fast on a quiet machine; where other processes want the same cores, a step is 3 to 40 times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import ops
from data import metrics
from data.chunks import POINTS_PER_CHUNK
from data.datasets import INPUTS, POINT_FEATURES, ChunkBatches, LabelPolicy, TrainingChunks, WholeScenes, scene_files
from data.metrics import class_table, percent
from data.scenes import SceneError, read_manifest
from models import pointnet2
from models.batch_norm import set_batch_norm_momentum
from models.sync_batch_norm import synchronise
from training import checkpoint, ranks
from training.arguments import choose_device, whole_number
from training.board import SceneView, confusion_figure
from training.inference import add_counts, classes_of_tiles, evaluate
from training.losses import weighted_cross_entropy_sum
from training.run_folder import (
    NOT_SETTINGS,
    RunLog,
    environment,
    open_run_folder,
    refuse_run_folder,
    write_json,
)
from training.stopping import StopRequest, TrainingError, fail, ignore_signals, run

# Schedules of the original PointNet++ code (2017), counted in chunks so that they do not depend on the batch size
DECAY_EVERY = 200_000
LEARNING_RATE_DECAY = 0.7
BN_MOMENTUM_DECAY = 0.5
BN_MOMENTUM_FLOOR = 0.01

CONTEXT_OF_MODEL = {"pointnet2" if context == "none" else context: context for context in pointnet2.CONTEXTS}
SYNTHETIC_SCANS, SYNTHETIC_DATA = Path("datasets/synthetic_scans"), Path("datasets/synthetic")

SCENES_SHOWN = 2  # in 3-D, in TensorBoard: the first of the validation split

# What may differ between a run and its resumption; everything else would make another experiment of it
FREE_ON_RESUME = ("epochs", "workers", "device", "ops", "compile", "validate_every", "save_every", "data")

ONLY_OF = {"kernels": "latentgnn"}  # flag -> the one model whose layer has it


def learning_rate(base: float, chunks_seen: int, decay_every: int = DECAY_EVERY) -> float:
    return base * LEARNING_RATE_DECAY ** (chunks_seen // decay_every)


def bn_momentum(base: float, chunks_seen: int, decay_every: int = DECAY_EVERY) -> float:
    return max(base * BN_MOMENTUM_DECAY ** (chunks_seen // decay_every), BN_MOMENTUM_FLOOR)


def main(argv: list[str] | None = None) -> int:
    return run(parse_config, train, argv, (SceneError, ops.cpu.CompileError))


def _parser() -> argparse.ArgumentParser:
    """A flag's default is what runs did before there was one: a run whose checkpoint does not name it goes on so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, help="JSON file of flags, such as a run's config.json; flags given here win")
    add("--data", type=Path, help="preprocessed scenes (default: rooms generated once into datasets/synthetic)")
    add("--name", help="name of the run (default: the model's)")
    add("--out", type=Path, help="run folder (default: runs/<name>)")
    add("--resume", choices=["auto"], help="go on from the run folder's last.pt; start afresh if it has none")
    add("--model", choices=list(CONTEXT_OF_MODEL), default="latentgnn")
    add("--kernels", type=whole_number(1), default=1, help="low-rank kernels of each LatentGNN layer")
    add("--grouping", choices=["ssg", "msg"], default="ssg", help="single- or multi-scale grouping of PointNet++")
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

    A flag of another model's layer is refused; in the file it is ignored, for earlier versions recorded such flags.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    args = parser.parse_args([*_flags_of_file(given.config, parser), *argv]) if given.config else given
    for name in foreign_flags(args.model):
        value, default = getattr(given, name), parser.get_default(name)
        if value != default:
            flag = f"--{name.replace('_', '-')} {value}"
            parser.error(f"{flag} is for --model {ONLY_OF[name]} alone, not for {args.model}; leave it out")
        setattr(args, name, default)
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
    return [name for name, only in ONLY_OF.items() if only != model]


def _flags_of_file(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """The entries of a config file as flags, so that the parser checks them as it checks the command line."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        parser.error(f"--config {path}: cannot be read as JSON ({error})")
    known = set(vars(parser.parse_args([])))
    if not isinstance(entries, dict) or not entries.keys() <= known:
        unknown = sorted(entries.keys() - known) if isinstance(entries, dict) else type(entries).__name__
        parser.error(f"--config {path}: unknown keys {unknown}; known are {sorted(known)}")
    flags = []
    for key, value in entries.items():
        if isinstance(value, bool):
            flags.append(("--" if value else "--no-") + key.replace("_", "-"))
        elif value is not None and key != "config":
            flags += ["--" + key.replace("_", "-"), *map(str, value if isinstance(value, list) else [value])]
    return flags


def train(args: argparse.Namespace, stop: StopRequest) -> int:
    """The run, in every rank. Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    rank, world_size = ranks.rank(), ranks.world_size()
    config = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    network = pointnet2.PointNet2Config(
        context=CONTEXT_OF_MODEL[args.model],
        kernels=args.kernels,
        grouping=args.grouping,
        extra_channels=sum(POINT_FEATURES[name] for name in args.features),
    )
    device = choose_device(args.device)
    data_dir, manifest, state, notice = ranks.on_rank_0(prepare, args, config, network)
    config["data"] = str(data_dir.resolve())
    last, best = args.out / "checkpoints" / checkpoint.LAST, args.out / "checkpoints" / "best.pt"

    policy = LabelPolicy(args.unannotated, args.other)
    chunks = TrainingChunks(scene_files(data_dir, manifest, "train"), args.seed, policy, args.features, args.chunk_size)
    batches = ChunkBatches(len(chunks), args.batch_size, args.seed, rank, world_size)
    loader = DataLoader(
        chunks,
        batch_sampler=batches,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        worker_init_fn=ignore_signals,
    )
    validation = None
    if manifest["splits"]["val"] and args.validate_every:
        files = scene_files(data_dir, manifest, "val")
        validation = WholeScenes.as_trained(files, args.seed, config, covering=False)

    ops.use(args.ops)
    model = pointnet2.build(network, args.seed).to(device)
    if args.sync_bn:
        synchronise(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.999))
    whole_epochs, done, best_accuracy = 0, 0, -1.0  # done: steps since the first epoch began
    losses: list[float] = []  # of the epoch's steps so far
    if state:
        whole_epochs, done, losses, best_accuracy = restore(model, optimizer, state)
    forward = ranks.parallel(torch.compile(model) if args.compile else model)

    history = RunLog(args.out, kept_epochs=whole_epochs if state else -1, kept_steps=done)
    if rank == 0:
        write_json(args.out / "config.json", config)
        write_json(args.out / "environment.json", environment(device))
    history.say(f"{args.name} in {args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")
    history.say(f"{world_size} x {device}, {ops.describe()}")
    history.say(
        f"{len(chunks)} training scenes ({manifest['expected']['train']} expected), "
        f"{len(validation) if validation else 0} validation scenes, batch {args.batch_size}, "
        f"{len(batches)} steps an epoch, {args.epochs} epochs, seed {args.seed}"
    )
    if chunks.left_out:
        history.say(f"without annotation and left out: {', '.join(chunks.left_out)}")
    if notice:
        history.say(notice)
    if state:
        history.say(f"going on after {whole_epochs} epochs and {len(losses)} steps")

    views: list[SceneView] = []

    def show(board: SummaryWriter, epoch: int, counts: dict[str, np.ndarray]) -> None:
        board.add_figure("val/confusion", confusion_figure(counts["voxel"]), epoch)
        if not views:
            views.extend(SceneView(validation, number) for number in range(min(len(validation), SCENES_SHOWN)))
        for view in views:
            view.add(board, epoch, classes_of_tiles(model, view.scene, device))

    def validate(epoch: int) -> float | None:
        """Score the validation scenes by pn2-wholescene and log it. Voxel accuracy, or None if a rank has to stop.

        -1 if no scene has labels: no epoch is then the best.
        """
        ranks.copy_buffers_of_rank_0(model)  # one network, that which is saved
        results = evaluate(model, validation, device, workers=args.workers, stop=stop)
        if results is None:
            return None
        counts = add_counts(results)
        scores = metrics.scores(counts)
        history.record(epoch, "val", {name: value for name, value in scores.items() if isinstance(value, float)})
        if epoch:
            history.show(lambda board: show(board, epoch, counts))
        accuracy, commonest = scores["voxel_accuracy"], scores["voxel_accuracy_majority"]
        history.say(
            f"validation {f'after epoch {epoch}' if epoch else 'before training'}\n{class_table(scores)}\n"
            f"voxel accuracy {percent(accuracy)} %, always the commonest class {percent(commonest)} %"
        )
        return -1.0 if accuracy is None else accuracy

    def save(path: Path, selected_on: str | None = None) -> None:
        training_state = {
            "scenes_digest": scenes_digest(manifest),
            "world_size": world_size,
            "optimizer": optimizer.state_dict(),
            "epoch": whole_epochs,
            "step": done,
            "losses": losses,
            "best_voxel_accuracy": best_accuracy,
        }
        checkpoint.save(path, model, config, selected_on, **training_state)

    def save_and_stop() -> int:
        if done:
            ranks.on_rank_0(save, last)
        history.stopped(done)
        return stop.exit_code

    stop.listen()
    # The untrained network: the line that every later one has to beat
    if validation and not state and validate(0) is None:
        return save_and_stop()
    progress = tqdm(total=args.epochs * len(batches), initial=done, unit="step", disable=None if rank == 0 else True)
    for epoch in range(whole_epochs + 1, args.epochs + 1):
        started, points_seen, speed = time.perf_counter(), 0, 0.0
        batches.set_epoch(epoch, first_step=len(losses))
        model.train()
        for batch in loader:
            rate = learning_rate(args.lr, done * args.batch_size, args.decay_every)
            momentum = bn_momentum(args.bn_momentum, done * args.batch_size, args.decay_every)
            optimizer.param_groups[0]["lr"] = rate
            set_batch_norm_momentum(model, momentum)
            torch.manual_seed(ranks.seed_of_step(args.seed, done, rank))  # dropout: the same if resumed

            with torch.autocast(device.type, torch.bfloat16, enabled=args.amp == "bf16"):
                logits = forward(batch["points"].to(device))  # (B, N, 21)
            total, count = weighted_cross_entropy_sum(logits, batch["classes"].to(device), batch["weight"].to(device))
            # All that ranks tell each other besides gradients: their parts of the loss, and whether they have to stop
            parts = torch.stack([total.detach(), count, count.new_tensor(stop.signal > 0)])
            total_of_all, count_of_all, stopping = ranks.sum_over_ranks(parts)
            count_of_all = count_of_all.clamp(min=1)
            optimizer.zero_grad(set_to_none=True)
            (total * world_size / count_of_all).backward()  # gradients are averaged over the ranks: hence world_size
            gradient = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
            loss, gradient, stopping = torch.stack([total_of_all / count_of_all, gradient, stopping]).tolist()
            done += 1
            if not (math.isfinite(loss) and math.isfinite(gradient)):
                names = scenes_to_blame([chunks.scenes[i].name for i in batch["scene"]], total.isfinite().item())
                message = f"loss {loss}, gradient norm {gradient} in epoch {epoch}, step {done}, with scenes {names}"
                history.say(message)
                advice = "Nothing after the last checkpoint was saved; look at these scenes, or lower --lr"
                ranks.on_rank_0(fail, f"{message}. {advice}")
            optimizer.step()

            losses.append(loss)
            history.step(epoch, done, loss)
            points_seen += args.batch_size * POINTS_PER_CHUNK
            speed = points_seen / (time.perf_counter() - started)
            progress.set_postfix_str(f"loss {loss:.3f}, lr {rate:.1e}, {speed:,.0f} points/s", refresh=False)
            progress.update()
            if stopping:
                return save_and_stop()

        before = (done - 1) * args.batch_size  # chunks before the last step, which may have been before a resumption
        rate, loss = learning_rate(args.lr, before, args.decay_every), np.mean(losses).item()
        momentum = bn_momentum(args.bn_momentum, before, args.decay_every)
        values = {"loss": loss, "lr": rate, "bn_momentum": momentum, "points_per_second": speed}
        history.record(epoch, "train", values)
        history.say(f"epoch {epoch}: loss {loss:.4f}, lr {rate:.2e}, {speed:,.0f} points/s")
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            ranks.on_rank_0(fail, f"weights are not finite after epoch {epoch}; it was not saved. Lower --lr")
        final, accuracy = epoch == args.epochs, -1.0
        if validation and (epoch % args.validate_every == 0 or final):
            accuracy = validate(epoch)
            if accuracy is None:
                return save_and_stop()
        whole_epochs, losses = epoch, []
        if accuracy > best_accuracy:
            best_accuracy = accuracy
            on = f"voxel accuracy on the validation split, every {args.validate_every} epochs"
            ranks.on_rank_0(save, best, on)
        if epoch % args.save_every == 0 or final:
            ranks.on_rank_0(save, last)
    progress.close()
    inputs = args.features, args.chunk_size, args.unannotated, args.other
    ranks.on_rank_0(checkpoint.export, args.out / "export", model, *inputs)
    history.say(f"checkpoints in {args.out / 'checkpoints'}; score one with eval_scannet.py --checkpoint {last}")
    history.close()
    return 0


def prepare(
    args: argparse.Namespace, config: dict, network: pointnet2.PointNet2Config
) -> tuple[Path, dict, dict | None, str]:
    """What one process does for all before a run: makes the data and the run folder, locks it, reads its checkpoint.

    Returns the data folder, its manifest, and the checkpoint's entries with what there is to say of it, or None and "".
    """
    refuse_run_folder(args)
    data_dir = args.data or make_synthetic_data()
    manifest = read_manifest(data_dir)
    found = open_run_folder(args, network, config, [*FREE_ON_RESUME, *foreign_flags(args.model)], _parser())
    if found is None:
        return data_dir, manifest, None, ""
    path, state, notice = found
    if state.get("scenes_digest") != scenes_digest(manifest):
        raise TrainingError(f"{path} was trained on other scenes than those of {data_dir}; give its --data")
    return data_dir, manifest, state, notice


def make_synthetic_data() -> Path:
    """Generate and preprocess the synthetic rooms, unless that was done before."""
    if not (SYNTHETIC_DATA / "manifest.json").exists():
        from scripts import make_synthetic, preprocess_scannet

        print(f"no --data: making synthetic rooms in {SYNTHETIC_DATA} (once)")
        scans = str(SYNTHETIC_SCANS)
        table, splits = f"{scans}/scannetv2-labels.combined.tsv", f"{scans}/splits"
        preprocessing = ["--scans", scans, "--out", str(SYNTHETIC_DATA), "--labels", table, "--splits", splits]
        if make_synthetic.main(["--out", scans]) or preprocess_scannet.main(preprocessing):
            raise TrainingError(f"the synthetic rooms could not be made; delete {SYNTHETIC_SCANS} and try again")
    return SYNTHETIC_DATA


def restore(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict
) -> tuple[int, int, list[float], float]:
    """Takes over weights and optimizer state. Returns the whole epochs and the steps that were done, the losses of an
    epoch that was begun, and the best voxel accuracy."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return state["epoch"], state["step"], state["losses"], state["best_voxel_accuracy"]
    except (RuntimeError, ValueError, KeyError) as error:
        raise checkpoint.CheckpointError(f"training cannot go on from the run's checkpoint: {error}") from error


def scenes_to_blame(names: list[str], finite: bool) -> str:
    """The scenes of this step on those ranks whose own loss is not finite; on all ranks if there is none."""
    shares = ranks.gather_from_ranks((names, finite))
    bad = [names for names, finite in shares if not finite] or [names for names, _ in shares]
    return ", ".join(name for names in bad for name in names)


def scenes_digest(manifest: dict) -> str:
    """Identity of the training scenes, wherever they lie."""
    files = [(name, manifest["scenes"][name]["sha256"]) for name in manifest["splits"]["train"]]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
