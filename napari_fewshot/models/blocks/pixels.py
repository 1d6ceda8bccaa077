"""Choosing pixels to learn from."""

import torch
from torch import Tensor

from napari_fewshot.support import UNLABELLED


def choose_pixels(labels: Tensor, limit: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Choose labelled pixels, at most so many per label, spread at random and always the same.

    Parameters
    ----------
    labels
        (H, W) integers >= 0; 255 is not labelled and never chosen.
    limit
        Pixels per label at most.

    Returns
    -------
    dict
        Label value -> (ys, xs), each (N,); all pixels of a label that has no more than ``limit``.
    """
    flat = labels.flatten()
    chosen = {}
    for value in flat.bincount().nonzero()[:, 0].tolist():  # `unique` would sort the whole image
        if value == UNLABELLED:
            continue
        at = (flat == value).nonzero()[:, 0]
        if len(at) > limit:
            generator = torch.Generator().manual_seed(len(at))
            at = at[torch.randperm(len(at), generator=generator)[:limit].sort().values.to(at.device)]
        chosen[int(value)] = (at // labels.shape[1], at % labels.shape[1])
    return chosen
