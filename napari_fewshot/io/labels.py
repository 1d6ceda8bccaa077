"""Label maps to TIFF files that Fiji, napari, QuPath and Python open with the right scale.

The smallest unsigned type that holds the values, compressed without loss, voxel size and unit kept. The
file is an ImageJ hyperstack where that format can hold it, otherwise (ids above 65535, more than five
axes or another order of them, more than 4 GB) an OME-TIFF; both are read by the same programs.
"""

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot import __version__
from napari_fewshot.errors import ExportError
from napari_fewshot.io.atomic import refuse_existing, replacing

LabelArray: TypeAlias = Any
"""(..., Y, X) whole numbers: an array, or a lazy one (dask, zarr, ...) that is read in slabs."""

_DEFAULT_AXES: Final = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX", 6: "TQZCYX", 7: "TQZPCYX", 8: "TQZPCAYX"}
_IMAGEJ_AXES: Final = "TZCYX"  # the order of an ImageJ hyperstack
_OME_AXES: Final = "TZCQPARHEYX"
_CLASSIC_TIFF_BYTES: Final = 2**32 - 2**25
_SLAB_BYTES: Final = 2**26  # of a lazy array in memory at once
_LARGEST_RATIONAL: Final = 2**31  # TIFF keeps resolutions as fractions of 32-bit numbers

_DOCK_KEY: Final = "napari_fewshot"  # in the metadata of label layers that belong to the dock
_PAINTED_BACKGROUND: Final = 254  # in those layers, where 0 says that nobody painted

_METRES: Final = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12, "in": 0.0254}
_SECONDS: Final = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}
_UNIT_NAMES: Final = {
    "metre": "m", "meter": "m", "centimetre": "cm", "centimeter": "cm", "millimetre": "mm", "millimeter": "mm",
    "micrometre": "µm", "micrometer": "µm", "micron": "µm", "microns": "µm", "um": "µm", "μm": "µm",
    "nanometre": "nm", "nanometer": "nm", "angstrom": "Å", "ångström": "Å", "picometre": "pm", "picometer": "pm",
    "inch": "in", "hour": "h", "minute": "min", "second": "s", "sec": "s", "millisecond": "ms", "microsecond": "µs",
    "us": "µs", "μs": "µs", "px": "pixel", "pixels": "pixel", "": "pixel", "dimensionless": "pixel",
}  # fmt: skip
_AXIS_NAMES: Final = {
    "t": "T", "time": "T", "frame": "T", "z": "Z", "depth": "Z", "slice": "Z", "plane": "Z",
    "c": "C", "ch": "C", "channel": "C", "y": "Y", "x": "X",
}  # fmt: skip


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
    path = _with_suffix(Path(path))
    refuse_existing(path, overwrite=overwrite)
    stack = _checked_stack(labels, axes, path.name)
    voxel = _voxel(stack.axes, spacing, unit)
    top = stack.top()
    dtype = np.min_scalar_type(top)
    if dtype.itemsize > 4:
        raise ExportError(f"'{path.name}' would hold ids up to {top}; relabel it so that ids stay below 2^32")
    with replacing(path, overwrite=overwrite) as file:
        if _is_imagej(path, stack, dtype, voxel):
            _write_imagej(file, stack, dtype, top, voxel)
        else:
            _write_ome(file, stack, dtype, voxel)
    return path


def write_layer(path: str, data: LabelArray, attributes: dict[str, Any]) -> list[str]:
    """Write one napari labels layer (npe2 writer for ``labels``); napari has asked about overwriting.

    Parameters
    ----------
    path
        Where to write.
    data
        The layer's data; of a multiscale layer the full resolution is written.
    attributes
        The layer's state; ``scale``, ``units`` and ``axis_labels`` are kept in the file. In a layer of the dock, which
        has ``napari_fewshot`` in its ``metadata``, painted background becomes 0, as it is in files.

    Returns
    -------
    list of str
        The file that was written.
    """
    return [str(_write_layer(Path(path), data, attributes, overwrite=True))]


