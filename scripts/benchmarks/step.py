"""A training step (forward, loss, backward) beside the textbook form, on training chunks with their point dropout.

    python scripts/benchmark.py step [--threads T] [--batch-sizes 4 16] [--port]

textbook: models/textbook.py, given the same fast indices; dropout on in both. port, on request and for the smallest
batch: the same with the operators of the common pure-Python ports, that is a Python loop for furthest point sampling
and sorted distance matrices for the neighbours. floor: the multiplications that remain, at the rate of one large matrix
product measured in the same run. context: what the step is longer than without context layers.
errors: of logits, gradients and running statistics in float32 without dropout, relative to the textbook form in
float64, in the norm, medians over batches of two chunks.
"""

import copy
import functools
import re
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import ops
from data.datasets import TrainingChunks, scene_files
from data.labels import SCANNET20
from data.rooms.default import default_rooms
from data.scenes import read_manifest
from models import pointnet2, textbook
from scripts.benchmarks import timing
from training.arguments import whole_number
from training.losses import weighted_cross_entropy_sum

SEED = 0
NETWORKS = {
    "no context": {},
    "non-local": {"context": "non_local"},
    "LatentGNN K = 1": {"context": "latentgnn"},
    "LatentGNN K = 3": {"context": "latentgnn", "kernels": 3},
}
CONTEXT_SCALE = 0.1  # of fresh context layers, which would be the identity: what training brings it to, in size
GEMM_SIZE = 1024
CHECKED, PAIRS_CHECKED = ("no context", "LatentGNN K = 1"), 16
ROUNDS_OF_PORT = 1  # it takes a minute


def add_arguments(parser) -> None:
    parser.add_argument("--data", type=Path, help="preprocessed scenes (default: generated rooms)")
    parser.add_argument("--batch-sizes", type=whole_number(1), nargs="+", default=[4, 16])
    parser.add_argument("--port", action="store_true", help="time the structure of the common ports, too")


