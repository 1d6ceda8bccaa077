"""Scale space: Gaussian derivative jets and local structure, dense at full resolution, without any weights.

The image is halved again and again; on every level the same small filters are applied, so that stride s
carries the scales s and 2 s (pixels). Per scale and channel:

* L, the smoothed intensity;
* sigma |grad L|, edges;
* both eigenvalues of sigma^2 Hess L, ridges and blobs (Lindeberg, 1998, for the scale normalisation);
* the local standard deviation, texture;
* both eigenvalues of the structure tensor (square roots), oriented texture (Bigün & Granlund, 1987).
"""

import math
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import Level

_STRIDES: Final = (1, 2, 4, 8, 16)
_SIGMAS: Final = (1.0, 2.0)
_TRUNCATE: Final = 3.0

_REACH: Final = 15
"""How far the features of a level look, in its cells: 3 sigma for the jets, 4.5 sigma for averages over them."""

_STRIP: Final = 1 << 17
"""Values that are gone through at once on the CPU, about: what is made of them on the way stays in its cache."""

# What typical natural and microscopy images give, so that all features have about unit size.
_GAIN: Final = (8.0, 16.0, 32.0, 32.0, 24.0, 16.0, 16.0)


class ScaleSpace:
    """Jets of every channel at ten scales, 1 to 32 pixels.

    For an image of n channels, every level has ``14 n`` features, the finest ``15 n`` (the raw intensity as well).
    """

    key = "scale-space-1"
    levels = tuple(Level(stride) for stride in _STRIDES)
    matching_strides = (4, 8)
    linear = False
    halo = 256  # 6 + 9 cells of the coarsest level, see _jets, and one for halving

    def to(self, device: str) -> "ScaleSpace":
        """Nothing to move: filters are made where the image is."""
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        """Compute features; see `Backbone`."""
        features = {}
        plane = image[:, None]  # (n, 1, H, W): channels are treated alike and apart
        for level in self.levels:
            features[level] = _level_features(plane, with_raw=level.stride == 1)
            plane = F.avg_pool2d(plane, 2) if min(plane.shape[-2:]) >= 2 else plane
        return features


def _level_features(plane: Tensor, with_raw: bool) -> Tensor:
    """All features (14 n or 15 n, h, w) of (n, 1, h, w), strip by strip, which is faster and needs less memory."""
    channels, _, height, width = plane.shape
    features = plane.new_empty(((14 + with_raw) * channels, height, width))
    rows = max(4 * _REACH, _STRIP // (channels * width)) if plane.device.type == "cpu" else height
    for top in range(0, height, rows):
        above, bottom = max(0, top - _REACH), min(height, top + rows)
        strip = plane[:, :, above : bottom + _REACH]
        parts = [_GAIN[0] * (strip[:, 0] - 0.5)] if with_raw else []
        parts += [jet for sigma in _SIGMAS for jet in _jets(strip, sigma)]
        torch.cat([part[:, top - above : bottom - above] for part in parts], out=features[:, top:bottom])
    return features


def _jets(plane: Tensor, sigma: float) -> list[Tensor]:
    """Seven features (n, h, w) of (n, 1, h, w) at one scale."""
    smooth, first, second = _gaussian_kernels(sigma, plane)
    rows = [_filter_x(plane, k) for k in (smooth, first, second)]
    value = _filter_y(rows[0], smooth)
    dy, dx = _filter_y(rows[0], first), _filter_y(rows[1], smooth)
    dyy, dxy, dxx = _filter_y(rows[0], second), _filter_y(rows[1], first), _filter_y(rows[2], smooth)
    high, low = _eigenvalues(dyy, dxy, dxx)
    wide = _gaussian_kernels(1.5 * sigma, plane)[0]

    def average(x: Tensor) -> Tensor:
        return _filter_y(_filter_x(x, wide), wide)

    deviation = (average(plane.square()) - average(plane).square()).clamp_min(0).sqrt()
    along, across = _eigenvalues(average(dy * dy), average(dy * dx), average(dx * dx))
    jets = (
        value - 0.5,
        sigma * (dy.square() + dx.square()).sqrt(),
        sigma**2 * high,
        sigma**2 * low,
        deviation,
        sigma * along.clamp_min(0).sqrt(),
        sigma * across.clamp_min(0).sqrt(),
    )
    return [gain * jet[:, 0] for gain, jet in zip(_GAIN, jets, strict=True)]


def _eigenvalues(yy: Tensor, xy: Tensor, xx: Tensor) -> tuple[Tensor, Tensor]:
    """Larger and smaller eigenvalue of [[yy, xy], [xy, xx]]."""
    mean = (yy + xx) / 2
    spread = (((yy - xx) / 2).square() + xy.square()).sqrt()
    return mean + spread, mean - spread


def _gaussian_kernels(sigma: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled Gaussian and its first two derivatives, exact on polynomials up to their order."""
    radius = math.ceil(_TRUNCATE * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    g = torch.exp(-0.5 * (x / sigma) ** 2)
    g = g / g.sum()
    first = x * g
    first = first / (first * x).sum()
    second = (x**2 / sigma**2 - 1) * g
    second = second - second.mean()
    second = second / (0.5 * second * x**2).sum()
    smooth, first, second = (k.to(like.device, like.dtype) for k in (g, first, second))
    return smooth, first, second


def _filter_x(plane: Tensor, kernel: Tensor) -> Tensor:
    radius = len(kernel) // 2
    padded = F.pad(plane, (radius, radius, 0, 0), mode="replicate")
    return F.conv2d(padded, kernel[None, None, None, :])


def _filter_y(plane: Tensor, kernel: Tensor) -> Tensor:
    radius = len(kernel) // 2
    padded = F.pad(plane, (0, 0, radius, radius), mode="replicate")
    return F.conv2d(padded, kernel[None, None, :, None])


def jets_of(images: Tensor, stride: int) -> Tensor:
    """Compute the features (B, 14 or 15, H / stride, W / stride) of one level for gray images (B, H, W)."""
    plane = F.avg_pool2d(images[:, None], stride) if stride > 1 else images[:, None]
    features = _level_features(plane, with_raw=stride == 1)  # features of all images, one after the other
    return features.view(-1, len(images), *features.shape[1:]).transpose(0, 1)


def make(name: str) -> ScaleSpace:
    """Make the backbone."""
    return ScaleSpace()
