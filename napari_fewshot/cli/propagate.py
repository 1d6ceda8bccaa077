"""``napari-fewshot propagate`` and ``run``: masks of a few images onto many, from files to files."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_fewshot.cli import options
from napari_fewshot.cli.failures import SOME_FAILED, in_one_sentence
from napari_fewshot.cli.progress import Teller, telling
from napari_fewshot.errors import SettingsError

if TYPE_CHECKING:  # they bring numpy
    from napari_fewshot.batch.cluster import Order
    from napari_fewshot.batch.events import Event
    from napari_fewshot.batch.frames import Workers
    from napari_fewshot.batch.recipe import Recipe, ShotFiles
    from napari_fewshot.models.cache_settings import CacheSettings
    from napari_fewshot.propagation import PropagationSettings
    from napari_fewshot.segmenter import Concept, FewShotSegmenter

Out = Annotated[Path, typer.Option(help="Folder for the labels, recipe.json and frames.csv.", show_default=False)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an earlier run into that folder was stopped; done frames stay.")
]


def propagate(
    images: options.Images,
    out: Out,
    shot: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE MASK", help="An image and its mask to learn from; again for several.", show_default=False
        ),
    ] = None,
    shots: Annotated[
        Path | None,
        typer.Option(
            help="Folder with images to learn from: images/ and labels/ with the same names, or masks beside the "
            "images, named like NAME_labels.tif, NAME_mask.png or NAME_seg.npy (Cellpose).",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="ID=NAME[:#COLOUR]",
            help="Name of a value of the masks; again for several.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        bool, typer.Option("--objects", help="Masks number objects (1, 2, 3, ...), all of one class, not classes.")
    ] = False,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances",
            help="Tell objects that touch apart, as on the masks (with --objects as they are numbered, else what is "
            "connected); their numbers are written beside the labels, NAME_labels_objects.",
        ),
    ] = False,
    format: Annotated[
        list[str] | None,
        typer.Option(
            help="tiff, ome-zarr, nifti, png, coco, coco-rle, yolo or csv; again for several. (default: tiff)",
            show_default=False,
        ),
    ] = None,
    method: options.Method = "auto",
    backbone: options.Backbone = "auto",
    device: options.Device = "auto",
    min_area: Annotated[int, typer.Option(help="Leave out objects of fewer pixels than this.", min=0)] = 0,
    smooth: options.Smooth = 0.0,
    max_hole: options.MaxHole = 0,
    split_neck: options.SplitNeck = 0.0,
    largest_only: options.LargestOnly = False,
    threshold: options.Threshold = None,
    axes: options.Axes = "",
    consistent_along: options.Along = "",
    slices: options.Slices = "",
    min_extent: options.MinExtent = 1,
    fill_gaps: options.FillGaps = 0,
    interpolate: options.Interpolate = False,
    seed: Annotated[
        int, typer.Option(help="For methods that draw at random. Those of the package give the same with any.", min=0)
    ] = 0,
    threads: options.Threads = 0,
    resume: Resume = False,
    overwrite: options.Overwrite = False,
    features: options.Features = None,
    features_gib: options.FeaturesGib = 10.0,
    cluster: options.Cluster = "",
    as_json: options.Json = False,
) -> None:
    """Learn from images with masks, and write labels for all other images.

    [b]Example[/b]: napari-fewshot propagate "scans/*.tif" --shot scans/a.tif a_mask.tif --out labels

    Masks hold 0 for background, 1 to 254 for classes, 255 for what nobody
    labelled. Images to learn from may be among the others: what was painted
    stays as it is.

    Labels of an image appear when it is complete. Wherever this is stopped,
    no half file is left, and --resume does the rest. recipe.json tells all
    that was used; 'napari-fewshot run' repeats it.

    Ends with 0 when all is done, 2 if something has to be mended first, 3 if
    some images could not be used, 130 if it was stopped.
    """
    with in_one_sentence(), stoppable():
        options.check_names(method, backbone)
        from napari_fewshot.batch.recipe import Recipe
        from napari_fewshot.segmenter import SegmenterSettings

        recipe = Recipe(
            images=tuple(_absolute(each) for each in images),
            shots=_shot_files(shot or [], shots),
            segmenter=SegmenterSettings(method, backbone, device, instances),
            classes=options.classes_named(label or []),
            formats=tuple(format or ["tiff"]),
            min_area=min_area,
            axes=axes.upper(),
            objects=objects,
            seed=seed,
            threads=threads,
            clean_up=options.clean_up(smooth, max_hole, split_neck, threshold or [], largest_only=largest_only),
            volume=options.volume_settings(consistent_along, slices, min_extent, fill_gaps, interpolate=interpolate),
        )
        cache = options.cache_settings(features, features_gib)
        carry_out_recipe(recipe, out, resume=resume, overwrite=overwrite, cache=cache, cluster=cluster, as_json=as_json)


def run(
    recipe: Annotated[Path, typer.Argument(help="recipe.json of an earlier run, or the folder that holds it.")],
    out: Out,
    images: Annotated[
        list[str] | None, typer.Argument(help="Other images to do the same with; by default those of then.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Another one than then; the labels may differ a little.", show_default=False)
    ] = None,
    resume: Resume = False,
    overwrite: options.Overwrite = False,
    features: options.Features = None,
    features_gib: options.FeaturesGib = 10.0,
    cluster: options.Cluster = "",
    as_json: options.Json = False,
) -> None:
    """Repeat an earlier run, bit for bit on the CPU, or do the same with other images.

    [b]Example[/b]: napari-fewshot run labels/recipe.json --out labels-again

    Shots and weights must be what they were, which is checked by their
    hashes. Ends like 'propagate'.
    """
    with in_one_sentence(), stoppable():
        from dataclasses import replace

        from napari_fewshot.batch.recipe import installed, read_recipe

        found = read_recipe(recipe)
        here = installed()
        differing = [
            f"{name} {then}, now {here.get(name)}" for name, then in found.versions.items() if here.get(name) != then
        ]
        if differing:
            typer.echo(f"napari-fewshot: made with {'; '.join(differing)}: labels may differ a little", err=True)
        if images:
            found = found.on(_absolute(each) for each in images)
        if device is not None:
            found = replace(found, segmenter=replace(found.segmenter, device=device))
        found = replace(found, versions=here)
        options.check_names(found.segmenter.method, found.segmenter.backbone)
        cache = options.cache_settings(features, features_gib)
        carry_out_recipe(found, out, resume=resume, overwrite=overwrite, cache=cache, cluster=cluster, as_json=as_json)


def carry_out_recipe(
    recipe: "Recipe", out: Path, *, resume: bool, overwrite: bool, cache: "CacheSettings", cluster: str, as_json: bool
) -> None:
    """Do what a recipe says, and tell of it; ends with 3 where some images could not be used."""
    from dataclasses import replace
    from functools import partial

    from napari_fewshot.batch.cluster import check_place, connected, order
    from napari_fewshot.batch.events import AllWritten
    from napari_fewshot.batch.run import carry_out, prepare

    if resume and overwrite:
        raise SettingsError("--resume keeps what is there and --overwrite replaces it; give one of them")
    if cluster and recipe.volume.are_used:
        raise SettingsError("workers of a cluster share no slices; leave --cluster away, or --consistent-along")
    if cluster:
        check_place(cluster)
        recipe = replace(recipe, threads=recipe.threads or 1)  # workers share the cores
    failed = 0
    with telling(as_json=as_json) as teller, ExitStack() as stack:
        teller.working("Loading")
        batch = prepare(recipe, options.loader(cache))
        teller.say(f"{len(batch.lesson.support)} shot(s), {len(batch.sources)} image(s), {batch.segmenter.name}")
        teller.fact("begin", shots=len(batch.lesson.support), images=len(batch.sources), segmenter=batch.segmenter.name)
        watch = _watcher(teller)
        workers = None
        if cluster:
            client = stack.enter_context(connected(cluster, batch.recipe.threads))
            told = order(recipe.segmenter, batch.settings, seed=recipe.seed, threads=recipe.threads, cache=cache)
            workers = partial(_workers, client, batch.segmenter, told)
        for event in carry_out(batch, out, resume=resume, overwrite=overwrite, watch=watch, workers=workers):
            _tell(teller, event)
            failed = event.failed if isinstance(event, AllWritten) else failed
    if failed:
        typer.echo(
            f"napari-fewshot: {failed} image(s) could not be used; mend them, and the same command with --resume "
            "goes on",
            err=True,
        )
        raise typer.Exit(SOME_FAILED)


def _workers(
    client: Any, segmenter: "FewShotSegmenter", told: "Order", concept: "Concept", _: "PropagationSettings"
) -> "Workers":
    from napari_fewshot.batch.cluster import DaskWorkers

    return DaskWorkers(client, concept, segmenter, told)


def _watcher(teller: Teller) -> Any:
    """Tell how far large images are."""
    from napari_fewshot.frames import frame_name

    def watch(key: Any, done: int, total: int) -> None:
        if key is None:
            teller.working("Learning")
        elif total > 1:
            teller.working(f"{frame_name(key)}, tile {done + 1} of {total}")

    return watch


def _tell(teller: Teller, event: "Event") -> None:
    from napari_fewshot.batch import events as batch
    from napari_fewshot.frames import frame_name

    match event:
        case batch.FrameDone():
            name = frame_name((event.image, *event.position))
            by_hand = "painted by hand" if event.provenance == "painted" else event.provenance
            how = by_hand if event.score is None else f"expected IoU {event.score:.2f}"
            remark = f" ({event.remark})" if event.remark else ""
            teller.step(f"{name}, {how}{remark}", event.done, event.total)
            teller.fact(
                "frame", image=event.image, position=list(event.position), provenance=event.provenance,
                score=event.score, remark=event.remark, done=event.done, total=event.total,
            )  # fmt: skip
        case batch.PartDone():
            name = frame_name((event.image, *event.position))
            teller.working(f"{name}, part {event.done} of {event.total}")
            teller.fact("part", image=event.image, position=list(event.position), done=event.done, total=event.total)
        case batch.ImageWritten():
            teller.fact("written", image=event.image, files=[str(path) for path in event.files])
        case batch.ImageFailed():
            teller.warn(f"{event.image}: {event.message}")
            teller.fact("failed", image=event.image, message=event.message)
        case batch.ImageSkipped():
            teller.say(f"{event.image}: done before")
            teller.fact("skipped", image=event.image, frames=event.frames)
        case batch.AllWritten():
            teller.say(f"Written: {event.files[0].parent}")
            teller.fact("end", files=[str(path) for path in event.files], failed=event.failed)


def _shot_files(pairs: list[str], folder: Path | None) -> "tuple[ShotFiles, ...]":
    from napari_fewshot.batch.recipe import ShotFiles
    from napari_fewshot.batch.shots import find_pairs

    named = [ShotFiles(_absolute(image), _absolute(mask)) for image, mask in map(options.pair_of, pairs)]
    return (*named, *(find_pairs(Path(_absolute(folder))) if folder is not None else ()))


def _absolute(path: str | Path) -> str:
    """Path that means the same from any folder; URLs stay as they are."""
    from napari_fewshot.io.ome_zarr import is_url

    return str(path) if is_url(path) else str(Path(path).expanduser().absolute())


@contextmanager
def stoppable() -> Iterator[None]:
    """Take it for Ctrl+C when the system wants the process to end, as at the end of a job's time on a cluster."""
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
