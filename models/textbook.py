"""The networks as the papers write them, in the order in which PointNet++ runs. READ THIS FIRST.

They are what the fast forms of models/ must equal, and what MACs count. Each function takes a module of theirs for its
parameters and its mode (in training mode it updates the running statistics, too): channels first, 1x1 convolutions
after gathering and interpolation, furthest point sampling at every level, plain torch throughout. Batch norm only ever
sees (B, C, N): torch's 4-D batch norm returns wrong gradients on the CPU for transposed gradients.

Shapes: B clouds, N points, M centres, S neighbours, C channels, c bottleneck channels, d latent nodes, K kernels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_propagation import MIN_SQUARED_DISTANCE, FeaturePropagation
from models.latentgnn import LatentGNN
from models.non_local import NonLocal
from models.pointnet2 import CENTRES, PointNet2
from models.set_abstraction import SetAbstraction
from models.shared_mlp import SharedMLP
from ops import reference as ops


def pointnet2_forward(model: PointNet2, points: Tensor) -> Tensor:
    """x, y, z and extra features (B, N, 3 + extra) -> logits (B, N, num_classes), as model(points)."""
    m1, m2, m3, m4 = CENTRES  # 1024, 256, 64, 16
    xyz0, f0 = points[..., :3], points[..., 3:].mT  # (B, N, 3), (B, extra, N)
    xyz1 = gather(xyz0, ops.furthest_point_sample(xyz0.float(), m1))  # (B, 1024, 3)
    xyz2 = gather(xyz1, ops.furthest_point_sample(xyz1.float(), m2))  # (B, 256, 3)
    xyz3 = gather(xyz2, ops.furthest_point_sample(xyz2.float(), m3))  # (B, 64, 3)
    xyz4 = gather(xyz3, ops.furthest_point_sample(xyz3.float(), m4))  # (B, 16, 3)

    f1 = context_forward(model.context1, set_abstraction_forward(model.sa1, xyz0, f0, xyz1))  # (B, 64, 1024)
    f2 = context_forward(model.context2, set_abstraction_forward(model.sa2, xyz1, f1, xyz2))  # (B, 128, 256)
    f3 = context_forward(model.context3, set_abstraction_forward(model.sa3, xyz2, f2, xyz3))  # (B, 256, 64)
    f4 = context_forward(model.context4, set_abstraction_forward(model.sa4, xyz3, f3, xyz4))  # (B, 512, 16)

    f3 = feature_propagation_forward(model.fp4, xyz3, xyz4, f3, f4)  # (B, 256, 64)
    f2 = feature_propagation_forward(model.fp3, xyz2, xyz3, f2, f3)  # (B, 256, 256)
    f1 = feature_propagation_forward(model.fp2, xyz1, xyz2, f1, f2)  # (B, 128, 1024)
    f0 = feature_propagation_forward(model.fp1, xyz0, xyz1, f0, f1)  # (B, 128, N)
    f0 = model.dropout(shared_mlp_forward(model.head, f0))  # (B, 128, N)
    return F.conv1d(f0, model.classifier.weight.unsqueeze(2), model.classifier.bias).mT  # (B, N, num_classes)


def set_abstraction_forward(layer: SetAbstraction, xyz: Tensor, features: Tensor, centres: Tensor) -> Tensor:
    """Points (B, N, 3), features (B, C, N), centres (B, M, 3) -> features of the centres (B, C', M)."""
    pooled = []
    for scale, mlp in zip(layer.scales, layer.mlps, strict=True):
        index = ops.ball_query(scale.radius, scale.neighbours, xyz.float(), centres.float())  # (B, M, S)
        relative = gather(xyz, index) - centres.unsqueeze(2)  # (B, M, S, 3)
        grouped = torch.cat([relative, gather(features.transpose(1, 2), index)], 3)  # (B, M, S, 3 + C)
        grouped = shared_mlp_forward(mlp, grouped.flatten(1, 2).transpose(1, 2).contiguous())  # (B, C', M S)
        pooled.append(grouped.unflatten(2, index.shape[1:]).amax(3))  # (B, C', M)
    return torch.cat(pooled, 1)


def shared_mlp_forward(mlp: SharedMLP, x: Tensor) -> Tensor:
    """(B, C, N) -> (B, C', N)."""
    for linear, norm in zip(mlp.linears, mlp.norms, strict=True):
        x = F.relu(norm(F.conv1d(x, linear.weight.unsqueeze(2))))
    return x


def context_forward(layer: nn.Module, x: Tensor) -> Tensor:
    """(B, C, N) -> (B, C, N); a layer of a class that has no textbook form here is called as it is."""
    form = {LatentGNN: latentgnn_forward, NonLocal: non_local_forward}.get(type(layer))
    return (form(layer, x.mT) if form else layer(x.mT.contiguous())).mT


def latentgnn_forward(layer: LatentGNN, x: Tensor, dense: bool = False) -> Tensor:
    """(B, N, C) -> (B, N, C), kernel after kernel; `dense` forms each N x N affinity, as Eq. 12 and 13 are written."""
    x_v2l, psi_v2l, psi_l2v = latentgnn_affinities(layer, x.transpose(1, 2).contiguous())
    outputs = []
    for k in range(layer.kernels):
        v2l, l2v = psi_v2l[:, k], psi_l2v[:, k]  # (B, d, N)
        latent, f = latentgnn_graph(layer, k, x_v2l, v2l)
        if dense:
            affinity = l2v.transpose(1, 2) @ f @ v2l  # (B, N, N), Eq. 13
            y = x_v2l @ affinity.transpose(1, 2)  # (B, c, N)
        else:
            y = latent @ f.transpose(1, 2) @ l2v  # (B, c, N)
        if layer.weight_side == "visible" or (dense and layer.weight_side == "latent"):
            y = F.conv1d(y, layer.weight[k].T.unsqueeze(2))  # (B, c, N), A X W
        outputs.append(y)
    y = torch.cat(outputs, 1)  # (B, K c, N)
    if layer.weight_side is not None:
        y = F.relu(layer.weight_norm(y))  # (B, K c, N)
    y = layer.mixture(y).transpose(1, 2)  # (B, N, C), Eq. 14
    return y if layer.scale is None else x + layer.scale * y  # Eq. 15


def latentgnn_affinities(layer: LatentGNN, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns (B, C, N) -> their reduction x_v2l (B, c, N), and the affinities psi_v2l and psi_l2v (B, K, d, N)."""
    sizes, over_nodes, over_points = (layer.kernels, layer.latent_nodes), 2, 3  # the axes whose L2 norms are 1
    activate = torch.positive if layer.signed else F.relu
    x_v2l = F.normalize(layer.reduce_v2l(columns), dim=1)  # (B, c, N)
    psi_v2l = activate(layer.psi_v2l(x_v2l)).unflatten(1, sizes)  # (B, K, d, N)
    if layer.symmetric:
        return x_v2l, *[F.normalize(psi_v2l, dim=over_nodes)] * 2
    x_l2v = F.normalize(layer.reduce_l2v(columns), dim=1)  # (B, c, N)
    psi_l2v = activate(layer.psi_l2v(x_l2v)).unflatten(1, sizes)  # (B, K, d, N)
    l2v_axis = over_nodes if layer.l2v_norm == "nodes" else over_points
    return x_v2l, F.normalize(psi_v2l, dim=over_points), F.normalize(psi_l2v, dim=l2v_axis)


def latentgnn_graph(layer: LatentGNN, k: int, x_v2l: Tensor, v2l: Tensor) -> tuple[Tensor, Tensor]:
    """Of kernel k: x_v2l (B, c, N), psi_v2l (B, d, N) -> Z transposed (B, c, d), and F (B, d, d), Eq. 5 and 6."""
    latent = x_v2l @ v2l.transpose(1, 2)  # (B, c, d)
    if layer.weight_side == "latent":
        latent = F.conv1d(latent, layer.weight[k].T.unsqueeze(2))  # (B, c, d), X W
    unit = F.normalize(latent, dim=1)  # (B, c, d)
    cosines = unit.transpose(1, 2) @ unit  # (B, d, d)
    if layer.logit_scale is not None:
        cosines = layer.logit_scale[k].exp() * cosines  # (B, d, d)
    return latent, F.softmax(cosines, dim=2)


def non_local_forward(block: NonLocal, x: Tensor) -> Tensor:
    """(B, N, C) -> (B, N, C), with the N x N affinity."""
    columns = x.transpose(1, 2).contiguous()  # (B, C, N)
    theta, phi, g = block.theta(columns), block.phi(columns), block.g(columns)  # (B, C / 2, N)
    similarity = theta.transpose(1, 2) @ phi  # (B, N, N)
    if block.affinity == "dot":
        affinity = similarity / x.shape[1]
    elif block.affinity == "laplacian":
        affinity = similarity / similarity.abs().sum(2, keepdim=True)
    else:
        affinity = similarity.softmax(2)
    y = g @ affinity.transpose(1, 2)  # (B, C / 2, N)
    return x + block.norm(block.weight(y)).transpose(1, 2)


def feature_propagation_forward(
    layer: FeaturePropagation, xyz: Tensor, coarse_xyz: Tensor, skip: Tensor, coarse: Tensor
) -> Tensor:
    """Fine and coarse points (B, N, 3), (B, M, 3), their features (B, C, N), (B, C, M) -> (B, C', N)."""
    squared_distance, index = ops.three_nn(xyz.float(), coarse_xyz.float())  # (B, N, 3)
    weight = 1 / squared_distance.clamp(min=MIN_SQUARED_DISTANCE)  # (B, N, 3)
    weight = weight / weight.sum(2, keepdim=True)  # (B, N, 3)
    interpolated = (gather(coarse.transpose(1, 2), index) * weight.unsqueeze(3)).sum(2)  # (B, N, C)
    return shared_mlp_forward(layer.mlp, torch.cat([interpolated.transpose(1, 2), skip], 1))


def gather(rows: Tensor, index: Tensor) -> Tensor:
    """rows (B, N, C), index (B, ...) -> (B, ..., C)."""
    batch = torch.arange(len(rows), device=rows.device).view(-1, *[1] * (index.dim() - 1))
    return rows[batch, index]
