"""A saved session read in a thread, while the dock stays free, and taken up when all of it is there. No Qt in here."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from napari_fewshot.errors import FewShotError
from napari_fewshot.io.image_places import Finder, KnownImage
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.ui.jobs import Failed, Stage
from napari_fewshot.ui.line_job import LineJob
from napari_fewshot.ui.ports import Asker, Runner
from napari_fewshot.ui.reporting import Reporter

_NAP: Final = 0.1  # seconds, after which somebody who wants it to stop is heard
_PAUSE: Final = 0.1  # seconds from telling how far it is until it is told again


class Opening(LineJob):
    """Reads one session at a time, and hands it over; until then, that at work and all on screen stay as they are.

    Parameters
    ----------
    runner
        A thread that reads.
    ask
        Asks a person for an image that was not found; called on the thread of the window.
    take_up
        Called on the thread of the window with a session that was read, and its folder.
    reporter
        Told what went wrong.
    """

    def __init__(
        self, runner: Runner, ask: Finder, take_up: Callable[[SessionContents, SessionFolder], None], reporter: Reporter
    ) -> None:
        super().__init__(runner, reporter)
        self._ask, self._take_up = ask, take_up

    def start(self, path: Path) -> None:
        """Open the session in a folder; one that is being opened is given up."""
        self._begin("Opening the session ...", partial(reading_job, path), 0)

    def _take(self, item: object) -> None:
        match item:
            case Question():
                item.answer_with(self._ask(item.name, item.known))
            case Read():
                self._show(item)

    def _show(self, read: "Read") -> None:
        self.line = ""
        try:
            self._take_up(read.contents, read.folder)
        except FewShotError as error:
            self._reporter.fail(error)


@dataclass(frozen=True, eq=False)
class Read:
    """A session that was read, and where it lies."""

    contents: SessionContents
    folder: SessionFolder


@dataclass(eq=False)
class Question:
    """Where an image is that was not found; the thread waits for the answer."""

    name: str
    known: KnownImage
    answered: Event = field(default_factory=Event)
    answer: object = None

    def answer_with(self, path: object) -> None:
        """Give the path, or None where nobody knows."""
        self.answer = path
        self.answered.set()


class _Stopped(Exception):
    """Somebody gave the opening up."""


def reading_job(path: Path, asker: Asker) -> Iterator[object]:
    """Read a session, tell how far that is, ask for images that were moved, and yield all of it or what is wrong."""
    last, before = 0.0, ""

    def watch(what: str, done: int, total: int) -> None:
        nonlocal last, before
        if asker.gave_up():
            raise _Stopped
        if what != before or time.monotonic() > last + _PAUSE:
            last, before = time.monotonic(), what
            doing = "Looking for image" if what == "image" else "Reading labels"
            asker.tell(Stage(f"{doing} {done + 1} of {total} ..."))

    def find(name: str, known: KnownImage) -> str | None:
        question = Question(name, known)
        asker.tell(question)
        while not question.answered.wait(_NAP):
            if asker.gave_up():
                raise _Stopped
        return None if question.answer is None else str(question.answer)

    folder = SessionFolder(path)
    try:
        contents = folder.read(find=find, with_pixels=False, watch=watch)
    except _Stopped:
        return
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)
        return
    yield Read(contents, folder)
