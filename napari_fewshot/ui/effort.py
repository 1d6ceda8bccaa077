"""How long somebody is at work, and how often they paint and click."""

import time
from collections.abc import Callable
from typing import Final

from napari_fewshot.session import Session
from napari_fewshot.session.state import Effort

_LONGEST_PAUSE: Final = 60.0
"""Seconds without any sign of a person after which they are not at work."""


class EffortMeter:
    """Adds up the effort of a session.

    Parameters
    ----------
    session
        Keeps it.
    clock
        Seconds.
    """

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._last: float | None = None

    def stroke(self) -> None:
        """Take note of a stroke of the brush."""
        self._note(strokes=1)

    def click(self) -> None:
        """Take note of a button, or its key."""
        self._note(clicks=1)

    def sign(self) -> None:
        """Take note of any other sign of somebody at work."""
        self._note()

    def _note(self, strokes: int = 0, clicks: int = 0) -> None:
        now = self._clock()
        gone = 0.0 if self._last is None else now - self._last
        self._last = now
        self._session.spend(Effort(gone if gone <= _LONGEST_PAUSE else 0.0, strokes, clicks))
