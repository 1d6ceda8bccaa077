"""What heads are told beside features: how similar each cell is to the average of a class, calibrated as in `sgone`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, pooled_mean
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.relevance import mean_of_rest
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.sgone import Guide, SGOne

CUES: Final = 3
"""Maps of `Similarity.cues`."""

_FIRM: Final = 4.0
"""Bound of the logit. What fits a shot too well would otherwise be too sure elsewhere for any head to correct."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """What is known of one class without any training.

    Attributes
    ----------
    guide
        Average, threshold and relevance of features.
    rest
        (D,) average of everything else; zero where nothing else was painted.
    """

    guide: Guide
    rest: Tensor

    def logit(self, cells: Tensor) -> Tensor:
        """Calibrate the cosine of cells (D, h, w), features counting as they tell the class: (h, w) in [-4, 4]."""
        cosine = cosine_map(cells, self.guide.vectors, self.guide.relevance)[0]
        return _FIRM * torch.tanh(self.guide.calibrations[0].logit(cosine) / _FIRM)

    def cues(self, cells: Tensor) -> Tensor:
        """Tell three things of cells (D, h, w), all in [-2, 2]: (3, h, w).

        The same logit, from -1 to 1; the plain cosine with the average of the class; and by how much that exceeds the
        cosine with the average of the rest.
        """
        inside, rest = cosine_map(cells, torch.stack([self.guide.vectors[0], self.rest]))
        return torch.stack([self.logit(cells) / _FIRM, inside, inside - rest])


def similarities(
    levels: MatchingLevels, shots: Sequence[ShotPixels], class_ids: tuple[int, ...]
) -> tuple[Similarity, ...]:
    """Learn from shots what is known of each class."""
    guides = SGOne(levels, relevance=True).combine(shots, class_ids)
    return tuple(Similarity(guide, _rest(shots, c)) for c, guide in zip(class_ids, guides, strict=True))


def _rest(shots: Sequence[ShotPixels], class_id: int) -> Tensor:
    others = [rest for shot in shots if (rest := mean_of_rest(shot, class_id)) is not None]
    return torch.stack(others).mean(0) if others else torch.zeros_like(pooled_mean(shots, class_id))
