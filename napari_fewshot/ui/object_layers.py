"""Layers on which every object has a number of its own, and the tool that draws lines over them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from psygnal import Signal

from napari_fewshot.errors import ImageError
from napari_fewshot.ui.drawing_tool import DrawingTool
from napari_fewshot.ui.label_layers import LabelLayers
from napari_fewshot.ui.layer_role import give_role
from napari_fewshot.ui.linked_image import LinkedImage
from napari_fewshot.ui.screen import Screen
from napari_fewshot.ui.viewer_layers import ViewerLayers


class ObjectLayers:
    """Keeps the layer of objects of each image, and tells what is drawn over it.

    Parameters
    ----------
    layers
        Of the viewer.
    labels
        Makes the layers.
    screen
        What is looked at.
    tool
        Draws lines.
    """

    drawn = Signal(object)
    """A line was drawn over objects: [(row, column), ...] in pixels of the frame on screen; of a click one point."""

    def __init__(self, layers: ViewerLayers, labels: LabelLayers, screen: Screen, tool: DrawingTool) -> None:
        self._layers, self._labels, self._screen = layers, labels, screen
        tool.drawn.connect(self._on_line)

    def ensure(self, linked: LinkedImage) -> bool:
        """Make the layer where there is none; one of that name that fits is used. Returns whether it is new."""
        is_new = linked.objects is None or not linked.layout.fits(linked.objects.data)
        if is_new:
            self._find_or_add(linked)
        elif not linked.separates:
            linked.objects.visible = bool(linked.image.visible)
        linked.separates = True
        return is_new

    def _find_or_add(self, linked: LinkedImage) -> None:
        name = f"{linked.image.name} objects"
        there: Any = next((layer for layer in self._layers if isinstance(layer, Labels) and layer.name == name), None)
        if there is not None and linked.layout.fits(there.data) and isinstance(there.data, np.ndarray):
            linked.objects = there
            give_role(there, "objects")
            self._labels.watch(there)
        else:
            linked.objects = self._labels.add(linked, "objects", opacity=0.6)

    def hide(self, images: Iterable[LinkedImage]) -> None:
        """Let these layers be seen no more; what is on them stays."""
        for linked in images:
            linked.separates = False
            if linked.objects is not None:
                linked.objects.visible = False

    def _on_line(self, path: npt.NDArray[np.float64]) -> None:
        """A line (N, n) over a layer of objects; what is outside of the plane is where the sliders stand."""
        linked = self._screen.image()
        if linked is None or linked.objects is None:
            return
        try:
            index = linked.layout.label_index(self._screen.position_in(linked), linked.objects.data.ndim)
        except ImageError:  # a cut is on screen, say: whoever hears of it tells what can be done
            self.drawn.emit([])
            return
        plane = [axis for axis, at in enumerate(index) if isinstance(at, slice)]
        self.drawn.emit([(float(row), float(column)) for row, column in path[:, plane]])
