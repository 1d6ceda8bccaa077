"""How far proposals agreed with what people made of them."""

import numpy as np
import numpy.typing as npt

from napari_fewshot.evaluation.metrics import Counts
from napari_fewshot.provenance import Origin, OriginMap
from napari_fewshot.support import BACKGROUND


def agreement(labels: npt.NDArray[np.integer], origins: OriginMap) -> Counts:
    """Compare a proposal with the same as somebody corrected it, all classes together.

    What was proposed under a correction is not kept: a pixel that was corrected to background counts as proposed, one
    that was corrected to a class as not proposed as that class. Who paints over what was right already makes the
    agreement look smaller than it was.

    Parameters
    ----------
    labels
        (H, W) as it is now, 0 background.
    origins
        (H, W) who says so. What a person painted before it was proposed is left out, and so is what nobody said.

    Examples
    --------
    >>> labels = np.array([[1, 1, 1, 0]])
    >>> agreement(labels, np.array([[Origin.MODEL, Origin.MODEL, Origin.CORRECTED, Origin.CORRECTED]], np.uint8)).iou
    0.5
    """
    kept = (origins == Origin.MODEL) | (origins == Origin.ACCEPTED)
    corrected = origins == Origin.CORRECTED
    something = labels != BACKGROUND
    shared = int((kept & something).sum())
    return Counts(shared, shared + int((corrected & ~something).sum()), shared + int((corrected & something).sum()))
