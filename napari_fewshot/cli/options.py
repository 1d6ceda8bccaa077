"""Options and arguments that several verbs share, and what becomes of them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from napari_fewshot.errors import SettingsError

if TYPE_CHECKING:  # they bring numpy and torch
    from collections.abc import Callable, Sequence

    from napari_fewshot.imaging.cleanup import CleanUp
    from napari_fewshot.models.cache_settings import CacheSettings
    from napari_fewshot.segmenter import FewShotSegmenter, SegmenterSettings
    from napari_fewshot.support import LabelClass
    from napari_fewshot.volumes.settings import VolumeSettings

_BETWEEN: Final = "\0"  # in no name of a file

Images = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, patterns ('scans/*.tif', in quotes) or URLs of OME-Zarr; of a stack, every slice.",
        show_default=False,
    ),
]
Method = Annotated[str, typer.Option(help="How masks are computed, see 'napari-fewshot methods'.")]
Backbone = Annotated[str, typer.Option(help="What computes features; 'auto' needs no download.")]
Device = Annotated[str, typer.Option(help="cuda, mps, cpu, or 'auto' for the fastest there is.")]
Axes = Annotated[
    str, typer.Option(help="Of the images, a letter for each (TZCYX, S for colours), where files do not say or err.")
]
Features = Annotated[
    Path | None,
    typer.Option(
        help="Folder for computed features, so that the next run on the same images is quick; by default the dock's.",
        show_default=False,
    ),
]
FeaturesGib = Annotated[float, typer.Option(help="Limit of that folder in GiB; 0 keeps nothing on the disk.", min=0)]
Threads = Annotated[int, typer.Option(help="Of the CPU; 0: as many as there are cores.", min=0)]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="PLACE",
        help="Let other processes do the frames: local:N on this machine, tcp://HOST:8786 for a Dask scheduler, or "
        "slurm:workers=4,cores=8,memory=16GB. They must see the same folders. See docs/large-data.md.",
        show_default=False,
    ),
]
Along = Annotated[
    str,
    typer.Option(
        metavar="AXIS",
        help="Let slices that follow each other along this axis (z, or t) decide together: better, and they flicker "
        "less. See docs/volumes.md.",
        show_default=False,
    ),
]
Slices = Annotated[
    str,
    typer.Option(metavar="FIRST:LAST", help="Propose only for these along that axis, from 0.", show_default=False),
]
MinExtent = Annotated[
    int, typer.Option(help="Leave out objects that are on fewer slices in a row than this, along that axis.", min=1)
]
FillGaps = Annotated[
    int, typer.Option(help="Fill in objects that are missing on up to this many slices in a row.", min=0)
]
Interpolate = Annotated[
    bool, typer.Option("--interpolate", help="Let shapes in between two slices that were painted in full count too.")
]
Smooth = Annotated[float, typer.Option(help="Smooth outlines over about this many pixels.", min=0)]
MaxHole = Annotated[int, typer.Option(help="Fill holes in objects, up to this many pixels.", min=0)]
SplitNeck = Annotated[
    float,
    typer.Option(
        help="Cut touching objects apart where they are narrower than beside by this many pixels; 0 cuts none.",
        min=0,
    ),
]
LargestOnly = Annotated[
    bool, typer.Option("--largest-only", help="Keep only the largest object of each class on each image or slice.")
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=P",
        help="Label as this class (1=0.7) what is at least so probable, from above 0 to 1; again for several. See "
        "docs/review.md.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Tell what happens as lines of JSON, for other programs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]


def classes_named(told: list[str]) -> "tuple[LabelClass, ...]":
    """Read ``1=nuclei`` and ``2=membranes:#3182bd``.

    Raises
    ------
    SettingsError
        If one is said in another way.
    """
    from napari_fewshot.support import LabelClass

    classes = []
    for text in told:
        found = re.fullmatch(r"\s*(\d{1,3})\s*=\s*(.+?)\s*(?::\s*(#[0-9a-fA-F]{6}))?\s*", text)
        if found is None:
            raise SettingsError(f"'{text}' names no class; say it like 1=nuclei, or 1=nuclei:#e6550d with a colour")
        classes.append(LabelClass(int(found[1]), found[2], found[3] or ""))
    return tuple(classes)


def volume_settings(along: str, slices: str, min_extent: int, fill_gaps: int, *, interpolate: bool) -> "VolumeSettings":
    """Read what is said of slices.

    Raises
    ------
    SettingsError
        If it makes no sense, or no axis is named that it is about.
    """
    from napari_fewshot.volumes.settings import VolumeSettings

    told = re.fullmatch(r"(\d*):(\d*)", slices) if slices else None
    if slices and told is None:
        raise SettingsError(f"'{slices}' are no slices; say FIRST:LAST, for example 10:40, or 10: for all from there")
    if not along and (slices or min_extent > 1 or fill_gaps or interpolate):
        raise SettingsError("say along which axis slices follow each other, for example --consistent-along z")
    first, last = ("", "") if told is None else told.groups()
    return VolumeSettings(along, int(first or 0), int(last or -1), min_extent, fill_gaps, interpolate)


def clean_up(
    smooth: float, max_hole: int, split_neck: float, thresholds: "Sequence[str]", *, largest_only: bool
) -> "CleanUp":
    """Read how proposals are to be tidied.

    Raises
    ------
    SettingsError
        If a threshold is none.
    """
    from napari_fewshot.imaging.cleanup import CleanUp

    told = {}
    for each in thresholds:
        class_id, _, probability = each.partition("=")
        try:
            told[int(class_id)] = float(probability)
        except ValueError as error:
            raise SettingsError(f"'{each}' is no threshold; say CLASS=P, for example --threshold 1=0.7") from error
    try:
        return CleanUp(
            thresholds=told, smooth=smooth, max_hole=max_hole, split_neck=split_neck, largest_only=largest_only
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def check_names(method: str, backbone: str) -> None:
    """Refuse a method or backbone that does not exist, before anything is read or loaded.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    from napari_fewshot.models.registry import backbone_card, list_segmenters

    known = [card.name for card in list_segmenters()]
    if method not in known:
        raise SettingsError(f"there is no method '{method}'; choose one of: {', '.join(known)}")
    backbone_card(backbone)


