"""Single pictures: PNG, JPEG and TIFF files of one plane, read whole.

What is larger, or has more axes, is opened by `napari_fewshot.io.images`.
"""

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
import tifffile

from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Image, Labels
from napari_fewshot.io.names import TIFF
from napari_fewshot.support import MAX_CLASSES, UNLABELLED

DECODER_ERRORS: Final = (
    OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError,
    RuntimeError, MemoryError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    PIL.Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow, tifffile, imagecodecs and NumPy raise on damaged files.

Pillow raises OSError and, on broken PNG chunks, SyntaxError; tifffile ValueError, or whatever its structures run into;
codecs RuntimeError (imagecodecs), zlib.error or LZMAError; all of them MemoryError where a header asks for too much.
"""

_COLOURS: Final = ("P", "PA", "CMYK", "YCbCr")  # whose values are no brightness


def read_rgb(file: Path) -> Image:
    """Read a photograph (H, W, 3) uint8; gray ones become RGB, as in all published loaders.

    Raises
    ------
    ReadError
        If there is none, or it is damaged.
    """
    return read_raster(file, "RGB")


def read_gray(file: Path) -> npt.NDArray[np.uint8]:
    """Read an image as gray, (H, W) uint8.

    Raises
    ------
    ReadError
        If there is none, or it is damaged.
    """
    return read_raster(file, "L")


def read_image(file: Path) -> Image:
    """Read an image as it is: (H, W) or (H, W, up to 3 channels), 8 or 16 bits, PNG, JPEG or TIFF.

    Raises
    ------
    ReadError
        If there is none, it is damaged, or it is more than one plane.
    """
    image = read_raster(file)
    if image.ndim not in (2, 3):
        raise ReadError(f"{file} has {image.ndim} dimensions; save single images, gray or with channels last")
    return image[..., :3] if image.ndim == 3 and image.shape[-1] > 2 else image[..., 0] if image.ndim == 3 else image


def read_label_map(file: Path) -> Labels:
    """Read a label map: (H, W) int32 of values 0 to 255, from a gray image or one with a palette.

    Raises
    ------
    ReadError
        If there is none, it is damaged, or it is no label map.
    """
    labels = read_raster(file, indices=True)
    if labels.ndim != 2:
        raise ReadError(
            f"{file} is {' x '.join(map(str, labels.shape))}, a picture in colours; "
            "label maps have one value per pixel: gray, or with a palette"
        )
    if labels.dtype.kind not in "uib" or (labels.size and (labels.min() < 0 or labels.max() > UNLABELLED)):
        raise ReadError(
            f"{file} holds values up to {labels.max()}; number classes, not objects, from 1 to {MAX_CLASSES}, "
            f"with 0 for background and {UNLABELLED} for what nobody labelled"
        )
    return labels.astype(np.int32)


def read_raster(
    file: str | os.PathLike[str], mode: Literal["RGB", "L"] | None = None, *, indices: bool = False
) -> npt.NDArray[Any]:
    """Read all of a PNG, JPEG or TIFF file into an array.

    Parameters
    ----------
    file
        Which; the suffix decides about TIFF.
    mode
        Turn pictures, but not TIFF files, into RGB (H, W, 3) uint8 or gray (H, W) uint8.
    indices
        Of a picture with a palette, return the indices instead of the colours.

    Raises
    ------
    ReadError
        If there is no such file, or it cannot be decoded.
    """
    file = Path(file)
    if not file.is_file():
        raise ReadError(f"{file} is missing; complete the data set, or leave the image out of its list")
    try:
        if file.suffix.lower() in TIFF:
            return tifffile.imread(file)
        with PIL.Image.open(file) as opened:
            wanted = mode or ("RGB" if not indices and opened.mode in _COLOURS else opened.mode)
            return np.asarray(opened if opened.mode == wanted else opened.convert(wanted))
    except DECODER_ERRORS as error:
        raise damaged(file, error) from error


def damaged(file: object, error: BaseException) -> ReadError:
    """Say that a file cannot be decoded, and what its decoder had to say."""
    said = " ".join((str(error) or type(error).__name__).split())[:300]
    return ReadError(f"{file} cannot be read as an image ({said}); save it again, fetch it again or take it out")
