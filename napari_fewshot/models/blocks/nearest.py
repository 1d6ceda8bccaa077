"""Cosine with the nearest of many: dense correlation, never held whole."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_HELD: Final = 1 << 22
"""Cosines that are held at once."""


def nearest_cosine(cells: Tensor, bank: Tensor, nearest: int = 1) -> Tensor:
    """Average cosine of each cell with the nearest of a bank.

    Parameters
    ----------
    cells
        (D, ...).
    bank
        (M, D) of length 1, or 0.
    nearest
        How many; all where the bank has no more. For 1 this is the largest cosine (PFENet, eq. 3).

    Returns
    -------
    Tensor
        (...) in [-1, 1]; 0 for an empty bank.
    """
    flat = cells.flatten(1)  # (D, N)
    if len(bank) == 0:
        return torch.zeros_like(flat[0]).view(cells.shape[1:])
    best = []
    for some in flat.split(max(1, _HELD // len(bank)), 1):
        cosines = bank.to(some.dtype) @ F.normalize(some, dim=0, eps=1e-6)  # (M, n)
        best.append(cosines.amax(0) if nearest == 1 else cosines.topk(min(nearest, len(bank)), 0).values.mean(0))
    return torch.cat(best).view(cells.shape[1:])
