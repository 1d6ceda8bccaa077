"""PMM: prototype mixture models (Yang et al., ECCV 2020, arXiv 2008.03898), without training.

Instead of one average, each label gets several prototypes, for the parts of a thing and the kinds of its background:
the means of a mixture on the sphere. In the paper they are used twice. *P-Conv* takes them as classifiers: softmax
over all prototypes, summed over those of a label; this is here. *P-Match* hands them to trained convolutions
(`pmm_match.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, any_mean, bounded, collect_pixels, unit
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.relevance import shared_relevance, weighted
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.blocks.spherical_em import CONCENTRATION, spherical_em
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

COMPONENTS: Final = 3
"""Prototypes per label; the paper's best, and 2 and 4 are hardly worse."""


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Prototypes of all labels.

    Attributes
    ----------
    prototypes
        (K, D) of each label, background first; (1, D) of zeros for a label that nobody painted.
    relevance
        (D,) how much each feature counts; None for all alike.
    """

    prototypes: tuple[Tensor, ...]
    relevance: Tensor | None

    @classmethod
    def fit(
        cls, shots: Sequence[ShotPixels], class_ids: tuple[int, ...], components: int, relevance: Tensor | None
    ) -> "Mixtures":
        """Fit a mixture to the pixels of each label, of all shots together."""
        made = []
        for value in with_background(class_ids):
            pixels = [shot.labels[value] for shot in shots if value in shot.labels]
            if not pixels:
                made.append(torch.zeros_like(any_mean(shots))[None])
                continue
            samples = torch.cat([unit(weighted(p.features.T, relevance).T) for p in pixels])
            stands_for = torch.cat([samples.new_full((len(p),), p.area / len(p)) for p in pixels])
            made.append(spherical_em(samples, stands_for / stands_for.mean(), components))
        return cls(tuple(made), relevance)

    def p_conv(self, cells: Tensor) -> Tensor:
        """Logits (1 + C, h, w) of cells (D, h, w): their softmax is the maps M of eq. 8.

        A softmax over the prototypes of all labels, summed over those of one, is the softmax over labels of
        logsumexp_k(kappa cos(mu_k, q)). A label for which fewer were found (a dot, say) is not worth less for that:
        each prototype has the weight 1 / K of eq. 1.
        """
        at = weighted(cells, self.relevance)
        return torch.stack(
            [(CONCENTRATION * cosine_map(at, mu)).logsumexp(0) - math.log(len(mu)) for mu in self.prototypes]
        )


class PMM(AdditiveMethod[ShotPixels, Mixtures]):
    """Mixtures of prototypes, used as classifiers.

    Parameters
    ----------
    levels
        Features to compare.
    components
        Prototypes per label at the most.
    relevance
        Whether features count by how well they tell classes from the rest (contribution 1 of FWB).
    """

    name = "pmm"

    def __init__(self, levels: MatchingLevels, components: int = COMPONENTS, relevance: bool = False) -> None:
        self.levels = levels
        self.components = components
        self.relevance = relevance

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Mixtures:
        """Fit the mixtures."""
        shots = bounded(summaries, len(with_background(class_ids)))
        relevance = shared_relevance(shots, class_ids) if self.relevance else None
        return Mixtures.fit(shots, class_ids, self.components, relevance)

    def predict(self, state: AdditiveState[ShotPixels, Mixtures], query: FeaturePyramid) -> Tensor:
        """Apply P-Conv (eqs. 7 and 8), on logits at the size of the image."""
        cells, level = self.levels.cells(query)
        return probabilities(state.solution.p_conv(cells), level, query.size)
