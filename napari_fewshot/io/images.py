"""Images of all kinds as frames that are read lazily: files, folders, patterns and URLs.

>>> for frame in read_images(["plate 3/*.tif", "https://example.org/embryo.ome.zarr"]): ...  # doctest: +SKIP
"""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Frame
from napari_fewshot.io import dicom, nifti, numpy_files
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.names import PICTURES, TIFF
from napari_fewshot.io.ome_zarr import is_url, is_zarr, open_ome_zarr
from napari_fewshot.io.rasters import read_image

_FILES: Final = (*PICTURES, *TIFF, *nifti.SUFFIXES, *numpy_files.SUFFIXES, *dicom.SUFFIXES)

_DIGITS: Final = re.compile(r"\d+")
_SUFFIX: Final = re.compile(r"(_seg\.npy|\.nii(\.gz)?|(\.ome)?\.(zarr(\.zip)?|tiff?)|\.[A-Za-z0-9]{1,5})$")

Place = Path | str
"""A file or folder, or a URL as text."""


def read_images(paths: Iterable[str | os.PathLike[str]], *, axes: str = "") -> Iterator[Frame]:
    """Go through the frames of images, opening one file after the other and reading pixels when they are needed.

    Parameters
    ----------
    paths
        Files, folders (of files, not of folders; one of DICOM slices is a volume), patterns such as ``*.tif``, and URLs
        of OME-Zarr. Each is read in the natural order of its names: a2 comes before a10.
    axes
        A letter for each axis, where files do not say what they are: T Z C Y X, and S for colours.

    Yields
    ------
    Frame
        Its key is the name of the file without suffix, with its position where it is one of a stack. Files of the same
        name are told apart by suffix, or folder.

    Raises
    ------
    ReadError
        If there is nothing, or something cannot be read; frames in front of it have come by then.
    """
    places = find_images(paths)
    for place, name in zip(places, names_of(places), strict=True):
        if isinstance(place, Path) and place.suffix.lower() in PICTURES:
            yield Frame(name, partial(read_image, place))
            continue
        opened = open_images(place, axes=axes)
        for number, image in enumerate(opened, start=1):
            yield from image.frames(name if len(opened) == 1 else f"{name} {number}")


def open_images(path: str | os.PathLike[str], *, axes: str = "") -> tuple[ImageFile, ...]:
    """Open a file, a folder of DICOM slices, or an OME-Zarr: all images that are in it, mostly one.

    Raises
    ------
    ReadError
        If it is missing, damaged, or of a kind that is not known.
    SettingsError
        If a library is needed that is not installed.
    """
    opened = _opened(path, axes)
    return tuple(image.with_axes(axes) for image in opened) if axes else opened


def _opened(path: str | os.PathLike[str], axes: str) -> tuple[ImageFile, ...]:
    if is_url(path) or is_zarr(path):
        return (open_ome_zarr(path),)
    path = Path(path)
    if path.is_dir():
        return dicom.open_dicom(_dicom_files(path))
    if not path.is_file():
        raise ReadError(f"{path} is not there; check its name")
    name = path.name.lower()
    if numpy_files.is_cellpose(path):
        raise ReadError(f"{path} holds masks of Cellpose; name it as the mask of a shot, and the image as the image")
    if name.endswith(TIFF):
        from napari_fewshot.io.tiff_images import open_tiff

        return open_tiff(path)
    if name.endswith(nifti.SUFFIXES):
        return (nifti.open_nifti(path),)
    if name.endswith(numpy_files.SUFFIXES):
        return (numpy_files.open_numpy(path, axes),)
    if name.endswith(PICTURES):
        image = read_image(path)
        return (ImageFile(path, image, "YXS"[: image.ndim]),)
    if name.endswith(dicom.SUFFIXES) or dicom.is_dicom(path):
        return dicom.open_dicom([path])
    raise ReadError(f"{path} is of a kind that is not known; save it as one of {', '.join(_FILES)} or as OME-Zarr")


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Place]:
    """List the images that paths, folders and patterns name, each once; nothing is opened.

    Raises
    ------
    ReadError
        If one names nothing.
    """
    found: dict[str, Place] = {}
    for path in paths:
        there = _listed(path)
        if not there:
            raise ReadError(f"there is no image at {os.fspath(path)}; check the name, or name another folder")
        for place in there:
            found.setdefault(place if isinstance(place, str) else os.path.normcase(place), place)
    return list(found.values())


