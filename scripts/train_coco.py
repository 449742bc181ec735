"""Train Mask R-CNN with LatentGNN or non-local blocks on COCO, as in Tables 1 and 2 of the LatentGNN paper.

    python scripts/train_coco.py --data /data/coco --model latentgnn --stages 3 4 5
    torchrun --standalone --nproc-per-node=4 scripts/train_coco.py --data /data/coco

Defaults are the paper's: SGD at 0.02 with momentum 0.9 and weight decay 1e-4, 90,000 steps of 16 images, learning rate
x 0.1 after 60,000 and 80,000, images of 800 pixels. The run folder is that of train_scannet.py, with steps for epochs.
Needs its own environment: pip install -r scripts/requirements-coco.txt
"""

import argparse
import dataclasses
import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch: as in train_scannet.py

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.coco import Batches, CocoError, TrainingImages
from eval_scannet import choose_device, whole_number
from models import checkpoint, distributed, mask_rcnn
from models.run_folder import (
    NOT_SETTINGS,
    RunLog,
    environment,
    open_run_folder,
    refuse_other_settings,
    refuse_run_folder,
    write_json,
)
from models.stopping import StopRequest, TrainingError, fail, ignore_signals, run

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


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with COCO's annotations/, train2017/ and val2017/")
    add("--name", help="name of the run (default: the model's)")
    add("--out", type=Path, help="run folder (default: runs/<name>)")
    add("--resume", choices=["auto"], help="go on from the run folder's last.pt; start afresh if it has none")
    add("--model", choices=list(MODELS), default="latentgnn")
    add("--backbone", choices=list(mask_rcnn.BACKBONES), default="resnet50")
    add("--weights", default="imagenet", help="of the backbone: imagenet (torchvision downloads it), none, or a file")
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
    args = parser.parse_args(argv)
    if not 0 < args.lr < float("inf"):
        parser.error(f"--lr is {args.lr}; it has to be a positive number")
    args.stages = tuple(sorted(set(args.stages)))
    args.name = args.name or f"coco_{args.model}"
    args.out = args.out or Path("runs") / args.name
    return args


def train(args: argparse.Namespace, stop: StopRequest) -> int:
    """The run, in every rank. Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    rank, world_size = distributed.rank(), distributed.world_size()
    device = choose_device(args.device)
    distributed.of_rank_0(refuse_run_folder, args)
    images = TrainingImages(args.data, "train2017", args.seed)
    network = mask_rcnn.MaskRCNNConfig(
        category_ids=images.category_ids,
        backbone=args.backbone,
        context=MODELS[args.model],
        stages=args.stages,
        kernels=args.kernels,
        stride=args.stride,
        pretrained=args.weights != "none",
        min_size=args.min_size,
        max_size=args.min_size * 5 // 3,  # 1333 for 800
    )
    config = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    config |= {"data": str(args.data.resolve()), "images": len(images)}
    state = distributed.of_rank_0(prepare, args, {**config, **dataclasses.asdict(network)})
    last = args.out / "checkpoints" / checkpoint.LAST

    weights = None if state else backbone_weights(args)
    model = mask_rcnn.build(network, args.seed, weights).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=args.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    done = 0
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    forward = distributed.parallel(model)
    batches = Batches(len(images), args.batch_size, args.steps, args.seed, done, rank, world_size)
    loader = DataLoader(
        images,
        batch_sampler=batches,
        num_workers=args.workers,
        collate_fn=unzip,
        worker_init_fn=ignore_signals,
    )

    history = RunLog(args.out, kept_epochs=done if state else -1, kept_steps=done)  # steps take the place of epochs
    if rank == 0:
        write_json(args.out / "config.json", config)
        write_json(args.out / "environment.json", environment(device))
    history.say(f"{args.name} in {args.out}: {sum(p.numel() for p in trained):,} trained parameters")
    history.say(f"{world_size} x {device}, {len(images)} images with objects, batch {args.batch_size}")
    history.say(f"steps {done} to {args.steps}")

    def save() -> None:
        checkpoint.save(last, model, config, world_size=world_size, optimizer=optimizer.state_dict(), step=done)

    stop.listen()
    model.train()
    losses, started = [], time.perf_counter()
    progress = tqdm(total=args.steps, initial=done, unit="step", disable=None if rank == 0 else True)
    for pictures, targets in loader:
        rate = learning_rate(args, done)
        optimizer.param_groups[0]["lr"] = rate
        torch.manual_seed(distributed.seed_of_step(args.seed, done, rank))  # of the boxes that losses are of
        image_ids = [target.pop("image_id") for target in targets]
        targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
        loss = sum(forward([picture.to(device) for picture in pictures], targets).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient = torch.nn.utils.get_total_norm([p.grad for p in trained])
        parts = torch.stack([loss.detach(), gradient, loss.new_tensor(float(stop.signal > 0))])
        loss, gradient, stopping = (distributed.sum_over_ranks(parts) / world_size).tolist()
        done += 1
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            ids = sorted(sum(distributed.of_all_ranks(image_ids), []))
            message = f"loss {loss}, gradient norm {gradient} in step {done}, with images {ids}"
            history.say(message)
            distributed.of_rank_0(fail, f"{message}. Nothing after the last checkpoint was saved; lower --lr")
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
            distributed.of_rank_0(save)
        if stopping and not final:
            history.stopped(done)
            return stop.exit_code
    progress.close()
    distributed.of_rank_0(checkpoint.export, args.out / "export", model)
    history.say(f"checkpoints in {last.parent}; score one with scripts/eval_coco.py --checkpoint {last}")
    history.close()
    return 0


def prepare(args: argparse.Namespace, settings: dict) -> dict | None:
    """The entries of the checkpoint to go on from, or None. TrainingError if it is of another run."""
    found = open_run_folder(args)
    if found is None:
        return None
    path, state, notice = found
    if notice:
        print(notice, file=sys.stderr)
    refuse_other_settings(settings, state, path, FREE_ON_RESUME)
    return state


def backbone_weights(args: argparse.Namespace) -> dict[str, Tensor] | None:
    """The state_dict that --weights names. OSError or TrainingError if it is not to be had."""
    if args.weights == "none":
        return None
    if args.weights == "imagenet":
        from torchvision.models import get_model_weights

        return get_model_weights(args.backbone)["IMAGENET1K_V1"].get_state_dict(progress=False, check_hash=True)
    try:
        return torch.load(args.weights, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a file of another kind makes the unpickler raise almost anything
        raise TrainingError(f"{args.weights}: cannot be read as a state_dict ({str(error).splitlines()[0]})") from error


def unzip(items: list[tuple[Tensor, dict]]) -> tuple[list[Tensor], list[dict]]:
    """Images of different sizes make no batch of one tensor."""
    pictures, targets = zip(*items, strict=True)
    return list(pictures), list(targets)


if __name__ == "__main__":
    sys.exit(main())
