"""The part of the dock about quality: draws a `QualityState`, and says what was pressed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QFontInfo, QImage, QPixmap, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_fewshot.frames import FrameKey
from napari_fewshot.ui.banner import show_text, wrapping_label
from napari_fewshot.ui.plots import Look, class_picture, curve_picture
from napari_fewshot.ui.quality import QualityState, ShotLine

_STEPS = 1000
_MOST_LINES = 8
"""Taught images that are listed: those that hurt or are set aside, then those that are proposed worst."""


class QualityPanel(QWidget):
    """What is known of how good it is: in words, in two pictures, and image by image.

    Parameters
    ----------
    check
        The button that begins to find out, or stops.
    aside
        The button that sets the shot on screen aside.
    """

    aside_chosen = Signal(object, bool)
    """Key of a taught frame, and whether it is to be set aside."""
    frame_wanted = Signal(object)
    """Key of a frame to go to."""
    seen = Signal()
    """It came on screen, and should be up to date."""

    def __init__(self, check: QPushButton, aside: QPushButton, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = QualityState()
        self._look = Look(300)
        self._drawn: object = None
        self.headline, self.forecast, self.old = wrapping_label(), wrapping_label(), wrapping_label()
        self.old.setText("You taught something since. Check again to see what it changed.")
        self.old.setStyleSheet("QLabel { border-left: 4px solid #f2c14e; padding-left: 6px; }")
        self.progress, self.progress_text = QProgressBar(), wrapping_label()
        self.progress.setRange(0, _STEPS)
        self.progress.setTextVisible(False)
        self.class_plot, self.curve_plot = _Picture(), _Picture()
        self.class_plot.setAccessibleName("IoU of each class")
        self.curve_plot.setAccessibleName("IoU against the number of images taught")
        self.class_plot.setToolTip("A dot for each image that you taught: how well it is proposed from all others.")
        self.curve_plot.setToolTip(
            "Dots: measured on images that were left out. Line: fitted to them, dashed where it looks ahead. "
            "Shaded: where it is with a probability of 90 %."
        )
        self.shots, self.more = QVBoxLayout(), wrapping_label()
        self.shots.setSpacing(2)
        self.unlike_note, self.unlike = wrapping_label(), QVBoxLayout()
        self.unlike.setSpacing(2)
        self.agreement, self.effort = wrapping_label(), wrapping_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for each in (
            self.headline, check, self.progress, self.progress_text, self.old, self.class_plot, self.forecast,
            self.curve_plot, self.shots, self.more, aside, self.unlike_note, self.unlike, self.agreement, self.effort,
        ):  # fmt: skip
            if isinstance(each, QWidget):
                column.addWidget(each)
            else:
                column.addLayout(each)
        self.show_quality(self._state)

    def show_quality(self, state: QualityState) -> None:
        """Draw this state."""
        before, self._state = self._state, state
        self.headline.setText(state.headline)
        show_text(self.forecast, state.forecast)
        self.old.setVisible(state.is_old)
        self.progress.setVisible(bool(state.progress))
        self.progress.setValue(round(_STEPS * state.part))
        show_text(self.progress_text, state.progress)
        if state.shots != before.shots:
            _fill(self.shots, [self._shot_row(line) for line in _most_telling(state.shots)])
        hidden = len(state.shots) - _MOST_LINES
        show_text(self.more, f"and {hidden} more that do well" if hidden > 0 and _is_judged(state) else "")
        show_text(self.unlike_note, state.unlike_note)
        if state.unlike != before.unlike:
            _fill(self.unlike, [self._link_to(key, name) for key, name in state.unlike])
        show_text(self.agreement, state.agreement)
        show_text(self.effort, state.effort)
        self._draw()

    def show_look(self, ink: str, ground: str) -> None:
        """Draw pictures in the colours of the window, ``#rrggbb``."""
        self._look = replace(self._look, ink=ink, ground=ground)
        self._draw()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Draw pictures as wide as there is room."""
        super().resizeEvent(event)
        self._draw()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Bring it up to date."""
        super().showEvent(event)
        self.seen.emit()
        self._draw()

    def _draw(self) -> None:
        """Draw the pictures anew where something about them changed; not as long as nobody sees them."""
        state = self._state
        self.class_plot.setVisible(bool(state.classes))
        self.curve_plot.setVisible(state.curve is not None)
        if not self.isVisible() or self.width() < 100:
            return
        font = float(QFontInfo(self.font()).pixelSize())
        look = replace(self._look, width=self.width(), ratio=self.devicePixelRatioF(), font=font)
        wanted = (look, state.classes, state.curve)
        if wanted == self._drawn:
            return
        self._drawn = wanted
        if state.classes:
            self.class_plot.show_picture(class_picture(state.classes, look), look.ratio)
        if state.curve is not None:
            self.curve_plot.show_picture(curve_picture(state.curve, look), look.ratio)

    def _shot_row(self, line: ShotLine) -> QWidget:
        """A taught image: its name to go there, how well it does, and a button to set it aside."""
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        row = QHBoxLayout()
        row.setSpacing(4)
        iou = QLabel("" if line.iou is None else f"{line.iou:.2f}")
        iou.setToolTip("How well it is proposed from all others (IoU).")
        aside = QPushButton("Take back" if line.aside else "Set aside")
        aside.setToolTip(
            "Learn from it again."
            if line.aside
            else "Do not learn from it any more. Its labels stay; Undo takes it back."
        )
        aside.clicked.connect(lambda _=False, key=line.key, is_aside=line.aside: self._on_aside(key, not is_aside))
        row.addWidget(self._link_to(line.key, line.name), 1)
        row.addWidget(iou)
        row.addWidget(aside)
        column.addLayout(row)
        if line.note:
            note = wrapping_label()
            note.setText(line.note)
            colour = "#e07b39" if line.hurts else "#888888"
            note.setStyleSheet(f"QLabel {{ border-left: 4px solid {colour}; padding-left: 6px; }}")
            column.addWidget(note)
        return whole

    def _link_to(self, key: FrameKey, name: str) -> QPushButton:
        return _link(name, lambda: self.frame_wanted.emit(key))

    def _on_aside(self, key: object, aside: bool) -> None:
        self.aside_chosen.emit(key, aside)


