"""The Shapes layers with boxes that lie on images: made, or taken over from a person who made one."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from napari.layers import Shapes

from napari_fewshot.boxes import Box
from napari_fewshot.ui.box_layer import box_layer, boxes_on, colour_boxes, draw_with, take_over
from napari_fewshot.ui.label_layers import UNNAMED_COLOUR, LabelLayers
from napari_fewshot.ui.layer_role import give_role, role, role_of
from napari_fewshot.ui.linked_image import LinkedImage, is_usable
from napari_fewshot.ui.viewer_layers import ViewerLayers


class DrawnBoxes:
    """Finds and makes layers of boxes.

    Parameters
    ----------
    layers
        Of the viewer.
    labels
        Knows the colours of the classes.
    images
        Returns the images that there are.
    watch
        Is given every layer of boxes.
    """

    def __init__(
        self,
        layers: ViewerLayers,
        labels: LabelLayers,
        images: Iterable[LinkedImage],
        watch: Callable[[Any], None],
    ) -> None:
        self._layers, self._labels, self._images, self._watch = layers, labels, images, watch

    def draw(self, linked: LinkedImage, class_id: int) -> None:
        """Let boxes of a class be drawn on the layer of an image; one that is selected is taken."""
        self.keep(linked, class_id)
        if linked.boxes is None:
            linked.boxes = box_layer(linked.image, linked.layout, linked.channel_axis, role("boxes"))
            self._layers.add(linked.boxes)
            self._watch(linked.boxes)
        linked.boxes.visible = True
        self._layers.select(linked.boxes)
        draw_with(linked.boxes, class_id, self._labels.colours.get(class_id, UNNAMED_COLOUR))

    def on(self, linked: LinkedImage, dims: Any, position: tuple[int, ...], class_id: int) -> Sequence[Box]:
        """Return the boxes on one slice; those on a layer that a person made and selected are of this class."""
        layer = self._layer_of(linked) if is_usable(linked) else None
        if layer is None:
            return ()
        return boxes_on(layer, linked.image, linked.layout, dims, position, class_id)

    def keep(self, linked: LinkedImage, class_id: int) -> None:
        """Keep the layer that boxes are read from for an image, whatever is selected later."""
        layer = self._layer_of(linked)
        if layer is None or layer is linked.boxes:
            return
        linked.boxes = layer
        give_role(layer, "boxes")
        take_over(layer, class_id)
        colour_boxes(layer, self._labels.colours)
        self._watch(layer)

    def _layer_of(self, linked: LinkedImage) -> Any:
        """The layer with the boxes of an image: its own, the selected one, or one of an earlier dock."""
        if linked.boxes is not None:
            return linked.boxes
        taken = {other.boxes.unique_id for other in self._images if other.boxes is not None}
        for layer in self._layers:
            if not isinstance(layer, Shapes) or layer.unique_id in taken or role_of(layer) == "line":
                continue
            is_of_before = role_of(layer) == "boxes" and layer.name == f"{linked.image.name} boxes"
            if is_of_before or self._layers.is_selected(layer):
                return layer
        return None
