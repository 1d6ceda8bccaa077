"""Layers with a value for each pixel: made beside an image, coloured, and written to."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_fewshot.errors import ImageError
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.layer_geometry import geometry_like
from napari_fewshot.ui.layer_role import role, role_of
from napari_fewshot.ui.linked_image import LinkedImage, pixel_indices, slice_of
from napari_fewshot.ui.ports import PAINTED_BACKGROUND
from napari_fewshot.ui.screen import Screen
from napari_fewshot.ui.viewer_layers import ViewerLayers

BACKGROUND_COLOUR: Final = "#9ecae1"
UNNAMED_COLOUR: Final = "#ff00ff"
_HISTORY_PIXELS = 5_000_000  # more than this in one step would fill the memory with napari's undo records

Position = tuple[int, ...]
Change = tuple[Position, npt.NDArray[np.bool_], npt.NDArray[Any]]
"""Where, on which pixels of the slice (H, W), and which values (H, W)."""


class LabelLayers:
    """Makes and writes the layers of labels, proposals and objects of images.

    Parameters
    ----------
    layers
        Of the viewer.
    screen
        What is looked at: what is written elsewhere need not be drawn.
    watch
        Is given every layer that a person may paint on.
    """

    def __init__(self, layers: ViewerLayers, screen: Screen, watch: Callable[[Any], None]) -> None:
        self._layers, self._screen, self.watch = layers, screen, watch
        self.classes: tuple[LabelClass, ...] = ()

    @property
    def colours(self) -> dict[int, str]:
        """Of the classes, by id."""
        return {c.id: c.colour for c in self.classes}

    def add(self, linked: LinkedImage, name: Literal["labels", "proposals", "objects"], *, opacity: float) -> Any:
        """Make an empty layer that lies on an image: above it, and in the order of these names."""
        layout = linked.layout
        layer = Labels(
            layout.empty_labels(np.int32 if name == "objects" else np.uint8),
            name=f"{linked.image.name} {name}",
            opacity=opacity,
            metadata=role(name),
            **geometry_like(linked.image, drop_axis=None if layout.keeps_channel_axis else linked.channel_axis),
        )
        if name != "objects":  # of which each has a colour of its own, as napari gives it
            self.colour(layer)
        self._layers.insert_above(linked.layer_below(name), layer)
        with self._layers.quietly():
            layer.visible = bool(linked.image.visible)
        self.watch(layer)
        return layer

    def colour(self, layer: Any) -> None:
        """Give a layer the colours and names of the classes."""
        colours: dict[int | None, Any] = {c.id: c.colour for c in self.classes}
        colours |= {None: UNNAMED_COLOUR, 0: "transparent", PAINTED_BACKGROUND: BACKGROUND_COLOUR}
        names = [c.name for c in self.classes]
        unpainted = "background" if role_of(layer) == "proposals" else "not painted"
        with self._layers.quietly():
            layer.colormap = DirectLabelColormap(color_dict=colours)
            layer.features = {
                "index": [0, *(c.id for c in self.classes), PAINTED_BACKGROUND],
                "name": [unpainted, *names, "background"],
            }

    # ------------------------------------------------------------------ writing
    def put(self, linked: LinkedImage, layer: Any, position: Position, labels: npt.NDArray[Any] | int) -> None:
        """Write one whole slice, without napari's undo."""
        layer.data[linked.layout.label_index(position, layer.data.ndim)] = labels
        with self._layers.quietly(), suppress(ImageError):
            if self._screen.cut() is not None or self._screen.position_in(linked) == position:
                layer.refresh(extent=False)

    def write(self, linked: LinkedImage, layer: Any, slices: Sequence[Change]) -> None:
        """Write some pixels of several slices, as one step of napari's undo where memory allows."""
        layout = linked.layout
        with self._layers.quietly():
            if sum(int(mask.sum()) for _, mask, _ in slices) > _HISTORY_PIXELS:
                for position, mask, values in slices:
                    layer.data[layout.label_index(position, layer.data.ndim)][mask] = values[mask]
            else:
                with layer.block_history():
                    for position, mask, values in slices:
                        rows, columns = np.nonzero(mask)
                        if len(rows):
                            index = pixel_indices(layout.label_index(position, layer.data.ndim), rows, columns)
                            layer.data_setitem(index, values[mask], refresh=False)
            layer.refresh(extent=False)

    def accepting(self, linked: LinkedImage, accepted: Mapping[Position, npt.NDArray[Any]]) -> list[Change]:
        """What to write into the labels layer of an image when (H, W) labels are accepted: nothing over what is there.

        It counts as written from now on.
        """
        changes = []
        for position, labels in accepted.items():
            there, before = slice_of(linked, linked.labels, position), linked.written.get(position)
            news = np.where(there == 0, labels, 0).astype(np.uint8)
            linked.written[position] = news if before is None else np.where(there == before, before, 0) | news
            changes.append((position, news != 0, news))
        return changes

    def unwriting(self, linked: LinkedImage, positions: Sequence[Position]) -> list[Change]:
        """What to write to take out again what was accepted there, and nothing else; it counts as taken out."""
        changes = []
        for position in positions:
            written = linked.written.pop(position, None)
            if written is not None and linked.labels is not None:
                ours = (written != 0) & (slice_of(linked, linked.labels, position) == written)
                changes.append((position, ours, np.zeros_like(written)))
        return changes
