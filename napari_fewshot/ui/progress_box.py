"""What a run will cost, and how far it is."""

from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import show_text, wrapping_label
from napari_fewshot.ui.section import row
from napari_fewshot.ui.state import DockState, Progress

_STEPS = 100
"""Of the progress bar for each frame."""


class ProgressBox(QWidget):
    """Lines below the button that begins a run.

    Parameters
    ----------
    cancel
        The button that ends it.
    """

    def __init__(self, cancel: QPushButton) -> None:
        super().__init__()
        self._cancel = cancel
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.text = wrapping_label()
        self.estimate, self.warning = wrapping_label(), wrapping_label()
        self.estimate.setToolTip(
            "About: as fast as the last run. Roughly: a guess, until such a run has been measured. "
            "Slices that you have decided on are not counted."
        )
        self.warning.setStyleSheet("QLabel { border-left: 4px solid #f2c14e; padding-left: 6px; }")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.estimate, self.warning, self.bar, row(self.text, cancel, stretch=(1, 0))):
            column.addWidget(widget)
        for widget in (self.estimate, self.warning):
            widget.hide()

    def show_run(self, state: DockState, *, can_cancel: bool) -> None:
        """Draw how far the run is, or what the next one will take."""
        show_text(self.estimate, state.estimate)
        show_text(self.warning, state.warning)
        self._show_progress(state.progress)
        self._cancel.setVisible(state.progress is not None and can_cancel)

    def _show_progress(self, progress: Progress | None) -> None:
        self.bar.setVisible(progress is not None)
        self.text.setVisible(progress is not None)
        if progress is not None:
            self.bar.setUpdatesEnabled(False)  # else Qt draws it, and the whole window with it, at once
            self.bar.setRange(0, _STEPS * progress.total)
            self.bar.setValue(round(_STEPS * (progress.done + progress.part)))
            self.bar.setUpdatesEnabled(True)
            self.text.setText(progress.text)
