"""Train a network on ScanNet chunks; plain `python train_scannet.py` trains on generated rooms.

    python train_scannet.py --data datasets/scannet --model latentgnn --kernels 1

Defaults are the paper's: Adam at 1e-3, 200 epochs of one chunk per scene, batches of 64, learning rate x 0.7 and
batch-norm momentum halved every 200,000 chunks. The run folder gets config, log, metrics, TensorBoard and checkpoints.
"""

import argparse
import hashlib
import json
import os
import platform
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
from data.atomic_write import replacing
from data.chunks import POINTS_PER_CHUNK
from data.datasets import POINT_FEATURES, ChunkBatches, LabelPolicy, TrainingChunks, WholeScenes, scene_files
from data.scenes import SceneError, read_manifest
from eval_scannet import add_counts, choose_device, class_table, error_line, evaluate, whole_number
from models import checkpoint, pointnet2
from models.batch_norm import set_batch_norm_momentum
from models.losses import weighted_cross_entropy

# Schedules of the original PointNet++ code (2017), counted in chunks so that they do not depend on the batch size
DECAY_EVERY = 200_000
LEARNING_RATE_DECAY = 0.7
BN_MOMENTUM_DECAY = 0.5
BN_MOMENTUM_FLOOR = 0.01

CONTEXT_OF_MODEL = {"pointnet2" if context == "none" else context: context for context in pointnet2.CONTEXTS}
SYNTHETIC_SCANS, SYNTHETIC_DATA = Path("datasets/synthetic_scans"), Path("datasets/synthetic")

# What may differ between a run and its resumption; everything else would make another experiment of it
FREE_ON_RESUME = ("epochs", "workers", "device", "ops", "compile", "validate_every", "save_every", "data")
NOT_SETTINGS = ("config", "name", "out", "resume")  # where a run goes, not what it is


class TrainingError(Exception):
    """The message says what is wrong and what to do."""


