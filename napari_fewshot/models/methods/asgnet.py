"""ASGNet: adaptive superpixel-guided network (Li et al., CVPR 2021, arXiv 2104.01893), without training.

The region of a class is cut into superpixels, few for a small one and more for a large one (SGC); each gives a
prototype, and every pixel of the query is given the one that it is most similar to (GPA). In the paper that prototype
and the similarities go into a trained decoder; here, the similarity with it is cut where that fits the shots best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, Calibration, calibrate
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels, one_against_rest, unit
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.nearest import nearest_cosine
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background, weighted
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.blocks.superpixels import spread_seeds, superpixel_centroids
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

AREA: Final = 100
"""S_sp: cells per superpixel."""

MOST: Final = 5
"""N_max: superpixels per class and shot."""

_ELSEWHERE: Final = 1e4
"""Cells between tiles: where they lie is not known, and nothing hangs together across them."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What is known of one class.

    Attributes
    ----------
    prototypes
        (N_sp, D) of length 1, of all shots (eq. 8).
    calibration
        How the similarity with the most similar becomes a logit.
    relevance
        (D,) how much each feature counts; None for all alike.
    """

    prototypes: Tensor
    calibration: Calibration
    relevance: Tensor | None


State = AdditiveState[ShotPixels, tuple[Parts, ...]]


class ASGNet(AdditiveMethod[ShotPixels, tuple[Parts, ...]]):
    """Prototypes of superpixels, each pixel by the most similar.

    Parameters
    ----------
    levels
        Features to compare.
    most
        Superpixels per class and shot at the most; 1 is masked average pooling.
    relevance
        Whether features count by how well they tell the class from the rest (contribution 1 of FWB).
    """

    name = "asgnet"

    def __init__(self, levels: MatchingLevels, most: int = MOST, relevance: bool = False) -> None:
        self.levels = levels
        self.most = most
        self.relevance = relevance

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label, with their places."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Parts, ...]:
        """Cut what shows a class into superpixels, shot by shot."""
        shots = bounded(summaries, len(with_background(class_ids)))
        return tuple(self._parts(shots, class_id) for class_id in class_ids)

    def _parts(self, shots: Sequence[ShotPixels], class_id: int) -> Parts:
        relevance = feature_relevance(foreground_minus_background(shots, class_id)) if self.relevance else None
        centroids = torch.cat([self._centroids(shot, class_id, relevance) for shot in shots if class_id in shot.labels])
        prototypes = unit(centroids)
        view = one_against_rest(shots, class_id)
        similarity = nearest_cosine(weighted(view.features.T, relevance), prototypes)
        return Parts(prototypes, calibrate(similarity, view.positive, view.weight, IN_SAMPLE), relevance)

    def _centroids(self, shot: ShotPixels, class_id: int, relevance: Tensor | None) -> Tensor:
        """Run superpixel-guided clustering on one shot: (N_sp, D)."""
        stride = min(self.levels.strides)
        inside = shot.labels[class_id]
        outside = [_places(p.at, stride) for value, p in shot.labels.items() if value != class_id]
        places = _places(inside.at, stride)
        number = max(1, min(round(inside.area / stride**2 / AREA), self.most))  # eq. 7
        seeds = spread_seeds(places, torch.cat([places[:0], *outside]), number)
        x = unit(weighted(inside.features.T, relevance).T)
        return superpixel_centroids(x, places, torch.ones_like(x[:, 0]), seeds)

    def allocate(self, state: State, query: FeaturePyramid) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Level]:
        """Guided prototype allocation: of each class what the decoder of the paper is given, and on which cells.

        Returns
        -------
        list
            For each class the guide map G (h, w), the number of the most similar prototype (eq. 5); the guide feature
            F_G (D, h, w), that prototype; and P (h, w), the mean of all similarities (eq. 4; their sum in the paper,
            which grows with the number of superpixels).
        Level
            Whose cells these are.
        """
        cells, level = self.levels.cells(query)
        allocated = []
        for parts in state.solution:
            similarity = cosine_map(weighted(cells, parts.relevance), parts.prototypes)  # eq. 4
            guide = similarity.argmax(0)
            allocated.append((guide, parts.prototypes[guide].permute(2, 0, 1), similarity.mean(0)))
        return allocated, level

    def predict(self, state: State, query: FeaturePyramid) -> Tensor:
        """Cut the similarity with the allocated prototype, and join the answers of all classes."""
        cells, level = self.levels.cells(query)
        logits = [
            parts.calibration.logit(nearest_cosine(weighted(cells, parts.relevance), parts.prototypes))
            for parts in state.solution
        ]
        return probabilities(one_vs_rest(torch.stack(logits)), level, query.size)


def _places(at: Tensor, stride: int) -> Tensor:
    """Places (N, 2) in cells of pixels (N, 3) that tile, row and column tell."""
    places = at[:, 1:].float() / stride
    places[:, 0] += _ELSEWHERE * at[:, 0]
    return places


def make(backbone: Backbone) -> ASGNet:
    """Compare on the levels that the backbone recommends."""
    return ASGNet(MatchingLevels(backbone.matching_strides))
