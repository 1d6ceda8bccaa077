"""The button by which a slice is said to contain some classes: a menu with a tick for each."""

from collections.abc import Collection, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QPushButton, QSizePolicy, QWidget

from napari_fewshot.support import LabelClass


class ContainsButton(QPushButton):
    """Shows what the slice on screen is said to contain; a tick more or less says something else."""

    contains_said = Signal(int, bool)
    """A class, and whether the slice contains it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._menu = QMenu(self)
        self.setMenu(self._menu)
        self._shown: tuple[LabelClass, ...] = ()

    def show_classes(self, classes: Sequence[LabelClass], contained: Collection[int]) -> None:
        """Draw a tick for each class, set where the slice is said to contain it."""
        if tuple(classes) != self._shown:
            self._shown = tuple(classes)
            self._menu.clear()
            for shown in self._shown:
                action = self._menu.addAction(shown.name)
                assert action is not None
                action.setCheckable(True)
                action.setData(shown.id)
                action.triggered.connect(self._on_triggered)
        for action in self._menu.actions():
            action.setChecked(action.data() in contained)

    def _on_triggered(self, ticked: bool) -> None:
        action = self.sender()
        if action is not None:
            self.contains_said.emit(action.data(), ticked)  # type: ignore[attr-defined]
