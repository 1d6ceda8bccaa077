"""TIFF images of any size: plain, multi-page, ImageJ and OME, decoded by strips or tiles as they are indexed."""

import atexit
import logging
import math
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tifffile

from napari_fewshot.errors import ReadError
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.names import check_inside
from napari_fewshot.io.rasters import DECODER_ERRORS, damaged
from napari_fewshot.io.units import unit_symbol

_MOST_OPEN: Final = 8
_PAGES_ARE_LOST: Final = ("page offset", "invalid offset to", "missing data offset", "missing data ByteCounts")
_MOST_SEGMENT_BYTES: Final = 2**31  # of a strip or tile, once decoded
_MOST_PLANES: Final = 2**22
_FREE_LETTERS: Final = "ZTQPARHE"  # for axes without a meaning, in this order
_KNOWN: Final = set("YXSC" + _FREE_LETTERS)


def open_tiff(path: Path) -> tuple[ImageFile, ...]:
    """Open all images of a TIFF file, one for each series of pages of one size; smaller copies are left out.

    Raises
    ------
    ReadError
        If it cannot be read, or ends too early.
    """
    try:
        with _complaints() as complaints, tifffile.TiffFile(path) as file:
            _check_ome(file, path)
            series = [each for each in file.series if each.shape and 0 not in each.shape]
            opened = tuple(_image(path, file, number, each) for number, each in enumerate(series))
    except ReadError:
        raise
    except DECODER_ERRORS as error:
        raise damaged(path, error) from error
    lost = [text for text in complaints if any(words in text for words in _PAGES_ARE_LOST)]
    if lost:
        raise damaged(path, ValueError(lost[0]))
    if not opened:
        raise ReadError(f"{path} holds no image; save it again")
    return opened


