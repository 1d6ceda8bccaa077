"""How good a proposal probably is, from its own probabilities."""

from typing import Final

import torch
from torch import Tensor

_PRIOR_AREA: Final = 1e-3
"""Share of the image that a confident "nothing here" is credited with."""


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

    def add(self, probabilities: Tensor) -> None:
        """Take in a part of the image: (1 + C, H, W), background first."""
        flat = probabilities.flatten(1)
        best, label = flat.max(0)
        chosen = label > 0
        hit = float(torch.where(chosen, best, 0).sum(dtype=torch.float64))
        self._hit += hit
        self._union += float(chosen.sum()) + float(flat[1:].sum(dtype=torch.float64)) - hit
        self._pixels += flat.shape[1]

    @property
    def value(self) -> float:
        """In [0, 1]."""
        credit = _PRIOR_AREA * self._pixels
        return min(1.0, max(0.0, (self._hit + credit) / (self._union + credit)))
