"""Cosine similarity between cells and prototypes."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def cosine_map(features: Tensor, prototypes: Tensor, relevance: Tensor | None = None) -> Tensor:
    """Cosine of every cell with every prototype.

    Parameters
    ----------
    features
        (C, h, w), or (C, N).
    prototypes
        (M, C); a zero prototype has cosine 0 with everything.
    relevance
        (C,), or (M, C) for each prototype its own: how much each feature counts, on both sides (eq. 6 of FWB). Neither
        sign nor length of it matter. None: all alike.

    Returns
    -------
    Tensor
        (M, h, w), or (M, N), in [-1, 1].
    """
    cells = features.flatten(1)  # (C, h w)
    if relevance is None:
        products = F.normalize(prototypes, dim=1, eps=1e-6) @ cells
        lengths = cells.square().sum(0)
    else:
        weights = F.normalize(relevance, dim=-1)
        products = (F.normalize(prototypes * weights, dim=1, eps=1e-6) * weights) @ cells
        lengths = weights.square() @ cells.square()
    cosines = products / lengths.sqrt().clamp_min(1e-6)
    return cosines.view(len(prototypes), *features.shape[1:])