def learning_rate(base: float, chunks_seen: int) -> float:
    return base * LEARNING_RATE_DECAY ** (chunks_seen // DECAY_EVERY)


def bn_momentum(base: float, chunks_seen: int) -> float:
    return max(base * BN_MOMENTUM_DECAY ** (chunks_seen // DECAY_EVERY), BN_MOMENTUM_FLOOR)


def main(argv: list[str] | None = None) -> int:
    try:
        train(parse_config(sys.argv[1:] if argv is None else argv))
    except (TrainingError, checkpoint.CheckpointError, SceneError, ops.cpu.CompileError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume auto goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def parse_config(argv: list[str]) -> argparse.Namespace:
    """Flags over the JSON file of --config over the paper's defaults. Keys of the file are the flags' names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, help="JSON file of flags, such as a run's config.json; flags given here win")
    add("--data", type=Path, help="preprocessed scenes (default: rooms generated once into datasets/synthetic)")
    add("--name", help="name of the run (default: the model's)")
    add("--out", type=Path, help="run folder (default: runs/<name>)")
    add("--resume", choices=["auto"], help="go on from the run folder's last.pt; start afresh if there is none")
    add("--model", choices=list(CONTEXT_OF_MODEL), default="latentgnn")
    add("--kernels", type=whole_number(1), default=1, help="low-rank kernels of each LatentGNN layer")
    add("--grouping", choices=["ssg", "msg"], default="ssg", help="single- or multi-scale grouping of PointNet++")
    add("--features", nargs="*", choices=list(POINT_FEATURES), default=[], help="point features beside xyz")
    add("--unannotated", choices=["drop", "ignore"], default="drop", help="vertices without annotation")
    add("--other", choices=["train", "ignore"], default="train", help="annotated vertices outside the 20 classes")
    add("--epochs", type=whole_number(1), default=200, help="one chunk per scene each")
    add("--batch-size", type=whole_number(1), default=64)
    add("--lr", type=float, default=1e-3)
    add("--bn-momentum", type=float, default=0.5, help="weight of the newest batch in the running statistics")
    add("--validate-every", type=whole_number(1), default=5, help="epochs")
    add("--save-every", type=whole_number(1), default=1, help="epochs")
    add("--seed", type=whole_number(0), default=0)
    add("--workers", type=whole_number(0), default=2, help="processes that read scenes and cut chunks")
    add("--device", default="auto")
    add("--amp", choices=["none", "bf16"], default="none", help="autocast of the forward pass, in training only")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile the training step")
    add("--ops", choices=ops.CHOICES, default="auto", help="implementation of the point operators")

    path = parser.parse_known_args(argv)[0].config
    args = parser.parse_args([*_flags_of_file(path, parser), *argv] if path else argv)
    if not 0 < args.lr < float("inf"):
        parser.error(f"--lr is {args.lr}; it has to be a positive number")
    if not 0 < args.bn_momentum <= 1:
        parser.error(f"--bn-momentum is {args.bn_momentum}; it has to be above 0, and at most 1")
    args.features = [name for name in POINT_FEATURES if name in args.features]  # their order in a point
    args.name = args.name or (f"latentgnn_k{args.kernels}" if args.model == "latentgnn" else args.model)
    args.out = args.out or Path("runs") / args.name
    return args


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


def train(args: argparse.Namespace) -> None:
    config = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    device = choose_device(args.device)
    last, best = args.out / "checkpoints" / "last.pt", args.out / "checkpoints" / "best.pt"
    state = None
    if args.resume and last.exists():
        state = checkpoint.read(last)
        refuse_other_config(config, state["config"], last)
    elif not args.resume and args.out.exists() and any(args.out.iterdir()):
        raise TrainingError(f"{args.out} is not empty; go on with --resume auto, or choose another --out")

    data_dir = args.data or make_synthetic_data()
    config["data"] = str(data_dir.resolve())
    manifest = read_manifest(data_dir)
    digest = scenes_digest(manifest)
    if state and state.get("scenes_digest") != digest:
        raise TrainingError(f"{last} was trained on other scenes than those of {data_dir}; give its --data")
    policy = LabelPolicy(args.unannotated, args.other)
    chunks = TrainingChunks(scene_files(data_dir, manifest, "train"), args.seed, policy, args.features)
    batches = ChunkBatches(len(chunks), args.batch_size, args.seed)
    loader = DataLoader(chunks, batch_sampler=batches, num_workers=args.workers, persistent_workers=args.workers > 0)
    validation = None
    if manifest["splits"]["val"]:
        files = scene_files(data_dir, manifest, "val")
        validation = WholeScenes(files, args.seed, policy, args.features, covering=False)

    ops.use(args.ops)
    model = pointnet2.build(
        pointnet2.PointNet2Config(
            context=CONTEXT_OF_MODEL[args.model],
            kernels=args.kernels,
            grouping=args.grouping,
            extra_channels=sum(POINT_FEATURES[name] for name in args.features),
        ),
        args.seed,
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.999))
    first_epoch, best_accuracy = 1, -1.0
    if state:
        first_epoch, best_accuracy = restore(model, optimizer, state, last)

    forward = torch.compile(model) if args.compile else model

    (args.out / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_json(args.out / "config.json", config)
    write_json(args.out / "environment.json", environment(device))
    history = RunLog(args.out, kept_epochs=state["epoch"] if state else -1)
    history.say(f"{args.name} in {args.out}: {sum(p.numel() for p in model.parameters()):,} parameters, on {device}")
    history.say(ops.describe())
    history.say(
        f"{len(chunks)} training scenes ({manifest['expected']['train']} expected), "
        f"{len(validation) if validation else 0} validation scenes, batch {args.batch_size}, "
        f"{len(batches)} steps an epoch, epochs {first_epoch} to {args.epochs}, seed {args.seed}"
    )
    if chunks.left_out:
        history.say(f"without annotation and left out: {', '.join(chunks.left_out)}")

    def validate(epoch: int) -> float:
        """Score the validation scenes by pn2-wholescene, log it, and return the voxel accuracy."""
        results = list(evaluate(model, validation, device, batch_size=min(args.batch_size, 16), workers=args.workers))
        scores = metrics.scores(add_counts(results))
        history.scores(epoch, scores)
        return scores["voxel_accuracy"] or 0.0

    def save(path: Path, epoch: int, selected_on: str | None = None) -> None:
        training_state = {
            "scenes_digest": digest,
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "best_voxel_accuracy": best_accuracy,
        }
        checkpoint.save(path, model, config, selected_on, **training_state)

    if validation and not state:
        validate(epoch=0)  # the untrained network: the line that every later one has to beat
    done, total = (first_epoch - 1) * len(batches), args.epochs * len(batches)
    progress = tqdm(total=total, initial=done, unit="step", disable=None)
    for epoch in range(first_epoch, args.epochs + 1):
        started, losses = time.perf_counter(), []
        batches.set_epoch(epoch)
        model.train()
        for step, batch in enumerate(loader, start=(epoch - 1) * len(batches)):
            chunks_seen = step * args.batch_size
            rate, momentum = learning_rate(args.lr, chunks_seen), bn_momentum(args.bn_momentum, chunks_seen)
            optimizer.param_groups[0]["lr"] = rate
            set_batch_norm_momentum(model, momentum)
            torch.manual_seed(seed_of_step(args.seed, step))  # dropout: the same whether or not the run was resumed

            with torch.autocast(device.type, torch.bfloat16, enabled=args.amp == "bf16"):
                logits = forward(batch["points"].to(device))  # (B, N, 21)
            loss = weighted_cross_entropy(logits, batch["classes"].to(device), batch["weight"].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            gradient = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
            if not (torch.isfinite(loss) and torch.isfinite(gradient)):
                names = ", ".join(chunks.scenes[index].name for index in batch["scene"])
                message = f"loss {loss}, gradient norm {gradient} in epoch {epoch}, step {step}, with scenes {names}"
                history.say(message)
                raise TrainingError(f"{message}. Nothing of this epoch was saved; look at these scenes, or lower --lr")
            optimizer.step()
            losses.append(loss.item())
            speed = len(losses) * args.batch_size * POINTS_PER_CHUNK / (time.perf_counter() - started)
            progress.set_postfix_str(f"loss {losses[-1]:.3f}, lr {rate:.1e}, {speed:,.0f} points/s", refresh=False)
            progress.update()

        history.epoch(epoch, loss=np.mean(losses).item(), lr=rate, bn_momentum=momentum, points_per_second=speed)
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            raise TrainingError(f"weights are not finite after epoch {epoch}; it was not saved. Lower --lr")
        final = epoch == args.epochs
        if validation and (epoch % args.validate_every == 0 or final):
            accuracy = validate(epoch)
            if accuracy > best_accuracy:
                best_accuracy = accuracy
                save(best, epoch, f"voxel accuracy on the validation split, every {args.validate_every} epochs")
        if epoch % args.save_every == 0 or final:
            save(last, epoch)
    progress.close()
    checkpoint.export(args.out / "export", model)
    history.say(f"checkpoints in {args.out / 'checkpoints'}; score one with eval_scannet.py --checkpoint {last}")
    history.close()


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


def restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict, path: Path) -> tuple[int, float]:
    """Takes over weights and optimizer state; returns the next epoch and the best voxel accuracy so far."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return state["epoch"] + 1, state["best_voxel_accuracy"]
    except (RuntimeError, ValueError, KeyError) as error:
        raise checkpoint.CheckpointError(f"{path}: training cannot go on from it: {error}") from error


def refuse_other_config(config: dict, saved: dict, path: Path) -> None:
    differing = [
        f"{key} was {saved.get(key)!r}, is {config[key]!r}"
        for key in config
        if key not in FREE_ON_RESUME and saved.get(key) != config[key]
    ]
    if differing:
        raise TrainingError(f"{path} is of another run: {'; '.join(differing)}. Use its settings or another --out")


def scenes_digest(manifest: dict) -> str:
    """Identity of the training scenes, wherever they lie."""
    files = [(name, manifest["scenes"][name]["sha256"]) for name in manifest["splits"]["train"]]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def seed_of_step(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def environment(device: torch.device) -> dict:
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ops": ops.describe(),
    }


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


class RunLog:
    """What a run says: on screen and in log.txt, as numbers in metrics.jsonl and in TensorBoard."""

    def __init__(self, folder: Path, kept_epochs: int):
        """On resumption, what was written after the checkpoint is taken back: it will be written again."""
        path = folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] <= kept_epochs]
        with replacing(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept))
        self.metrics_file = open(path, "a", buffering=1)
        self.log_file = open(folder / "log.txt", "a", buffering=1)
        self.board = SummaryWriter(folder / "tensorboard", purge_step=kept_epochs + 1)

    def say(self, text: str) -> None:
        tqdm.write(text)
        self.log_file.write(text + "\n")

    def epoch(self, epoch: int, **values: float) -> None:
        self._record(epoch, "train", values)
        loss, rate, speed = values["loss"], values["lr"], values["points_per_second"]
        self.say(f"epoch {epoch}: loss {loss:.4f}, lr {rate:.2e}, {speed:,.0f} points/s")

    def scores(self, epoch: int, scores: dict) -> None:
        self._record(epoch, "val", {k: v for k, v in scores.items() if isinstance(v, float)})
        self.say(f"validation {f'after epoch {epoch}' if epoch else 'before training'}\n{class_table(scores)}")
        self.say(
            f"voxel accuracy {100 * (scores['voxel_accuracy'] or 0):.1f} %, "
            f"always the commonest class {100 * (scores['voxel_accuracy_majority'] or 0):.1f} %"
        )

    def _record(self, epoch: int, part: str, values: dict[str, float]) -> None:
        self.metrics_file.write(json.dumps({"epoch": epoch, "part": part, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(f"{part}/{name}", value, epoch)

    def close(self) -> None:
        self.board.close()
        self.metrics_file.close()
        self.log_file.close()


if __name__ == "__main__":
    sys.exit(main())
