"""FWB with its trained head (Nguyen & Todorovic, ICCV 2019, arXiv 1909.13140): `fwb` as it is chosen.

Two convolutions make a mask of the similarity map and the features. When shots are learnt, gradients of their loss go
back *through these convolutions* to the vector of the class, step by step; every step is an expert, and experts vote
with the IoU that they reach on the shots. The convolutions stay as they are. Here the answer corrects the similarity
as it is calibrated without training.

Experts are judged by the shots only. The code that goes with the paper judges them by the mask that is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, calibrate
from napari_fewshot.models.blocks.descent import Adam, steps
from napari_fewshot.models.blocks.labelled_pixels import (
    ShotPixels,
    bounded,
    collect_pixels,
    one_against_rest,
    pooled_mean,
)
from napari_fewshot.models.blocks.matching import MatchingLevels, from_finest
from napari_fewshot.models.blocks.one_vs_rest import safe_logit
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.fwb import EXPERTS, FWB, RATE
from napari_fewshot.models.methods.trained import TrainedMethod

_FIRM: Final = 4.0
"""Bound of the logit that is corrected. What fits a shot too well would otherwise be too sure elsewhere."""

_MAPS: Final = 6
"""Maps that show a class, on which its vector is improved; every step goes through all of them."""


@dataclass(frozen=True)
class BoostedConfig:
    """What decides the shape of the head, and how it is used.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    width
        Channels between the convolutions.
    experts
        N; 1 for no boosting. In training there is always one.
    rate
        nu of Adam.
    dropout
        Share of features, and of channels between the convolutions, that training leaves out.
    corrects
        Whether the answer is a correction of the calibrated similarity, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 32
    experts: int = EXPERTS
    rate: float = RATE
    dropout: float = 0.2
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the finest level that the backbone recommends for comparing, and all coarser ones."""
        strides = from_finest(channels, matching)
        return cls(sum(channels[stride] for stride in strides), strides)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-101: its last block, 128 channels."""
        return cls(2048, (32,), 128, dropout=0.0, corrects=False)


class TwoLayers(nn.Module):
    """Conv of algorithm 1: 3 x 3 and 1 x 1.

    The first is linear, so what it makes of the features is the same for all vectors of a class, and computed once.
    """

    def __init__(self, config: BoostedConfig) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(config.dropout)
        self.features = nn.Conv2d(config.channels, config.width, 3, padding=1)
        self.similarity = nn.Conv2d(1, config.width, 3, padding=1, bias=False)
        self.classify = nn.Conv2d(config.width, 1, 1)
        if config.corrects:
            nn.init.zeros_(self.classify.weight)
            nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def of_features(self, cells: Tensor) -> Tensor:
        """Convolve features (D, h, w), without the similarity beside them: (width, h, w)."""
        convolved: Tensor = self.features(self.drop(cells[None]))
        return convolved[0]

    def forward(self, similarity: Tensor, of_features: Tensor) -> Tensor:
        """Answer with logits (N, h, w) for N similarity maps (N, h, w) of one image."""
        hidden = (self.similarity(similarity[:, None]) + of_features).relu()
        answer: Tensor = self.classify(self.drop(hidden))
        return answer[:, 0]


