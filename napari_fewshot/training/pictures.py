"""Pictures to train on, read from folders or taken from scikit-image, on the scale that images are segmented on."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from skimage import data

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Image, Instances, Labels
from napari_fewshot.imaging.intensity import to_unit_range
from napari_fewshot.io.names import TIFF
from napari_fewshot.io.rasters import read_image, read_raster
from napari_fewshot.support import UNLABELLED

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image to train on.

    Attributes
    ----------
    pixels
        (channels, H, W) uint8, 1 or 3 channels, from the 0.1st to the 99.9th percentile.
    labels
        (H, W) uint8: 0 background, 1..C classes, 255 not labelled. None where nothing is known. Crops are cut of other
        numbers in the same way: int32.
    objects
        File with a number for each object, see `read_objects`; None where there is none.
    """

    pixels: Bytes
    labels: Bytes | Instances | None = None
    objects: Path | None = None


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Pictures of one kind; labels mean the same on all of them."""

    name: str
    pictures: tuple[Picture, ...]

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Classes of all labels, ascending."""
        labels = [p.labels for p in self.pictures if p.labels is not None]
        found = set().union(*(np.unique(each).tolist() for each in labels)) if labels else set()
        return tuple(sorted(found - {0, UNLABELLED}))


def picture(image: Image, labels: Labels | None = None) -> Picture:
    """Make a picture of an image (H, W) or (H, W, channels); channels beyond the third are left out."""
    planes = to_unit_range(image[..., :3] if image.ndim == 3 else image)
    planes = planes[:1] if len(planes) == 2 else planes
    known = None if labels is None else labels.astype(np.uint8)
    return Picture((planes.clip(0, 1) * 255).round().astype(np.uint8), known)


def read_sets(root: Path) -> tuple[PictureSet, ...]:
    """Read all sets below a folder: ``<set>/images/*`` and ``<set>/labels/*``, PNG or TIFF of the same names.

    Files of these names in ``<set>/instances/`` are found, and read when they are asked for.

    Raises
    ------
    SettingsError, ReadError
        If there is none, or a file of one cannot be used; the message names it.
    """
    sets = tuple(_read_set(folder) for folder in _set_folders(root))
    if not sets:
        raise SettingsError(f"there is no data set below {root}: expected folders with images/ and labels/ in them")
    return sets


def data_cards(root: Path) -> list[dict[str, str]]:
    """List name, licence and source of every set below a folder, from its ``meta.json``, for the card of weights."""
    return [_data_card(folder) for folder in _set_folders(root)]


def _set_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise SettingsError(f"{root} is not a folder; name the one that holds the data sets")
    return sorted(folder for folder in root.iterdir() if (folder / "images").is_dir())


def _read_set(folder: Path) -> PictureSet:
    files = sorted(file for file in (folder / "images").iterdir() if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise SettingsError(f"{folder / 'images'} holds no image: expected PNG or TIFF files")
    pictures = (_read_picture(file, folder / "labels") for file in files)
    objects = (_beside(file, folder / "instances") for file in files)
    return PictureSet(folder.name, tuple(replace(p, objects=of) for p, of in zip(pictures, objects, strict=True)))


def read_objects(drawn: Picture) -> Instances | None:
    """Read the objects of a picture: (H, W) int32, 0 for none; None where nobody numbered them.

    Raises
    ------
    SettingsError, ReadError
        If their file cannot be used; the message names it.
    """
    if drawn.objects is None:
        return None
    ids = read_raster(drawn.objects, indices=True)
    ids = ids[..., 0] if ids.ndim == 3 else ids
    if ids.shape != drawn.pixels.shape[-2:]:
        raise SettingsError(f"{drawn.objects} is {ids.shape}, but its image is {drawn.pixels.shape[-2:]}")
    return ids.astype(np.int32)


def _beside(file: Path, folder: Path) -> Path | None:
    """Find the file of the same name in a folder."""
    found = [path for suffix in _SUFFIXES if (path := folder / f"{file.stem}{suffix}").is_file()]
    return found[0] if found else None


def _read_picture(file: Path, labels_folder: Path) -> Picture:
    known = _beside(file, labels_folder)
    image = read_image(file)
    if known is None:
        return picture(image)
    labels = read_raster(known, indices=True)
    labels = labels[..., 0] if labels.ndim == 3 else labels
    if labels.shape != image.shape[:2]:
        raise SettingsError(f"{known} is {labels.shape}, but its image is {image.shape[:2]}: give them one size")
    if labels.min() < 0 or labels.max() > UNLABELLED:
        raise SettingsError(
            f"{known} holds labels from {labels.min()} to {labels.max()}: give each class, not each object, "
            f"a number of 1 to {UNLABELLED - 1}, with 0 for background and {UNLABELLED} for what nobody labelled"
        )
    return picture(image, labels)


def _data_card(folder: Path) -> dict[str, str]:
    file = folder / "meta.json"
    try:
        meta = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise SettingsError(f"{file} is not JSON ({error}); mend it or delete it") from error
    return {
        "name": folder.name,
        "licence": str(meta.get("licence_data", "not stated")),
        "source": str(meta.get("source_repo", "not stated")),
    }


_SUFFIXES: Final = (".png", *TIFF)

_BUNDLED: Final = (
    "astronaut", "brick", "camera", "cat", "cell", "chelsea", "clock", "coffee", "coins", "colorwheel", "grass",
    "gravel", "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Images that scikit-image installs with itself: nothing is downloaded."""


def bundled_pictures() -> PictureSet:
    """Take the images inside scikit-image, without labels."""
    images: Iterable[Image] = [getattr(data, name)() for name in _BUNDLED]
    left, right, _ = data.stereo_motorcycle()
    return PictureSet("scikit-image", tuple(picture(np.asarray(image)) for image in (*images, left, right)))


BUNDLED_CARD: Final = {
    "name": "images inside scikit-image",
    "licence": "CC0 or public domain where their documentation states it; distributed under BSD-3-Clause",
    "source": "https://scikit-image.org/docs/stable/api/skimage.data.html",
}
"""Of `bundled_pictures`, for the card of weights."""