def run(args) -> dict:
    print(ops.describe())
    data = args.data or default_rooms()
    chunks = TrainingChunks(scene_files(data, read_manifest(data), ["train"]), SEED)
    batch = training_batch(chunks, max(args.batch_sizes))
    rate = matrix_product_rate()
    print(f"matrix product of {GEMM_SIZE}^3: {rate / 1e9:.0f} GFLOP/s\n")
    print(
        "| network | B | ms (quartiles) | textbook, ms | textbook / ours | GFLOP, textbook's | floor, ms | context |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    rows = []
    for size in args.batch_sizes:
        first = len(rows)  # of this size: without a context
        for name, options in NETWORKS.items():
            model, part = network(options), {key: value[:size] for key, value in batch.items()}
            other = copy.deepcopy(model)
            calls = {
                "ours": functools.partial(step, model, ours, part),
                "textbook": functools.partial(step, other, textbook_form, part),
            }
            flops = {}
            for form, call in calls.items():
                with FlopCounterMode(display=False) as counter:
                    call()
                flops[form] = counter.get_total_flops()
            seconds = timing.alternate(calls, args.rounds)
            ratio, floor = timing.median(seconds["textbook"]) / timing.median(seconds["ours"]), flops["ours"] / rate
            rows.append(dict(network=name, batch=size, seconds=seconds, flops=flops, ratio=ratio, floor=floor))
            share = 1 - timing.median(rows[first]["seconds"]["ours"]) / timing.median(seconds["ours"])
            print(
                f"| {name} | {size} | {timing.spread(seconds['ours'], digits=0)} | "
                f"{timing.spread(seconds['textbook'], digits=0)} | {ratio:.2f} | "
                f"{flops['ours'] / 1e9:.1f}, {flops['textbook'] / 1e9:.1f} | {1e3 * floor:.0f} | {100 * share:.0f} % |"
            )
    pairs = [training_batch(chunks, 2, 2 * pair) for pair in range(PAIRS_CHECKED)]
    result = {"rate": rate, "rows": rows, "errors": {name: errors(NETWORKS[name], pairs) for name in CHECKED}}
    print("\n| errors | logits | gradients | running statistics |\n|---|---:|---:|---:|")
    for name, forms in result["errors"].items():
        for form, error in forms.items():
            print(f"| {name}, {form} | " + " | ".join(f"{value:.1e}" for value in error.values()) + " |")
    if args.port:
        result["port"] = against_port({key: value[: min(args.batch_sizes)] for key, value in batch.items()})
        print(f"\nport / ours, B = {min(args.batch_sizes)}, LatentGNN K = 1: {result['port']['ratio']:.1f}")
    return result


def training_batch(chunks: TrainingChunks, size: int, first: int = 0) -> dict[str, Tensor]:
    """Chunks of the first epoch from `first` on: points (B, N, 3), classes (B, N), weight (B, N)."""
    samples = [chunks[(1, position, position % len(chunks))] for position in range(first, first + size)]
    return {key: torch.stack([torch.as_tensor(s[key]) for s in samples]) for key in ("points", "classes", "weight")}


def network(options: dict) -> pointnet2.PointNet2:
    return with_context(pointnet2.build(pointnet2.PointNet2Config(SCANNET20.num_classes, **options), SEED).train())


def with_context(model: pointnet2.PointNet2) -> pointnet2.PointNet2:
    """The network, whose fresh context layers now do something."""
    for name, parameter in model.named_parameters():
        if re.fullmatch(r"context\d\.(scale|norm\.weight)", name):
            torch.nn.init.constant_(parameter, CONTEXT_SCALE)
    return model


ours = pointnet2.PointNet2.__call__


def textbook_form(model, points: Tensor, operators=ops) -> Tensor:
    with mock.patch.object(textbook, "ops", operators):
        return textbook.pointnet2_forward(model, points)


def step(model, form, batch: dict) -> Tensor:
    """Forward, loss and backward of the model as form(model, points) computes it -> logits (B, N, C)."""
    model.zero_grad(set_to_none=True)
    logits = form(model, batch["points"])
    total, count = weighted_cross_entropy_sum(logits, batch["classes"], batch["weight"])
    (total / count).backward()
    return logits.detach()


def matrix_product_rate() -> float:
    """Floating-point operations a second, the best of ten."""
    a, b = torch.randn(2, GEMM_SIZE, GEMM_SIZE)
    return 2 * GEMM_SIZE**3 / min(timing.alternate({"product": lambda: a @ b}, 10)["product"])


def errors(options: dict, batches: list[dict]) -> dict[str, dict[str, float]]:
    """{form: errors} of the two forms in float32 against the textbook form in float64, without dropout: medians over
    the batches, for a single ReLU or maximum that falls the other way changes a gradient many times over."""
    model = network(options)
    model.dropout.p = 0.0
    forms, found = {"ours": ours, "textbook": textbook_form}, {"ours": [], "textbook": []}
    for batch in batches:
        exact = outcome(copy.deepcopy(model).double(), textbook_form, dict(batch, points=batch["points"].double()))
        for name, form in forms.items():
            got = outcome(copy.deepcopy(model), form, batch)
            found[name].append([((got[key].double() - exact[key]).norm() / exact[key].norm()).item() for key in exact])
    return {name: dict(zip(exact, np.median(values, axis=0).tolist(), strict=True)) for name, values in found.items()}


def outcome(model, form, batch: dict) -> dict[str, Tensor]:
    return {
        "logits": step(model, form, batch),
        "gradients": torch.cat([parameter.grad.flatten() for parameter in model.parameters()]),
        "statistics": torch.cat([buffer.flatten() for name, buffer in model.named_buffers() if "running" in name]),
    }


def against_port(batch: dict) -> dict:
    model = network(NETWORKS["LatentGNN K = 1"])
    port = SimpleNamespace(
        furthest_point_sample=ops.reference.furthest_point_sample, ball_query=port_ball_query, three_nn=port_three_nn
    )
    form = functools.partial(textbook_form, operators=port)
    other = copy.deepcopy(model)
    calls = {"ours": lambda: step(model, ours, batch), "port": lambda: step(other, form, batch)}
    seconds = timing.alternate(calls, ROUNDS_OF_PORT)
    return {"seconds": seconds, "ratio": timing.median(seconds["port"]) / timing.median(seconds["ours"])}


def port_ball_query(radius: float, nsample: int, xyz: Tensor, centres: Tensor) -> Tensor:
    """All distances, the indices of those outside set to N, all sorted, the first few taken: (B, M, S)."""
    B, N, _ = xyz.shape
    index = torch.arange(N).expand(B, centres.shape[1], N).clone()  # (B, M, N)
    index[torch.cdist(centres, xyz) >= radius] = N
    index = index.sort(2).values[:, :, :nsample]
    return torch.where(index == N, index[:, :, :1], index)


def port_three_nn(unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    distance, index = torch.cdist(unknown, known).square().sort(2)
    return distance[:, :, :3], index[:, :, :3]
