"""Images of a session that is opened: where they are now, and their frames."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from napari_fewshot.errors import ReadError, SettingsError
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.io.image_places import Finder, ImagePlace, KnownImage, find_again, frames_at
from napari_fewshot.io.ome_zarr import is_url


@dataclass(frozen=True)
class ImageSearch:
    """How images are looked for.

    Attributes
    ----------
    home
        Folder of the session: many lie beside it.
    folders
        In which others may be that are not where they were; where one was found, the next are looked for as well.
    ask
        Asked for those that are found nowhere.
    with_pixels
        Whether they are opened; otherwise it is only looked where they are.
    """

    home: Path
    folders: list[Path]
    ask: Finder | None = None
    with_pixels: bool = True

    def find(
        self, name: str, known: KnownImage, shapes: Mapping[FrameKey, list[int]]
    ) -> tuple[ImagePlace, dict[FrameKey, Frame]] | None:
        """Return where an image is, and its frames; None where it is nowhere, or another by now."""
        path = find_again(known, self.home, self.folders)
        if path is None and self.ask is not None:
            told = self.ask(name, known)
            path = None if told is None else str(Path(told).expanduser().absolute())
        if path is None:
            return None
        place = replace(known.place, path=path)
        if not is_url(path) and Path(path).parent not in self.folders:
            self.folders.append(Path(path).parent)  # who moved one image moved others with it
        if not self.with_pixels:
            return place, {}
        frames = opened_frames(name, place, shapes)
        return (place, frames) if frames else None


def opened_frames(name: str, place: ImagePlace, shapes: Mapping[FrameKey, list[int]]) -> dict[FrameKey, Frame]:
    """Open an image and return its frames, none where it cannot be opened or they are not of these shapes."""
    with suppress(ReadError, SettingsError):
        frames = {frame.key: frame for frame in frames_at(place, name)}
        if all(key in frames and frames[key].size in (None, tuple(shape[:2])) for key, shape in shapes.items()):
            return frames
    return {}
