"""Shots from files: pairs of images and masks in a folder, and the support set that they make."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.batch.recipe import ShotFiles, TagFile
from napari_fewshot.errors import ReadError, SettingsError
from napari_fewshot.io.images import find_images, open_images, stem_of
from napari_fewshot.io.label_stack import Position
from napari_fewshot.io.masks import open_labels, read_classes, read_shots, whole_numbers
from napari_fewshot.io.numpy_files import is_cellpose
from napari_fewshot.io.ome_zarr import is_url
from napari_fewshot.support import LabelClass, Shot, SupportSet, Tag

_MASK: Final = re.compile(r"[ _-](labels?|masks?|seg|gt)$", re.IGNORECASE)
_FOLDERS: Final = ("labels", "masks")

Taught: TypeAlias = dict[tuple[str, Position], Shot]
"""Where a shot lies: the real path of its image, and the position in its stack."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What there is to learn from files.

    Attributes
    ----------
    support
        The shots, tags and classes.
    taught
        Each shot by where it lies.
    files, tags
        As they were named, with the hashes of what is in them.
    """

    support: SupportSet
    taught: Taught
    files: tuple[ShotFiles, ...]
    tags: tuple[TagFile, ...] = ()


def read_lesson(
    files: Iterable[ShotFiles],
    *,
    classes: Iterable[LabelClass] = (),
    axes: str = "",
    objects: bool = False,
    tags: Iterable[TagFile] = (),
    instances: bool = False,
) -> Lesson:
    """Read all shots and tags.

    Parameters
    ----------
    files
        Images and masks. Where they have hashes, they must be what they were.
    classes
        Names and colours, which go before those that the masks tell.
    axes, objects
        See `read_shots`.
    tags
        Images of which it is known only what they contain. Where they have hashes, they must be what they were.
    instances
        Whether to keep which pixel belongs to which object.

    Raises
    ------
    ReadError, MaskError
        If one cannot be used.
    SettingsError
        If one is not what it was when its hash was taken.
    SupportError
        If there is nothing to learn.
    """
    taught: Taught = {}
    read: list[ShotFiles] = []
    named: dict[int, LabelClass] = {}
    for each in files:
        found = {(real_place(each.image), _position(shot)): shot for shot in _shots(each, axes, objects, instances)}
        digests = tuple(shot.digest for shot in found.values())
        if each.digests and each.digests != digests:
            raise SettingsError(
                f"the shot {each.image} with {each.mask} is not what it was when the recipe was written; "
                "put the files back, or start anew with 'napari-fewshot propagate'"
            )
        taught |= found
        read.append(replace(each, digests=digests))
        if not objects:
            named |= {told.id: told for told in read_classes(each.mask)}
    named |= {told.id: told for told in classes}
    tags = tuple(tags)
    contained = [_tag(each, axes) for each in tags]
    support = SupportSet(taught.values(), named.values(), contained)
    support.check()
    told = tuple(replace(each, digest=tag.digest) for each, tag in zip(tags, contained, strict=True))
    return Lesson(support, taught, tuple(read), told)


def _with_ids(shot: Shot, ids: npt.NDArray[np.int64]) -> Shot:
    return Shot(shot.frame, shot.labels, shot.guessed, instances=ids.astype(np.int32)) if ids.any() else shot


def _tag(told: TagFile, axes: str) -> Tag:
    image = open_images(told.image, axes=axes)[0]
    frames = dict(zip(np.ndindex(*image.stack_shape[:-2]), image.frames(real_place(told.image)), strict=True))
    if told.position not in frames:
        raise SettingsError(f"{told.image} has no slice {told.position}, which was tagged; put the file back")
    tag = Tag(frames[told.position], told.class_ids)
    if told.digest not in ("", tag.digest):
        raise SettingsError(f"{told.image} is not what it was when it was tagged; put the file back")
    return tag


def find_pairs(folder: Path) -> tuple[ShotFiles, ...]:
    """Find images and their masks in a folder.

    Either ``images/`` and ``labels/`` (or ``masks/``) with the same names, or masks beside the images that are named
    like them with ``_labels``, ``_mask``, ``_seg`` or ``_gt`` at the end (``_seg.npy`` of Cellpose too).

    Raises
    ------
    ReadError
        If there is no pair.
    """
    if (folder / "images").is_dir():
        below = next((folder / name for name in _FOLDERS if (folder / name).is_dir()), folder)
        images, masks = _by_stem(folder / "images"), _by_stem(below)
    else:
        every = _by_stem(folder)
        masks = {stem: path for stem, path in every.items() if stem.endswith("_seg.npy") or _MASK.search(stem)}
        images = {stem: path for stem, path in every.items() if stem not in masks}
    masks = {_MASK.sub("", stem.removesuffix("_seg.npy")): path for stem, path in masks.items()}
    pairs = tuple(ShotFiles(str(path), str(masks[stem])) for stem, path in images.items() if stem in masks)
    if not pairs:
        raise ReadError(
            f"{folder} holds no image with its mask; put images into images/ and masks of the same names into labels/, "
            "or masks beside the images, named like NAME_labels.tif"
        )
    return pairs


def real_place(place: os.PathLike[str] | str) -> str:
    """Path without links and detours, by which two names of a file are known as one; a URL as it is."""
    return os.fspath(place) if is_url(place) else os.path.realpath(Path(place).expanduser())


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ReadError(f"{folder} is not a folder; name the one that holds images and masks")
    found = {stem_of(Path(place).name): Path(place) for place in find_images([folder])}
    beside = {path.name: path for path in sorted(folder.glob("*_seg.npy"))}
    return found | beside


def _shots(files: ShotFiles, axes: str, objects: bool, instances: bool) -> list[Shot]:
    positions = files.positions or None
    numbered = instances and (objects or is_cellpose(Path(files.mask)))
    shots = list(
        read_shots(files.image, files.mask, objects=objects, numbered=numbered, axes=axes, positions=positions)
    )
    if instances and files.instances:
        ids = open_labels(files.instances)
        shots = [_with_ids(shot, whole_numbers(ids.plane(_position(shot))[...], files.instances)) for shot in shots]
    if not shots:
        raise ReadError(f"no slice of {files.mask} has any label, so there is nothing to learn; choose another mask")
    return shots


def _position(shot: Shot) -> Position:
    return () if isinstance(shot.key, str) else tuple(int(i) for i in shot.key[1:])
