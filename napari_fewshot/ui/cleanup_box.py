"""The part of the dock about clean-up: draws a `CleaningState`, and says what was chosen."""

from typing import Final

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import show_text, wrapping_label
from napari_fewshot.ui.cleaning import CleaningState
from napari_fewshot.ui.section import row

_LARGEST: Final = 1_000_000
_DELAY: Final = 200  # ms


class CleanUpBox(QWidget):
    """What to do to proposals, a preview, and buttons to do it.

    Parameters
    ----------
    preview, shown, all_open
        The buttons.
    """

    steps_chosen = Signal(object)
    """Fields of `CleanUp` that change."""
    threshold_chosen = Signal(object)
    """For the class of the brush, in (0, 1], or None."""

    def __init__(
        self, preview: QPushButton, shown: QPushButton, all_open: QPushButton, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._preview = preview
        self.smooth = _length("Smooth outlines over about this many pixels.")
        self.max_hole = _count("Fill holes inside objects, up to this many pixels large.")
        self.split_neck = _length(
            "Cut touching objects apart where the place between them is narrower than both by this many pixels. "
            "Smaller cuts more."
        )
        self.min_area = _count("Remove objects with fewer pixels than this.")
        self.largest_only = QCheckBox("Keep only the largest object")
        self.largest_only.setToolTip("Of each class, on each slice.")
        self.threshold = QSpinBox()
        self.threshold.setRange(0, 100)
        self.threshold.setSuffix(" %")
        self.threshold.setSpecialValueText("as proposed")
        self.threshold.setToolTip(
            "How probable the class of the brush must be on a pixel. More than 50 % leaves out what is unsure, "
            "less takes in more."
        )
        self.threshold_title = QLabel("Probability")
        self.note = wrapping_label()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.addRow("Smooth outlines", self.smooth)
        form.addRow("Fill holes up to", self.max_hole)
        form.addRow("Split touching", self.split_neck)
        form.addRow("Remove below", self.min_area)
        form.addRow(self.threshold_title, self.threshold)
        form.addRow(self.largest_only)
        about = wrapping_label()
        about.setText("Tidies proposals, those that come later too. What you painted or corrected is never touched.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(about)
        column.addLayout(form)
        column.addWidget(preview)
        column.addWidget(self.note)
        column.addWidget(row(shown, all_open))
        self._waiting = QTimer(self)  # a preview is made when somebody stops turning a number, not for each
        self._waiting.setSingleShot(True)
        self._waiting.setInterval(_DELAY)
        self._waiting.timeout.connect(self._tell)
        self._is_showing = False
        for box in (self.smooth, self.max_hole, self.split_neck, self.min_area):
            box.valueChanged.connect(self._on_change)
        self.largest_only.toggled.connect(self._on_change)
        self.threshold.valueChanged.connect(self._on_threshold)

    def show_cleaning(self, state: CleaningState) -> None:
        """Draw this state."""
        self._is_showing = True
        try:
            if not self._waiting.isActive():  # what is being typed is newer
                self.smooth.setValue(state.steps.smooth)
                self.max_hole.setValue(state.steps.max_hole)
                self.split_neck.setValue(state.steps.split_neck)
                self.min_area.setValue(state.steps.min_area)
                self.largest_only.setChecked(state.steps.largest_only)
            self.threshold.setEnabled(bool(state.class_id))
            self.threshold.setValue(round(100 * state.steps.thresholds.get(state.class_id, 0)))
        finally:
            self._is_showing = False
        name = state.class_name if len(state.class_name) < 16 else f"{state.class_name[:14]}…"
        self.threshold_title.setText(f"'{name}' from" if name else "Probability from")
        self._preview.setChecked(state.is_previewing)
        show_text(self.note, state.note)

    def _on_change(self) -> None:
        if not self._is_showing:
            self._waiting.start()

    def _tell(self) -> None:
        self.steps_chosen.emit(
            {
                "smooth": self.smooth.value(),
                "max_hole": self.max_hole.value(),
                "split_neck": self.split_neck.value(),
                "min_area": self.min_area.value(),
                "largest_only": self.largest_only.isChecked(),
            }
        )

    def _on_threshold(self, percent: int) -> None:
        if not self._is_showing:
            self.threshold_chosen.emit(percent / 100 if percent else None)


def _count(hint: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(0, _LARGEST)
    box.setSuffix(" px")
    box.setSpecialValueText("off")
    box.setKeyboardTracking(False)
    box.setToolTip(hint)
    return box


def _length(hint: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0, 100)
    box.setDecimals(1)
    box.setSingleStep(0.5)
    box.setSuffix(" px")
    box.setSpecialValueText("off")
    box.setKeyboardTracking(False)
    box.setToolTip(hint)
    return box
