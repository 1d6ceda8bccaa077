"""Memory of meta-classes (Wu et al., ICCV 2021): what places are made of, in words that all classes share."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_AT_ONCE: Final = 1 << 20
"""Cosines between query and shot that are held at once."""


class MetaClassMemory(nn.Module):
    """N embeddings, which tell of every cell how much of each meta-class there is (section 3.1).

    Parameters
    ----------
    channels
        Features of a cell.
    width
        D, of the embeddings.
    classes
        N, how many.
    """

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels, width, 3, padding=1)
        self.embeddings = nn.Parameter(torch.randn(classes, width))

    def forward(self, cells: Tensor) -> Tensor:
        """Return activations (N, h, w) in (0, 1) of features (channels, h, w) (eq. 1)."""
        features = self.features(cells[None])[0]  # F, (D, h, w)
        return torch.einsum("dhw,nd->nhw", features, self.embeddings).sigmoid()

    def reconstruction_loss(self, activations: Tensor, sharpness: float = 1.0) -> Tensor:
        """Say how badly cells (N, M) are told from each other by what the memory makes of them (eqs. 10 to 12).

        In [0, inf); log M where all embeddings are the same. Activations are multiplied by ``sharpness`` (1 in the
        paper): as they lie between 0 and 1, no softmax of them as such selects any.
        """
        shares = (sharpness * activations).softmax(0)  # eq. 10
        rebuilt = self.embeddings.T @ shares  # eq. 11, (D, M)
        alike = rebuilt.T @ rebuilt  # eq. 12, (M, M)
        return F.cross_entropy(alike, torch.arange(len(alike), device=alike.device))


def propagated(query: Tensor, shot: Tensor, shares: Tensor, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Carry the mask of a shot to a query (section 3.2: APM), and judge the shot (section 3.5: QMM).

    Parameters
    ----------
    query
        (N, Q) activations of its cells.
    shot
        (N, S) activations of the cells that show the class.
    shares
        (S,) in (0, 1], how much of each of these is painted; the paper knows 1 only.
    sharpness
        What cosines are multiplied by; 1 in the paper.

    Returns
    -------
    found : Tensor
        (N, Q) v_q, what the shot holds that is like each cell (eqs. 2 to 4).
    quality
        (Q,) how much the shot has to say of each cell (eq. 9): the mean, not the sum, which would grow with the mask.
    """
    nodes = F.normalize(shot, dim=0)
    found, quality = [], []
    for some in query.split(max(1, _AT_ONCE // shot.shape[1]), 1):
        e = F.normalize(some, dim=0).T @ nodes  # eq. 2, (q, S)
        weights = (sharpness * e + shares.log()).softmax(1)  # eq. 3; minus infinity where nothing is painted
        found.append(shot @ weights.T)  # eq. 4
        quality.append((e.sigmoid() @ shares) / shares.sum())
    return torch.cat(found, 1), torch.cat(quality)
