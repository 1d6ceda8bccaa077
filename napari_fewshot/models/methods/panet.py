"""PANet: prototype alignment network (Wang et al., ICCV 2019, arXiv 1908.06391), without its training.

A prototype per class and one for the background, each the average feature of its pixels ("late fusion": features
are upsampled to the mask, here by the exact transpose trick); a pixel gets the label of the prototype that its
feature is most parallel to. There is nothing to fit, and C classes are native.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.alignment import Cycle
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.pooling import masked_pool
from napari_fewshot.models.blocks.resampling import merge_levels, probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import (
    AdditiveMethod,
    AdditiveState,
    SupportFeatures,
    labels_present,
    with_background,
)

Prototypes = Mapping[int, Tensor]
"""Label value -> (C,) average feature of one shot's pixels with that label."""


class PANet(AdditiveMethod[Prototypes, Tensor]):
    """Prototypes and scaled cosine.

    Parameters
    ----------
    strides
        Levels to compare on, concatenated on the finest of them.
    alpha
        Scale of the cosine before the softmax; learning it does not help (section 3.3 of the paper).
    """

    name = "panet"

    def __init__(self, strides: tuple[int, ...], alpha: float = 20.0) -> None:
        self.strides = strides
        self.alpha = alpha

    def summarise(self, shot: SupportFeatures) -> Prototypes:
        """Pool the features of every label of a shot (eqs. 1 and 2)."""
        sums: dict[int, Tensor] = {}
        masses: dict[int, Tensor] = {}
        for pyramid, labels in shot.parts():
            values = labels_present(labels)
            if not values:
                continue
            features, level = merge_levels(pyramid, self.strides)
            means, mass = masked_pool(features, level, torch.stack([labels == v for v in values]))
            for value, mean, m in zip(values, means, mass, strict=True):
                sums[value] = sums.get(value, 0) + m * mean
                masses[value] = masses.get(value, 0) + m
        return {value: total / masses[value] for value, total in sums.items()}

    def combine(self, summaries: Sequence[Prototypes], class_ids: tuple[int, ...]) -> Tensor:
        """Average over the shots that show a label: (1 + C, D), background first.

        Where no pixel was labelled as background its prototype is zero: cosine 0 with everything.
        """
        like = next(p for shot in summaries for p in shot.values())
        rows = []
        for value in with_background(class_ids):
            pooled = [shot[value] for shot in summaries if value in shot]
            rows.append(torch.stack(pooled).mean(0) if pooled else torch.zeros_like(like))
        return torch.stack(rows)

    def predict(self, state: AdditiveState[Prototypes, Tensor], query: FeaturePyramid) -> Tensor:
        """Softmax over alpha times the cosine to each prototype (eq. 3), on logits at the size of the image."""
        features, level = merge_levels(query, self.strides)
        return probabilities(self.alpha * cosine_map(features, state.solution), level, query.size)


@dataclass(frozen=True, eq=False)
class WithWayBack:
    """What `CyclicPANet` learnt.

    Attributes
    ----------
    prototypes
        (1 + C, D), background first: those of `PANet`.
    shots
        Pixels of the shots, to be found again.
    class_ids
        Of the C classes.
    """

    prototypes: Tensor
    shots: tuple[ShotPixels, ...]
    class_ids: tuple[int, ...]


class CyclicPANet(AdditiveMethod[ShotPixels, WithWayBack]):
    """PANet that scores a proposal by how well it finds the shots again (section 3.5), in place of `Quality`.

    An option, for comparison: over images of a set this score follows the true IoU less than the usual one does (see
    docs/methods.md). A proposal that is wrong in the same way as its prototypes finds the shots again all the same.

    Parameters
    ----------
    strides, alpha
        As for `PANet`.
    """

    name = "panet"

    def __init__(self, strides: tuple[int, ...], alpha: float = 20.0) -> None:
        self.panet = PANet(strides, alpha)
        self.levels = MatchingLevels(strides, standardised=False)

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Pool the features of every label, and keep some pixels."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> WithWayBack:
        """Average over the shots, as `PANet` does."""
        means = [{value: pixels.mean for value, pixels in shot.labels.items()} for shot in summaries]
        shots = bounded(summaries, len(with_background(class_ids)))
        return WithWayBack(self.panet.combine(means, class_ids), tuple(shots), class_ids)

    def predict(self, state: AdditiveState[ShotPixels, WithWayBack], query: FeaturePyramid) -> Tensor:
        """Answer as `PANet` does."""
        return self.panet.predict(AdditiveState({}, state.solution.prototypes), query)

    def judge(self, state: AdditiveState[ShotPixels, WithWayBack]) -> "WayBack":
        """Begin to go back from one proposal."""
        return WayBack(self.levels, state.solution)


class WayBack:
    """A `Judge`: prototypes of what was proposed segment the shots."""

    def __init__(self, levels: MatchingLevels, taught: WithWayBack) -> None:
        self._levels = levels
        self._taught = taught
        self._cycle = Cycle()

    def add(self, query: FeaturePyramid, labels: Tensor) -> None:
        """Pool what was proposed for a tile."""
        cells, level = self._levels.cells(query)
        self._cycle.add(cells, level, labels)

    @property
    def value(self) -> float | None:
        """Mean IoU on the shots of the classes that were proposed; None where none was, or nothing else."""
        ious = self._cycle.ious(self._taught.shots, self._taught.class_ids)
        return sum(ious.values()) / len(ious) if ious else None


def make(backbone: Backbone) -> PANet:
    """Compare on the levels that the backbone recommends."""
    return PANet(backbone.matching_strides)
