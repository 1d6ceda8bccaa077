"""What a prediction says: the label of every pixel, how sure that is, and how good the whole probably is."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.devices import widest_float
from napari_fewshot.segmenter import Evidence

_PRIOR_AREA: Final = 5e-4
"""Share of the image that a confident "nothing here" is credited with."""

_SURE: Final = 0.7
_END: Final = 0.005

_SLOPE: Final = 0.505
_OFFSET: Final = -0.625


def most_probable(probabilities: Tensor, values: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Choose a label for every pixel, the first of those that are equally probable.

    Parameters
    ----------
    probabilities
        (1 + C, H, W).
    values
        Label of each channel.

    Returns
    -------
    labels : Tensor
        (H, W) int32.
    surest : Tensor
        (H, W) how probable they are.
    """
    surest = probabilities[0].clone()
    labels = torch.full_like(surest, values[0], dtype=torch.int32)
    for channel, value in zip(probabilities[1:], values[1:], strict=True):  # several times faster than `max(0)`
        labels.masked_fill_(channel > surest, value)
        torch.maximum(surest, channel, out=surest)
    return labels, surest


class Quality:
    """How good the most probable labels of an image probably are: the IoU to expect, averaged over the classes.

    Two signs are put together, both of which are 1 where everything is sure:

    * the *expected IoU* of the mask M_c of each class c, from sharpened probabilities q ~ p^2: E[TP] = sum_M q_c, and
      TP + FP + FN = |M_c| + FN with E[FN] = sum_{not M} q_c;
    * the *stability* of the foreground: what is surely an object over what may be one (Kirillov et al., ICCV 2023,
      Segment Anything).

    Their log-odds are added up and brought to the scale of true IoUs, which was fitted to the training sets alone, see
    ``benchmarks/accuracy/score.py``. A small credit stands on both sides of each ratio, so that an image surely without
    any class scores near 1 rather than 0 / 0.

    Parameters
    ----------
    values
        Label of each channel; 0 is background.
    """

    def __init__(self, values: Sequence[int]) -> None:
        self._values = tuple(values)
        classes = len(self._values) - 1
        self._sums = [0.0] * (2 * classes + 3)  # hits and unions of each class, sure and possible foreground, pixels

    def add(self, probabilities: Tensor, labels: Tensor, surest: Tensor) -> Evidence:
        """Take in a part of the image: (1 + C, H, W), background first, with its `most_probable` labels.

        Returns
        -------
        Evidence
            What was found in it, for `take` of another one.
        """
        sharp = probabilities.square()
        sharp /= sharp.sum(0)
        widest = widest_float(sharp.device)
        hits, unions = [], []
        for i, value in enumerate(self._values[1:]):
            chosen = labels == value
            hit = float((sharp[i + 1] * chosen).sum(dtype=widest))
            hits.append(hit)
            unions.append(float(chosen.sum()) + float(sharp[i + 1].sum(dtype=widest)) - hit)
        found = labels != self._values[0]
        sure = float((found & (surest > _SURE)).sum())
        possible = float((found | (probabilities[0] < _SURE)).sum())
        evidence = (*hits, *unions, sure, possible, float(labels.numel()))
        self.take(evidence)
        return evidence

    def take(self, evidence: Evidence) -> None:
        """Take in a part that was looked at elsewhere; to the last bit the same as `add` if their order is."""
        self._sums = [a + b for a, b in zip(self._sums, evidence, strict=True)]

    @property
    def expected_iou(self) -> float:
        """In [0, 1], of sharpened probabilities, before it is calibrated."""
        *ratios, _, _, pixels = self._sums
        credit, classes = _PRIOR_AREA * pixels, len(ratios) // 2
        ious = [
            (hit + credit) / (union + credit) for hit, union in zip(ratios[:classes], ratios[classes:], strict=True)
        ]
        return min(1.0, sum(ious) / len(ious))

    @property
    def stability(self) -> float:
        """In [0, 1]: the area of what is surely an object over the area of what may be one."""
        sure, possible, pixels = self._sums[-3:]
        credit = _PRIOR_AREA * pixels
        return (sure + credit) / (possible + credit)

    @property
    def value(self) -> float:
        """In [0, 1]: the IoU to expect."""
        evidence = _log_odds(self.expected_iou) + _log_odds(self.stability)
        return 1 / (1 + math.exp(-(_SLOPE * evidence + _OFFSET)))


def _log_odds(share: float) -> float:
    """Of a number in [0, 1], which may be either end."""
    return math.log((share + _END) / (1 + _END - share))
