"""One rule that makes a multi-class answer of several binary ones."""

import torch
from torch import Tensor


def safe_logit(p: Tensor) -> Tensor:
    """log p - log(1 - p), finite for probabilities of 0 and 1 as well."""
    p = p.clamp(1e-6, 1 - 1e-6)
    return p.log() - (-p).log1p()


def one_vs_rest(logits: Tensor) -> Tensor:
    """Put the logit 0 of the background before the logits of the classes.

    The softmax of what comes out sums to 1, is [1 - p, p] for one class, and prefers the background wherever no class
    has a probability of a half.

    Parameters
    ----------
    logits
        (C, ...) of "this class, and not anything else", each answered alone: `safe_logit` of its probability.

    Returns
    -------
    Tensor
        (1 + C, ...).
    """
    return torch.cat([torch.zeros_like(logits[:1]), logits])
