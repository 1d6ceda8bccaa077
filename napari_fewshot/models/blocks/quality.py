"""How good a proposal probably is, from its own probabilities."""

from typing import Final

from torch import Tensor

_PRIOR_AREA: Final = 1e-3
"""Share of the image that a confident "nothing here" is credited with."""


def expected_iou(probabilities: Tensor) -> float:
    """Expected IoU of the most probable labels, if the probabilities are right.

    For the mask M_c of class c, E[TP] = sum_M p_c, and TP + FP + FN = |M_c| + FN with E[FN] = sum_{not M} p_c.
    Their ratio is averaged over the classes, each weighted by the area at stake. A small credit stands on
    both sides, so that an image surely without the class scores 1 rather than 0 / 0.

    Parameters
    ----------
    probabilities
        (1 + C, H, W), background first.

    Returns
    -------
    float
        In [0, 1].
    """
    foreground = probabilities[1:].flatten(1)
    chosen = probabilities.flatten(1).argmax(0) - 1
    inside = foreground.new_zeros(foreground.shape).scatter_(
        0, chosen.clamp_min(0)[None], (chosen >= 0)[None].to(foreground.dtype)
    )
    credit = _PRIOR_AREA * foreground.shape[1]
    hit = (inside * foreground).sum(1)
    union = inside.sum(1) + ((1 - inside) * foreground).sum(1)
    return float(((hit + credit).sum() / (union + credit).sum()).clamp(0, 1))
