"""Tidying open proposals: how, with a preview on the slice on screen, and on all of them. Knows no Qt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from psygnal import Signal

from napari_fewshot.errors import SupportError
from napari_fewshot.frames import FrameKey
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.session import OpenProposal, Session
from napari_fewshot.session.open_proposals import cleaned
from napari_fewshot.support import Shot
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.doubt import Doubt, Preview
from napari_fewshot.ui.jobs import Evidence, Failed, Finished
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.palette import Palette
from napari_fewshot.ui.ports import Asker, Runner
from napari_fewshot.ui.reporting import Reporter
from napari_fewshot.ui.state import Overlay


@dataclass(frozen=True)
class CleaningState:
    """Everything that the part of the dock about clean-up shows.

    Attributes
    ----------
    steps
        What is done.
    class_id, class_name
        The class of the brush, 0 for background: its threshold can be chosen.
    is_previewing
        Whether it is shown what would change.
    can_tidy_shown
        Whether the slice on screen has an open proposal.
    waiting
        How many open proposals there are.
    note
        What came of it, or what to do, in words.
    """

    steps: CleanUp = field(default_factory=CleanUp)
    class_id: int = 0
    class_name: str = ""
    is_previewing: bool = False
    can_tidy_shown: bool = False
    waiting: int = 0
    note: str = ""


@dataclass(frozen=True, eq=False)
class Item:
    """An open proposal to be tidied, with what is known of it."""

    key: FrameKey
    waiting: OpenProposal
    shot: Shot | None
    evidence: Evidence | None


@dataclass(frozen=True, eq=False)
class Tidied:
    """What came of it; None where its probabilities would be needed, and are not known any more."""

    item: Item
    after: OpenProposal | None


def tidy_up_job(items: Sequence[Item], steps: CleanUp, asker: Asker) -> Iterator[object]:
    """Tidy one proposal after the other."""
    try:
        for item in items:
            if asker.gave_up():
                return
            evidence = () if item.evidence is None else (item.evidence.label_ids, item.evidence.probabilities)
            yield Tidied(item, cleaned(item.waiting, item.shot, steps, *evidence))
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)
        return
    yield Finished()


class Cleaning:
    """Tidies open proposals, in a thread.

    Parameters
    ----------
    session
        Has the proposals, and the steps.
    sync
        Keeps layers in step.
    palette
        Knows the class of the brush.
    doubt
        Has probabilities, and shows the preview.
    runner
        A thread.
    reporter
        Is told of what goes wrong.
    """

    changed = Signal()

    def __init__(
        self, session: Session, sync: LayerSync, palette: Palette, doubt: Doubt, runner: Runner, reporter: Reporter
    ) -> None:
        self._session, self._sync, self._palette, self._doubt = session, sync, palette, doubt
        self._runner, self._reporter = runner, reporter
        self._note = ""
        self._asked: tuple[FrameKey, OpenProposal, CleanUp] | None = None
        self._is_applying = False

    @property
    def steps(self) -> CleanUp:
        """What is done to proposals, those that come later included."""
        return self._session.propagation.steps

    def change(self, changed: Mapping[str, Any]) -> None:
        """Choose other steps: fields of `CleanUp` that change."""
        self._session.propagation = replace(self._session.propagation, **changed)
        self._note = ""
        self.follow()
        self.changed.emit()

    def set_threshold(self, threshold: float | None) -> None:
        """Choose how probable the class of the brush must be, in (0, 1]; None for as it is proposed."""
        class_id = self._palette.class_id
        if class_id:
            others = {c: t for c, t in self.steps.thresholds.items() if c != class_id}
            self.change({"thresholds": others if threshold is None else {**others, class_id: threshold}})

    # ------------------------------------------------------------------ preview
    def preview(self) -> None:
        """Show what would change on the slice on screen, or no longer."""
        self._doubt.toggle(Overlay.CLEAN_UP)
        self._asked = None
        self.follow()

    def follow(self) -> None:
        """Bring the preview up to date with the slice on screen and the steps; costs nothing where it is."""
        if self._doubt.overlay is not Overlay.CLEAN_UP or self._is_applying:
            return
        key = self._sync.shown_or_none()
        waiting = None if key is None else self._session.proposal(key)
        if key is None or waiting is None:
            return
        wanted = key, waiting, self.steps
        if self._asked is not None and self._asked[:2] == wanted[:2] and self._asked[2] == wanted[2]:
            return
        self._asked = wanted
        job = partial(tidy_up_job, [self._item(key, waiting)], self.steps)
        self._runner.start(job, self._receive_preview, 0)

    def _receive_preview(self, item: object) -> None:
        match item:
            case Tidied():
                before, after = item.item.waiting, item.after
                self._note = f"No preview: {_not_known()}" if after is None else _difference(before, after)
                self._doubt.preview = Preview(item.item.key, before, before if after is None else after)
                self.changed.emit()
            case Failed():
                self._reporter.fail(item.error)
                self.changed.emit()

    # ------------------------------------------------------------------ for good
    def tidy_shown(self) -> None:
        """Tidy the proposal on screen.

        Raises
        ------
        SupportError
            If there is none.
        """
        key = self._sync.shown()
        if self._session.proposal(key) is None:
            raise SupportError(
                f"there is no open proposal on this slice to tidy; press {with_key(Action.NEXT)} to go to one"
            )
        self._tidy([key])

    def tidy_all(self) -> None:
        """Tidy all open proposals, in one step of undo.

        Raises
        ------
        SupportError
            If there is none.
        """
        keys = self._session.review_queue()
        if not keys:
            raise SupportError(f"there is no open proposal to tidy; press {with_key(Action.PROPOSE)} to get some")
        self._tidy(keys)

    def _tidy(self, keys: Sequence[FrameKey]) -> None:
        items = []
        for key in keys:
            self._sync.take_corrections(key)
            waiting = self._session.proposal(key)
            if waiting is not None:
                items.append(self._item(key, waiting))
        self._is_applying, self._asked = True, None
        self._note = f"Tidying {len(items)} ..."
        job = partial(tidy_up_job, items, self.steps)
        self._runner.start(job, partial(self._receive, [], len(items)), 0)
        self.changed.emit()

    def _receive(self, done: list[Tidied], total: int, item: object) -> None:
        match item:
            case Tidied():
                done.append(item)
                self._note = f"Tidying: {len(done)} of {total}"
                if len(done) % 20:
                    return
            case Failed():
                self._is_applying = False
                self._note = ""
                self._reporter.fail(item.error)
            case Finished():
                self._is_applying = False
                self._settle(done)
        self.changed.emit()

    def _settle(self, done: Sequence[Tidied]) -> None:
        for each in done:
            self._sync.take_corrections(each.item.key)  # somebody may have gone on correcting meanwhile
        tidy = {each.item.key: (each.item.waiting, each.after) for each in done if each.after is not None}
        changed = self._session.replace_open(tidy)
        self._sync.show_proposals(changed)
        words = [f"{_slices(len(changed))} tidied." if changed else "Nothing to tidy: it is as clean as that already."]
        unknown = len(done) - len(tidy)
        if unknown:
            words.append(f"{_slices(unknown)} left as they were: {_not_known()}")
        self._note = " ".join(words)

    def _item(self, key: FrameKey, waiting: OpenProposal) -> Item:
        shot = next((shot for shot in self._session.support if shot.key == key), None)
        return Item(key, waiting, shot, self._doubt.evidence(key))

    # ------------------------------------------------------------------ telling
    def state(self) -> CleaningState:
        """Return how things stand now."""
        key, class_id = self._sync.shown_or_none(), self._palette.class_id
        is_open = key is not None and self._session.proposal(key) is not None
        is_previewing = self._doubt.overlay is Overlay.CLEAN_UP
        waiting = len(self._session.review_queue())
        note = self._note
        if is_previewing and not is_open:
            note = f"No proposal on this slice: {with_key(Action.NEXT)} goes to one."
        elif not note and not waiting:
            note = "Proposals will be tidied like this when they come."
        return CleaningState(
            self.steps,
            class_id,
            self._palette.name(class_id) if class_id else "",
            is_previewing,
            is_open,
            waiting,
            note,
        )


def _not_known() -> str:
    return f"the probabilities that a threshold needs are not at hand any more; {with_key(Action.PROPOSE)} finds them."


def _difference(before: OpenProposal, after: OpenProposal) -> str:
    came = int(np.count_nonzero((before.labels == 0) & (after.labels != 0)))
    went = int(np.count_nonzero((before.labels != 0) & (after.labels == 0)))
    other = int(np.count_nonzero(before.labels != after.labels)) - came - went
    if not came + went + other:
        return "Nothing would change on this slice."
    parts = [f"{went:,} pixels go (magenta)"] if went else []
    parts += [f"{came:,} come (green)"] if came else []
    parts += [f"{other:,} change class (yellow)"] if other else []
    return f"{', '.join(parts)}."


def _slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count} slices"
