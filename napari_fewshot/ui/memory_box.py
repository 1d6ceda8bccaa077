"""The part of Advanced about memory and disk: how much of what was computed is kept, and whether to work ahead."""

from typing import Final

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QGroupBox, QPushButton, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import wrapping_label
from napari_fewshot.ui.preferences import Preferences

_LARGEST: Final = 100_000.0  # GiB


class MemoryBox(QGroupBox):
    """Limits, what is taken, a button to clear it, and the choice to prepare images.

    Parameters
    ----------
    preferences
        To begin with.
    clear_button
        That gives up what is kept.
    """

    limits_chosen = Signal(float, float)
    """GiB of memory, GiB on the disk."""
    prepare_chosen = Signal(bool)

    def __init__(self, preferences: Preferences, clear_button: QPushButton, parent: QWidget | None = None) -> None:
        super().__init__("Memory and disk", parent)
        folder = str(preferences.cache.features_folder)
        self.prepare = QCheckBox("Prepare images while I paint")
        self.prepare.setChecked(preferences.prepare)
        self.prepare.setToolTip("Images are gone through in the background, so that proposals come sooner.")
        self.memory = _limit(preferences.memory_gib, "Memory that may be used to keep what was computed of images.")
        self.disk = _limit(
            preferences.disk_gib, f"Disk space for the same, so that it is there tomorrow. It lies in {folder}"
        )
        self.kept, self.not_preparing = wrapping_label(), wrapping_label()
        self.kept.setToolTip(folder)
        self.not_preparing.hide()
        form = QFormLayout()
        form.addRow("Keep in memory", self.memory)
        form.addRow("Keep on disk", self.disk)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(4)
        column.addWidget(self.prepare)
        column.addWidget(self.not_preparing)
        column.addLayout(form)
        column.addWidget(self.kept)
        column.addWidget(clear_button)
        self.memory.valueChanged.connect(self._on_limit)
        self.disk.valueChanged.connect(self._on_limit)
        self.prepare.toggled.connect(self.prepare_chosen)

    def show_kept(self, kept: str, not_preparing: str) -> None:
        """Say what is taken, and why images are not prepared, if they are not."""
        self.kept.setText(kept)
        self.not_preparing.setText(not_preparing)
        self.not_preparing.setVisible(bool(not_preparing))

    def _on_limit(self) -> None:
        self.limits_chosen.emit(self.memory.value(), self.disk.value())


def _limit(gib: float, hint: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0, _LARGEST)
    box.setDecimals(1)
    box.setSingleStep(0.5)
    box.setSuffix(" GiB")
    box.setSpecialValueText("off")
    box.setKeyboardTracking(False)  # a limit takes effect when it is typed in full: "10" must not pass through "1"
    box.setToolTip(f"{hint} 0 turns it off.")
    box.setValue(gib)
    return box
