"""Nearest neighbours: every pixel is compared with pixels that were painted, none is averaged away.

The plain baseline for everything that compares features: a bank of features of length 1 for every label, the
background among them, and the label whose k nearest are the most parallel to the pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, any_mean, bounded, collect_pixels, unit
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.nearest import nearest_cosine
from napari_fewshot.models.blocks.relevance import shared_relevance, weighted
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

_PIXELS_PER_LABEL: Final = 2000
"""Size of a bank."""


@dataclass(frozen=True, eq=False)
class Banks:
    """Painted pixels.

    Attributes
    ----------
    pixels
        (M, D) of length 1 of each label, background first.
    relevance
        (D,) how much each feature counts; None for all alike.
    """

    pixels: tuple[Tensor, ...]
    relevance: Tensor | None


class NearestNeighbours(AdditiveMethod[ShotPixels, Banks]):
    """Banks of pixels and scaled cosine.

    Parameters
    ----------
    levels
        Features to compare.
    nearest
        k: how many of the nearest pixels of each label count.
    alpha
        Scale of the cosine before the softmax.
    relevance
        Whether features count by how well they tell classes from the rest (contribution 1 of FWB).
    """

    name = "knn"

    def __init__(self, levels: MatchingLevels, nearest: int = 5, alpha: float = 20.0, relevance: bool = False) -> None:
        self.levels = levels
        self.nearest = nearest
        self.alpha = alpha
        self.relevance = relevance

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Banks:
        """Join the pixels of all shots."""
        labels = with_background(class_ids)
        shots = bounded(summaries, len(labels), _PIXELS_PER_LABEL)
        relevance = shared_relevance(shots, class_ids) if self.relevance else None
        nobody = any_mean(shots).new_zeros(0, len(any_mean(shots)))
        banks = []
        for value in labels:
            painted = [shot.labels[value].features for shot in shots if value in shot.labels]
            banks.append(torch.cat([nobody, *(unit(weighted(x.T, relevance).T) for x in painted)]))
        return Banks(tuple(banks), relevance)

    def predict(self, state: AdditiveState[ShotPixels, Banks], query: FeaturePyramid) -> Tensor:
        """Softmax over alpha times the mean cosine with the nearest of each label.

        Where no pixel was labelled as background, its cosine is 0.
        """
        cells, level = self.levels.cells(query)
        at = weighted(cells, state.solution.relevance)
        similarity = torch.stack([nearest_cosine(at, bank, self.nearest) for bank in state.solution.pixels])
        return probabilities(self.alpha * similarity, level, query.size)


def make(backbone: Backbone) -> NearestNeighbours:
    """Compare on the levels that the backbone recommends."""
    return NearestNeighbours(MatchingLevels(backbone.matching_strides))
