"""Mask matching of MM-Former (Jiao et al., NeurIPS 2022, section 2.3): support and query are aligned, then compared.

What is compared are masks and not cells: the class as it is painted on a shot, and N proposals for the query.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_SHORT: Final = 15
"""Cells of the shorter side of a map that attention looks at."""

_LONGER: Final = 2
"""How much longer the other side may be."""

_SMALLEST: Final = 1e-4
"""Similarities, stretched to [0, 1], are kept so far away from both ends in the loss."""


def self_aligned(features: Tensor) -> Tensor:
    """Weigh every channel (D, h, w) by how well it goes with the mean of all, a number in (0, 1).

    A = F F_avg^T as the paper has it grows with the size of the map; bounded as in the authors' code: the mean is a
    softmax over cells, the weight a sigmoid.
    """
    flat = features.flatten(1)  # (D, h w)
    anchor = flat.mean(0).softmax(0)
    gate = (flat @ anchor).sigmoid()
    return features * gate[:, None, None]


def thinned(features: Tensor) -> Tensor:
    """Average a map (1, D, h, w) down to what attention looks at; smaller ones stay as they are."""
    height, width = features.shape[-2:]
    shrink = min(1.0, _SHORT / min(height, width))
    tall, wide = (max(1, min(round(side * shrink), _LONGER * _SHORT)) for side in (height, width))
    return (
        features
        if shrink == 1 and max(height, width) <= _LONGER * _SHORT
        else F.adaptive_avg_pool2d(features, (tall, wide))
    )


class CrossAttention(nn.Module):
    """A layer of a transformer decoder without attention to itself: look at the other map, then feed forward."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.look = nn.MultiheadAttention(width, heads, batch_first=True)
        self.forth = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Align maps (1, D, h, w) with others (1, D, h', w')."""
        tokens, seen = (x.flatten(2).transpose(1, 2) for x in (one, thinned(other)))
        tokens = self.norms[0](tokens + self.look(tokens, seen, seen, need_weights=False)[0])
        tokens = self.norms[1](tokens + self.forth(tokens))
        aligned: Tensor = tokens.transpose(1, 2).view_as(one)
        return aligned


class CrossAlignment(nn.Module):
    """Layers that query and support go through side by side, with the same weights (eq. 2)."""

    def __init__(self, channels: int, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.layers = nn.ModuleList(CrossAttention(width, heads, hidden) for _ in range(layers))

    def forward(self, query: Tensor, support: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Align a query (D, h, w) and a shot (D, h', w') of which (h', w') is of the class: (width, ...) of both."""
        q, s = self.reduce(query[None]), self.reduce(support[None]) * share
        for layer in self.layers:
            q, s = layer(q, s), layer(s, q)
        return q[0], s[0]


class FeatureAlignment(nn.Module):
    """Self- and cross-alignment of every level, and the prototypes of masks on all of them together.

    Parameters
    ----------
    channels
        Of each level; maps have them one after the other.
    width, heads, hidden, layers
        Of cross-alignment.
    """

    def __init__(self, channels: Sequence[int], width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.levels = nn.ModuleList(CrossAlignment(c, width, heads, hidden, layers) for c in channels)

    def forward(self, query: Tensor, masks: Tensor, support: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Align, then pool.

        Parameters
        ----------
        query, masks
            (D, h, w), and (N, h, w) weights of proposals.
        support, share
            (D, h', w'), and (h', w') how much is of the class.

        Returns
        -------
        proposed : Tensor
            (N, levels * width) prototypes of the proposals; zero for an empty one.
        wanted : Tensor
            (levels * width,) of the class.
        """
        proposed, wanted = [], []
        parts = zip(query.split(self.channels), support.split(self.channels), self.levels, strict=True)
        for q, s, align in parts:
            q, s = align(self_aligned(q), self_aligned(s), share)
            proposed.append(pooled(q, masks))
            wanted.append(pooled(s, share[None])[0])
        return torch.cat(proposed, 1), torch.cat(wanted)


def pooled(features: Tensor, masks: Tensor) -> Tensor:
    """Masked average pooling: (N, D) of features (D, h, w) under weights (N, h, w); zero for an empty mask."""
    flat = masks.flatten(1)
    means: Tensor = flat @ features.flatten(1).T / flat.sum(1, keepdim=True).clamp_min(1e-6)
    return means


def stretched_to_one(similarities: Tensor) -> Tensor:
    """Stretch (N,) to [0, 1]."""
    low, high = similarities.aminmax()
    return (similarities - low) / (high - low + 1e-6)


def contrastive_loss(similarities: Tensor, masks: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """L_co: the proposal with the best IoU should be the most similar, that with the worst the least (eq. 5).

    Parameters
    ----------
    similarities
        (N,) S.
    masks
        (N, h, w) in [0, 1].
    wanted, known
        (h, w) what is to be found, in [0, 1], and how much each cell counts.
    """
    both = ((masks * wanted) * known).sum((1, 2))
    either = ((masks + wanted - masks * wanted) * known).sum((1, 2))
    ious = both / either.clamp_min(1e-6)
    stretched = stretched_to_one(similarities).clamp(_SMALLEST, 1 - _SMALLEST)
    return -(stretched[ious.argmax()].log() + (1 - stretched[ious.argmin()]).log()) / 2


def blended(masks: Tensor, answers: Tensor, trust: Tensor, cells: Tensor, alone: float = 1.0) -> Tensor:
    """Average what a cell says alone and what the proposals that cover it say: (h, w), within their range.

    Parameters
    ----------
    masks
        (N, h, w) in [0, 1].
    answers
        (N,) of the proposals.
    trust
        (N,) how much each counts where it covers a cell, >= 0.
    cells
        (h, w) of every cell alone.
    alone
        How much that counts, > 0.
    """
    weighted = masks.flatten(1).T @ torch.stack([trust * answers, trust], 1)  # (h w, 2)
    mixed: Tensor = (alone * cells + weighted[:, 0].view_as(cells)) / (alone + weighted[:, 1].view_as(cells))
    return mixed
