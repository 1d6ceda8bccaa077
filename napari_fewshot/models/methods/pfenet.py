"""PFENet: prior guided feature enrichment (Tian et al., TPAMI 2020, arXiv 2008.01449).

The *prior* tells for every pixel of the query how similar it is to the most similar pixel of the class, stretched to
[0, 1] on each query. It guides the *feature enrichment module*, which is trained (`pfenet_fem`). On backbones for which
nobody trained it, the prior before stretching proposes, cut where that fits the shots best: stretched, it would find
something on every image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, Calibration, calibrate
from napari_fewshot.models.blocks.labelled_pixels import (
    OneAgainstRest,
    ShotPixels,
    bounded,
    collect_pixels,
    one_against_rest,
    unit,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.prior import prior_map, raw_prior
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background, weighted
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

_PIXELS_PER_LABEL: Final = 4000
"""Pixels of a class that a query is compared with, over all shots."""

_CELLS_AWAY: Final = 2
"""With a single shot, to find a threshold: how far from a pixel another is far, in the coarsest cells."""

_ROWS: Final = 512
"""Pixels whose distances to all others are held at once."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of one class.

    Attributes
    ----------
    banks
        (M, D) of each shot that shows it: pixels of the class, of length 1.
    calibration
        How the prior before stretching becomes a logit.
    relevance
        (D,) how much each feature counts; None for all alike.
    """

    banks: tuple[Tensor, ...]
    calibration: Calibration
    relevance: Tensor | None


State = AdditiveState[ShotPixels, tuple[Seen, ...]]


class PFENet(AdditiveMethod[ShotPixels, tuple[Seen, ...]]):
    """The prior.

    Parameters
    ----------
    levels
        Features to compare.
    relevance
        Whether features count by how well they tell the class from the rest (contribution 1 of FWB).
    """

    name = "pfenet"

    def __init__(self, levels: MatchingLevels, relevance: bool = False) -> None:
        self.levels = levels
        self.relevance = relevance
        self._far = _CELLS_AWAY * max(levels.strides)

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label; of those that are not of a class only a threshold is learnt."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Seen, ...]:
        """Fill the banks of every class."""
        shots = bounded(summaries, len(with_background(class_ids)), _PIXELS_PER_LABEL)
        return tuple(self.seen(shots, class_id) for class_id in class_ids)

    def seen(self, shots: Sequence[ShotPixels], class_id: int) -> Seen:
        """Make what is known of one class."""
        relevance = feature_relevance(foreground_minus_background(shots, class_id)) if self.relevance else None
        view = one_against_rest(shots, class_id)
        x = unit(weighted(view.features.T, relevance).T)
        banks = [bank for i in range(len(shots)) if len(bank := x[view.positive & (view.shot == i)])]
        leniency = 0.0 if len(banks) > 1 else IN_SAMPLE  # of one shot only, even what is far is of the same image
        calibration = calibrate(_prior_on_shots(x, view, self._far), view.positive, view.weight, leniency)
        return Seen(tuple(banks), calibration, relevance)

    def prior(self, state: State, query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Compute the prior masks of the paper (C, h, w), in [0, 1], and the level on whose cells they lie.

        Of a tile of a large image they are stretched over that tile.
        """
        cells, level = self.levels.cells(query)
        seen = -(-query.size[0] // level.stride), -(-query.size[1] // level.stride)
        maps = [prior_map(weighted(cells, known.relevance), known.banks, seen) for known in state.solution]
        return torch.stack(maps), level

    def predict(self, state: State, query: FeaturePyramid) -> Tensor:
        """Cut the prior before stretching, and join the answers of all classes."""
        cells, level = self.levels.cells(query)
        logits = [
            known.calibration.logit(raw_prior(weighted(cells, known.relevance), known.banks))
            for known in state.solution
        ]
        return probabilities(one_vs_rest(torch.stack(logits)), level, query.size)


def _prior_on_shots(x: Tensor, view: OneAgainstRest, far: float) -> Tensor:
    """Prior (N,) of pixels (N, D) of the shots, none compared with itself.

    Pixels of a shot are compared with the other shots that show the class. Where one shot only shows it, its pixels of
    the class are compared with those of them that are far away: next to a pixel there is always one that is like it.
    """
    showing = view.shot[view.positive].unique().tolist()
    if len(showing) > 1:
        prior = x.new_zeros(len(x))
        for shot in view.shot.unique().tolist():
            here = view.shot == shot
            others = [x[view.positive & (view.shot == other)] for other in showing if other != shot]
            prior[here] = raw_prior(x[here].T, others).to(prior.dtype)  # half, where training has mixed precision
        return prior
    prior = raw_prior(x.T, [x[view.positive]])
    prior[view.positive] = _cosine_with_far(x[view.positive], view.at[view.positive], far)
    return prior


def _cosine_with_far(bank: Tensor, at: Tensor, far: float) -> Tensor:
    """Largest cosine (N,) of pixels (N, D) with those at places (N, 3) that are far; 1 for a pixel that is alone.

    Far is what lies in another tile, so many pixels away, or at least half as far away as the farthest.
    """
    best = []
    for some in torch.arange(len(bank), device=bank.device).split(_ROWS):
        distances = torch.cdist(at[some, 1:].float(), at[:, 1:].float())  # (n, N) in pixels
        distances[at[some, :1] != at[:, 0]] = torch.inf
        reach = torch.where(distances.isfinite(), distances, 0).amax(1, keepdim=True)
        near = distances < (reach / 2).clamp_max(far)
        if len(bank) > 1:
            near[torch.arange(len(some), device=some.device), some] = True
        best.append((bank[some] @ bank.T).masked_fill_(near, -1).amax(1))
    return torch.cat(best)
