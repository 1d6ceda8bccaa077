"""The part of the dock that shows the tour, and the entry of napari's menu that begins it."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFrame, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import wrapping_label
from napari_fewshot.ui.section import row
from napari_fewshot.ui.tour import TourState

if TYPE_CHECKING:
    import napari.viewer

FRAME = "QPushButton { border: 2px solid #f2a33c; }"
"""Style of the button that is to be pressed."""


class TourBox(QFrame):
    """What to do now, how far the tour is, and ways to skip a step or all of it."""

    help_wanted = Signal()
    skipped = Signal()
    ended = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("fewshot_tour")
        self.setStyleSheet("#fewshot_tour { border: 2px solid #f2a33c; border-radius: 4px; }")
        self.title, self.text = QLabel(), wrapping_label()
        self.title.setStyleSheet("QLabel { font-weight: bold; }")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(6)
        self.help, self.skip, self.end = QPushButton(), QPushButton("Skip step"), QPushButton("End tour")
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(4)
        for widget in (self.title, self.progress, self.text, self.help, row(self.skip, self.end)):
            column.addWidget(widget)
        self.help.clicked.connect(self.help_wanted)
        self.skip.clicked.connect(self.skipped)
        self.end.clicked.connect(self.ended)
        self.hide()

    def show_tour(self, state: TourState) -> None:
        """Draw this state."""
        self.setVisible(state.step > 0)
        if not state.step:
            return
        self.title.setText(f"Tour {state.step} of {state.steps}: {state.title}")
        self.text.setText(state.text)
        self.progress.setRange(0, state.steps)
        self.progress.setValue(state.step)
        self.help.setText(state.help)
        self.help.setVisible(bool(state.help))
        self.skip.setVisible(not state.is_last)
        self.end.setText("Finish" if state.is_last else "End tour")


class TourStarter(QLabel):
    """Opens the dock, begins the tour there, and goes away.

    Parameters
    ----------
    napari_viewer
        The viewer.
    """

    def __init__(self, napari_viewer: "napari.viewer.Viewer") -> None:
        super().__init__("The tour goes on in 'Few-shot propagation'.")
        self._viewer = napari_viewer
        QTimer.singleShot(0, self.begin)  # once napari has put it into its window

    def begin(self) -> None:
        """Begin the tour, in the dock that is open already if there is one."""
        from napari_fewshot.ui.dock import FewShotDock

        window = self._viewer.window
        _, dock = window.add_plugin_dock_widget("napari-fewshot", "Few-shot propagation")
        if isinstance(dock, FewShotDock):
            dock.take_tour()
        if self.parentWidget() is not None:
            window.remove_dock_widget(self)
