"""Train Mask R-CNN with LatentGNN or another context layer on COCO, as in Tables 1 and 2 of the LatentGNN paper.

    python scripts/coco/train_coco.py --data /data/coco --model latentgnn --stages 3 4 5
    torchrun --standalone --nproc-per-node=4 scripts/coco/train_coco.py --data /data/coco

Defaults are the paper's: SGD at 0.02 with momentum 0.9 and weight decay 1e-4, 90,000 steps of 16 images, learning rate
x 0.1 after 60,000 and 80,000, images of 800 pixels. The run folder is that of train_scannet.py, with steps for epochs.
Needs its own environment: pip install -r scripts/coco/requirements.txt
"""

import argparse
import functools
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.coco import CocoError, TrainingImages
from data.datasets import ChunkBatches
from models import mask_rcnn
from models.context import contexts_of_models, has_option
from training import checkpoint, ranks
from training.arguments import TF32_HELP, choose_device, precision, refuse_options, whole_number
from training.loop import Run, set_learning_rate, steps
from training.run_folder import NOT_SETTINGS, Found, RunLog, environment, open_run_folder, refuse_run_folder, write_json
from training.step import Step
from training.stopping import StopRequest, ignore_signals, run_command

MOMENTUM, WEIGHT_DECAY, DECAY = 0.9, 1e-4, 0.1
WARMUP_FROM = 1 / 3  # of the learning rate, as in maskrcnn-benchmark, which the authors trained with
MODELS = contexts_of_models("mask_rcnn")
FREE_ON_RESUME = ("steps", "workers", "device", "save_every", "data")  # the rest would make another experiment of it
LOG_EVERY = 50  # steps


def learning_rate(args: argparse.Namespace, step: int) -> float:
    """Of step 0, 1, ...: rises linearly in the first --warmup steps, falls to a tenth at each of --drops."""
    warm = min(step / args.warmup, 1) if args.warmup else 1
    return args.lr * (WARMUP_FROM + (1 - WARMUP_FROM) * warm) * DECAY ** sum(step >= drop for drop in args.drops)


def main(argv: list[str] | None = None) -> int:
    return run_command(parse, train, argv, (CocoError,))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with COCO's annotations/, train2017/ and val2017/")
    add("--name", help="name of the run (default: the model's)")
    add("--out", type=Path, help="run folder (default: runs/<name>)")
    add("--resume", choices=["auto"], help="go on from the run folder's last.pt; start afresh if it has none")
    add("--model", choices=list(MODELS), default="latentgnn")
    add("--backbone", choices=list(mask_rcnn.BACKBONES), default="resnet50")
    add(
        "--pretrained",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="backbone with torchvision's ImageNet weights, downloaded once; else all is trained, with batch norm",
    )
    add("--stages", type=int, nargs="+", choices=list(mask_rcnn.LATENT_NODES), default=[4], help="that get a layer")
    add("--kernels", type=whole_number(1), default=1, help="low-rank kernels of each LatentGNN layer")
    add(
        "--stride",
        type=whole_number(1),
        default=16,
        help="C / c: how many times fewer channels the nodes have; the authors' scripts set 8",
    )
    add("--steps", type=whole_number(1), default=90_000)
    add("--drops", type=whole_number(0), nargs="*", default=[60_000, 80_000], help="steps")
    add("--warmup", type=whole_number(0), default=500, help="steps")
    add("--batch-size", type=whole_number(1), default=16, help="images a step, of all GPUs together")
    add("--lr", type=float, default=0.02)
    add(
        "--min-size", type=whole_number(32), default=800, help="short side in pixels; the long one is at most 5/3 of it"
    )
    add("--save-every", type=whole_number(1), default=1000, help="steps")
    add("--seed", type=whole_number(0), default=0)
    add("--workers", type=whole_number(0), default=2, help="processes that read images, for each GPU")
    add("--device", default="auto")
    add("--tf32", action="store_true", help=TF32_HELP)
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    refuse_options(parser, args, [name for name in ("kernels", "stride") if not has_option(MODELS[args.model], name)])
    if not 0 < args.lr < float("inf"):
        parser.error(f"--lr is {args.lr}; it has to be a positive number")
    args.stages = tuple(sorted(set(args.stages)))
    args.name = args.name or f"coco_{args.model}"
    args.out = args.out or Path("runs") / args.name
    return args


