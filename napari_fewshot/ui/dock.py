"""The widget that napari opens: puts panel, controller, layers and threads together, and takes them apart again."""

import atexit
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet, ref

from napari.utils.notifications import notification_manager, show_error, show_info
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QApplication, QDialog, QFileDialog, QMainWindow, QMessageBox, QVBoxLayout, QWidget

from napari_fewshot.errors import FewShotError
from napari_fewshot.io.image_places import KnownImage
from napari_fewshot.models import licence_notice, list_backbones, list_segmenters
from napari_fewshot.models.registry import TIMM_PREFIX
from napari_fewshot.session import Session
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import OF_COMPANIONS, OF_THE_WINDOW, Action
from napari_fewshot.ui.cluster_run import ClusterRun
from napari_fewshot.ui.companions import Companions
from napari_fewshot.ui.controller import Controller
from napari_fewshot.ui.export_dialog import ExportDialog
from napari_fewshot.ui.feature_store import FeatureStore
from napari_fewshot.ui.forecast import Forecast
from napari_fewshot.ui.keymap import KEYMAP
from napari_fewshot.ui.keys_dialog import KeysDialog
from napari_fewshot.ui.label_layers import BACKGROUND_COLOUR
from napari_fewshot.ui.layer_link import LayerLink
from napari_fewshot.ui.machine import room
from napari_fewshot.ui.model_choice import ModelChoice
from napari_fewshot.ui.opening import Opening
from napari_fewshot.ui.panel import FewShotPanel
from napari_fewshot.ui.ports import ExportChoice, ExportRequest
from napari_fewshot.ui.preferences import Preferences, change_preferences, read_preferences
from napari_fewshot.ui.runner import ThreadRunner
from napari_fewshot.ui.saving import Saving, sessions_folder
from napari_fewshot.ui.session_layers import SessionLayers
from napari_fewshot.ui.settings_form import Option
from napari_fewshot.ui.state import DockState
from napari_fewshot.ui.upkeep import Upkeep

if TYPE_CHECKING:
    import napari.viewer

_LEAVE_SECONDS = 10.0  # that the end of the program waits for threads
_DEVICES = (
    Option("auto", "auto", "The fastest there is on this computer."),
    Option("cuda", "cuda", "An NVIDIA graphics card."),
    Option("mps", "mps", "The graphics part of an Apple chip."),
    Option("cpu", "cpu", "The processor: works everywhere."),
)