@dataclass(frozen=True, eq=False)
class Boosted:
    """Experts for one class.

    Attributes
    ----------
    vectors
        (N, D) f of each; the first is the average of the class.
    thresholds
        (N,) of the similarity, for the logit that is corrected; improved along with the vector, as in `FWB`.
    slope
        Of that logit.
    confidence
        (N,) rho: IoU on the shots.
    losses
        Of each on the shots.
    relevance
        (D,) r: how much each feature counts.
    """

    vectors: Tensor
    thresholds: Tensor
    slope: float
    confidence: Tensor
    losses: tuple[float, ...]
    relevance: Tensor


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a shot: averages and pixels, and maps to be segmented again."""

    pixels: ShotPixels
    maps: tuple[SupportMap, ...]


class BoostedFWB(TrainedMethod[Kept, tuple[Boosted, ...]]):
    """Feature weighting, and boosting through two trained convolutions; several shots share one ensemble."""

    name = "fwb"
    configuration: ClassVar[type[BoostedConfig]] = BoostedConfig
    network = TwoLayers

    def summarise(self, shot: SupportFeatures) -> Kept:
        """Pool every label (eq. 1), and keep some pixels and maps."""
        return Kept(collect_pixels(shot.parts(), self.levels, shot.is_dense), collect_maps(shot.parts(), self.levels))

    def combine(self, summaries: Sequence[Kept], class_ids: tuple[int, ...]) -> tuple[Boosted, ...]:
        """Boost the vector of every class."""
        shots = bounded([kept.pixels for kept in summaries], len(with_background(class_ids)))
        maps = [kept.maps for kept in summaries]
        return tuple(self._boosted(shots, maps_of_class(maps, class_id, _MAPS), class_id) for class_id in class_ids)

    def _boosted(self, shots: Sequence[ShotPixels], maps: Sequence[SupportMap], class_id: int) -> Boosted:
        """Run algorithm 1 on the shots, up to the query."""
        relevance = feature_relevance(foreground_minus_background(shots, class_id))  # eqs. 5 and 10
        mean = pooled_mean(shots, class_id)
        first = F.normalize(mean, dim=0) * len(mean) ** 0.5  # cosines do not mind its length, the rate of steps does
        view = one_against_rest(shots, class_id)
        similarity = cosine_map(view.features.T, first[None], relevance)[0]
        curve = calibrate(similarity, view.positive, view.weight, IN_SAMPLE)
        threshold = first.new_tensor(curve.threshold)
        if self.head.training or self.config.experts == 1:
            return Boosted(first[None], threshold[None], curve.slope, first.new_ones(1), (), relevance)
        constants = [tensor for each in maps for tensor in self._on_map(each, class_id)]
        names, weights = zip(*self.head.named_parameters(), strict=True)  # on a GPU they were moved in inference mode

        def loss(vector: Tensor, threshold: Tensor, r: Tensor, *told: Tensor) -> Tensor:
            """Cross-entropy added up over the shots (eq. 11); both sides weigh the same, as in `FWB`."""
            head = dict(zip(names, told[: len(names)], strict=True))
            losses = [0.0 * threshold]  # without the logit that is corrected, nothing depends on it
            for cells, of_features, share, rest in _in_groups(told[len(names) :]):
                logits = self._answer(vector, threshold, curve.slope, r, cells, of_features, head)
                losses += [0.5 * _average(F.softplus(-logits), share) + 0.5 * _average(F.softplus(logits), rest)]
            return torch.stack(losses).sum()

        vectors, thresholds, losses, confidence = [], [], [], []
        descent = steps(
            (first, threshold), loss, (relevance, *weights, *constants), Adam(self.config.rate), self.config.experts
        )
        for (vector, cut), value in descent:
            vectors.append(vector)
            thresholds.append(cut)
            losses.append(value)
            confidence.append(self._iou(vector, cut, curve.slope, relevance, constants))
        return Boosted(
            torch.stack(vectors),
            torch.stack(thresholds),
            curve.slope,
            torch.stack(confidence),
            tuple(losses),
            relevance,
        )

    def _on_map(self, each: SupportMap, class_id: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cells, what the head makes of them alone, and how much of each is of the class, and of anything else."""
        cells = map_features(each)
        of_features: Tensor = self.head.of_features(self.on_head(cells))  # type: ignore[operator]
        share = each.shares[class_id]
        return cells, of_features, share, (each.known - share).clamp_min(0)

    def _iou(
        self, vector: Tensor, threshold: Tensor, slope: float, relevance: Tensor, told: Sequence[Tensor]
    ) -> Tensor:
        """IoU of what a vector finds on the shots (eq. 9)."""
        hit, union = vector.new_zeros(()), vector.new_zeros(())
        for cells, of_features, share, rest in _in_groups(told):
            guess = self._answer(vector, threshold, slope, relevance, cells, of_features) > 0
            hit = hit + share[guess].sum()
            union = union + share.sum() + rest[guess].sum()
        return hit / union.clamp_min(1e-12)

    def _answer(
        self,
        vector: Tensor,
        threshold: Tensor,
        slope: float,
        relevance: Tensor,
        cells: Tensor,
        of_features: Tensor,
        head: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (h, w) of one expert on cells (D, h, w), by the head or by copies of its weights."""
        similarity = cosine_map(cells, vector[None], relevance)  # eq. 6
        told = (self.on_head(similarity), of_features)
        answer: Tensor = (functional_call(self.head, head, told) if head else self.head(*told))[0]
        if not self.config.corrects:
            return answer
        return answer + self.on_head(_FIRM * torch.tanh(slope * (similarity[0] - threshold) / _FIRM))

    def logits(self, solution: tuple[Boosted, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Let the experts of every class vote (eq. 8, divided by the sum of the weights)."""
        cells, level = self.levels.cells(query)
        of_features = self.head.of_features(self.on_head(cells))  # type: ignore[operator]
        return torch.stack([self._vote(known, cells, of_features) for known in solution]), level

    def _vote(self, known: Boosted, cells: Tensor, of_features: Tensor) -> Tensor:
        experts = zip(known.vectors, known.thresholds, strict=True)  # one at a time, for memory
        answers = (
            self._answer(vector, threshold, known.slope, known.relevance, cells, of_features)
            for vector, threshold in experts
        )
        if len(known.vectors) == 1:
            return next(answers)
        trust = known.confidence if bool(known.confidence.any()) else torch.ones_like(known.confidence)
        voted = torch.zeros_like(of_features[0])
        for answer, weight in zip(answers, trust / trust.sum(), strict=True):
            voted = voted + weight * answer.sigmoid()
        return safe_logit(voted)


def _in_groups(told: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """What `_on_map` returned of each map."""
    return [(told[i], told[i + 1], told[i + 2], told[i + 3]) for i in range(0, len(told), 4)]


def _average(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing has a weight."""
    return (weights * values).sum() / weights.sum().clamp_min(1e-6)


def make(backbone: Backbone) -> BoostedFWB | FWB:
    """With the head where it was trained on this backbone, else by boosting alone."""
    return BoostedFWB.trained_or_none(backbone) or FWB(MatchingLevels(backbone.matching_strides))
