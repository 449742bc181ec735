"""The plainest context: a linear map of the mean feature. The control that any other context layer has to beat.

Shapes: B clouds, N points, C channels.
"""

from torch import Tensor, nn

from models.latentgnn import LAYOUTS, in_float32, is_half_precision, takes_rows


class MeanFeature(nn.Module):
    """X + W mean(X): every point of a cloud gets the same vector. W starts at 0, so a fresh layer is the identity.

    layout, of points: "rows" (B, N, C) or "channels_first" (B, C, N). Maps are channels-first always.
    """

    def __init__(self, channels: int, *, layout: str = "rows"):
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"MeanFeature: layout must be one of {tuple(LAYOUTS)}, got {layout!r}")
        self.channels, self.layout = channels, layout
        self.linear = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Points in the layer's layout, or a map (B, C, H, W) or (B, C, D, H, W) -> the same shape and, without
        autocast, dtype.

        Weights of half precision are computed with in float32. Raises ValueError for another number of axes or
        channels, and without autocast for weights of another dtype.
        """
        is_rows = takes_rows(self, x)
        if is_half_precision(self, self.linear.weight, x):
            return in_float32(self, x)
        update = self.linear(x.mean(1) if is_rows else x.flatten(2).mean(2))  # (B, C)
        return x + (update.unsqueeze(1) if is_rows else update.view(*update.shape, *[1] * (x.dim() - 2)))  # as x
