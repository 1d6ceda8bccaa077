"""The part of the dock about objects that touch: a switch, and below it tools to mend them."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QPushButton, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import show_text, wrapping_label
from napari_fewshot.ui.section import row
from napari_fewshot.ui.state import DockState, ObjectTool


class ObjectsBox(QWidget):
    """A switch, and tools that are seen when it is on.

    Parameters
    ----------
    merge, split, delete, link
        Buttons of the tools.
    """

    chosen = Signal(bool)
    """Whether objects are to be told apart."""

    def __init__(
        self,
        merge: QPushButton,
        split: QPushButton,
        delete: QPushButton,
        link: QPushButton,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.switch = QCheckBox("Separate touching objects")
        self.switch.setToolTip(
            "Number every object, on a layer of its own where each has its colour. Number those of your examples there "
            "as well, with the brush; what you do not number is one object where it is connected."
        )
        self._buttons = {ObjectTool.MERGE: merge, ObjectTool.SPLIT: split, ObjectTool.DELETE: delete}
        self._tools = QWidget()
        self.note = wrapping_label()
        self.note.hide()
        inner = QVBoxLayout(self._tools)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        inner.addWidget(row(merge, split))
        inner.addWidget(row(delete, link))
        inner.addWidget(self.note)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.switch)
        column.addWidget(self._tools)
        self._tools.hide()
        self.switch.clicked.connect(self.chosen)

    def show_objects(self, state: DockState) -> None:
        """Draw this state."""
        self.switch.setChecked(state.objects)
        self._tools.setVisible(state.objects)
        for tool, button in self._buttons.items():
            button.setChecked(state.tool is tool)
        show_text(self.note, state.object_note)
