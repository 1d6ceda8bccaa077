"""Shapes layers on which a person draws boxes around things: made, coloured, and read as boxes of one frame."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes

from napari_fewshot.boxes import Box
from napari_fewshot.ui.axes import Layout
from napari_fewshot.ui.label_layers import UNNAMED_COLOUR
from napari_fewshot.ui.layer_geometry import geometry_like, world_to_layer_units

CLASS: Final = "class"
"""Column of the layer's feature table: the id of what is in a box."""

_AREAS: Final = ("rectangle", "ellipse", "polygon")
_EDGE_PIXELS: Final = 2


def box_layer(image: Any, layout: Layout, channel_axis: int | None, metadata: Mapping[str, Any]) -> Any:
    """Make an empty Shapes layer that lies where an image lies."""
    drop_axis = None if layout.keeps_channel_axis else channel_axis
    ndim = layout.ndim - (drop_axis is not None)
    return Shapes(
        None,
        ndim=ndim,
        name=f"{image.name} boxes",
        face_color="transparent",
        edge_width=_EDGE_PIXELS,
        features={CLASS: np.zeros(0, np.int64)},
        metadata=dict(metadata),
        **geometry_like(image, drop_axis=drop_axis),
    )


def take_over(layer: Any, class_id: int) -> None:
    """Make boxes that are there already, without a class, boxes of this class."""
    if CLASS not in layer.features:
        layer.features = {CLASS: np.full(len(layer.data), class_id, np.int64)}


def draw_with(layer: Any, class_id: int, colour: str) -> None:
    """Draw rectangles of this class from now on; those that are there stay what they are."""
    layer.selected_data = set()
    layer.mode = "add_rectangle"
    layer.feature_defaults = {CLASS: [class_id]}
    layer.current_face_color = "transparent"
    layer.current_edge_color = colour


def colour_boxes(layer: Any, colours: Mapping[int, str]) -> None:
    """Give every box the colour of its class."""
    if CLASS in layer.features and len(layer.data):
        layer.edge_color = [colours.get(class_id, UNNAMED_COLOUR) for class_id in _classes(layer)]


def boxes_on(
    layer: Any, image: Any, layout: Layout, dims: Any, position: tuple[int, ...], class_id: int
) -> Sequence[Box]:
    """Return the boxes that lie on one slice of an image, in its pixels; lines and paths are none.

    Of ellipses, polygons and rectangles that were turned the box around them counts. A layer without classes holds
    boxes of ``class_id``. One without an axis of sliders that the image has says the same of all its slices.
    """
    return tuple(_boxes(layer, image, layout, dims, position, class_id))


def _boxes(
    layer: Any, image: Any, layout: Layout, dims: Any, position: tuple[int, ...], class_id: int
) -> Iterator[Box]:
    reached = range(layout.ndim - min(layout.ndim, layer.ndim), layout.ndim)  # axes of the image that the layer has
    classes = _classes(layer) if CLASS in layer.features else [class_id] * len(layer.data)
    for vertices, kind, what in zip(layer.data, layer.shape_type, classes, strict=True):
        if kind not in _AREAS:
            continue
        points = _in_image(layer, np.asarray(vertices, float), image, layout.ndim, dims)  # (N, ndim)
        middle = points.mean(0)
        sliders = zip(layout.sliders, position, strict=True)
        if any(axis in reached and round(middle[axis]) != at for axis, at in sliders):
            continue
        (top, left), (bottom, right) = (edge(points[:, layout.plane], axis=0) + 0.5 for edge in (np.min, np.max))
        if bottom > top and right > left:  # a click without a drag is none
            yield Box(float(top), float(left), float(bottom), float(right), what)


def _in_image(
    layer: Any, vertices: npt.NDArray[np.float64], image: Any, ndim: int, dims: Any
) -> npt.NDArray[np.float64]:
    """Vertices (N, n) of a layer as pixel coordinates (N, ndim) of an image, 0 on axes that the layer has not."""
    shared = min(ndim, layer.ndim)
    to_layer, to_image = world_to_layer_units(dims, layer), world_to_layer_units(dims, image)
    found = []
    for vertex in vertices:
        world = np.zeros(ndim)
        world[ndim - shared :] = (np.asarray(layer.data_to_world(vertex)) / to_layer)[-shared:]
        found.append(np.asarray(image.world_to_data(world * to_image)))
    return np.array(found)


def _classes(layer: Any) -> list[int]:
    """Class of every shape; napari gives columns of whole numbers back as floats now and then."""
    return [int(class_id) for class_id in layer.features[CLASS]]
