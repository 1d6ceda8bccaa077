"""``napari-fewshot extract``: features computed ahead, so that proposing is quick afterwards."""

from typing import Annotated

import typer

from napari_fewshot.cli import options
from napari_fewshot.cli.failures import SOME_FAILED, in_one_sentence
from napari_fewshot.cli.progress import telling
from napari_fewshot.errors import FewShotError, SettingsError


def extract(
    images: options.Images,
    features: options.Features = None,
    features_gib: Annotated[
        float, typer.Option(help="Limit of that folder in GiB; the oldest go first.", min=0)
    ] = 10.0,
    backbone: options.Backbone = "auto",
    device: options.Device = "auto",
    axes: options.Axes = "",
    threads: options.Threads = 0,
    as_json: options.Json = False,
) -> None:
    """Compute the features of images ahead, overnight or on another machine.

    [b]Example[/b]: napari-fewshot extract "scans/*.tif" --features /shared/features

    Nothing has to be painted yet. Afterwards napari's dock, and 'propagate'
    with the same --features, read them instead of computing. They are found by
    the content of an image, wherever it lies, for the same backbone and kind of
    device (cpu, cuda). What is there already is not computed again, so that a
    stopped run is simply started anew.

    Ends with 0 when all is done, 2 if something has to be mended first, 3 if
    some images could not be used, 130 if it was stopped.
    """
    failed = 0
    with in_one_sentence(), telling(as_json=as_json) as teller:
        options.check_names("auto", backbone)
        from napari_fewshot.batch.frames import Source, open_source
        from napari_fewshot.io.images import find_images, names_of
        from napari_fewshot.models import load_segmenter
        from napari_fewshot.models.cache import FeatureCache
        from napari_fewshot.models.reproducible import fix_chance
        from napari_fewshot.segmenter import Prepares

        if not features_gib:
            raise SettingsError("with a limit of 0 GiB nothing would be kept; give --features-gib more")
        places = find_images(images)
        teller.working("Loading")
        settings = options.cache_settings(features, features_gib)
        cache = FeatureCache.from_settings(settings)
        fix_chance(0, threads)
        segmenter = load_segmenter("auto", backbone=backbone, device=device, cache=cache)
        assert isinstance(segmenter, Prepares)
        done, total = 0, len(places)
        for place, name in zip(places, names_of(places), strict=True):
            try:
                opened = open_source(Source.at(place, name), axes.upper())
                total += sum(len(each.frames) for each in opened) - 1
                for frame in (frame for each in opened for frame in each.frames.values()):
                    for tile, _ in enumerate(segmenter.prepare(frame)):
                        teller.working(f"{frame.name}, tile {tile + 1}")
                    cache.flush()  # faster than the disk, it would leave some out
                    done += 1
                    teller.step(frame.name, done, total)
                    teller.fact("frame", frame=frame.name, done=done, total=total)
            except FewShotError as error:
                failed += 1
                teller.warn(f"{name}: {error}")
                teller.fact("failed", image=name, message=str(error))
            if cache.notice:
                raise SettingsError(cache.notice)
        usage = cache.usage()
        full = usage.disk_bytes > 0.89 * settings.disk_bytes
        teller.say(f"Features take {usage.disk_bytes / 2**30:.2f} GiB in {settings.features_folder}")
        if full:
            teller.warn("the limit is reached, so the oldest features were given up; give --features-gib more")
        teller.fact("end", bytes=usage.disk_bytes, folder=str(settings.features_folder), full=full, failed=failed)
    if failed:
        raise typer.Exit(SOME_FAILED)
