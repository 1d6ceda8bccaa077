"""A table of objects as CSV: what each is, where, how large, and who says so."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from napari_fewshot.io.atomic import refuse_existing, replacing
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.io.objects import classes_of, objects_of
from napari_fewshot.io.units import METRES

COLUMNS: Final = (
    "image", "plane", "object", "label", "class", "area_px", "area", "area_unit", "centroid_y", "centroid_x",
    "top", "left", "bottom", "right", "score", "provenance", "object_id",
)  # fmt: skip


def write_table(path: Path, stacks: Sequence[LabelStack], *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a row for each object on the planes that are decided.

    Columns: ``image`` and ``plane`` (its name); ``object``, from 1 on in each plane; ``label``, the value in the label
    map, and ``class``, its name; ``area_px`` in pixels, and ``area`` in ``area_unit`` where a pixel's size is known;
    ``centroid_y, centroid_x`` in pixels, the middle of the first being 0; the box ``top, left, bottom, right`` in
    pixels, the last two just outside; ``score``, the expected IoU of what was proposed; ``provenance``: painted,
    accepted or proposed; ``object_id``, the number of the object where it has one, the same on all planes of a stack
    through which it was linked.

    Raises
    ------
    ExportError
        If the file exists, or it cannot be written.
    """
    refuse_existing(path, overwrite=overwrite)
    with replacing(path, overwrite=overwrite) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        for stack in stacks:
            rows.writerows(_rows(stack))
        text.detach()
    return (path,)


def _rows(stack: LabelStack) -> list[list[object]]:
    classes = classes_of(stack)
    size, unit = _pixel_area(stack)
    rows: list[list[object]] = []
    for plane in stack.planes():
        score = "" if plane.note.score is None else f"{plane.note.score:.4f}"
        for number, each in enumerate(objects_of(plane, classes, ids_are_objects=stack.classes is None), start=1):
            y, x = each.centroid
            area = "" if size is None else f"{each.area * size:.8g}"
            told = (
                number,
                each.label,
                _plain(each.kind.name),
                each.area,
                area,
                unit,
                f"{y:.3f}",
                f"{x:.3f}",
                *each.box,
            )
            last = (score, plane.note.provenance, each.number or "")
            rows.append([_plain(stack.name), _plain(plane.name), *told, *last])
    return rows


def _pixel_area(stack: LabelStack) -> tuple[float | None, str]:
    """Area of a pixel and its unit, that of x."""
    if not {"Y", "X"} <= stack.voxel.keys():
        return None, ""
    width, unit = stack.voxel["X"]
    height = stack.step("Y", unit) if unit in METRES else stack.voxel["Y"][0]
    return (None, "") if height is None or unit == "pixel" else (width * height, f"{unit}²")


def _plain(text: str) -> str:
    """Keep spreadsheets from taking a name for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
