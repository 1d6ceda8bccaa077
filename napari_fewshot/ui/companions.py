"""What stands beside the controller: quality, clean-up, the tour, and effort; each with its part of the dock.

They look at the session when something changed, and are drawn only while somebody can see them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import FrameKey
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.cleaning import Cleaning
from napari_fewshot.ui.controller import Controller
from napari_fewshot.ui.effort import EffortMeter
from napari_fewshot.ui.layer_link import LayerLink
from napari_fewshot.ui.panel import FewShotPanel
from napari_fewshot.ui.quality import Quality
from napari_fewshot.ui.runner import ThreadRunner
from napari_fewshot.ui.state import DockState
from napari_fewshot.ui.tour import Tour

if TYPE_CHECKING:
    import napari.viewer


class Companions:
    """Quality, clean-up, tour and effort of one dock.

    Parameters
    ----------
    viewer
        Has a theme, and gets the sample of the tour.
    controller
        Of the dock.
    panel
        Where they are drawn.
    link
        The layers.
    checker, tidier
        Threads.
    """

    def __init__(
        self,
        viewer: "napari.viewer.Viewer",
        controller: Controller,
        panel: FewShotPanel,
        link: LayerLink,
        checker: ThreadRunner,
        tidier: ThreadRunner,
    ) -> None:
        self._viewer, self._controller, self._panel, self._link = viewer, controller, panel, link
        session, reporter = controller.session, controller.reporter
        self.quality = Quality(session, link.name, controller.review, checker, reporter)
        self.cleaning = Cleaning(session, controller.sync, controller.palette, controller.doubt, tidier, reporter)
        self.tour, self.effort = Tour(session), EffortMeter(session)
        self.quality.changed.connect(self.show_quality)
        self.cleaning.changed.connect(controller.refresh)
        self.tour.changed.connect(self._show_tour)
        panel.quality.aside_chosen.connect(self._set_aside)
        panel.quality.frame_wanted.connect(controller.go_to)
        panel.quality.seen.connect(self.show_quality)
        panel.clean_up.steps_chosen.connect(self.cleaning.change)
        panel.clean_up.threshold_chosen.connect(self.cleaning.set_threshold)
        panel.tour.help_wanted.connect(self._help)
        panel.tour.skipped.connect(self.tour.skip)
        panel.tour.ended.connect(self.tour.end)
        link.edited.connect(self.effort.stroke)
        link.slice_changed.connect(self.effort.sign)
        self.show_theme()

    def show_theme(self, _: Any = None) -> None:
        """Draw in the colours of the window."""
        theme = get_theme(self._viewer.theme)
        self._panel.quality.show_look(theme.text.as_hex("long"), theme.background.as_hex("long"))

    def follow(self, state: DockState) -> None:
        """Catch up with what happened."""
        self.cleaning.follow()
        self.tour.follow(state)
        self._panel.clean_up.show_cleaning(self.cleaning.state())
        shown, session = state.review.shown, self._controller.session
        self._panel.buttons.retitle(Action.ASIDE, "Take back" if shown in session.aside else None)
        if self._panel.quality.isVisible():
            self.show_quality()

    def show_quality(self) -> None:
        """Draw what is known of quality."""
        state = self.quality.state()
        self._panel.buttons.retitle(Action.CHECK, "Stop checking" if state.progress else None)
        self._panel.quality.show_quality(state)

    # ------------------------------------------------------------------ actions
    def check_quality(self) -> None:
        """Find out how good it is, or stop."""
        if self.quality.state().progress:
            self.quality.cancel()
        else:
            self._panel.open_quality()
            self._report(self.quality.check)

    def toggle_aside(self) -> None:
        """Set the shot on screen aside, or take it back."""
        key = self._controller.sync.shown_or_none()
        if key is not None:
            self._set_aside(key, key not in self._controller.session.aside)

    def _set_aside(self, key: FrameKey, aside: bool) -> None:
        self._report(lambda: self.quality.set_aside(key, aside))
        self._controller.proposing.refresh(self._controller.sync.shown_or_none())
        self._controller.refresh()

    def preview_clean_up(self) -> None:
        """Show what tidying would change on the slice on screen, or no longer."""
        self._panel.open_clean_up()
        self._report(self.cleaning.preview)

    def clean_up_shown(self) -> None:
        """Tidy the proposal on screen."""
        self._report(self.cleaning.tidy_shown)

    def clean_up_all(self) -> None:
        """Tidy all open proposals."""
        self._report(self.cleaning.tidy_all)

    def take_tour(self) -> None:
        """Begin the tour, or end it."""
        if self.tour.is_on:
            self.tour.end()
        else:
            self.tour.start()

    def _report(self, work: Callable[[], None]) -> None:
        """Do something, and show what a person has to mend."""
        self._controller.reporter.error = ""
        try:
            work()
        except FewShotError as error:
            self._controller.reporter.fail(error)
        self._controller.refresh()

    # ------------------------------------------------------------------ the tour
    def _show_tour(self) -> None:
        state = self.tour.state()
        self._panel.show_tour(state)

    def _help(self) -> None:
        """Do in the place of the person what the step asks for."""
        from napari_fewshot.io.samples import synthetic_cells, synthetic_cells_with_truth  # slow to import

        if not self._controller.session.frames:
            for data, attributes, _ in synthetic_cells():
                self._viewer.add_image(data, **attributes)
            self._viewer.dims.set_point(0, 0)
            return
        key = self._controller.sync.shown_or_none()
        truth = np.asarray(synthetic_cells_with_truth()[1][0])  # (12, 256, 256)
        if key is None or isinstance(key, str) or self._controller.session.frame(key).size != truth.shape[1:]:
            self._controller.reporter.tell_error("only the sample can be painted for you; paint this image yourself")
            self._controller.refresh()
            return
        class_id = self._controller.palette.class_id or 1
        self._controller.paint()
        self._link.write_accepted([(key, np.where(truth[int(key[1])] > 0, class_id, 0).astype(np.int32))])
        self._controller.edited()
