"""What heads are told of a class beside features: the prior of PFENet, in the forms that carry over to other images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, pooled_mean, unit
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.nearest import nearest_cosine
from napari_fewshot.models.blocks.prior import stretched
from napari_fewshot.models.blocks.relevance import feature_relevance, foreground_minus_background
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.pfenet import PFENet, Seen

COMPARED: Final = 600
"""Pixels of a class, and of everything else, that a query is compared with in front of a trained module."""

ALL_CUES: Final = 4


@dataclass(frozen=True, eq=False)
class Known:
    """What a head is told of one class.

    Attributes
    ----------
    vector
        (D,) masked average over the shots.
    seen
        Its pixels, and how the prior becomes a logit.
    rest
        (M, D) pixels of everything else, of length 1; may be none.
    relevance
        (D,) how much each feature tells the class from the rest.
    """

    vector: Tensor
    seen: Seen
    rest: Tensor
    relevance: Tensor


class PriorCues:
    """Makes maps of where a class is likely.

    Parameters
    ----------
    levels
        Features to compare.
    count
        1: the stretched prior alone, as in the paper of PFENet. `ALL_CUES`: beside it the prior before stretching as
        the shots calibrate it, the same prior minus that of everything else, and the cosine on the features that tell
        the class.
    """

    def __init__(self, levels: MatchingLevels, count: int) -> None:
        self.levels = levels
        self.count = count
        self._prior = PFENet(levels)

    def known(self, shots: Sequence[ShotPixels], class_id: int) -> Known:
        """Collect what is known of one class."""
        others = [unit(p.features) for shot in shots for value, p in shot.labels.items() if value != class_id]
        vector = pooled_mean(shots, class_id)
        relevance = feature_relevance(foreground_minus_background(shots, class_id))
        rest = torch.cat(others) if others else vector.new_zeros((0, len(vector)))
        return Known(vector, self._prior.seen(shots, class_id), rest[:: max(1, -(-len(rest) // COMPARED))], relevance)

    def maps(self, known: Known, cells: Tensor, level: Level, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Compare a query (D, h, w), of an image of (H, W), with a class.

        Returns
        -------
        cues : Tensor
            (`count`, h, w).
        calibrated : Tensor
            (h, w) the logits that the prior alone would answer with.
        """
        cosines = torch.stack([nearest_cosine(cells, bank) for bank in known.seen.banks])  # (K, h, w)
        raw = cosines.mean(0)
        calibrated = known.seen.calibration.logit(raw)
        shown = -(-size[0] // level.stride), -(-size[1] // level.stride)
        cues = [stretched(cosines, shown)]
        if self.count == ALL_CUES:
            margin = raw - nearest_cosine(cells, known.rest)
            cosine = cosine_map(cells, known.vector[None], known.relevance)[0]
            cues += [torch.tanh(calibrated / 4), margin, cosine]
        return torch.stack(cues), calibrated
