"""COCO JSON: objects with their outlines, as CVAT, Label Studio, Detectron2, MMDetection and FiftyOne read them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot import __version__
from napari_fewshot.errors import ReadError
from napari_fewshot.io.atomic import refuse_existing, replacing
from napari_fewshot.io.coco_masks import decode, encode
from napari_fewshot.io.label_stack import LabelStack, Plane
from napari_fewshot.io.names import distinct
from napari_fewshot.io.objects import LabelObject, classes_of, is_hole, objects_of, rings_of
from napari_fewshot.support import LabelClass

_MOST_BYTES = 2**31  # of a file that is parsed: all of it is in memory several times over


def write_coco(
    path: Path, stacks: Sequence[LabelStack], *, overwrite: bool = False, runs: bool = False
) -> tuple[Path, ...]:
    """Write all objects of some images to one file of instances.

    Outlines follow the edges of pixels, so that masks come back exactly; an object in several parts has several.
    Objects with holes are written as run-length encodings, for which COCO's polygons have no form. Areas are
    pixels, boxes ``[x, y, width, height]``. The number of an object, where it has one, is its ``object_id``.

    Parameters
    ----------
    path
        A ``.json`` file.
    stacks
        Planes that are decided become images; one without objects is listed all the same.
    overwrite
        Whether a file that is there already may be replaced.
    runs
        Write every object as a run-length encoding.

    Raises
    ------
    ExportError
        If the file exists, or it cannot be written.
    """
    refuse_existing(path, overwrite=overwrite)
    categories: dict[int, LabelClass] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for stack in stacks:
        classes = classes_of(stack)
        categories |= {each.id: each for each in classes}
        for plane in stack.planes():
            height, width = plane.labels.shape
            images.append(
                {"id": len(images) + 1, "file_name": _file_name(stack, plane), "width": width, "height": height}
            )
            for each in objects_of(plane, classes, ids_are_objects=stack.classes is None):
                told = {"id": len(annotations) + 1, "image_id": len(images), "category_id": each.kind.id, "iscrowd": 0}
                annotations.append(told | _shape(each, (height, width), runs=runs) | _note(plane, each))
    _make_distinct(images)
    content = {
        "info": {"description": "labels of napari-fewshot", "version": __version__},
        "licenses": [],
        "images": images,
        "categories": [
            {"id": each.id, "name": each.name, "supercategory": "", "color": each.colour}
            for _, each in sorted(categories.items())
        ],
        "annotations": annotations,
    }
    with replacing(path, overwrite=overwrite) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())
    return (path,)


def write_coco_runs(path: Path, stacks: Sequence[LabelStack], *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write all objects as run-length encodings; see `write_coco`."""
    return write_coco(path, stacks, overwrite=overwrite, runs=True)


def read_coco(path: Path, image: str, *, ids_are_objects: bool = False) -> npt.NDArray[np.int32]:
    """Draw the objects of one image.

    Parameters
    ----------
    path
        A file of instances.
    image
        Name of the image's file; the part in front of the suffix is enough. Where the file tells of one image only,
        that one is taken whatever its name.
    ids_are_objects
        Number the objects from 1 instead of giving each the id of its class.

    Returns
    -------
    ndarray
        (H, W); where objects overlap, the smaller one is on top.

    Raises
    ------
    ReadError
        If it is no such file, or does not tell of this image.
    """
    told = _parsed(path)
    try:
        chosen = _chosen(told["images"], image, path)
        size = int(chosen["height"]), int(chosen["width"])
        if min(size) < 1 or size[0] * size[1] > _MOST_BYTES:
            raise ReadError(f"{path} tells of an image of {size[0]} x {size[1]} pixels; export it again")
        labels = np.zeros(size, np.int32)
        there = [each for each in told["annotations"] if each["image_id"] == chosen["id"]]
        masks = [(decode(each["segmentation"], size), int(each["category_id"])) for each in there]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadError(f"{path} is no file of COCO instances ({error!r}); export it as such") from error
    order = sorted(range(len(masks)), key=lambda i: -int(masks[i][0].sum()))
    for i in order:
        mask, class_id = masks[i]
        labels[mask] = i + 1 if ids_are_objects else class_id
    return labels


def coco_classes(path: Path) -> tuple[LabelClass, ...]:
    """Read the names of the classes; those whose ids label maps cannot hold are left out."""
    try:
        told = [(int(each["id"]), str(each["name"])) for each in _parsed(path)["categories"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(f"{path} is no file of COCO instances ({error!r}); export it as such") from error
    return tuple(LabelClass(number, name) for number, name in sorted(told) if 1 <= number < 255)


def _file_name(stack: LabelStack, plane: Plane) -> str:
    """Name the image itself where the plane is all of it; a plane of a stack is named as a PNG of it would be."""
    if plane.position == () and stack.source is not None:
        return stack.source.name
    return f"{plane.name}.png"


def _make_distinct(images: list[dict[str, Any]]) -> None:
    for image, name in zip(images, distinct(image["file_name"] for image in images), strict=True):
        image["file_name"] = name


def _shape(each: LabelObject, size: tuple[int, int], *, runs: bool) -> dict[str, Any]:
    top, left, bottom, right = each.box
    rings = [] if runs else rings_of(each.mask, (top, left))
    segmentation: Any = [ring.ravel().tolist() for ring in rings]
    if runs or any(map(is_hole, rings)):
        segmentation = encode(each.mask, (top, left), size)
    return {"segmentation": segmentation, "area": each.area, "bbox": [left, top, right - left, bottom - top]}


def _note(plane: Plane, each: LabelObject) -> dict[str, Any]:
    note: dict[str, Any] = {"object_id": each.number} if each.number else {}
    note |= {} if plane.note.score is None else {"score": round(plane.note.score, 6)}
    return note | ({"provenance": plane.note.provenance} if plane.note.provenance else {})


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ReadError(f"{path} is larger than 2 GB; split it by images")
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path} cannot be read as JSON ({error}); export it again") from error
    if not isinstance(told, dict):
        raise ReadError(f"{path} is no file of COCO instances; export it as such")
    return told


def _chosen(images: Sequence[dict[str, Any]], wanted: str, path: Path) -> dict[str, Any]:
    def matches() -> Iterator[dict[str, Any]]:
        for exactly in (True, False):
            for each in images:
                name = Path(str(each["file_name"])).name
                if name == Path(wanted).name if exactly else Path(name).stem == Path(wanted).stem:
                    yield each

    found = next(matches(), images[0] if len(images) == 1 else None)
    if found is None:
        raise ReadError(f"{path} tells nothing of '{wanted}', but of {len(images)} other images; choose one of these")
    return found
