"""One sentence that always says what to do next."""

from dataclasses import dataclass

from napari_fewshot.session import FrameState
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import with_key


@dataclass(frozen=True)
class Situation:
    """What the sentence depends on.

    Attributes
    ----------
    images, chosen
        How many image layers there are, and how many of them are ticked.
    shown
        Name of the slice on screen, or "".
    trouble
        Why the slice on screen cannot be worked on, or "".
    state
        Where the slice on screen stands.
    score
        Of the open proposal on screen, in [0, 1].
    painted, taught
        Whether something is painted on the slice on screen, and whether it was taught.
    shots, has_class, has_background
        How many slices were taught; whether any class, any background is painted on them.
    classes, unpainted
        Names of all classes, and of those that are painted on no taught slice.
    proposals
        How many proposals wait for a decision.
    undecided
        Whether frames are left that nothing is decided for.
    running
        Whether proposals are being made right now.
    """

    images: int = 0
    chosen: int = 0
    shown: str = ""
    trouble: str = ""
    state: FrameState = FrameState.UNTOUCHED
    score: float | None = None
    painted: bool = False
    taught: bool = False
    shots: int = 0
    has_class: bool = False
    has_background: bool = True
    classes: tuple[str, ...] = ()
    unpainted: tuple[str, ...] = ()
    proposals: int = 0
    undecided: bool = True
    running: bool = False


def next_step(now: Situation) -> str:
    """Say what to do next, in the words on the buttons.

    >>> next_step(Situation())
    'Open an image or a stack: drag it into the window, or use File > Open Sample.'
    """
    if not now.images:
        return "Open an image or a stack: drag it into the window, or use File > Open Sample."
    if not now.chosen:
        return "Tick the images that you want to label: press 'Images' below."
    if now.trouble:
        return now.trouble
    if not now.classes:
        return "Add a class: press + below the list of classes and give it a name."
    if not now.shots or not now.has_class:
        return _first_shot(now)
    if not now.has_background:
        return (
            "Everything taught so far is a class. Select 'background' in the list of classes, brush some of it "
            f"on a taught slice, and press {with_key(Action.TEACH)}."
        )
    if now.state in (FrameState.PROPOSED, FrameState.CORRECTED):
        return _review(now)
    if now.running:
        return "Proposals are on their way, the shown slice first. You can go on looking, painting and deciding."
    if now.proposals:
        waiting = "1 proposal waits" if now.proposals == 1 else f"{now.proposals} proposals wait"
        return f"{waiting} for you. Press {with_key(Action.NEXT)}: the one that most needs a look comes first."
    if now.undecided:
        return _ask_for_proposals(now)
    return f"Every slice is decided. Press {with_key(Action.EXPORT)} to write the labels to files."


def _first_shot(now: Situation) -> str:
    if not now.shown:
        return "Show one of the ticked images."
    what = _either(now.classes)
    if now.painted:
        return f"Paint the rest of {what} on '{now.shown}', then press {with_key(Action.TEACH)}."
    if now.shots:
        return f"Only empty slices are taught so far. Paint {what} on another, then press {with_key(Action.TEACH)}."
    return f"Paint {what} on '{now.shown}', then press {with_key(Action.TEACH)}."


def _review(now: Situation) -> str:
    score = "" if now.score is None else f" (score {percent(now.score)})"
    begin = f"Check the proposal on '{now.shown}'{score}."
    if now.state is FrameState.PROPOSED:
        begin += f" Where it is wrong, press {with_key(Action.PAINT, 'Correct')} and paint."
    return f"{begin} Then press {with_key(Action.ACCEPT)} or {with_key(Action.REJECT)}."


def _ask_for_proposals(now: Situation) -> str:
    ask = f"Press {with_key(Action.PROPOSE)} to get masks on all other slices."
    if now.unpainted:
        return f"{_either(now.unpainted)} is painted nowhere yet: paint and teach it, or leave it out. {ask}"
    return ask


def percent(score: float) -> str:
    r"""Say a score as the dock does.

    >>> percent(0.874)
    '87\xa0%'
    """
    return f"{100 * score:.0f}\u00a0%"


def _either(names: tuple[str, ...]) -> str:
    """'a', 'a' or 'b'.

    >>> _either(("cell", "nucleus"))
    "'cell' or 'nucleus'"
    """
    *most, last = (f"'{name}'" for name in names)
    return f"{', '.join(most)} or {last}" if most else last
