"""An image that is open: its axes in whatever order, cut into the frames (H, W) or (H, W, channels) to label."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Frame, FrameKey, Stack
from napari_fewshot.io.label_stack import Position

_CHANNELS: Final = "CS"  # channels, and samples of a pixel (RGB)
_MOST_FRAMES: Final = 2**20  # of one image; more is a mistake about its axes, or a file that lies


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What is known of an image on the disk or somewhere on the net; its pixels are read when they are indexed.

    Attributes
    ----------
    path
        Where it comes from; a URL as text.
    array
        Lazy or not, with shape and dtype, indexed by whole numbers and slices.
    axes
        A letter for each axis of ``array``, in its order: Y and X, C (channels) or S (samples), any others.
    spacing, units
        Size of a pixel along each axis, and in what; None where nothing is known.
    affine
        (4, 4) from voxels (X, Y, Z) to millimetres, of NIfTI and DICOM; None elsewhere.
    levels
        The array, and smaller copies of it; () where there are none.
    """

    path: Path | str
    array: Any
    axes: str
    spacing: tuple[float, ...] | None = None
    units: tuple[str, ...] | None = None
    affine: npt.NDArray[np.float64] | None = None
    levels: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        axes, shape = self.axes, tuple(map(int, self.array.shape))
        if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
            raise ReadError(
                f"{self.path} has shape {shape}, which axes '{axes}' do not describe; "
                "name a letter for each, Y and X among them"
            )
        if 0 in shape:
            raise ReadError(f"{self.path} is empty, shape {shape}; choose an image that has pixels")
        frames = math.prod(n for axis, n in zip(axes, shape, strict=True) if axis in self.stack_axes)
        if frames > _MOST_FRAMES:
            raise ReadError(f"{self.path} would be {frames:,} images, shape {shape}; check which axes are Y and X")

    @property
    def stack_axes(self) -> str:
        """Letters of the axes along which frames follow each other, in the order of a label stack: T, ..., Z."""
        others = [axis for axis in self.axes if axis not in f"YX{self.channel_axis}"]
        order = "TPQARHECSZ"
        return "".join(sorted(others, key=lambda axis: order.find(axis)))

    @property
    def channel_axis(self) -> str:
        """The letter of the axis that becomes the last one of a frame, or ""; only the last of C and S can."""
        return next((axis for axis in reversed(_CHANNELS) if axis in self.axes), "")

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Lengths along `stack_axes`, Y and X: the shape of its labels."""
        return tuple(int(self.array.shape[self.axes.index(axis)]) for axis in f"{self.stack_axes}YX")

    def step(self, axis: str) -> tuple[float, str]:
        """Size of a pixel along an axis, and its unit."""
        if self.spacing is None:
            return 1.0, "pixel"
        place = self.axes.index(axis)
        return self.spacing[place], "pixel" if self.units is None else self.units[place]

    def plane(self, position: Position) -> "LazyPlane":
        """Return one frame's pixels, not read yet."""
        return LazyPlane(self.ordered(), position)

    def ordered(self, array: Any = None) -> "OrderedArray":
        """Return the array, or another one with the same axes, in the order of a stack: T, ..., Z, Y, X, channels."""
        order = f"{self.stack_axes}YX{self.channel_axis}"
        return OrderedArray(self.array if array is None else array, self.axes, order)

    def frames(self, name: str) -> Iterator[Frame]:
        """Go through the frames: keys are ``(name, t, z)`` along the stack's axes, ``name`` alone for one image."""
        spacing = None if self.spacing is None else (self.step("Y")[0], self.step("X")[0])
        positions = list(np.ndindex(*self.stack_shape[:-2]))
        stack = None
        if len(positions) > 1:
            steps = [None if self.spacing is None else self.step(axis)[0] for axis in self.stack_axes]
            stack = Stack.of([self.plane(each) for each in _spread(positions)], self.stack_axes, steps)
        for position in positions:
            key: FrameKey = (name, *position) if self.stack_axes else name
            yield Frame(key, self.plane(position), spacing, stack)

    def with_axes(self, axes: str) -> "ImageFile":
        """Say what the axes are, where the file does not or errs."""
        return replace(self, axes=axes.upper())


class OrderedArray:
    """An array with its axes in another order, read where it is indexed by whole numbers and slices.

    Parameters
    ----------
    array
        Lazy or not.
    axes
        A letter for each of its axes.
    order
        The same letters in the order that is wanted.
    """

    def __init__(self, array: Any, axes: str, order: str) -> None:
        self._array, self._axes, self._order = array, axes, order
        self.shape = tuple(int(array.shape[axes.index(axis)]) for axis in order)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.ndim = len(order)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        index = () if index == (...,) else index
        wanted: dict[str, Any] = dict(zip(self._order, index, strict=False))
        part = np.asarray(self._array[tuple(wanted.get(axis, slice(None)) for axis in self._axes)])
        left = [axis for axis in self._axes if isinstance(wanted.get(axis, slice(None)), slice)]
        return np.transpose(part, [left.index(axis) for axis in self._order if axis in left])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


class LazyPlane:
    """(H, W) or (H, W, channels), one frame of an ordered array, read where it is indexed."""

    def __init__(self, ordered: OrderedArray, position: Position) -> None:
        self._ordered, self._position = ordered, position
        self.shape, self.dtype = ordered.shape[len(position) :], ordered.dtype

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        return self._ordered[self._position + (() if index == (...,) else index)]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def _spread(positions: list[Position]) -> list[Position]:
    """Nine of them at the most, evenly."""
    return [positions[i] for i in sorted({round(i * (len(positions) - 1) / 8) for i in range(9)})]
