"""Which axes of an image layer are its plane, its sliders and its channels."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.frames import FrameKey
from napari_fewshot.io.units import axis_letter

_MORE_AXES = "TPQARHE"
_CHANNEL_NAMES = frozenset({"c", "ch", "channel", "channels"})


@dataclass(frozen=True)
class Layout:
    """How the data of one image layer falls into 2D frames.

    Parameters
    ----------
    shape
        Of the whole array, at full resolution.
    rgb
        Whether the last axis holds colours.
    channel_axis
        The axis that holds channels, or None.

    Raises
    ------
    ImageError
        If no plane is left.

    Examples
    --------
    >>> layout = Layout((5, 2, 64, 48), channel_axis=1)
    >>> layout.sliders, layout.plane, layout.size
    ((0,), (2, 3), (64, 48))
    >>> layout.take(np.zeros((5, 2, 64, 48)), (3,)).shape
    (64, 48, 2)
    """

    shape: tuple[int, ...]
    rgb: bool = False
    channel_axis: int | None = None

    def __post_init__(self) -> None:
        if self.channel_axis is not None and not (0 <= self.channel_axis < self.ndim and not self.rgb):
            raise ImageError(f"there is no channel axis {self.channel_axis} in an image of shape {self.shape}")
        if len(self.spatial) < 2:
            what = f"shape {self.shape}" + (f", channels on axis {self.channel_axis}" if self.has_channels else "")
            raise ImageError(f"the image has {what}: height and width are needed; load a 2D image or a stack")

    @property
    def ndim(self) -> int:
        """Number of axes that napari counts: all but the colours."""
        return len(self.shape) - self.rgb

    @property
    def has_channels(self) -> bool:
        """Whether an axis was named to hold channels."""
        return self.channel_axis is not None

    @cached_property
    def spatial(self) -> tuple[int, ...]:
        """Sliders, then the plane."""
        return tuple(axis for axis in range(self.ndim) if axis != self.channel_axis)

    @property
    def sliders(self) -> tuple[int, ...]:
        """Axes that one moves along."""
        return self.spatial[:-2]

    @property
    def plane(self) -> tuple[int, ...]:
        """The axes y and x."""
        return self.spatial[-2:]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        y, x = self.plane
        return self.shape[y], self.shape[x]

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Number of positions of each slider."""
        return tuple(self.shape[axis] for axis in self.sliders)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, channels)."""
        if self.rgb:
            return (*self.size, self.shape[-1])
        return self.size if self.channel_axis is None else (*self.size, self.shape[self.channel_axis])

    def cut(self, displayed: Collection[int]) -> tuple[int, int] | None:
        """Tell which cut through a stack is looked at: the slider that is seen, and the axis of the plane that is not.

        None where it is not one of each.

        >>> Layout((5, 2, 64, 48), channel_axis=1).cut({0, 3})
        (0, 2)
        """
        through = [axis for axis in self.sliders if axis in displayed]
        across = [axis for axis in self.plane if axis not in displayed]
        return (through[0], across[0]) if len(through) == len(across) == 1 and len(displayed) == 2 else None

    def positions(self) -> Iterator[tuple[int, ...]]:
        """Every position of the sliders."""
        return iter(np.ndindex(self.stack_shape))

    def take(self, data: Any, position: Sequence[int]) -> "LazyFrame":
        """Point at one frame (H, W) or (H, W, channels) of the whole array; nothing is read before it is indexed."""
        return LazyFrame(self, data, tuple(int(place) for place in position))

    # ---------------------------------------------------------------- labels
    @property
    def keeps_channel_axis(self) -> bool:
        """Whether the labels need the channel axis to line up with their image.

        napari lines layers up by their last axes, so a channel axis in front can be left out; one further back
        cannot.
        """
        return self.channel_axis is not None and self.channel_axis != 0

    def empty_labels(self, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """Make room for labels; all channels share the same pixels (a stride of zero bytes)."""
        base = np.zeros((*self.stack_shape, *self.size), dtype)
        if not self.keeps_channel_axis:
            return base
        axis = self.channel_axis
        assert axis is not None
        shape, strides = list(base.shape), list(base.strides)
        shape.insert(axis, self.shape[axis])
        strides.insert(axis, 0)
        return np.lib.stride_tricks.as_strided(base, shape, strides, writeable=True)

    def fits(self, labels: Any) -> bool:
        """Whether a label array lies on the image, with the same labels for all channels."""
        if self.channel_axis is not None and self.keeps_channel_axis:
            strides = getattr(labels, "strides", ())
            return labels.shape == self.shape and len(strides) > self.channel_axis and not strides[self.channel_axis]
        return tuple(labels.shape) == (*self.stack_shape, *self.size)

    def label_index(self, position: Sequence[int], labels_ndim: int) -> tuple[int | slice, ...]:
        """Index of one slice (H, W) in a label array.

        Raises
        ------
        MaskError
            If the labels do not lie on the image.
        """
        if labels_ndim == len(self.spatial):
            return (*position, slice(None), slice(None))
        if labels_ndim == self.ndim:
            return tuple(self.selection(position, self.ndim, channel=0))
        raise MaskError(f"the labels have {labels_ndim} axes but their image has {self.ndim}; paint on the same slice")

    def stack_of(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return labels without the channel axis, (sliders..., H, W)."""
        if labels.ndim == len(self.spatial) or self.channel_axis is None:
            return labels
        stack: npt.NDArray[Any] = np.moveaxis(labels, self.channel_axis, 0)[0]
        return stack

    def selection(self, position: Sequence[int], ndim: int, channel: int | None = None) -> list[int | slice]:
        """Index of one frame in an array of this layout with that many axes, channels and colours included."""
        selection: list[int | slice] = [slice(None)] * ndim
        for axis, place in zip(self.sliders, position, strict=True):
            selection[axis] = int(place)
        if channel is not None and self.channel_axis is not None:
            selection[self.channel_axis] = channel
        return selection


