"""DICOM: a folder of slices as one volume in the order in which they lie in the body, or a single file (pydicom)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.optional import needed
from napari_fewshot.io.rasters import DECODER_ERRORS, damaged

SUFFIXES: Final = (".dcm", ".dicom", ".ima")


def is_dicom(path: Path) -> bool:
    """Whether a file says itself that it is DICOM, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_dicom(files: Iterable[Path]) -> tuple[ImageFile, ...]:
    """Open the series that some files make up, each sorted along the normal of its slices.

    Values are those that the scanner means (rescale slope and intercept applied). Files without pixels are passed over.

    Raises
    ------
    ReadError
        If a file is damaged, the slices of a series differ in size, or there is no picture at all.
    """
    series: dict[str, list[_Slice]] = {}
    for file in files:
        found = _look(file)
        if found is not None:
            series.setdefault(found.series, []).append(found)
    if not series:
        raise ReadError("there is no picture in these DICOM files; choose the folder of a series")
    return tuple(_volume(slices) for slices in series.values())


@dataclass(frozen=True, eq=False)
class _Slice:
    path: Path
    series: str
    shape: tuple[int, ...]
    spacing: tuple[float, float] | None
    thickness: float
    place: float
    number: int
    rescaled: bool
    corner: npt.NDArray[np.float64] | None
    directions: npt.NDArray[np.float64] | None


class _Volume:
    """Slices (Z, Y, X[, S]) that are decoded when they are indexed."""

    def __init__(self, slices: list[_Slice], dtype: np.dtype[Any]) -> None:
        self._slices = slices
        self.shape, self.dtype = (len(slices), *slices[0].shape), dtype
        self.ndim = len(self.shape)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        first, rest = (slice(None), ()) if index in ((), (...,)) else (index[0], index[1:])
        if not isinstance(first, slice):
            return self._decode(self._slices[first])[rest]
        return np.stack([self._decode(each)[rest] for each in self._slices[first]])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def _decode(self, each: _Slice) -> npt.NDArray[Any]:
        return _pixels(each.path).astype(self.dtype, copy=False)


def _pixels(path: Path) -> npt.NDArray[Any]:
    pydicom = needed("pydicom", "dicom", "reading DICOM")
    processing = needed("pydicom.pixels.processing", "dicom", "reading DICOM")
    try:
        data = pydicom.dcmread(path)
        return np.asarray(processing.apply_modality_lut(data.pixel_array, data))
    except DECODER_ERRORS as error:
        raise damaged(path, error) from error


def _look(path: Path) -> _Slice | None:
    pydicom = needed("pydicom", "dicom", "reading DICOM")
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True)
        if "Rows" not in data or "Columns" not in data:
            return None
        frames = int(data.get("NumberOfFrames", 1) or 1)
        samples = int(data.get("SamplesPerPixel", 1) or 1)
        shape = (
            *((frames,) if frames > 1 else ()),
            int(data.Rows),
            int(data.Columns),
            *((samples,) if samples > 1 else ()),
        )
        spacing = data.get("PixelSpacing")
        corner, directions = data.get("ImagePositionPatient"), data.get("ImageOrientationPatient")
        axes = None if not directions else np.array(directions, float).reshape(2, 3)
        place = float(data.get("InstanceNumber", 0) or 0)
        if corner and axes is not None:
            place = float(np.cross(*axes) @ np.array(corner, float))
        return _Slice(
            path,
            str(data.get("SeriesInstanceUID", "")),
            shape,
            None if not spacing else (float(spacing[0]), float(spacing[1])),
            float(data.get("SpacingBetweenSlices") or data.get("SliceThickness") or 1),
            place,
            int(data.get("InstanceNumber", 0) or 0),
            "RescaleSlope" in data or "ModalityLUTSequence" in data,
            None if not corner else np.array(corner, float),
            axes,
        )
    except (*DECODER_ERRORS, pydicom.errors.InvalidDicomError) as error:
        raise damaged(path, error) from error


def _volume(slices: list[_Slice]) -> ImageFile:
    slices = sorted(slices, key=lambda each: (each.place, each.number, each.path.name))
    first = slices[0]
    other = next((each for each in slices if each.shape != first.shape), None)
    if other is not None:
        raise ReadError(
            f"{first.path} is {first.shape} but {other.path} {other.shape}; keep each series in a folder of its own"
        )
    dtype = _pixels(first.path).dtype
    path = first.path if len(slices) == 1 else first.path.parent
    colours = len(first.shape) in (3, 4) and first.shape[-1] in (3, 4)
    axes = "ZYX"[-(len(first.shape) - colours) :] + "S" * colours
    volume: Any = _Volume(slices, dtype)
    if len(slices) == 1:
        volume = _Single(volume)
    elif "Z" in axes:
        axes = f"T{axes}"
    else:
        axes = f"Z{axes}"
    steps = {"Z": (_distance(slices), "mm")}
    if first.spacing is not None:
        steps |= {"Y": (first.spacing[0], "mm"), "X": (first.spacing[1], "mm")}
    return ImageFile(
        path,
        volume,
        axes,
        None if first.spacing is None else tuple(steps.get(axis, (1.0, ""))[0] for axis in axes),
        None if first.spacing is None else tuple(steps.get(axis, (1.0, "pixel"))[1] for axis in axes),
        _affine(slices),
    )


class _Single:
    """The only slice of a volume."""

    def __init__(self, volume: _Volume) -> None:
        self._volume = volume
        self.shape, self.dtype, self.ndim = volume.shape[1:], volume.dtype, volume.ndim - 1

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        return np.asarray(self._volume[0][index])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def _distance(slices: list[_Slice]) -> float:
    places = np.array([each.place for each in slices])
    known = len(slices) > 1 and all(each.corner is not None and each.directions is not None for each in slices)
    steps = np.diff(places) if known else np.array([slices[0].thickness])
    return float(np.median(np.abs(steps))) or slices[0].thickness


def _affine(slices: list[_Slice]) -> npt.NDArray[np.float64] | None:
    """(4, 4) from (X, Y, Z) to millimetres in NIfTI's directions (right, front, up), which mirror DICOM's first two."""
    first = slices[0]
    if first.corner is None or first.directions is None or first.spacing is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 2] = np.cross(*first.directions) * _distance(slices)
    affine[:3, 3] = first.corner
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
