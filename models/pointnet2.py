"""PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017) for semantic segmentation, with an optional context layer after
each set abstraction: the networks of Table 3 of LatentGNN (Zhang, Yan and He, ICML 2019).

Shapes: B clouds, N points, R distinct points of all clouds, C channels.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

import ops
from models.context import CONTEXTS, build_context, has_option
from models.feature_propagation import FeaturePropagation
from models.latentgnn import HALF_PRECISION, L2V_NORMS, in_float32, is_half_precision
from models.non_local import AFFINITIES
from models.set_abstraction import Scale, SetAbstraction
from models.shared_mlp import SharedMLP
from ops import rows

# The original PointNet++ ScanNet code (2017). The coarser centres are prefixes of the finer ones.
CENTRES = (1024, 256, 64, 16)
RADII = (0.1, 0.2, 0.4, 0.8)  # metres
FP_MLPS = ((128, 128, 128), (256, 128), (256, 256), (256, 256))  # fp1, the finest, first
HEAD_CHANNELS = 128
DROPOUT = 0.5


def ssg(r1: float, r2: float, r3: float, r4: float) -> tuple[tuple[Scale, ...], ...]:
    """Single-scale grouping: the balls of sa1 to sa4, for their radii in metres."""
    return (
        (Scale(r1, 32, (32, 32, 64)),),
        (Scale(r2, 32, (64, 64, 128)),),
        (Scale(r3, 32, (128, 128, 256)),),
        (Scale(r4, 32, (256, 256, 512)),),
    )


def msg(r1: float, r2: float, r3: float, r4: float) -> tuple[tuple[Scale, ...], ...]:
    """Multi-scale grouping: balls of half the radius, too."""
    return (
        (Scale(r1 / 2, 16, (16, 16, 32)), Scale(r1, 32, (32, 32, 64))),
        (Scale(r2 / 2, 16, (64, 64, 128)), Scale(r2, 32, (64, 96, 128))),
        (Scale(r3 / 2, 16, (128, 196, 256)), Scale(r3, 32, (128, 196, 256))),
        (Scale(r4 / 2, 16, (256, 256, 512)), Scale(r4, 32, (256, 384, 512))),
    )


OF_EVERY_NETWORK = ("num_classes", "extra_channels", "grouping", "radii", "context")  # fields of PointNet2Config
GROUPINGS = {"ssg": ssg, "msg": msg}
SSG = ssg(*RADII)


def _option(default: Any, text: str, **choices: tuple[str, ...]) -> Any:
    """A field that is a flag of train_scannet.py, too."""
    return dataclasses.field(default=default, metadata={"help": text, **choices})


@dataclasses.dataclass(frozen=True)
class PointNet2Config:
    """What rebuilds a network. Survives JSON: PointNet2Config(**json.loads(json.dumps(dataclasses.asdict(config)))).

    Raises ValueError for a value that names no network; options of the context layer are checked by its class.
    """

    num_classes: int  # outputs, with that for "none of the classes"
    extra_channels: int = 0  # point features after x, y, z
    grouping: str = _option("ssg", "single- or multi-scale grouping of PointNet++", choices=tuple(GROUPINGS))
    radii: tuple[float, ...] = _option(RADII, "radii of the balls of the four set abstractions, in m")
    context: str = "none"
    affinity: str = _option("dot", "affinity of the non-local block", choices=AFFINITIES)
    latent_nodes: tuple[int, ...] = _option((80, 40, 20, 10), "latent nodes d of the four layers")
    kernels: int = _option(1, "low-rank kernels K of each LatentGNN layer")
    stride: int = _option(4, "C / c: how many times fewer channels the nodes have")
    symmetric: bool = _option(False, "one affinity of LatentGNN for both directions")
    l2v_norm: str = _option("nodes", "what LatentGNN normalises psi_l2v over", choices=L2V_NORMS)
    weight: str | None = _option("visible", "where W of LatentGNN acts", choices=("visible", "latent", "none"))
    learned_temperature: bool = _option(False, "LatentGNN learns a factor of the cosines in its softmax")
    signed: bool = _option(False, "the affinities psi of LatentGNN keep their sign, without ReLU")

    def __post_init__(self):
        for name, allowed in (("grouping", GROUPINGS), ("context", CONTEXTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {tuple(allowed)}, got {getattr(self, name)!r}")
        for name in ("radii", "latent_nodes"):
            numbers = getattr(self, name)
            if not isinstance(numbers, list | tuple) or not all(isinstance(n, int | float) for n in numbers):
                raise ValueError(f"{name} must be numbers, got {numbers!r}")
            if len(numbers) != len(CENTRES):
                raise ValueError(f"{name} must be {len(CENTRES)} numbers, got {numbers}")
            object.__setattr__(self, name, tuple(numbers))  # JSON has lists only
        if not all(0 < radius < float("inf") for radius in self.radii):
            raise ValueError(f"radii must be positive numbers of metres, got {self.radii}")
        if self.weight == "none":  # of a command line, which has no None
            object.__setattr__(self, "weight", None)


def options_of(context: str) -> tuple[str, ...]:
    """The fields of PointNet2Config that are options of the context layer of that name, and of no other part."""
    fields = [field.name for field in dataclasses.fields(PointNet2Config) if field.name not in OF_EVERY_NETWORK]
    return tuple(name for name in fields if has_option(context, name))


class PointNet2(nn.Module):
    """Four set abstractions, each followed by its context layer, and four feature propagations back to every point."""

    def __init__(self, config: PointNet2Config):
        super().__init__()
        self.config = config
        extra, scales = config.extra_channels, GROUPINGS[config.grouping](*config.radii)
        self.sa1 = SetAbstraction(extra, scales[0])
        self.sa2 = SetAbstraction(self.sa1.out_channels, scales[1])
        self.sa3 = SetAbstraction(self.sa2.out_channels, scales[2])
        self.sa4 = SetAbstraction(self.sa3.out_channels, scales[3])
        c1, c2, c3, c4 = (sa.out_channels for sa in (self.sa1, self.sa2, self.sa3, self.sa4))

        self.context1 = build_context(config, c1, latent_nodes=config.latent_nodes[0])
        self.context2 = build_context(config, c2, latent_nodes=config.latent_nodes[1])
        self.context3 = build_context(config, c3, latent_nodes=config.latent_nodes[2])
        self.context4 = build_context(config, c4, latent_nodes=config.latent_nodes[3])

        self.fp4 = FeaturePropagation(c4, c3, FP_MLPS[3])
        self.fp3 = FeaturePropagation(FP_MLPS[3][-1], c2, FP_MLPS[2])
        self.fp2 = FeaturePropagation(FP_MLPS[2][-1], c1, FP_MLPS[1])
        self.fp1 = FeaturePropagation(FP_MLPS[1][-1], extra, FP_MLPS[0])

        self.head = SharedMLP((FP_MLPS[0][-1], HEAD_CHANNELS))
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(HEAD_CHANNELS, config.num_classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, points: Tensor) -> Tensor:
        """x, y, z in metres and extra_channels features of each point (B, N, 3 + extra) -> logits (B, N, num_classes).

        Any N >= 1 and any order of points; which of them become centres depends on the first. A cloud with fewer
        points than centres repeats some, as it would if points were drawn with replacement.
        In evaluation mode torch.export takes B and N (to ops.MAX_POINTS) as dynamic, and torch.jit.trace gives the same
        logits for the traced shape; what either saves needs `import ops` where it runs. Weights of half precision are
        computed with in float32, and the logits are of the points' dtype.
        Raises ValueError for another shape or dtype than the weights', under torch.onnx.export(dynamo=False) (the other
        exporter refuses by itself: ONNX has none of the point operators), and in training mode
        for weights of half precision or a batch of a single point.
        """
        _check(self, points)
        if self.classifier.weight.dtype in HALF_PRECISION:
            return in_float32(self, points)

        # Furthest point sampling of points that are already in its order keeps their order: one call serves all levels.
        xyz0 = points[..., :3].contiguous()  # (B, N, 3)
        index = ops.furthest_point_sample(xyz0.float(), CENTRES[0])  # (B, 1024)
        xyz1 = xyz0.gather(1, index.unsqueeze(2).expand(-1, -1, 3))  # (B, 1024, 3)
        xyz2, xyz3, xyz4 = (xyz1[:, :m].contiguous() for m in CENTRES[1:])  # (B, 256, 3), (B, 64, 3), (B, 16, 3)

        # Points drawn with replacement repeat: distinct.of(points) are the R distinct, and [inverse] brings all
        # back. So f(points) = f(distinct)[inverse] point by point, and a sum counts each row multiplicity times: sa1
        # takes R rows, fp1 and the head compute R. It pays on the CPU; elsewhere all count as distinct, R = B N.
        distinct = rows.distinct_points(points)
        f0 = distinct.of(points[..., 3:]) if self.config.extra_channels else None  # (R, extra)

        f1 = self.context1(self.sa1(xyz0, f0, xyz1, distinct))  # (B, 1024, 64)   channels of SSG
        f2 = self.context2(self.sa2(xyz1, f1, xyz2))  # (B, 256, 128)
        f3 = self.context3(self.sa3(xyz2, f2, xyz3))  # (B, 64, 256)
        f4 = self.context4(self.sa4(xyz3, f3, xyz4))  # (B, 16, 512)

        f3 = self.fp4(xyz3, xyz4, f3, f4)  # (B, 64, 256)
        f2 = self.fp3(xyz2, xyz3, f2, f3)  # (B, 256, 256)
        f1 = self.fp2(xyz1, xyz2, f1, f2)  # (B, 1024, 128)
        f0 = self.fp1(xyz0, xyz1, f0, f1, distinct)  # (R, 128)
        f0 = self.head(f0, distinct.multiplicity)  # (R, 128)

        f0 = distinct.to_points(f0, self.dropout.p * self.training)  # (B N, 128)
        return self.classifier(f0).unflatten(0, points.shape[:2])  # (B, N, num_classes)


def _check(model: PointNet2, points: Tensor) -> None:
    """Raises what PointNet2.forward says."""
    weight, channels = model.classifier.weight, 3 + model.config.extra_channels
    if points.dim() != 3 or points.shape[1] < 1 or points.shape[2] != channels:
        raise ValueError(f"PointNet2 takes points (B, N, {channels}) with N >= 1, got {tuple(points.shape)}")
    if torch.onnx.is_in_onnx_export():
        raise ValueError("PointNet2: ONNX has no furthest point sampling and no ball query: use torch.export")
    if is_half_precision(model, weight, points) and model.training:
        advice = "keep float32 weights and train under torch.autocast (train_scannet.py --amp bf16)"
        raise ValueError(f"PointNet2 does not train weights in {weight.dtype}: {advice}")


def build(config: PointNet2Config, seed: int) -> PointNet2:
    """A network with weights drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the GPUs' generators
        return PointNet2(config)
