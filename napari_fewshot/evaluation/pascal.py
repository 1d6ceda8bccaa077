"""PASCAL-5i: the 20 classes of PASCAL VOC 2012 in four folds (Shaban et al., BMVC 2017, arXiv 1709.03410)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from napari_fewshot.errors import SettingsError
from napari_fewshot.evaluation.pools import FOLDS, Pool, Report, check_fold
from napari_fewshot.evaluation.reading import find_folder
from napari_fewshot.frames import Labels
from napari_fewshot.io.rasters import read_label_map, read_rgb
from napari_fewshot.support import UNLABELLED

VOC_CLASSES: Final = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip

LEAST_AREA: Final = 2 * 32 * 32
"""Pixels of a class from which on an image is taken to show it: OSLSM's rule, in words that PFENet's loader quotes."""

_PLACES: Final = ("", "VOC2012", "VOCdevkit/VOC2012", "PASCAL/VOC2012")
_MASKS: Final = ("SegmentationClassAug", "SegmentationClass")


def pascal_classes(fold: int) -> tuple[int, ...]:
    """Return the test classes of a fold, 5 i + 1 to 5 i + 5.

    The text of the paper that introduced it prints 4 i + 1 to 4 i + 5, by which folds would share classes; the code
    of all its successors has blocks of five (PANet's `util/utils.py`, PFENet's `util/dataset.py`, HSNet's
    `data/pascal.py`).

    Examples
    --------
    >>> pascal_classes(1)
    (6, 7, 8, 9, 10)
    """
    check_fold(fold)
    return tuple(range(5 * fold + 1, 5 * fold + 6))


def pascal_pools(
    root: Path,
    folds: Sequence[int] = FOLDS,
    *,
    images: str = "val",
    least_area: int = LEAST_AREA,
    report: Report = lambda done, total: None,
) -> tuple[Pool, ...]:
    """Look through the masks of PASCAL VOC 2012 and make a pool of each fold.

    Expected is the published layout: ``JPEGImages/*.jpg``; ``SegmentationClassAug/*.png`` (masks of VOC and SBD
    together, preferred where it is there) or ``SegmentationClass/*.png`` (VOC's); ``ImageSets/Segmentation/val.txt``.
    Without that list, all images with a mask are taken. Borders (255) are left out, in shots and in scores.

    Published protocols differ in which images tests are drawn from: PFENet and HSNet use the 1,449 of ``val.txt``,
    PANet's published configuration ``trainaug.txt`` in testing too. PFENet leaves out images on which the class has
    less than 2,048 pixels, PANet does not. HSNet takes borders of shots as background.

    Parameters
    ----------
    root
        The folder ``VOC2012``, or one that holds it, itself or in ``VOCdevkit``.
    folds
        Which, of 0 to 3.
    images
        Which list of ``ImageSets/Segmentation``.
    least_area
        Pixels of a class from which on an image is taken to show it.
    report
        Told how far it is.

    Raises
    ------
    SettingsError
        If something is missing; the message says where it was looked for.
    """
    wanted = [pascal_classes(fold) for fold in folds]
    folder = find_folder(root, _PLACES, "JPEGImages", "PASCAL VOC 2012")
    masks = next((folder / name for name in _MASKS if (folder / name).is_dir()), None)
    if masks is None:
        raise SettingsError(
            f"{folder} holds images but no masks: neither {' nor '.join(_MASKS)} is there; unpack the masks beside it"
        )
    listed = folder / "ImageSets" / "Segmentation" / f"{images}.txt"
    if listed.is_file():
        names, origin = listed.read_text("utf-8").split(), f"ImageSets/Segmentation/{images}.txt"
    elif images == "val":
        names, origin = sorted(file.stem for file in masks.glob("*.png")), "no list, all masks"
        names = [name for name in names if (folder / "JPEGImages" / f"{name}.jpg").is_file()]
    else:
        raise SettingsError(f"{listed} is missing; name another list, or none")
    members: dict[int, list[str]] = {}
    for done, name in enumerate(names):
        report(done, len(names))
        areas = np.bincount(read_label_map(masks / f"{name}.png").ravel(), minlength=256)
        for class_id in range(1, len(VOC_CLASSES) + 1):
            if areas[class_id] >= max(1, least_area):
                members.setdefault(class_id, []).append(name)
    about = f"PASCAL VOC 2012, {origin} ({len(names):,} images), masks of {masks.name}"
    about += f", classes from {least_area:,} pixels on" if least_area > 1 else ""
    return tuple(
        Pool(
            "PASCAL-5i",
            fold,
            about,
            {c: VOC_CLASSES[c - 1] for c in classes},
            {c: tuple(sorted(members.get(c, ()))) for c in classes},
            lambda name: read_rgb(folder / "JPEGImages" / f"{name}.jpg"),
            partial(_labels, masks),
        )
        for fold, classes in zip(folds, wanted, strict=True)
    )


def _labels(masks: Path, name: str, class_ids: tuple[int, ...]) -> Labels:
    order = np.zeros(256, np.int32)
    order[UNLABELLED] = UNLABELLED
    order[list(class_ids)] = range(1, len(class_ids) + 1)
    return order[read_label_map(masks / f"{name}.png")]
