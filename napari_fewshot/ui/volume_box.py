"""The part of the dock about stacks and movies: what neighbouring slices have to say."""

from collections.abc import Sequence
from typing import Final

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSpinBox, QVBoxLayout, QWidget

from napari_fewshot.volumes.settings import VolumeSettings

_LARGEST: Final = 1_000_000
_DELAY: Final = 300  # ms
_TITLES: Final = {"Z": "through the depth (z)", "T": "through time (t)"}


class VolumeBox(QWidget):
    """A switch for neighbouring slices, and below it what there is to choose then; hidden where there is no stack."""

    chosen = Signal(object)
    """The `VolumeSettings` to use from now on."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.neighbours = QCheckBox("Use neighbouring slices")
        self.neighbours.setToolTip(
            "A slice is proposed for together with those above and below it, or before and after it. How much they "
            "count is learnt from what you taught; where they do not help, they do not count."
        )
        self.along = QComboBox()
        self.along.setToolTip("What slices follow each other along.")
        self.first = _slices("First slice that is proposed for.", 0)
        self.last = _slices("Last slice that is proposed for.", -1, "the last one")
        self.min_extent = _slices("Leave out objects that are on fewer slices in a row than this.", 1, "off")
        self.fill_gaps = _slices("Fill in an object that is missing on up to this many slices in a row.", 0, "off")
        self.interpolate = QCheckBox("Interpolate between painted slices")
        self.interpolate.setToolTip(
            "Between two slices that you painted in full, the shapes half-way from one to the other count as well."
        )
        self._options = QWidget()
        self._form = QFormLayout(self._options)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setSpacing(4)
        self._form.addRow("Slices follow", self.along)
        self._form.addRow("From slice", self.first)
        self._form.addRow("To slice", self.last)
        self._form.addRow("On at least", self.min_extent)
        self._form.addRow("Fill gaps up to", self.fill_gaps)
        self._form.addRow(self.interpolate)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.neighbours)
        column.addWidget(self._options)
        self._waiting = QTimer(self)  # proposals are made anew when somebody stops turning a number, not for each
        self._waiting.setSingleShot(True)
        self._waiting.setInterval(_DELAY)
        self._waiting.timeout.connect(self._tell)
        self._is_showing = False
        self._axes: tuple[str, ...] = ()
        self.show_volumes(VolumeSettings(), "")
        for box in (self.first, self.last, self.min_extent, self.fill_gaps):
            box.valueChanged.connect(self._on_change)
        for switch in (self.neighbours, self.interpolate):
            switch.toggled.connect(self._on_change)
        self.along.activated.connect(self._on_change)

    def show_volumes(self, settings: VolumeSettings, axes: Sequence[str]) -> None:
        """Draw settings, with the letters of the axes that there are to choose from, or none."""
        self.setVisible(bool(axes) or settings.are_used)
        if self._waiting.isActive():  # what is being chosen is newer
            return
        self._is_showing = True
        try:
            letters = tuple(dict.fromkeys([*axes, *settings.along])) or ("Z",)
            if letters != self._axes:
                self._axes = letters
                chosen = self.along.currentData()
                self.along.clear()
                for letter in letters:
                    self.along.addItem(_TITLES.get(letter, f"along {letter}"), letter)
                self.along.setCurrentIndex(max(0, self.along.findData(chosen)))
            self.neighbours.setChecked(settings.are_used)
            if settings.are_used:
                self.along.setCurrentIndex(self.along.findData(settings.along))
            self.first.setValue(settings.first)
            self.last.setValue(settings.last)
            self.min_extent.setValue(settings.min_extent)
            self.fill_gaps.setValue(settings.fill_gaps)
            self.interpolate.setChecked(settings.interpolate)
        finally:
            self._is_showing = False
        self._options.setVisible(self.neighbours.isChecked())

    def _on_change(self) -> None:
        self._options.setVisible(self.neighbours.isChecked())
        if not self._is_showing:
            self._waiting.start()

    def _tell(self) -> None:
        last = self.last.value()
        self.chosen.emit(
            VolumeSettings(
                self.along.currentData() if self.neighbours.isChecked() else "",
                self.first.value(),
                -1 if last == -1 else max(last, self.first.value()),
                self.min_extent.value(),
                self.fill_gaps.value(),
                self.interpolate.isChecked(),
            )
        )


def _slices(hint: str, least: int, off: str = "") -> QSpinBox:
    box = QSpinBox()
    box.setRange(least, _LARGEST)
    box.setSpecialValueText(off)
    box.setKeyboardTracking(False)
    box.setToolTip(hint)
    return box