def _check_ome(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse OME metadata of more planes than anybody has, which would all be made up, or of files elsewhere."""
    told = (file.ome_metadata or "") if file.is_ome else ""
    for pixels in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", told):
        planes = math.prod(int(n) for n in re.findall(r"\bSize[ZCT]\s*=\s*[\"'](\d+)", pixels))
        if planes > _MOST_PLANES:
            raise ReadError(f"{path} claims to hold {planes:,} planes; it is damaged: save it again")
    for name in re.findall(r"\bFileName\s*=\s*[\"']([^\"']*)", told):
        check_inside(name, path)


def _image(path: Path, file: tifffile.TiffFile, number: int, series: Any) -> ImageFile:
    if series.dtype is None or series.keyframe.dtype is None:
        raise ReadError(f"{path} holds values of a type that is not known; save it again with 8, 16 or 32 bits")
    axes = _with_meaning(series.axes, tuple(series.shape))
    sizes = _sizes(file, number)
    known = {"Y", "X"} <= sizes.keys()
    return ImageFile(
        path=path,
        array=_Series(path, number, tuple(series.shape), np.dtype(series.dtype)),
        axes=axes,
        spacing=tuple(sizes.get(axis, (1.0, ""))[0] for axis in axes) if known else None,
        units=tuple(sizes.get(axis, (1.0, "pixel"))[1] for axis in axes) if known else None,
    )


def _with_meaning(axes: str, shape: tuple[int, ...]) -> str:
    """Give axes that tifffile only numbers (I: pages) a letter of their own."""
    free = [letter for letter in _FREE_LETTERS if letter not in axes]
    letters = []
    for axis in axes:
        letters.append(axis if axis in _KNOWN and axis not in letters else free.pop(0))
    return "".join(letters)


# ---------------------------------------------------------------------------- pixels
class _Series:
    """Pixels of one series, read where they are indexed; at most a few files stay open."""

    def __init__(self, path: Path, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._number = path, number
        self.shape, self.dtype, self.ndim = shape, dtype.newbyteorder("="), len(shape)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        index = () if index == (...,) else index
        index += (slice(None),) * (self.ndim - len(index))
        try:
            with _FILES.opened(self._path) as file:
                part = _region(file.series[self._number], index, self._path)
        except ReadError:
            raise
        except DECODER_ERRORS as error:
            raise damaged(self._path, error) from error
        return part.astype(self.dtype, copy=False)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def _region(series: Any, index: tuple[Any, ...], path: Path) -> npt.NDArray[Any]:
    shape, keyframe = tuple(series.shape), series.keyframe
    if series.dataoffset is not None:  # not compressed, in one piece
        file = series.parent.filehandle
        if series.dataoffset + math.prod(shape) * series.dtype.itemsize > file.size:
            raise damaged(path, ValueError("the file ends too early"))
        dtype = series.dtype.newbyteorder(series.parent.byteorder)
        return np.array(file.memmap_array(dtype, shape, series.dataoffset)[index])
    within = len(keyframe.shape)
    if shape[len(shape) - within :] != tuple(keyframe.shape):  # pages that are no planes
        return np.asarray(series.asarray()[index])
    leading = shape[: len(shape) - within]
    chosen = [_numbers(part, n) for part, n in zip(index, leading, strict=False)]
    numbers = np.ravel_multi_index(np.ix_(*chosen), leading).ravel() if leading else [0]
    pages = [_page_region(series.pages[int(i)], keyframe, index[len(leading) :], path) for i in numbers]
    kept = [len(each) for each, part in zip(chosen, index, strict=False) if isinstance(part, slice)]
    return np.stack(pages).reshape(*kept, *pages[0].shape)


def _page_region(page: Any, keyframe: Any, index: tuple[Any, ...], path: Path) -> npt.NDArray[Any]:
    """Decode the strips or tiles of a page (Y, X) or (Y, X, samples) that a region lies in."""
    if page is None:  # OME-TIFF may leave out pages
        return np.asarray(np.zeros(keyframe.shape, keyframe.dtype)[index])
    planar, depth, height, width, samples = keyframe.shaped
    _check_segments(page, keyframe, path)
    if planar != 1 or depth != 1 or keyframe.axes not in ("YX", "YXS"):
        return np.asarray(page.asarray()[index])
    (top, bottom), (left, right) = (_bounds(part, n) for part, n in zip(index[:2], (height, width), strict=True))
    canvas = np.zeros((bottom - top, right - left, samples), keyframe.dtype)
    for y, x, segment in _segments(page, keyframe, (top, bottom), (left, right)):
        y0, y1 = max(y, top), min(y + segment.shape[0], bottom)
        x0, x1 = max(x, left), min(x + segment.shape[1], right)
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = segment[y0 - y : y1 - y, x0 - x : x1 - x]
    relative = tuple(_relative(part, start) for part, start in zip(index[:2], (top, left), strict=True))
    return np.asarray(canvas.reshape(*canvas.shape[:2], *keyframe.shape[2:])[relative + index[2:]])


def _segments(
    page: Any, keyframe: Any, rows: tuple[int, int], columns: tuple[int, int]
) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    """Decode what lies in some rows and columns: where it begins (y, x), and its pixels (h, w, samples)."""
    height, width = keyframe.shaped[2:4]
    if keyframe.is_tiled:
        tall, wide = keyframe.tilelength, keyframe.tilewidth
    else:
        tall, wide = min(keyframe.rowsperstrip, height), width
    across = -(-width // wide)
    wanted = [
        y * across + x
        for y in range(rows[0] // tall, -(-rows[1] // tall))
        for x in range(columns[0] // wide, -(-columns[1] // wide))
    ]
    options: dict[str, Any] = {"_fullsize": keyframe.is_tiled}
    if keyframe.compression in _JPEG:
        options |= {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
    offsets, counts = ([values[i] for i in wanted] for values in (page.dataoffsets, page.databytecounts))
    for data, number in page.parent.filehandle.read_segments(offsets, counts, indices=wanted, sort=True):
        segment, (_, _, y, x, _), _ = keyframe.decode(data, number, **options)
        if segment is not None:
            yield y, x, segment[0, : height - y, : width - x]


def _check_segments(page: Any, keyframe: Any, path: Path) -> None:
    """Refuse strips and tiles that lie behind the end of the file, or are larger than memory holds."""
    size = page.parent.filehandle.size
    _check_count(page, keyframe, path)
    ends = np.add(page.dataoffsets, page.databytecounts, dtype=np.float64)  # which may lie beyond 64 bits
    if ends.size and ends.max() > size:
        raise damaged(path, ValueError("the file ends too early"))
    tall = keyframe.tilelength if keyframe.is_tiled else min(keyframe.rowsperstrip, keyframe.imagelength)
    wide = keyframe.tilewidth if keyframe.is_tiled else keyframe.imagewidth
    if tall * wide * keyframe.samplesperpixel * keyframe.dtype.itemsize > _MOST_SEGMENT_BYTES:
        raise ReadError(f"{path} has parts of {tall} x {wide} pixels that are decoded as a whole; save it with tiles")


def _check_count(page: Any, keyframe: Any, path: Path) -> None:
    """Refuse a page that claims more strips or tiles than it lists: to go through what is not there takes for ever."""
    listed = min(len(page.dataoffsets), len(page.databytecounts))
    if math.prod(keyframe.chunked) > listed and not keyframe.is_contiguous:
        raise damaged(path, ValueError(f"it lists {listed} of {math.prod(keyframe.chunked):,} strips or tiles"))


def _bounds(part: Any, length: int) -> tuple[int, int]:
    """First row of an index, and the one after the last."""
    rows = range(length)[part]
    return (rows, rows + 1) if isinstance(rows, int) else (min(rows), max(rows) + 1) if rows else (0, 0)


def _numbers(part: Any, length: int) -> list[int]:
    """All that an index means."""
    numbers = range(length)[part]
    return [numbers] if isinstance(numbers, int) else list(numbers)


def _relative(part: Any, start: int) -> Any:
    """The same index, counted from ``start``."""
    if not isinstance(part, slice):
        return int(part) - start if int(part) >= 0 else 0
    return slice(None, None, part.step)


class _OpenFiles:
    """The files that were read last, kept open: the directory of a file with many pages takes a while to go through."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, int], tifffile.TiffFile] = OrderedDict()
        self._lock = RLock()

    @contextmanager
    def opened(self, path: Path) -> Iterator[tifffile.TiffFile]:
        key = (str(path), os.stat(path).st_mtime_ns)
        with self._lock:
            if key not in self._files:
                self._files[key] = tifffile.TiffFile(path)
            self._files.move_to_end(key)
            while len(self._files) > _MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            yield self._files[key]

    def close(self) -> None:
        """Close all of them; they are opened again where somebody reads on."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()


_FILES: Final = _OpenFiles()
atexit.register(_FILES.close)
_JPEG: Final = (6, 7, 33007, 34892)


# ---------------------------------------------------------------------------- size of a pixel
def _sizes(file: tifffile.TiffFile, number: int) -> dict[str, tuple[float, str]]:
    """Axis -> step and unit, as far as the file tells; what it tells in a way that cannot be read is left out."""
    try:
        if file.is_ome:
            found = _ome_sizes(file, number)
        elif file.is_imagej:
            found = _imagej_sizes(file)
        else:
            found = _resolution(file, {3: (1e4, "µm")})  # pixels a centimetre; those an inch are made up by programs
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError, SyntaxError):
        return {}
    return {axis: (step, unit) for axis, (step, unit) in found.items() if math.isfinite(step) and step > 0}


def _ome_sizes(file: tifffile.TiffFile, number: int) -> dict[str, tuple[float, str]]:
    images = tifffile.xml2dict(file.ome_metadata or "")["OME"]["Image"]
    pixels = (images if isinstance(images, list) else [images])[number]["Pixels"]
    found = {
        axis: (float(pixels[f"PhysicalSize{axis}"]), unit_symbol(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        for axis in "XYZ"
        if f"PhysicalSize{axis}" in pixels
    }
    if "TimeIncrement" in pixels:
        found["T"] = float(pixels["TimeIncrement"]), unit_symbol(pixels.get("TimeIncrementUnit", "s"))
    return found


def _imagej_sizes(file: tifffile.TiffFile) -> dict[str, tuple[float, str]]:
    told = file.imagej_metadata or {}
    unit = unit_symbol(str(told.get("unit", "pixel")).replace("\\u00B5", "µ"))
    if unit == "pixel":
        return {}
    found = _resolution(file, {1: (1.0, unit), 2: (1.0, unit), 3: (1.0, unit)})
    if "spacing" in told:
        found["Z"] = abs(float(told["spacing"])), unit
    if "finterval" in told:
        found["T"] = float(told["finterval"]), "s"
    return found


def _resolution(file: tifffile.TiffFile, units: dict[int, tuple[float, str]]) -> dict[str, tuple[float, str]]:
    tags = file.pages.first.tags
    told = tags.get("ResolutionUnit")
    factor, unit = units.get(1 if told is None else int(told.value), (0.0, ""))
    found = {}
    for axis in "XY":
        tag = tags.get(f"{axis}Resolution")
        if tag is not None and factor:
            numerator, denominator = tag.value
            found[axis] = factor * denominator / numerator, unit
    return found


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs: pages that it cannot find are missing silently otherwise."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger = logging.getLogger("tifffile")
    logger.addHandler(listener)
    try:
        yield told
    finally:
        logger.removeHandler(listener)
