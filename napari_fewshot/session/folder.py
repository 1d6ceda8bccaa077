"""A session on the disk, in a folder that survives whatever happens to the program; see docs/session-format.md."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any, Final

from napari_fewshot.errors import ExportError, FewShotError, ReadError
from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.content_store import ContentStore
from napari_fewshot.io.image_places import Finder
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.session.embedding import EmbeddedPixels
from napari_fewshot.session.finding import ImageSearch
from napari_fewshot.session.head import HEAD, VERSION, NewerError, arrays_named_by, arrays_named_in, opened, sealed
from napari_fewshot.session.reading import HeadReader, Watcher
from napari_fewshot.session.writing import HeadWriter

PREVIOUS: Final = "session.previous.json"
"""The head before the last change."""
_FAULTS: Final = (FewShotError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a damaged head, or an array that is not what it was, may be noticed by."""


class SessionFolder:
    """Writes a session into a folder again and again, each time only what changed, and reads it.

    A small file, `HEAD`, names all others, which are never written over: with the head replaced in one step, the folder
    holds the session as it was before or as it is now, whenever the program dies.

    Parameters
    ----------
    folder
        Need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._store = ContentStore(self.folder / "data")
        self._pixels = EmbeddedPixels(self._store)
        self._writer = HeadWriter(self._store, self._pixels, self.folder)
        self._written: bytes | None = None
        self._busy = Lock()

    # ------------------------------------------------------------------ writing
    def write(self, contents: SessionContents, *, overwrite: bool = False) -> bool:
        """Save a session. Returns whether anything had changed.

        Parameters
        ----------
        contents
            What to save.
        overwrite
            Whether a session may be replaced that this object has neither written nor read.

        Raises
        ------
        ExportError
            If it cannot be written, or the folder holds a session of somebody else; what was there is untouched.
        """
        with self._busy:
            there = self._head_on_disk()
            if there is not None and there != self._written and not overwrite:
                raise ExportError(
                    f"'{self.folder}' holds another session, or another window has changed it; choose another folder"
                )
            head = self._writer.head_of(contents)
            content = sealed(head)
            if content == there:
                self._written = content
                return False
            if there is not None:
                _write(self.folder / PREVIOUS, there)
            _write(self.folder / HEAD, content)
            self._written = content
            self._store.keep_only(arrays_named_in(head) | arrays_named_by(there))
            return True

    def _head_on_disk(self) -> bytes | None:
        try:
            return (self.folder / HEAD).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ExportError(
                f"'{self.folder}' cannot be looked into ({error.strerror}); choose another one"
            ) from error

    # ------------------------------------------------------------------ reading
    def read(
        self, *, search: Iterable[Path] = (), find: Finder | None = None, with_pixels: bool = True,
        watch: Watcher = lambda what, done, total: None,
    ) -> SessionContents:  # fmt: skip
        """Read the session, all of it or nothing, and find its images.

        Parameters
        ----------
        search
            Folders in which images are looked for that are not where they were.
        find
            Asked for those that are found nowhere.
        with_pixels
            Whether images are opened; otherwise it is only looked where they are.
        watch
            Told how far it is; an exception of its own ends the reading, and nothing has happened.

        Raises
        ------
        ReadError
            If there is no session, it is damaged, or a newer version wrote it; then a copy of its head is made.
        """
        with self._busy:
            head_file = self.folder / HEAD
            try:
                content = head_file.read_bytes()
            except OSError as error:
                raise ReadError(
                    f"{self.folder} holds no session ({error.strerror}); choose the folder in which '{HEAD}' lies"
                ) from error
            try:
                contents = self._decoded(opened(content), ImageSearch(self.folder, [*search], find, with_pixels), watch)
            except NewerError as error:
                self._back_up(content)
                raise ReadError(
                    f"the session in {self.folder} was saved by a newer napari-fewshot (format {error}, this one reads "
                    f"{VERSION}); update napari-fewshot to open it. Nothing of it was changed"
                ) from error
            except _FAULTS as error:
                raise self._damaged(content, error) from error
            self._written = content
            return contents

    def _damaged(self, content: bytes, error: Exception) -> ReadError:
        backup = self._back_up(content)
        older = self.folder / PREVIOUS
        way_back = (
            f"; '{PREVIOUS}' beside it is the state one change before: rename it to '{HEAD}' to go on from there"
            if older.is_file()
            else ""
        )
        return ReadError(
            f"the session in {self.folder} is damaged ({_said(error)}) and was not opened; "
            f"{'a copy is in ' + repr(backup) if backup else 'nothing of it was changed'}{way_back}"
        )

    def _back_up(self, content: bytes) -> str:
        """Keep a copy of a head that was refused, so that nothing that is done next can lose it."""
        name = f"session.refused-{hashlib.blake2b(content, digest_size=4).hexdigest()}.json"
        with suppress(ExportError):
            if not (self.folder / name).exists():
                _write(self.folder / name, content)
            return name
        return ""

    def _decoded(self, head: dict[str, Any], search: ImageSearch, watch: Watcher) -> SessionContents:
        reader = HeadReader(self._store, head, watch)  # checks everything before anything is looked for
        contents = reader.contents(search, watch)
        self._pixels.remember(contents.frames, reader.embedded)
        return contents


def describe(folder: Path) -> dict[str, Any]:
    """Return what a session says of itself, with all checks made but without looking for its images.

    Raises
    ------
    ReadError
        As `SessionFolder.read`.
    """
    contents = SessionFolder(folder).read(with_pixels=False)
    state = contents.state
    states: dict[str, int] = {}
    for key in contents.frames:
        states[state.frame_state(key)] = states.get(state.frame_state(key), 0) + 1
    return {
        "folder": str(folder),
        "version": VERSION,
        "classes": [each.name for each in state.support.classes],
        "frames": len(contents.frames),
        "shots": len(state.support),
        "tags": len(state.support.tags),
        "proposals": len(state.proposals),
        "states": states,
        "images": {name: place.path for name, place in contents.places.items()},
        "missing": {name: known.place.path for name, known in contents.missing.items()},
        "settings": asdict(contents.settings),
        "weights": dict(contents.weights),
    }


def _write(path: Path, content: bytes) -> None:
    with replacing(path, overwrite=True) as file:
        file.write(content)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, LookupError | AttributeError) else str(error)
