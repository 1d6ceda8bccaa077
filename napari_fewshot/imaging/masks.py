"""Tidying label maps."""

import numpy as np
from skimage.measure import label as connected_components

from napari_fewshot.frames import Labels


def drop_small(labels: Labels, min_area: int) -> Labels:
    """Remove objects (8-connected pixels of one class) with fewer than ``min_area`` pixels.

    Parameters
    ----------
    labels
        (H, W), 0 background.
    min_area
        In pixels; up to 1 nothing is removed and ``labels`` itself comes back.
    """
    if min_area <= 1:
        return labels
    objects = connected_components(labels, background=0, connectivity=2)
    areas = np.bincount(objects.ravel())
    small = areas < min_area
    small[0] = False
    return np.where(small[objects], 0, labels).astype(np.int32)
