"""Masks that other tools made, as label maps and as shots: TIFF, NIfTI, OME-Zarr, PNG, COCO JSON, Cellpose, NumPy."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import MaskError, ReadError
from napari_fewshot.frames import Frame, Labels
from napari_fewshot.io import numpy_files
from napari_fewshot.io.coco import coco_classes, read_coco
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.images import names_of, open_images
from napari_fewshot.io.label_stack import Position
from napari_fewshot.io.names import PICTURES, check_inside
from napari_fewshot.io.ome_zarr import is_url, is_zarr, label_names, open_node, open_ome_zarr
from napari_fewshot.io.rasters import read_raster
from napari_fewshot.support import MAX_CLASSES, UNLABELLED, LabelClass, Shot


def read_shots(
    image: str | os.PathLike[str],
    mask: str | os.PathLike[str],
    *,
    objects: bool = False,
    numbered: bool = False,
    axes: str = "",
    positions: Collection[Position] | None = None,
) -> Iterator[Shot]:
    """Make shots of an image and the mask that another tool made of it, one for each slice.

    Parameters
    ----------
    image
        What `open_images` opens.
    mask
        A label map of the same size; see `open_labels`. In a stack, slices without any label are passed over: nobody
        may have looked at them. In a single image, no label says that nothing is there.
    objects
        Each value is an object, and all are of one class (id 1). That is always so of Cellpose's files.
    numbered
        Keep which pixel belongs to which object.
    axes
        Of the image, where its file does not say.
    positions
        The slices that somebody looked at, with labels or without; by default those with any label.

    Raises
    ------
    MaskError
        If the mask has another size than its image, or values that are no classes.
    ReadError
        If one of them cannot be read.
    """
    opened = open_images(image, axes=axes)[0]
    labels = open_labels(mask, image=Path(str(image)).name)
    if labels.stack_shape != opened.stack_shape:
        raise MaskError(
            f"the mask {mask} is {_size(labels.stack_shape)} but its image {image} is {_size(opened.stack_shape)}; "
            "give the mask of this image"
        )
    objects = objects or numpy_files.is_cellpose(Path(str(mask)))
    (name,) = names_of([str(image)])
    for frame, position in zip(opened.frames(name), np.ndindex(*opened.stack_shape[:-2]), strict=True):
        if positions is not None and position not in positions:
            continue
        plane = whole_numbers(labels.plane(position)[...], mask)
        if plane.any() or not position or positions is not None:
            yield _shot(frame, plane, mask, objects=objects, numbered=numbered)


def read_labels(path: str | os.PathLike[str], *, image: str = "") -> npt.NDArray[np.int64]:
    """Read all of a label map (Y, X) or a stack of them (..., Y, X); see `open_labels`."""
    return whole_numbers(open_labels(path, image=image).ordered()[...], path)


def open_labels(path: str | os.PathLike[str], *, image: str = "") -> ImageFile:
    """Open a label map, or a stack of them, that any tool has made.

    Parameters
    ----------
    path
        A TIFF, NIfTI, NumPy or PNG file of one value per pixel (PNG with a palette: its indices); a file of COCO
        instances; a ``_seg.npy`` of Cellpose; an OME-Zarr of labels, or an image's with labels in it.
    image
        Name of the image's file, for COCO.

    Raises
    ------
    ReadError
        If it cannot be read, or is no label map.
    """
    if is_url(path) or is_zarr(path):
        return _grey(open_ome_zarr(_labels_group(path)))
    file = Path(path)
    if file.suffix.lower() == ".json":
        return ImageFile(file, read_coco(file, image), "YX")
    if numpy_files.is_cellpose(file):
        masks = numpy_files.read_cellpose(file)
        return ImageFile(file, masks, "ZYX"[-masks.ndim :])
    if file.suffix.lower() in PICTURES:
        array = read_raster(file, indices=True)
        return _grey(ImageFile(file, array, "YXS"[: array.ndim]))
    if file.suffix.lower() in numpy_files.SUFFIXES:
        array = numpy_files.read_array(file)
        return ImageFile(file, array, {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}.get(array.ndim, "?"))
    return _grey(open_images(file)[0])


def read_classes(path: str | os.PathLike[str]) -> tuple[LabelClass, ...]:
    """Read what COCO JSON and OME-Zarr labels say of their classes; () for formats that say nothing.

    Raises
    ------
    ReadError
        If it cannot be read.
    """
    if is_zarr(path) or is_url(path):
        attributes = dict(open_node(_labels_group(path)).attrs)
        return _zarr_classes(attributes.get("ome", attributes).get("image-label", {}), path)
    return coco_classes(Path(path)) if Path(path).suffix.lower() == ".json" else ()


def whole_numbers(labels: npt.NDArray[np.generic], path: object) -> npt.NDArray[np.int64]:
    """Return labels as whole numbers, also those that were saved as fractions, as in many a NIfTI.

    Raises
    ------
    ReadError
        If they are none.
    """
    if labels.dtype.kind in "uib":
        return labels.astype(np.int64)
    if labels.dtype.kind != "f" or not (labels == np.rint(labels)).all():
        raise ReadError(f"{path} holds values that are no whole numbers; it is no label map: choose the mask instead")
    return labels.astype(np.int64)


def _shot(frame: Frame, labels: npt.NDArray[np.int64], path: object, *, objects: bool, numbered: bool) -> Shot:
    if numbered:
        return Shot.of_objects(frame, labels)
    if objects:
        return Shot(frame, (labels != 0).astype(np.int32))
    if labels.min() < 0 or labels.max() > UNLABELLED:
        raise MaskError(
            f"{path} holds values from {labels.min()} to {labels.max()}; if they number objects, say so (objects), "
            f"otherwise number classes from 1 to {MAX_CLASSES}, with 0 for background and {UNLABELLED} for not labelled"
        )
    plane: Labels = labels.astype(np.int32)
    return Shot(frame, plane)


def _grey(opened: ImageFile) -> ImageFile:
    if opened.channel_axis:
        raise ReadError(
            f"{opened.path} is a picture in colours; label maps have one value per pixel: gray, or with a palette"
        )
    return opened


def _labels_group(path: str | os.PathLike[str]) -> str:
    """Where the labels are: here, or the first that are listed beside the image."""
    text = os.fspath(path).rstrip("/")
    node = open_node(text)
    if hasattr(node, "chunks"):
        return text
    attributes = dict(node.attrs)
    if "image-label" in attributes.get("ome", attributes):
        return text
    names = label_names(node)
    return text if not names else f"{text}/labels/{check_inside(names[0], text)}"


def _zarr_classes(told: dict[str, object], path: object) -> tuple[LabelClass, ...]:
    try:
        colours = {int(each["label-value"]): each["rgba"] for each in told.get("colors", ())}  # type: ignore[attr-defined]
        names = {int(each["label-value"]): str(each.get("class", "")) for each in told.get("properties", ())}  # type: ignore[attr-defined]
        return tuple(
            LabelClass(
                i,
                names.get(i, ""),
                "#" + "".join(f"{int(part):02x}" for part in colours[i][:3]) if i in colours else "",
            )
            for i in sorted(names | colours)
            if 1 <= i <= MAX_CLASSES
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ReadError(f"{path} has metadata that OME-Zarr does not know ({error!r}); write it again") from error


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
