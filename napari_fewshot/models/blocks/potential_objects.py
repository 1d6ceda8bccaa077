"""Potential objects segmenter of MM-Former (Jiao et al., NeurIPS 2022, section 2.2), and what it is trained with.

A transformer decoder without a classifier (Mask2Former; Cheng et al., CVPR 2022): N learnt embeddings look at an image,
level by level, and each ends as a mask of something that may be an object, of whatever class.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.blocks.layers import conv
from napari_fewshot.models.blocks.resampling import to_cells
from napari_fewshot.support import UNLABELLED

_WEIGHT: Final = 5.0
"""Of cross-entropy and of Dice alike, as in Mask2Former: in the costs of matching and in the losses."""

_PARTS: Final = 12
"""Separate pieces of labels, the largest of an image, that are objects by themselves in training."""

_CERTAIN: Final = 0.0
"""Logit above which a cell belongs to the mask that the next layer looks at."""


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward (eq. 1), each added and normalised."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.within = nn.MultiheadAttention(width, heads, batch_first=True)
        self.forth = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, found: Tensor, places: Tensor, memory: Tensor, positions: Tensor, hidden: Tensor) -> Tensor:
        """Update embeddings (1, N, width) from an image.

        Parameters
        ----------
        found, places
            (1, N, width) embeddings, and what tells them apart.
        memory, positions
            (1, M, width) features of the image, and where they are.
        hidden
            (N, M) whether an embedding must not look there.
        """
        asked = found + places
        seen = self.cross(asked, memory + positions, memory, attn_mask=hidden, need_weights=False)[0]
        found = self.norms[0](found + seen)
        asked = found + places
        found = self.norms[1](found + self.within(asked, asked, found, need_weights=False)[0])
        updated: Tensor = self.norms[2](found + self.forth(found))
        return updated


class PotentialObjects(nn.Module):
    """N masks of whatever may be an object.

    Parameters
    ----------
    channels
        Of what masks are made from: all levels on the cells of the finest.
    memory
        Channels of each level that embeddings look at, coarse ones first.
    width
        Of embeddings.
    number
        N.
    heads, hidden
        Of attention, and width between the two layers of the feed-forward part.
    rounds
        How often all levels are gone through.
    """

    def __init__(
        self, channels: int, memory: Sequence[int], width: int, number: int, heads: int, hidden: int, rounds: int
    ) -> None:
        super().__init__()
        self.pixels = nn.Sequential(*conv(channels, width, 1, norm=True), *conv(width, width, norm=True))
        self.project = nn.Conv2d(width, width, 1)
        self.memory = nn.ModuleList(nn.Conv2d(c, width, 1) for c in memory)
        self.levels = nn.Parameter(torch.randn(len(memory), width))
        self.embeddings = nn.Parameter(torch.randn(number, width))
        self.places = nn.Parameter(torch.randn(number, width))
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(rounds * len(memory)))
        self.norm = nn.LayerNorm(width)
        self.mask = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, cells: Tensor, memory: Sequence[Tensor]) -> list[Tensor]:
        """Propose masks for an image.

        Parameters
        ----------
        cells
            (D, h, w) all levels on the cells of the finest.
        memory
            (D_l, h_l, w_l) of each level.

        Returns
        -------
        list
            Logits (N, h, w) before the first layer and after each; the last ones are the answer.
        """
        pixels = self.project(self.pixels(cells[None]))[0]
        tokens, positions, sizes = [], [], []
        for features, project, kind in zip(memory, self.memory, self.levels, strict=True):
            tokens.append(project(features[None]).flatten(2).transpose(1, 2) + kind)
            positions.append(sine_positions(features.shape[-2:], kind.shape[0]).to(features)[None])
            sizes.append(features.shape[-2:])
        found, places = self.embeddings[None], self.places[None]
        masks = [self._masks(found, pixels)]
        for i, layer in enumerate(self.layers):
            at = i % len(tokens)
            found = layer(found, places, tokens[at], positions[at], out_of_sight(masks[-1], sizes[at]))
            masks.append(self._masks(found, pixels))
        return masks

    def _masks(self, found: Tensor, pixels: Tensor) -> Tensor:
        """Logits (N, h, w): every cell times every embedding."""
        return torch.einsum("nd,dhw->nhw", self.mask(self.norm(found[0])), pixels)


def out_of_sight(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Where embeddings must not look (N, h w): outside of their masks; one whose mask is empty may look everywhere."""
    there = F.adaptive_avg_pool2d(masks.detach(), (size[0], size[1])) if masks.shape[-2:] != tuple(size) else masks
    hidden = there.detach().flatten(1) < _CERTAIN
    return hidden & ~hidden.all(1, keepdim=True)


