"""What prototypes and banks of pixels are compared on: some levels of a pyramid as one map of features."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
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

    def draw(self, image: Iterable[FeaturePyramid], most: int) -> Tensor:
        """Draw cells of an image, or of some tiles of it, evenly and always the same: (D, N) of length 1, N <= most."""
        drawn = []
        for pyramid in image:
            cells, level = self.cells(pyramid)
            height, width = (-(-pixels // level.stride) for pixels in pyramid.size)  # the rest is padding
            drawn.append(_some(cells[:, :height, :width].flatten(1), most))
        return F.normalize(_some(torch.cat(drawn, 1), most), dim=0, eps=1e-6)


def from_finest(strides: Iterable[int], matching: Iterable[int]) -> tuple[int, ...]:
    """Choose the finest stride that a backbone recommends for comparing, and all coarser ones; ascending.

    For heads, and where features count by how well they tell the class: a level that does not help does no harm there.
    """
    finest = min(matching)
    return tuple(sorted(stride for stride in strides if stride >= finest))


def _some(cells: Tensor, most: int) -> Tensor:
    order = torch.randperm(cells.shape[1], generator=torch.Generator().manual_seed(0))[:most]
    return cells[:, order.to(cells.device)]
