"""NIfTI: volumes of medical imaging, with the affine that says where they lie in the body (nibabel)."""

import gzip
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ExportError, ReadError
from napari_fewshot.io.atomic import refuse_existing, replacing
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.io.optional import needed
from napari_fewshot.io.rasters import DECODER_ERRORS, damaged

SUFFIXES: Final = (".nii", ".nii.gz")
_AXES: Final = "XYZTC"  # of the first five dimensions; the format is column-major, X runs fastest
_UNITS: Final = {"meter": "m", "mm": "mm", "micron": "µm", "sec": "s", "msec": "ms", "usec": "µs"}
_LONGEST: Final = 2**15 - 1  # side of a NIfTI-1 file
_MOST_BYTES: Final = 2**36  # of a volume that claims to be in a file


def open_nifti(path: Path) -> ImageFile:
    """Open a NIfTI file; volumes that are not compressed are read where they are indexed.

    Without an affine (neither sform nor qform is set) the size of a voxel is taken from the header alone.

    Raises
    ------
    ReadError
        If it cannot be read.
    """
    image = _load(path)
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= len(_AXES) or 0 in shape:
        raise ReadError(f"{path} has shape {image.shape}; save two to five dimensions with something in them")
    axes = _AXES[: len(shape)]
    space, time = image.header.get_xyzt_units()
    steps = [abs(float(step)) or 1.0 for step in image.header.get_zooms()[: len(shape)]]
    units = [_UNITS.get(time if axis == "T" else space, "pixel") if axis != "C" else "pixel" for axis in axes]
    return ImageFile(
        path=path,
        array=_Volume(image, shape, path),
        axes=axes,
        spacing=tuple(1.0 if axis == "C" else step for axis, step in zip(axes, steps, strict=True)),
        units=tuple(units),
        affine=np.array(image.affine, float),
    )


def write_nifti(path: Path, stack: LabelStack, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a label map or a volume with the affine of its image.

    Affine, size of a voxel and units are those of ``stack.source`` where that is a NIfTI file of the same shape.
    Otherwise the affine has the size of a voxel on its diagonal, X and Y mirrored, as SimpleITK writes what has no
    direction of its own.

    Raises
    ------
    ExportError
        If axes are there that NIfTI does not know, the file exists, or it cannot be written.
    """
    nibabel = needed("nibabel", "nifti", "writing NIfTI")
    refuse_existing(path, overwrite=overwrite)
    if set(stack.axes) - set(_AXES):
        raise ExportError(f"NIfTI knows the axes X, Y, Z, T and C only, not those of '{stack.axes}'; choose OME-Zarr")
    volume = _column_major(np.asarray(stack.labels[...]).astype(stack.smallest_dtype()), stack.axes)
    template = _template(stack, volume.shape)
    kind = nibabel.Nifti1Image if max(volume.shape) <= _LONGEST else nibabel.Nifti2Image
    if template is None:
        image = kind(volume, _diagonal(stack))
        image.header.set_xyzt_units(*_units(stack))
        image.header.set_zooms([*np.abs(np.diag(_diagonal(stack))[:3]), *_further(stack, volume.ndim)][: volume.ndim])
    else:
        image = kind(volume, template.affine, template.header)
        image.header.set_data_dtype(volume.dtype)
        image.header.set_sform(*template.header.get_sform(coded=True))
        image.header.set_qform(*template.header.get_qform(coded=True))
        image.header["descrip"] = b""
    image.header.set_slope_inter(1, 0)
    image.header["cal_max"] = image.header["cal_min"] = 0
    with replacing(path, overwrite=overwrite) as file:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=6) as packed:
                packed.write(image.to_bytes())
        else:
            file.write(image.to_bytes())
    return (path,)


class _Volume:
    """A volume on the disk, (X, Y, Z, ...); without the trailing dimensions of length 1."""

    def __init__(self, image: Any, shape: tuple[int, ...], path: Path) -> None:
        self._data, self._path = image.dataobj, path
        self._trailing = (0,) * (len(image.shape) - len(shape))
        self.shape = shape
        scaled = (getattr(self._data, "slope", 1.0), getattr(self._data, "inter", 0.0)) != (1.0, 0.0)
        self.dtype: np.dtype[Any] = (
            np.dtype(np.float32) if scaled else np.dtype(image.get_data_dtype()).newbyteorder("=")
        )

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        index += (slice(None),) * (len(self.shape) - len(index))
        try:
            part = self._data[index + self._trailing]
        except DECODER_ERRORS as error:
            raise damaged(self._path, error) from error
        return np.asarray(part).astype(self.dtype, copy=False)


def _load(path: Path) -> Any:
    nibabel = needed("nibabel", "nifti", "reading NIfTI")
    try:
        image = nibabel.load(path)
    except (*DECODER_ERRORS, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise damaged(path, error) from error
    claimed = int(np.prod([int(n) for n in image.shape], dtype=object)) * image.get_data_dtype().itemsize
    if claimed > _MOST_BYTES:
        raise ReadError(f"{path} claims to hold {claimed / 2**30:.0f} GiB; it is damaged, or has to be cut into parts")
    return image


def _column_major(labels: npt.NDArray[Any], axes: str) -> npt.NDArray[Any]:
    """(..., Y, X) -> (X, Y[, Z[, T[, C]]]), length 1 along axes that are not there."""
    last = max(_AXES.index(axis) for axis in axes)
    wanted = _AXES[: last + 1]
    there = labels.transpose([axes.index(axis) for axis in wanted if axis in axes])
    return there[tuple(slice(None) if axis in axes else None for axis in wanted)]


def _template(stack: LabelStack, shape: tuple[int, ...]) -> Any:
    source = stack.source
    if source is None or not source.name.lower().endswith(SUFFIXES) or not source.is_file():
        return None
    image = _load(source)
    return image if image.shape[:3] == (*shape, 1)[:3] else None


def _space(stack: LabelStack) -> str:
    return {"mm": "mm", "cm": "mm", "m": "mm"}.get(stack.voxel.get("X", (1, "pixel"))[1], "µm")


def _diagonal(stack: LabelStack) -> npt.NDArray[np.float64]:
    """Affine (4, 4) of what has a size, but no place."""
    x, y, z = ((stack.step(axis, _space(stack)) or stack.voxel.get(axis, (1.0, ""))[0]) for axis in "XYZ")
    return np.diag([-x, -y, z, 1.0])


def _further(stack: LabelStack, ndim: int) -> list[float]:
    return [stack.step("T", "s") or 1.0, 1.0][: max(0, ndim - 3)]


def _units(stack: LabelStack) -> tuple[str, str]:
    known = stack.step("X", _space(stack)) is not None
    space = {"mm": "mm", "µm": "micron"}[_space(stack)] if known else "unknown"
    return space, "sec" if stack.step("T", "s") is not None else "unknown"
