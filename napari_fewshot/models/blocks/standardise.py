"""Features of different images on one scale."""

from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Statistics

_OWN: Final = 0.75
"""How much an image is judged by its own statistics; the rest is what backbones give on typical images (0 and 1)."""

_FLOOR: Final = 0.08
"""Added to standard deviations, so that features which hardly vary on an image are not blown up into noise."""


def standardise(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Bring every feature close to mean 0 and standard deviation 1 over its own image.

    Statistics of the image alone (not of what was taught) align images of different brightness, stain and
    contrast with each other, need no label, and leave what was learnt from one shot independent of all others.
    They are not followed all the way: an image full of the object must not look like one that is half full.
    With m and s over the image (a tile knows those of its image), f becomes (f - a m) / s^a, a = 0.75.

    Returns
    -------
    FeaturePyramid
        New features in single precision; the given ones are not changed.
    """
    features = {}
    for level, f in pyramid.features.items():
        known = pyramid.statistics
        mean, deviation = feature_statistics(pyramid.seen(level)) if known is None else known[level]
        scale = (deviation + _FLOOR) ** -_OWN
        features[level] = (f.to(mean.dtype) - _OWN * mean[:, None, None]).mul_(scale[:, None, None])
    return FeaturePyramid(features, pyramid.size, pyramid.statistics)


def feature_statistics(features: Tensor) -> Statistics:
    """Mean and standard deviation (C,) of (C, ...), at least in single precision."""
    flat = features.flatten(1)
    if flat.dtype == torch.float16:
        flat = flat.float()
    deviation, mean = torch.std_mean(flat, 1, correction=0)
    return mean, deviation
