"""``napari-fewshot export``: labels from one format to another."""

from pathlib import Path
from typing import Annotated

import typer

from napari_fewshot.cli import options
from napari_fewshot.cli.failures import in_one_sentence
from napari_fewshot.cli.progress import telling
from napari_fewshot.errors import ExportError


def export(
    labels: Annotated[
        list[str],
        typer.Argument(
            help="Labels in files, folders or patterns: TIFF, OME-Zarr, NIfTI, PNG, NumPy, COCO, Cellpose; or a folder "
            "that 'propagate' filled.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write, whose ending tells the format; of several images, the folder, with --format.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str, typer.Option(help="tiff, ome-zarr, nifti, png, coco, coco-rle, yolo or csv.", show_default=False)
    ] = "",
    image: Annotated[
        Path | None,
        typer.Option(
            help="The image that the labels lie on: gives NIfTI its affine, and picks one of COCO's.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="ID=NAME[:#COLOUR]", help="Name of an id; again for several.", show_default=False
        ),
    ] = None,
    objects: Annotated[bool, typer.Option("--objects", help="Ids number objects, not classes.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write labels in another format, whichever tool they come from.

    [b]Example[/b]: napari-fewshot export labels --format coco --out labels.json

    Of a folder that 'propagate' filled, classes, scores and provenance are
    kept. Files appear completely or not at all; none is replaced unless
    --overwrite says so. Ends with 0, or 2 if something has to be mended.
    """
    with in_one_sentence(), telling(as_json=as_json) as teller:
        from napari_fewshot.batch.conversion import read_stacks
        from napari_fewshot.io.formats import format_of, label_format, write_labels

        chosen = label_format(format) if format else format_of(out)
        stacks = list(read_stacks(labels, image=image, classes=options.classes_named(label or []), objects=objects))
        if not format and not chosen.joint and len(stacks) > 1:
            raise ExportError(
                f"{len(stacks)} images do not fit into one file of {chosen.title}; "
                f"name a folder, and --format {chosen.name}"
            )
        single = len(stacks) == 1 and (chosen.joint or bool(chosen.suffix and chosen.fits(out)))
        written = write_labels(out, stacks[0] if single else stacks, format=chosen.name, overwrite=overwrite)
        for path in written:
            teller.say(f"Written: {path}")
        teller.fact("end", files=[str(path) for path in written])
