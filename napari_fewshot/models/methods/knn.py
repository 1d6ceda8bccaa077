"""Nearest neighbours: every pixel is compared with pixels that were painted, none is averaged away.

The plain baseline for everything that compares features: a bank of features of length 1 for every label, the
background among them, and the label whose k nearest are the most parallel to the pixel.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, any_mean, bounded, collect_pixels, unit
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.nearest import nearest_cosine
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

_PIXELS_PER_LABEL: Final = 2000
"""Size of a bank."""


class NearestNeighbours(AdditiveMethod[ShotPixels, tuple[Tensor, ...]]):
    """Banks of pixels and scaled cosine.

    Parameters
    ----------
    levels
        Features to compare.
    nearest
        k: how many of the nearest pixels of each label count.
    alpha
        Scale of the cosine before the softmax.
    """

    name = "knn"

    def __init__(self, levels: MatchingLevels, nearest: int = 5, alpha: float = 20.0) -> None:
        self.levels = levels
        self.nearest = nearest
        self.alpha = alpha

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Join the banks of all shots: (M, D) of length 1 for each label, background first."""
        labels = with_background(class_ids)
        shots = bounded(summaries, len(labels), _PIXELS_PER_LABEL)
        nobody = any_mean(shots).new_zeros(0, len(any_mean(shots)))
        return tuple(
            torch.cat([nobody, *(unit(shot.labels[value].features) for shot in shots if value in shot.labels)])
            for value in labels
        )

    def predict(self, state: AdditiveState[ShotPixels, tuple[Tensor, ...]], query: FeaturePyramid) -> Tensor:
        """Softmax over alpha times the mean cosine with the nearest of each label.

        Where no pixel was labelled as background, its cosine is 0.
        """
        cells, level = self.levels.cells(query)
        similarity = torch.stack([nearest_cosine(cells, bank, self.nearest) for bank in state.solution])
        return probabilities(self.alpha * similarity, level, query.size)


def make(backbone: Backbone) -> NearestNeighbours:
    """Compare on the levels that the backbone recommends."""
    return NearestNeighbours(MatchingLevels(backbone.matching_strides))
