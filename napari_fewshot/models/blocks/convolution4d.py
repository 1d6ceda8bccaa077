"""Convolutions of correlations: maps over every pair of a place on the query and a place on a shot."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class CentrePivotConv4d(nn.Module):
    """Centre-pivot 4-D convolution (Min et al., ICCV 2021, eq. 5).

    Of the neighbours of a pair of places it sees those that share one of the two. So it is the sum of two convolutions
    in two dimensions, and equal to one in four whose kernel is zero off the two planes through its centre.

    Parameters
    ----------
    inputs, outputs
        Channels.
    size
        Side of both kernels; odd.
    stride
        Of the places on the shot. The query keeps all of its own.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.over_query = nn.Conv2d(inputs, outputs, size, padding=size // 2)
        self.over_shot = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)

    def forward(self, pairs: Tensor) -> Tensor:
        """Map (B, inputs, h, w, h', w'), the query first, to (B, outputs, h, w, ceil(h'/stride), ceil(w'/stride))."""
        return self._over_shot(pairs) + self._over_query(pairs[..., :: self.stride, :: self.stride])

    def _over_shot(self, pairs: Tensor) -> Tensor:
        batch, _, height, width, *_ = pairs.shape
        planes = self.over_shot(pairs.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))  # (B h w, C, h', w')
        pairs = planes.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2, 4, 5)
        return pairs

    def _over_query(self, pairs: Tensor) -> Tensor:
        batch, *_, height, width = pairs.shape
        planes = self.over_query(pairs.permute(0, 4, 5, 1, 2, 3).flatten(0, 2))  # (B h' w', C, h, w)
        pairs = planes.unflatten(0, (batch, height, width)).permute(0, 3, 4, 5, 1, 2)
        return pairs


def pooled_over_shot(pairs: Tensor, size: tuple[int, int]) -> Tensor:
    """Average the places on the shot to so many; as it is where there are so many."""
    if tuple(pairs.shape[-2:]) == size:
        return pairs
    pooled: Tensor = F.adaptive_avg_pool2d(pairs.flatten(1, 3), size).unflatten(1, tuple(pairs.shape[1:4]))
    return pooled


def resized_query(pairs: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate the places on the query to (B, C, *size, h', w')."""
    planes = pairs.permute(0, 1, 4, 5, 2, 3)  # (B, C, h', w', h, w)
    resized = F.interpolate(planes.flatten(1, 3), size, mode="bilinear", align_corners=False)
    pairs = resized.unflatten(1, tuple(planes.shape[1:4])).permute(0, 1, 4, 5, 2, 3)
    return pairs
