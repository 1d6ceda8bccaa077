"""``napari-fewshot objects``: number the objects on a few images, and get those on all others numbered."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.cli import options
from napari_fewshot.cli.failures import in_one_sentence
from napari_fewshot.cli.progress import telling
from napari_fewshot.errors import SettingsError

if TYPE_CHECKING:  # they bring numpy
    from napari_fewshot.frames import Instances
    from napari_fewshot.io.image_file import ImageFile
    from napari_fewshot.segmenter import Concept
    from napari_fewshot.support import Shot

    Taught = dict[tuple[str, tuple[int, ...]], Shot]


def objects(
    images: options.Images,
    out: Annotated[Path, typer.Option(help="Folder for NAME_objects.tif of each image.", show_default=False)],
    shot: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE IDS",
            help="An image and its objects, numbered 1, 2, 3, ... with 0 around them; again for several.",
            show_default=False,
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Give the same object one number in all slices, or times, of a stack.")
    ] = False,
    method: options.Method = "auto",
    backbone: options.Backbone = "auto",
    device: options.Device = "auto",
    axes: options.Axes = "",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Number objects on all images, also where they touch; all are of one class.

    [b]Example[/b]: napari-fewshot objects "scans/*.tif" --shot scans/a.tif a_ids.tif --out numbered

    Images to learn from may be among the others: what was numbered stays as
    it is. Files appear completely or not at all; none is replaced unless
    --overwrite says so. Ends with 0, or 2 if something has to be mended.
    """
    with in_one_sentence(), telling(as_json=as_json) as teller:
        options.check_names(method, backbone)
        if not shot:
            raise SettingsError("there is nothing to learn from; name an image and its objects: --shot IMAGE IDS")
        from napari_fewshot.errors import ExportError
        from napari_fewshot.io.images import find_images, names_of, open_images
        from napari_fewshot.io.labels import write_labels_tiff
        from napari_fewshot.models import load_segmenter
        from napari_fewshot.support import SupportSet

        taught = _taught([options.pair_of(each) for each in shot], axes)
        places = find_images(images)
        files = [out / f"{name}_objects.tif" for name in names_of(places)]
        there = [file for file in files if file.exists()]
        if there and not overwrite:
            raise ExportError(f"{there[0]} is there already; name another folder, or say --overwrite")
        teller.working("Learning")
        segmenter = load_segmenter(method, backbone=backbone, device=device, instances=True)
        concept = segmenter.learn(SupportSet(taught.values()))
        for done, (place, file) in enumerate(zip(places, files, strict=True), start=1):
            opened = open_images(place, axes=axes)[0]
            ids = _numbered(concept, opened, taught, _real(place), link=link)
            spacing = None if opened.spacing is None else [opened.step(axis)[0] for axis in f"{opened.stack_axes}YX"]
            write_labels_tiff(file, ids, spacing=spacing, axes=f"{opened.stack_axes}YX", overwrite=overwrite)
            count = len(set(ids[ids > 0].tolist()))
            teller.step(f"{file.name}, {count} object(s)", done, len(files))
            teller.fact("written", file=str(file), objects=count)


def _taught(pairs: list[tuple[str, str]], axes: str) -> "Taught":
    from napari_fewshot.io.masks import read_shots

    return {
        (_real(image), () if isinstance(shot.key, str) else tuple(int(i) for i in shot.key[1:])): shot
        for image, ids in pairs
        for shot in read_shots(image, ids, objects=True, numbered=True, axes=axes)
    }


def _numbered(concept: "Concept", opened: "ImageFile", taught: "Taught", place: str, *, link: bool) -> "Instances":
    """(..., Y, X) ids of all frames of an image."""
    import numpy as np

    from napari_fewshot.instances.linking import linked

    positions = list(np.ndindex(*opened.stack_shape[:-2]))
    planes = []
    for position, frame in zip(positions, opened.frames(Path(place).name), strict=True):
        shot = taught.get((place, position))
        ids = concept.propose(frame).instances if shot is None else shot.instances
        assert ids is not None  # of a segmenter that tells objects apart, or a shot with ids
        planes.append(ids)
    if link and len(positions) > 1:
        planes = list(linked(planes))
    return np.stack(planes).reshape(opened.stack_shape)


def _real(place: "Path | str") -> str:
    from napari_fewshot.batch.shots import real_place

    return real_place(place)