def train(args: argparse.Namespace, stop: StopRequest) -> int:
    """The run, in every rank. Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    device = choose_device(args.device, args.tf32)
    ranks.on_rank_0(refuse_run_folder, args)
    images = TrainingImages(args.data, "train2017", args.seed)
    network = network_config(args, images.classes)
    config = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    config |= {"data": str(args.data.resolve()), "images": len(images)}
    found = ranks.on_rank_0(open_run_folder, args, network, config, FREE_ON_RESUME, _parser())

    # The other ranks get rank 0's weights below
    download = args.pretrained and not found and ranks.rank() == 0
    model = mask_rcnn.build(network, args.seed, download=download).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=args.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    run = Run(model, optimizer, config, {"world_size": ranks.world_size()})
    if found:
        run.resume({"epoch": 0, "losses": [], "best_voxel_accuracy": -1.0} | found.state)
    run.history = open_log(args, run, device, found)
    ranks.copy_weights_of_rank_0(model)
    step = Step(model, optimizer, functools.partial(image_loss, model, device))
    batches = ChunkBatches(len(images), args.batch_size, args.seed, ranks.rank(), ranks.world_size())
    loader = DataLoader(
        images,
        batch_sampler=batches,
        num_workers=args.workers,
        collate_fn=list,  # images of different sizes make no batch of one tensor
        worker_init_fn=ignore_signals,
    )
    last = args.out / "checkpoints" / checkpoint.LAST

    stop.listen()
    model.train()
    started, before = time.perf_counter(), run.step
    progress = tqdm(total=args.steps, initial=run.step, unit="step", disable=run.history.silent or None)
    remaining = itertools.islice(batches_from(run, loader, batches), args.steps - run.step)
    schedule = functools.partial(set_rate, args, optimizer)
    for _, stopping in steps(run, step, remaining, schedule, image_names, stop):
        progress.update()
        final = run.step == args.steps
        if run.step % LOG_EVERY == 0 or final:
            log_losses(args, run, (run.step - before) / (time.perf_counter() - started))
            run.losses, started, before = [], time.perf_counter(), run.step
        if stopping and not final:
            return run.save_and_stop(last, stop)
        if run.step % args.save_every == 0 or final:
            ranks.on_rank_0(run.save, last)
    progress.close()
    ranks.on_rank_0(checkpoint.export, args.out / "export", model)
    run.history.say(f"checkpoints in {last.parent}; score one with scripts/coco/eval_coco.py --checkpoint {last}")
    run.history.close()
    return 0


def image_loss(network: torch.nn.Module, device: torch.device, batch: list[tuple]) -> tuple[Tensor, Tensor]:
    """The loss of a batch of pairs of an image and its target, and 1: ranks take the mean of theirs."""
    images = [image.to(device) for image, _ in batch]
    targets = [{key: value.to(device) for key, value in target.items() if key != "image_id"} for _, target in batch]
    loss = sum(network(images, targets).values())
    return loss, torch.ones_like(loss)


def image_names(batch: list[tuple]) -> list[str]:
    return [f"image {target['image_id']}" for _, target in batch]


def set_rate(args: argparse.Namespace, optimizer: torch.optim.Optimizer, step: int) -> None:
    set_learning_rate(optimizer, learning_rate(args, step))


def network_config(args: argparse.Namespace, classes: int) -> mask_rcnn.MaskRCNNConfig:
    return mask_rcnn.MaskRCNNConfig(
        classes=classes,
        backbone=args.backbone,
        context=MODELS[args.model],
        stages=args.stages,
        kernels=args.kernels,
        stride=args.stride,
        pretrained=args.pretrained,
        min_size=args.min_size,
    )


def open_log(args: argparse.Namespace, run: Run, device: torch.device, found: Found | None) -> RunLog:
    """The run's log, which has said what is trained on what. Steps take the place of epochs."""
    history = RunLog(args.out, kept_epochs=run.step if found else -1, kept_steps=run.step)
    if ranks.rank() == 0:
        write_json(args.out / "config.json", run.config)
        write_json(args.out / "environment.json", environment(device))
    trained = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    history.say(f"{args.name} in {args.out}: {trained:,} trained parameters")
    objects = f"{run.config['images']} images with objects"
    history.say(f"{ranks.world_size()} x {device}, {precision()}, {objects}, batch {args.batch_size}")
    if found and found.notice:
        history.say(found.notice)
    history.say(f"steps {run.step} to {args.steps}")
    return history


def log_losses(args: argparse.Namespace, run: Run, steps_per_second: float) -> None:
    loss, rate = sum(run.losses) / len(run.losses), learning_rate(args, run.step - 1)
    speed = steps_per_second * args.batch_size
    run.history.record(run.step, "train", {"loss": loss, "lr": rate, "images_per_second": speed})
    run.history.say(f"step {run.step}: loss {loss:.4f}, lr {rate:.2e}, {speed:.1f} images/s")


def batches_from(run: Run, loader: DataLoader, batches: ChunkBatches) -> Iterator[list]:
    """The batches from the run's next step on without end, through as many epochs as it takes."""
    first_step = run.step % len(batches)
    for epoch in itertools.count(run.step // len(batches)):
        run.epoch = epoch
        batches.set_epoch(epoch, first_step)
        yield from loader
        first_step = 0


if __name__ == "__main__":
    sys.exit(main())
