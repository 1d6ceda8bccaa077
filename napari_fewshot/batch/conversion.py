"""Labels of any tool as stacks that any format takes; those of an earlier run with all that is known of them."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from napari_fewshot.batch.recipe import FILE_NAME, read_recipe
from napari_fewshot.batch.results import TABLE
from napari_fewshot.errors import MaskError, ReadError
from napari_fewshot.io.formats import OBJECTS, label_format
from napari_fewshot.io.images import find_images, names_of
from napari_fewshot.io.label_stack import LabelStack, PlaneNote, Position
from napari_fewshot.io.masks import open_labels, read_classes
from napari_fewshot.io.names import default_names
from napari_fewshot.io.numpy_files import is_cellpose
from napari_fewshot.support import MAX_CLASSES, UNLABELLED, LabelClass

_LABELS: Final = "_labels"


def read_stacks(
    paths: Iterable[str], *, image: Path | None = None, classes: Iterable[LabelClass] = (), objects: bool = False
) -> Iterator[LabelStack]:
    """Open labels, one file after the other; their pixels are read when they are written.

    Parameters
    ----------
    paths
        Files, folders and patterns; a folder that `propagate` filled brings classes, scores, provenance and the numbers
        of objects along.
    image
        That the labels lie on, for the affine of NIfTI and to choose among the images of COCO.
    classes
        Names and colours, which go before those that the files tell.
    objects
        Whether ids number objects; that is always so of Cellpose's files.

    Raises
    ------
    ReadError
        If one cannot be read.
    MaskError
        If ids are no classes.
    """
    given = tuple(classes)
    for path in paths:
        folder = Path(path)
        if (folder / FILE_NAME).is_file():
            known, made = _of_run(folder)
        else:
            places = [path] if _is_lone(folder) else [str(place) for place in find_images([path])]
            known, made = (
                (),
                [_Labels(place, _plain(name)) for place, name in zip(places, names_of(places), strict=True)],
            )
        for each in made:
            yield _stack(each, image, known, given, objects=objects)


@dataclass(frozen=True)
class _Labels:
    """A file of labels, the name of its image, where its frames come from, and the file of its objects."""

    place: str
    name: str
    notes: dict[Position, PlaneNote] | None = None
    objects: str = ""


def _stack(
    labels: _Labels,
    image: Path | None,
    known: tuple[LabelClass, ...],
    given: tuple[LabelClass, ...],
    *,
    objects: bool,
) -> LabelStack:
    place = labels.place
    opened = open_labels(place, image="" if image is None else image.name)
    axes = f"{opened.stack_axes}YX"
    scaled = opened.spacing is not None
    named = {each.id: each for each in (*known, *read_classes(place), *given)}
    ids_are_objects = objects or is_cellpose(Path(place))
    stack = LabelStack(
        opened.ordered(),
        labels.name,
        axes,
        [opened.step(axis)[0] for axis in axes] if scaled else None,
        [opened.step(axis)[1] for axis in axes] if scaled else None,
        None if ids_are_objects else tuple(named[i] for i in sorted(named)),
        image,
        labels.notes,
        None if ids_are_objects or not labels.objects else open_labels(labels.objects).ordered(),
    )
    if not ids_are_objects and stack.top > MAX_CLASSES and stack.top != UNLABELLED:
        raise MaskError(
            f"{place} holds ids up to {stack.top}, and there are at most {MAX_CLASSES} classes; "
            "if they number objects, say --objects"
        )
    return stack


def _of_run(folder: Path) -> tuple[tuple[LabelClass, ...], list[_Labels]]:
    """What a run tells of the labels in its folder: classes, files, and where each frame comes from."""
    recipe = read_recipe(folder)
    notes: dict[str, dict[Position, PlaneNote]] = {}
    try:
        with open(folder / TABLE, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                position = tuple(int(i) for i in row["position"].split())
                score = float(row["score"]) if row["score"] else None
                notes.setdefault(row["image"], {})[position] = PlaneNote(row["provenance"], score)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ReadError(f"{folder / TABLE} cannot be read ({error}); finish the run with --resume") from error
    stems = dict(zip(notes, default_names(notes, ""), strict=True))
    kinds = [kind for kind in map(label_format, recipe.formats) if not kind.joint]
    made = []
    for image, known in notes.items():
        there = [(folder / f"{stems[image]}{kind.suffix}", kind) for kind in kinds]
        place, kind = next(((path, kind) for path, kind in there if path.exists()), (None, None))
        if place is None or kind is None:
            raise ReadError(
                f"{folder} holds no label map of {image}, only {', '.join(recipe.formats)}; run it with tiff"
            )
        objects = str(kind.beside(place, OBJECTS)) if recipe.segmenter.instances else ""
        made.append(_Labels(str(place), image, known, objects))
    return recipe.classes, made


def _plain(name: str) -> str:
    return name.removesuffix(_LABELS) or name


def _is_lone(path: Path) -> bool:
    """Whether it is a file of labels that is no image."""
    return path.is_file() and (path.suffix.lower() == ".json" or is_cellpose(path))
