"""SCL: self-guided and cross-guided learning (Zhang et al., CVPR 2021, arXiv 2103.16129), without training.

*Self-guidance*: the average of a class is tried on its own shot; what it finds gives a primary vector, what it misses
an auxiliary one, and the query is compared with both. *Cross-guidance*: every shot is tried on the other shots, and on
the query its answer counts by how well it did there. The paper puts both around the trained decoders of CANet and
PFENet; here they stand around a cosine map that is cut where it fits the shot best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, Calibration, calibrate
from napari_fewshot.models.blocks.labelled_pixels import (
    OneAgainstRest,
    ShotPixels,
    bounded,
    collect_pixels,
    one_against_rest,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background


@dataclass(frozen=True, eq=False)
class SupportVectors:
    """What one shot has to say of one class.

    Attributes
    ----------
    vectors
        (2, D): primary, what the average finds, and auxiliary, what it misses (eqs. 5 and 6). Or (1, D): the average,
        where it misses nothing or nothing is gained by two.
    calibration
        How the similarity with the more similar of both becomes a logit.
    relevance
        (D,) how much each feature counts; None for all alike.
    """

    vectors: Tensor
    calibration: Calibration
    relevance: Tensor | None

    def logit(self, cells: Tensor) -> Tensor:
        """Answer for cells (D, ...): (...)."""
        return self.calibration.logit(cosine_map(cells, self.vectors, self.relevance).amax(0))


@dataclass(frozen=True, eq=False)
class Jury:
    """All shots that show one class.

    Attributes
    ----------
    shots
        What each has to say.
    trust
        (K,) U: mean IoU of each on the other shots (eq. 16).
    """

    shots: tuple[SupportVectors, ...]
    trust: Tensor

    def logit(self, cells: Tensor) -> Tensor:
        """Answer for cells (D, ...) by the mean of all answers, weighted by trust (eq. 17)."""
        trust = self.trust if bool(self.trust.any()) else torch.ones_like(self.trust)
        answers = torch.stack([shot.logit(cells) for shot in self.shots])
        said: Tensor = torch.tensordot(trust / trust.sum(), answers, 1)
        return said


class SCL(AdditiveMethod[ShotPixels, tuple[Jury, ...]]):
    """Primary and auxiliary vectors, and shots that judge each other.

    Parameters
    ----------
    levels
        Features to compare.
    auxiliary
        Whether what the average misses gets a vector of its own (self-guidance).
    relevance
        Whether features count by how well they tell the class from the rest (contribution 1 of FWB).
    """

    name = "scl"

    def __init__(self, levels: MatchingLevels, auxiliary: bool = True, relevance: bool = False) -> None:
        self.levels = levels
        self.auxiliary = auxiliary
        self.relevance = relevance

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Jury, ...]:
        """Make the vectors of every shot, then let the shots judge each other."""
        shots = bounded(summaries, len(with_background(class_ids)))
        return tuple(self._jury(shots, class_id) for class_id in class_ids)

    def _jury(self, shots: Sequence[ShotPixels], class_id: int) -> Jury:
        showing = [shot for shot in shots if class_id in shot.labels]
        nothing = [shot for shot in shots if class_id not in shot.labels and shot.labels]
        views = [one_against_rest([shot], class_id) for shot in showing]
        vectors = []
        for shot, view in zip(showing, views, strict=True):
            # What shows no background of its own borrows that of shots without the class.
            against = view if not bool(view.positive.all()) else one_against_rest([shot, *nothing], class_id)
            phi = foreground_minus_background([shot, *nothing], class_id)
            vectors.append(self._support_vectors(against, feature_relevance(phi) if self.relevance else None))
        return Jury(tuple(vectors), _trust(vectors, views))

    def _support_vectors(self, view: OneAgainstRest, relevance: Tensor | None) -> SupportVectors:
        """Guide a shot by itself.

        A trained decoder knows what to make of an auxiliary vector. Here it can also be like the background, so it is
        used where the shot is segmented better with it than without.
        """
        x = view.features.T  # (D, N)
        mean = x[:, view.positive].mean(1)  # eq. 1
        alone = _calibrated(mean[None], view, relevance)
        found = alone.logit(x) > 0  # eqs. 2 to 4
        hit, missed = view.positive & found, view.positive & ~found
        if not self.auxiliary or not bool(hit.any()) or not bool(missed.any()):
            return alone
        vectors = torch.stack([x[:, hit].mean(1), x[:, missed].mean(1)])  # eqs. 5 and 6
        both = _calibrated(vectors, view, relevance)
        return both if _iou(both, view) > _iou(alone, view) else alone

    def predict(self, state: AdditiveState[ShotPixels, tuple[Jury, ...]], query: FeaturePyramid) -> Tensor:
        """Join the answers of all classes."""
        cells, level = self.levels.cells(query)
        return probabilities(
            one_vs_rest(torch.stack([jury.logit(cells) for jury in state.solution])), level, query.size
        )


def _calibrated(vectors: Tensor, view: OneAgainstRest, relevance: Tensor | None) -> SupportVectors:
    similarity = cosine_map(view.features.T, vectors, relevance).amax(0)
    return SupportVectors(vectors, calibrate(similarity, view.positive, view.weight, IN_SAMPLE), relevance)


def _trust(shots: Sequence[SupportVectors], views: Sequence[OneAgainstRest]) -> Tensor:
    """U (K,): mean IoU of what each shot finds on the others (eqs. 15 and 16; there also on itself); 1 for one shot."""
    like = shots[0].vectors
    if len(shots) == 1:
        return like.new_ones(1)
    ious = [[_iou(shot, view) for i, view in enumerate(views) if i != k] for k, shot in enumerate(shots)]
    return like.new_tensor(ious).mean(1)


def _iou(shot: SupportVectors, view: OneAgainstRest) -> float:
    """IoU of what a shot finds on some pixels."""
    guess = shot.logit(view.features.T) > 0
    hit, union = (view.weight[side].sum() for side in (guess & view.positive, guess | view.positive))
    return float(hit / union)


def make(backbone: Backbone) -> SCL:
    """Compare on the levels that the backbone recommends."""
    return SCL(MatchingLevels(backbone.matching_strides))
