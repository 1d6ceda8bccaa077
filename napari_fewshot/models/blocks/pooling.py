"""Masked average pooling: the prototype of a region (SG-One, eq. 2; PANet, eq. 1)."""

from torch import Tensor

from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.blocks.resampling import to_cells


def masked_pool(features: Tensor, level: Level, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Average features over the pixels of each mask, as if the features were upsampled to the mask ("late fusion").

    Parameters
    ----------
    features
        (C, h, w) on the cells of ``level``.
    level
        Where those cells lie.
    masks
        (M, H, W) weights >= 0, usually 0 and 1.

    Returns
    -------
    means : Tensor
        (M, C); zero for an empty mask.
    mass : Tensor
        (M,) sum of each mask: a mask of mass 0 has no mean, leave it out. One pixel is enough for one.
    """
    weights = to_cells(masks.to(features.dtype), level, (features.shape[-2], features.shape[-1]))  # (M, h, w)
    mass = weights.flatten(1).sum(1)
    sums = weights.flatten(1) @ features.flatten(1).T  # (M, C)
    return sums / mass.clamp_min(1e-12)[:, None], mass
