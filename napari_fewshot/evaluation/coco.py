"""COCO-20i: the 80 classes of MS COCO in four folds, of which there are two partitions that cannot be compared."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from napari_fewshot.errors import SettingsError
from napari_fewshot.evaluation.pascal import LEAST_AREA
from napari_fewshot.evaluation.pools import FOLDS, Pool, Report, check_fold
from napari_fewshot.evaluation.reading import find_folder
from napari_fewshot.frames import Labels
from napari_fewshot.io.coco_masks import decode
from napari_fewshot.io.rasters import read_rgb
from napari_fewshot.support import UNLABELLED

Partition = Literal["interleaved", "contiguous"]

PARTITIONS: Final[tuple[Partition, ...]] = ("interleaved", "contiguous")

CLASSES: Final = 80
_PLACES: Final = ("", "COCO2014", "coco", "COCO", "MSCOCO2014")


def coco_classes(fold: int, partition: Partition = "interleaved") -> tuple[int, ...]:
    """Return the test classes of a fold, as positions 1 to 80 in the order of COCO's category ids.

    - *interleaved*: every fourth class from i + 1 on. FWB (Nguyen & Todorovic, ICCV 2019; its `coco.py`), PFENet's
      published configurations (``use_split_coco: True``), HSNet (`data/coco.py`), and most that came later.
    - *contiguous*: 20 i + 1 to 20 i + 20. PANet (`util/utils.py`), and PFENet's code with ``use_split_coco: False``.

    Raises
    ------
    SettingsError
        If there is no such fold or partition.

    Examples
    --------
    >>> coco_classes(0)[:4], coco_classes(3)[-1]
    ((1, 5, 9, 13), 80)
    >>> coco_classes(1, "contiguous")[:4]
    (21, 22, 23, 24)
    """
    check_fold(fold)
    if partition not in PARTITIONS:
        raise SettingsError(f"there is no partition '{partition}' of COCO; choose one of: {', '.join(PARTITIONS)}")
    if partition == "interleaved":
        return tuple(range(fold + 1, CLASSES + 1, 4))
    return tuple(range(20 * fold + 1, 20 * fold + 21))


def coco_pools(
    root: Path,
    folds: Sequence[int] = FOLDS,
    *,
    partition: Partition = "interleaved",
    images: str = "val2014",
    least_area: int = LEAST_AREA,
    report: Report = lambda done, total: None,
) -> tuple[Pool, ...]:
    """Read the annotations of COCO and make a pool of each fold.

    Expected is the published layout: ``val2014/*.jpg`` (or ``images/val2014``) and
    ``annotations/instances_val2014.json``. A class is everything that is annotated with it, crowds included. Where two
    classes of an episode overlap, which annotations allow, the pixel is left out (255); a class that is not asked for
    never hides one that is.

    Published protocols differ. PFENet and HSNet test on val2014, PANet's published configuration on train2014. PANet
    reads instances, as here; PFENet and HSNet read label maps made of them, in which one class hides another.
    PFENet leaves out images on which a class has less than 2,048 pixels; here the areas that annotations state are
    added up for that.

    Parameters
    ----------
    root
        The folder with images and ``annotations``, or one that holds it as ``COCO2014`` or ``coco``.
    folds
        Which, of 0 to 3.
    partition
        See `coco_classes`.
    images
        Which part: val2014, or train2014, val2017, train2017.
    least_area
        Pixels of a class from which on an image is taken to show it.
    report
        Told how many annotations were gone through.

    Raises
    ------
    SettingsError
        If something is missing or damaged; the message says where it was looked for.
    """
    wanted = [coco_classes(fold, partition) for fold in folds]
    listed = f"annotations/instances_{images}.json"
    folder = find_folder(root, _PLACES, listed, "MS COCO")
    photographs = find_folder(folder, (images, f"images/{images}"), "", f"the images {images} of MS COCO")
    names, sizes, files, outlines = _index(folder / listed, {c for classes in wanted for c in classes}, report)
    members: dict[int, list[str]] = {}
    for (name, class_id), parts in outlines.items():
        if sum(area for area, _ in parts) >= max(1, least_area):
            members.setdefault(class_id, []).append(name)
    about = f"MS COCO {images} ({len(files):,} images), partition '{partition}'"
    about += f", classes from {least_area:,} pixels on" if least_area > 1 else ""
    return tuple(
        Pool(
            "COCO-20i",
            fold,
            about,
            {c: names[c - 1] for c in classes},
            {c: tuple(sorted(members.get(c, ()))) for c in classes},
            lambda name: read_rgb(photographs / files[name]),
            partial(_labels, outlines, sizes),
        )
        for fold, classes in zip(folds, wanted, strict=True)
    )


Outlines = dict[tuple[str, int], list[tuple[float, Any]]]
"""(image, class) -> area and segmentation of each annotation."""


def _index(
    file: Path, wanted: set[int], report: Report
) -> tuple[list[str], dict[str, tuple[int, int]], dict[str, str], Outlines]:
    """Names of all classes; size and file name of each image; outlines of the wanted classes."""
    try:
        told = json.loads(file.read_bytes())
        categories = sorted(told["categories"], key=lambda category: int(category["id"]))
        photographs = {image["id"]: image for image in told["images"]}
        annotations = told["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{file} is not a file of instances as COCO publishes them ({error!r})") from error
    if len(categories) != CLASSES:
        raise SettingsError(f"{file} names {len(categories)} categories, not {CLASSES}: COCO-20i needs all of COCO's")
    positions = {category["id"]: position for position, category in enumerate(categories, start=1)}
    outlines: Outlines = {}
    for done, annotation in enumerate(annotations):
        if done % 10_000 == 0:
            report(done, len(annotations))
        class_id = positions.get(annotation["category_id"])
        if class_id in wanted and annotation["image_id"] in photographs:
            key = (Path(photographs[annotation["image_id"]]["file_name"]).stem, class_id)
            outlines.setdefault(key, []).append((float(annotation["area"]), annotation["segmentation"]))
    files = {Path(image["file_name"]).stem: str(image["file_name"]) for image in photographs.values()}
    sizes = {Path(i["file_name"]).stem: (int(i["height"]), int(i["width"])) for i in photographs.values()}
    return [str(category["name"]) for category in categories], sizes, files, outlines


def _labels(outlines: Outlines, sizes: dict[str, tuple[int, int]], name: str, class_ids: tuple[int, ...]) -> Labels:
    labels = np.zeros(sizes[name], np.int32)
    for position, class_id in enumerate(class_ids, start=1):
        for _, segmentation in outlines.get((name, class_id), ()):
            mask = decode(segmentation, sizes[name])
            labels[mask & (labels != 0) & (labels != position)] = UNLABELLED
            labels[mask & (labels == 0)] = position
    return labels