class FewShotDock(QWidget):
    """Few-shot labelling in napari.

    Parameters
    ----------
    napari_viewer
        The viewer that it belongs to.
    session
        To go on with; a new one by default.
    """

    _saved = Signal()
    _all: ClassVar["WeakSet[FewShotDock]"] = WeakSet()

    def __init__(self, napari_viewer: "napari.viewer.Viewer", session: Session | None = None) -> None:
        super().__init__()
        preferences = read_preferences()
        KEYMAP.use(preferences.keys)
        self.panel = FewShotPanel(_options(), BACKGROUND_COLOUR, preferences)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self._folder = Path.home()
        self._follow: Callable[[DockState], None] = lambda _: None  # the controller draws before there are others
        self._parts = _Parts(napari_viewer)
        parts, features = self._parts, FeatureStore(preferences.cache)
        if session is None:
            session = Session(classes=[LabelClass(1, "object")], load=features.load)
        forecast = Forecast(lambda limits: room(limits.features_folder))
        upkeep = Upkeep(
            session, forecast, features, parts.preparer, parts.keeper, preferences, remember=self._remember_limits
        )
        models = ModelChoice(features, parts.librarian)
        self.controller = Controller(
            session, self, parts.link, parts.runner, parts.exporter, forecast, upkeep, models, parts.looker
        )
        self.companions = Companions(
            napari_viewer, self.controller, self.panel, parts.link, parts.checker, parts.tidier
        )
        self._follow = self.companions.follow
        napari_viewer.events.theme.connect(self.companions.show_theme)
        images = SessionLayers(napari_viewer, parts.link)
        saving = Saving(session, parts.link, images, enabled=preferences.autosave, beside=preferences.beside)
        self.saving = parts.saving = saving
        self._wire()
        self.opening = Opening(parts.opener, self._ask_image, self._take_up, self.controller.reporter)
        self._wire_saving(napari_viewer)
        self.cluster = ClusterRun(session, parts.submitter, self.controller.reporter)
        self._wire_cluster()
        KEYMAP.changed.connect(self._on_keys)
        parts.unwatch.append(partial(_disconnect_keys, ref(self)))
        self.destroyed.connect(self._parts.close)
        self._all.add(self)
        atexit.unregister(_leave)
        atexit.register(_leave)  # the last to be registered is the first to be called: before Qt's own
        self._upkeep = upkeep

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work for this dock."""
        return any(runner.is_busy for runner in self._parts.runners)

    # ------------------------------------------------------------------ the controller's view
    def show_state(self, state: DockState) -> None:
        """Draw a state."""
        self.panel.show_state(state)
        self._follow(state)

    def take_tour(self) -> None:
        """Begin the tour."""
        self.companions.tour.start()

    def notify(self, message: str, *, error: BaseException | None = None, is_error: bool = False) -> None:
        """Say something in passing, in napari's way; an unexpected error comes with its traceback."""
        if error is not None:
            notification_manager.receive_error(type(error), error, error.__traceback__)
        elif is_error:
            show_error(message)
        else:
            show_info(message)

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered by yes or no."""
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return bool(QMessageBox.question(self, "Few-shot propagation", question, yes | no, no) == yes)

    def ask_export(self, choices: Sequence[ExportChoice]) -> ExportRequest | None:
        """Ask what to export and where."""
        dialog = ExportDialog(choices, self._folder, self)
        answer = dialog.exec()
        request = dialog.request()
        dialog.deleteLater()
        if answer != QDialog.DialogCode.Accepted:
            return None
        if request.files:
            self._folder = request.files[0][1].parent
        return request

    # ------------------------------------------------------------------ life
    def event(self, event: QEvent | None) -> bool:
        """Bind the keys when the dock is shown in its window; shut down when it is taken out."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parentWidget() is None:
            self._parts.close()
        if event is not None and event.type() == QEvent.Type.Show:
            self._bind_keys()
            self._upkeep.look()
        return bool(super().event(event))

    def _wire(self) -> None:
        panel, controller = self.panel, self.controller
        panel.action_requested.connect(self._on_action)
        panel.image_chosen.connect(controller.choose_image)
        panel.channel_axis_chosen.connect(controller.set_channel_axis)
        panel.depth_axis_chosen.connect(controller.set_depth_axis)
        panel.row_clicked.connect(controller.go_to)
        panel.rows_selected.connect(controller.select_rows)
        panel.pictures_wanted.connect(controller.look_at)
        panel.order_chosen.connect(controller.set_order)
        panel.class_edited.connect(controller.change_class)
        panel.brush_selected.connect(controller.select_brush)
        panel.contains_said.connect(controller.say_contains)
        panel.unpainted_chosen.connect(controller.set_unpainted)
        panel.accept_score_chosen.connect(controller.set_accept_score)
        panel.refresh_chosen.connect(controller.set_refresh_after_decision)
        panel.segmenter_chosen.connect(controller.use_settings)
        panel.objects_chosen.connect(controller.separate_objects)
        panel.model_wanted.connect(controller.want_model)
        panel.model_named.connect(controller.name_model)
        panel.propagation_chosen.connect(controller.use_propagation)
        panel.limits_chosen.connect(controller.set_limits)
        panel.prepare_chosen.connect(controller.set_prepare)
        panel.error_dismissed.connect(controller.dismiss_error)
        panel.notices_dismissed.connect(controller.dismiss_notices)
        link = self._parts.link
        link.layers_changed.connect(controller.layers_changed)
        link.slice_changed.connect(controller.slice_changed)
        link.edited.connect(controller.edited)
        link.brushed.connect(controller.brushed)
        link.drawn.connect(controller.drawn)
        link.tool_dropped.connect(controller.put_tool_away)

    def _wire_saving(self, viewer: "napari.viewer.Viewer") -> None:
        saving, box, link = self.saving, self.panel.session, self._parts.link
        box.saving_chosen.connect(self._choose_saving)
        self._saved.connect(self._show_saving)
        saving.changed.connect(self._saved.emit)  # in whatever thread; Qt brings it into its own
        link.edited.connect(self._note_strokes)
        link.layers_changed.connect(saving.follow)
        box.opening_cancelled.connect(self.opening.cancel)
        self.opening.changed.connect(self._show_opening)
        viewer.layers.events.removing.connect(self._parts.before_removal)
        self._parts.unwatch.append(lambda: viewer.layers.events.removing.disconnect(self._parts.before_removal))
        self._show_saving()

    def _wire_cluster(self) -> None:
        box, run = self.panel.cluster, self.cluster
        box.run_wanted.connect(run.start)
        box.cancel_wanted.connect(run.cancel)
        run.changed.connect(self._show_cluster)

    def _show_cluster(self) -> None:
        self.panel.cluster.show_run(self.cluster.line)
        self.controller.refresh()  # an error may have come of it

    def _show_saving(self) -> None:
        self.panel.session.show_line(self.saving.line)

    def _show_opening(self) -> None:
        self.panel.session.show_opening(self.opening.line)
        self.controller.refresh()  # an error may have come of it

    def _note_strokes(self) -> None:
        with suppress(FewShotError):  # another one shows it
            self.saving.note_strokes(self._parts.link.shown())

    def _choose_saving(self, enabled: bool, beside: bool) -> None:
        self.saving.choose(enabled=enabled, beside=beside)
        self._remember(autosave=enabled, beside=beside)

    def _remember(self, **changes: Any) -> None:
        """Keep what was chosen for another day."""
        try:
            change_preferences(**changes)
        except FewShotError as error:
            self.notify(str(error), is_error=True)

    def _remember_limits(self, chosen: Preferences) -> None:
        self._remember(memory_gib=chosen.memory_gib, disk_gib=chosen.disk_gib, prepare=chosen.prepare)

    # ------------------------------------------------------------------ actions that are the window's own
    def add_class(self) -> None:
        """Add a class, and let its name be typed."""
        self.controller.add_class()
        self.panel.classes.name_last()

    def show_images(self) -> None:
        """Open the list of images."""
        self.panel.images_button.showMenu()

    def show_contains(self) -> None:
        """Open the menu of what the slice on screen contains."""
        if self.panel.contains.isEnabled():
            self.panel.contains.showMenu()

    def change_view(self) -> None:
        """Go from the simple view to the advanced one, or back."""
        self.panel.show_everything(not self.panel.shows_everything)
        self._remember(advanced=self.panel.shows_everything)

    def change_keys(self) -> None:
        """Let keys be changed."""
        dialog = KeysDialog(KEYMAP, self._window(), self)
        dialog.exec()
        dialog.deleteLater()
        self._remember(keys=KEYMAP.chosen)

    def ask_for_session(self) -> None:
        """Ask which session to open, and open it."""
        begin = self.saving.folder or sessions_folder()
        chosen = QFileDialog.getExistingDirectory(self, "Open session", str(begin.parent))
        if chosen:
            self.open_session(Path(chosen))

    def open_session(self, folder: Path) -> None:
        """Go on with a saved session: it is read in a thread, then its images and labels come on screen.

        What goes wrong is shown, and the session at work stays.
        """
        self.opening.start(folder)

    def _take_up(self, contents: SessionContents, folder: SessionFolder) -> None:
        self.controller.cancel()
        try:
            self.saving.take_up(contents, folder)
        finally:
            self.controller.layers_changed()

    def _ask_image(self, name: str, known: KnownImage) -> str | None:
        """Ask where an image is that was not found."""
        title = f"Where is '{name}'? It was at {known.place.path}"
        chosen, _ = QFileDialog.getOpenFileName(self, title, str(Path.home()))
        return chosen or None

    def _on_action(self, name: str) -> None:
        action = Action(name)
        self.companions.effort.click()
        beside = self.companions if action in OF_COMPANIONS else self.controller
        getattr(self if action in OF_THE_WINDOW else beside, action.value)()

    def _window(self) -> QMainWindow | None:
        window = self.parentWidget()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        return window

    def _bind_keys(self) -> None:
        """Make the keys work wherever in the window the focus is, also when the dock floats or is behind another."""
        window = self._window()
        if window is None or self._parts.shortcuts:
            return
        for action in Action:
            if not KEYMAP[action]:
                continue
            shortcut = QShortcut(QKeySequence(KEYMAP[action]), window)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(self._on_shortcut)
            shortcut.setObjectName(action.value)
            self._parts.shortcuts.append(shortcut)

    def _on_keys(self) -> None:
        """Keys were changed, in this dock or in another one."""
        self._parts.drop_shortcuts()
        self._bind_keys()
        self.panel.buttons.show_keys()
        self.controller.refresh()

    def _on_shortcut(self) -> None:
        shortcut = self.sender()
        if shortcut is not None:
            self._on_action(shortcut.objectName())


