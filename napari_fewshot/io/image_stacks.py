"""Images that lie in no file, written into one that `open_images` reads as the same frames."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot import __version__
from napari_fewshot.errors import ExportError
from napari_fewshot.frames import Frame
from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.label_stack import Position

_AXES: Final = ("", "Z", "TZ")
"""Of stacks of so many axes, where nothing else is known."""

_TYPES: Final = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_CLASSIC_TIFF_BYTES: Final = 2**32 - 2**20


def write_frames(path: Path, frames: Mapping[Position, Frame]) -> None:
    """Write the frames of one image, a plane at a time, to an OME-TIFF file.

    Parameters
    ----------
    path
        Of the new file.
    frames
        By position: a single one at (), or all of a stack along one or two axes.

    Raises
    ------
    ExportError
        If these are not all frames of a stack, or are not alike, or cannot be written.
    ImageError
        If one of them cannot be read.
    """
    import tifffile

    positions = sorted(frames)
    stack = tuple(max(along) + 1 for along in zip(*positions, strict=True))
    first = frames[positions[0]]
    shape, dtype = _kind(first)
    axes = _axes(first, len(stack))
    if positions != list(np.ndindex(*stack)) or axes is None:
        raise ExportError(f"the frames of '{path.name}' are no stack along depth or time; save the image as a file")
    if any(_kind(frame) != (shape, dtype) for frame in frames.values()):
        raise ExportError(f"the frames of '{path.name}' differ in size or type; save the image as a file")
    if dtype.name not in _TYPES:
        raise ExportError(f"a TIFF file cannot hold values of type {dtype}; save the image as a file")
    channels = shape[2:]
    whole = (*stack, *channels, *shape[:2])
    metadata: dict[str, Any] = {
        "axes": f"{axes}{'C' if channels else ''}YX",
        "Creator": f"napari-fewshot {__version__}",
    }
    metadata |= {f"PhysicalSize{axis}": size for axis, size in _sizes(first, axes).items()}
    with replacing(path) as file:
        tifffile.imwrite(
            file,
            _planes(frames[position] for position in positions),
            shape=whole,
            dtype=dtype,
            ome=True,
            bigtiff=math.prod(whole) * dtype.itemsize >= _CLASSIC_TIFF_BYTES,
            compression="zlib",
            photometric="minisblack",
            metadata=metadata,
        )


def _planes(frames: Iterator[Frame]) -> Iterator[npt.NDArray[Any]]:
    for frame in frames:
        image = frame.read()
        yield from (image,) if image.ndim == 2 else np.moveaxis(image, -1, 0)


def _kind(frame: Frame) -> tuple[tuple[int, ...], np.dtype[Any]]:
    pixels = frame.open()
    return pixels.shape, pixels.dtype


def _axes(frame: Frame, number: int) -> str | None:
    """A letter for each number of a position; None where the format has none for so many."""
    known = frame.stack.axes if frame.stack is not None else ""
    if known in ("Z", "T", "TZ") and len(known) == number:
        return known
    return _AXES[number] if number < len(_AXES) else None


def _sizes(frame: Frame, axes: str) -> dict[str, float]:
    """Size of a pixel along X, Y and Z, where it is known."""
    if frame.spacing is None:
        return {}
    sizes = {"Y": frame.spacing[0], "X": frame.spacing[1]}
    steps = dict(zip(axes, frame.stack.steps, strict=False)) if frame.stack is not None else {}
    step = steps.get("Z")
    return sizes if step is None else sizes | {"Z": step}
