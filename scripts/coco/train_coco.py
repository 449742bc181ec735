"""Train Mask R-CNN with LatentGNN or non-local blocks on COCO, as in Tables 1 and 2 of the LatentGNN paper.

    python scripts/coco/train_coco.py --data /data/coco --model latentgnn --stages 3 4 5
    torchrun --standalone --nproc-per-node=4 scripts/coco/train_coco.py --data /data/coco

Defaults are the paper's: SGD at 0.02 with momentum 0.9 and weight decay 1e-4, 90,000 steps of 16 images, learning rate
x 0.1 after 60,000 and 80,000, images of 800 pixels. The run folder is that of train_scannet.py, with steps for epochs.
Needs its own environment: pip install -r scripts/coco/requirements.txt
"""

import argparse
import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.coco import CocoError, TrainingImages
from data.datasets import ChunkBatches
from models import mask_rcnn
from training import checkpoint, ranks
from training.arguments import choose_device, whole_number
from training.run_folder import NOT_SETTINGS, RunLog, environment, open_run_folder, refuse_run_folder, write_json
from training.stopping import StopRequest, fail, ignore_signals, run

MOMENTUM, WEIGHT_DECAY, DECAY = 0.9, 1e-4, 0.1
WARMUP_FROM = 1 / 3  # of the learning rate, as in maskrcnn-benchmark, which the authors trained with
MODELS = {"mask_rcnn": "none", "latentgnn": "latentgnn", "non_local": "non_local"}
FREE_ON_RESUME = ("steps", "workers", "device", "save_every", "data")  # the rest would make another experiment of it
LOG_EVERY = 50  # steps


def learning_rate(args: argparse.Namespace, step: int) -> float:
    """Of step 0, 1, ...: rises linearly in the first --warmup steps, falls to a tenth at each of --drops."""
    warm = min(step / args.warmup, 1) if args.warmup else 1
    return args.lr * (WARMUP_FROM + (1 - WARMUP_FROM) * warm) * DECAY ** sum(step >= drop for drop in args.drops)


def main(argv: list[str] | None = None) -> int:
    return run(parse, train, argv, (CocoError,))


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
    add("--stride", type=whole_number(1), default=16, help="of LatentGNN's channels; the authors' scripts have 8")
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
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    if not 0 < args.lr < float("inf"):
        parser.error(f"--lr is {args.lr}; it has to be a positive number")
    args.stages = tuple(sorted(set(args.stages)))
    args.name = args.name or f"coco_{args.model}"
    args.out = args.out or Path("runs") / args.name
    return args


def train(args: argparse.Namespace, stop: StopRequest) -> int:
    """The run, in every rank. Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    rank, world_size = ranks.rank(), ranks.world_size()
    device = choose_device(args.device)
    ranks.on_rank_0(refuse_run_folder, args)
    images = TrainingImages(args.data, "train2017", args.seed)
    network = mask_rcnn.MaskRCNNConfig(
        classes=images.classes,
        backbone=args.backbone,
        context=MODELS[args.model],
        stages=args.stages,
        kernels=args.kernels,
        stride=args.stride,
        pretrained=args.pretrained,
        min_size=args.min_size,
    )
    config = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    config |= {"data": str(args.data.resolve()), "images": len(images)}
    found = ranks.on_rank_0(open_run_folder, args, network, config, FREE_ON_RESUME, _parser())
    _, state, notice = found or (None, None, "")
    last, done = args.out / "checkpoints" / checkpoint.LAST, 0

    # The other ranks get rank 0's weights from ranks.parallel
    model = mask_rcnn.build(network, args.seed, download=args.pretrained and not state and rank == 0).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=args.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    forward = ranks.parallel(model)
    batches = ChunkBatches(len(images), args.batch_size, args.seed, rank, world_size)
    loader = DataLoader(
        images,
        batch_sampler=batches,
        num_workers=args.workers,
        collate_fn=list,  # images of different sizes make no batch of one tensor
        worker_init_fn=ignore_signals,
    )

    history = RunLog(args.out, kept_epochs=done if state else -1, kept_steps=done)  # steps take the place of epochs
    if rank == 0:
        write_json(args.out / "config.json", config)
        write_json(args.out / "environment.json", environment(device))
    history.say(f"{args.name} in {args.out}: {sum(p.numel() for p in trained):,} trained parameters")
    history.say(f"{world_size} x {device}, {len(images)} images with objects, batch {args.batch_size}")
    if notice:
        history.say(notice)
    history.say(f"steps {done} to {args.steps}")

    def save() -> None:
        checkpoint.save(last, model, config, world_size=world_size, optimizer=optimizer.state_dict(), step=done)

    stop.listen()
    model.train()
    losses, started = [], time.perf_counter()
    progress = tqdm(total=args.steps, initial=done, unit="step", disable=None if rank == 0 else True)
    for batch in itertools.islice(batches_from(done, loader, batches), args.steps - done):
        rate = learning_rate(args, done)
        optimizer.param_groups[0]["lr"] = rate
        torch.manual_seed(ranks.seed_of_step(args.seed, done, rank))  # of the boxes that losses are of
        image_ids = [target.pop("image_id") for _, target in batch]
        targets = [{name: value.to(device) for name, value in target.items()} for _, target in batch]
        loss = sum(forward([image.to(device) for image, _ in batch], targets).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient = torch.nn.utils.get_total_norm([p.grad for p in trained])
        parts = torch.stack([loss.detach(), gradient, loss.new_tensor(float(stop.signal > 0))])
        loss, gradient, stopping = (ranks.sum_over_ranks(parts) / world_size).tolist()
        done += 1
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            ids = sorted(sum(ranks.gather_from_ranks(image_ids), []))
            message = f"loss {loss}, gradient norm {gradient} in step {done}, with images {ids}"
            history.say(message)
            ranks.on_rank_0(fail, f"{message}. Nothing after the last checkpoint was saved; lower --lr")
        optimizer.step()
        losses.append(loss)
        progress.update()

        final = done == args.steps
        if done % LOG_EVERY == 0 or final:
            mean, speed = sum(losses) / len(losses), len(losses) * args.batch_size / (time.perf_counter() - started)
            history.record(done, "train", {"loss": mean, "lr": rate, "images_per_second": speed})
            history.say(f"step {done}: loss {mean:.4f}, lr {rate:.2e}, {speed:.1f} images/s")
            losses, started = [], time.perf_counter()
        if done % args.save_every == 0 or final or stopping:
            ranks.on_rank_0(save)
        if stopping and not final:
            history.stopped(done)
            return stop.exit_code
    progress.close()
    ranks.on_rank_0(checkpoint.export, args.out / "export", model)
    history.say(f"checkpoints in {last.parent}; score one with scripts/coco/eval_coco.py --checkpoint {last}")
    history.close()
    return 0


def batches_from(step: int, loader: DataLoader, batches: ChunkBatches) -> Iterator[list]:
    """The batches of step, step + 1, ... without end, through as many epochs as it takes."""
    for epoch in itertools.count(step // len(batches)):
        batches.set_epoch(epoch, first_step=step % len(batches))
        for batch in loader:
            yield batch
            step += 1


if __name__ == "__main__":
    sys.exit(main())
