"""One LatentGNN layer, forward and backward, beside the same layer as released, its kin, and a convolution.

The layer of the first set abstraction: 64 channels, d = 80. As released: models/textbook.py, kernel after kernel with
1x1 convolutions. Non-local, of the same channels: with the N x N matrix as published, multiplied the other way round
(which a dot product allows), and with a softmax through scaled_dot_product_attention. Double attention and induced
points: of the same channels and latent nodes. Mean feature: the control. Conv2d: the common shared MLP, one 1x1
convolution of the same channels with batch norm and ReLU, in which no point sees another.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.double_attention import DoubleAttention
from models.induced_points import InducedPoints
from models.latentgnn import LatentGNN
from models.mean_feature import MeanFeature
from models.non_local import NonLocal
from models.pointnet2 import PointNet2Config
from models.textbook import latentgnn_forward, non_local_forward
from scripts.benchmarks import timing

SEED = 0
CHANNELS, LATENT_NODES = 64, PointNet2Config.latent_nodes[0]  # of context1
SIZES = ((1, 1024), (4, 1024), (16, 1024), (1, 8192), (1, 65_536))  # B, N
KERNELS = (1, 2, 3)
OURS, SOFTMAX = "LatentGNN, K = 1", "non-local, softmax, scaled_dot_product_attention"
DENSE, DENSE_POINTS = "non-local, N x N", 8192  # the most points of which the matrix is made: 268 MB
SCALE = 0.5  # of fresh layers, which would be the identity


def run(args) -> dict:
    rows = []
    print(f"C = {CHANNELS}, d = {LATENT_NODES}; ours is LatentGNN with one kernel\n")
    print("| B | N | layer | ms (quartiles) | x ours |\n|---:|---:|---|---:|---:|")
    for B, N in SIZES:
        x = torch.randn(B, N, CHANNELS, generator=torch.Generator().manual_seed(SEED))
        calls = {name: step(layer, x) for name, layer in layers().items() if N <= DENSE_POINTS or name != DENSE}
        times = timing.alternate(calls, args.rounds)
        for name, seconds in times.items():
            ratio = timing.median(seconds) / timing.median(times[OURS])
            rows.append(dict(clouds=B, points=N, layer=name, seconds=seconds, ratio=ratio))
            print(f"| {B} | {N:,} | {name} | {timing.spread(seconds)} | {ratio:.2f} |")
    print("\n| B | N | K | as released / ours |\n|---:|---:|---:|---:|")
    for B, N in SIZES:
        ms = {row["layer"]: timing.median(row["seconds"]) for row in rows if (row["clouds"], row["points"]) == (B, N)}
        for k in KERNELS:
            print(f"| {B} | {N:,} | {k} | {ms[f'as released, K = {k}'] / ms[f'LatentGNN, K = {k}']:.2f} |")
    return {"channels": CHANNELS, "latent_nodes": LATENT_NODES, "rows": rows}


def layers() -> dict[str, nn.Module]:
    """{name: layer of (B, N, C) -> (B, N, C)}, "ours" first."""
    latentgnn = {k: LatentGNN(CHANNELS, LATENT_NODES, k) for k in KERNELS}
    found = {f"LatentGNN, K = {k}": layer for k, layer in latentgnn.items()}
    found |= {f"as released, K = {k}": Form(LatentGNN(CHANNELS, LATENT_NODES, k), latentgnn_forward) for k in KERNELS}
    found["non-local, reordered"] = NonLocal(CHANNELS)
    found[SOFTMAX] = NonLocal(CHANNELS, "softmax")
    found[DENSE] = Form(NonLocal(CHANNELS), non_local_forward)
    found["double attention"] = DoubleAttention(CHANNELS, LATENT_NODES)
    found["induced points"] = InducedPoints(CHANNELS, LATENT_NODES)
    found["mean feature"] = MeanFeature(CHANNELS)
    convolution = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
    found["Conv2d, batch norm, ReLU"] = Form(convolution, convolution_forward)
    for layer in found.values():
        for name, parameter in layer.named_parameters():
            if name.endswith(("scale", "norm.weight", "extend.weight", "linear.weight")):
                nn.init.constant_(parameter, SCALE)
    return found


class Form(nn.Module):
    """A layer, computed as a function writes it."""

    def __init__(self, layer: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


def convolution_forward(layers: nn.Module, x: Tensor) -> Tensor:
    """(B, N, C) -> (B, N, C) through (B, C, N, 1), as the common ports do."""
    return layers(x.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)


def gradients(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """As `step`, but nothing is kept: returns the gradient of x (B, N, C)."""
    x, upstream = x.clone().requires_grad_(), x.flip(1)
    wanted = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(layer(x), wanted, upstream)[0]


def step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward of the layer on x (B, N, C), to its parameters and to x."""
    x, upstream = x.clone().requires_grad_(), x.flip(1)

    def call() -> None:
        x.grad = None
        layer.zero_grad(set_to_none=True)
        layer(x).backward(upstream)

    return call