def cache_settings(folder: Path | None, gib: float) -> "CacheSettings":
    """Limits of what is kept of features."""
    from napari_fewshot.models.cache_settings import CacheSettings

    return CacheSettings(disk_gib=gib, folder=folder)


def loader(cache: "CacheSettings") -> "Callable[[SegmenterSettings], FewShotSegmenter]":
    """Return what loads a segmenter that keeps its features."""

    def load(settings: "SegmenterSettings") -> "FewShotSegmenter":
        from napari_fewshot.models import load_segmenter
        from napari_fewshot.models.cache import FeatureCache

        kept = FeatureCache.from_settings(cache)
        return load_segmenter(
            settings.method, backbone=settings.backbone, device=settings.device, cache=kept,
            instances=settings.instances,
        )  # fmt: skip

    return load


class WithPairs(TyperCommand):
    """A command whose option ``--shot`` takes two values each time, which Typer cannot declare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two values; `pair_of` takes them apart."""
        joined: list[str] = []
        rest = list(args)
        while rest:
            joined.append(rest.pop(0))
            if joined[-1] == "--":
                break
            if joined[-1] == "--shot":
                if len(rest) < 2 or any(each.startswith("--") for each in rest[:2]):
                    ctx.fail("--shot takes an image and its mask: --shot IMAGE MASK")
                joined.append(f"{rest.pop(0)}{_BETWEEN}{rest.pop(0)}")
        return super().parse_args(ctx, [*joined, *rest])


def pair_of(joined: str) -> tuple[str, str]:
    """Image and mask of one ``--shot``.

    Raises
    ------
    SettingsError
        If there is only one of them.
    """
    image, between, mask = joined.partition(_BETWEEN)
    if not between:
        raise SettingsError("--shot takes an image and its mask: --shot IMAGE MASK")
    return image, mask
