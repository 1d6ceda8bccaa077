"""Small networks that heads are made of. All of them bear maps of any size, down to a single cell."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_GROUP: Final = 8
"""Channels that are normalised together, about."""

ATROUS: Final = (6, 12, 18)
"""Dilations of DeepLab (Chen et al., 2017) on cells of stride 8."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise channels in groups, each picture by itself: unlike batch normalisation, alike in training and use."""
    groups = max(1, channels // _GROUP)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def conv(inputs: int, outputs: int, size: int = 3, dilation: int = 1, norm: bool = False) -> nn.Sequential:
    """Convolution that keeps the size of the map, normalisation if wanted, ReLU: to (B, outputs, h, w)."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, padding=dilation * (size // 2), dilation=dilation, bias=not norm)
    ]
    return nn.Sequential(*layers, *([group_norm(outputs)] if norm else []), nn.ReLU())


def reduction(inputs: int, outputs: int, dropout: float = 0.0, norm: bool = False) -> nn.Sequential:
    """1 x 1 convolution to fewer channels, of which training drops whole ones now and then."""
    return nn.Sequential(*conv(inputs, outputs, 1, norm=norm), nn.Dropout2d(dropout))


def classifier(width: int, dropout: float = 0.1, zero: bool = False) -> nn.Sequential:
    """3 x 3 convolution, then one number for each cell: (B, width, h, w) -> (B, 1, h, w).

    With ``zero`` it begins with 0 everywhere: for answers that correct another one.
    """
    last = nn.Conv2d(width, 1, 1)
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias if last.bias is not None else last.weight)
    return nn.Sequential(*conv(width, width), nn.Dropout2d(dropout), last)


def keep_signals(net: nn.Module) -> None:
    """Initialise convolutions so that signals stay as large as they are (He et al., ICCV 2015).

    For nets without normalisation: from torch's default initialisation, signals and gradients would arrive as almost
    nothing behind a dozen convolutions.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def tiled(vectors: Tensor, like: Tensor) -> Tensor:
    """Put a vector (B, D) on every cell of a map (B, ..., h, w): (B, D, h, w), without copies."""
    return vectors[:, :, None, None].expand(-1, -1, *like.shape[-2:])


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps (B, C, h, w) bilinearly to another size, without shifting them."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, (size[0], size[1]), mode="bilinear", align_corners=False)


class Residual(nn.Module):
    """x + f(x), with f two 3 x 3 convolutions; the last ReLU is after the sum where ``closed``."""

    def __init__(self, width: int, norm: bool = False, closed: bool = False) -> None:
        super().__init__()
        self.first, self.second = conv(width, width, norm=norm), conv(width, width, norm=norm)
        if closed:
            self.second = self.second[:-1]
        self.closed = closed

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        total: Tensor = x + self.second(self.first(x))
        return total.relu() if self.closed else total


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one map seen through windows of several sizes, and as a whole.

    Branches, concatenated: the mean of the map, a 1 x 1 convolution, and a 3 x 3 convolution for each dilation.

    Parameters
    ----------
    inputs
        Channels of the map.
    width
        Of each branch.
    dilations
        In cells; larger ones than the map do no harm.
    norm
        Whether branches are normalised in groups.
    size
        Of the dilated kernels.
    """

    def __init__(
        self, inputs: int, width: int, dilations: Sequence[int] = ATROUS, norm: bool = False, size: int = 3
    ) -> None:
        super().__init__()
        self.whole = conv(inputs, width, 1)
        self.branches = nn.ModuleList(
            [conv(inputs, width, 1, norm=norm), *(conv(inputs, width, size, d, norm) for d in dilations)]
        )
        self.width = width * (2 + len(dilations))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, `width`, h, w)."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return torch.cat([whole, *(branch(x) for branch in self.branches)], 1)
