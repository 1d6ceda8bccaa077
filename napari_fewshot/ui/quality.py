"""How good it is, and what would make it better: tried out in the background, and put into words. Knows no Qt."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from psygnal import Signal

from napari_fewshot.evaluation.agreement import agreement
from napari_fewshot.evaluation.learning_curve import LearningCurve
from napari_fewshot.evaluation.metrics import Counts
from napari_fewshot.evaluation.shot_quality import ShotQuality, SupportQuality, judge
from napari_fewshot.evaluation.trials import Outcome, plan
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import LabelClass, SupportSet
from napari_fewshot.ui.forecast import duration
from napari_fewshot.ui.jobs import Failed, Finished, Seen, Stage
from napari_fewshot.ui.ports import Runner
from napari_fewshot.ui.quality_job import Tried, quality_job
from napari_fewshot.ui.reporting import Reporter
from napari_fewshot.ui.review import Review

_LOOKED_AT: Final = 1000
"""Most frames that are looked at for unlike ones, evenly spread."""
_NAMED: Final = 5
_NOT_WORTH: Final = 0.005
"""Of IoU: less is hardly anything."""


@dataclass(frozen=True)
class ShotLine:
    """A taught image in the list.

    Attributes
    ----------
    key, name
        The frame, and what it is called now.
    iou
        How well it is proposed from the others, in [0, 1]; None where it is not known.
    hurts
        Whether the others do better without it.
    aside
        Whether it is set aside.
    note
        What to know of it, in words.
    """

    key: FrameKey
    name: str
    iou: float | None = None
    hurts: bool = False
    aside: bool = False
    note: str = ""


@dataclass(frozen=True)
class QualityState:
    """Everything that the part of the dock about quality shows.

    Attributes
    ----------
    headline, forecast
        How good it is, and what one more image would bring, in words; or what to do to find out.
    is_old
        Whether something was taught since.
    progress
        What is being done, in words; "" where nothing is.
    part
        Share of it that is done, in [0, 1].
    can_check
        Whether there is something to find out.
    classes
        Each class with its IoU on each shot.
    curve
        Quality against the number of images.
    shots
        Taught images.
    unlike
        Frames that look like nothing that was taught, with their names; no more than a few.
    unlike_note, agreement, effort
        In words; "" where there is nothing to say.
    """

    headline: str = ""
    forecast: str = ""
    is_old: bool = False
    progress: str = ""
    part: float = 0.0
    can_check: bool = False
    classes: tuple[tuple[LabelClass, tuple[float, ...]], ...] = ()
    curve: LearningCurve | None = None
    shots: tuple[ShotLine, ...] = ()
    unlike: tuple[tuple[FrameKey, str], ...] = ()
    unlike_note: str = ""
    agreement: str = ""
    effort: str = ""


@dataclass
class _Check:
    """What was tried out so far."""

    support: SupportSet
    tests: int
    outcomes: list[Outcome] = field(default_factory=list)
    stage: str = "Beginning ..."
    begun: float = 0.0
    is_running: bool = True

    @property
    def part(self) -> float:
        return len(self.outcomes) / self.tests if self.tests else 0.0


class Quality:
    """Finds out how good it is.

    Parameters
    ----------
    session
        What was taught and decided.
    name
        What a frame is called now.
    review
        Knows what frames look like.
    runner
        A thread.
    reporter
        Is told of what goes wrong.
    clock
        Seconds, for the time left.
    """

    changed = Signal()

    def __init__(
        self,
        session: Session,
        name: Callable[[FrameKey], str],
        review: Review,
        runner: Runner,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._name, self._review = session, name, review
        self._runner, self._reporter, self._clock = runner, reporter, clock
        self._check: _Check | None = None
        self._judged: tuple[int, SupportQuality] | None = None
        self._agreements: dict[FrameKey, Counts | None] = {}
        session.frame_changed.connect(self._on_frame)

    # ------------------------------------------------------------------ finding out
    def check(self) -> None:
        """Begin to find out; what was found out before is forgotten."""
        support = self._session.learnt_from
        trials = plan(support) if len(support) > 1 and support.class_ids else []
        self._check = _Check(support, sum(len(trial.tested) for trial in trials), begun=self._clock())
        self._judged = None
        job = partial(quality_job, self._session.segmenter, support, trials, self._to_look_at(support))
        self._runner.start(job, partial(self._receive, self._check), 0)
        self.changed.emit()

    def cancel(self) -> None:
        """Stop; what is known by then stays."""
        self._runner.stop()
        if self._check is not None:
            self._check.is_running = False
        self.changed.emit()

    def _to_look_at(self, support: SupportSet) -> list[Frame]:
        known, frames = self._review.seen, self._session.frames
        wanted = list(frames.values())
        step = max(1, -(-len(wanted) // _LOOKED_AT))
        return [frame for frame in (*(shot.frame for shot in support), *wanted[::step]) if frame.key not in known]

    def _receive(self, check: _Check, item: object) -> None:
        if check is not self._check or not check.is_running:
            return
        match item:
            case Stage():
                check.stage = item.text
            case Seen():
                self._review.add(item)
                return
            case Tried():
                if not check.outcomes:
                    check.begun, check.stage = self._clock(), ""
                check.outcomes += item.outcomes
            case Failed():
                check.is_running = False
                self._reporter.fail(item.error)
            case Finished():
                check.is_running = False
        self.changed.emit()

    # ------------------------------------------------------------------ shots
    def set_aside(self, key: FrameKey, aside: bool) -> None:
        """Do not learn from a shot, or learn from it again."""
        if aside:
            self._session.set_aside(key)
        else:
            self._session.take_back(key)

    # ------------------------------------------------------------------ telling
    def state(self) -> QualityState:
        """Return how things stand now."""
        check, support = self._check, self._session.learnt_from
        unlike = self._review.unlike_every_shot() if check is not None else []
        found = self._found()
        is_old = check is not None and [id(s) for s in check.support] != [id(s) for s in support]
        return QualityState(
            headline=_headline(support, found),
            forecast="" if found is None or found.iou is None else _forecast(support, found.curve),
            is_old=is_old and found is not None and found.iou is not None,
            progress=self._progress(),
            part=0.0 if check is None else check.part,
            can_check=bool(support.class_ids),
            classes=() if found is None else self._classes(found),
            curve=None if found is None else found.curve,
            shots=self._shots(found),
            unlike=tuple((key, self._name(key)) for key in unlike[:_NAMED]),
            unlike_note=_unlike_note(unlike),
            agreement=self._agreement(),
            effort=self._effort(),
        )

    def _found(self) -> SupportQuality | None:
        check = self._check
        if check is None:
            return None
        if self._judged is None or self._judged[0] != len(check.outcomes):
            self._judged = len(check.outcomes), judge(check.support, check.outcomes)
        return self._judged[1]

    def _progress(self) -> str:
        check = self._check
        if check is None or not check.is_running:
            return ""
        if not check.outcomes:
            return check.stage
        seconds = (self._clock() - check.begun) * (1 - check.part) / check.part
        return f"{len(check.outcomes)} of {check.tests} trials, about {duration(seconds)} left"

    def _classes(self, found: SupportQuality) -> tuple[tuple[LabelClass, tuple[float, ...]], ...]:
        by_class: dict[int, list[float]] = {}
        for shot in found.shots:
            for class_id, iou in (shot.class_iou or {}).items():
                by_class.setdefault(class_id, []).append(iou)
        return tuple((c, tuple(by_class[c.id])) for c in self._session.classes if c.id in by_class)

    def _shots(self, found: SupportQuality | None) -> tuple[ShotLine, ...]:
        known = {} if found is None else {shot.key: shot for shot in found.shots}
        aside = self._session.aside
        keys = self._session.support.keys
        return tuple(_shot_line(key, self._name(key), known.get(key), key in aside) for key in keys)

    def _agreement(self) -> str:
        session, looked_at = self._session, []
        for key in session.frames:
            state = session.state(key)
            if state is FrameState.CORRECTED or (state is FrameState.ACCEPTED and key in session.support.keys):
                counts = self._agreement_on(key)
                looked_at += [] if counts is None or counts.iou is None else [counts.iou]
        if not looked_at:
            return ""
        same = sum(iou > 1 - _NOT_WORTH for iou in looked_at)
        mean = sum(looked_at) / len(looked_at)
        slices = "1 slice" if len(looked_at) == 1 else f"{len(looked_at)} slices"
        return (
            f"On {slices} that you looked at one by one, proposals agree with what you made of them to {mean:.2f} "
            f"(IoU); {same or 'none'} needed no correction."
        )

    def _agreement_on(self, key: FrameKey) -> Counts | None:
        if key not in self._agreements:
            labels, origins = self._session.labels(key, with_proposals=True), self._session.origins(key)
            self._agreements[key] = None if labels is None or origins is None else agreement(labels, origins)
        return self._agreements[key]

    def _on_frame(self, key: FrameKey) -> None:
        self._agreements.pop(key, None)

    def _effort(self) -> str:
        effort, states = self._session.effort, [self._session.state(key) for key in self._session.frames]
        if not (effort.strokes or effort.clicks):
            return ""
        done = sum(state in (FrameState.ACCEPTED, FrameState.TAUGHT) for state in states)
        words = (
            f"So far {duration(effort.seconds)} of work, {_many(effort.strokes, 'stroke')} and "
            f"{_many(effort.clicks, 'click')}"
        )
        if not done or not effort.seconds:
            return words + "."
        each, left = effort.seconds / done, len(states) - done
        words += f" for {_many(done, 'finished slice')}, {duration(each)} each."
        return words + (f" {left} left: about {duration(each * left)} at this pace." if left else "")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _headline(support: SupportSet, found: SupportQuality | None) -> str:
    if not support.class_ids:
        return "Teach an image first: then it can be found out how good proposals are."
    if len(support) < 2:
        return "Teach a second image to see how good proposals are: each is then proposed from the others and compared."
    if found is None or found.iou is None:
        return "Each image that you taught is proposed from the others and compared with what you painted."
    return f"Expect about {found.iou:.2f} IoU on the next image (0 nothing right, 1 all right)."


def _forecast(support: SupportSet, curve: LearningCurve | None) -> str:
    if len(support) < 3:
        return "Teach a third image to see what one more would bring."
    if curve is None:
        return ""
    if curve.gain_high < _NOT_WORTH:
        return "One more image like these would bring hardly anything. Correct where proposals are unsure instead."
    range_ = f"likely between +{curve.gain_low:.2f} and +{curve.gain_high:.2f}"
    if curve.gain_high - curve.gain_low > 4 * max(curve.gain, _NOT_WORTH):
        return f"What one more image would bring cannot be told well yet: {range_}."
    return f"One more image would bring about +{curve.gain:.2f} ({range_})."


def _shot_line(key: FrameKey, name: str, shot: ShotQuality | None, aside: bool) -> ShotLine:
    if aside:
        return ShotLine(key, name, aside=True, note="set aside: nothing is learnt from it")
    if shot is None:
        return ShotLine(key, name)
    note = ""
    if shot.hurts and shot.harm is not None:
        note = f"may hurt: the others do better by {shot.harm:.2f} without it. Look at its mask, or set it aside."
    return ShotLine(key, name, shot.iou, shot.hurts, note=note)


def _unlike_note(unlike: list[FrameKey]) -> str:
    if not unlike:
        return ""
    count = "1 slice looks" if len(unlike) == 1 else f"{len(unlike)} slices look"
    return f"{count} like nothing that you taught. Teaching one of them helps most:"
