"""Bringing images of any kind to one intensity scale."""

import math
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError
from napari_fewshot.frames import Image, Pixels, Stack
from napari_fewshot.imaging.tiling import plan_tiles, some_of

LOW: Final = 0.1
HIGH: Final = 99.9
"""Percentiles that become 0 and 1."""

_LOCK: Final = Lock()
_KNOWN: "Final[WeakKeyDictionary[Stack, npt.NDArray[np.float32]]]" = WeakKeyDictionary()

_LEAST_SPAN: Final = 0.25
_SAMPLE: Final = 1_000_000
_PATCHES: Final = 25
_PATCH_PIXELS: Final = 256 * 256


@dataclass(frozen=True, eq=False)
class IntensityScale:
    """What becomes 0 and what becomes 1, per channel.

    Attributes
    ----------
    low, high
        (channels,) float32.
    """

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    @property
    def key(self) -> str:
        """The numbers as text, to file under."""
        return f"{self.low.tolist()}-{self.high.tolist()}"

    def apply(self, image: Image) -> npt.NDArray[np.float32]:
        """Scale (H, W) or (H, W, channels) to (channels, H, W); values outside are kept up to -1 and 2."""
        planes = _planes(image).astype(np.float32)
        span = np.where(self.high > self.low, self.high - self.low, np.inf).astype(np.float32)
        scaled = (planes - self.low[:, None, None]) / span[:, None, None]
        return np.clip(scaled, -1, 2, out=scaled)


def intensity_scale(pixels: Pixels, max_pixels: int) -> IntensityScale:
    """Find the scale of an image: its 0.1st and 99.9th percentile.

    One scale for all channels of 8-bit colour images, whose balance carries meaning (stains, skin); one scale
    per channel otherwise, because fluorescence channels have nothing to do with each other's brightness.

    Parameters
    ----------
    pixels
        The image. Of one with more than ``max_pixels`` only some patches are read, evenly spread.
    max_pixels
        Up to this size everything is looked at.
    """
    height, width = pixels.size
    if height * width <= max_pixels:
        planes = _planes(pixels[:height, :width])
    else:
        patches = some_of(plan_tiles(pixels.size, _PATCH_PIXELS, 0, 16), _PATCHES)
        planes = np.concatenate([_planes(pixels[patch.core]).reshape(pixels.channels, -1) for patch in patches], 1)
    if is_colour(pixels):
        low, high = _limits(planes)
        return IntensityScale(np.full(pixels.channels, low, np.float32), np.full(pixels.channels, high, np.float32))
    limits = np.array([_limits(plane) for plane in planes], np.float32)  # (channels, 2)
    return IntensityScale(limits[:, 0], limits[:, 1])


def scale_within(stack: Stack, pixels: Pixels, max_pixels: int) -> IntensityScale:
    """Find the scale of an image that was taken together with others.

    It is the image's own, so that slices which fade with depth look alike, but spans at least a quarter of what the
    stack spans, so that the noise of an empty slice is not blown up to the brightness of cells.
    """
    own, span = intensity_scale(pixels, max_pixels), _stack_span(stack, max_pixels)
    return IntensityScale(own.low, np.maximum(own.high, own.low + _LEAST_SPAN * span))


def _stack_span(stack: Stack, max_pixels: int) -> npt.NDArray[np.float32]:
    """From the lowest to the highest limit of some images of a stack, per channel; found once."""
    with _LOCK:
        if stack not in _KNOWN:
            scales = []
            for pixels in stack.samples():
                with suppress(ImageError):  # one with NaN, say: it has its own message when its turn comes
                    scales.append(intensity_scale(pixels, max_pixels))
            low, high = (np.array([getattr(s, side) for s in scales] or [[0]]) for side in ("low", "high"))
            _KNOWN[stack] = high.max(0) - low.min(0)
        return _KNOWN[stack]


def to_unit_range(image: Image) -> npt.NDArray[np.float32]:
    """Bring a whole image (H, W) or (H, W, channels) on its scale: (channels, H, W); a constant one becomes 0."""
    return intensity_scale(Pixels(image, "image"), image.size).apply(image)


def is_colour(image: Image | Pixels) -> bool:
    """Whether the channels of an image are red, green and blue rather than separate measurements."""
    return len(image.shape) == 3 and image.shape[-1] == 3 and image.dtype == np.uint8


def _planes(image: Image) -> Image:
    """(H, W) or (H, W, channels) as (channels, H, W)."""
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def _limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    flat = values.ravel()
    if flat.size > _SAMPLE:  # every n-th pixel gives the same percentiles, in bounded time
        flat = flat[:: flat.size // _SAMPLE]
    low, high = _percentiles(flat)
    if high <= low:  # nearly constant, but for a few pixels
        low, high = float(values.min()), float(values.max())
    return float(low), float(high)


def _percentiles(values: npt.NDArray[Any]) -> tuple[float, float]:
    """What `numpy.percentile` finds; of 8 and 16 bits by counting, ten times as fast."""
    if values.dtype not in (np.uint8, np.uint16):
        low, high = np.percentile(values.astype(np.float32), (LOW, HIGH))
        return float(low), float(high)
    upto = np.bincount(values).cumsum()  # how many values are as large as that, or smaller

    def at(percent: float) -> float:
        rank = percent / 100 * (values.size - 1)
        below, above = np.searchsorted(upto, (math.floor(rank), math.ceil(rank)), side="right")
        return float(below + (above - below) * (rank % 1))

    return at(LOW), at(HIGH)
