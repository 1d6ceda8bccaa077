"""Deep metric learning of objects: embedding, losses and head (Fathi et al., arXiv 1703.10277).

The head sees one pixel at a time, so what it learns from some pixels holds for all. Features of two cells that look the
same are the same, wherever these are: coordinates are added to the embedding, in radii of a usual object, so that
nothing depends on where in an image, or how large, something is.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.instances.embedding import TAUS
from napari_fewshot.instances.growing import reach_of
from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.resampling import sample
from napari_fewshot.models.blocks.standardise import standardisation

Embeds = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From features and places to vectors and logits, as `EmbeddingHead` does."""

_NEAREST = 1e-4  # squared: two objects on one spot would have an infinite loss
_GOOD = 0.5  # IoU of a mask that counts as its object
_FLOOR = 0.02  # see `pair_loss`


@dataclass(frozen=True)
class EmbeddingConfig:
    """Shape of the head.

    Attributes
    ----------
    channels
        Of the features of a pixel, all levels together.
    strides
        Of these levels, fine to coarse.
    width
        Of the hidden layers.
    dimensions
        D of the embedding.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 64
    dimensions: int = 16

    @classmethod
    def for_features(cls, channels: Mapping[int, int]) -> Self:
        """Make the one that is trained by default, for features of so many channels per stride."""
        return cls(sum(channels.values()), tuple(sorted(channels)))

    @classmethod
    def paper(cls) -> Self:
        """Make the one of the publication: 64 dimensions on the last block of a ResNet."""
        return cls(2048, (8,), 256, 64)


class EmbeddingHead(nn.Module):
    """From features of pixels to vectors, and how probable it is that what grows from each is an object.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = nn.Sequential(
            nn.Linear(config.channels, config.width), nn.GELU(), nn.Linear(config.width, config.width), nn.GELU()
        )
        self.vectors = nn.Linear(config.width, config.dimensions)
        self.places = nn.Linear(2, config.dimensions, bias=False)
        self.seeds = nn.Linear(config.width, len(TAUS))
        with torch.no_grad():
            self.places.weight.copy_(torch.eye(config.dimensions, 2))

    def forward(self, features: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Embed pixels.

        Parameters
        ----------
        features
            (N, C).
        places
            (N, 2) rows and columns, in radii of a usual object.

        Returns
        -------
        vectors : Tensor
            (N, D).
        logits : Tensor
            (N, T) of "its mask is an object", for each of `TAUS`.
        """
        hidden = self.trunk(features)
        return self.vectors(hidden) + self.places(places), self.seeds(hidden)


@dataclass(frozen=True, eq=False)
class PixelSample:
    """P pixels of one image.

    Attributes
    ----------
    features
        (P, C).
    places
        (P, 2) rows and columns, in radii of a usual object.
    ids
        (P,) int64 the object of each, 0 for background.
    shares
        (P,) for how many pixels each stands.
    """

    features: Tensor
    places: Tensor
    ids: Tensor
    shares: Tensor

    def only(self, kept: Tensor) -> "PixelSample":
        """Keep some of them."""
        return PixelSample(self.features[kept], self.places[kept], self.ids[kept], self.shares[kept])


def features_at(pyramid: FeaturePyramid, strides: tuple[int, ...], ys: Tensor, xs: Tensor) -> Tensor:
    """Return standardised features (N, C) of some pixels of an image or tile, levels one after the other."""
    found = []
    for level, values in pyramid.select(strides).features.items():
        scale, shift = standardisation(pyramid, level)
        found.append(sample(values, level, ys, xs, lambda cells: cells.float()) * scale + shift)
    return torch.cat(found, 1)


def squared_distances(vectors: Tensor) -> Tensor:
    """Return (N, N) squared distances of (N, D) vectors, 0 or more."""
    norms = vectors.square().sum(1)
    squared: Tensor = norms[:, None] + norms - 2 * vectors @ vectors.T
    return squared.clamp_min(0)


def pair_weights(ids: Tensor) -> Tensor:
    """Return (N, N) weights of pairs: inverse to the sizes of both objects, 1 in all.

    Pairs of one object have half of it, those of two objects, which are far more, the other half.
    """
    _, at, counts = ids.unique(return_inverse=True, return_counts=True)
    each = 1 / counts[at].to(torch.float32)
    weights = each[:, None] * each
    same = ids[:, None] == ids
    sides = [torch.where(side, weights, 0.0) for side in (same, ~same) if bool(side.any())]
    return torch.stack([side / side.sum() for side in sides]).mean(0)


def pair_loss(squared: Tensor, ids: Tensor, floor: float = 0.0) -> Tensor:
    """Logistic loss of pairs: those of one object shall be similar, those of two shall not.

    With s = 2 / (1 + exp(x)), log s = log 2 - softplus(x) and 1 - s = tanh(x / 2).

    Parameters
    ----------
    squared
        (N, N) squared distances x.
    ids
        (N,) the object of each pixel.
    floor
        In [0, 1): pairs of one object lose -log((1 - floor) s + floor). 0 is the publication's loss, which grows with x
        without end, so that the far ends of one object that is larger than the others count for more than all of these.
    """
    if not len(ids):
        return squared.sum()
    same = ids[:, None] == ids
    x = squared.clamp_min(_NEAREST)
    together = F.softplus(squared) - math.log(2.0)
    if floor:
        together = -torch.logaddexp(math.log(1 - floor) - together, together.new_tensor(math.log(floor)))
    apart = -torch.log(torch.tanh(x / 2))
    return (pair_weights(ids) * torch.where(same, together, apart)).sum()


def good_masks(squared: Tensor, ids: Tensor, shares: Tensor) -> Tensor:
    """Tell of which pixels the masks are their objects, (N, T) bool for each of `TAUS`: an IoU of 0.5 or more.

    Parameters
    ----------
    squared
        (N, N) squared distances.
    ids
        (N,) objects.
    shares
        (N,) for how many pixels each stands.
    """
    same = ids[:, None] == ids
    true = (same * shares).sum(1)
    found = []
    for tau in TAUS:
        mask = squared <= reach_of(tau)
        common = (mask & same) * shares
        union = true + ((mask & ~same) * shares).sum(1)
        found.append(common.sum(1) >= _GOOD * union)
    return torch.stack(found, 1)


def embedding_losses(
    head: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], pixels: PixelSample, weight: float = 0.2
) -> dict[str, Tensor]:
    """Return the losses of pixels of one image, to be added up.

    Parameters
    ----------
    head
        What learns.
    pixels
        Of objects, and of background, where no mask is good.
    weight
        Of what is learnt of seeds.
    """
    vectors, logits = head(pixels.features, pixels.places)
    own = pixels.ids > 0
    squared = squared_distances(vectors[own])
    wanted = torch.zeros_like(logits)
    wanted[own] = good_masks(squared.detach(), pixels.ids[own], pixels.shares[own]).to(logits.dtype)
    sides = [F.binary_cross_entropy_with_logits(logits[s], wanted[s]) for s in (own, ~own) if bool(s.any())]
    seeds = torch.stack(sides).mean() if sides else logits.sum()
    return {"pairs": pair_loss(squared, pixels.ids[own], _FLOOR), "seeds": weight * seeds}
