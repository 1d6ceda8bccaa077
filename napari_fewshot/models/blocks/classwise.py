"""From binary scores to classes, and from logits on cells to probabilities on pixels."""

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.blocks.resampling import upsample


def safe_logit(p: Tensor) -> Tensor:
    """log p - log(1 - p), with p kept within [1e-6, 1 - 1e-6]."""
    p = p.clamp(1e-6, 1 - 1e-6)
    return p.log() - (-p).log1p()


def one_vs_rest(foreground: Tensor) -> Tensor:
    """Give natively binary methods C classes: softmax([0, logit p_1 .. logit p_C]).

    Parameters
    ----------
    foreground
        (C, ...) probability of each class against everything else.

    Returns
    -------
    Tensor
        (1 + C, ...) summing to 1; [1 - p, p] for one class; background wins where every p is below one half.
    """
    logits = safe_logit(foreground)
    return torch.cat([torch.zeros_like(logits[:1]), logits]).softmax(0)


def probabilities(logits: Tensor, level: Level, size: tuple[int, int]) -> Tensor:
    """Upsample logits (1 + C, h, w), then softmax: (1 + C, H, W). Interpolating probabilities would blur them."""
    return upsample(logits, level, size).softmax(0)
