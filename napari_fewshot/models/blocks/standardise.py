"""Features of different images on one scale."""

from collections.abc import Mapping
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level, Statistics

_OWN: Final = 0.75
"""How much an image is judged by its own statistics; the rest is what backbones give on typical images (0 and 1)."""

_FLOOR: Final = 0.08
"""Added to standard deviations, so that features which hardly vary on an image are not blown up into noise."""

_VALUES: Final = 1 << 18
"""Values that statistics are made of at once: few enough to stay in the cache of a processor."""

_KNOWN: Final[WeakKeyDictionary[FeaturePyramid, Mapping[Level, Statistics]]] = WeakKeyDictionary()
"""Statistics of the pyramids that something holds on to, a cache for the most part."""


def standardisation(pyramid: FeaturePyramid, level: Level) -> tuple[Tensor, Tensor]:
    """Return what brings every feature close to mean 0 and standard deviation 1 over its own image.

    Statistics of the image alone (not of what was taught) align images of different brightness, stain and
    contrast with each other, need no label, and leave what was learnt from one shot independent of all others.
    They are not followed all the way: an image full of the object must not look like one that is half full.
    With m and s over the image (a tile knows those of its image), f becomes (f - a m) / s^a, a = 0.75.

    Returns
    -------
    scale, shift : Tensor
        (C,) each, in single precision: f becomes ``scale * f + shift``. As this is affine, a linear map of it can take
        it in (W (scale * f + shift) = (W scale) f + W shift), and f itself needs no change.
    """
    mean, deviation = (_own_statistics(pyramid) if pyramid.statistics is None else pyramid.statistics)[level]
    scale = (deviation + _FLOOR) ** -_OWN
    return scale, -_OWN * scale * mean


def _own_statistics(pyramid: FeaturePyramid) -> Mapping[Level, Statistics]:
    """Statistics of a whole image, without the cells that come from padding; found once for as long as it is kept."""
    known = _KNOWN.get(pyramid)
    if known is None:
        known = _KNOWN[pyramid] = {level: feature_statistics(pyramid.seen(level)) for level in pyramid.levels}
    return known


def feature_statistics(features: Tensor) -> Statistics:
    """Mean and standard deviation (C,) of (C, ...), at least in single precision."""
    precision = torch.promote_types(features.dtype, torch.float32)
    parts = []
    for group in features.split(max(1, _VALUES // features[0].numel())):
        values = group.flatten(1).to(precision)
        mean = values.mean(1, keepdim=True)
        parts.append((mean[:, 0], (values - mean).square_().mean(1).sqrt()))
    means, deviations = zip(*parts, strict=True)
    return torch.cat(means), torch.cat(deviations)
