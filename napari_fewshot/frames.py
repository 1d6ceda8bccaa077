"""Frames: one 2D image each, with the key that everything said about it is filed under."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError

FrameKey: TypeAlias = str | tuple[str | int, ...]
"""A name, or a name and a position in its stack: ``"coins"``, ``("stack", 3)``, ``("movie", 0, 12)``."""

Image: TypeAlias = npt.NDArray[Any]
"""(H, W) or (H, W, channels), any real data type."""

Labels: TypeAlias = npt.NDArray[np.int32]
"""(H, W): 0 background, 1..254 classes, 255 not labelled."""

ImageSource: TypeAlias = Any
"""An array, a lazy array (dask, zarr, ...), or a function without arguments that returns one."""

MIN_SIDE = 16
"""Shortest side, in pixels, that features can be computed for."""


def frame_name(key: FrameKey) -> str:
    """Give the key as a person would say it.

    >>> frame_name(("stack", 3))
    'stack [3]'
    """
    if isinstance(key, str):
        return key
    name, *position = key
    return f"{name} [{', '.join(map(str, position))}]" if position else str(name)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image to teach on or to propose for.

    Parameters
    ----------
    key
        Name of the frame, unique within a run.
    image
        (H, W) or (H, W, channels) of any real data type; a lazy array, or a function that returns an array,
        is read when the pixels are needed and not before.
    spacing
        Size of a pixel along y and x, in any unit; None where unknown.

    Examples
    --------
    >>> Frame("a", np.zeros((32, 48), np.uint8)).read().shape
    (32, 48)
    """

    key: FrameKey
    image: ImageSource
    spacing: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The key in words."""
        return frame_name(self.key)

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W), or None where it cannot be known before the image is read."""
        shape = getattr(self.image, "shape", None)
        return None if shape is None or len(shape) < 2 else (int(shape[0]), int(shape[1]))

    def read(self) -> Image:
        """Return the pixels as an array (H, W) or (H, W, channels); a bool image comes back as uint8.

        Raises
        ------
        ImageError
            If the image is not one that features can be computed from.
        """
        source = self.image() if isinstance(self.image, Callable) else self.image  # type: ignore[arg-type]
        pixels = np.asarray(source)
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8)
        _check_image(pixels, self.name)
        return np.ascontiguousarray(pixels)


def content_digest(array: npt.NDArray[Any]) -> str:
    """Hash an array by what it holds: shape, data type and every value (BLAKE2b, 128 bits)."""
    digest = hashlib.blake2b(f"{array.shape} {array.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _check_image(pixels: Image, name: str) -> None:
    if pixels.ndim not in (2, 3):
        raise ImageError(
            f"'{name}' has {pixels.ndim} dimension(s), shape {pixels.shape}; "
            "a frame is (height, width) or (height, width, channels): give one slice of it"
        )
    if pixels.dtype.kind not in "uif":
        raise ImageError(
            f"'{name}' holds values of type {pixels.dtype}; convert it to real numbers, "
            "for example with numpy.abs(image) or image.astype('float32')"
        )
    height, width = pixels.shape[:2]
    if pixels.size == 0:
        raise ImageError(f"'{name}' is empty, shape {pixels.shape}; load an image that has pixels")
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"'{name}' is {height} x {width} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed: "
            "enlarge it or choose a bigger region"
        )
    if pixels.dtype.kind == "f":
        broken = int(pixels.size - np.isfinite(pixels).sum())
        if broken:
            raise ImageError(
                f"'{name}' has {broken} pixel value(s) that are NaN or infinite; "
                "replace them, for example with numpy.nan_to_num(image)"
            )
