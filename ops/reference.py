"""The point operators in a few lines of plain torch each: the definition that every faster implementation must equal.

Runs on any device. Shapes: B clouds, N points, M centres (or known points), S neighbours, C channels. A squared distance
is (dx dx + dy dy) + dz dz in float32, in this order and with every product rounded, so that "equal" can mean the same
indices, ties included. Arguments are as the public functions in ops/__init__.py document and check them.
"""

import torch
from torch.nn.functional import embedding_bag


def squared_distance(a, b):
    """Squared distances between the points of a (..., 3) and of b (..., 3), broadcast against each other -> (...)."""
    square = (a - b) ** 2
    return (square[..., 0] + square[..., 1]) + square[..., 2]


def furthest_point_sample(xyz, m):
    """Eldar et al. 1997, as in PointNet++: each next point is the one furthest from all chosen so far; point 0 first."""
    B, N, _ = xyz.shape
    batch = torch.arange(B, device=xyz.device)
    index = torch.zeros(B, m, dtype=torch.int64, device=xyz.device)
    nearest = torch.full((B, N), torch.inf, device=xyz.device)  # squared distance to the nearest chosen point
    for i in range(1, m):
        chosen = xyz[batch, index[:, i - 1]]
        nearest = torch.minimum(nearest, squared_distance(xyz, chosen[:, None]))
        index[:, i] = nearest.argmax(dim=1)  # the first of equal maxima
    return index


def ball_query(radius, nsample, xyz, centres):
    """The first S points, in index order, at d^2 < r^2 of each centre; padded with the first of them, or 0 if none."""
    N = xyz.shape[1]
    order = torch.arange(N, dtype=torch.int32, device=xyz.device)
    squared_radius = torch.tensor(radius, dtype=torch.float32, device=xyz.device).square()
    index = []
    for points, centre in zip(xyz, centres, strict=True):  # cloud by cloud: the (M, N) table is the memory it takes
        inside = squared_distance(centre[:, None], points) < squared_radius  # (M, N)
        first = torch.where(inside, order, N).topk(min(nsample, N), dim=1, largest=False).values.long()  # (M, S)
        first = torch.where(first < N, first, first[:, :1])
        first = torch.where(first < N, first, 0)
        index.append(torch.cat([first, first[:, :1].expand(-1, nsample - first.shape[1])], dim=1))
    return torch.stack(index)


def three_nn(unknown, known):
    """The three nearest known points, nearest first, the lower index first where equal: (squared distances, indices)."""
    M = known.shape[1]
    order = torch.arange(M, device=known.device)
    missing = max(0, 3 - M)
    distance, index = [], []
    for points, others in zip(unknown, known, strict=True):
        # The bits of a float >= 0 rise with its value: (distance, index) in one integer sorts both, without ties.
        key = (squared_distance(points[:, None], others).view(torch.int32).long() << 32) | order  # (N, M)
        key = key.topk(3 - missing, dim=1, largest=False).values
        nearest = torch.nn.functional.pad((key >> 32).int().view(torch.float32), (0, missing), value=torch.inf)
        distance.append(nearest)
        index.append(torch.nn.functional.pad(key & 0xFFFFFFFF, (0, missing)))
    return torch.stack(distance), torch.stack(index)


def three_interpolate(features, index, weight):
    """out[b, n] = sum over k of weight[b, n, k] features[b, index[b, n, k]]; one embedding bag of three rows a point."""
    B, M, C = features.shape
    row = index + M * torch.arange(B, device=index.device)[:, None, None]  # (B, N, 3), rows of the flattened features
    bags = embedding_bag(row.flatten(0, 1), features.flatten(0, 1), per_sample_weights=weight.flatten(0, 1), mode="sum")
    return bags.unflatten(0, (B, -1))


def group_points(features, index):
    """out[b, m, s] = features[b, index[b, m, s]]."""
    B, N, C = features.shape
    row = index + N * torch.arange(B, device=index.device)[:, None, None]  # (B, M, S), rows of the flattened features
    return features.flatten(0, 1).index_select(0, row.flatten()).view(*index.shape, C)