class _Picture(QLabel):
    """A picture that takes the width that there is, and asks for none."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_picture(self, rgba: npt.NDArray[np.uint8], ratio: float) -> None:
        """Show (H, W, 4) pixels, so many of them to a point of the screen."""
        height, width = rgba.shape[:2]
        image = QImage(rgba.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
        pixmap = QPixmap.fromImage(image)
        pixmap.setDevicePixelRatio(ratio)
        self.setPixmap(pixmap)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """No wider than anything else."""
        return QSize(1, super().minimumSizeHint().height())


def _most_telling(shots: tuple[ShotLine, ...]) -> list[ShotLine]:
    order = sorted(shots, key=lambda line: (not line.hurts, not line.aside, 2.0 if line.iou is None else line.iou))
    return order[:_MOST_LINES]


def _is_judged(state: QualityState) -> bool:
    return any(line.iou is not None for line in state.shots)


def _link(name: str, on_click: Callable[[], None]) -> QPushButton:
    button = QPushButton(name)
    button.setFlat(True)
    button.setToolTip(f"Go to {name}")
    button.setCursor(Qt.CursorShape.PointingHandCursor)
    button.setStyleSheet("QPushButton { text-align: left; padding: 2px; text-decoration: underline; }")
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.clicked.connect(lambda _=False: on_click())
    return button


def _fill(layout: QVBoxLayout, widgets: list[QWidget]) -> None:
    """Put these widgets in the place of those that are there."""
    while (item := layout.takeAt(0)) is not None:
        widget = item.widget()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
    for widget in widgets:
        layout.addWidget(widget)
