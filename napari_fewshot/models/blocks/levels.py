"""Linear maps of multi-level features: sampled where a classifier learns, applied everywhere where it proposes.

Levels are standardised, may be joined by random features, and stay apart: what is linear is applied to every level at
its own stride and only its result is upsampled, W up(F) = up(W F), so that nothing holds all features at full
resolution.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.random_features import RandomFeatures
from napari_fewshot.models.blocks.resampling import sample, upsample
from napari_fewshot.models.blocks.standardise import standardisation

_CHUNK: Final = {"cpu": 1 << 12}
"""Cells whose random features are held at once, by kind of device: few enough to stay in the cache of a processor."""

_CHUNK_ELSEWHERE: Final = 1 << 18


class LiftedLevels:
    """All levels of a pyramid as one feature vector x per pixel, of which only samples and linear maps are ever made.

    Parameters
    ----------
    lift
        Random features to add to levels; None for none.
    from_stride
        Finest level that is lifted: at full resolution random features are dear.
    """

    def __init__(self, lift: RandomFeatures | None = None, from_stride: int = 1) -> None:
        self.lift = lift
        self.from_stride = from_stride

    def sample(self, pyramid: FeaturePyramid, ys: Tensor, xs: Tensor) -> Tensor:
        """Return x at some pixels: (N, D), single precision."""
        parts = [sample(f, level, ys, xs, self._lifted(pyramid, level)) for level, f in pyramid.features.items()]
        return torch.cat(parts, 1)

    def apply(self, pyramid: FeaturePyramid, weights: Tensor) -> Tensor:
        """Compute ``x @ weights`` at every pixel.

        Parameters
        ----------
        pyramid
            Of an image or tile (H, W).
        weights
            (D, M).

        Returns
        -------
        Tensor
            (M, H, W).
        """
        total: Tensor | None = None
        at = 0
        for level, features in pyramid.features.items():
            lift = self._lift_of(level)
            width = len(features) + (0 if lift is None else lift.width)
            scale, shift = standardisation(pyramid, level)
            part = upsample(_mixed(features, scale, shift, weights[at : at + width].T, lift), level, pyramid.size)
            total = part if total is None else total.add_(part)
            at += width
        assert total is not None
        return total

    def _lift_of(self, level: Level) -> RandomFeatures | None:
        return self.lift if level.stride >= self.from_stride else None

    def _lifted(self, pyramid: FeaturePyramid, level: Level) -> Callable[[Tensor], Tensor]:
        """How cells (C, N) of a level become standardised ones with their random features (C + width, N)."""
        return partial(_lifted, *standardisation(pyramid, level), self._lift_of(level))


def _lifted(scale: Tensor, shift: Tensor, lift: RandomFeatures | None, cells: Tensor) -> Tensor:
    standard = torch.addcmul(shift[:, None], cells.to(scale.dtype), scale[:, None])
    return standard if lift is None else torch.cat([standard, lift(standard)])


def _mixed(features: Tensor, scale: Tensor, shift: Tensor, weights: Tensor, lift: RandomFeatures | None) -> Tensor:
    """Compute ``weights @ lifted`` of a whole level (C, h, w): (M, h, w), part by part.

    What is linear in the features, W and the projection of the random features, is done to them in one product,
    and takes standardisation in, so that features are gone through once.
    """
    direct, bent = weights[:, : len(features)], weights[:, len(features) :]
    first, offset = direct, torch.zeros_like(direct[:, 0])
    if lift is not None:
        projection, thresholds = lift.draw(len(features), features.device)
        first, offset = torch.cat([projection, direct]), torch.cat([thresholds, offset])
    first, offset = first * scale, offset + first @ shift
    mixed = []
    for cells in features.flatten(1).split(_CHUNK.get(features.device.type, _CHUNK_ELSEWHERE), 1):
        products = torch.addmm(offset[:, None], first, cells.to(scale.dtype))  # (width + M, N)
        lifted, scores = products[: -len(direct)], products[-len(direct) :]
        mixed.append(scores if lift is None else torch.addmm(scores, bent, lifted.relu_()))
    return torch.cat(mixed, 1).view(-1, *features.shape[1:])
