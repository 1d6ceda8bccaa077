"""A shot as heads see it: pixels, and maps where convolutions on the support need whole ones."""

from dataclasses import dataclass

from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, collect_pixels
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps
from napari_fewshot.models.methods.base import SupportFeatures


@dataclass(frozen=True, eq=False)
class ShotSummary:
    """What is kept of one shot.

    Attributes
    ----------
    pixels
        Some of every label.
    maps
        Of the tiles that show most of some label; none where nobody needs them.
    """

    pixels: ShotPixels
    maps: tuple[SupportMap, ...]


def summarise_shot(shot: SupportFeatures, levels: MatchingLevels, most: int, with_maps: bool) -> ShotSummary:
    """Keep up to ``most`` pixels of every label, and maps if wanted."""
    pixels = collect_pixels(shot.parts(), levels, shot.is_dense, most)
    return ShotSummary(pixels, collect_maps(shot.parts(), levels) if with_maps else ())
