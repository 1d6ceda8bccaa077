"""What happens when a person presses something: between the session and the window, knowing neither Qt nor napari.

Every command of the dock, and every change in the viewer, is a method here; parts of the controller do the work, each
in its own module: `Choosing`, `LayerSync`, `Palette`, `Teaching`, `Proposing`, `Deciding`, `Review`, `Doubt`,
`Exporting`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from napari_fewshot.errors import SupportError
from napari_fewshot.frames import FrameKey
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session import Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.choosing import Choosing
from napari_fewshot.ui.cuts import Cuts
from napari_fewshot.ui.deciding import Deciding
from napari_fewshot.ui.doubt import Doubt
from napari_fewshot.ui.exporting import Exporting
from napari_fewshot.ui.forecast import Forecast
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.model_choice import ModelChoice
from napari_fewshot.ui.object_edits import ObjectEdits, Point
from napari_fewshot.ui.objects import Objects
from napari_fewshot.ui.palette import Palette
from napari_fewshot.ui.ports import Layers, Runner, View
from napari_fewshot.ui.proposing import Proposing
from napari_fewshot.ui.prospects import Prospects
from napari_fewshot.ui.reporting import Reporter, reported, watched
from napari_fewshot.ui.review import Review
from napari_fewshot.ui.state import ObjectTool, Order, Overlay
from napari_fewshot.ui.state_builder import StateBuilder
from napari_fewshot.ui.teaching import Teaching, Unpainted
from napari_fewshot.ui.upkeep import Upkeep

_REDRAW_SECONDS = 0.25  # at most this often while results stream in


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
        self.session, self.forecast, self.upkeep = session, forecast, upkeep
        self._view, self._layers, self._models, self._clock = view, layers, models, clock
        self._drawn_at = 0.0
        self.reporter = Reporter(view, session, layers)
        self.objects = Objects(session, layers)
        self.sync = LayerSync(session, layers, self.objects)
        self.review = Review(session, layers.images, layers.name, looker)
        self.doubt = Doubt(session, layers)
        self.palette = Palette(session, layers, self.sync)
        self.prospects = Prospects(session, forecast, upkeep)
        self.proposing = Proposing(
            session, layers, self.sync, runner, forecast, upkeep, self.prospects, self.review, self.doubt,
            self.reporter, clock,
        )  # fmt: skip
        self.teaching = Teaching(
            session, layers, self.sync, self.palette, self.proposing, self.reporter, self.objects
        )  # fmt: skip
        self.cuts = Cuts(session, layers, self.sync, self.palette, self.teaching, self.proposing)
        self.deciding = Deciding(
            session, layers, self.sync, self.palette, self.teaching, self.proposing, self.review
        )  # fmt: skip
        self.edits = ObjectEdits(session, layers, self.sync, self.objects, self.teaching)
        self.choosing = Choosing(
            session, layers, self.sync, self.proposing, self.prospects, forecast, upkeep, self.review
        )  # fmt: skip
        self.exporting = Exporting(session, view, layers, exporter, self.reporter)
        self._builder = StateBuilder(
            session, layers, reporter=self.reporter, palette=self.palette, teaching=self.teaching, cuts=self.cuts,
            deciding=self.deciding, proposing=self.proposing, exporting=self.exporting, review=self.review,
            doubt=self.doubt, prospects=self.prospects, upkeep=upkeep, models=models, edits=self.edits,
        )  # fmt: skip
        upkeep.changed.connect(self._on_upkeep)
        models.changed.connect(self.refresh)
        models.chosen.connect(self._use_model)
        self.review.changed.connect(self._on_news)
        self.proposing.changed.connect(self._on_news)
        self.exporting.changed.connect(self.refresh)
        self.layers_changed()

    # ------------------------------------------------------------------ what happens in the viewer
    @watched
    def layers_changed(self) -> None:
        """Catch up with layers that came, went, or were renamed."""
        self.choosing.follow_frames()
        self.proposing.prepare()

    @watched
    def slice_changed(self) -> None:
        """Catch up with sliders, with the selected layer, and with what was painted before they moved."""
        left, now = self.sync.last_shown, self.sync.shown_or_none()
        self.sync.last_shown = now
        if left is not None and left != now:
            self.sync.take_corrections(left)
        if left != now:
            self.proposing.prepare()

    @watched
    def edited(self) -> None:
        """Catch up with a stroke: on a proposal it is a correction."""
        key = self.sync.shown_or_none()
        if key is not None:
            self.sync.take_corrections(key)
            self.proposing.begin_to_prepare()

    def brushed(self) -> None:
        """Catch up with a stroke that goes on, or that was undone."""
        self.refresh()

    # ------------------------------------------------------------------ choices
    @reported
    def choose_image(self, uid: str, chosen: bool) -> None:
        """Label an image, or leave it alone."""
        self.choosing.choose_image(uid, chosen)

    @reported
    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image holds channels. What was taught on it before no longer fits and is forgotten."""
        self.choosing.set_channel_axis(uid, axis)

    @reported
    def set_depth_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image is its depth."""
        self.choosing.set_depth_axis(uid, axis)

    @reported
    def use_settings(self, settings: SegmenterSettings) -> None:
        """Work with another method, backbone or device from the next run on."""
        self.choosing.use_settings(settings)

    @reported
    def separate_objects(self, separate: bool) -> None:
        """Say whether objects that touch are told apart; open proposals are made anew."""
        if separate != self.session.settings.instances:
            self.edits.put_away()
            self.choosing.separate_objects(separate)

    def _use_model(self, backbone: str) -> None:
        self.use_settings(replace(self.session.settings, backbone=backbone))

    @reported
    def want_model(self, wanted: bool) -> None:
        """Say whether the backbone is to be a model of timm, by name."""
        if wanted:
            self._models.open()
        else:
            self._models.close()

    @reported
    def name_model(self, name: str) -> None:
        """Name a model of timm; it is used as soon as it is known that there is one, and its terms are shown."""
        self._models.name(name)

    @reported
    def use_propagation(self, changed: Mapping[str, Any]) -> None:
        """Make proposals in another way from the next run on: fields of `PropagationSettings` that change."""
        self.choosing.use_propagation(changed)

    @reported
    def set_unpainted(self, meaning: Unpainted) -> None:
        """Say what unpainted pixels of a slice mean when it is taught."""
        self.teaching.unpainted = meaning

    @reported
    def set_refresh_after_decision(self, refresh: bool) -> None:
        """Say whether open proposals are made anew after each decision."""
        self.proposing.refresh_after_decision = refresh

    @reported
    def set_accept_score(self, score: float) -> None:
        """Accept all at or above this score, in [0, 1], when asked."""
        self.deciding.accept_score = score

    @reported
    def set_limits(self, memory_gib: float, disk_gib: float) -> None:
        """Keep no more than this of what was computed, in memory and on the disk."""
        self.choosing.set_limits(memory_gib, disk_gib)

    @reported
    def clear_features(self) -> None:
        """Give up what was computed, if a person is sure."""
        if self._view.confirm(
            "Remove everything that is kept of images in memory and on the disk? Nothing that you painted, taught or "
            "accepted is lost, but the next proposals take longer."
        ):
            self.choosing.clear_features()

    @reported
    def set_prepare(self, prepare: bool) -> None:
        """Say whether images are prepared while somebody paints."""
        self.choosing.set_prepare(prepare)

    # ------------------------------------------------------------------ classes
    @reported
    def add_class(self) -> None:
        """Add a class with the next free id and take it as the brush."""
        self.palette.add()

    @reported
    def change_class(self, changed: LabelClass) -> None:
        """Give a class another name or colour."""
        self.palette.change(changed)

    @reported
    def remove_brush_class(self) -> None:
        """Remove the class of the brush, if it is painted nowhere."""
        self.palette.remove(self.palette.brush)

    @reported
    def select_brush(self, value: int) -> None:
        """Take a class, or the painted background, as the brush."""
        self.palette.select(value)
        self.proposing.begin_to_prepare()

    @reported
    def next_class(self) -> None:
        """Take the next class of the list as the brush; after the last comes background."""
        self.palette.select(self.palette.next())
        self.proposing.begin_to_prepare()

    # ------------------------------------------------------------------ teaching
    @reported
    def paint(self) -> None:
        """Take the brush: on the proposal where one is open, on the labels otherwise."""
        self.palette.take_brush()
        self.proposing.begin_to_prepare()

    @reported
    def draw_boxes(self) -> None:
        """Let boxes of the selected class be drawn."""
        self.palette.draw_boxes(self.sync.shown())
        self.proposing.begin_to_prepare()

    @reported
    def teach(self) -> None:
        """Learn from what is painted, or in boxes, on the slice, or the cut through a stack, on screen."""
        cut = self.cuts.shown
        if cut is not None:
            self.cuts.teach(cut)
        else:
            self.teaching.teach()

    @reported
    def nothing_here(self) -> None:
        """Teach that the slice on screen holds none of the classes."""
        self.teaching.nothing_here()

    @reported
    def say_contains(self, class_id: int, contained: bool) -> None:
        """Say whether the slice on screen contains a class, without saying where."""
        self.teaching.say_contains(class_id, contained)

    # ------------------------------------------------------------------ proposing
    @reported
    def propose(self) -> None:
        """Propose for every slice that is not decided, the one on screen first."""
        self.sync.take_all_corrections()
        self.choosing.follow_frames()
        self.proposing.propose()

    @reported
    def cancel(self) -> None:
        """Stop proposing."""
        self.proposing.cancel()

    # ------------------------------------------------------------------ deciding
    @reported
    def accept(self) -> None:
        """Accept the proposal on screen, with what a person painted over it; it becomes a further shot."""
        self.deciding.accept()

    @reported
    def accept_above(self) -> None:
        """Accept every open proposal with at least the chosen score."""
        self.deciding.accept_above()

    @reported
    def accept_selected(self) -> None:
        """Accept the open proposals of all selected rows."""
        self.deciding.accept_selected()

    @reported
    def reject_selected(self) -> None:
        """Throw the open proposals of all selected rows away."""
        self.deciding.reject_selected()

    @reported
    def reject(self) -> None:
        """Throw the proposal on screen away."""
        self.deciding.reject()

    @reported
    def undo(self) -> None:
        """Take back the last decision, in the layers as well."""
        self.deciding.undo()
        self.edits.follow_undo()

    @reported
    def redo(self) -> None:
        """Do again what was taken back last, in the layers as well."""
        self.deciding.redo()
        self.edits.follow_undo()

    # ------------------------------------------------------------------ mending objects
    @reported
    def merge_objects(self) -> None:
        """Take the tool that puts objects together, or put it away."""
        self.edits.take(ObjectTool.MERGE)

    @reported
    def split_objects(self) -> None:
        """Take the tool that cuts objects in two, or put it away."""
        self.edits.take(ObjectTool.SPLIT)

    @reported
    def delete_objects(self) -> None:
        """Take the tool that deletes objects, or put it away."""
        self.edits.take(ObjectTool.DELETE)

    @reported
    def drawn(self, points: Sequence[Point]) -> None:
        """Do with the tool in hand what a line means that was drawn on the slice on screen."""
        self.edits.drawn(points)

    @reported
    def put_tool_away(self) -> None:
        """Catch up with somebody who took another tool of napari."""
        self.edits.put_away()

    @reported
    def link_objects(self) -> None:
        """Give the same object one number on all slices, or times, of the image on screen."""
        self.edits.link()

    # ------------------------------------------------------------------ the table, and from frame to frame
    @reported
    def next_to_review(self) -> None:
        """Go to the next open proposal in the chosen order."""
        here = self.sync.shown_or_none()
        if here is not None:
            self.sync.take_corrections(here)
        key = self.review.next(here)
        if key is None:
            raise SupportError(f"no proposal waits for a decision; press {with_key(Action.PROPOSE)} to get some")
        self.review.left(self.sync.go(key))

    @reported
    def go_back(self) -> None:
        """Go back to where somebody was before."""
        key = self.review.back(self.sync.shown_or_none())
        if key is None:
            raise SupportError("there is no slice to go back to")
        self.sync.go(key)

    @reported
    def go_to(self, key: FrameKey) -> None:
        """Go to a frame of the table."""
        if key in self.session.frames:
            self.review.left(self.sync.go(key))

    @watched
    def select_rows(self, keys: Sequence[FrameKey]) -> None:
        """Take note of the selected rows of the table."""
        self.review.select(keys)

    @reported
    def set_order(self, order: Order) -> None:
        """Say in which order proposals are reviewed."""
        self.review.order = order

    def look_at(self, keys: Sequence[FrameKey]) -> None:
        """Make small pictures of frames that are in sight in the table."""
        self.review.look_at(keys)

    # ------------------------------------------------------------------ what lies over the slice
    @reported
    def show_uncertainty(self) -> None:
        """Show where the proposal on screen is unsure, or no longer."""
        self._toggle(Overlay.UNCERTAINTY)

    @reported
    def show_change(self) -> None:
        """Show what is other than in the proposal before, or no longer."""
        self._toggle(Overlay.CHANGE)

    @reported
    def show_probability(self) -> None:
        """Show how probable the selected class is, or no longer."""
        self._toggle(Overlay.PROBABILITY)

    @reported
    def show_provenance(self) -> None:
        """Show who says what each pixel is, or no longer."""
        self.sync.take_corrections(self.sync.shown())
        self.doubt.toggle(Overlay.PROVENANCE)

    def _toggle(self, overlay: Overlay) -> None:
        key = self.sync.shown()
        is_shown = self.doubt.toggle(overlay)
        if is_shown and self.doubt.lacks(key) and not self.proposing.is_running:
            self.sync.take_corrections(key)
            self.proposing.propose_for(key)  # find out anew

    # ------------------------------------------------------------------ exporting
    @reported
    def export(self) -> None:
        """Ask what to write, and write it off the GUI thread."""
        self.sync.take_all_corrections()
        self.exporting.export()

    # ------------------------------------------------------------------ drawing
    def dismiss_notices(self) -> None:
        """The person has read them."""
        self.reporter.notices.dismiss()
        self.refresh()

    def dismiss_error(self) -> None:
        """The person has read it."""
        self.reporter.error = ""
        self.refresh()

    def refresh(self) -> None:
        """Draw everything as it is now."""
        self._drawn_at = self._clock()
        class_id, key = self.palette.class_id, self.sync.shown_or_none()
        self.objects.new_class = class_id or self.objects.new_class
        self.objects.follow(key)
        self.doubt.draw(key, class_id, self.palette.name(class_id))
        self._view.show_state(self._builder.build())

    def _on_news(self, important: bool) -> None:
        """Something came in from a thread; many small things are drawn together."""
        if important or self._clock() - self._drawn_at > _REDRAW_SECONDS:
            self.refresh()

    def _on_upkeep(self) -> None:
        self.reporter.notices.add(self.upkeep.features.notice)
        self.reporter.notices.add(self.upkeep.trouble)
        if not self.proposing.is_running:
            self.prospects.forget()
        self.refresh()
