"""PointNet++ (Qi, Yi, Su and Guibas, NeurIPS 2017) for semantic segmentation, with an optional context layer after
each set abstraction: the networks of Table 3 of LatentGNN (Zhang, Yan and He, ICML 2019).

Shapes: B clouds, N points, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import ops
from models.cloud import cloud_of, cloud_of_centres
from models.feature_propagation import FeaturePropagation
from models.latentgnn import LatentGNN, in_float32, is_half_precision
from models.non_local import NonLocal
from models.set_abstraction import Scale, SetAbstraction
from models.shared_mlp import SharedMLP
from ops import rows

# The original PointNet++ ScanNet code (2017). The coarser centres are prefixes of the finer ones.
CENTRES = (1024, 256, 64, 16)
SSG = (
    (Scale(0.1, 32, (32, 32, 64)),),
    (Scale(0.2, 32, (64, 64, 128)),),
    (Scale(0.4, 32, (128, 128, 256)),),
    (Scale(0.8, 32, (256, 256, 512)),),
)
MSG = (
    (Scale(0.05, 16, (16, 16, 32)), Scale(0.1, 32, (32, 32, 64))),
    (Scale(0.1, 16, (64, 64, 128)), Scale(0.2, 32, (64, 96, 128))),
    (Scale(0.2, 16, (128, 196, 256)), Scale(0.4, 32, (128, 196, 256))),
    (Scale(0.4, 16, (256, 256, 512)), Scale(0.8, 32, (256, 384, 512))),
)
GROUPINGS = {"ssg": SSG, "msg": MSG}
FP_MLPS = ((128, 128, 128), (256, 128), (256, 256), (256, 256))  # fp1, the finest, first
HEAD_CHANNELS = 128
DROPOUT = 0.5

CONTEXTS = {  # name -> layer for a level's channels and latent nodes
    "none": lambda config, channels, latent_nodes: nn.Identity(),
    "non_local": lambda config, channels, latent_nodes: NonLocal(channels, config.affinity),
    "latentgnn": lambda config, channels, latent_nodes: LatentGNN(
        channels, latent_nodes, config.kernels, config.stride, config.symmetric, config.l2v_norm, config.weight
    ),
}


@dataclass(frozen=True)
class PointNet2Config:
    """What rebuilds a network. Survives JSON: PointNet2Config(**json.loads(json.dumps(dataclasses.asdict(config)))).

    Raises ValueError for a value that names no network; options of the context layer are checked by its class.
    """

    num_classes: int = 21
    extra_channels: int = 0  # point features after x, y, z
    grouping: str = "ssg"
    context: str = "none"
    affinity: str = "dot"  # of non_local
    latent_nodes: tuple[int, ...] = (80, 40, 20, 10)  # of latentgnn, as all below: at context1 to context4
    kernels: int = 1
    stride: int = 4
    symmetric: bool = False
    l2v_norm: str = "nodes"
    weight: str | None = "visible"

    def __post_init__(self):
        for name, allowed in (("grouping", GROUPINGS), ("context", CONTEXTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {tuple(allowed)}, got {getattr(self, name)!r}")
        if len(self.latent_nodes) != len(CENTRES):
            raise ValueError(f"latent_nodes must be {len(CENTRES)} numbers, got {self.latent_nodes}")
        object.__setattr__(self, "latent_nodes", tuple(self.latent_nodes))  # JSON has lists only


class PointNet2(nn.Module):
    """Four set abstractions, each followed by its context layer, and four feature propagations back to every point."""

    def __init__(self, config: PointNet2Config):
        super().__init__()
        self.config = config
        extra, scales = config.extra_channels, GROUPINGS[config.grouping]
        self.sa1 = SetAbstraction(extra, scales[0])
        self.sa2 = SetAbstraction(self.sa1.out_channels, scales[1])
        self.sa3 = SetAbstraction(self.sa2.out_channels, scales[2])
        self.sa4 = SetAbstraction(self.sa3.out_channels, scales[3])
        c1, c2, c3, c4 = (sa.out_channels for sa in (self.sa1, self.sa2, self.sa3, self.sa4))

        context, d = CONTEXTS[config.context], config.latent_nodes
        self.context1 = context(config, c1, d[0])
        self.context2 = context(config, c2, d[1])
        self.context3 = context(config, c3, d[2])
        self.context4 = context(config, c4, d[3])

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
        Raises ValueError for another shape or dtype than the weights', under torch.onnx.export, and in training mode
        for weights of half precision or a batch of a single point.
        """
        if points.dim() != 3 or points.shape[1] < 1 or points.shape[2] != 3 + self.config.extra_channels:
            expected = f"(B, N, {3 + self.config.extra_channels}) with N >= 1"
            raise ValueError(f"PointNet2 takes points {expected}, got {tuple(points.shape)}")
        if torch.onnx.is_in_onnx_export():
            raise ValueError("PointNet2: ONNX has no furthest point sampling and no ball query: use torch.export")
        if is_half_precision(self, self.classifier.weight, points):
            if self.training:
                advice = "keep float32 weights and train under torch.autocast (train_scannet.py --amp bf16)"
                raise ValueError(f"PointNet2 does not train weights in {self.classifier.weight.dtype}: {advice}")
            return in_float32(self, points)
        cloud0 = cloud_of(points)  # N points, R distinct ones in all clouds: rows of features are theirs
        f0 = points[..., 3:].flatten(0, 1)[cloud0.first] if self.config.extra_channels else None  # (R, extra)

        # Furthest point sampling of points that are already in its order keeps their order: one call serves all levels.
        index = ops.furthest_point_sample(cloud0.xyz.float(), CENTRES[0])  # (B, 1024)
        xyz1 = cloud0.xyz.gather(1, index.unsqueeze(2).expand(-1, -1, 3))  # (B, 1024, 3)
        cloud1, cloud2, cloud3, cloud4 = (cloud_of_centres(xyz1[:, :m].contiguous()) for m in CENTRES)

        f1 = self.context1(self.sa1(cloud0, f0, cloud1.xyz))  # (B, 1024, 64)   channels of SSG
        f2 = self.context2(self.sa2(cloud1, f1, cloud2.xyz))  # (B, 256, 128)
        f3 = self.context3(self.sa3(cloud2, f2, cloud3.xyz))  # (B, 64, 256)
        f4 = self.context4(self.sa4(cloud3, f3, cloud4.xyz))  # (B, 16, 512)

        f3 = self.fp4(cloud3, cloud4.xyz, f3, f4)  # (B x 64, 256)
        f2 = self.fp3(cloud2, cloud3.xyz, f2, f3)  # (B x 256, 256)
        f1 = self.fp2(cloud1, cloud2.xyz, f1, f2)  # (B x 1024, 128)
        f0 = self.fp1(cloud0, cloud1.xyz, f0, f1)  # (R, 128)
        f0 = self.head(f0, cloud0.copies)  # (R, 128)
        p = self.dropout.p if self.training else 0.0
        f0 = rows.gather_dropout(f0, cloud0.row.flatten(), p)  # (B x N, 128): each copy of a point drops its own values
        return self.classifier(f0).unflatten(0, points.shape[:2])  # (B, N, num_classes)


def build(config: PointNet2Config, seed: int) -> PointNet2:
    """A network with weights drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the GPUs' generators
        return PointNet2(config)