def _disconnect_keys(dock: "ref[FewShotDock]") -> None:
    there = dock()
    if there is not None:
        KEYMAP.changed.disconnect(there._on_keys)


class _Parts:
    """What must be let go of when the dock closes; holds neither the dock nor its controller."""

    def __init__(self, viewer: Any) -> None:
        self.link = LayerLink(viewer)
        self.runner = ThreadRunner("Few-shot proposals")
        self.exporter = ThreadRunner("Exporting labels")
        self.preparer = ThreadRunner("")
        self.keeper = ThreadRunner("")
        self.librarian = ThreadRunner("")
        self.looker = ThreadRunner("")
        self.checker = ThreadRunner("")
        self.tidier = ThreadRunner("")
        self.submitter = ThreadRunner("Run on cluster")
        self.opener = ThreadRunner("Opening session")
        self.shortcuts: list[QShortcut] = []
        self.saving: Saving | None = None
        self.unwatch: list[Callable[[], None]] = []

    @property
    def runners(self) -> tuple[ThreadRunner, ...]:
        return (
            self.runner, self.exporter, self.preparer, self.keeper, self.librarian, self.looker, self.checker,
            self.tidier, self.submitter, self.opener,
        )  # fmt: skip

    def before_removal(self, event: Any = None) -> None:
        if self.saving is not None:
            self.saving.before_removal()

    def close(self) -> None:
        self.runner.stop()
        if self.saving is not None:
            self.saving.changed.disconnect()  # its thread may outlive the window, which must hear no more of it
            self.saving.close()
        for unwatch in self.unwatch:
            with suppress(Exception):  # the viewer may be half gone
                unwatch()
        self.unwatch.clear()
        self.preparer.stop()
        self.librarian.stop()
        self.looker.stop()
        self.checker.stop()
        self.tidier.stop()
        self.submitter.stop()
        self.opener.stop()
        self.keeper.let_finish()
        self.exporter.let_finish()
        self.drop_shortcuts()
        self.link.close()

    def drop_shortcuts(self) -> None:
        for shortcut in self.shortcuts:
            try:
                shortcut.setEnabled(False)
                shortcut.deleteLater()
            except RuntimeError:  # gone with its window
                pass
        self.shortcuts.clear()


def _leave() -> None:
    """Save what is not saved and end all threads while Qt is there: not everybody closes the window before leaving."""
    for dock in list(FewShotDock._all):
        with suppress(RuntimeError):  # gone with its window
            dock._parts.close()
            dock.setParent(None)
            dock.deleteLater()  # now: where Qt does it at its own end, some programs crash
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    ThreadRunner.wait_for_all(_LEAVE_SECONDS)


def _options() -> dict[str, list[Option]]:
    """Methods, backbones and devices, as they are registered; imports no torch."""
    methods = [Option(card.name, card.title, f"{card.summary}\n{card.inside}") for card in list_segmenters()]
    backbones = [Option(card.name, card.name, card.summary, licence_notice(card.name)) for card in list_backbones()]
    best = Option("auto", "auto", "The best that needs no download.")
    other = Option(TIMM_PREFIX, "another model of timm ...", "Any network of the timm library, by its name.")
    return {"method": methods, "backbone": [best, *backbones, other], "device": list(_DEVICES)}
