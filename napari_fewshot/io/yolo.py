"""YOLO's text files of outlines: a file an image, a line an object, as Ultralytics trains on them."""

import json
from collections.abc import Sequence
from pathlib import Path

from napari_fewshot.io.atomic import filling
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.io.names import distinct
from napari_fewshot.io.objects import classes_of, joined, objects_of, rings_of


def write_yolo(path: Path, stacks: Sequence[LabelStack], *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a folder with ``labels/NAME.txt`` for each plane that is decided, and ``data.yaml`` with the classes.

    A line is ``class x1 y1 x2 y2 ...``: classes count from 0 in the order of ``data.yaml``, positions are shares of
    width and height. Outlines follow the edges of pixels; parts and holes of an object are joined by bridges that
    enclose nothing. Put the images into ``images/`` beside ``labels/`` to train on them.

    Raises
    ------
    ExportError
        If one of the files exists, or cannot be written; none is written then.
    """
    by_stack = [classes_of(stack) for stack in stacks]
    named = {each.id: each.name for classes in by_stack for each in classes}
    index = {class_id: position for position, class_id in enumerate(sorted(named))}
    planes = [
        (stack, classes, plane) for stack, classes in zip(stacks, by_stack, strict=True) for plane in stack.planes()
    ]
    with filling(path, overwrite=overwrite) as folder:
        (folder / "labels").mkdir()
        for (stack, classes, plane), name in zip(planes, distinct(plane.name for *_, plane in planes), strict=True):
            height, width = plane.labels.shape
            lines = []
            for each in objects_of(plane, classes, ids_are_objects=stack.classes is None):
                outline = joined(rings_of(each.mask, each.box[:2])) / (width, height)
                lines.append(" ".join([str(index[each.kind.id]), *(f"{share:.8g}" for share in outline.ravel())]))
            (folder / "labels" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        names = [f"  {index[i]}: {json.dumps(named[i], ensure_ascii=False)}\n" for i in sorted(named)]
        (folder / "data.yaml").write_text("".join(["train: images\nval: images\nnames:\n", *names]), "utf-8")
    return (path,)
