"""One scale for all features."""

from typing import Final

from napari_fewshot.models.backbones.base import FeaturePyramid

_FLOOR: Final = 0.02
"""Added to standard deviations, so that features which hardly vary on an image are not blown up into noise."""


def standardise(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Give every feature mean 0 and standard deviation 1 over its own image.

    Statistics of the image alone (not of what was taught) align images of different brightness, stain and
    contrast with each other, need no label, and leave what was learnt from one shot independent of all others.

    Returns
    -------
    FeaturePyramid
        New features; the given ones are not changed.
    """
    features = {}
    for level, f in pyramid.features.items():
        height, width = pyramid.size
        seen = f[:, : -(-height // level.stride), : -(-width // level.stride)]  # without padding
        mean = seen.mean((1, 2), keepdim=True)
        deviation = seen.std((1, 2), correction=0, keepdim=True)
        features[level] = (f - mean) / (deviation + _FLOOR)
    return FeaturePyramid(features, pyramid.size)
