"""Ridge regression onto one-hot labels, in closed form, on standardised multi-level features (recipe R1).

W = (X^T D X + lambda I)^-1 X^T D Y, with D such that every class weighs the same, however few its pixels. All
that is needed of a shot are the sums n_c, sum x and sum x x^T over its pixels of each class c: learning from
one more shot, or one less, is exact and costs that shot only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.pixels import choose_pixels
from napari_fewshot.models.blocks.resampling import sample, upsample
from napari_fewshot.models.blocks.standardise import standardise
from napari_fewshot.models.methods.base import (
    AdditiveMethod,
    AdditiveState,
    SupportFeatures,
    with_background,
)

PIXELS_PER_LABEL: Final = 4000
"""Pixels that are looked at per label and shot; more change little and cost time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the pixels of one label of one shot; the last feature is the constant 1.

    Attributes
    ----------
    count
        n, pixels looked at.
    sums
        (D + 1,) sum of x.
    products
        (D + 1, D + 1) sum of x x^T.
    """

    count: int
    sums: Tensor
    products: Tensor


ShotMoments = Mapping[int, Moments]


class Ridge(AdditiveMethod[ShotMoments, Tensor]):
    """Linear classifier in closed form.

    Parameters
    ----------
    shrinkage
        lambda, relative to features of unit variance and a total weight of one.
    sharpness
        tau: probabilities are softmax(tau W^T x).
    """

    name = "ridge"

    def __init__(self, shrinkage: float = 1e-2, sharpness: float = 8.0) -> None:
        self.shrinkage = shrinkage
        self.sharpness = sharpness

    def summarise(self, shot: SupportFeatures) -> ShotMoments:
        """Sum up the pixels of every label of a shot."""
        pyramid = standardise(shot.pyramid())
        moments = {}
        for value, (ys, xs) in choose_pixels(shot.labels, PIXELS_PER_LABEL).items():
            x = torch.cat([sample(f, level, ys, xs) for level, f in pyramid.features.items()], 1)  # (N, D)
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            moments[value] = Moments(len(x), x.sum(0), x.T @ x)
        return moments

    def combine(self, summaries: Sequence[ShotMoments], class_ids: tuple[int, ...]) -> Tensor:
        """Solve for W (D + 1, 1 + C)."""
        values = with_background(class_ids)
        pooled = [[shot[v] for shot in summaries if v in shot] for v in values]
        present = [parts for parts in pooled if parts]
        gram = sum(
            sum((m.products for m in parts), torch.tensor(0.0)).double() / (sum(m.count for m in parts) * len(present))
            for parts in present
        )
        assert isinstance(gram, Tensor)
        targets = torch.zeros((len(gram), len(values)), dtype=gram.dtype, device=gram.device)
        for column, parts in enumerate(pooled):
            if parts:
                weight = sum(m.count for m in parts) * len(present)
                targets[:, column] = torch.stack([m.sums.double() for m in parts]).sum(0) / weight
        penalty = torch.full((len(gram),), self.shrinkage, dtype=gram.dtype, device=gram.device)
        penalty[-1] = 0  # the constant is not shrunk
        return torch.linalg.solve(gram + penalty.diag(), targets).float()

    def predict(self, state: AdditiveState[ShotMoments, Tensor], query: FeaturePyramid) -> Tensor:
        """Apply W level by level, each at its own stride: up(W F) = W up(F)."""
        weights = state.solution
        logits = weights[-1][:, None, None]
        at = 0
        for level, features in standardise(query).features.items():
            part = weights[at : at + len(features)]
            at += len(features)
            mixed = torch.einsum("dk,dhw->khw", part, features)
            logits = logits + upsample(mixed, level, query.size)
        return (self.sharpness * logits).softmax(0)


def make(backbone: Backbone) -> Ridge:
    """Use every level of the backbone."""
    return Ridge()
