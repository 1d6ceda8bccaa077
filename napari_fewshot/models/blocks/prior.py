"""Where on a query something like the class is likely (Tian et al., TPAMI 2020, eqs. 1 to 5)."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.blocks.nearest import nearest_cosine

_EPSILON: Final = 1e-7


def raw_prior(cells: Tensor, banks: Sequence[Tensor]) -> Tensor:
    """Largest cosine with any pixel of the class (eq. 3), averaged over the shots; nothing is normalised.

    Parameters
    ----------
    cells
        (D, ...) of the query.
    banks
        (M, D) of each shot: its pixels of the class, of length 1.

    Returns
    -------
    Tensor
        (...) in [-1, 1].
    """
    return torch.stack([nearest_cosine(cells, bank) for bank in banks]).mean(0)


def prior_map(cells: Tensor, banks: Sequence[Tensor], seen: tuple[int, int]) -> Tensor:
    """Compute the prior mask of the paper: stretched to [0, 1] for each shot (eq. 5), then averaged over the shots.

    It says where the class is most likely, not whether it is there at all: on a query without it some cell has 1 as
    well. For that see `raw_prior`.

    Parameters
    ----------
    cells
        (D, h, w) of the query.
    banks
        (M, D) of each shot: its pixels of the class, of length 1.
    seen
        Rows and columns of cells that are not padding: nothing else is stretched by.

    Returns
    -------
    Tensor
        (h, w) in [0, 1] where seen; 0 everywhere without any pixel of the class.
    """
    return stretched(torch.stack([nearest_cosine(cells, bank) for bank in banks]), seen)


def stretched(cosines: Tensor, seen: tuple[int, int]) -> Tensor:
    """Make the prior mask (h, w) of the largest cosines with each shot (K, h, w); see `prior_map`."""
    # Cells of the support outside of the mask are zero vectors (eq. 1), of cosine 0 with everything.
    best = cosines.clamp_min(0)
    shown = best[:, : seen[0], : seen[1]].flatten(1)
    lowest, highest = (v[:, None, None] for v in (shown.amin(1), shown.amax(1)))
    return ((best - lowest) / (highest - lowest + _EPSILON)).mean(0)  # eq. 5
