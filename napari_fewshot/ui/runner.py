"""Runs one job at a time in a napari thread worker, and hands what it yields to the GUI thread."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from typing import Any, ClassVar

from napari.qt.threading import create_worker
from napari.utils import progress
from superqt.utils import WorkerBase

from napari_fewshot.propagation import FrameFailure
from napari_fewshot.proposals import Proposal
from napari_fewshot.ui.jobs import Written
from napari_fewshot.ui.ports import Job

_ENDED = object()
_COUNTED = (Proposal, FrameFailure, Written)
_BAR_SECONDS = 0.25  # napari draws its bar, and processes events, at every update


class ThreadRunner:
    """Runs a `Job` off the GUI thread.

    A new job waits until the one before has stopped, which it does at its next step: two runs would only slow
    each other down.

    Parameters
    ----------
    description
        What napari's own progress bar says; "" for work that nobody waits for, which has no bar.
    """

    _at_work: ClassVar[set["ThreadRunner"]] = set()  # worker signals hold their receivers weakly

    def __init__(self, description: str) -> None:
        self._description = description
        self._worker: Any = None
        self._handed_over: list[Job] = []  # empty once the worker has begun: Qt may hold on to it after its end
        self._stop = Event()
        self._receive: Callable[[object], None] | None = None
        self._waiting: tuple[Job, Callable[[object], None], int] | None = None
        self._bar: Any = None
        self._uncounted = 0  # results that the bar does not show yet
        self._bar_drawn_at = 0.0
        self._arrived: deque[object] = deque()
        self._is_handing_over = False

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work, be it on something that was stopped."""
        return self._worker is not None

    def start(self, job: Job, receive: Callable[[object], None], total: int) -> None:
        """Run a job; one that runs already is stopped first, and nothing more is heard of it.

        Parameters
        ----------
        job
            Called in the thread.
        receive
            Called on the GUI thread with everything that the job yields.
        total
            How many results are expected.
        """
        self.stop()
        if self.is_busy:
            self._waiting = (job, receive, total)
        else:
            self._launch(job, receive, total)

    def stop(self) -> None:
        """Stop what runs: nothing more is heard of it, and its thread ends at the next step."""
        self._stop.set()
        self._receive = None
        self._waiting = None
        self._close_bar()
        if self._worker is not None:
            self._worker.quit()

    def let_finish(self) -> None:
        """Let what runs come to its end; nobody listens any more."""
        self._receive = None

    @staticmethod
    def wait_for_all(seconds: float) -> None:
        """Wait until no thread is at work any more, but no longer than that."""
        with suppress(RuntimeError):  # some take longer
            WorkerBase.await_workers(round(1000 * seconds))

    def _launch(self, job: Job, receive: Callable[[object], None], total: int) -> None:
        self._stop, self._receive = Event(), receive
        self._bar = progress(total=total, desc=self._description) if self._description else None
        self._at_work.add(self)
        self._handed_over = [job]
        asker = _Asker(self._stop)
        self._worker = create_worker(_generate, self._handed_over, asker)
        asker.tell = self._worker.yielded.emit  # in order with what the job yields, and on the GUI thread
        self._worker.yielded.connect(self._on_yielded)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def _on_yielded(self, item: object) -> None:
        self._arrived.append(item)
        self._hand_over()

    def _on_finished(self) -> None:
        self._arrived.append(_ENDED)
        self._hand_over()

    def _hand_over(self) -> None:
        """Deliver what arrived, one after the other: napari processes events while it draws a layer or a bar."""
        if self._is_handing_over:
            return
        self._is_handing_over = True
        try:
            while self._arrived:
                self._deliver(self._arrived.popleft())
        finally:
            self._is_handing_over = False
            if self._arrived:  # an error came in between; the rest must not wait for it
                self._hand_over()

    def _deliver(self, item: object) -> None:
        if item is _ENDED:
            self._worker = None
            self._handed_over.clear()
            self._at_work.discard(self)
            self._close_bar()
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._launch(*waiting)
        elif not self._stop.is_set():
            if self._receive is not None:
                self._receive(item)
            if isinstance(item, _COUNTED):
                self._count_one()

    def _count_one(self) -> None:
        self._uncounted += 1
        now = time.monotonic()
        if self._bar is not None and now - self._bar_drawn_at > _BAR_SECONDS:
            self._bar_drawn_at, count, self._uncounted = now, self._uncounted, 0
            self._bar.update(count)

    def _close_bar(self) -> None:
        self._uncounted = 0
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Asker:
    """The runner, as its job knows it."""

    tell: Callable[[object], None]

    def __init__(self, stop: Event) -> None:
        self.gave_up = stop.is_set


def _generate(handed_over: list[Job], asker: _Asker) -> Iterator[object]:
    """A generator function around the job, which napari tells from a plain function by its kind."""
    for item in handed_over.pop()(asker):
        if asker.gave_up():
            return
        yield item