def sine_positions(size: Sequence[int], width: int) -> Tensor:
    """Waves of row and column (h w, width), as shares of the map (DETR): half of them for each, sine and cosine."""
    quarter = -(-width // 4)
    lengths = 10000 ** (torch.arange(quarter) / quarter)
    waves = []
    for side in size:
        phase = 2 * math.pi * (torch.arange(side) + 0.5)[:, None] / side / lengths  # (side, quarter)
        waves.append(torch.cat([phase.sin(), phase.cos()], 1))
    rows = waves[0][:, None].expand(-1, size[1], -1)
    columns = waves[1][None].expand(size[0], -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)[:, :width]


def objects_of(labels: Tensor, level: Level, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What is to be found on a labelled image: every label as a whole, and its largest separate pieces.

    Parameters
    ----------
    labels
        (H, W) int64, 255 where nothing is known.
    level, cells
        Where the masks lie.

    Returns
    -------
    objects : Tensor
        (M, h, w) shares of each cell, in [0, 1].
    known : Tensor
        (h, w) how many pixels of each are labelled.
    """
    values = [int(v) for v in labels.unique() if v != UNLABELLED]
    regions = [labels == value for value in values]
    pieces = [piece for region in regions for piece in _pieces(region)]
    pieces = sorted(pieces, key=lambda piece: -int(piece.sum()))[:_PARTS]
    weights = to_cells(torch.stack([labels != UNLABELLED, *regions, *pieces]).float(), level, cells)
    return weights[1:] / weights[0].clamp_min(1e-6), weights[0]


def _pieces(region: Tensor) -> list[Tensor]:
    """Pieces of a region that do not touch; none where it is a single one."""
    numbered, count = label(region.cpu().numpy())
    if count < 2:
        return []
    pieces = torch.from_numpy(numbered).to(region.device)
    largest = pieces.flatten().bincount()[1:].topk(min(count, _PARTS)).indices + 1
    return [pieces == number for number in largest]


def costs(logits: Tensor, objects: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (N, M) and Dice loss (N, M) of every mask with every object.

    Parameters
    ----------
    logits
        (N, h, w).
    objects
        (M, h, w) in [0, 1].
    known
        (h, w) how much each cell counts.
    """
    x, t, k = logits.flatten(1), objects.flatten(1), known.flatten()
    total = k.sum().clamp_min(1e-6)
    entropy = ((F.softplus(x) @ k)[:, None] - (x * k) @ t.T) / total
    p = x.sigmoid()
    both, masses = (p * k) @ t.T, (p @ k)[:, None] + t @ k
    return entropy, 1 - (2 * both + 1) / (masses + 1)


def assigned(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest assignment (Hungarian algorithm) of costs (N, M): rows and columns, min(N, M) of each."""
    rows, columns = linear_sum_assignment(cost.detach().cpu().double().numpy())
    return torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device)


def proposal_losses(predictions: Sequence[Tensor], objects: Tensor, known: Tensor) -> dict[str, Tensor]:
    """L_P: of each layer every object is given to one mask, and only these masks learn from it.

    Parameters
    ----------
    predictions
        Logits (N, h, w) of each layer.
    objects, known
        As `objects_of` tells.

    Returns
    -------
    dict
        Mean over objects and layers of cross-entropy and Dice, weighted; 0 where there is no object.
    """
    entropies, dices = [], []
    for logits in predictions:
        entropy, dice = costs(logits, objects, known)
        chosen, most = assigned(_WEIGHT * (entropy + dice)), max(1, len(objects))
        entropies.append(entropy[chosen].sum() / most)
        dices.append(dice[chosen].sum() / most)
    return {
        "mask": _WEIGHT * torch.stack(entropies).mean(),
        "mask dice": _WEIGHT * torch.stack(dices).mean(),
    }
