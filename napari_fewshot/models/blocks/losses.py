"""What heads are trained to make small: cross-entropy in which both sides count alike, and Dice."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_SMOOTH: Final = 1.0
"""Pixels added to both sides of Dice: finding nothing where nothing is has no loss."""


def balanced_bce(logits: Tensor, wanted: Tensor, evenness: float = 0.5) -> Tensor:
    """Cross-entropy of a yes or no, where the rarer of both counts more.

    Parameters
    ----------
    logits
        (N,) of yes.
    wanted
        (N,) bool.
    evenness
        0: every pixel counts the same; 1: both answers count the same, however rare one of them is. In between,
        a pixel of an answer with share s counts s^-evenness. With 1, small things are found everywhere.

    Returns
    -------
    Tensor
        A number >= 0, the weighted mean; 0 without any pixel.
    """
    if logits.numel() == 0:
        return logits.sum()
    share = wanted.to(logits.dtype).mean()
    weight = torch.where(wanted, share, 1 - share).clamp_min(1 / logits.numel()) ** -evenness
    losses = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")
    return (weight * losses).sum() / weight.sum()


def dice_loss(probability: Tensor, wanted: Tensor) -> Tensor:
    """1 - 2 |A B| / (|A| + |B|) of soft sets (Milletari et al., 3DV 2016, with plain sums in the denominator).

    Parameters
    ----------
    probability
        (N,) in [0, 1].
    wanted
        (N,) bool.

    Returns
    -------
    Tensor
        A number in [0, 1].
    """
    both = (probability * wanted).sum()
    return 1 - (2 * both + _SMOOTH) / (probability.sum() + wanted.sum() + _SMOOTH)
