"""NumPy's files: arrays (.npy, mapped from the disk; .npz), and masks of Cellpose (_seg.npy), without unpickling."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.inert_pickle import array_of, parse
from napari_fewshot.io.rasters import DECODER_ERRORS, damaged

SUFFIXES: Final = (".npy", ".npz")
_MOST_BYTES: Final = 2**34  # of a packed array, once it is unpacked
_MOST_COLOURS: Final = 4


def open_numpy(path: Path, axes: str = "") -> ImageFile:
    """Open an array; axes that are not named are guessed: a last one of 3 or 4 is colours, others are T, Z, Y, X.

    Raises
    ------
    ReadError
        If it is none, or holds Python objects.
    """
    array = read_array(path)
    return ImageFile(path, array, axes.upper() or guess_axes(array.shape, path))


def read_array(path: Path) -> npt.NDArray[Any]:
    """Map an array from a .npy file, or read the only one of a .npz file.

    Raises
    ------
    ReadError
        If it is none, or holds Python objects.
    """
    try:
        if path.suffix.lower() == ".npz":
            return _packed_array(path)
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    except DECODER_ERRORS as error:
        if "Object arrays" in str(error) or "hasobject" in str(error) or "Array can't be memory-mapped" in str(error):
            raise ReadError(
                f"{path} holds Python objects, not an array; save the array itself with numpy.save"
            ) from error
        raise damaged(path, error) from error


def guess_axes(shape: tuple[int, ...], path: object) -> str:
    """Name the axes of an array that nobody named.

    >>> guess_axes((64, 48, 3), "a"), guess_axes((9, 64, 48), "a"), guess_axes((5, 9, 64, 48), "a")
    ('YXS', 'ZYX', 'TZYX')
    """
    if len(shape) > 2 and 3 <= shape[-1] <= _MOST_COLOURS:
        return guess_axes(shape[:-1], path) + "S"
    names = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}
    if len(shape) not in names:
        raise ReadError(f"{path} has shape {shape}; images have 2 to 5 dimensions, name their axes otherwise")
    return names[len(shape)]


def is_cellpose(path: Path) -> bool:
    """Whether a name is that of Cellpose's own files."""
    return path.name.lower().endswith("_seg.npy")


def read_cellpose(path: Path) -> npt.NDArray[np.int64]:
    """Read the masks out of a ``_seg.npy`` file of Cellpose: 0 is background, every other value a cell.

    Such a file is a pickle of Python objects. It is read without unpickling; see `napari_fewshot.io.inert_pickle`.

    Raises
    ------
    ReadError
        If there are no masks in it that can be read in that way; it says how to export them.
    """
    try:
        with open(path, "rb") as file:
            _skip_header(file)
            told = parse(file)
        masks = array_of(_content(told)["masks"])
    except (*DECODER_ERRORS, ReadError) as error:
        raise ReadError(
            f"the masks in {path} cannot be read safely ({error}); save them as PNG or TIFF in Cellpose "
            "(File > Save masks), and use that file"
        ) from error
    if masks is None or masks.dtype.kind not in "uib":
        raise ReadError(f"{path} holds no masks; save them as PNG or TIFF in Cellpose (File > Save masks)")
    return masks.astype(np.int64)


def _skip_header(file: BinaryIO) -> None:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read(file)


def _content(told: Any) -> dict[str, Any]:
    """Find the dictionary in an array of one object."""
    if isinstance(told, dict):
        return told
    items = told.state[-1]
    if isinstance(items, list) and len(items) == 1 and isinstance(items[0], dict):
        return items[0]
    raise ReadError("it is no file of Cellpose")


def _packed_array(path: Path) -> npt.NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        inside = [each for each in archive.infolist() if each.filename.endswith(".npy")]
        if len(inside) != 1:
            raise ReadError(f"{path} holds {len(inside)} arrays; save the one that is meant as .npy")
        if inside[0].file_size > _MOST_BYTES:
            raise ReadError(f"{path} unpacks to {inside[0].file_size / 2**30:.0f} GiB; save it as .npy")
        with archive.open(inside[0]) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
