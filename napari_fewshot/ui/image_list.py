"""The list of image layers to label behind its button, and the choice of a channel axis for each."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from qtpy.QtCore import QSize, Qt, Signal, SignalInstance
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QSizePolicy,
    QWidget,
    QWidgetAction,
)

from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import on_button
from napari_fewshot.ui.state import ImageChoice

_CHANNELS: Final = "The axis that holds channels: a slice then has all of them, and no slider moves along it."
_DEPTH: Final = "The axis along which slices lie upon each other; those that one moves along beside are time points."


class ImageList(QListWidget):
    """Image layers with a tick each; ticked ones are labelled."""

    image_chosen = Signal(str, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("Ticked images are labelled: what you teach on one is proposed on all of them.")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self._shown: tuple[ImageChoice, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.itemChanged.connect(self._on_changed)

    def show_images(self, images: Sequence[ImageChoice]) -> None:
        """Draw the layers."""
        if tuple(images) == self._shown:
            return
        self._shown = tuple(images)
        self.blockSignals(True)
        self.clear()
        for image in self._shown:
            item = QListWidgetItem(f"{image.name}  ({image.contains})" if image.contains else image.name, self)
            item.setToolTip(image.contains)
            item.setData(Qt.ItemDataRole.UserRole, image.uid)
            usable = not image.trouble
            ticked = usable and image.chosen
            item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
            if not usable:
                item.setFlags(Qt.ItemFlag.NoItemFlags)
                item.setToolTip(image.trouble)
        self.blockSignals(False)
        self.updateGeometry()

    def sizeHint(self) -> QSize:  # noqa: N802
        """As high as its rows, from one to five of them."""
        row = max(self.sizeHintForRow(0), self.fontMetrics().height())
        return QSize(super().sizeHint().width(), row * max(1, min(self.count(), 5)) + 2 * self.frameWidth() + 8)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """No smaller than that."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())

    def _on_changed(self, item: QListWidgetItem) -> None:
        ticked = item.checkState() == Qt.CheckState.Checked
        self.image_chosen.emit(item.data(Qt.ItemDataRole.UserRole), ticked)


class ImagesButton(QPushButton):
    """Says how many images are ticked; opens the list of them.

    Parameters
    ----------
    images
        The list.
    """

    def __init__(self, images: ImageList, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = ""
        """How many images are ticked, in words."""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        menu, holder = QMenu(self), QWidgetAction(self)
        holder.setDefaultWidget(images)
        menu.addAction(holder)
        self.setMenu(menu)
        self.show_images(())

    def show_images(self, images: Sequence[ImageChoice]) -> None:
        """Count the images; one that cannot be labelled is pointed out."""
        ticked = sum(image.chosen and not image.trouble for image in images)
        count = f"{ticked} of {len(images)}" if images else "none"
        self.title = f"Images: {count}" + ("  ⚠" if any(image.trouble for image in images) else "")
        self.setText(on_button(Action.IMAGES, self.title))


class AxisChoices(QWidget):
    """For every stack: which of its axes holds channels, and which is depth, if any."""

    channel_axis_chosen = Signal(str, object)
    depth_axis_chosen = Signal(str, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._shown: tuple[ImageChoice, ...] = ()
        self.hide()

    def show_images(self, images: Sequence[ImageChoice]) -> None:
        """Draw a choice for every image that has axes to choose from."""
        with_axes = tuple(image for image in images if image.axes)
        if with_axes == self._shown:
            return
        self._shown = with_axes
        while self._form.rowCount():
            self._form.removeRow(0)
        for image in with_axes:
            channels = _choice(image.uid, image.axes, image.channel_axis, "none", _CHANNELS)
            channels.activated.connect(partial(self._tell, self.channel_axis_chosen, channels))
            self._form.addRow(QLabel(f"Channels of {image.name}"), channels)
            if image.sliders:
                depth = _choice(image.uid, image.sliders, image.depth_axis, "none, it is a movie", _DEPTH)
                depth.activated.connect(partial(self._tell, self.depth_axis_chosen, depth))
                self._form.addRow(QLabel(f"Depth of {image.name}"), depth)
        self.setVisible(bool(with_axes))

    def _tell(self, chosen: SignalInstance, box: QComboBox, row: int) -> None:
        chosen.emit(box.objectName(), box.itemData(row))


def _choice(uid: str, axes: Sequence[tuple[int, str]], chosen: int | None, nothing: str, hint: str) -> QComboBox:
    box = QComboBox()
    box.setObjectName(uid)
    box.setToolTip(hint)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.addItem(nothing, None)
    for axis, name in axes:
        box.addItem(name, axis)
    box.setCurrentIndex([None, *(axis for axis, _ in axes)].index(chosen))  # Qt finds everything but None
    return box
