"""What prototypes and banks of pixels are compared on: some levels of a pyramid as one map of features."""

from dataclasses import dataclass

from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.resampling import merge_levels
from napari_fewshot.models.blocks.standardise import standardisation


@dataclass(frozen=True)
class MatchingLevels:
    """Some levels, concatenated on the cells of the finest of them.

    Parameters
    ----------
    strides
        Of these levels.
    standardised
        Whether features are brought close to mean 0 and deviation 1 over their own image. A network that was trained
        for cosines has no need of it; one that was not has features with a large common part, which makes all cosines
        alike, and some with far larger values than the others, which decide alone.
    """

    strides: tuple[int, ...]
    standardised: bool = True

    def cells(self, pyramid: FeaturePyramid) -> tuple[Tensor, Level]:
        """Return the map (D, h, w), at least in single precision, and the level on whose cells it lies."""
        chosen = pyramid.select(self.strides)
        if self.standardised:
            features = {}
            for level, f in chosen.features.items():
                scale, shift = standardisation(chosen, level)
                features[level] = (scale[:, None, None] * f).add_(shift[:, None, None])
            chosen = FeaturePyramid(features, chosen.size, chosen.statistics)
        return merge_levels(chosen, self.strides)
