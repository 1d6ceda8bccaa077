"""The scale that objects are told apart at: where they are about ten pixels in radius, however large the image is."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from skimage.measure import block_reduce
from skimage.segmentation import watershed

from napari_fewshot.frames import Instances

_RADIUS: Final = 9.0  # px: smaller ones are lost, larger ones tell nothing more and take longer


@dataclass(frozen=True)
class Scale:
    """Every ``step`` x ``step`` pixels become one.

    Examples
    --------
    >>> Scale.for_radius(30.0)
    Scale(step=3)
    """

    step: int

    @classmethod
    def for_radius(cls, radius: float) -> "Scale":
        """Choose it for objects of this radius, in pixels."""
        return cls(max(1, int(radius / _RADIUS)))

    def reduced(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the mean of each block, (H / step, W / step) rounded up."""
        if self.step == 1:
            return values
        padded = np.pad(values, [(0, -n % self.step) for n in values.shape], mode="edge")
        return np.asarray(block_reduce(padded, self.step, np.mean), np.float32)

    def picked(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return the pixel in the middle of each block."""
        if self.step == 1:
            return ids
        rows, columns = (np.minimum(np.arange(self.step // 2, n + self.step // 2, self.step), n - 1) for n in ids.shape)
        return np.asarray(ids[rows[:, None], columns], np.int32)

    def restored(self, ids: Instances, mask: npt.NDArray[np.bool_]) -> Instances:
        """Carry objects back to all pixels (H, W) of a mask; one that no object reaches stays 0.

        Between blocks of two objects the border runs where both are equally far.
        """
        if self.step == 1:
            return np.where(mask, ids, 0).astype(np.int32)
        blocks = np.kron(ids, np.ones((self.step, self.step), np.int32))[: mask.shape[0], : mask.shape[1]]
        sure = np.where(mask, blocks, 0)
        flat = np.zeros(mask.shape, np.uint8)
        return np.asarray(watershed(flat, sure, mask=mask, connectivity=2), np.int32)
