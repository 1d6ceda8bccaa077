"""RPMM: a stack of prototype mixtures (Yang et al., ECCV 2020, arXiv 2008.03898), without training.

Three passes of PMM, from coarse to fine, with 1, 3 and 6 prototypes per label. In the paper each pass also hands its
prediction to the convolutions of the next (the residual). These are trained (`pmm_match.py`); what is left without them
is the sum of the three softmaxes that the authors' code answers with, here as their mean.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.relevance import shared_relevance
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background
from napari_fewshot.models.methods.pmm import Mixtures

COMPONENTS: Final = (1, 3, 6)


class RPMM(AdditiveMethod[ShotPixels, tuple[Mixtures, ...]]):
    """Several mixtures of different fineness, and the mean of what they answer.

    Parameters
    ----------
    levels
        Features to compare.
    components
        Prototypes per label of each pass.
    relevance
        Whether features count by how well they tell classes from the rest (contribution 1 of FWB).
    """

    name = "rpmm"

    def __init__(
        self, levels: MatchingLevels, components: tuple[int, ...] = COMPONENTS, relevance: bool = False
    ) -> None:
        self.levels = levels
        self.components = components
        self.relevance = relevance

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Mixtures, ...]:
        """Fit the mixtures of all passes."""
        shots = bounded(summaries, len(with_background(class_ids)))
        relevance = shared_relevance(shots, class_ids) if self.relevance else None
        return tuple(Mixtures.fit(shots, class_ids, components, relevance) for components in self.components)

    def predict(self, state: AdditiveState[ShotPixels, tuple[Mixtures, ...]], query: FeaturePyramid) -> Tensor:
        """Average the answers of all passes."""
        cells, level = self.levels.cells(query)
        total = torch.zeros(())
        for mixtures in state.solution:
            total = probabilities(mixtures.p_conv(cells), level, query.size).add_(total)
        return total.div_(len(state.solution))
