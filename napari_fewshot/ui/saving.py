"""The session of a dock on the disk: saved by itself, opened again. Knows no Qt."""

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import platformdirs
from psygnal import Signal

from napari_fewshot.autosave import Autosaver
from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Frame, FrameKey, Labels, image_name
from napari_fewshot.io.image_places import ImagePlace
from napari_fewshot.session import Session
from napari_fewshot.session.contents import MissingImage, SessionContents
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.session.stacks import axes_of
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, Layers

FOLDER_VARIABLE: Final = "NAPARI_FEWSHOT_DATA"
"""Environment variable that names another folder for sessions."""
_PATIENCE: Final = 5.0  # seconds


class Images(Protocol):
    """Where images come from and how they come on screen, see `SessionLayers`."""

    def places(self) -> Mapping[str, ImagePlace | None]:
        """Where each image comes from, by uid."""
        ...

    def open(self, name: str, place: ImagePlace) -> str:
        """Bring an image on screen and return its uid."""
        ...

    def show(self, name: str, frames: Sequence[Frame]) -> str:
        """Bring an image on screen that lies in no file."""
        ...

    def lie_along(self, uid: str, axes: str) -> None:
        """Say which of the axes that one moves along is depth: a letter for each."""
        ...

    def frames(self) -> Mapping[FrameKey, Frame]:
        """Every frame of every chosen image."""
        ...


class Saving:
    """Keeps a session in a folder from its first shot on, and opens others in its place.

    Parameters
    ----------
    session
        That of the dock.
    layers, images
        The viewer's.
    enabled
        Whether it is saved by itself.
    beside
        Whether next to the first image instead of in the folder for data of the user.
    delay
        Seconds from a change until it is saved.
    """

    changed = Signal()
    """There is something new to show; told in any thread."""

    def __init__(
        self, session: Session, layers: Layers, images: Images, *, enabled: bool = True, beside: bool = False,
        delay: float = 1.0,
    ) -> None:  # fmt: skip
        self._session, self._layers, self._images, self._delay = session, layers, images, delay
        self.enabled, self.beside = enabled, beside
        self._saver: Autosaver | None = None
        self._opening = False
        self._removed_at = -math.inf
        session.changed.connect(self._on_change)

    @property
    def folder(self) -> Path | None:
        """Where the session is saved, None as long as it is not."""
        return None if self._saver is None else self._saver.folder.folder

    @property
    def line(self) -> str:
        """What becomes of the session, in words."""
        if self._saver is None:
            return "Saved from the first example on." if self.enabled else "Not saved: what you do is lost on closing."
        if self._saver.trouble:
            return f"NOT saved: {self._saver.trouble}"
        return f"Saved in {self.folder}" if self._saver.is_saved else f"Saving in {self.folder} ..."

    def choose(self, *, enabled: bool, beside: bool) -> None:
        """Save or not, and where new sessions go; the one at work is saved where it is."""
        self.enabled, self.beside = enabled, beside
        if not enabled:
            self.close()
        self._on_change()
        self.changed.emit()

    def note_strokes(self, key: FrameKey | None) -> None:
        """Keep what is painted on a frame, before it is taught."""
        if key is None or not self.enabled or key not in self._session.frames:
            return
        painted = self._layers.painted_by_hand(key)
        if painted is not None and painted.shape == self._session.frame(key).size:
            self._session.keep_painted(key, painted)

    def follow(self) -> None:
        """Catch up with layers that came, went, or were renamed."""
        for uid, place in self._images.places().items():
            self._session.set_place(uid, place)

    def before_removal(self) -> None:
        """A layer is about to go, perhaps with all others: what is not saved yet has to be saved now."""
        now = time.monotonic()
        if self._saver is not None and now > self._removed_at + 1.0:
            self._saver.save_now()
            self._saver.wait(_PATIENCE)
        self._removed_at = now

    def close(self) -> None:
        """Save what is left to save, and stop."""
        if self._saver is not None:
            self._saver.close()
            self._saver = None

    # ------------------------------------------------------------------ opening
    def take_up(self, contents: SessionContents, folder: SessionFolder) -> None:
        """Go on with a session that was read, in place of the one at work, which is saved before.

        Parameters
        ----------
        contents
            What was read, with places of images but not their pixels.
        folder
            Where it was read, and is saved from now on.

        Raises
        ------
        ReadError
            If one of its images was not found or cannot be opened; the session at work stays as it is then.
        """
        if contents.missing:
            names = ", ".join(f"'{name}' ({known.place.path})" for name, known in contents.missing.items())
            raise ReadError(f"not found: {names}; bring the images back, and open the session again")
        self._opening = True
        try:
            contents = self._on_screen(contents)
            self.close()
            self._session.restore(contents, folder)
            self._session.add_frames([frame for key, frame in self._images.frames().items() if key in contents.frames])
            show_session(self._session, self._layers)
        finally:
            self._opening = False
        if self.enabled:
            self._begin(folder)

    def _on_screen(self, contents: SessionContents) -> SessionContents:
        """Open the images of a session, and let it know them by the names that they have now."""
        names: dict[str, str] = {}
        kept: dict[str, list[Frame]] = {}
        for key, frame in contents.frames.items():
            if image_name(key) not in contents.places and not isinstance(frame.image, MissingImage):
                kept.setdefault(image_name(key), []).append(frame)
        for name, place in contents.places.items():
            names[name] = self._images.open(name, place)
        for name, frames in kept.items():
            names[name] = self._images.show(name, frames)
        contents = contents.renamed({old: new for old, new in names.items() if old != new})
        for name, (axes, _) in axes_of(contents.frames).items():
            self._images.lie_along(name, axes)
        there = self._images.frames()
        for key, frame in contents.frames.items():
            if key not in there or (frame.size is not None and there[key].size != frame.size):
                raise ReadError(f"'{frame.name}' is not in the image any more; open the image that it was painted on")
        return replace(contents, frames={key: there[key] for key in contents.frames})

    # ------------------------------------------------------------------ saving
    def _on_change(self) -> None:
        if self._opening or not self.enabled:
            return
        if not self._session.frames:  # the viewer closes, or is cleared: what was saved stays as it is
            self._drop()
        elif self._saver is None and (
            self._session.support.shots or self._session.support.tags or self._session.painted
        ):
            self._begin(SessionFolder(self._new_folder()))

    def _drop(self) -> None:
        if self._saver is not None:
            saver, self._saver = self._saver, None
            saver.close(discard=True)
            self.changed.emit()

    def _begin(self, folder: SessionFolder) -> None:
        self.follow()
        self._saver = Autosaver(self._session, folder, self._delay)
        self._saver.saved.connect(self.changed.emit)
        self._saver.failed.connect(self._on_failure)
        self._saver.save_now()
        self.changed.emit()

    def _on_failure(self, _: str) -> None:
        self.changed.emit()

    def _new_folder(self) -> Path:
        places = [place for place in self._images.places().values() if place is not None]
        name = Path(places[0].path).stem if places else next(iter(self._images.places()), "session")
        name = re.sub(r"[^\w .-]", "_", name)[:60].strip(" .") or "session"
        above = Path(places[0].path).parent if self.beside and places else sessions_folder()
        wanted = above / f"{name} {datetime.now():%Y-%m-%d %H.%M.%S}.fewshot"
        number = 2
        while wanted.exists():
            wanted, number = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}"), number + 1
        return wanted


