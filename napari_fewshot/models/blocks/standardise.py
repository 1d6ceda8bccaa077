"""Features of different images on one scale."""

from typing import Final

from napari_fewshot.models.backbones.base import FeaturePyramid

_OWN: Final = 0.75
"""How much an image is judged by its own statistics; the rest is what backbones give on typical images (0 and 1)."""

_FLOOR: Final = 0.08
"""Added to standard deviations, so that features which hardly vary on an image are not blown up into noise."""


def standardise(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Bring every feature close to mean 0 and standard deviation 1 over its own image.

    Statistics of the image alone (not of what was taught) align images of different brightness, stain and
    contrast with each other, need no label, and leave what was learnt from one shot independent of all others.
    They are not followed all the way: an image full of the object must not look like one that is half full.
    With m and s over the image, f becomes (f - a m) / s^a, a = 0.75.

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
        features[level] = (f - _OWN * mean) / (deviation + _FLOOR) ** _OWN
    return FeaturePyramid(features, pyramid.size)
