"""FWB: feature weighting and boosting (Nguyen & Todorovic, ICCV 2019, arXiv 1909.13140), without training.

Two contributions: features count by how well they tell the class from the rest of the shots, in closed form; and the
vector of the class is improved by gradient steps that segment the shots better, every step an *expert*, which votes
with the IoU that it reaches on the shots. The paper segments with two trained convolutions on the similarity map
(`fwb_boosted.py`); here that is a logistic curve, whose threshold is improved along with the vector.

Experts are judged by the shots only. The code that goes with the paper judges them by the mask that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, calibrate
from napari_fewshot.models.blocks.descent import Adam, steps
from napari_fewshot.models.blocks.labelled_pixels import (
    OneAgainstRest,
    ShotPixels,
    bounded,
    collect_pixels,
    one_against_rest,
    pooled_mean,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest, safe_logit
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

EXPERTS: Final = 10
"""N: for more the paper sees no difference."""

RATE: Final = 1e-2
"""nu of Adam, for vectors whose entries are about 1."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Experts for one class.

    Attributes
    ----------
    vectors
        (N, D) f of each; the first is the average of the class.
    thresholds
        (N,) where each has a probability of a half.
    confidence
        (N,) rho: IoU on the shots.
    losses
        Of each on the shots.
    slope
        Of the logistic curve.
    relevance
        (D,) r: how much each feature counts.
    """

    vectors: Tensor
    thresholds: Tensor
    confidence: Tensor
    losses: tuple[float, ...]
    slope: float
    relevance: Tensor

    def vote(self, cells: Tensor) -> Tensor:
        """Probability (h, w) of the class (eq. 8, divided by the sum of the weights)."""
        similarity = cosine_map(cells, self.vectors, self.relevance)  # eq. 6
        p = (self.slope * (similarity - self.thresholds[:, None, None])).sigmoid()  # (N, h, w)
        trust = self.confidence if bool(self.confidence.any()) else torch.ones_like(self.confidence)
        voted: Tensor = torch.tensordot(trust / trust.sum(), p, 1)
        return voted


State = AdditiveState[ShotPixels, tuple[tuple[Ensemble, ...], ...]]


class FWB(AdditiveMethod[ShotPixels, tuple[tuple[Ensemble, ...], ...]]):
    """Relevance of features, and an ensemble of experts.

    Parameters
    ----------
    levels
        Features to compare.
    fusion
        With several shots: one ensemble for all of them, "joint" (eqs. 10 and 11, the better one in the paper), or one
        for each, whose answers are averaged ("average").
    experts
        N; 1 for no boosting.
    rate
        Of the gradient steps.
    """

    name = "fwb"

    def __init__(
        self,
        levels: MatchingLevels,
        fusion: Literal["joint", "average"] = "joint",
        experts: int = EXPERTS,
        rate: float = RATE,
    ) -> None:
        self.levels = levels
        self.fusion = fusion
        self.experts = experts
        self.rate = rate

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Pool every label (eq. 1), and keep some pixels to segment again."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[tuple[Ensemble, ...], ...]:
        """Boost the vector of every class."""
        shots = bounded(summaries, len(with_background(class_ids)))
        made = []
        for class_id in class_ids:
            apart = [[shot] for shot in shots if class_id in shot.labels]
            groups: Sequence[Sequence[ShotPixels]] = [shots] if self.fusion == "joint" else apart
            made.append(tuple(self._ensemble(group, class_id) for group in groups))
        return tuple(made)

    def _ensemble(self, shots: Sequence[ShotPixels], class_id: int) -> Ensemble:
        """Run algorithm 1 on some shots, up to the query."""
        relevance = feature_relevance(foreground_minus_background(shots, class_id))  # eqs. 5 and 10
        mean = pooled_mean(shots, class_id)
        first = F.normalize(mean, dim=0) * len(mean) ** 0.5  # cosines do not mind its length, the rate of steps does
        view = one_against_rest(shots, class_id)
        x = view.features.T
        curve = calibrate(cosine_map(x, first[None], relevance)[0], view.positive, view.weight, IN_SAMPLE)
        vectors, thresholds, confidence, losses = [], [], [], []
        descent = steps(
            (first, first.new_tensor(curve.threshold)),
            partial(_loss, slope=curve.slope),
            (x, relevance, view.positive.to(x.dtype), _balance(view)),
            Adam(self.rate),
            self.experts,
        )
        for (vector, threshold), loss in descent:
            guess = cosine_map(x, vector[None], relevance)[0] > threshold
            vectors.append(vector)
            thresholds.append(threshold)
            confidence.append(_iou(guess, view))
            losses.append(loss)
        return Ensemble(
            torch.stack(vectors),
            torch.stack(thresholds),
            torch.stack(confidence),
            tuple(losses),
            curve.slope,
            relevance,
        )

    def predict(self, state: State, query: FeaturePyramid) -> Tensor:
        """Let the experts vote, average the votes of several ensembles, and join the answers of all classes."""
        cells, level = self.levels.cells(query)
        p = [torch.stack([e.vote(cells) for e in ensembles]).mean(0) for ensembles in state.solution]
        return probabilities(one_vs_rest(safe_logit(torch.stack(p))), level, query.size)


def _loss(
    vector: Tensor, threshold: Tensor, x: Tensor, relevance: Tensor, truth: Tensor, weight: Tensor, slope: float
) -> Tensor:
    """Cross-entropy of the shots with their masks, added up over the shots (eq. 11)."""
    logits = slope * (cosine_map(x, vector[None], relevance)[0] - threshold)
    return F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")


def _balance(view: OneAgainstRest) -> Tensor:
    """Weights (N,) of pixels: both sides of a shot weigh the same, and all shots do.

    Otherwise nothing at all would be the best answer for small things.
    """
    weight = torch.zeros_like(view.weight)
    for shot in view.shot.unique().tolist():
        for side in (view.positive, ~view.positive):
            of_this = side & (view.shot == shot)
            weight[of_this] = 0.5 * view.weight[of_this] / view.weight[of_this].sum().clamp_min(1e-12)
    return weight


def _iou(guess: Tensor, view: OneAgainstRest) -> Tensor:
    """IoU of a guess (N,) on the shots (eq. 9)."""
    union = view.weight[guess | view.positive].sum()
    return view.weight[guess & view.positive].sum() / union
