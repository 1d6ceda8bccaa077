"""OME-Zarr 0.4 (Zarr 2) and 0.5 (Zarr 3): images in chunks, from a folder, a .zip or a URL.

Specification: https://ngff.openmicroscopy.org. What metadata says is checked before anything is done with it: paths of
arrays stay below their group, and no chunk may be larger than memory could hold.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.names import check_inside
from napari_fewshot.io.optional import needed
from napari_fewshot.io.rasters import DECODER_ERRORS, damaged
from napari_fewshot.io.units import unit_symbol

_MOST_CHUNK_BYTES: Final = 2**30  # once decoded; usual ones have a few MB
_MOST_METADATA_BYTES: Final = 2**24
_MOST_LEVELS: Final = 64
_METADATA: Final = (".zattrs", ".zgroup", ".zarray", ".zmetadata", "zarr.json")
_DEFAULT_AXES: Final = "TCZYX"  # of versions before 0.3, which do not name them


@dataclass(frozen=True, eq=False)
class OmeImage:
    """An image of an OME-Zarr group: its levels, from the finest on, and what the finest one's axes are.

    Attributes
    ----------
    group
        The zarr group.
    version
        0.4, 0.5, ...
    axes
        A letter for each.
    scales
        (size of a pixel along each axis) of each level.
    units
        Along each axis.
    arrays
        The levels.
    """

    group: Any
    version: str
    axes: str
    scales: tuple[tuple[float, ...], ...]
    units: tuple[str, ...]
    arrays: tuple[Any, ...]


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Tell by the name, or by what is in the folder, whether this is zarr."""
    text = str(path).rstrip("/").lower()
    if text.endswith((".zarr", ".zarr.zip", ".ozx")):
        return True
    return not is_url(path) and any(
        (Path(path) / name).is_file() for name in (".zattrs", ".zgroup", "zarr.json", ".zarray")
    )


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether fsspec has to fetch it: ``https://...``, ``s3://...``, ``memory://...``."""
    return "://" in str(path)


def open_ome_zarr(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image of OME-Zarr, or a plain zarr array; chunks are read when they are needed.

    Parameters
    ----------
    path
        A folder, a zip file of one, or a URL that fsspec knows (``https``, ``s3``, ``gs``, ...), of the image's group.

    Raises
    ------
    ReadError
        If it is not there, or it is no image; or if its metadata is not to be trusted.
    """
    node = open_node(path)
    if hasattr(node, "chunks"):  # an array without metadata
        array = _checked(node, path)
        axes = "ZYX" if array.ndim == 3 else _DEFAULT_AXES[-array.ndim :] if 2 <= array.ndim <= 5 else "?"
        return ImageFile(_place(path), _Chunked(array, path), axes)
    image = ome_image(node, path)
    return ImageFile(
        path=_place(path),
        array=_Chunked(image.arrays[0], path),
        axes=image.axes,
        spacing=image.scales[0],
        units=image.units,
        levels=tuple(_Chunked(array, path) for array in image.arrays),
    )


def open_node(path: str | os.PathLike[str], mode: str = "r") -> Any:
    """Open a zarr group or array, after a look at how large its metadata is.

    Raises
    ------
    ReadError
        If there is none.
    """
    zarr = needed("zarr", "zarr", "OME-Zarr")
    text = str(path).rstrip("/")
    try:
        if is_url(path):
            needed("fsspec", "zarr", "reading from a URL")
            return zarr.open(zarr.storage.FsspecStore.from_url(text, read_only=True), mode="r")
        if Path(text).is_file():
            return zarr.open(zarr.storage.ZipStore(text, read_only=True), mode="r")
        if not Path(text).is_dir():
            raise ReadError(f"{path} is not there; check its name")
        _check_metadata_size(Path(text))
        return zarr.open(zarr.storage.LocalStore(text, read_only=mode == "r"), mode=mode)
    except ImportError as error:  # of fsspec, which names the package for the protocol
        raise ReadError(f"{path} cannot be opened: {error}") from error
    except DECODER_ERRORS as error:
        raise ReadError(f"{path} cannot be opened as zarr ({str(error)[:300]}); check its address") from error


def ome_image(group: Any, path: str | os.PathLike[str]) -> OmeImage:
    """Read the metadata of an image's group.

    Raises
    ------
    ReadError
        If it is none, or lies.
    """
    attributes = dict(group.attrs)
    told = attributes.get("ome", attributes)
    try:
        if "multiscales" not in told:
            raise ReadError(f"{path} is no image of OME-Zarr{_hint(group, told)}")
        scales = told["multiscales"][0]
        version = str(told.get("version", scales.get("version", "0.4")))
        paths = [str(level["path"]) for level in scales["datasets"]]
        if not 1 <= len(paths) <= _MOST_LEVELS:
            raise ReadError(f"{path} names {len(paths)} levels; it is damaged")
        arrays = tuple(_array_below(group, each, path) for each in paths)
        axes = _axes(scales.get("axes"), arrays[0].ndim)
        common = _scale_of(scales, arrays[0].ndim)
        steps = [_scale_of(level, arrays[0].ndim) for level in scales["datasets"]]
        units = [
            unit_symbol(each.get("unit", "pixel")) if isinstance(each, dict) else "pixel"
            for each in scales.get("axes") or axes
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ReadError(f"{path} has metadata that OME-Zarr does not know ({error!r}); write it again") from error
    sizes = tuple(tuple(a * b for a, b in zip(step, common, strict=True)) for step in steps)
    return OmeImage(group, version, axes, sizes, tuple(units), arrays)


def label_names(group: Any) -> tuple[str, ...]:
    """Names of the label images beside an image; () where there are none."""
    if "labels" not in group:
        return ()
    attributes = dict(group["labels"].attrs)
    return tuple(str(name) for name in attributes.get("ome", attributes).get("labels", ()))


class _Chunked:
    """A zarr array whose decoders' errors say which file is damaged."""

    def __init__(self, array: Any, path: object) -> None:
        self._array, self._path = array, path
        self.shape: tuple[int, ...] = tuple(map(int, array.shape))
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.chunks: tuple[int, ...] = tuple(map(int, array.chunks))
        self.ndim = len(self.shape)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._array[index])
        except DECODER_ERRORS as error:
            raise damaged(self._path, error) from error

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def _array_below(group: Any, inner: str, path: str | os.PathLike[str]) -> Any:
    inner = check_inside(inner, path)
    if not is_url(path) and Path(path).is_dir():
        folder = Path(path) / inner
        if not folder.resolve().is_relative_to(Path(path).resolve()):
            raise ReadError(f"{path} names '{inner}', a link to outside of it; it is not opened")
        _check_metadata_size(folder)
    try:
        return _checked(group[inner], path)
    except KeyError as error:
        raise ReadError(f"{path} names level '{inner}', which is missing; fetch it again") from error


