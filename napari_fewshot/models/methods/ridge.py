"""Ridge regression onto one-hot labels, in closed form, on standardised multi-level features.

W = (X^T D X + lambda I)^-1 X^T D Y, with D such that every label weighs the same, however few its pixels. All
that is needed of a shot are n, sum x and sum x x^T over the pixels of each label: learning from one more
shot, or one less, is exact and costs that shot only.

With *lifted* levels, features are joined by random features of them, and the classifier may bend (Rahimi & Recht,
2007).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.levels import LiftedLevels
from napari_fewshot.models.blocks.pixels import choose_pixels
from napari_fewshot.models.devices import widest_float
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

_PIXELS_PER_LABEL: Final = 4000
"""Pixels looked at per label and shot; more change little and cost time."""

_BLOCK: Final = 256
"""Columns of x^T x that are computed at once."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the pixels of one label of one shot; the last entry of x is the constant 1.

    Attributes
    ----------
    pixels
        n, the pixels looked at.
    area
        Pixels that have this label; 0 on a partly labelled shot, where painted areas say nothing.
    sums
        (D,) sum of x, float64 on devices that have it.
    products
        (D, D) sum of x x^T.
    """

    pixels: int
    area: int
    sums: Tensor
    products: Tensor

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.pixels + other.pixels,
            self.area + other.area,
            self.sums + other.sums,
            self.products + other.products,
        )


ShotMoments = Mapping[int, Moments]


@dataclass(frozen=True, eq=False)
class RidgeWeights:
    """Logits are ``sharpness * x W + offset``.

    Attributes
    ----------
    weights
        (D, 1 + C).
    offset
        (1 + C,) from the share of the area that each label has.
    """

    weights: Tensor
    offset: Tensor


class Ridge(AdditiveMethod[ShotMoments, RidgeWeights]):
    """Multi-class classifier in closed form.

    Parameters
    ----------
    shrinkage
        lambda, for features of unit variance and weights D that sum to 1.
    sharpness
        tau: probabilities are softmax(tau W^T x + offset).
    prior
        Between 0, every label as likely as any other, and 1, as likely as its share of the taught area.
    levels
        Which features there are of a pixel.
    """

    name = "ridge"

    def __init__(
        self,
        shrinkage: float = 1e-2,
        sharpness: float = 8.0,
        prior: float = 0.5,
        levels: LiftedLevels | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.sharpness = sharpness
        self.prior = prior
        self.levels = LiftedLevels() if levels is None else levels

    def summarise(self, shot: SupportFeatures) -> ShotMoments:
        """Sum up the pixels of every label of a shot."""
        moments: dict[int, Moments] = {}
        for pyramid, labels in shot.parts():
            for value, (ys, xs) in choose_pixels(labels, _PIXELS_PER_LABEL).items():
                features = self.levels.sample(pyramid, ys, xs)
                x = torch.cat([features, torch.ones_like(features[:, :1])], 1)  # (N, D)
                area = int((labels == value).sum()) if shot.is_dense else 0
                part = Moments(len(x), area, x.to(widest_float(x.device)).sum(0), _gram(x))
                moments[value] = moments[value] + part if value in moments else part
        return moments

    def combine(self, summaries: Sequence[ShotMoments], class_ids: tuple[int, ...]) -> RidgeWeights:
        """Solve for everything that was taught."""
        pooled = [[shot[v] for shot in summaries if v in shot] for v in with_background(class_ids)]
        present = sum(1 for parts in pooled if parts)
        some = next(parts[0] for parts in pooled if parts)
        like = some.sums.cpu().double()  # the system is small, and not every device has double precision to solve it in
        gram = like.new_zeros((len(like), len(like)))  # X^T D X
        targets = like.new_zeros((len(like), len(pooled)))  # X^T D Y
        for column, parts in enumerate(pooled):
            weight = 1 / (present * max(1, sum(m.pixels for m in parts)))  # D of this label
            for m in parts:
                gram += weight * m.products.cpu()
                targets[:, column] += weight * m.sums.cpu()
        penalty = torch.full_like(like, self.shrinkage)
        penalty[-1] = 0  # the constant is not shrunk
        weights = torch.linalg.solve(gram + penalty.diag(), targets)
        device = some.sums.device
        return RidgeWeights(weights.float().to(device), self.prior * _log_shares(pooled).to(device))

    def predict(self, state: AdditiveState[ShotMoments, RidgeWeights], query: FeaturePyramid) -> Tensor:
        """Apply W to every level at its own stride, up(W F) = W up(F), and add up."""
        weights = state.solution.weights
        offset = self.sharpness * weights[-1] + state.solution.offset
        return self.levels.apply(query, self.sharpness * weights[:-1]).add_(offset[:, None, None]).softmax(0)


def _gram(x: Tensor) -> Tensor:
    """Compute x^T x of (N, D); it is symmetric, so the blocks below the diagonal are copied from those above."""
    products = x.new_empty((x.shape[1], x.shape[1]))
    for start in range(0, x.shape[1], _BLOCK):
        end = start + _BLOCK
        products[start:end, start:] = x[:, start:end].T @ x[:, start:]
        products[end:, start:end] = products[start:end, end:].T
    return products


def _log_shares(pooled: Sequence[Sequence[Moments]]) -> Tensor:
    """Log of each label's share of the area of fully labelled shots, the largest 0; all 0 without such shots."""
    areas = torch.tensor([float(sum(m.area for m in parts)) for parts in pooled])
    if areas.sum() == 0:
        return areas
    return (areas.clamp_min(1) / areas.max()).log()


def make(backbone: Backbone) -> Ridge:
    """Use every level of the backbone."""
    return Ridge()
