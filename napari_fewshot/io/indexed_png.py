"""PNG files with a palette: the value of a pixel is its label, the palette says how it looks (as in PASCAL VOC)."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from napari_fewshot.errors import ExportError
from napari_fewshot.io.atomic import filling, replacing
from napari_fewshot.io.label_stack import LabelStack, Plane
from napari_fewshot.io.objects import classes_of

_MOST: Final = 255  # indices of a palette


def write_png(path: Path, stack: LabelStack, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a label map to a PNG, or those of a stack to a folder of PNGs, in the colours of the classes.

    Parameters
    ----------
    path
        Of the file; a stack goes to a folder that is named like it without ``.png``, a file for each decided plane.
    stack
        Ids up to 255.
    overwrite
        Whether files that are there already may be replaced.

    Raises
    ------
    ExportError
        If there are higher ids, a file exists, or one cannot be written.
    """
    import PIL.Image

    if stack.top > _MOST:
        raise ExportError(f"'{stack.name}' holds ids up to {stack.top}, a PNG palette 255; choose TIFF or OME-Zarr")
    palette = _palette(stack)

    def save(plane: Plane, file: Any) -> None:
        picture = PIL.Image.fromarray(np.ascontiguousarray(plane.labels, np.uint8), "L")
        picture.putpalette(palette)  # makes it an indexed one
        picture.save(file, "PNG", optimize=False)

    if len(stack.shape) == 2:
        with replacing(path, overwrite=overwrite) as file:
            for plane in stack.planes():
                save(plane, file)
        return (path,)
    folder = path.with_suffix("") if path.suffix.lower() == ".png" else path
    with filling(folder, overwrite=overwrite) as partial:
        names = []
        for plane in stack.planes():
            names.append(f"{plane.name}.png")
            with open(partial / names[-1], "wb") as file:
                save(plane, file)
    return tuple(folder / name for name in names)


def _palette(stack: LabelStack) -> list[int]:
    """256 colours, R G B R G B ...: black, those of the classes, and distinct ones for whatever else there is."""
    colours = np.random.default_rng(0).integers(64, 256, (256, 3))
    colours[0] = 0
    if stack.classes is not None:
        for each in classes_of(stack):
            colours[each.id] = [int(each.colour[i : i + 2], 16) for i in (1, 3, 5)]
        colours[_MOST] = 224, 224, 192  # as in PASCAL VOC: not labelled
    return [int(value) for value in colours.ravel()]
