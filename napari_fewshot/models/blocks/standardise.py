"""One scale for all features of a level."""

from typing import Final

from napari_fewshot.models.backbones.base import FeaturePyramid

_FLOOR: Final = 0.02
"""Added to standard deviations, so that features which hardly vary on an image are not blown up into noise."""


def standardise(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Give every feature mean 0 and one standard deviation over its own image: 1, less for coarse levels.

    Statistics of the image alone (not of what was taught) align images of different brightness, stain and
    contrast with each other, need no label, and leave what was learnt from one shot independent of all others.

    From stride 4 on, features are made smaller by sqrt(2 / stride), so that a shrinking classifier leans on
    them less: one image has few independent cells of a coarse level, and fits their accidents.

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
        features[level] = (f - mean) * (min(1.0, (2 / level.stride) ** 0.5) / (deviation + _FLOOR))
    return FeaturePyramid(features, pyramid.size)
