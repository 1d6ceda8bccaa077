"""Label maps to TIFF files that Fiji, napari, QuPath and Python open with the right scale.

The smallest unsigned type that holds the values, compressed without loss, voxel size and unit kept. The
file is an ImageJ hyperstack where that format can hold it, otherwise (ids above 65535, more than five
axes or another order of them, more than 4 GB) an OME-TIFF; both are read by the same programs.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from napari_fewshot import __version__
from napari_fewshot.io.atomic import refuse_existing, replacing
from napari_fewshot.io.label_stack import LabelArray, LabelStack
from napari_fewshot.io.names import TIFF
from napari_fewshot.io.units import METRES

_IMAGEJ_AXES: Final = "TZCYX"  # the order of an ImageJ hyperstack
_CLASSIC_TIFF_BYTES: Final = 2**32 - 2**25
_LARGEST_RATIONAL: Final = 2**31  # TIFF keeps resolutions as fractions of 32-bit numbers


def write_labels_tiff(
    path: str | os.PathLike[str],
    labels: LabelArray,
    *,
    spacing: Sequence[float] | None = None,
    unit: str | Sequence[str] | None = None,
    axes: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a label map, or a stack of them, to a compressed TIFF file, completely or not at all.

    Parameters
    ----------
    path
        Where to write; ``.tif`` is added to a name that ends otherwise, missing folders are made.
    labels
        (Y, X), (Z, Y, X), (T, Z, Y, X), ... of any integer type, 0 or more; a lazy array is read in slabs.
    spacing
        Size of a pixel (or duration of a time step) along each axis of ``labels``, above 0.
    unit
        Of all of ``spacing``, or one for each axis: "µm", "nm", "second", "pixel", ...
    axes
        One letter for each axis, of T Z C Y X, ending in YX; by default YX, ZYX, TZYX, TZCYX.
    overwrite
        Whether a file that is there already may be replaced.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ExportError
        If the labels are not a label map, the file exists, or it cannot be written. A file that was there
        before is untouched then.

    Examples
    --------
    >>> write_labels_tiff("cells.tif", labels, spacing=(2, 0.5, 0.5), unit="µm")  # doctest: +SKIP
    PosixPath('cells.tif')
    """
    path = with_tiff_suffix(path)
    stack = LabelStack(labels, path.name, axes or "", spacing, unit)
    return write_tiff(path, stack, overwrite=overwrite)[0]


def write_tiff(path: str | os.PathLike[str], stack: LabelStack, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a stack to a compressed TIFF file, as `write_labels_tiff` does."""
    path = with_tiff_suffix(path)
    refuse_existing(path, overwrite=overwrite)
    dtype = stack.smallest_dtype()
    with replacing(path, overwrite=overwrite) as file:
        if _is_imagej(path, stack, dtype):
            _write_imagej(file, stack, dtype)
        else:
            _write_ome(file, stack, dtype)
    return (path,)


def with_tiff_suffix(path: str | os.PathLike[str]) -> Path:
    """Add ``.tif`` to a name that ends otherwise."""
    path = Path(path)
    return path if path.suffix.lower() in TIFF else path.with_name(path.name + ".tif")


# ---------------------------------------------------------------------------- the two formats
def _is_imagej(path: Path, stack: LabelStack, dtype: np.dtype[Any]) -> bool:
    voxel = stack.voxel
    resolutions = [1 / voxel[axis][0] for axis in "YX" if axis in voxel]
    return (
        not re.search(r"\.ome\.tiff?$", path.name, flags=re.IGNORECASE)
        and dtype.itemsize <= 2
        and stack.axes == "".join(axis for axis in _IMAGEJ_AXES if axis in stack.axes)
        and math.prod(stack.shape) * dtype.itemsize < _CLASSIC_TIFF_BYTES
        and all(1 / _LARGEST_RATIONAL < r < _LARGEST_RATIONAL for r in resolutions)
    )


def _write_imagej(file: Any, stack: LabelStack, dtype: np.dtype[Any]) -> None:
    import tifffile

    voxel = stack.voxel
    # with min and max Fiji shows class 1 and 2 as shades of gray instead of black
    metadata: dict[str, Any] = {"axes": stack.axes, "min": 0, "max": stack.top}
    resolution = None
    if voxel:
        unit = voxel["X"][1]
        resolution = (1 / voxel["X"][0], 1 / _length_in(stack, "Y", unit))
        metadata["unit"] = {"µm": "micron", "Å": "angstrom", "in": "inch"}.get(unit, unit)
        metadata["unit"] = str(metadata["unit"]).encode("ascii", "replace").decode()  # the format is ASCII only
        if "Z" in voxel:
            metadata["spacing"] = _length_in(stack, "Z", unit)
        if (interval := stack.step("T", "s")) is not None:
            metadata["finterval"] = interval
    tifffile.imwrite(
        file,
        stack.every_plane(dtype),
        shape=stack.shape,
        dtype=dtype,
        imagej=True,
        compression="zlib",
        photometric="minisblack",
        resolution=resolution,
        metadata=metadata,
        software=f"napari-fewshot {__version__}",
    )


def _write_ome(file: Any, stack: LabelStack, dtype: np.dtype[Any]) -> None:
    import tifffile

    voxel = stack.voxel
    metadata: dict[str, Any] = {"axes": stack.axes, "Creator": f"napari-fewshot {__version__}"}
    for axis in "XYZ":
        if axis in voxel:
            metadata[f"PhysicalSize{axis}"] = voxel[axis][0]
            unit = voxel[axis][1]
            metadata[f"PhysicalSize{axis}Unit"] = unit if unit in METRES or unit == "pixel" else "reference frame"
    resolution = None  # for readers that do not know OME
    if all(voxel.get(axis, (0, ""))[1] in METRES for axis in "YX"):
        x, y = (0.01 / (voxel[axis][0] * METRES[voxel[axis][1]]) for axis in "XY")
        resolution = (x, y) if all(1 / _LARGEST_RATIONAL < r < _LARGEST_RATIONAL for r in (x, y)) else None
    if (interval := stack.step("T", "s")) is not None:
        metadata["TimeIncrement"], metadata["TimeIncrementUnit"] = interval, "s"
    tifffile.imwrite(
        file,
        stack.every_plane(dtype),
        shape=stack.shape,
        dtype=dtype,
        ome=True,
        resolution=resolution,
        resolutionunit="CENTIMETER" if resolution else None,
        bigtiff=math.prod(stack.shape) * dtype.itemsize >= _CLASSIC_TIFF_BYTES,
        compression="zlib",
        photometric="minisblack",
        metadata=metadata,
        software=f"napari-fewshot {__version__}",
    )


def _length_in(stack: LabelStack, axis: str, unit: str) -> float:
    """Return the step along ``axis`` in ``unit``, as it stands where the two do not convert."""
    converted = stack.step(axis, unit) if unit in METRES else None
    return stack.voxel[axis][0] if converted is None else converted