def write_layers(path: str, layer_data: Sequence[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write several napari labels layers (npe2 writer for ``labels+``), each to a file named after its layer.

    One layer goes to ``path`` itself. Several go into a folder that is named like ``path`` without its
    ``.tif``; as napari has not asked about the files in there, none of them is overwritten.

    Parameters
    ----------
    path
        Where to write.
    layer_data
        (data, attributes, "labels") of each layer.

    Returns
    -------
    list of str
        The files that were written.

    Raises
    ------
    ExportError
        If one of the files in the folder exists, or cannot be written.
    """
    if len(layer_data) == 1:
        ((data, attributes, _),) = layer_data
        return write_layer(path, data, attributes)
    folder = Path(path)
    if folder.suffix.lower() in (".tif", ".tiff"):
        folder = folder.with_suffix("")
    names = default_names(str(attributes.get("name", "")) for _, attributes, _ in layer_data)
    for name in names:
        refuse_existing(folder / name, overwrite=False)
    return [
        str(_write_layer(folder / name, data, attributes, overwrite=False))
        for name, (data, attributes, _) in zip(names, layer_data, strict=True)
    ]


def default_name(layer_name: str) -> str:
    """Name the file for a layer, with nothing in it that a file system refuses.

    >>> default_name("plate 3: well B/7")
    'plate 3_ well B_7_labels.tif'
    """
    name = unicodedata.normalize("NFC", layer_name)
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\[\]]+', "_", name).strip(" ._")
    name = re.sub(r"\.tiff?$", "", name, flags=re.IGNORECASE)
    name = name.encode()[:200].decode(errors="ignore").strip(" ._")  # file systems count bytes
    if re.search(r"(^|[ _-])labels$", name, flags=re.IGNORECASE):
        return f"{name}.tif"
    return f"{name}_labels.tif" if name else "labels.tif"


def default_names(layer_names: Iterable[str]) -> list[str]:
    """Name the files for several layers so that none has the name of another, whatever its case.

    >>> default_names(["cells", "Cells"])
    ['cells_labels.tif', 'Cells_labels_2.tif']
    """
    names: list[str] = []
    for wanted in map(default_name, layer_names):
        taken = {name.casefold() for name in names}
        name, number = wanted, 2
        while name.casefold() in taken:
            name = f"{wanted.removesuffix('.tif')}_{number}.tif"
            number += 1
        names.append(name)
    return names


# ---------------------------------------------------------------------------- the labels
@dataclass(frozen=True, eq=False)
class _Stack:
    """Labels (..., Y, X) with one letter for each axis."""

    labels: LabelArray
    axes: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(int, self.labels.shape))

    def slabs(self) -> Iterator[npt.NDArray[Any]]:
        """Read (n, ..., Y, X) or (Y, X), a bounded part of the memory at a time."""
        if len(self.shape) == 2:
            yield np.asarray(self.labels)
            return
        step = max(1, _SLAB_BYTES // max(1, math.prod(self.shape[1:]) * self.labels.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            yield np.asarray(self.labels[start : start + step])

    def planes(self, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
        """Read one (Y, X) after the other."""
        for slab in self.slabs():
            for plane in slab.reshape(-1, *slab.shape[-2:]):
                yield np.ascontiguousarray(plane, dtype=dtype)

    def top(self) -> int:
        """Return the largest id."""
        lowest = highest = 0
        for slab in self.slabs():
            lowest, highest = min(lowest, int(slab.min())), max(highest, int(slab.max()))
        if lowest < 0:
            raise ExportError(f"the labels hold {lowest}; ids below 0 cannot be exported: use 0 for background")
        return highest


def _checked_stack(labels: LabelArray, axes: str | None, name: str) -> _Stack:
    if not (hasattr(labels, "shape") and hasattr(labels, "dtype")):
        labels = np.asarray(labels)
    shape = tuple(map(int, labels.shape))
    if np.dtype(labels.dtype).kind not in "uib":
        raise ExportError(
            f"'{name}' would hold values of type {labels.dtype}; labels are whole numbers: "
            "convert them, for example with labels.astype('uint16')"
        )
    if len(shape) < 2:
        raise ExportError(f"'{name}' would have shape {shape}; give a label map (height, width) or a stack of them")
    if math.prod(shape) == 0:
        raise ExportError(f"'{name}' would be empty, shape {shape}; choose a layer that has pixels")
    if len(shape) not in _DEFAULT_AXES:
        raise ExportError(f"'{name}' would have {len(shape)} dimensions; at most 8 fit: export a part of it")
    axes = (axes or _DEFAULT_AXES[len(shape)]).upper()
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not axes.endswith("YX") or set(axes) - set(_OME_AXES):
        raise ExportError(
            f"axes '{axes}' do not fit labels of shape {shape}; "
            f"give {len(shape)} different letters of T, Z, C, Y, X that end in YX"
        )
    return _Stack(labels, axes)


# ---------------------------------------------------------------------------- voxel size and unit
_Voxel: TypeAlias = dict[str, tuple[float, str]]
"""Axis letter -> its step and unit; axes without a known step are left out."""


def _voxel(axes: str, spacing: Sequence[float] | None, unit: str | Sequence[str] | None) -> _Voxel:
    if spacing is None:
        return {}
    steps = [float(step) for step in spacing]
    units = [unit or "pixel"] * len(axes) if unit is None or isinstance(unit, str) else list(unit)
    if len(steps) != len(axes) or len(units) != len(axes):
        raise ExportError(
            f"{len(steps)} spacing(s) and {len(units)} unit(s) were given for {len(axes)} axes; give one for each"
        )
    if not all(math.isfinite(step) and step > 0 for step in steps):
        raise ExportError(f"spacing {tuple(steps)} is not a size; give numbers above 0")
    voxel = {axis: (step, _unit(name)) for axis, step, name in zip(axes, steps, units, strict=True)}
    return {} if all(value == (1.0, "pixel") for value in voxel.values()) else voxel


def _unit(name: object) -> str:
    """Say a unit in one way: 'micrometer', 'um' and a pint unit all become 'µm'."""
    word = str(name).strip()
    return _UNIT_NAMES.get(word, _UNIT_NAMES.get(word.lower(), word))


def _length_in(voxel: _Voxel, axis: str, unit: str) -> float:
    """Return the step along ``axis`` in ``unit``, as it stands where the two do not convert."""
    step, own = voxel[axis]
    return step * _METRES[own] / _METRES[unit] if own in _METRES and unit in _METRES else step


def _seconds(voxel: _Voxel) -> float | None:
    step, unit = voxel.get("T", (0.0, ""))
    return step * _SECONDS[unit] if unit in _SECONDS else None


# ---------------------------------------------------------------------------- the two formats
def _is_imagej(path: Path, stack: _Stack, dtype: np.dtype[Any], voxel: _Voxel) -> bool:
    resolutions = [1 / voxel[axis][0] for axis in "YX" if axis in voxel]
    return (
        not re.search(r"\.ome\.tiff?$", path.name, flags=re.IGNORECASE)
        and dtype.itemsize <= 2
        and stack.axes == "".join(axis for axis in _IMAGEJ_AXES if axis in stack.axes)
        and math.prod(stack.shape) * dtype.itemsize < _CLASSIC_TIFF_BYTES
        and all(1 / _LARGEST_RATIONAL < r < _LARGEST_RATIONAL for r in resolutions)
    )


def _write_imagej(file: Any, stack: _Stack, dtype: np.dtype[Any], top: int, voxel: _Voxel) -> None:
    import tifffile

    # with min and max Fiji shows class 1 and 2 as shades of gray instead of black
    metadata: dict[str, Any] = {"axes": stack.axes, "min": 0, "max": top}
    resolution = None
    if voxel:
        unit = voxel["X"][1]
        resolution = (1 / voxel["X"][0], 1 / _length_in(voxel, "Y", unit))
        metadata["unit"] = {"µm": "micron", "Å": "angstrom", "in": "inch"}.get(unit, unit)
        metadata["unit"] = str(metadata["unit"]).encode("ascii", "replace").decode()  # the format is ASCII only
        if "Z" in voxel:
            metadata["spacing"] = _length_in(voxel, "Z", unit)
        if (interval := _seconds(voxel)) is not None:
            metadata["finterval"] = interval
    tifffile.imwrite(
        file,
        stack.planes(dtype),
        shape=stack.shape,
        dtype=dtype,
        imagej=True,
        compression="zlib",
        photometric="minisblack",
        resolution=resolution,
        metadata=metadata,
        software=f"napari-fewshot {__version__}",
    )


def _write_ome(file: Any, stack: _Stack, dtype: np.dtype[Any], voxel: _Voxel) -> None:
    import tifffile

    metadata: dict[str, Any] = {"axes": stack.axes, "Creator": f"napari-fewshot {__version__}"}
    for axis in "XYZ":
        if axis in voxel:
            metadata[f"PhysicalSize{axis}"] = voxel[axis][0]
            unit = voxel[axis][1]
            metadata[f"PhysicalSize{axis}Unit"] = unit if unit in _METRES or unit == "pixel" else "reference frame"
    resolution = None  # for readers that do not know OME
    if all(voxel.get(axis, (0, ""))[1] in _METRES for axis in "YX"):
        x, y = (0.01 / (voxel[axis][0] * _METRES[voxel[axis][1]]) for axis in "XY")
        resolution = (x, y) if all(1 / _LARGEST_RATIONAL < r < _LARGEST_RATIONAL for r in (x, y)) else None
    if (interval := _seconds(voxel)) is not None:
        metadata["TimeIncrement"], metadata["TimeIncrementUnit"] = interval, "s"
    tifffile.imwrite(
        file,
        stack.planes(dtype),
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


# ---------------------------------------------------------------------------- napari layers
def _write_layer(path: Path, data: LabelArray, attributes: dict[str, Any], *, overwrite: bool) -> Path:
    full = data[0] if attributes.get("multiscale") else data
    if _DOCK_KEY in (attributes.get("metadata") or {}):
        full = _WithoutPaintedBackground(full)
    ndim = len(full.shape)
    scale = attributes.get("scale")
    units = attributes.get("units")
    return write_labels_tiff(
        path,
        full,
        # a mirrored axis has a negative scale; a size is positive
        spacing=None if scale is None else [abs(float(step)) for step in scale],
        unit=None if units is None else [str(unit) for unit in ([units] * ndim if isinstance(units, str) else units)],
        axes=_axes_of(attributes.get("axis_labels"), ndim),
        overwrite=overwrite,
    )


class _WithoutPaintedBackground:
    """Labels of the dock, 0 where background was painted; read in slabs like any lazy array."""

    def __init__(self, labels: LabelArray) -> None:
        self._labels = labels
        self.shape: tuple[int, ...] = tuple(map(int, labels.shape))
        self.dtype: np.dtype[Any] = np.dtype(labels.dtype)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        part = np.asarray(self._labels[index])
        return np.where(part == _PAINTED_BACKGROUND, part.dtype.type(0), part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def _axes_of(axis_labels: Sequence[str] | None, ndim: int) -> str | None:
    """Translate napari's axis labels; None, which is the default order, where they say something else."""
    letters = [_AXIS_NAMES.get(str(label).strip().lower(), "") for label in axis_labels or ()]
    axes = "".join(letters)
    usable = len(letters) == len(axes) == len(set(axes)) == ndim and axes.endswith("YX")
    return axes if usable else None


def _with_suffix(path: Path) -> Path:
    return path if path.suffix.lower() in (".tif", ".tiff") else path.with_name(path.name + ".tif")
