"""Runs of proposals: started, followed while they go on, taken in, ended. Knows neither Qt nor napari."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from psygnal import Signal

from napari_fewshot.errors import FewShotError, ImageError
from napari_fewshot.frames import FrameKey
from napari_fewshot.propagation import FrameFailure
from napari_fewshot.proposals import Proposal
from napari_fewshot.session import Run, Session
from napari_fewshot.ui.doubt import Doubt
from napari_fewshot.ui.forecast import Forecast, duration
from napari_fewshot.ui.jobs import Evidence, Failed, Finished, Seen, Stage, Tiles, propose_job
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.next_step import percent
from napari_fewshot.ui.ports import Layers, Runner
from napari_fewshot.ui.prospects import Prospects
from napari_fewshot.ui.reporting import Reporter
from napari_fewshot.ui.review import Review
from napari_fewshot.ui.state import Progress
from napari_fewshot.ui.upkeep import Upkeep

_LEAST_GONE = 0.02  # of a frame, before the time left is told


class Proposing:
    """The run that goes on, and images that are prepared as long as none does.

    Parameters
    ----------
    session
        What is learnt from; takes in what comes.
    layers, sync
        Where proposals are shown.
    runner
        A thread for proposals.
    forecast
        Told how long things take.
    upkeep
        Prepares images.
    prospects
        Of the next run; out of date after each.
    review, doubt
        Told what comes beside proposals.
    reporter
        Told what goes wrong.
    clock
        Seconds, for the time left.
    """

    changed = Signal(bool)
    """Something came in; whether it should be shown at once."""

    def __init__(
        self, session: Session, layers: Layers, sync: LayerSync, runner: Runner, forecast: Forecast, upkeep: Upkeep,
        prospects: Prospects, review: Review, doubt: Doubt, reporter: Reporter, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.refresh_after_decision = True
        self._session, self._layers, self._sync, self._runner = session, layers, sync, runner
        self._forecast, self._upkeep, self._prospects = forecast, upkeep, prospects
        self._review, self._doubt, self._reporter, self._clock = review, doubt, reporter, clock
        self._run: Run | None = None
        self._done = 0
        self._stage = ""
        self._part = 0.0  # of the frame at work
        self._timed_from: tuple[float, float] | None = None  # the clock, and how many frames were done then
        self._failures: list[FrameFailure] = []
        self._is_painting = False

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        return self._run is not None

    # ------------------------------------------------------------------ beginning and ending
    def propose(self) -> None:
        """Propose for every slice that is not decided, the one on screen first.

        Raises
        ------
        ImageError
            If there is no image.
        SupportError
            If there is nothing to learn from.
        """
        if not self._layers.frames():
            raise ImageError("there is no image to label; open one, and tick it in the list")
        self._start(self._sync.shown_or_none(), again=True)

    def propose_for(self, key: FrameKey) -> None:
        """Propose for one slice."""
        self._start(key, again=False, alone=True)

    def refresh(self, first: FrameKey | None) -> None:
        """Propose again where a decision made open proposals out of date."""
        waiting = self.is_running or self._session.review_queue()
        if self.refresh_after_decision and waiting and self._session.support.class_ids:
            self._start(first, again=False)

    def cancel(self) -> None:
        """Stop proposing."""
        self.end()
        self._upkeep.look()

    def _start(self, first: FrameKey | None, *, again: bool, alone: bool = False) -> None:
        run = self._session.start_run(first, again=again)
        if alone:
            run = replace(run, frames=tuple(frame for frame in run.frames if frame.key == first))
        self.end()
        if not run.frames:
            return
        self._upkeep.pause()
        self._forecast.begin(self._session.settings)
        self._run, self._done, self._failures, self._stage = run, 0, [], "Loading the model ..."
        self._part, self._timed_from = 0.0, None
        self._runner.start(partial(propose_job, run, self._review.seen), partial(self._receive, run), len(run.frames))

    def end(self) -> None:
        """Drop the run that goes on, if one does."""
        self._run = None
        self._runner.stop()
        self._prospects.forget()

    # ------------------------------------------------------------------ taking in
    def _receive(self, run: Run, item: object) -> None:
        """Take in what a run found; what an overtaken or cancelled run found is dropped."""
        if run is not self._run:
            return
        try:
            important = self._take_in(run, item)
        except FewShotError as error:
            self._reporter.fail(error)
            important = True
        if not isinstance(item, Seen | Evidence):  # a proposal follows, and is drawn
            self.changed.emit(important)

    def _take_in(self, run: Run, item: object) -> bool:
        match item:
            case Stage():
                self._stage = item.text
            case Seen():
                self._review.add(item)
            case Evidence():
                self._doubt.arrived(item)
            case Tiles():
                self._is_at(self._done, item.done / item.total, timed=item.key is not None)
                return False
            case Proposal():
                return self._receive_proposal(run, item)
            case FrameFailure():
                self._is_at(self._done + 1, timed=False)
                if item.key in self._session.frames:  # of a layer that was deleted nobody wants to hear
                    self._failures.append(item)
            case Failed():
                self.end()
                self._reporter.fail(item.error)
            case Finished():
                self._finish()
        return True

    def _receive_proposal(self, run: Run, proposal: Proposal) -> bool:
        """Record and show a proposal. Returns whether somebody is looking at it."""
        key = proposal.key
        self._is_at(self._done + 1)
        self._forecast.done(self._session.settings, key, self._clock())
        self._reporter.notices.add(self._reporter.in_words(proposal.note), self._layers.name(key))
        self._reporter.notices.add(self._upkeep.features.notice)
        self._sync.take_corrections(key)
        before = self._session.proposal(key)
        if not self._session.record(run, proposal):
            return False
        self._doubt.keep(key, before)
        self._sync.show_proposals([key])
        return self._done == 1 or key == self._sync.last_shown

    def _is_at(self, done: int, part: float = 0.0, *, timed: bool = True) -> None:
        """Take note of how far the run is; from the first time on that counts, the time left can be told."""
        self._done, self._part = done, part
        if timed and self._timed_from is None:
            self._timed_from = self._clock(), done + part

    def _finish(self) -> None:
        failures = self._failures
        self.end()
        self._upkeep.look()
        self.prepare()
        if failures:
            first = self._reporter.in_words(failures[0].message)
            count = "" if len(failures) == 1 else f"{len(failures)} slices could not be used. The first: "
            self._reporter.tell_error(f"{count}{first}")

    # ------------------------------------------------------------------ telling
    def progress(self) -> Progress | None:
        """Tell how far the run is, None where none goes on."""
        if self._run is None:
            return None
        if self._timed_from is None:  # loading, or learning, from large images perhaps
            if not self._part:
                return Progress(0, 0, self._stage)
            return Progress(0, 1, f"{self._stage} {percent(self._part)}", self._part)
        total, (begun, before) = len(self._run.frames), self._timed_from
        words = [f"{self._done} of {total}"]
        if self._part:
            words = [percent(self._part)] if total == 1 else [*words, f"{percent(self._part)} of the next"]
        gone = self._done + self._part - before
        if gone > _LEAST_GONE:
            seconds = (self._clock() - begun) / gone * (total - self._done - self._part)
            words.append(f"about {duration(seconds)} left")
        return Progress(self._done, total, ", ".join(words), self._part)

    # ------------------------------------------------------------------ preparing
    def begin_to_prepare(self) -> None:
        """Somebody has begun to paint: the time until they press Propose can be used."""
        if not self._is_painting:
            self._is_painting = True
            self.prepare()

    def prepare(self) -> None:
        """Prepare images, the one on screen first, if somebody paints and no run goes on."""
        if self._is_painting and not self.is_running:
            self._upkeep.prepare(self._sync.last_shown)
