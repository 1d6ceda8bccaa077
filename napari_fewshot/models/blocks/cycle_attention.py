"""Attention of a cycle-consistent transformer (Zhang et al., NeurIPS 2021, sections 3.2 and 3.3)."""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_NEVER: Final = -1e4
"""In place of minus infinity: where no token is consistent, all count as they would without the bias."""

_DROPOUT: Final = 0.1


def cycle_bias(affinity: Tensor, labels: Tensor) -> Tensor:
    """Find the tokens that do not lead back to their own label (eqs. 3 and 4).

    Parameters
    ----------
    affinity
        (heads, N, M) of places of the query with tokens of the shots.
    labels
        (M,) of the tokens.

    Returns
    -------
    Tensor
        (heads, 1, M): 0 where the token that is most like the place that is most like token j has the label of j, a
        large negative number elsewhere.
    """
    there = affinity.argmax(1)  # i*, (heads, M)
    back = affinity.argmax(2).gather(1, there)  # j*
    return torch.where(labels[back] == labels, 0.0, _NEVER).to(affinity.dtype)[:, None]


class CycleAttention(nn.Module):
    """Attention of a query to tokens of the shots, without those that are inconsistent (eqs. 2 and 5).

    Parameters
    ----------
    width
        Channels; a multiple of ``heads``.
    heads
        Each has its own affinity, and so its own bias.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.join = nn.Linear(width, width)

    def forward(self, query: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        """Gather for each place (N, width) what it is told by tokens (M, width) with labels (M,)."""
        q, k, v = (
            layer(x).unflatten(1, (self.heads, -1)).transpose(0, 1)  # (heads, N or M, width / heads)
            for layer, x in ((self.query, query), (self.key, tokens), (self.value, tokens))
        )
        affinity = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])  # A, (heads, N, M)
        weights = (affinity + cycle_bias(affinity.detach(), labels)).softmax(2)
        gathered = F.dropout(weights, _DROPOUT, self.training) @ v
        joined: Tensor = self.join(gathered.transpose(0, 1).flatten(1))
        return joined


class PredictedAttention(nn.Module):
    """Attention within a query to a few places that every place chooses itself (eq. 6).

    Parameters
    ----------
    width
        Channels; a multiple of 4 and of ``heads``.
    heads
        Each chooses its own places; at first all around, head by head in another direction.
    points
        P, how many places.
    """

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.offsets = nn.Linear(width, heads * points * 2)  # f
        self.weights = nn.Linear(width, heads * points)  # g
        self.value, self.join = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        nn.init.normal_(self.offsets.weight, std=0.01)
        with torch.no_grad():
            self.offsets.bias.copy_(_all_around(heads, points).flatten())

    def forward(self, maps: Tensor) -> Tensor:
        """Gather within a map (width, h, w); the same shape."""
        _, height, width = maps.shape
        query = maps.flatten(1).T  # (h w, width)
        told = query + positions(height, width, query.shape[1]).to(query)
        offsets = self.offsets(told).view(-1, self.heads, self.points, 2)  # in cells: rows, columns
        weights = self.weights(told).view(-1, self.heads, self.points).softmax(2)
        values = self.value(query).T.view(self.heads, -1, height, width)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        here = torch.stack([rows, columns], 2).view(-1, 1, 1, 2).to(query)
        found = _at(values, (here + offsets).transpose(0, 1))  # (heads, width / heads, h w, P)
        gathered = torch.einsum("hcnp,nhp->nhc", found, F.dropout(weights, _DROPOUT, self.training))
        joined: Tensor = self.join(gathered.flatten(1))
        return joined.T.reshape(maps.shape)


def _all_around(heads: int, points: int) -> Tensor:
    """Directions of heads, evenly around, at distances of the points: (heads, points, 2)."""
    angles = torch.arange(heads) * (2 * math.pi / heads)
    directions = torch.stack([angles.sin(), angles.cos()], 1)
    return directions[:, None] * torch.arange(points)[None, :, None]  # the first stays where it is


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Interpolate maps (B, C, h, w) at places (B, N, P, 2) in cells: (B, C, N, P). Outside is what is at the border."""
    size = torch.tensor(values.shape[-2:]).to(places)
    scaled = (2 * places + 1) / size - 1
    return F.grid_sample(values, scaled.flip(-1), mode="bilinear", padding_mode="border", align_corners=False)


def positions(height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines of rows and columns (h w, channels), as in "Attention is all you need", for each half."""
    quarter = channels // 4
    rates = 1e4 ** (-torch.arange(quarter) / quarter)
    parts: Sequence[Tensor] = [torch.arange(side)[:, None] * rates for side in (height, width)]
    rows, columns = (torch.cat([angles.sin(), angles.cos()], 1) for angles in parts)
    both = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
    return torch.cat(both, 2).flatten(0, 1)