@dataclass(frozen=True)
class Cut:
    """A cut through a stack, at right angles to its slices.

    Attributes
    ----------
    keys
        The slices that it crosses, in their order.
    across
        The axis of the slices that it is at right angles to.
    index
        Where on that axis it is.
    name
        What to call it.
    """

    keys: tuple[FrameKey, ...]
    across: Literal["y", "x"]
    index: int
    name: str

    def line_of(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The pixels of a slice (H, W) that lie on it (W,) or (H,)."""
        return plane[self.index] if self.across == "y" else plane[:, self.index]


@dataclass(frozen=True, eq=False)
class LazyFrame:
    """One frame of a larger array, be that in memory or lazy (dask, zarr, ...): reads what it is indexed with.

    Parameters
    ----------
    layout
        How the array falls into frames.
    data
        The array; only indexed with whole numbers and slices, which all kinds understand.
    position
        Of the sliders.

    Examples
    --------
    >>> frame = LazyFrame(Layout((5, 2, 64, 48), channel_axis=1), np.zeros((5, 2, 64, 48)), (3,))
    >>> frame.shape, frame[:16, :8].shape
    ((64, 48, 2), (16, 8, 2))
    """

    layout: Layout
    data: Any
    position: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, channels)."""
        return self.layout.frame_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def __getitem__(self, region: tuple[slice, slice]) -> npt.NDArray[Any]:
        """Read rows and columns, with all channels."""
        index = self.layout.selection(self.position, len(self.layout.shape))
        for axis, part in zip(self.layout.plane, region, strict=True):
            index[axis] = part
        pixels = np.asarray(self.data[tuple(index)])
        channel_axis = self.layout.channel_axis
        if channel_axis is None:
            return pixels
        return np.moveaxis(pixels, sum(axis < channel_axis for axis in self.layout.plane), -1)


def guess_depth_axis(axis_labels: Sequence[str], sliders: Sequence[int]) -> int | None:
    """Find the axis of depth among those that one moves along: what is called so, or else the last without a name.

    >>> guess_depth_axis(("t", "z", "y", "x"), (0, 1)), guess_depth_axis(("time", "y", "x"), (0,))
    (1, None)
    """
    letters = {axis: axis_letter(axis_labels[axis]) for axis in sliders}
    called = [axis for axis, letter in letters.items() if letter == "Z"]
    nameless = [axis for axis, letter in letters.items() if not letter]
    return called[0] if called else nameless[-1] if nameless else None


def slider_letters(axis_labels: Sequence[str], sliders: Sequence[int], depth: int | None) -> str:
    """Give a letter to each axis that one moves along: Z for depth, T for time, others for more.

    >>> slider_letters(("-4", "-3", "-2", "-1"), (0, 1), depth=1)
    'TZ'
    """
    times = [axis for axis in sliders if axis != depth and axis_letter(axis_labels[axis]) == "T"]
    others = [axis for axis in reversed(sliders) if axis != depth and axis not in times]
    letters: dict[int | None, str] = dict(zip((*times, *others), _MORE_AXES, strict=False))
    letters[depth] = "Z"
    return "".join(letters.get(axis, "") for axis in sliders)


def guess_channel_axis(axis_labels: Sequence[str], rgb: bool) -> int | None:
    """Find the axis that is called a channel axis.

    >>> guess_channel_axis(("z", "c", "y", "x"), rgb=False)
    1
    """
    if rgb or len(axis_labels) < 3:
        return None
    found = [axis for axis, label in enumerate(axis_labels) if label.strip().lower() in _CHANNEL_NAMES]
    return found[0] if len(found) == 1 else None
