"""Saves a session in the background, soon after every change."""

import time
from threading import Condition, Thread
from typing import Final

from psygnal import Signal

from napari_fewshot.errors import FewShotError
from napari_fewshot.session import Session
from napari_fewshot.session.folder import SessionFolder

_RETRY_SECONDS: Final = 10.0


class Autosaver:
    """Writes what changed in a session into its folder, in a thread of its own.

    Changes that follow each other closely are written together. What cannot be written is tried again.

    Parameters
    ----------
    session
        Saved from its next change on.
    folder
        Where to.
    delay
        Seconds from a change until it is written; the change and what comes until then.
    """

    saved = Signal()
    """Everything is on the disk. Told in the thread that saves, as is `failed`."""
    failed = Signal(str)
    """Something could not be written, and why."""

    def __init__(self, session: Session, folder: SessionFolder, delay: float = 1.0) -> None:
        self.folder = folder
        self.trouble = ""
        self._session, self._delay = session, delay
        self._condition = Condition()
        self._dirty = self._hurried = self._closing = self._writing = False
        session.changed.connect(self._on_change)
        self._thread = Thread(target=self._work, name="saving the session", daemon=True)
        self._thread.start()

    @property
    def is_saved(self) -> bool:
        """Whether everything is on the disk."""
        return not self._dirty and not self._writing

    def save_now(self) -> None:
        """Save without waiting for a change or for more of them."""
        with self._condition:
            self._dirty = self._hurried = True
            self._condition.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until everything is on the disk. Returns whether it is."""
        with self._condition:
            return (
                self._condition.wait_for(lambda: self.is_saved or not self._thread.is_alive(), seconds)
                and self.is_saved
            )

    def close(self, seconds: float = 10.0, *, discard: bool = False) -> bool:
        """Stop, after saving what is left to save unless it is to be discarded. Returns whether all is on the disk."""
        self._session.changed.disconnect(self._on_change, missing_ok=True)
        with self._condition:
            self._closing = True
            self._dirty = self._dirty and not discard
            self._condition.notify_all()
        self._thread.join(seconds)
        return self.is_saved

    # ------------------------------------------------------------------ private
    def _on_change(self) -> None:
        with self._condition:
            self._dirty = True
            self._condition.notify_all()

    def _work(self) -> None:
        pause = self._delay
        while self._wait(pause):
            pause = self._delay if self._save() else max(self._delay, _RETRY_SECONDS)

    def _wait(self, pause: float) -> bool:
        """Wait until there is something to save, and a little longer. Returns whether there is something."""
        with self._condition:
            self._condition.wait_for(lambda: self._dirty or self._closing)
            until = time.monotonic() + pause
            self._condition.wait_for(lambda: self._hurried or self._closing, max(0.0, until - time.monotonic()))
            if self._closing and (not self._dirty or self.trouble):
                return False
            self._hurried = False
            return True

    def _save(self) -> bool:
        with self._condition:
            self._dirty, self._writing = False, True  # what changes from here on is saved by the next pass
        trouble = ""
        try:
            self.folder.write(self._session.snapshot())
        except FewShotError as error:
            trouble = str(error)
        except Exception as error:  # noqa: BLE001 - the thread must live: whatever it was may be over next time
            trouble = f"{type(error).__name__}: {error}"
        with self._condition:
            self._dirty, self._writing = self._dirty or bool(trouble), False
            news, self.trouble = trouble != self.trouble, trouble
            self._condition.notify_all()
        if trouble and news:
            self.failed.emit(trouble)
        elif not trouble:
            self.saved.emit()
        return not trouble
