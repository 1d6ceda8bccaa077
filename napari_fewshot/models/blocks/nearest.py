"""Cosine with the nearest of many: dense correlation, never held whole."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_HELD: Final = {"cpu": 1 << 18}
"""Cosines that are held at once, by kind of device: few enough to stay in the cache of a processor."""

_HELD_ELSEWHERE: Final = 1 << 22


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
    held = _HELD.get(flat.device.type, _HELD_ELSEWHERE)
    pixels, best = bank.to(flat.dtype).T, []
    for some in flat.split(max(1, held // len(bank)), 1):
        cosines = F.normalize(some, dim=0, eps=1e-6).T @ pixels  # (n, M)
        best.append(cosines.amax(1) if nearest == 1 else cosines.topk(min(nearest, len(bank)), 1).values.mean(1))
    return torch.cat(best).view(cells.shape[1:])
