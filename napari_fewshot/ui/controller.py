"""What happens when a person presses something: between the session and the window, knowing neither Qt nor napari."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, Concatenate, Literal, ParamSpec

import numpy as np
import numpy.typing as npt

from napari_fewshot.boxes import Box, box_labels, guessed_pixels
from napari_fewshot.errors import ExportError, FewShotError, ImageError, MaskError, SupportError
from napari_fewshot.frames import Frame, FrameKey, Labels, frame_name
from napari_fewshot.io.label_stack import LabelStack, PlaneNote
from napari_fewshot.io.names import default_names
from napari_fewshot.io.units import axes_letters
from napari_fewshot.models.registry import list_segmenters
from napari_fewshot.propagation import FrameFailure, PropagationSettings
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session import FrameState, Run, Session
from napari_fewshot.support import BACKGROUND, UNLABELLED, LabelClass, Shot, SupportSet, Tag
from napari_fewshot.ui.actions import Action, with_key
from napari_fewshot.ui.doubt import Doubt
from napari_fewshot.ui.forecast import Forecast, duration, in_words
from napari_fewshot.ui.jobs import Evidence, Failed, Finished, Seen, Stage, Tiles, Written, export_job, propose_job
from napari_fewshot.ui.model_choice import ModelChoice
from napari_fewshot.ui.next_step import Situation, next_step, percent
from napari_fewshot.ui.notices import Notices
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, ExportChoice, Layers, Runner, View
from napari_fewshot.ui.review import Review
from napari_fewshot.ui.review import uid_of as _uid
from napari_fewshot.ui.state import DockState, Order, Overlay, Progress
from napari_fewshot.ui.upkeep import Upkeep

Unpainted = Literal["automatic", "background", "unknown"]
"""What unpainted pixels of a taught slice mean."""

LARGEST_ID = PAINTED_BACKGROUND - 1
LabelMap = npt.NDArray[np.integer[Any]]
"""(H, W) of the data type of its layer."""

_COPIED_BYTES = 64 << 20
_LEAST_GONE = 0.02  # of a frame, before the time left is told
_REDRAW_SECONDS = 0.1  # at most this often while results stream in

_P = ParamSpec("_P")


def _reported(
    method: "Callable[Concatenate[Controller, _P], None]",
) -> "Callable[Concatenate[Controller, _P], None]":
    """Show what goes wrong instead of letting it pass: a person's mistake as a message, a defect in full."""

    @wraps(method)
    def command(self: "Controller", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        self._error = ""
        try:
            method(self, *args, **kwargs)
        except FewShotError as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            self._refresh()
            raise
        self._refresh()

    return command


def _watched(
    method: "Callable[Concatenate[Controller, _P], None]",
) -> "Callable[Concatenate[Controller, _P], None]":
    """Show what a person can mend also where nothing was pressed: sliders moved, results came in."""

    @wraps(method)
    def reaction(self: "Controller", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except FewShotError as error:
            self._fail(error)
            self._refresh()

    return reaction


class Controller:
    """Answers what a person does in the dock.

    Parameters
    ----------
    session
        What was taught, proposed and decided.
    view
        Shows the state of things.
    layers
        The viewer's layers.
    runner
        A thread for proposals.
    exporter
        A thread for writing files.
    forecast
        Tells what a run will cost.
    upkeep
        Looks after kept features, and prepares images.
    models
        Looks up models of timm by name.
    looker
        A thread for small pictures of images.
    clock
        Seconds, for the time left.
    """

    def __init__(
        self,
        session: Session,
        view: View,
        layers: Layers,
        runner: Runner,
        exporter: Runner,
        forecast: Forecast,
        upkeep: Upkeep,
        models: ModelChoice,
        looker: Runner,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self.unpainted: Unpainted = "automatic"
        self.accept_score = 0.9
        self.refresh_after_decision = True
        self._view, self._layers, self._runner, self._exporter, self._clock = view, layers, runner, exporter, clock
        self._brush = session.classes[0].id if session.classes else PAINTED_BACKGROUND
        self._error = ""
        self._run: Run | None = None
        self._done = 0
        self._stage = ""
        self._part = 0.0  # of the frame at work
        self._timed_from: tuple[float, float] | None = None  # the clock, and how many frames were done then
        self._drawn_at = 0.0
        self._failures: list[FrameFailure] = []
        self._exporting = ""
        self._last_shown: FrameKey | None = None
        self._forecast, self._upkeep, self._models = forecast, upkeep, models
        self._notices = Notices()
        self.review = Review(session, layers.images, layers.name, looker)
        self.doubt = Doubt(session, layers)
        self._prospect: _Prospect | None = None
        self._is_painting = False
        session.frame_changed.connect(self._on_change)
        session.support_changed.connect(self._on_change)
        upkeep.changed.connect(self._on_upkeep)
        models.changed.connect(self._refresh)
        self.review.changed.connect(self._on_pictures)
        models.chosen.connect(self._use_model)
        layers.set_classes(session.classes)
        self.layers_changed()

    # ------------------------------------------------------------------ what happens in the viewer
    @_watched
    def layers_changed(self) -> None:
        """Catch up with layers that came, went, or were renamed."""
        self._sync_frames()
        self._prepare()
        self._refresh()

    @_watched
    def slice_changed(self) -> None:
        """Catch up with sliders, with the selected layer, and with what was painted before they moved."""
        left, self._last_shown = self._last_shown, self._shown_or_none()
        if left is not None and left != self._last_shown:
            self._take_corrections(left)
        if left != self._last_shown:
            self._prepare()
        self._refresh()

    @_watched
    def edited(self) -> None:
        """Catch up with a stroke: on a proposal it is a correction."""
        key = self._shown_or_none()
        if key is not None:
            self._take_corrections(key)
            self._begin_to_prepare()
        self._refresh()

    def brushed(self) -> None:
        """Catch up with a stroke that goes on, or that was undone."""
        self._refresh()

    # ------------------------------------------------------------------ choices
    @_reported
    def choose_image(self, uid: str, chosen: bool) -> None:
        """Label an image, or leave it alone."""
        self._take_all_corrections()
        self._layers.choose(uid, chosen)
        self._sync_frames()
        self._prepare()

    @_reported
    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image holds channels. What was taught on it before no longer fits and is forgotten."""
        self._take_all_corrections()
        self._layers.set_channel_axis(uid, axis)
        for key in [key for key in self.session.support.keys if _uid(key) == uid]:
            self.session.forget(key)
        for tag in [tag for tag in self.session.support.tags if _uid(tag.key) == uid]:
            self.session.untag(tag.key)
        self._sync_frames()

    @_reported
    def use_settings(self, settings: SegmenterSettings) -> None:
        """Work with another method, backbone or device from the next run on."""
        self._upkeep.pause()
        self.session.use(settings)
        self._on_change()
        self._prepare()

    @_reported
    def want_model(self, wanted: bool) -> None:
        """Say whether the backbone is to be a model of timm, by name."""
        if wanted:
            self._models.open()
        else:
            self._models.close()

    @_reported
    def name_model(self, name: str) -> None:
        """Name a model of timm; it is used as soon as it is known that there is one, and its terms are shown."""
        self._models.name(name)

    def _use_model(self, backbone: str) -> None:
        self.use_settings(replace(self.session.settings, backbone=backbone))

    @_reported
    def use_propagation(self, settings: PropagationSettings) -> None:
        """Make proposals in another way from the next run on."""
        self.session.propagation = settings

    @_reported
    def set_unpainted(self, meaning: Unpainted) -> None:
        """Say what unpainted pixels of a slice mean when it is taught."""
        self.unpainted = meaning

    @_reported
    def set_refresh_after_decision(self, refresh: bool) -> None:
        """Say whether open proposals are made anew after each decision."""
        self.refresh_after_decision = refresh

    @_reported
    def set_accept_score(self, score: float) -> None:
        """Accept all at or above this score, in [0, 1], when asked."""
        self.accept_score = score

    @_reported
    def set_limits(self, memory_gib: float, disk_gib: float) -> None:
        """Keep no more than this of what was computed, in memory and on the disk."""
        self._on_change()
        self._upkeep.set_limits(memory_gib, disk_gib)
        self._prepare()

    @_reported
    def clear_features(self) -> None:
        """Give up what was computed, if a person is sure."""
        if self._view.confirm(
            "Remove everything that is kept of images in memory and on the disk? Nothing that you painted, taught or "
            "accepted is lost, but the next proposals take longer."
        ):
            self._on_change()
            self._upkeep.clear()

    @_reported
    def set_prepare(self, prepare: bool) -> None:
        """Say whether images are prepared while somebody paints."""
        self._upkeep.set_prepare(prepare)
        self._prepare()

    # ------------------------------------------------------------------ classes
    @_reported
    def add_class(self) -> None:
        """Add a class with the next free id and take it as the brush."""
        taken = {c.id for c in self.session.classes}
        free = next((i for i in range(1, LARGEST_ID + 1) if i not in taken), None)
        if free is None:
            raise MaskError(f"there are {LARGEST_ID} classes already; remove one first")
        self._set_classes([*self.session.classes, LabelClass(free)])
        self._brush = free

    @_reported
    def change_class(self, changed: LabelClass) -> None:
        """Give a class another name or colour."""
        self._set_classes([changed if c.id == changed.id else c for c in self.session.classes])

    @_reported
    def remove_class(self, class_id: int) -> None:
        """Remove a class that is painted nowhere."""
        kept = [c for c in self.session.classes if c.id != class_id]
        where = self._layers.paints_anywhere(class_id)
        if where and class_id not in self.session.support.class_ids:
            name = self._class_name(class_id)
            raise MaskError(f"'{name}' is painted on '{where}'; erase it there before you remove the class")
        self._set_classes(kept)
        if self._brush == class_id:
            self._brush = kept[0].id if kept else PAINTED_BACKGROUND

    @_reported
    def select_brush(self, value: int) -> None:
        """Take a class, or the painted background, as the brush."""
        self._brush = value
        key = self._shown_or_none()
        if key is not None and value != PAINTED_BACKGROUND and self._layers.is_drawing_boxes(key):
            self._layers.draw_boxes(key, value)
        else:
            self._take_brush()
        self._begin_to_prepare()

    # ------------------------------------------------------------------ teaching
    @_reported
    def paint(self) -> None:
        """Take the brush: on the proposal where one is open, on the labels otherwise."""
        self._take_brush()
        self._begin_to_prepare()

    @_reported
    def draw_boxes(self) -> None:
        """Let boxes of the selected class be drawn."""
        key = self._shown()
        if self._brush == PAINTED_BACKGROUND:
            raise MaskError("background needs no boxes; select a class in the list of classes first")
        self._layers.draw_boxes(key, self._brush)
        self._begin_to_prepare()

    @_reported
    def teach(self) -> None:
        """Learn from what is painted, or in boxes, on the slice on screen."""
        key = self._shown()
        self._ensure_labels(_uid(key))
        painted = self._painted(key)
        boxes = self._boxes(key)
        if boxes:
            self._layers.keep_boxes(key, self._box_class)
        if not painted.any() and not boxes:
            self._take_brush()
            raise SupportError(
                f"nothing is painted on '{self._layers.name(key)}'; paint an example of what you look for, "
                f"or press {with_key(Action.NOTHING_HERE)} if there is none on it"
            )
        labels, guessed = shot_labels(painted, self.unpainted, boxes), None
        if boxes:
            all_boxed = not _is_unknown(painted, self.unpainted)
            guessed = guessed_pixels(labels, all_boxed=all_boxed) & (painted == 0)  # type: ignore[arg-type]
        self._teach(key, labels, guessed)
        missing = self.session.support.unpainted
        if missing and self.session.support.class_ids:
            names = ", ".join(f"'{c.name}'" for c in missing)
            self._view.notify(f"Taught. {names} is painted nowhere yet: nothing will be proposed for it.")

    @_reported
    def nothing_here(self) -> None:
        """Teach that the slice on screen holds none of the classes."""
        key = self._shown()
        self._ensure_labels(_uid(key))
        painted = self._painted(key)
        if ((painted != 0) & (painted != PAINTED_BACKGROUND)).any():
            raise MaskError(
                f"there is something painted on '{self._layers.name(key)}'; erase it first, "
                f"or teach it with {with_key(Action.TEACH)}"
            )
        if self._boxes(key):
            raise MaskError(
                f"there are boxes on '{self._layers.name(key)}'; delete them first, "
                f"or teach them with {with_key(Action.TEACH)}"
            )
        self._teach(key, np.zeros_like(painted))

    @_reported
    def say_contains(self, class_id: int, contained: bool) -> None:
        """Say whether the slice on screen contains a class, without saying where."""
        key = self._shown()
        tag = self.session.support.tag(key)
        before = set() if tag is None else set(tag.class_ids)
        after = before | {class_id} if contained else before - {class_id}
        if after:
            self.session.tag(Tag(self._read_frame(key), tuple(after)))
        else:
            self.session.untag(key)
        if after != before and self._takes_tags:
            self._refresh_proposals(key)

    @property
    def _takes_tags(self) -> bool:
        return self.session.settings.method in _taking_tags()

    @property
    def _box_class(self) -> int:
        """What is in boxes of which nothing else is known."""
        classes = self.session.classes
        return self._brush if self._brush != PAINTED_BACKGROUND else classes[0].id if classes else 1

    def _boxes(self, key: FrameKey) -> Sequence[Box]:
        return self._layers.boxes(key, self._box_class)

    def _teach(self, key: FrameKey, labels: LabelMap, guessed: npt.NDArray[np.bool_] | None = None) -> None:
        self._take_corrections(key)
        self.session.teach(Shot(self._read_frame(key), labels, guessed))  # type: ignore[arg-type] # numbers of any kind
        if self.session.proposal(key) is None:
            self._layers.clear_proposals([key])
        self._follow_classes()
        self._refresh_proposals(key)
        self._prepare()

    # ------------------------------------------------------------------ proposing
    @_reported
    def propose(self) -> None:
        """Propose for every slice that is not decided, the one on screen first."""
        self._take_all_corrections()
        self._sync_frames()
        if not self._layers.frames():
            raise ImageError("there is no image to label; open one, and tick it in the list")
        self._start(self._shown_or_none(), again=True)

    @_reported
    def cancel(self) -> None:
        """Stop proposing."""
        self._end_run()
        self._upkeep.look()

    def _start(self, first: FrameKey | None, *, again: bool, alone: bool = False) -> None:
        run = self.session.start_run(first, again=again)
        if alone:
            run = replace(run, frames=tuple(frame for frame in run.frames if frame.key == first))
        self._end_run()
        if not run.frames:
            return
        self._upkeep.pause()
        self._forecast.begin(self.session.settings)
        self._run, self._done, self._failures, self._stage = run, 0, [], "Loading the model ..."
        self._part, self._timed_from = 0.0, None
        self._runner.start(partial(propose_job, run, self.review.seen), partial(self._receive, run), len(run.frames))

    def _end_run(self) -> None:
        self._run = None
        self._runner.stop()
        self._on_change()

    def _refresh_proposals(self, first: FrameKey | None) -> None:
        """Propose again where a decision made open proposals out of date."""
        waiting = self._run is not None or self.session.review_queue()
        if self.refresh_after_decision and waiting and self.session.support.class_ids:
            self._start(first, again=False)

    @_watched
    def _receive(self, run: Run, item: object) -> None:
        """Take in what a run found; what an overtaken or cancelled run found is dropped."""
        if run is not self._run:
            return
        important = True
        match item:
            case Stage():
                self._stage = item.text
            case Seen():
                self.review.add(item)
                return  # a proposal follows, and is drawn
            case Evidence():
                self.doubt.arrived(item)
                return
            case Tiles():
                important = False
                self._is_at(self._done, item.done / item.total, timed=item.key is not None)
            case Proposal():
                important = self._receive_proposal(run, item)
            case FrameFailure():
                self._is_at(self._done + 1, timed=False)
                if item.key in self.session.frames:  # of a layer that was deleted nobody wants to hear
                    self._failures.append(item)
            case Failed():
                self._end_run()
                self._fail(item.error)
            case Finished():
                self._finish()
        if important or self._clock() - self._drawn_at > _REDRAW_SECONDS:
            self._refresh()

    def _receive_proposal(self, run: Run, proposal: Proposal) -> bool:
        """Record and show a proposal. Returns whether somebody is looking at it."""
        self._is_at(self._done + 1)
        self._forecast.done(self.session.settings, proposal.key, self._clock())
        self._notices.add(self._in_words(proposal.note), self._layers.name(proposal.key))
        self._notices.add(self._upkeep.features.notice)
        self._take_corrections(proposal.key)
        before = self.session.proposal(proposal.key)
        if not self.session.record(run, proposal):
            return False
        self.doubt.keep(proposal.key, before)
        self._ensure_proposals(_uid(proposal.key))
        self._show_proposal(proposal.key)
        return self._done == 1 or proposal.key == self._last_shown

    def _is_at(self, done: int, part: float = 0.0, *, timed: bool = True) -> None:
        """Take note of how far the run is; from the first time on that counts, the time left can be told."""
        self._done, self._part = done, part
        if timed and self._timed_from is None:
            self._timed_from = self._clock(), done + part

    def _finish(self) -> None:
        failures = self._failures
        self._end_run()
        self._upkeep.look()
        self._prepare()
        if failures:
            first = self._in_words(failures[0].message)
            count = "" if len(failures) == 1 else f"{len(failures)} slices could not be used. The first: "
            self._tell_error(f"{count}{first}")

    # ------------------------------------------------------------------ deciding
    @_reported
    def accept(self) -> None:
        """Accept the proposal on screen, with what a person painted over it; it becomes a further shot."""
        key = self._shown()
        self._take_corrections(key)
        self._check_open(key)
        self._ensure_labels(_uid(key))
        self._let_painted_stand(key)
        self.session.add_frames([self._read_frame(key)])  # a shot outlives its layer
        accepted = self.session.accept(key)
        self._layers.write_accepted([(key, accepted)])
        self._layers.clear_proposals([key])
        self._follow_classes()
        self._refresh_proposals(key)

    @_reported
    def accept_above(self) -> None:
        """Accept every open proposal with at least the chosen score."""
        if not self._accept_many(self.session.above(self.accept_score)):
            raise SupportError(f"no open proposal scores {percent(self.accept_score)} or more; choose a lower score")

    @_reported
    def accept_selected(self) -> None:
        """Accept the open proposals of all selected rows."""
        if not self._accept_many(self.review.selected_open):
            raise SupportError("no selected row waits for a decision; click on rows with Ctrl or Shift to select them")

    def _accept_many(self, keys: Sequence[FrameKey]) -> Sequence[FrameKey]:
        """Accept open proposals in one step, and return their frames."""
        for key in keys:
            self._take_corrections(key)
            self._let_painted_stand(key)
        keys = self.session.accept_many(keys)
        for uid in {_uid(key) for key in keys}:
            self._ensure_labels(uid)
        accepted = [(key, labels) for key in keys if (labels := self.session.labels(key)) is not None]
        self._layers.write_accepted(accepted)
        self._layers.clear_proposals(keys)
        return keys

    @_reported
    def reject_selected(self) -> None:
        """Throw the open proposals of all selected rows away."""
        keys = self.review.selected_open
        for key in keys:
            self._take_corrections(key)
        if not self.session.reject_many(keys):
            raise SupportError("no selected row waits for a decision; click on rows with Ctrl or Shift to select them")
        self._layers.clear_proposals(keys)

    @_reported
    def reject(self) -> None:
        """Throw the proposal on screen away."""
        key = self._shown()
        self._check_open(key)
        self._take_corrections(key)
        self.session.reject(key)
        self._layers.clear_proposals([key])

    @_reported
    def next_to_review(self) -> None:
        """Go to the next open proposal in the chosen order."""
        here = self._shown_or_none()
        if here is not None:
            self._take_corrections(here)
        key = self.review.next(here)
        if key is None:
            raise SupportError(f"no proposal waits for a decision; press {with_key(Action.PROPOSE)} to get some")
        self._go(key)

    @_reported
    def go_back(self) -> None:
        """Go back to where somebody was before."""
        key = self.review.back(self._shown_or_none())
        if key is None:
            raise SupportError("there is no slice to go back to")
        self._go(key, keep_way_back=False)

    @_reported
    def go_to(self, key: FrameKey) -> None:
        """Go to a frame of the table."""
        if key in self.session.frames:
            self._go(key)

    def _go(self, key: FrameKey, *, keep_way_back: bool = True) -> None:
        here = self._shown_or_none()
        if here is not None and here != key:
            self._take_corrections(here)
            if keep_way_back:
                self.review.left(here)
        self._layers.go_to(key)
        self._last_shown = key

    @_reported
    def show_uncertainty(self) -> None:
        """Show where the proposal on screen is unsure, or no longer."""
        self._toggle(Overlay.UNCERTAINTY)

    @_reported
    def show_change(self) -> None:
        """Show what is other than in the proposal before, or no longer."""
        self._toggle(Overlay.CHANGE)

    @_reported
    def show_probability(self) -> None:
        """Show how probable the selected class is, or no longer."""
        self._toggle(Overlay.PROBABILITY)

    def _toggle(self, overlay: Overlay) -> None:
        key = self._shown()
        is_shown = self.doubt.toggle(overlay)
        if is_shown and self.doubt.lacks(key) and self._run is None:
            self._take_corrections(key)
            self._start(key, again=False, alone=True)  # find out anew

    @_watched
    def select_rows(self, keys: Sequence[FrameKey]) -> None:
        """Take note of the selected rows of the table."""
        self.review.select(keys)
        self._refresh()

    @_reported
    def set_order(self, order: Order) -> None:
        """Say in which order proposals are reviewed."""
        self.review.order = order

    @_watched
    def look_at(self, keys: Sequence[FrameKey]) -> None:
        """Make small pictures of frames that are in sight in the table."""
        self.review.look_at(keys)

    def _on_pictures(self, all_there: bool) -> None:
        if all_there or self._clock() - self._drawn_at > _REDRAW_SECONDS:
            self._refresh()

    @_reported
    def undo(self) -> None:
        """Take back the last decision, in the layers as well."""
        if not self.session.can_undo:
            raise SupportError("there is nothing to take back")
        self._take_all_corrections()
        decided = {key for key in self.session.frames if self.session.state(key) is FrameState.ACCEPTED}
        busy, support = self._run is not None, self.session.support
        tags = support.tags
        changed = self.session.undo()
        self._end_run()
        self._layers.unwrite([k for k in changed if k in decided and self.session.state(k) is not FrameState.ACCEPTED])
        reopened = [key for key in changed if self.session.proposal(key) is not None]
        for key in reopened:
            self._ensure_proposals(_uid(key))
            self._show_proposal(key)
        self._layers.clear_proposals([key for key in changed if key not in reopened])
        self._follow_classes()
        retagged = self._takes_tags and tags != self.session.support.tags
        if busy or retagged or support.keys != self.session.support.keys:
            self._refresh_proposals(self._shown_or_none())

    # ------------------------------------------------------------------ exporting
    @_reported
    def export(self) -> None:
        """Ask what to write, and write it off the GUI thread."""
        self._take_all_corrections()
        layers = self._layers.label_layers()
        if not layers:
            raise ExportError("there are no labels to export yet; paint and teach, or accept a proposal, first")
        names = default_names(name for _, name in layers)
        choices = [
            ExportChoice(uid, name, file, self._layers.source_of(uid))
            for (uid, name), file in zip(layers, names, strict=True)
        ]
        request = self._view.ask_export(choices)
        if request is None or not request.files:
            return
        stacks = [(path, self._export_stack(uid, request.with_proposals)) for uid, path in request.files]
        self._exporting = "Writing files ..."
        self._exporter.start(
            partial(export_job, stacks, request.format, request.overwrite),
            partial(self._receive_export, []),
            len(stacks),
        )

    def _export_stack(self, uid: str, with_proposals: bool) -> LabelStack:
        stack = self._layers.export_stack(uid)
        labels = stack.labels
        notes = {p: PlaneNote("painted") for p in np.ndindex(*labels.shape[:-2]) if labels[p].any()}
        for key in self.session.frames:
            if _uid(key) == uid and self.session.state(key) is FrameState.ACCEPTED:
                notes[_position(key)] = PlaneNote("accepted")
            elif _uid(key) == uid and self.session.state(key) is FrameState.TAUGHT:
                notes[_position(key)] = PlaneNote("painted")
        if with_proposals:
            for key in self.session.review_queue():
                waiting = self.session.proposal(key)
                if _uid(key) == uid and waiting is not None:
                    slice_ = labels[_position(key)]  # (H, W), a view
                    slice_[...] = np.where(slice_ == 0, waiting.labels, slice_)
                    notes[_position(key)] = PlaneNote("proposed", waiting.score)
        labels[labels == PAINTED_BACKGROUND] = BACKGROUND
        return LabelStack(
            labels,
            stack.name,
            axes_letters(stack.axis_labels, len(stack.axis_labels)) or "",
            stack.spacing,
            stack.units,
            self.session.classes,
            stack.source,
            notes,
        )

    @_watched
    def _receive_export(self, written: list[str], item: object) -> None:
        match item:
            case Stage():
                self._exporting = item.text
            case Written():
                written.append(item.path.name)
                self._view.notify(f"Wrote {item.path}")
            case Failed():
                self._exporting = ""
                self._fail(item.error)
            case Finished():
                self._exporting = ""
        self._refresh()

    # ------------------------------------------------------------------ layers and session in step
    def _sync_frames(self) -> None:
        """Make the session's frames those of the chosen images."""
        wanted = {frame.key: frame for frame in self._layers.frames()}
        known = self.session.frames
        gone = [key for key in known if key not in wanted]
        if gone:
            self.session.remove_frames(gone)
            self._layers.clear_proposals(gone)
        # known ones too, so that the session sees whether their image has another size now
        same = {key for key, frame in wanted.items() if key in known and known[key].size == frame.size}
        self.session.add_frames([known[key] if key in same else frame for key, frame in wanted.items()])
        self._last_shown = self._shown_or_none()
        self._forecast.follow(self.session.frames)
        self.review.follow()
        self._on_change()

    def _ensure_labels(self, uid: str) -> None:
        """Make the labels layer; one that somebody deleted comes back with what was taught and accepted."""
        if not self._layers.ensure_labels(uid):
            return
        for key in self.session.frames:
            if _uid(key) == uid and (labels := self.session.labels(key)) is not None:
                self._layers.restore_painted(key, self._as_painted(key, labels))

    def _as_painted(self, key: FrameKey, labels: Labels) -> Labels:
        shot = next((shot for shot in self.session.support if shot.key == key), None)
        if shot is None or not shot.is_partial:
            return labels
        said = shot.said
        painted = np.where((said == UNLABELLED) & (shot.labels != UNLABELLED), 0, labels)  # what was guessed from boxes
        return np.where(said == BACKGROUND, PAINTED_BACKGROUND, painted).astype(np.int32)

    def _ensure_proposals(self, uid: str) -> None:
        """Make the proposal layer; one that somebody deleted comes back with every open proposal."""
        if not self._layers.ensure_proposals(uid):
            return
        for key in self.session.review_queue():
            if _uid(key) == uid:
                self._show_proposal(key)

    def _show_proposal(self, key: FrameKey) -> None:
        waiting = self.session.proposal(key)
        if waiting is not None:
            self._layers.show_proposal(key, waiting.labels)

    def _take_corrections(self, key: FrameKey) -> None:
        """Tell the session what a person changed on a proposal, however it was changed (undo emits no event)."""
        waiting = self.session.proposal(key)
        shown = None if waiting is None else self._layers.proposed(key)
        if waiting is not None and shown is not None and shown.shape == waiting.labels.shape:
            self.session.correct(key, np.where(shown >= PAINTED_BACKGROUND, BACKGROUND, shown))

    def _take_all_corrections(self) -> None:
        for key in self.session.review_queue():
            self._take_corrections(key)

    def _let_painted_stand(self, key: FrameKey) -> None:
        """Put what a person painted on the labels layer over the proposal, as a correction of it."""
        waiting = self.session.proposal(key)
        painted = None if self._layers.painted(key) is None else self._painted(key)
        if waiting is not None and painted is not None and painted.any():
            human = np.where(painted == PAINTED_BACKGROUND, BACKGROUND, painted)
            self.session.correct(key, np.where(painted != 0, human, waiting.labels).astype(np.int32))

    def _painted(self, key: FrameKey) -> LabelMap:
        """What is painted at a frame (H, W), 254 for background."""
        painted = self._layers.painted(key)
        if painted is None:
            raise MaskError(f"'{self._layers.name(key)}' has no labels layer; press {with_key(Action.PAINT)}")
        if painted.size and (painted.min() < 0 or painted.max() > PAINTED_BACKGROUND):
            raise MaskError(
                f"the labels of '{self._layers.name(key)}' hold the value "
                f"{painted.max() if painted.max() > PAINTED_BACKGROUND else painted.min()}; "
                f"classes go from 1 to {LARGEST_ID}: relabel them"
            )
        return painted

    def _read_frame(self, key: FrameKey) -> Frame:
        """The frame in a form that outlives its layer.

        A copy of the pixels as they are now. A frame too large for that keeps hold of the array that it is read from
        instead: it outlives the layer as well, but changes with whoever changes the array.
        """
        frame = self.session.frame(key)
        pixels = frame.open()
        if math.prod(pixels.shape) * pixels.dtype.itemsize <= _COPIED_BYTES:
            return replace(frame, image=np.array(frame.read()))
        return replace(frame, image=frame.image() if callable(frame.image) else frame.image)

    def _shown(self) -> FrameKey:
        key = self._layers.shown()
        if key is None or key not in self.session.frames:
            raise ImageError("no ticked image is on screen; open an image, tick it in the list, and show it")
        return key

    def _shown_or_none(self) -> FrameKey | None:
        try:
            key = self._layers.shown()
        except FewShotError:
            return None
        return key if key in self.session.frames else None

    def _check_open(self, key: FrameKey) -> None:
        if self.session.proposal(key) is None:
            raise SupportError(
                f"there is no open proposal on '{self._layers.name(key)}'; press {with_key(Action.PROPOSE)}, "
                f"or {with_key(Action.NEXT)} to go to one"
            )

    def _take_brush(self) -> None:
        key = self._shown()
        on_proposal = self.session.proposal(key) is not None
        if on_proposal:
            self._ensure_proposals(_uid(key))
        else:
            self._ensure_labels(_uid(key))
        background = BACKGROUND if on_proposal else PAINTED_BACKGROUND
        value = background if self._brush == PAINTED_BACKGROUND else self._brush
        self._layers.take_brush(key, value, on_proposal=on_proposal)

    def _set_classes(self, classes: Sequence[LabelClass]) -> None:
        self.session.set_classes(classes)
        self._layers.set_classes(self.session.classes)

    def _follow_classes(self) -> None:
        """Show classes that came with a mask (a value without a name)."""
        self._layers.set_classes(self.session.classes)

    def _class_name(self, class_id: int) -> str:
        return next((c.name for c in self.session.classes if c.id == class_id), f"class {class_id}")

    # ------------------------------------------------------------------ beside the main job
    def _begin_to_prepare(self) -> None:
        """Somebody has begun to paint: the time until they press Propose can be used."""
        if not self._is_painting:
            self._is_painting = True
            self._prepare()

    def _prepare(self) -> None:
        if self._is_painting and self._run is None:
            self._upkeep.prepare(self._last_shown)

    def _on_upkeep(self) -> None:
        self._notices.add(self._upkeep.features.notice)
        self._notices.add(self._upkeep.trouble)
        if self._run is None:
            self._on_change()
        self._refresh()

    def _on_change(self, _: object = None) -> None:
        """What a run would cost has to be found out anew."""
        self._prospect = None

    def _prospect_now(self) -> "_Prospect":
        """What a run would cost, as long as none goes on: then the progress tells."""
        if self._prospect is None:
            limits, settings, session = self._upkeep.features.settings, self.session.settings, self.session
            decided = (FrameState.TAUGHT, FrameState.ACCEPTED)
            keys = [key for key in session.frames if session.state(key) not in decided]
            cost = self._forecast.estimate(settings, limits, keys, max(1, len(session.classes)))
            self._prospect = _Prospect(
                "" if cost is None else in_words(cost),
                "" if cost is None else self._forecast.warning(cost, limits, self._upkeep.usage),
                self._upkeep.not_preparing if self._upkeep.preferences.prepare else "",
            )
        return self._prospect

    # ------------------------------------------------------------------ telling
    def dismiss_notices(self) -> None:
        """The person has read them."""
        self._notices.dismiss()
        self._refresh()

    def dismiss_error(self) -> None:
        """The person has read it."""
        self._error = ""
        self._refresh()

    def _fail(self, error: Exception) -> None:
        if isinstance(error, FewShotError):
            self._tell_error(self._in_words(str(error)))
        else:
            self._error = f"Something unexpected went wrong: {type(error).__name__}: {error}. Nothing you did is lost."
            self._view.notify(self._error, error=error, is_error=True)

    def _tell_error(self, message: str) -> None:
        self._error = message[:1].upper() + message[1:]
        self._view.notify(self._error, is_error=True)

    def _in_words(self, message: str) -> str:
        """Say frames by the name that their layers have now."""
        keys = {*self.session.frames, *self.session.support.keys}
        for key in keys:
            if f"'{frame_name(key)}'" in message:
                message = message.replace(f"'{frame_name(key)}'", f"'{self._layers.name(key)}'")
        return message

    def _refresh(self) -> None:
        self._drawn_at = self._clock()
        class_id = BACKGROUND if self._brush == PAINTED_BACKGROUND else self._brush
        class_name = "background" if class_id == BACKGROUND else self._class_name(class_id)
        self.doubt.draw(self._shown_or_none(), class_id, class_name)
        self._view.show_state(self._state())

    def _state(self) -> DockState:
        images = tuple(replace(image, contains=self._contains(image.uid)) for image in self._layers.images())
        trouble, key, painted = "", None, False
        try:
            key = self._layers.shown()
            key = key if key in self.session.frames else None
            painted = key is not None and (self._layers.is_painted(key) or bool(self._boxes(key)))
        except FewShotError as error:
            trouble = str(error)
        waiting = None if key is None else self.session.proposal(key)
        state = FrameState.UNTOUCHED if key is None else self.session.state(key)
        support = self.session.support
        situation = Situation(
            images=len(images),
            chosen=sum(image.chosen and not image.trouble for image in images),
            shown="" if key is None else self._layers.name(key),
            trouble=trouble[:1].upper() + trouble[1:],
            state=state,
            score=None if waiting is None else waiting.score,
            painted=painted,
            shots=len(support),
            has_class=bool(support.class_ids),
            has_background=not support.shots or support.has_background,
            classes=tuple(c.name for c in support.classes),
            unpainted=tuple(c.name for c in support.unpainted),
            proposals=len(self.session.review_queue()),
            running=self._run is not None,
        )
        if not situation.proposals and situation.has_class:
            open_states = (FrameState.UNTOUCHED, FrameState.REJECTED)
            situation = replace(
                situation, undecided=any(self.session.state(k) in open_states for k in self.session.frames)
            )
        above = len(self.session.above(self.accept_score))
        tag = None if key is None else support.tag(key)
        prospect = _Prospect() if self._run is not None else self._prospect_now()
        return DockState(
            next_step=next_step(situation),
            error=self._error,
            images=images,
            review=self.review.table(key),
            classes=support.classes,
            brush=self._brush,
            slice_line=_slice_line(situation, "" if waiting is None else waiting.note),
            can_tag=key is not None and key not in support.keys and bool(support.classes),
            contained=frozenset(() if tag is None else tag.class_ids),
            tag_note=self._tag_note(support),
            overlay=self.doubt.overlay,
            overlay_note=self.doubt.note,
            above=above,
            enabled=self._enabled(situation, support, above),
            correcting=waiting is not None,
            progress=self._progress(),
            estimate=prospect.estimate,
            warning=prospect.warning,
            notices=self._notices.lines(),
            kept=self._upkeep.kept,
            not_preparing=prospect.not_preparing,
            backbone=self.session.settings.backbone,
            model=self._models.state,
        )

    def _contains(self, uid: str) -> str:
        """What slices of an image are said to contain, in words."""
        tags = [tag for tag in self.session.support.tags if _uid(tag.key) == uid]
        if not tags:
            return ""
        ids = sorted({class_id for tag in tags for class_id in tag.class_ids})
        words = f"contains {', '.join(map(self._class_name, ids))}"
        if _position(tags[0].key):
            words += f" on {'1 slice' if len(tags) == 1 else f'{len(tags)} slices'}"
        return words

    def _tag_note(self, support: SupportSet) -> str:
        """Whether anything is made of what slices are said to contain."""
        if not support.tags:
            return ""
        if not self._takes_tags:
            names = " or ".join(f"'{name}'" for name in _taking_tags())
            return (
                f"The method '{self.session.settings.method}' makes no use of what slices contain. "
                f"Choose {names} under Advanced to learn from it."
            )
        missing = [c.name for c in support.unpainted if c.id in support.tagged_ids]
        if not missing:
            return ""
        names = ", ".join(f"'{name}'" for name in missing)
        return f"{names} is painted nowhere yet: that slices contain it is of no use before you teach one example."

    def _enabled(self, now: Situation, support: SupportSet, above: int) -> frozenset[Action]:
        rules = {
            Action.PAINT: bool(now.shown),
            Action.BOX: bool(now.shown and now.classes),
            Action.TEACH: bool(now.shown),
            Action.NOTHING_HERE: bool(now.shown),
            Action.PROPOSE: bool(now.chosen and support.class_ids),
            Action.CANCEL: now.running,
            Action.ACCEPT: now.score is not None,
            Action.REJECT: now.score is not None,
            Action.NEXT: now.proposals > 0,
            Action.BACK: self.review.can_go_back,
            Action.ACCEPT_ABOVE: above > 0,
            Action.ACCEPT_SELECTED: bool(self.review.selected_open),
            Action.REJECT_SELECTED: bool(self.review.selected_open),
            Action.UNCERTAINTY: now.score is not None or self.doubt.overlay is Overlay.UNCERTAINTY,
            Action.CHANGE: now.score is not None or self.doubt.overlay is Overlay.CHANGE,
            Action.PROBABILITY: now.score is not None or self.doubt.overlay is Overlay.PROBABILITY,
            Action.UNDO: self.session.can_undo,
            Action.EXPORT: bool(self._layers.label_layers()) and not self._exporting,
        }
        return frozenset(action for action, is_possible in rules.items() if is_possible)

    def _progress(self) -> Progress | None:
        if self._run is None:
            return Progress(0, 0, self._exporting) if self._exporting else None
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


@dataclass(frozen=True)
class _Prospect:
    """What a run would cost, in words."""

    estimate: str = ""
    warning: str = ""
    not_preparing: str = ""


def _taking_tags() -> tuple[str, ...]:
    """Names of the methods that learn from what slices are said to contain."""
    return tuple(card.name for card in list_segmenters() if "tags" in card.accepts)


def shot_labels(painted: LabelMap, unpainted: Unpainted, boxes: Sequence[Box] = ()) -> LabelMap:
    """Turn a slice of a labels layer, and boxes drawn over it, into the labels of a shot.

    Parameters
    ----------
    painted
        (H, W): 0 where nobody painted, 254 for painted background, otherwise classes.
    unpainted
        What 0 means; "automatic" is unknown where background was painted, background otherwise.
    boxes
        See `box_labels`; where unpainted pixels are background, everything has its box. Paint stands over boxes.
    """
    background = painted == PAINTED_BACKGROUND
    unknown = _is_unknown(painted, unpainted)
    if boxes:
        boxed = box_labels((painted.shape[0], painted.shape[1]), boxes, all_boxed=not unknown)
        np.copyto(boxed, painted, where=(painted != 0) & ~background, casting="unsafe")
        np.copyto(boxed, BACKGROUND, where=background)
        return boxed
    labels = painted.copy() if np.can_cast(np.uint8, painted.dtype) else painted.astype(np.int32)
    if unknown:
        np.copyto(labels, UNLABELLED, where=painted == 0)
    np.copyto(labels, BACKGROUND, where=background)
    return labels


def _is_unknown(painted: LabelMap, unpainted: Unpainted) -> bool:
    """Whether nothing is known of unpainted pixels."""
    return unpainted == "unknown" or (unpainted == "automatic" and bool((painted == PAINTED_BACKGROUND).any()))


def _slice_line(now: Situation, note: str) -> str:
    if not now.shown:
        return ""
    words = {
        FrameState.UNTOUCHED: "painted, not taught yet" if now.painted else "nothing taught or proposed",
        FrameState.TAUGHT: "taught",
        FrameState.PROPOSED: "proposed",
        FrameState.CORRECTED: "proposed and corrected",
        FrameState.ACCEPTED: "accepted",
        FrameState.REJECTED: "rejected",
    }[now.state]
    score = "" if now.score is None else f", score {percent(now.score)}"
    return f"{now.shown}: {words}{score}" + (f" ({note})" if note else "")


def _position(key: FrameKey) -> tuple[int, ...]:
    return () if isinstance(key, str) else tuple(int(place) for place in key[1:])
