"""What context layers on rows have in common: layouts, maps and half precision. A layer of this kind writes `update`.

Shapes: B clouds, N points, C channels.
"""

from torch import Tensor, nn

from models.latentgnn import LAYOUTS, in_float32, is_half_precision, takes_rows


class RowContext(nn.Module):
    """X + update(X). A last map, or norm, whose weights start at 0 makes a fresh layer the identity.

    layout, of points: "rows" (B, N, C) or "channels_first" (B, C, N). Maps are channels-first always.
    """

    def __init__(self, channels: int, layout: str):
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"{type(self).__name__}: layout must be one of {tuple(LAYOUTS)}, got {layout!r}")
        self.channels, self.layout = channels, layout

    def update(self, rows: Tensor) -> Tensor:
        """(B, N, C) -> what is added, (B, N, C), or (B, 1, C) to all points alike."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Points in the layer's layout, or a map (B, C, H, W) or (B, C, D, H, W) -> the same shape and, without
        autocast, dtype.

        Weights of half precision are computed with in float32. Raises ValueError for another number of axes or
        channels, and without autocast for weights of another dtype.
        """
        is_rows = takes_rows(self, x)
        if is_half_precision(self, next(self.parameters()), x):
            return in_float32(self, x)
        rows = x if is_rows else x.flatten(2).transpose(1, 2)  # (B, N, C)
        update = self.update(rows)  # (B, N, C) or (B, 1, C)
        return x + (update if is_rows else update.expand_as(rows).transpose(1, 2).reshape(x.shape))  # the shape of x


def check_sizes(layer: nn.Module, channels: int, latent_nodes: int, stride: int, heads: int = 1) -> None:
    """Raises ValueError, in the name of a layer, for sizes that it cannot have."""
    kind = type(layer).__name__
    for name, value in (("latent_nodes", latent_nodes), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{kind}: {name} must be at least 1, got {value}")
    if channels < 1 or channels % (heads * stride):
        times = f", {heads} heads x a stride of {stride}" if heads > 1 else ", the stride"
        raise ValueError(f"{kind}: channels ({channels}) must be a positive multiple of {heads * stride}{times}")


def last_map(channels_in: int, channels: int) -> nn.Linear:
    """A linear map without a bias that starts at 0."""
    linear = nn.Linear(channels_in, channels, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