def sessions_folder() -> Path:
    """Return the folder for sessions that are not saved beside their images; it need not exist."""
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    data = Path(named).expanduser() if named else platformdirs.user_data_path("napari-fewshot", appauthor=False)
    return data / "sessions"


def show_session(session: Session, layers: Layers) -> None:
    """Put everything that a session says on layers: what was painted, taught, accepted, and open proposals."""
    layers.set_classes(session.classes)
    for key in session.frames:
        labels, painted = session.labels(key), session.painted.get(key)
        if labels is not None or painted is not None:
            layers.ensure_labels(image_name(key))
            layers.restore_painted(key, _on_labels_layer(session, key, labels))
        waiting = session.proposal(key)
        if waiting is not None:
            layers.ensure_proposals(image_name(key))
            layers.show_proposal(key, waiting.labels)


def _on_labels_layer(session: Session, key: FrameKey, labels: Labels | None) -> Labels:
    """Labels of a frame as they are painted: (H, W) 0 where nothing is, 254 for painted background."""
    painted = session.painted.get(key)
    shot = next((shot for shot in session.support if shot.key == key), None)
    shown = np.zeros_like(painted, np.int32) if labels is None else labels
    if labels is not None and shot is not None and shot.is_partial:
        said = shot.said
        shown = np.where((said == UNLABELLED) & (shot.labels != UNLABELLED), 0, labels)  # guessed from boxes
        shown = np.where(said == BACKGROUND, PAINTED_BACKGROUND, shown)
    return (shown if painted is None else np.where(painted == 0, shown, painted)).astype(np.int32)
