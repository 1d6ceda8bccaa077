"""From a similarity to a probability, by what was taught: where to cut, and how sharply."""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

IN_SAMPLE: Final = 0.1
"""Leniency for similarities with what was made of the very pixels that the threshold is found on: elsewhere they will
be a little smaller."""

_SLOPES: Final = (5.0, 10.0, 20.0, 40.0, 80.0)
_MARGIN: Final = 0.1
"""Where nothing says what is background: how far the threshold lies below all that was painted, by its range."""


@dataclass(frozen=True)
class Calibration:
    """The logit of a similarity s is ``slope * (s - threshold)``."""

    threshold: float
    slope: float

    def logit(self, similarity: Tensor) -> Tensor:
        """Of "this is it", with a probability of a half at the threshold."""
        return self.slope * (similarity - self.threshold)


def best_threshold(similarity: Tensor, positive: Tensor, weight: Tensor) -> float:
    """Find the threshold above which lie the pixels with the best IoU.

    Parameters
    ----------
    similarity
        (N,).
    positive
        (N,) whether a pixel is wanted; at least one is.
    weight
        (N,) how much each counts, > 0.

    Returns
    -------
    float
        Half-way between the two values that it separates. Without any unwanted pixel, a little less than the lowest.
    """
    if bool(positive.all()):
        lowest, highest = (float(v) for v in similarity.double().aminmax())
        return lowest - max(_MARGIN * (highest - lowest), 1e-6)
    values, order = similarity.double().sort(descending=True)
    weight = weight.double()[order]
    wanted = weight * positive[order]
    hit, wrong = wanted.cumsum(0), (weight - wanted).cumsum(0)
    iou = hit / (wanted.sum() + wrong)
    last_of_its_value = torch.cat([values[1:] < values[:-1], values.new_ones(1, dtype=torch.bool)])
    at = int(torch.where(last_of_its_value, iou, -1).argmax())
    below = values[at + 1] if at + 1 < len(values) else values[at] - 2e-6
    return float(values[at] + below) / 2


def calibrate(similarity: Tensor, positive: Tensor, weight: Tensor, leniency: float = 0.0) -> Calibration:
    """Choose the threshold by IoU, then the slope by likelihood.

    Parameters
    ----------
    similarity
        (N,).
    positive
        (N,) whether a pixel is of the class; at least one is.
    weight
        (N,) how much each counts, > 0.
    leniency
        How far the threshold is moved from there to the average of what is not of the class: for similarities that
        are larger on the shots than they will be elsewhere.
    """
    similarity, positive, weight = (values.cpu() for values in (similarity, positive, weight))  # MPS knows no float64
    threshold = best_threshold(similarity, positive, weight)
    if leniency and not bool(positive.all()):
        elsewhere = float((weight * similarity)[~positive].sum() / weight[~positive].sum())
        threshold += leniency * (elsewhere - threshold)
    offsets, truth = (similarity - threshold).double(), positive.double()
    losses = [
        float(F.binary_cross_entropy_with_logits(slope * offsets, truth, weight.double(), reduction="sum"))
        for slope in _SLOPES
    ]
    return Calibration(threshold, _SLOPES[losses.index(min(losses))])
