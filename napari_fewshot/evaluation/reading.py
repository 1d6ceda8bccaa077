"""Finding and reading the files of data sets, with errors that say what is missing and where it was looked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import PIL.Image
import tifffile

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Image, Labels

TIFF: Final = (".tif", ".tiff")
_COLOURS: Final = ("P", "PA", "CMYK", "YCbCr")  # whose values are no brightness


def find_folder(root: Path, places: Sequence[str], needed: str, what: str) -> Path:
    """Return the first of some places below a folder that has what is needed in it.

    Parameters
    ----------
    root
        What the user named.
    places
        Folders below it, "" for itself.
    needed
        File or folder that has to be there, "" for the place itself.
    what
        What is looked for, for the message.

    Raises
    ------
    SettingsError
        If it is nowhere.
    """
    tried = [root / place for place in places]
    for folder in tried:
        if (folder / needed).exists():
            return folder
    if not root.is_dir():
        raise SettingsError(f"{root} is not a folder; name the one that holds {what}")
    told = f"{needed} is in none of" if needed else "there is none of"
    raise SettingsError(
        f"{what} was not found: {told} {', '.join(map(str, tried))}; name the folder that holds it, or complete it"
    )


def read_rgb(file: Path) -> Image:
    """Read a photograph (H, W, 3) uint8; gray ones become RGB, as in all published loaders.

    Raises
    ------
    SettingsError
        If there is none, or it is damaged.
    """
    return _read(file, "RGB")


def read_gray(file: Path) -> npt.NDArray[np.uint8]:
    """Read an image as gray, (H, W) uint8.

    Raises
    ------
    SettingsError
        If there is none, or it is damaged.
    """
    return _read(file, "L")


def read_any(file: Path) -> Image:
    """Read an image as it is: (H, W) or (H, W, up to 3 channels), 8 or 16 bits, PNG, JPEG or TIFF.

    Raises
    ------
    SettingsError
        If there is none, it is damaged, or it is more than one plane.
    """
    image = _read(file, None)
    if image.ndim not in (2, 3):
        raise SettingsError(f"{file} has {image.ndim} dimensions; save single images, gray or with channels last")
    return image[..., :3] if image.ndim == 3 and image.shape[-1] > 2 else image[..., 0] if image.ndim == 3 else image


def read_labels(file: Path) -> Labels:
    """Read a label map: (H, W) int32 of values 0 to 255, from a gray image or one with a palette.

    Raises
    ------
    SettingsError
        If there is none, it is damaged, or it is no label map.
    """
    labels = _read(file, None, palette=False)
    if labels.ndim != 2:
        raise SettingsError(
            f"{file} is {' x '.join(map(str, labels.shape))}, a picture in colours; "
            "label maps have one value per pixel: gray, or with a palette"
        )
    if labels.dtype.kind not in "uib" or (labels.size and (labels.min() < 0 or labels.max() > 255)):
        raise SettingsError(
            f"{file} holds values up to {labels.max()}; number classes, not objects, from 1 to 254, "
            "with 0 for background and 255 for what nobody labelled"
        )
    return labels.astype(np.int32)


def resized(image: Image, size: int) -> Image:
    """Squash an image (H, W, 3) uint8 to a square of so many pixels, bilinear, as published loaders do."""
    return np.asarray(PIL.Image.fromarray(image).resize((size, size), PIL.Image.Resampling.BILINEAR))


def resized_labels(labels: Labels, size: int) -> Labels:
    """Squash a label map (H, W) to a square of so many pixels, by nearest neighbours."""
    small = PIL.Image.fromarray(labels.astype(np.uint8)).resize((size, size), PIL.Image.Resampling.NEAREST)
    return np.asarray(small).astype(np.int32)


def _read(file: Path, mode: str | None, *, palette: bool = True) -> npt.NDArray[Any]:
    if not file.is_file():
        raise SettingsError(f"{file} is missing; complete the data set, or leave the image out of its list")
    try:
        if file.suffix.lower() in TIFF:
            return tifffile.imread(file)
        with PIL.Image.open(file) as opened:
            wanted = mode or ("RGB" if palette and opened.mode in _COLOURS else opened.mode)
            return np.asarray(opened if opened.mode == wanted else opened.convert(wanted))
    except Exception as error:  # decoders raise whatever they like
        raise SettingsError(f"{file} cannot be read as an image ({error}); fetch it again") from error
