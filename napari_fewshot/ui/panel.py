"""Everything one sees in the dock: draws a `DockState`, says what was pressed, knows no session and no layer."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from qtpy.QtCore import QPoint, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QStyle,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.models.registry import TIMM_PREFIX
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.ui.action_buttons import ActionButtons
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.banner import Banner, SteadyLabel, show_text, wrapping_label
from napari_fewshot.ui.class_table import ClassTable
from napari_fewshot.ui.cleanup_box import CleanUpBox
from napari_fewshot.ui.cluster_box import ClusterBox
from napari_fewshot.ui.contains_menu import ContainsButton
from napari_fewshot.ui.folding import Folding
from napari_fewshot.ui.image_list import AxisChoices, ImageList, ImagesButton
from napari_fewshot.ui.memory_box import MemoryBox
from napari_fewshot.ui.model_box import ModelBox
from napari_fewshot.ui.objects_box import ObjectsBox
from napari_fewshot.ui.preferences import Preferences
from napari_fewshot.ui.progress_box import ProgressBox
from napari_fewshot.ui.quality_panel import QualityPanel
from napari_fewshot.ui.review_table import ReviewPanel
from napari_fewshot.ui.section import row, section
from napari_fewshot.ui.session_box import SessionBox
from napari_fewshot.ui.settings_form import Option, SettingsForm
from napari_fewshot.ui.state import DockState
from napari_fewshot.ui.tour import TourState
from napari_fewshot.ui.tour_box import TourBox
from napari_fewshot.ui.volume_box import VolumeBox

_TITLES = {"skip_taught": "Leave out slices taught in full"}
_UNPAINTED = (
    ("automatic", "automatic", "Unknown if you brushed some background on the slice, background otherwise."),
    ("background", "background", "You painted everything there is: the rest of the slice is background."),
    ("unknown", "unknown", "You painted examples only: nothing is said about the rest of the slice."),
)


class FewShotPanel(QWidget):
    """The widgets of the dock.

    Parameters
    ----------
    options
        Methods, backbones and devices to choose from.
    background_colour
        Of painted background.
    preferences
        What was chosen another day.
    """

    action_requested = Signal(str)
    """A button was pressed; the value of its `Action`."""
    image_chosen = Signal(str, bool)
    channel_axis_chosen = Signal(str, object)
    depth_axis_chosen = Signal(str, object)
    row_clicked = Signal(object)
    """Key of a frame in the table."""
    rows_selected = Signal(object)
    pictures_wanted = Signal(object)
    order_chosen = Signal(object)
    class_edited = Signal(object)
    brush_selected = Signal(int)
    contains_said = Signal(int, bool)
    """A class, and whether the slice on screen contains it."""
    unpainted_chosen = Signal(str)
    accept_score_chosen = Signal(float)
    refresh_chosen = Signal(bool)
    segmenter_chosen = Signal(object)
    objects_chosen = Signal(bool)
    """Whether objects that touch are to be told apart."""
    model_wanted = Signal(bool)
    """Whether the backbone is to be a model of timm, by name."""
    model_named = Signal(str)
    propagation_chosen = Signal(object)
    """Fields of `PropagationSettings` that change."""
    limits_chosen = Signal(float, float)
    prepare_chosen = Signal(bool)
    error_dismissed = Signal()
    notices_dismissed = Signal()

    def __init__(
        self,
        options: Mapping[str, Sequence[Option]],
        background_colour: str,
        preferences: Preferences,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._shown: DockState | None = None
        self._licences = {option.value: option.notice for option in options.get("backbone", ())}
        self.images = ImageList()
        self.images_button, self.contains = ImagesButton(self.images), ContainsButton()
        made = {Action.IMAGES: self.images_button, Action.CONTAINS: self.contains}
        self.buttons = ActionButtons(made, self._on_button)
        self.memory = MemoryBox(preferences, self.buttons[Action.CLEAR_KEPT])
        self.session = SessionBox(preferences)
        self.cluster = ClusterBox()
        self._everything = preferences.advanced
        self._only_advanced: list[QWidget] = []
        self.classes = ClassTable(background_colour)
        self.review = ReviewPanel()
        self.axes, self.volumes = AxisChoices(), VolumeBox()
        self.objects_box = ObjectsBox(
            *(self.buttons[action] for action in (Action.MERGE, Action.SPLIT, Action.DELETE, Action.LINK))
        )
        self.objects = self.objects_box.switch
        self.segmenter = SettingsForm(SegmenterSettings(), options, leave_out={"instances"})
        self.model = ModelBox()
        self._names_model = False
        self.quality = QualityPanel(self.buttons[Action.CHECK], self.buttons[Action.ASIDE])
        self.clean_up = CleanUpBox(
            self.buttons[Action.PREVIEW], self.buttons[Action.CLEAN], self.buttons[Action.CLEAN_ALL]
        )
        self.tour = TourBox()
        self._to_scroll_to: QWidget | None = None
        self._scroll_later = QTimer(self)  # when everything has its new place
        self._scroll_later.setSingleShot(True)
        self._scroll_later.timeout.connect(self._scroll_there)
        self.propagation = SettingsForm(
            PropagationSettings(), titles=_TITLES, leave_out={field.name for field in fields(CleanUp)}
        )

        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 4, 0)
        column.setSpacing(6)
        for part in (
            self._images_section(),
            self._classes_section(),
            self._teach_section(),
            self._propose_section(),
            self._review_section(),
            self._clean_up_section(),
            self._quality_section(),
            self.buttons[Action.EXPORT],
            section("Session", self.buttons[Action.OPEN_SESSION], self.session),
            self._advanced_section(),
        ):
            column.addWidget(part)
        column.addStretch()
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidget(content)
        self._content = content
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 2, 2)
        layout.setSpacing(6)
        layout.addWidget(self.tour)
        layout.addWidget(self._next_step_line())
        layout.addWidget(self._error_line())
        layout.addWidget(self._notices_line())
        layout.addWidget(self._scroll, 1)
        layout.addWidget(row(self.buttons[Action.VIEW], self.buttons[Action.KEYS], self.buttons[Action.TOUR]))
        self.show_everything(preferences.advanced)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._connect()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Wide enough that nothing is cut off; as high as there is room."""
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)  # type: ignore[union-attr]
        width = self._content.minimumSizeHint().width() + bar + 16
        return QSize(max(300, width), 600)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Low enough for a small screen: the rest is reached by scrolling."""
        return QSize(self.sizeHint().width(), 200)

    def _scroll_there(self) -> None:
        if self._to_scroll_to is not None:
            self.scroll_to(self._to_scroll_to)

    def scroll_to(self, widget: QWidget) -> None:
        """Bring a widget of the dock on screen."""
        self._scroll.ensureWidgetVisible(widget, 0, widget.height())

    def scroll_to_top_of(self, widget: QWidget) -> None:
        """Scroll so that what follows a widget is seen."""
        bar = self._scroll.verticalScrollBar()
        if bar is not None:
            bar.setValue(widget.mapTo(self._content, QPoint(0, 0)).y())

    def open_quality(self) -> None:
        """Let the part about quality be seen."""
        self._open(self.quality_part)

    def open_clean_up(self) -> None:
        """Let the part about clean-up be seen."""
        self._open(self.clean_up_part)

    def _open(self, part: Folding) -> None:
        if not part.is_open:
            part.open()
            self.scroll_to_top_of(part)

    def show_tour(self, state: TourState) -> None:
        """Show what the tour asks for, with a frame around the button that is to be pressed."""
        self.tour.show_tour(state)
        self.buttons.frame(state.button)
        self._to_scroll_to = None if state.button is None else self.buttons[state.button]
        self._scroll_later.start()

    @property
    def shows_everything(self) -> bool:
        """Whether the advanced view is shown."""
        return self._everything

    def show_everything(self, everything: bool) -> None:
        """Show the advanced view, or the simple one: only what is needed every day."""
        self._everything = everything
        self.buttons[Action.VIEW].setChecked(everything)
        for widget in self._only_advanced:
            widget.setVisible(everything)
        self.updateGeometry()

    # ------------------------------------------------------------------ drawing
    def show_state(self, state: DockState) -> None:
        """Draw this state; what did not change is left alone."""
        before, self._shown = self._shown, state
        if before == state:
            return
        self.next_step.setText(state.next_step)
        self.error.show_text(state.error)
        bullet = "• " if len(state.notices) > 1 else ""
        self.notices.show_text("\n".join(f"{bullet}{notice}" for notice in state.notices))
        self.images.show_images(state.images)
        self.images_button.show_images(state.images)
        self.buttons.note_title(Action.IMAGES, self.images_button.title)
        self.review.show_table(state.review, state.classes)
        self.axes.show_images(state.images)
        letters = {letter for image in state.images if image.chosen for letter in image.stack_axes}
        self.volumes.show_volumes(state.volume, sorted(letters, reverse=True))
        self.objects_box.show_objects(state)
        self.classes.show_classes(state.classes, state.brush)
        self.contains.show_classes(state.classes, state.contained)
        show_text(self.tag_note, state.tag_note)
        self.slice_line.setText(state.slice_line)
        self.slice_line.setVisible(bool(state.slice_line))
        self.buttons.enable(state.enabled)
        self.buttons.show_overlay(state.overlay)
        show_text(self.overlay_note, state.overlay_note)
        self.buttons.retitle(Action.PAINT, "Correct" if state.correcting else None)
        self.buttons.retitle(Action.ACCEPT_ABOVE, f"Accept {state.above} above")
        self.progress.show_run(state, can_cancel=Action.CANCEL in state.enabled)
        self.memory.show_kept(state.kept, state.not_preparing)
        self.model.show_model(state.model)

    # ------------------------------------------------------------------ building
    def _next_step_line(self) -> QWidget:
        self.next_step = SteadyLabel(lines=4)
        self.next_step.setStyleSheet("QLabel { font-weight: bold; padding: 2px; }")
        return self.next_step

    def _error_line(self) -> QWidget:
        self.error = Banner("fewshot_error", "#a4161a", "white")
        self.error_text, self.error_close = self.error.text, self.error.close_button
        return self.error

    def _notices_line(self) -> QWidget:
        self.notices = Banner("fewshot_notices", "#f2c14e", "black")
        return self.notices

    def _images_section(self) -> QWidget:
        many = row(self.buttons[Action.ACCEPT_SELECTED], self.buttons[Action.REJECT_SELECTED])
        self._only_advanced += [self.review.order, many]
        return section("Images to label", row(self.images_button, self.review.order), self.review, many)

    def _classes_section(self) -> QWidget:
        change = row(self.buttons[Action.ADD_CLASS], self.buttons[Action.REMOVE_CLASS])
        return section("Classes", self.classes, change, self.buttons[Action.NEXT_CLASS])

    def _teach_section(self) -> QWidget:
        self.unpainted = QComboBox()
        for number, (value, title, hint) in enumerate(_UNPAINTED):
            self.unpainted.addItem(title, value)
            self.unpainted.setItemData(number, hint, Qt.ItemDataRole.ToolTipRole)
        self.unpainted.setToolTip("\n".join(f"{title}: {hint}" for _, title, hint in _UNPAINTED))
        meaning = row(QLabel("What you left unpainted is"), self.unpainted, stretch=(0, 1))
        self.tag_note = wrapping_label()
        self.tag_note.hide()
        self._only_advanced += [meaning, self.contains]
        by_pixels = row(self.buttons[Action.PAINT], self.buttons[Action.BOX])
        as_a_whole = row(self.buttons[Action.NOTHING_HERE], self.contains)
        return section("Teach", by_pixels, self.buttons[Action.TEACH], meaning, as_a_whole, self.tag_note)

    def _propose_section(self) -> QWidget:
        self.progress = ProgressBox(self.buttons[Action.CANCEL])
        return section("Propose", self.volumes, self.objects_box, self.buttons[Action.PROPOSE], self.progress)

    def _review_section(self) -> QWidget:
        self.slice_line = QLabel()
        self.slice_line.setWordWrap(True)
        self.accept_score = QSpinBox()
        self.accept_score.setRange(0, 100)
        self.accept_score.setValue(90)
        self.accept_score.setSuffix(" %")
        self.accept_score.setToolTip("The lowest score that is good enough without a look.")
        self.refresh = QCheckBox("Refresh proposals after each decision")
        self.refresh.setChecked(True)
        self.refresh.setToolTip("Whatever you accept or teach makes all open proposals better; they are made anew.")
        self.overlay_note = wrapping_label()
        self.overlay_note.hide()
        above = row(self.buttons[Action.ACCEPT_ABOVE], self.accept_score, stretch=(1, 0))
        more = row(self.buttons[Action.PROBABILITY])
        self._only_advanced += [above, more, self.buttons[Action.CHANGE], self.refresh]
        return section(
            "Review",
            self.slice_line,
            row(self.buttons[Action.ACCEPT], self.buttons[Action.REJECT]),
            row(self.buttons[Action.NEXT], self.buttons[Action.BACK]),
            row(self.buttons[Action.UNDO], self.buttons[Action.REDO]),
            row(self.buttons[Action.UNCERTAINTY], self.buttons[Action.PROVENANCE]),
            row(self.buttons[Action.CHANGE]),
            more,
            self.overlay_note,
            above,
            self.refresh,
        )

    def _clean_up_section(self) -> QWidget:
        self.clean_up_part = Folding("Clean up", self.clean_up)
        return self.clean_up_part

    def _quality_section(self) -> QWidget:
        self.quality_part = Folding("Quality", self.quality)
        return self.quality_part

    def _advanced_section(self) -> QWidget:
        self.advanced = QCollapsible("Method, device and memory", expandedIcon="▼", collapsedIcon="▶")
        self._only_advanced += [self.advanced, self.session.autosave, self.session.beside]
        self.advanced.addWidget(self.axes)
        self.licence = wrapping_label()
        self.licence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.segmenter.put_below("backbone", self.licence)
        self.segmenter.put_below("backbone", self.model)
        self.model.hide()
        self._show_licence()
        self.advanced.addWidget(self.segmenter.native)
        self.advanced.addWidget(self.propagation.native)
        self.advanced.addWidget(self.memory)
        self.advanced.addWidget(self.cluster)
        return self.advanced

    def _show_licence(self) -> None:
        """Tell the terms of the chosen backbone's weights before they are used, or even downloaded."""
        show_text(self.licence, self._licences.get(self.segmenter["backbone"].value, ""))

    def _connect(self) -> None:
        self.images.image_chosen.connect(self.image_chosen)
        self.axes.channel_axis_chosen.connect(self.channel_axis_chosen)
        self.axes.depth_axis_chosen.connect(self.depth_axis_chosen)
        self.objects_box.chosen.connect(self.objects_chosen)
        self.volumes.chosen.connect(lambda volume: self.propagation_chosen.emit({"volume": volume}))
        self.review.row_clicked.connect(self.row_clicked)
        self.review.rows_selected.connect(self.rows_selected)
        self.review.pictures_wanted.connect(self.pictures_wanted)
        self.review.order_chosen.connect(self.order_chosen)
        self.classes.class_edited.connect(self.class_edited)
        self.classes.brush_selected.connect(self.brush_selected)
        self.contains.contains_said.connect(self.contains_said)
        self.unpainted.activated.connect(self._on_unpainted)
        self.accept_score.valueChanged.connect(self._on_accept_score)
        self.refresh.toggled.connect(self.refresh_chosen)
        self.error_close.clicked.connect(self.error_dismissed)
        self.notices.close_button.clicked.connect(self.notices_dismissed)
        self.memory.limits_chosen.connect(self.limits_chosen)
        self.memory.prepare_chosen.connect(self.prepare_chosen)
        self.segmenter.changed.connect(self._on_segmenter)
        self.model.named.connect(self.model_named)
        self.propagation.changed.connect(self._on_propagation)

    def _on_button(self) -> None:
        button = self.sender()
        if button is not None:
            self.action_requested.emit(button.objectName())

    def _on_unpainted(self, number: int) -> None:
        self.unpainted_chosen.emit(self.unpainted.itemData(number))

    def _on_accept_score(self, percent: int) -> None:
        self.accept_score_chosen.emit(percent / 100)

    def _on_segmenter(self) -> None:
        self._show_licence()
        names_model = self.segmenter["backbone"].value == TIMM_PREFIX
        if names_model != self._names_model:
            self._names_model = names_model
            self.model.setVisible(names_model)
            self.model_wanted.emit(names_model)
        settings = replace(self.segmenter.read(), instances=self.objects.isChecked())
        if names_model:  # the one in use stays until there is a model of the name that is typed
            settings = replace(settings, backbone=self._shown.backbone if self._shown else "auto")
        self.segmenter_chosen.emit(settings)

    def _on_propagation(self) -> None:
        self.propagation_chosen.emit(self.propagation.values())