def _checked(array: Any, path: object) -> Any:
    chunk = math.prod(map(int, array.chunks)) * np.dtype(array.dtype).itemsize
    shards = getattr(array, "shards", None)
    if chunk > _MOST_CHUNK_BYTES:
        raise ReadError(
            f"{path} has chunks of {chunk / 2**30:.1f} GiB, shape {tuple(array.chunks)}; write it with smaller ones"
        )
    if shards is not None and math.prod(map(int, shards)) // max(1, math.prod(map(int, array.chunks))) > 2**20:
        raise ReadError(f"{path} has shards of more than a million chunks; write it with smaller ones")
    return array


def _check_metadata_size(folder: Path) -> None:
    for name in _METADATA:
        file = folder / name
        if file.is_file() and file.stat().st_size > _MOST_METADATA_BYTES:
            raise ReadError(f"{file} holds {file.stat().st_size / 2**20:.0f} MiB of metadata; it is not opened")


def _axes(told: Any, ndim: int) -> str:
    if not told:
        return _DEFAULT_AXES[-ndim:]
    names = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in told]
    return "".join(name[:1].upper() for name in names)


def _scale_of(level: dict[str, Any], ndim: int) -> tuple[float, ...]:
    for each in level.get("coordinateTransformations") or ():
        if each.get("type") == "scale" and "scale" in each:
            steps = tuple(abs(float(step)) for step in each["scale"])
            if len(steps) != ndim or not all(math.isfinite(step) and step > 0 for step in steps):
                raise ValueError(f"scale {each['scale']} for {ndim} axes")
            return steps
    return (1.0,) * ndim


def _hint(group: Any, told: dict[str, Any]) -> str:
    inner: Sequence[str] = ()
    if "plate" in told:
        inner = [str(well.get("path")) for well in told["plate"].get("wells", ())[:1]]
        return f" but a plate; open one of its wells, such as {inner[0] + '/0' if inner else 'A/1/0'}"
    if "bioformats2raw.layout" in told or "0" in group:
        return "; open one of the images in it, such as 0"
    return "; open the folder that has 'multiscales' in its metadata"


def _place(path: str | os.PathLike[str]) -> Path | str:
    return str(path) if is_url(path) else Path(path)
