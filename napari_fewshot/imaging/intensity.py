"""Bringing images of any kind to one intensity scale."""

from typing import Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Image

LOW, HIGH = 0.1, 99.9
"""Percentiles that become 0 and 1."""

_SAMPLE: Final = 1_000_000


def to_unit_range(image: Image) -> npt.NDArray[np.float32]:
    """Scale an image so that its darkest and brightest pixels are about 0 and 1.

    One scale for all channels of 8-bit colour images, whose balance carries meaning (stains, skin); one scale
    per channel otherwise, because fluorescence channels have nothing to do with each other's brightness.

    Parameters
    ----------
    image
        (H, W) or (H, W, channels), any real data type.

    Returns
    -------
    numpy.ndarray
        (channels, H, W) float32; 0 and 1 are the 0.1st and 99.9th percentile, values outside are kept up to
        -1 and 2. A constant image becomes 0.
    """
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    planes = planes.astype(np.float32, copy=False)
    groups = [planes] if is_colour(image) else list(planes[:, None])
    scaled = [_scaled(group) for group in groups]
    return np.ascontiguousarray(np.concatenate(scaled), dtype=np.float32)


def is_colour(image: Image) -> bool:
    """Whether the channels of an image are red, green and blue rather than separate measurements."""
    return image.ndim == 3 and image.shape[-1] == 3 and image.dtype == np.uint8


def is_constant(image: Image) -> bool:
    """Whether all pixels of every channel have one value."""
    first = image[:1, :1]
    return bool((image == first).all())


def _scaled(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    values = planes.ravel()
    if values.size > _SAMPLE:  # every n-th pixel gives the same percentiles, in bounded time
        values = values[:: values.size // _SAMPLE]
    low, high = np.percentile(values, (LOW, HIGH))
    if high <= low:  # nearly constant, but for a few pixels
        low, high = float(planes.min()), float(planes.max())
    if high <= low:
        return np.zeros_like(planes)
    scaled: npt.NDArray[np.float32] = np.clip((planes - low) / (high - low), -1, 2)
    return scaled
