"""What was taught in a session, as files and a recipe: `napari-fewshot run` then does the same without the dock."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.batch.recipe import Recipe, ShotFiles, TagFile, digest_of_names
from napari_fewshot.batch.shots import read_lesson
from napari_fewshot.errors import FewShotError, SettingsError
from napari_fewshot.frames import Frame, FrameKey, image_name
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.image_places import ImagePlace
from napari_fewshot.io.image_stacks import write_frames
from napari_fewshot.io.images import find_images, names_of, open_images
from napari_fewshot.io.label_stack import LabelStack, Position
from napari_fewshot.io.labels import write_tiff
from napari_fewshot.io.names import safe_name
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.support import UNLABELLED, Shot, Tag

FOLDER: Final = "shots"
"""Beside the recipe: what was painted, one file for each image."""

IMAGES: Final = "images"
"""Beside the recipe: images that lie in no file."""

_MOST_BYTES: Final = 2**32
"""Of such an image, which is written anew."""


@dataclass(frozen=True, eq=False)
class Painted:
    """(..., Y, X) planes where they lie in their stack, one value elsewhere; a plane is made when it is indexed."""

    planes: Mapping[Position, npt.NDArray[np.int32]]
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    elsewhere: int

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        first: Any = index[0] if isinstance(index, tuple) and index else index
        if len(self.shape) == 2 or first is ...:
            return np.asarray(self._planes(self.shape[:-2], ())[index])
        chosen: Any = range(self.shape[0])[first]
        rest = index[1:] if isinstance(index, tuple) else ()
        if isinstance(chosen, range):
            return np.stack([self._planes(self.shape[1:-2], (i,))[rest] for i in chosen])
        return np.asarray(self._planes(self.shape[1:-2], (chosen,))[rest])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def _planes(self, stack: tuple[int, ...], begin: Position) -> npt.NDArray[Any]:
        made = np.full((*stack, *self.shape[-2:]), self.elsewhere, self.dtype)
        for at in np.ndindex(*stack):
            plane = self.planes.get((*begin, *at))
            if plane is not None:
                made[at] = plane
        return made


def _painted(shots: Mapping[Position, Shot], shape: tuple[int, ...]) -> Painted:
    """Labels of shots, 255 elsewhere."""
    return Painted({at: shot.labels for at, shot in shots.items()}, shape, np.dtype(np.uint8), UNLABELLED)


def _numbered(shots: Mapping[Position, Shot], shape: tuple[int, ...]) -> Painted:
    """Objects of shots on which somebody numbered some, 0 elsewhere."""
    ids = {at: shot.instances for at, shot in shots.items() if shot.instances is not None}
    return Painted(ids, shape, np.dtype(np.int32), 0)


def recipe_of(contents: SessionContents, folder: Path, formats: tuple[str, ...]) -> tuple[Recipe, tuple[str, ...]]:
    """Write what was taught into files, and say in a recipe what was done with it.

    Parameters
    ----------
    contents
        Of the session.
    folder
        The masks go into `FOLDER` in it, images that lie in no file into `IMAGES`; files are named after what they
        hold, so that none is ever replaced.
    formats
        Of the labels to write.

    Returns
    -------
    recipe : Recipe
        With the hashes of shots and weights.
    left_out : tuple of str
        What the recipe cannot repeat, a sentence each.

    Raises
    ------
    SettingsError
        If an image that was taught lies in no file and can be written into none, or its file is read in another way
        than the session's.
    ExportError
        If a file cannot be written.
    """
    support = contents.state.support
    taught: dict[str, dict[Position, Shot]] = {}
    for shot in support.shots:
        if shot.key not in contents.state.aside:
            taught.setdefault(image_name(shot.key), {})[_position(shot)] = shot
    tagged = {image_name(tag.key) for tag in support.tags}
    opened = {name: _opened(name, place, taught[name]) for name, place in contents.places.items() if name in taught}
    written, left_out = _in_files(contents, folder)
    for name in sorted((taught.keys() | tagged) & left_out.keys()):
        raise SettingsError(
            f"'{name}' was taught and lies in no file, and {left_out[name]}; save it, open it from there and teach it"
        )
    places = {**contents.places, **written}
    opened |= {name: _opened(name, place, taught[name]) for name, place in written.items() if name in taught}
    files = tuple(_written(places[name], opened[name], shots, folder) for name, shots in taught.items())
    images = tuple(dict.fromkeys(place.path for name, place in places.items()))
    told = {place.axes for place in places.values()}
    axes = told.pop() if len(told) == 1 else ""
    tags = tuple(TagFile(places[image_name(tag.key)].path, tag.class_ids, _position(tag)) for tag in support.tags)
    instances = contents.settings.instances
    lesson = read_lesson(files, classes=support.classes, axes=axes, tags=tags, instances=instances)
    settings = contents.propagation
    weights, known = {}, contents.weights
    if "backbone" in known:
        weights = {"features": known["backbone"], "head": known.get("head", "")}
    if known and instances:
        weights["objects"] = known.get("objects", "")
    recipe = Recipe(
        images, lesson.files, contents.settings, support.classes, formats, settings.min_area, axes,
        clean_up=CleanUp(**{f.name: getattr(settings, f.name) for f in fields(CleanUp) if f.name != "min_area"}),
        volume=settings.volume, weights=weights,
        inputs=digest_of_names(names_of(find_images(images))), tags=lesson.tags,
    )  # fmt: skip
    return recipe, tuple(f"'{name}' is not in the recipe: {why}" for name, why in left_out.items())


def _in_files(contents: SessionContents, folder: Path) -> tuple[dict[str, ImagePlace], dict[str, str]]:
    """Write images that lie in no file; return where they are now, and why others are not."""
    loose: dict[str, dict[FrameKey, Frame]] = {}
    for key, frame in contents.frames.items():
        if image_name(key) not in contents.places:
            loose.setdefault(image_name(key), {})[key] = frame
    written: dict[str, ImagePlace] = {}
    left_out: dict[str, str] = {}
    for name, frames in sorted(loose.items()):
        try:
            if name in contents.missing:
                raise SettingsError("its file was not found")
            by_position = {_place_of(key): frame for key, frame in frames.items()}
            written[name] = ImagePlace(str(_image_file(name, by_position, folder).absolute()))
        except FewShotError as error:
            left_out[name] = str(error)
    return written, left_out


def _image_file(name: str, frames: Mapping[Position, Frame], folder: Path) -> Path:
    """Write an image, unless it is there already."""
    opened = [frame.open() for frame in frames.values()]
    if sum(math.prod(pixels.shape) * pixels.dtype.itemsize for pixels in opened) > _MOST_BYTES:
        raise SettingsError(f"it has more than {_MOST_BYTES >> 30} GiB; save it as a file")
    file = folder / IMAGES / _name_of(pixels.digest() for pixels in opened) / f"{safe_name(name) or 'image'}.ome.tif"
    if not file.exists():
        write_frames(file, frames)
    return file


def _name_of(digests: Iterable[str]) -> str:
    return hashlib.blake2b("".join(digests).encode(), digest_size=5).hexdigest()


def _written(place: ImagePlace, image: ImageFile, shots: Mapping[Position, Shot], folder: Path) -> ShotFiles:
    """Write the shots of one image."""
    digest = _name_of(sorted(shot.digest for shot in shots.values()))
    stem = safe_name(names_of([Path(place.path)])[0]) or "image"
    file = folder / FOLDER / f"{stem}-{digest}.tif"
    axes, ids = f"{image.stack_axes}YX", ""
    if not file.exists():
        write_tiff(file, LabelStack(_painted(shots, image.stack_shape), stem, axes))
    if any(shot.instances is not None for shot in shots.values()):
        numbers = file.with_name(f"{file.stem}_objects.tif")
        ids = str(numbers.absolute())
        if not numbers.exists():
            write_tiff(numbers, LabelStack(_numbered(shots, image.stack_shape), stem, axes))
    positions = tuple(sorted(shots)) if image.stack_axes else ()
    return ShotFiles(place.path, str(file.absolute()), positions=positions, instances=ids)


def _opened(name: str, place: ImagePlace, shots: Mapping[Position, Shot]) -> ImageFile:
    """Open an image, which must be to the last pixel what was taught."""
    try:
        opened = open_images(place.path, axes=place.axes)
        for position, shot in shots.items():
            frame = shot.frame.read()
            plane = np.asarray(opened[0].plane(position)[...])
            if plane.shape != frame.shape or not (plane == frame).all():
                raise SettingsError("its pixels are others")
    except (FewShotError, IndexError) as error:
        raise SettingsError(
            f"{place.path} is read in another way than '{name}' in the session ({error}), so a recipe cannot name it; "
            "save the image as a file of its own"
        ) from error
    return opened[0]


def _position(said: Shot | Tag) -> Position:
    return _place_of(said.key)


def _place_of(key: FrameKey) -> Position:
    position = () if isinstance(key, str) else key[1:]
    if not all(isinstance(i, int) for i in position):
        raise SettingsError(f"the frames of '{image_name(key)}' are not numbered; save it as a stack")
    return tuple(map(int, position))
