"""The point operators in a few lines of plain torch each: the definition that every faster implementation must equal.

Runs on any device. Shapes: B clouds, N points, M centres (or known points), S neighbours, C channels. A squared
distance is (dx dx + dy dy) + dz dz in float32, in this order and with every product rounded, so that "equal" can mean
the same indices, ties included. Arguments are as the public functions in ops/__init__.py document and check them.
"""

import torch
from torch.nn.functional import embedding_bag, pad


def squared_distance(a, b):
    """Squared distances between the points of a (..., 3) and of b (..., 3), broadcast against each other -> (...)."""
    dx, dy, dz = (p - q for p, q in zip(a.unbind(-1), b.unbind(-1), strict=True))
    return (dx * dx + dy * dy) + dz * dz


def furthest_point_sample(xyz, m):
    """Point 0, then each time the point furthest from all chosen so far, the lower index where equal."""
    B, N, _ = xyz.shape
    batch = torch.arange(B, device=xyz.device)
    index = torch.zeros(B, m, dtype=torch.int64, device=xyz.device)
    nearest = xyz.new_full((B, N), torch.inf)  # squared distance to the nearest chosen point
    for i in range(1, m):
        chosen = xyz[batch, index[:, i - 1]]
        nearest = torch.minimum(nearest, squared_distance(xyz, chosen[:, None]))
        index[:, i] = nearest.argmax(dim=1)  # the first of equal maxima
    return index


def ball_query(radius, nsample, xyz, centres):
    """The first S points, in index order, at d^2 < r^2 of each centre; padded with the first of them, or 0 if none."""
    index = xyz.new_zeros(xyz.shape[0], centres.shape[1], nsample, dtype=torch.int64)
    slot = torch.arange(nsample, device=xyz.device)
    squared_radius = torch.tensor(radius, dtype=torch.float32, device=xyz.device).square()
    for b in range(xyz.shape[0]):  # cloud by cloud: the (M, N) tables are the memory it takes
        inside = squared_distance(centres[b, :, None], xyz[b]) < squared_radius  # (M, N)
        rank = inside.cumsum(dim=1)  # of a point inside: 1 for the first
        centre, point = (inside & (rank <= nsample)).nonzero(as_tuple=True)
        index[b, centre, rank[centre, point] - 1] = point
        index[b] = torch.where(slot < rank[:, -1:], index[b], index[b, :, :1])
    return index


def three_nn(unknown, known):
    """The three nearest known points, nearest first, the lower index where equal: (squared distances, indices)."""
    M = known.shape[1]
    order = torch.arange(M, device=known.device)
    missing = max(0, 3 - M)
    distance, index = [], []
    for points, others in zip(unknown, known, strict=True):
        # The bits of a float >= 0 rise with its value: (distance, index) in one integer sorts both, without ties.
        key = (squared_distance(points[:, None], others).view(torch.int32).long() << 32) | order  # (N, M)
        key = key.topk(3 - missing, dim=1, largest=False).values
        distance.append(pad((key >> 32).int().view(torch.float32), (0, missing), value=torch.inf))
        index.append(pad(key & 0xFFFFFFFF, (0, missing)))
    return torch.stack(distance), torch.stack(index)


def three_interpolate(features, index, weight):
    """out[b, n] = sum over k of weight[b, n, k] features[b, index[b, n, k]]: an embedding bag of three rows a point."""
    B, M, C = features.shape
    # Rows of the flattened features (B, N, 3)
    row = index if B == 1 else index + M * torch.arange(B, device=index.device)[:, None, None]
    bags = embedding_bag(row.flatten(0, 1), features.flatten(0, 1), per_sample_weights=weight.flatten(0, 1), mode="sum")
    return bags.unflatten(0, (B, -1))


def group_points(features, index):
    """out[b, m, s] = features[b, index[b, m, s]]."""
    B, N, C = features.shape
    row = index + N * torch.arange(B, device=index.device)[:, None, None]  # (B, M, S), rows of the flattened features
    return features.flatten(0, 1).index_select(0, row.flatten()).view(*index.shape, C)
