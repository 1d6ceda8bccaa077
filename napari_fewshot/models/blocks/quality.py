"""What a prediction says: the label of every pixel, how sure that is, and how good the whole probably is."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_PRIOR_AREA: Final = 1e-3
"""Share of the image that a confident "nothing here" is credited with."""


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


class ExpectedIoU:
    """Expected IoU of the most probable labels, if the probabilities are right.

    For the mask M_c of class c, E[TP] = sum_M p_c, and TP + FP + FN = |M_c| + FN with E[FN] = sum_{not M} p_c.
    Both are summed over the classes, and over the parts of an image. A small credit stands on both sides, so that
    an image surely without any class scores 1 rather than 0 / 0.
    """

    def __init__(self) -> None:
        self._hit = 0.0
        self._union = 0.0
        self._pixels = 0

    def add(self, probabilities: Tensor, labels: Tensor, surest: Tensor) -> None:
        """Take in a part of the image: (1 + C, H, W), background first, with its `most_probable` labels."""
        chosen = labels > 0
        hit = float((surest * chosen).sum(dtype=torch.float64))
        self._hit += hit
        self._union += float(chosen.sum()) + float(probabilities[1:].sum(dtype=torch.float64)) - hit
        self._pixels += labels.numel()

    @property
    def value(self) -> float:
        """In [0, 1]."""
        credit = _PRIOR_AREA * self._pixels
        return min(1.0, max(0.0, (self._hit + credit) / (self._union + credit)))
