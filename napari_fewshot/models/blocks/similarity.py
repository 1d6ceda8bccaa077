"""Cosine similarity between cells and prototypes."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def cosine_map(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every cell with every prototype.

    Parameters
    ----------
    features
        (C, h, w).
    prototypes
        (M, C); a zero prototype has cosine 0 with everything.

    Returns
    -------
    Tensor
        (M, h, w) in [-1, 1].
    """
    cells = features.flatten(1)  # (C, h w)
    products = F.normalize(prototypes, dim=1, eps=1e-6) @ cells
    cosines = products / cells.square().sum(0).sqrt_().clamp_min_(1e-6)
    return cosines.view(len(prototypes), *features.shape[-2:])
