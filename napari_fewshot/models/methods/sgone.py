"""SG-One: similarity guidance (Zhang et al., IEEE Trans. Cybernetics 2020, arXiv 1810.09091), without training.

The pixels of a class are averaged to one vector, and its cosine with every pixel of the query is the *similarity
guidance map*. In the paper this map multiplies the features of a small trained segmentation branch (`sgone_branch.py`).
What is here is the map, made a probability by what was painted: cut where the IoU on the shots is best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, Calibration, calibrate
from napari_fewshot.models.blocks.labelled_pixels import (
    ShotPixels,
    bounded,
    collect_pixels,
    one_against_rest,
    pooled_mean,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background


@dataclass(frozen=True, eq=False)
class Guide:
    """What is known of one class.

    Attributes
    ----------
    vectors
        (M, D) representative vectors v: a single one of all shots, or one of each.
    calibrations
        How the similarity with each becomes a logit.
    relevance
        (D,) how much each feature counts; None for all alike.
    """

    vectors: Tensor
    calibrations: tuple[Calibration, ...]
    relevance: Tensor | None


class SGOne(AdditiveMethod[ShotPixels, tuple[Guide, ...]]):
    """One vector per class and its cosine.

    Parameters
    ----------
    levels
        Features to compare.
    fusion
        With several shots: "average" their vectors (the better one in the paper), or take the "max" of the answers
        that each gives alone (eq. 3).
    relevance
        Whether features count by how well they tell the class from the rest (contribution 1 of FWB).
    """

    name = "sgone"

    def __init__(
        self, levels: MatchingLevels, fusion: Literal["average", "max"] = "average", relevance: bool = False
    ) -> None:
        self.levels = levels
        self.fusion = fusion
        self.relevance = relevance

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Pool every label (eq. 1), and keep some pixels to find thresholds by."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Guide, ...]:
        """Make a guide for every class."""
        shots = bounded(summaries, len(with_background(class_ids)))
        return tuple(self._guide(shots, class_id) for class_id in class_ids)

    def _guide(self, shots: Sequence[ShotPixels], class_id: int) -> Guide:
        apart = [[shot] for shot in shots if class_id in shot.labels]
        groups = [shots] if self.fusion == "average" else apart
        relevance = feature_relevance(foreground_minus_background(shots, class_id)) if self.relevance else None
        vectors, calibrations = [], []
        for group in groups:
            vector, view = pooled_mean(group, class_id), one_against_rest(group, class_id)
            similarity = cosine_map(view.features.T, vector[None], relevance)[0]  # (N,)
            vectors.append(vector)
            calibrations.append(calibrate(similarity, view.positive, view.weight, IN_SAMPLE))
        return Guide(torch.stack(vectors), tuple(calibrations), relevance)

    def guidance(
        self, state: AdditiveState[ShotPixels, tuple[Guide, ...]], query: FeaturePyramid
    ) -> tuple[list[Tensor], Level]:
        """Similarity guidance maps (M, h, w) of each class, in [-1, 1] (eq. 2), and the level whose cells these are."""
        cells, level = self.levels.cells(query)
        return [cosine_map(cells, guide.vectors, guide.relevance) for guide in state.solution], level

    def predict(self, state: AdditiveState[ShotPixels, tuple[Guide, ...]], query: FeaturePyramid) -> Tensor:
        """Cut the maps, take the largest of several shots (eq. 3), and join the answers of all classes."""
        maps, level = self.guidance(state, query)
        logits = [
            torch.stack([c.logit(s) for c, s in zip(guide.calibrations, several, strict=True)]).amax(0)
            for guide, several in zip(state.solution, maps, strict=True)
        ]
        return probabilities(one_vs_rest(torch.stack(logits)), level, query.size)