def _listed(path: str | os.PathLike[str]) -> list[Place]:
    if is_url(path):
        return [os.fspath(path)]
    place = Path(path).expanduser()
    try:
        is_folder = stat.S_ISDIR(os.stat(place).st_mode)  # one look at a file, of which there may be very many
    except (OSError, ValueError) as error:
        if glob.has_magic(str(place)):
            matches = map(Path, glob.iglob(str(place), recursive=True))
            return [*_in_natural_order(match for match in matches if match.is_file() or is_zarr(match))]
        if isinstance(error, PermissionError):
            raise ReadError(f"{place} cannot be looked at ({error.strerror}); check its permissions") from error
        raise ReadError(f"{place} is not there; check its name") from error
    return _inside(place) if is_folder and not is_zarr(place) else [place]


def _inside(folder: Path) -> list[Place]:
    """List what a folder holds, by names alone: there may be a million files."""
    found: list[str] = []
    slices = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name.lower()
                if name.startswith(".") or name.endswith("_seg.npy"):
                    continue
                if name.endswith(dicom.SUFFIXES):
                    slices = True
                elif name.endswith((".zarr", *_FILES)):
                    found.append(entry.name)
    except OSError as error:
        raise ReadError(f"{folder} cannot be looked into ({error.strerror}); check its permissions") from error
    if not found and not slices:
        slices = any(dicom.is_dicom(each) for each in sorted(folder.iterdir())[:1])
    found.sort()
    found.sort(key=_natural)
    within = os.path.join(folder, "")
    return [*([folder] if slices else []), *(Path(within + name) for name in found)]


def _dicom_files(folder: Path) -> list[Path]:
    files = [each for each in folder.iterdir() if each.is_file() and not each.name.startswith(".")]
    chosen = [each for each in files if each.name.lower().endswith(dicom.SUFFIXES) or dicom.is_dicom(each)]
    if not chosen:
        raise ReadError(f"{folder} holds no image; choose the folder of a series, or an OME-Zarr")
    return _in_natural_order(chosen)


def names_of(places: Iterable[Place]) -> list[str]:
    """Name images by their files without suffix; where two would have the same name, with suffix, then with folders.

    >>> names_of([Path("a/cells.tif"), Path("a/nuclei.tif"), Path("b/cells.tif")])
    ['a/cells.tif', 'nuclei', 'b/cells.tif']
    """
    texts = [str(place).replace("\\", "/").rstrip("/") for place in places]
    names = [stem_of(text.rpartition("/")[2]) for text in texts]
    if len(set(names)) == len(names):
        return names
    parts = [text.split("/") for text in texts]
    for depth in range(1, max(map(len, parts)) + 1):
        counts = Counter(names)
        if len(counts) == len(names):
            break
        names = ["/".join(each[-depth:]) if counts[name] > 1 else name for each, name in zip(parts, names, strict=True)]
    return names


def stem_of(name: str) -> str:
    """Take the suffixes of an image format off a file's name.

    >>> stem_of("brain.nii.gz"), stem_of("a.b.ome.zarr"), stem_of("cells_seg.npy")
    ('brain', 'a.b', 'cells')
    """
    return _SUFFIX.sub("", name) or name


def _in_natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort by name, a2 before a10; where names say the same, by path."""
    return sorted(sorted(paths, key=str), key=lambda path: _natural(path.name))


def _natural(name: str) -> str:
    """Return a text by which names are in natural order: of numbers, the one of more digits is larger.

    Lists of texts and numbers would do as well, but a hundred thousand of them keep the garbage collector busy.
    """
    return _DIGITS.sub(_by_size, name.casefold())


def _by_size(number: re.Match[str]) -> str:
    digits = str(int(number[0]))
    return f"\0{chr(len(digits))}{digits}"  # no name holds \0, so a number comes before any letter
