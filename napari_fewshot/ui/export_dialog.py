"""Asks which label layers to write, and where."""

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.ui.ports import ExportChoice, ExportRequest


class ExportDialog(QDialog):
    """One row for every labels layer: a tick, and the name of its file.

    Parameters
    ----------
    choices
        The layers.
    folder
        Where to write, to begin with.
    """

    def __init__(self, choices: Sequence[ExportChoice], folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export labels")
        self._choices = tuple(choices)
        self._overwrite = False
        self.folder = QLineEdit(str(folder))
        browse = QPushButton("Browse ...")
        browse.clicked.connect(self._browse)
        where = QHBoxLayout()
        where.addWidget(QLabel("Folder"))
        where.addWidget(self.folder, 1)
        where.addWidget(browse)
        rows = QGridLayout()
        self.ticks: list[QCheckBox] = []
        self.names: list[QLineEdit] = []
        for row, choice in enumerate(self._choices):
            tick, name = QCheckBox(choice.name), QLineEdit(choice.file_name)
            tick.setChecked(True)
            tick.toggled.connect(name.setEnabled)
            rows.addWidget(tick, row, 0)
            rows.addWidget(name, row, 1)
            self.ticks.append(tick)
            self.names.append(name)
        rows.setColumnStretch(1, 1)
        self.with_proposals = QCheckBox("Also open proposals, where nothing is painted or accepted")
        self.with_proposals.setToolTip("Otherwise slices that you have not decided on are empty in the files.")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        note = QLabel("TIFF files, compressed, with the size of a pixel: they open in Fiji, QuPath, napari and Python.")
        note.setWordWrap(True)
        layout.addWidget(note)
        layout.addLayout(where)
        layout.addLayout(rows)
        layout.addWidget(self.with_proposals)
        layout.addWidget(buttons)
        self.setMinimumWidth(480)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)

    def request(self) -> ExportRequest:
        """What is asked for as the dialog stands."""
        folder = Path(self.folder.text()).expanduser()
        files = tuple(
            (choice.uid, folder / _tiff(name.text()))
            for choice, tick, name in zip(self._choices, self.ticks, self.names, strict=True)
            if tick.isChecked() and name.text().strip()
        )
        return ExportRequest(files, self.with_proposals.isChecked(), self._overwrite)

    def accept(self) -> None:
        """Close if the names are different, and existing files may be replaced."""
        paths = [path for _, path in self.request().files]
        if len({str(path).casefold() for path in paths}) < len(paths):
            QMessageBox.warning(self, "Export labels", "Two files have the same name; give each its own.")
            return
        existing = [path for path in paths if path.exists()]
        if existing and not self._may_replace(existing):
            return
        self._overwrite = bool(existing)
        super().accept()

    def _may_replace(self, existing: Sequence[Path]) -> bool:
        names = "\n".join(path.name for path in existing[:10]) + ("\n..." if len(existing) > 10 else "")
        answer = QMessageBox.question(
            self,
            "Replace files?",
            f"{'These files are' if len(existing) > 1 else 'This file is'} there already:\n\n{names}\n\nReplace?",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No,
            QMessageBox.StandardButton.No,
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the labels", self.folder.text())
        if folder:
            self.folder.setText(folder)


def _tiff(name: str) -> str:
    name = name.strip()
    return name if name.lower().endswith((".tif", ".tiff")) else f"{name}.tif"
