"""Asks which label layers to write, and where."""

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
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

from napari_fewshot.io.formats import LABEL_FORMATS, OBJECTS, LabelFormat
from napari_fewshot.io.ome_zarr import is_zarr
from napari_fewshot.ui.ports import ExportChoice, ExportRequest


class ExportDialog(QDialog):
    """The format, and one row for every labels layer: a tick, and the name of its file.

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
        self.format = QComboBox()
        self.format.addItems([each.title for each in LABEL_FORMATS])
        self.shared = QLineEdit()  # the one file of formats that put all images into it
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
            tick.toggled.connect(self._follow)
            rows.addWidget(tick, row, 0)
            rows.addWidget(name, row, 1)
            self.ticks.append(tick)
            self.names.append(name)
        rows.setColumnStretch(1, 1)
        self.with_proposals = QCheckBox("Also open proposals, where nothing is painted or accepted")
        self.with_proposals.setToolTip("Otherwise slices that you have not decided on are empty in the files.")
        self.with_origins = QCheckBox("Also who labelled what: you, the model, or both")
        self.with_origins.setToolTip(
            "An image for each labels layer, '..._provenance.tif', with the origin of every pixel's label, and "
            "'provenance.csv', a table of all slices. Open proposals count as the model's."
        )
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout.addWidget(self.format)
        layout.addWidget(self.note)
        layout.addLayout(where)
        layout.addWidget(self.shared)
        layout.addLayout(rows)
        layout.addWidget(self.with_proposals)
        layout.addWidget(self.with_origins)
        layout.addWidget(buttons)
        self.setMinimumWidth(480)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
        self._shown = LABEL_FORMATS[0]
        self.format.currentIndexChanged.connect(self._change_format)
        self._change_format()

    def request(self) -> ExportRequest:
        """What is asked for as the dialog stands."""
        chosen = self._chosen()
        files = tuple(
            (choice.uid, self._path(choice, self.shared if chosen.joint else name))
            for choice, tick, name in zip(self._choices, self.ticks, self.names, strict=True)
            if tick.isChecked() and (self.shared if chosen.joint else name).text().strip()
        )
        return ExportRequest(
            files, self.with_proposals.isChecked(), self._overwrite, chosen.name, self.with_origins.isChecked()
        )

    def accept(self) -> None:
        """Close if the names are different, and existing files may be replaced."""
        request = self.request()
        paths = [path for _, path in request.files]
        if not self._chosen().joint and len({str(path).casefold() for path in paths}) < len(paths):
            QMessageBox.warning(self, "Export labels", "Two files have the same name; give each its own.")
            return
        written = [*map(self._replaced, paths), *self._beside(request)]
        existing = [path for path in dict.fromkeys(written) if path.exists()]
        if existing and not self._may_replace(existing):
            return
        self._overwrite = bool(existing)
        super().accept()

    def _beside(self, request: ExportRequest) -> list[Path]:
        """Files with the numbers of objects, and with who labelled what."""
        by_uid, chosen = {choice.uid: choice for choice in self._choices}, self._chosen()
        files = [
            self._replaced(chosen.beside(path, OBJECTS))
            for uid, path in request.files
            if by_uid[uid].told_apart and not chosen.joint
        ]
        if not request.with_origins or not request.files:
            return files
        origins = [request.origins_file(by_uid[uid], path) for uid, path in request.files]
        return [*files, *origins, request.origins_table]

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

    def _chosen(self) -> LabelFormat:
        return LABEL_FORMATS[self.format.currentIndex()]

    def _path(self, choice: ExportChoice, name: QLineEdit) -> Path:
        """Where labels go: beside their image in its own OME-Zarr, otherwise into the folder."""
        if self._chosen().name == "ome-zarr" and choice.source is not None and is_zarr(choice.source):
            return choice.source
        return self._chosen().named(Path(self.folder.text()).expanduser() / name.text().strip())

    def _replaced(self, path: Path) -> Path:
        """What writing to a path would replace."""
        if self._chosen().name == "ome-zarr":
            return path / "labels" / "labels"
        return path.with_suffix("") if self._chosen().name == "png" and path.with_suffix("").is_dir() else path

    def _change_format(self) -> None:
        """Say what the format is for, and let names end as its files do."""
        chosen = self._chosen()
        for name in self.names:
            stem = name.text()
            ending = next((each for each in self._shown.suffixes if each and stem.lower().endswith(each)), "")
            name.setText(f"{stem[: len(stem) - len(ending)]}{chosen.suffix}")
        self.shared.setText(f"labels{chosen.suffix}")
        self.note.setText(chosen.summary)
        self._shown = chosen
        self._follow()

    def _follow(self) -> None:
        joint = self._chosen().joint
        self.shared.setVisible(joint)
        for tick, name in zip(self.ticks, self.names, strict=True):
            name.setVisible(not joint)
            name.setEnabled(tick.isChecked())

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the labels", self.folder.text())
        if folder:
            self.folder.setText(folder)
