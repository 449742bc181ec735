"""The plainest context: a linear map of the mean feature. The control that any other context layer has to beat.

Shapes: B clouds, N points, C channels.
"""

from torch import Tensor

from models.row_context import RowContext, last_map


class MeanFeature(RowContext):
    """X + W mean(X): every point of a cloud gets the same vector. W starts at 0, so a fresh layer is the identity."""

    def __init__(self, channels: int, *, layout: str = "rows"):
        super().__init__(channels, layout)
        self.linear = last_map(channels, channels)

    def update(self, rows: Tensor) -> Tensor:
        """(B, N, C) -> (B, 1, C)."""
        return self.linear(rows.mean(1, keepdim=True))
