"""The formats that labels are written in: a card for each, and `write_labels`, which serves all of them.

A format is added with its file and one entry here; the dock, napari's File > Save and the command line know it then.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

from napari_fewshot.errors import ExportError, SettingsError
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.io.names import TIFF, default_names

Share: TypeAlias = Callable[[Callable[..., None], Iterable[tuple[Any, ...]]], None]
"""Calls a function with each of some arguments, in any order and in whichever processes, and waits for all of them."""


def one_after_the_other(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
    """Do it here."""
    for each in arguments:
        function(*each)


@dataclass(frozen=True)
class LabelFormat:
    """What a person should know of a format before choosing it.

    Attributes
    ----------
    name
        In code and on the command line.
    title
        For people.
    summary
        One sentence: what it keeps, and what opens it.
    suffixes
        Of its files, the preferred one first; "" for a folder.
    home
        ``module:function`` below ``napari_fewshot.io``; it takes a path, a `LabelStack` (a list of them where
        ``joint``) and ``overwrite``, and returns the paths that it wrote.
    joint
        Whether the labels of all images go into one file or folder.
    shared
        Whether several processes may write one file's parts; its function takes ``share`` then, see `write_labels`.
    """

    name: str
    title: str
    summary: str
    suffixes: tuple[str, ...]
    home: str
    joint: bool = False
    shared: bool = False

    @property
    def suffix(self) -> str:
        """What names of its files end in."""
        return self.suffixes[0]

    def fits(self, path: str | Path) -> bool:
        """Whether a file's name ends as this format's do."""
        return str(path).lower().rstrip("/").endswith(tuple(suffix for suffix in self.suffixes if suffix))

    def beside(self, path: Path, what: str) -> Path:
        """Return the path of something else about the same image.

        >>> label_format("nifti").beside(Path("a.nii.gz"), "objects").name
        'a_objects.nii.gz'
        """
        ends = [suffix for suffix in self.suffixes if suffix and path.name.lower().endswith(suffix)]
        cut = len(path.name) - len(ends[0]) if ends else len(path.name)
        return path.with_name(f"{path.name[:cut]}_{what}{path.name[cut:]}")

    def named(self, path: Path) -> Path:
        """Return the path, with the suffix where it is missing."""
        return path if not self.suffix or self.fits(path) else path.with_name(path.name + self.suffix)


OBJECTS: Final = "objects"
"""What the numbers of objects are called, in a file beside labels."""

LABEL_FORMATS: Final = (
    LabelFormat(
        "tiff",
        "TIFF",
        "One file for each image or stack, with the size of a voxel; opens in Fiji, QuPath, napari and Python.",
        TIFF,
        "labels:write_tiff",
    ),
    LabelFormat(
        "ome-zarr",
        "OME-Zarr labels",
        "Beside the image in its OME-Zarr, or in a new one, with colours and names; for napari, and for large images.",
        (".ome.zarr", ".zarr"),
        "ome_labels:write_ome_labels",
        shared=True,
    ),
    LabelFormat(
        "nifti",
        "NIfTI",
        "One volume for each stack, lying in space as its image does; opens in 3D Slicer, ITK-SNAP and FSL.",
        (".nii.gz", ".nii"),
        "nifti:write_nifti",
    ),
    LabelFormat(
        "png",
        "Indexed PNG",
        "One picture for each slice in the colours of the classes; the values of the pixels are the labels.",
        (".png",),
        "indexed_png:write_png",
    ),
    LabelFormat(
        "coco",
        "COCO JSON, polygons",
        "One file for all images, an outline for each object; for CVAT, Label Studio, Detectron2 and many more.",
        (".json",),
        "coco:write_coco",
        joint=True,
    ),
    LabelFormat(
        "coco-rle",
        "COCO JSON, run lengths",
        "The same with masks instead of outlines.",
        (".json",),
        "coco:write_coco_runs",
        joint=True,
    ),
    LabelFormat(
        "yolo",
        "YOLO segmentation",
        "A folder with a text file for each slice, an outline for each object; for training with Ultralytics.",
        ("",),
        "yolo:write_yolo",
        joint=True,
    ),
    LabelFormat(
        "csv",
        "Table of objects",
        "One table for all images: area, place, class and score of each object; for spreadsheets, R and pandas.",
        (".csv",),
        "object_table:write_table",
        joint=True,
    ),
)


def label_format(name: str) -> LabelFormat:
    """Find a format by its name.

    Raises
    ------
    SettingsError
        If there is none.
    """
    for each in LABEL_FORMATS:
        if each.name == name:
            return each
    raise SettingsError(f"there is no format '{name}'; choose one of: {', '.join(each.name for each in LABEL_FORMATS)}")


def format_of(path: str | Path) -> LabelFormat:
    """Tell the format by how the name of a file ends.

    Raises
    ------
    ExportError
        If it ends like no format that is known.
    """
    found = next((each for each in LABEL_FORMATS if each.fits(path)), None)
    if found is not None:
        return found
    endings = ", ".join(sorted({suffix for each in LABEL_FORMATS for suffix in each.suffixes if suffix}))
    raise ExportError(f"'{Path(path).name}' names no format that is known; let it end in one of {endings}")


def write_labels(
    path: str | Path,
    stacks: LabelStack | Sequence[LabelStack],
    *,
    format: str = "",
    overwrite: bool = False,
    share: Share = one_after_the_other,
) -> tuple[Path, ...]:
    """Write the labels of one or several images.

    Parameters
    ----------
    path
        The file. For several images and a format that gives each a file of its own, the folder of these; they are named
        after the images. Missing folders are made, and a missing suffix is added.
    stacks
        Labels of one image, or of several.
    format
        Name of one of `LABEL_FORMATS`; by default the path's suffix tells.
    overwrite
        Whether files that are there already may be replaced.
    share
        Writes the parts of formats that are written in parts; others may help there.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    ExportError
        If something exists, cannot be written, or does not fit the format; what was there before is untouched.
    SettingsError
        If the format does not exist, or needs a library that is not installed.

    Examples
    --------
    >>> write_labels("cells.nii.gz", LabelStack(labels, "cells", spacing=(2, 1, 1), units="µm"))  # doctest: +SKIP
    (PosixPath('cells.nii.gz'),)
    """
    path = Path(path)
    several = not isinstance(stacks, LabelStack)
    every = [stacks] if isinstance(stacks, LabelStack) else list(stacks)
    chosen = label_format(format) if format else format_of(path)
    write = partial(_writer(chosen), share=share) if chosen.shared else _writer(chosen)
    if chosen.joint:
        return tuple(write(chosen.named(path), every, overwrite=overwrite))
    if not several:
        return tuple(write(chosen.named(path), every[0], overwrite=overwrite))
    names = default_names((each.name for each in every), chosen.suffix)
    if not overwrite:
        _refuse_any(path, names)
    return tuple(
        file for name, each in zip(names, every, strict=True) for file in write(path / name, each, overwrite=overwrite)
    )


def _refuse_any(folder: Path, names: Sequence[str]) -> None:
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise ExportError(f"'{folder / there[0]}' exists already; choose another folder, or allow it to be overwritten")


def _writer(chosen: LabelFormat) -> Callable[..., Sequence[Path]]:
    module, _, function = chosen.home.partition(":")
    write: Callable[..., Any] = getattr(import_module(f"napari_fewshot.io.{module}"), function)
    return write
