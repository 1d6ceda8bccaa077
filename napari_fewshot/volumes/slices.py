"""What is known of one slice: how probable each label is, what a person says of it, and what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from napari_fewshot.frames import Frame, Labels
from napari_fewshot.support import BACKGROUND, UNLABELLED

Floats = npt.NDArray[np.float32]

SIDE: Final = 512
"""Longest side, in pixels, of the picture by which slices are compared."""

ROWS: Final = 256
"""Rows of a slice that are worked on at once."""

_LEVELS: Final = (0.01, 0.99)  # of the brightness that is taken for black and white
_DULLEST: Final = 1e-6
_NOISE: Final = 1.0  # pixels of the picture, over which noise is averaged


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a series.

    Attributes
    ----------
    picture
        (h, w) float32, the slice reduced by a whole number, without its noise, 0 its black and 1 its white.
    size
        (H, W) of the slice.
    class_ids
        The C classes.
    probabilities
        (1 + C, H, W), background first; None where a person labelled every pixel.
    human
        (H, W) what a person says, 255 where nothing; None where they say nothing at all.
    """

    picture: Floats
    size: tuple[int, int]
    class_ids: tuple[int, ...]
    probabilities: npt.NDArray[np.floating] | None = None
    human: Labels | None = None

    @property
    def reduction(self) -> int:
        """How many pixels become one of the picture, along each side."""
        return reduction_of(self.size)

    @cached_property
    def digest(self) -> bytes:
        """What identifies the picture and its size."""
        return blake2b(self.picture.tobytes() + repr((self.picture.shape, self.size)).encode(), digest_size=16).digest()

    def brightness(self, top: int, bottom: int) -> Floats:
        """Return what rows look like (rows, W)."""
        return enlarged(self.picture, self.reduction, top, bottom, self.size[1])

    def rows(self, top: int, bottom: int) -> Floats:
        """Return how probable each label is (1 + C, rows, W), certain where a person says so."""
        values = (BACKGROUND, *self.class_ids)
        shape = (len(values), bottom - top, self.size[1])
        if self.probabilities is None:
            found = np.zeros(shape, np.float32)
        else:
            found = np.array(self.probabilities[:, top:bottom], np.float32)
        if self.human is not None:
            said = self.human[top:bottom]
            known = np.isin(said, values)
            for channel, value in enumerate(values):
                found[channel][known] = said[known] == value
        return found


def is_settled(human: Labels | None, class_ids: Sequence[int]) -> bool:
    """Whether a person labelled every pixel of a slice, with classes that are looked for."""
    return human is not None and bool(np.isin(human, (BACKGROUND, *class_ids)).all())


def reduction_of(size: tuple[int, int]) -> int:
    """Tell how many pixels of a slice become one of its picture, along each side."""
    return max(1, -(-max(size) // SIDE))


def picture_of(frame: Frame) -> Floats:
    """Reduce a slice to a gray picture (h, w), from its own black to its own white.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    pixels = frame.open()
    (height, width), by = pixels.size, reduction_of(pixels.size)
    gray = np.concatenate([reduced(pixels[y : y + by * ROWS, :width], by) for y in range(0, height, by * ROWS)])
    black, white = (float(level) for level in np.quantile(gray, _LEVELS))
    levelled = ((gray - black) / max(white - black, _DULLEST)).astype(np.float32)
    return np.asarray(gaussian_filter(levelled, _NOISE, mode="nearest"), np.float32)


def enlarged(small: Floats, by: int, top: int, bottom: int, width: int) -> Floats:
    """Bring rows of what was reduced, (..., h, w), back to the scale of its slice: (..., rows, W)."""
    if by == 1:
        return small[..., top:bottom, :]
    height, width_of_small = small.shape[-2:]
    above, below, down = _between(np.arange(top, bottom), by, height)
    left, right, across = _between(np.arange(width), by, width_of_small)
    rows = small[..., above, :] * (1 - down)[:, None] + small[..., below, :] * down[:, None]
    return np.asarray(rows[..., left] * (1 - across) + rows[..., right] * across, np.float32)


def _between(
    pixels: npt.NDArray[np.integer], by: int, count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Tell between which two small pixels a large one lies, and how far on the way from the one to the other."""
    place = np.clip((pixels + 0.5) / by - 0.5, 0, count - 1).astype(np.float32)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, count - 1), place - first


def reduced(block: npt.NDArray[np.generic], by: int) -> Floats:
    """Average squares of pixels, and all channels; squares at the far sides may be smaller."""
    gray = block.astype(np.float32) if block.ndim == 2 else block.astype(np.float32).mean(axis=2)
    if by == 1:
        return gray
    short = [-n % by for n in gray.shape]
    padded = np.pad(gray, [(0, short[0]), (0, short[1])], mode="edge")
    squares = padded.reshape(padded.shape[0] // by, by, padded.shape[1] // by, by)
    return np.asarray(squares.mean(axis=(1, 3)), np.float32)


def human_of(labels: npt.NDArray[np.integer]) -> Labels | None:
    """Return labels as what a person says; None where that is nothing."""
    return None if bool((labels == UNLABELLED).all()) else labels.astype(np.int32, copy=False)
