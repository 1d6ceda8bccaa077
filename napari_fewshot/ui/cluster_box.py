"""The part of the dock that lets a cluster do the work."""

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget


class ClusterBox(QWidget):
    """Where the workers are, a button that starts and one that stops, and how far it is."""

    run_wanted = Signal(str, Path)
    """The place, and the folder for the labels."""
    cancel_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.place = QLineEdit("local:2")
        self.place.setToolTip(
            "local:2 starts two processes on this computer; tcp://HOST:8786 is a Dask scheduler that runs;\n"
            "slurm:workers=4,cores=8,memory=16GB asks SLURM. Images and folder must be seen from there."
        )
        self.start = QPushButton("Run on cluster ...")
        self.start.setToolTip("Propose for all slices of all images, from files to files; the dock stays free.")
        self.stop = QPushButton("Cancel")
        self.stop.setToolTip("Stop the run. What is done stays; running into the same folder goes on from there.")
        self.stop.setEnabled(False)
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.line.setVisible(False)
        row = QHBoxLayout()
        for button in (self.start, self.stop):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        place = QFormLayout()
        place.addRow("Workers", self.place)
        column.addLayout(place)
        column.addLayout(row)
        column.addWidget(self.line)
        self.start.clicked.connect(self._on_start)
        self.stop.clicked.connect(self.cancel_wanted)

    def show_run(self, line: str) -> None:
        """Say how far a run is; "" where there is none."""
        self.line.setText(line)
        self.line.setVisible(bool(line))
        self.start.setEnabled(not line)
        self.place.setEnabled(not line)
        self.stop.setEnabled(bool(line))

    def _on_start(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the labels", str(Path.home()))
        if folder:
            self.run_wanted.emit(self.place.text().strip(), Path(folder))
