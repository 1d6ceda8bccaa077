"""A line that is drawn with the mouse over a label layer, and seen while it is drawn."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes
from psygnal import Signal

from napari_fewshot.ui.layer_geometry import world_to_layer_units
from napari_fewshot.ui.layer_role import role
from napari_fewshot.ui.linked_image import unwrapped
from napari_fewshot.ui.viewer_layers import ViewerLayers

_COLOUR: Final = "#ffd166"
_WIDTH: Final = 3.0  # pixels of the screen
_STEP: Final = 0.5  # pixels of the image that the mouse moves before it counts


class DrawingTool:
    """Turns strokes of the mouse over a layer into lines, as long as that layer is selected and no tool of its own is.

    Parameters
    ----------
    viewer
        A napari viewer.
    layers
        Those of the viewer.
    """

    drawn = Signal(object)
    """A line (N, n) in coordinates of the layer; of a click N is 1."""
    dropped = Signal()
    """Somebody took another tool, or selected another layer."""

    def __init__(self, viewer: Any, layers: ViewerLayers) -> None:
        self._viewer, self._layers = viewer, layers
        self._layer: Any = None
        self._line: Any = None
        self._is_adding = False

    def take(self, layer: Any) -> None:
        """Draw over this layer from now on: a drag draws instead of moving the picture."""
        layer = unwrapped(layer)  # a proxy does not let itself be changed
        if self._layer is layer:
            return
        self.drop()
        with self._layers.quietly():
            layer.visible = True
            self._layers.select(layer)
            layer.mode = "pan_zoom"
            layer.mouse_pan = False
            layer.cursor = "cross"
        layer.mouse_drag_callbacks.append(self._drag)
        layer.events.mode.connect(self._on_other)
        self._viewer.layers.selection.events.active.connect(self._on_other)
        self._layer = layer

    def drop(self) -> None:
        """Draw no longer."""
        layer, self._layer = self._layer, None
        if layer is None:
            return
        self._viewer.layers.selection.events.active.disconnect(self._on_other)
        layer.events.mode.disconnect(self._on_other)
        with suppress(ValueError):
            layer.mouse_drag_callbacks.remove(self._drag)
        if layer.mode == "pan_zoom":
            layer.mouse_pan = True
            layer.cursor = "standard"
        line, self._line = self._line, None
        if line is not None:
            self._layers.remove(line)

    def _on_other(self, event: Any = None) -> None:
        layer = self._layer
        if layer is None or self._is_adding or (self._layers.is_selected(layer) and layer.mode == "pan_zoom"):
            return
        self.drop()
        self.dropped.emit()

    def _drag(self, layer: Any, event: Any) -> Iterator[None]:
        """One stroke, as napari hands it over: a press, moves, and the release."""
        if event.button != 1:
            return
        path = [self._at(layer, event)]
        yield
        while event.type == "mouse_move":
            point = self._at(layer, event)
            if np.abs(point - path[-1]).max() >= _STEP:
                path.append(point)
                self._show(layer, path)
            yield
        if self._line is not None:
            with self._layers.quietly():
                self._line.data = []
        self.drawn.emit(np.array(path))

    def _at(self, layer: Any, event: Any) -> npt.NDArray[np.float64]:
        """Where the mouse is, in pixels of the layer."""
        world = np.asarray(event.position, float)[-layer.ndim :] * world_to_layer_units(self._viewer.dims, layer)
        return np.asarray(layer.world_to_data(world), float)

    def _show(self, layer: Any, path: list[npt.NDArray[np.float64]]) -> None:
        with self._layers.quietly():
            if self._line is None or self._line not in self._viewer.layers:
                self._line = Shapes(
                    None,
                    ndim=layer.ndim,
                    name=f"{layer.name}: line",
                    metadata=role("line"),
                    scale=layer.scale,
                    translate=layer.translate,
                    rotate=layer.rotate,
                    shear=layer.shear,
                    affine=layer.affine,
                    **{name: getattr(layer, name) for name in ("units", "axis_labels") if hasattr(layer, name)},
                )
                self._is_adding = True  # napari selects what is added, and the other one again
                try:
                    self._layers.insert(len(self._viewer.layers), self._line)
                finally:
                    self._is_adding = False
            owner = self._viewer.scene if hasattr(self._viewer, "scene") else self._viewer  # since napari 0.9
            width = _WIDTH / max(1e-6, float(owner.camera.zoom) * float(np.abs(layer.scale).min()))
            self._line.data = []
            self._line.add_paths([np.array(path)], edge_color=_COLOUR, edge_width=width)
