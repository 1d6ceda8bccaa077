"""Where the images of a session lie, and how they are found again when they were moved."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Frame
from napari_fewshot.io.content_store import fingerprint
from napari_fewshot.io.images import Place, find_images, names_of, open_images
from napari_fewshot.io.names import PICTURES
from napari_fewshot.io.ome_zarr import is_url
from napari_fewshot.io.rasters import read_image

_MOST_LOOKED_AT: Final = 200_000  # files; a folder with more is too large to be searched


@dataclass(frozen=True)
class ImagePlace:
    """Where an image of a session comes from.

    Attributes
    ----------
    path
        Absolute path of the file or folder, or a URL.
    number
        Which of the images in it, from 0.
    axes
        A letter for each axis, where a person had to say; see `read_images`.
    reader
        The plugin of napari that opened it, "" outside of napari.
    channel_axis
        Which axis holds channels, as chosen in the dock.
    """

    path: str
    number: int = 0
    axes: str = ""
    reader: str = ""
    channel_axis: int | None = None


@dataclass(frozen=True)
class KnownImage:
    """By what an image is known again.

    Attributes
    ----------
    place
        Where it was.
    relative
        Path from the folder of the session, "" where there is none.
    fingerprint, size
        See `fingerprint`; "" and 0 of a URL.
    """

    place: ImagePlace
    relative: str = ""
    fingerprint: str = ""
    size: int = 0


Finder = Callable[[str, KnownImage], str | os.PathLike[str] | None]
"""Asked for an image that was not found, by its name and what is known of it; None where nobody knows."""


def places_of(paths: Iterable[str | os.PathLike[str]], axes: str = "") -> Iterator[tuple[str, ImagePlace]]:
    """Name the images that files, folders and patterns name, as `read_images` does.

    Raises
    ------
    ReadError
        If there is nothing, or something cannot be read.
    """
    found = find_images(paths)
    for place, name in zip(found, names_of(found), strict=True):
        count = 1 if _is_picture(place) else len(open_images(place, axes=axes))
        for number in range(count):
            path = place if isinstance(place, str) else str(place.absolute())
            yield name if count == 1 else f"{name} {number + 1}", ImagePlace(path, number, axes)


def frames_at(place: ImagePlace, name: str) -> list[Frame]:
    """Open an image; the keys of its frames begin with its name.

    Raises
    ------
    ReadError
        If it is missing, damaged, or of a kind that is not known.
    """
    path: Place = place.path if is_url(place.path) else Path(place.path)
    if _is_picture(path):
        if not Path(path).is_file():
            raise ReadError(f"{path} is not there; check its name")
        return [Frame(name, partial(read_image, Path(path)))]
    opened = open_images(path, axes=place.axes)
    if place.number >= len(opened):
        raise ReadError(f"{path} holds {len(opened)} image(s), not {place.number + 1}; it is not what it was")
    return list(opened[place.number].frames(name))


def _is_picture(place: Place) -> bool:
    return isinstance(place, Path) and place.suffix.lower() in PICTURES


def known_image(place: ImagePlace, folder: Path) -> KnownImage:
    """Take note of an image, so that it is found again from a session in this folder."""
    if is_url(place.path):
        return KnownImage(place)
    try:
        relative = Path(os.path.relpath(place.path, folder)).as_posix()
    except ValueError:  # on another drive
        relative = ""
    try:
        return KnownImage(place, relative, *fingerprint(place.path))
    except OSError:  # gone meanwhile: it may come back
        return KnownImage(place, relative)


def find_again(known: KnownImage, folder: Path, search: Iterable[Path] = ()) -> str | None:
    """Return where an image is now, or None.

    Looked at are its path, the same way from the folder of the session, the folders that were named, and the one beside
    which the session lies. Only what has its content is taken; an image at its old path whose content has
    changed only where there is no other.

    Parameters
    ----------
    known
        By what it is known.
    folder
        Of the session.
    search
        Folders to go through, with those in them.
    """
    if is_url(known.place.path):
        return known.place.path
    here = [Path(known.place.path), *([folder / known.relative] if known.relative else [])]
    changed = [path for path in here if path.exists()]
    if not known.fingerprint:
        return str(changed[0]) if changed else None
    for path in changed:
        if is_same(known, path):
            return str(path.resolve())
    beside = [] if folder.parent == Path(folder.anchor) else [folder.parent]
    for place in dict.fromkeys(path.resolve() for path in (*search, *beside)):
        found = next((path for path in _alike(known, place) if is_same(known, path)), None)
        if found is not None:
            return str(found)
    return str(changed[0]) if changed else None


def is_same(known: KnownImage, path: Path) -> bool:
    """Whether a file or folder holds what an image did."""
    try:
        if path.is_file() and path.stat().st_size != known.size:
            return False
        return fingerprint(path) == (known.fingerprint, known.size)
    except OSError:
        return False


def _alike(known: KnownImage, folder: Path) -> Iterator[Path]:
    """Files and folders of its kind below a folder, those of its name first."""
    old = Path(known.place.path)
    found, looked_at = [], 0
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        looked_at += len(files)
        if looked_at > _MOST_LOOKED_AT:
            break
        found += [Path(place, each) for each in (*files, *folders) if Path(each).suffix == old.suffix]
    yield from sorted(found, key=lambda path: path.name != old.name)
