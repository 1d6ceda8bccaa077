"""A tour of two minutes: what to do, step by step; each step waits until it is really done. Knows no Qt."""

from collections.abc import Callable
from dataclasses import dataclass

from psygnal import Signal

from napari_fewshot.session import FrameState, Session
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.state import DockState, Overlay


@dataclass(frozen=True)
class Step:
    """Something to do.

    Attributes
    ----------
    title, text
        What, in words.
    button
        What to press; it is framed.
    help
        What the tour can do in the place of the person, in words; "" for nothing.
    """

    title: str
    text: Callable[[], str]
    is_done: Callable[[Session, DockState], bool]
    button: Action | None = None
    help: str = ""


@dataclass(frozen=True)
class TourState:
    """What is shown of the tour; ``step`` counts from 1, 0 where there is none."""

    step: int = 0
    steps: int = 0
    title: str = ""
    text: str = ""
    button: Action | None = None
    help: str = ""
    is_last: bool = False


def _is(*states: FrameState) -> Callable[[Session, DockState], bool]:
    return lambda session, _: any(session.state(key) in states for key in session.frames)


STEPS = (
    Step(
        "Open a sample",
        lambda: "Label a stack of cells, from one painted slice to all twelve. Nothing is downloaded.",
        lambda session, _: bool(session.frames),
        help="Open the sample",
    ),
    Step(
        "Paint one slice",
        lambda: (
            f"Press {with_key(Action.PAINT)} and paint every cell on the slice on screen. "
            "In a hurry? The tour paints them for you."
        ),
        lambda session, state: bool(session.support) or "painted, not taught yet" in state.slice_line,
        Action.PAINT,
        "Paint for me",
    ),
    Step(
        "Teach it",
        lambda: (
            f"Press {with_key(Action.TEACH)}: this slice is an example from now on. What is not painted on it is "
            "taken for background."
        ),
        lambda session, _: bool(session.support),
        Action.TEACH,
    ),
    Step(
        "Get proposals",
        lambda: (
            f"Press {with_key(Action.PROPOSE)}: the model proposes masks for all other slices, on a layer of their "
            "own. The first time it has to be loaded."
        ),
        lambda session, state: bool(session.review_queue()) and (state.progress is None or len(session.frames) < 2),
        Action.PROPOSE,
    ),
    Step(
        "Look where it matters",
        lambda: (
            f"Press {with_key(Action.NEXT)}: it goes to the proposal that a look at improves most. The table shows "
            "how every slice stands."
        ),
        lambda session, state: state.review.shown is not None and session.proposal(state.review.shown) is not None,
        Action.NEXT,
    ),
    Step(
        "See the doubt",
        lambda: f"Press {with_key(Action.UNCERTAINTY)}: red is where the proposal may be wrong.",
        lambda session, state: state.overlay is Overlay.UNCERTAINTY,
        Action.UNCERTAINTY,
    ),
    Step(
        "Correct it",
        lambda: (
            f"Press {with_key(Action.PAINT, 'Correct')} and brush over something that is wrong; with background from "
            "the list of classes you erase. If all is right, skip this step."
        ),
        _is(FrameState.CORRECTED, FrameState.ACCEPTED),
        Action.PAINT,
    ),
    Step(
        "Accept it",
        lambda: (
            f"Press {with_key(Action.ACCEPT)}: it is a further example, and all open proposals are made anew. "
            f"{with_key(Action.UNDO)} takes anything back."
        ),
        _is(FrameState.ACCEPTED),
        Action.ACCEPT,
    ),
    Step(
        "That is all",
        lambda: (
            f"Go on with {with_key(Action.NEXT)} until you are content; {with_key(Action.ACCEPT_ABOVE)} takes what is "
            f"good enough, {with_key(Action.EXPORT)} writes files. 'Quality' tells whether one more example pays. "
            "Everything is saved by itself."
        ),
        lambda session, _: False,
        Action.EXPORT,
    ),
)


class Tour:
    """Goes from step to step.

    Parameters
    ----------
    session
        Of the dock.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._at: int | None = None
        self._dock = DockState()

    @property
    def is_on(self) -> bool:
        """Whether somebody takes the tour."""
        return self._at is not None

    def start(self) -> None:
        """Begin with the first step that is not done yet."""
        self._at = 0
        self._go_on()
        self.changed.emit()

    def skip(self) -> None:
        """Leave out a step, or finish after the last one."""
        if self._at is not None:
            self._at = self._at + 1 if self._at + 1 < len(STEPS) else None
            self._go_on()
            self.changed.emit()

    def end(self) -> None:
        """Have no more of it."""
        self._at = None
        self.changed.emit()

    def follow(self, dock: DockState) -> None:
        """See what was done."""
        self._dock, before = dock, self._at
        self._go_on()
        if self._at != before:
            self.changed.emit()

    def _go_on(self) -> None:
        while self._at is not None and STEPS[self._at].is_done(self._session, self._dock):
            self._at += 1

    def state(self) -> TourState:
        """Return what to show."""
        if self._at is None:
            return TourState()
        step = STEPS[self._at]
        return TourState(
            self._at + 1, len(STEPS), step.title, step.text(), step.button, step.help, self._at + 1 == len(STEPS)
        )
