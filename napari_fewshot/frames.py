"""Frames: one 2D image each, with the key that everything said about it is filed under."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError

FrameKey: TypeAlias = str | tuple[str | int, ...]
"""A name, or a name and a position in its stack: ``"coins"``, ``("stack", 3)``, ``("movie", 0, 12)``."""

Image: TypeAlias = npt.NDArray[Any]
"""(H, W) or (H, W, channels), any real data type."""

Labels: TypeAlias = npt.NDArray[np.int32]
"""(H, W): 0 background, 1..254 classes, 255 not labelled."""

Instances: TypeAlias = npt.NDArray[np.int32]
"""(H, W): 0 no object, every other value one object."""

ImageSource: TypeAlias = Any
"""An array, a lazy array (dask, zarr, ...), or a function without arguments that returns one."""

MIN_SIDE: Final = 16
"""Shortest side, in pixels, that features can be computed for."""

_BLOCK: Final = 1 << 24
"""Values read at a time where a whole image is gone through."""


def frame_name(key: FrameKey) -> str:
    """Give the key as a person would say it.

    >>> frame_name(("stack", 3))
    'stack [3]'
    """
    if isinstance(key, str):
        return key
    name, *position = key
    return f"{name} [{', '.join(map(str, position))}]" if position else str(name)


def image_name(key: FrameKey) -> str:
    """Return the name of the image that a frame is of: the key of one, or what the keys of its slices begin with.

    >>> image_name(("stack", 3))
    'stack'
    """
    return key if isinstance(key, str) else str(key[0])


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
    stack
        What it was taken together with; None where it stands alone.

    Examples
    --------
    >>> Frame("a", np.zeros((32, 48), np.uint8)).read().shape
    (32, 48)
    """

    key: FrameKey
    image: ImageSource
    spacing: tuple[float, float] | None = None
    stack: "Stack | None" = None

    @classmethod
    def of_stack(
        cls,
        name: str,
        images: Any,
        spacing: tuple[float, float] | None = None,
        *,
        axis: str = "Z",
        step: float | None = None,
    ) -> "tuple[Frame, ...]":
        """Make the frames of a stack, taken together, with the keys ``(name, 0)``, ``(name, 1)``, ...

        Parameters
        ----------
        name
            Of the stack.
        images
            Its images in order: a list, or an array (Z, H, W) or (Z, H, W, channels).
        spacing
            Size of a pixel along y and x.
        axis
            What the images follow each other along: Z for depth, T for time.
        step
            Distance of two images along it, for depth in the unit of ``spacing``; None where unknown.
        """
        stack = Stack.of(images, axis, (step,))
        return tuple(cls((name, i), images[i], spacing, stack) for i in range(len(images)))

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
        pixels = self.open()
        return pixels[: pixels.size[0], : pixels.size[1]]

    def open(self) -> "Pixels":
        """Get at the pixels region by region, without reading them yet.

        Raises
        ------
        ImageError
            If shape or data type are such that features cannot be computed.
        """
        return Pixels(self.image() if callable(self.image) else self.image, self.name)


class Stack:
    """Images that were taken together, so that their brightness can be compared.

    Without it, each image is judged by its own darkest and brightest pixels alone: an empty slice of a stack would
    have its noise blown up to the brightness of cells.

    Parameters
    ----------
    samples
        Returns some of the images, evenly spread over the stack; called once, when it is needed.
    axes
        A letter for each number in the position of a frame: T for time, Z for depth, ...; "" where unknown.
    steps
        Distance of two images along each of them, for depth in the unit of `Frame.spacing`; None where unknown.
    """

    def __init__(
        self, samples: Callable[[], Iterable[ImageSource]], axes: str = "", steps: Sequence[float | None] = ()
    ) -> None:
        self._samples = samples
        self.axes = axes
        self.steps = tuple(steps) if axes else ()

    @classmethod
    def of(cls, images: Any, axes: str = "", steps: Sequence[float | None] = ()) -> "Stack":
        """Make one of all images of a stack (anything with a length and an index), of which nine will be looked at."""
        chosen = sorted({round(i * (len(images) - 1) / 8) for i in range(9)})
        return cls(lambda: [images[i] for i in chosen], axes, steps)

    def with_axes(self, axes: str, steps: Sequence[float | None]) -> "Stack":
        """The same images, of which somebody says that they lie along other axes."""
        return Stack(self._samples, axes, steps)

    def samples(self) -> Iterator["Pixels"]:
        """Go through some of the images, leaving out those that cannot be opened (any more)."""
        for image in self._samples():
            with suppress(ImageError):
                yield Pixels(image() if callable(image) else image, "stack")


class Pixels:
    """The pixels of one image, read region by region.

    Parameters
    ----------
    source
        (H, W) or (H, W, channels); a lazy array is read only where it is indexed.
    name
        For messages.
    """

    def __init__(self, source: ImageSource, name: str) -> None:
        self._source = source if hasattr(source, "shape") and hasattr(source, "dtype") else np.asarray(source)
        self._name = name
        _check_kind(tuple(self._source.shape), np.dtype(self._source.dtype), name)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, channels)."""
        return tuple(int(n) for n in self._source.shape)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[0], self.shape[1]

    @property
    def channels(self) -> int:
        """Number of channels, 1 for (H, W)."""
        return self.shape[2] if len(self.shape) == 3 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the regions; bool images give uint8."""
        dtype = np.dtype(self._source.dtype)
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype

    def __getitem__(self, region: tuple[slice, slice]) -> Image:
        """Read rows and columns.

        Raises
        ------
        ImageError
            If there are values that are NaN or infinite.
        """
        pixels = np.ascontiguousarray(np.asarray(self._source[region]), dtype=self.dtype)
        if pixels.dtype.kind == "f":
            broken = int(pixels.size - np.isfinite(pixels).sum())
            if broken:
                raise ImageError(
                    f"'{self._name}' has {broken} pixel value(s) that are NaN or infinite; "
                    "replace them, for example with numpy.nan_to_num(image)"
                )
        return pixels

    def digest(self) -> str:
        """Hash of shape, data type and every value; the same as `content_digest` of the whole, in bounded memory."""
        digest = _digest_of(self.shape, self.dtype)
        rows = max(1, _BLOCK // max(1, self.size[1] * self.channels))
        for top in range(0, self.size[0], rows):
            digest.update(self[top : top + rows, : self.size[1]].data)
        return str(digest.hexdigest())


def content_digest(array: npt.NDArray[Any]) -> str:
    """Hash an array by what it holds: shape, data type and every value (BLAKE2b, 128 bits)."""
    digest = _digest_of(array.shape, array.dtype)
    digest.update(np.ascontiguousarray(array).data)
    return str(digest.hexdigest())


def _digest_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return hashlib.blake2b(f"{shape} {dtype.str}".encode(), digest_size=16)


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    if len(shape) not in (2, 3):
        raise ImageError(
            f"'{name}' has {len(shape)} dimension(s), shape {shape}; "
            "a frame is (height, width) or (height, width, channels): give one slice of it"
        )
    if dtype.kind not in "uifb":
        raise ImageError(
            f"'{name}' holds values of type {dtype}; convert it to real numbers, "
            "for example with numpy.abs(image) or image.astype('float32')"
        )
    height, width = shape[:2]
    if 0 in shape:
        raise ImageError(f"'{name}' is empty, shape {shape}; load an image that has pixels")
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"'{name}' is {height} x {width} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed: "
            "enlarge it or choose a bigger region"
        )
