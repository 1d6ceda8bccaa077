"""Finding out how large the features of a network are, with a picture."""

from itertools import accumulate

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def typical_picture(height: int, width: int) -> Tensor:
    """Make a gray picture (1, H, W) in [0, 1] with structures of all sizes, as natural ones have; always the same."""
    generator = torch.Generator().manual_seed(0)
    sizes = list(accumulate([2] * 7, lambda a, _: a * 2))  # 2, 4 ... 128
    layers = [
        F.interpolate(torch.rand(1, 1, n, n, generator=generator), (height, width), mode="bicubic")[0] / n**0.5
        for n in sizes
    ]
    total = torch.stack(layers).sum(0)
    return (total - total.min()) / (total.max() - total.min())


def unit_scale(features: Tensor) -> float:
    """Return what features (C, h, w) must be multiplied by for about unit standard deviation.

    Rounded to three digits, since the last bits differ between computers.
    """
    deviation = features.flatten(1).std(1).square().mean().sqrt().item()
    return float(f"{1 / max(1e-6, deviation):.3g}")
