"""The image layer with a picture of one slice, lying where the slice of its image lies: doubt, change, provenance."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_fewshot.provenance import COLOURS, Origin
from napari_fewshot.ui.axes import Layout
from napari_fewshot.ui.layer_geometry import geometry_like
from napari_fewshot.ui.layer_role import role
from napari_fewshot.ui.linked_image import LinkedImage
from napari_fewshot.ui.state import Overlay, OverlayPicture
from napari_fewshot.ui.viewer_layers import ViewerLayers

_MOST_DOUBT = 0.6
"""With two classes nothing is less certain than 0.5; with many hardly anything is less certain than this."""
_CLEAR = (0.0, 0.0, 0.0, 0.0)


def _with_alpha(colour: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue, 0.75


_CHANGE: Final = Colormap(
    [_CLEAR, (0.1, 0.8, 0.3, 0.9), (0.9, 0.1, 0.8, 0.9), (1.0, 0.9, 0.1, 0.9)],
    interpolation="zero",
    controls=[0, 0.25, 0.5, 0.75, 1],
    name="fewshot change",
)
_COLOURS: Final = {
    Overlay.UNCERTAINTY: Colormap(
        [_CLEAR, (1.0, 0.85, 0.2, 0.55), (0.9, 0.1, 0.1, 0.9)], controls=[0, 0.5, 1], name="fewshot uncertainty"
    ),
    Overlay.CHANGE: _CHANGE,
    Overlay.CLEAN_UP: _CHANGE,
    Overlay.PROVENANCE: Colormap(
        [_CLEAR, *(_with_alpha(COLOURS[origin]) for origin in Origin if origin is not Origin.NONE)],
        interpolation="zero",
        controls=[n / len(Origin) for n in range(len(Origin) + 1)],
        name="fewshot provenance",
    ),
    Overlay.PROBABILITY: Colormap(
        [(0.0, 0.0, 0.1, 0.7), (0.1, 0.5, 0.6, 0.7), (1.0, 0.95, 0.6, 0.7)], name="fewshot probability"
    ),
}
_LIMITS: Final = {
    Overlay.UNCERTAINTY: (0.0, _MOST_DOUBT),
    Overlay.CHANGE: (0, 4),
    Overlay.CLEAN_UP: (0, 4),
    Overlay.PROBABILITY: (0.0, 1.0),
    Overlay.PROVENANCE: (0, len(Origin)),
}


class SliceOverlay:
    """The layer of a picture that lies over one slice; there is one at the most.

    Parameters
    ----------
    layers
        Of the viewer.
    """

    def __init__(self, layers: ViewerLayers) -> None:
        self._layers = layers
        self._layer: Any = None
        self._same_as: tuple[str, tuple[int, ...]] = "", ()
        """What another picture must have in common with this one to go on its layer: image and shape."""

    @property
    def is_there(self) -> bool:
        """Whether there is such a layer, seen or not."""
        return self._layer is not None

    def show(self, linked: LinkedImage, position: tuple[int, ...], picture: OverlayPicture) -> None:
        """Lay a picture over a frame instead of the one before."""
        if picture.values.shape != linked.layout.size:
            self.hide()
            return
        now = linked.uid, picture.values.shape
        if self._layer is not None and self._same_as == now:
            with self._layers.quietly():
                redraw(self._layer, linked.image, linked.layout, linked.channel_axis, position, picture)
            return
        self.remove()
        layer = overlay_layer(linked.image, linked.layout, linked.channel_axis, position, picture)
        self._layers.insert_above(linked.layer_below("labels"), layer)
        self._layer, self._same_as = layer, now

    def hide(self) -> None:
        """Let the layer be seen no more.

        It stays, as napari looks for garbage whenever a layer goes, which takes a third of a second.
        """
        if self._layer is not None and self._layer.visible:
            self._layer.visible = False

    def remove(self) -> None:
        """Remove the layer."""
        layer, self._layer = self._layer, None
        if layer is not None:
            self._layers.remove(layer)

    def on_layers(self, forgotten: Iterable[LinkedImage]) -> None:
        """Take note that layers came and went: the picture goes with its image."""
        if self._layer is None:
            return
        if all(layer.unique_id != self._layer.unique_id for layer in self._layers):
            self._layer = None
        elif any(linked.uid == self._same_as[0] for linked in forgotten):
            self.remove()


def overlay_layer(
    image: Any,
    layout: Layout,
    channel_axis: int | None,
    position: tuple[int, ...],
    picture: OverlayPicture,
) -> Any:
    """Make a layer for a picture of one slice of an image; it is not to be seen on others."""
    geometry = geometry_like(image, drop_axis=None if layout.keeps_channel_axis else channel_axis)
    geometry["translate"] = _place(image, layout, channel_axis, position)
    return Image(
        _with_all_axes(layout, picture.values).copy(),  # pixels of its own, to be drawn over
        name=f"{image.name} {picture.title}",
        colormap=_COLOURS[picture.overlay],
        contrast_limits=_LIMITS[picture.overlay],
        blending="translucent",
        interpolation2d="nearest",
        metadata=role("overlay"),
        **geometry,
    )


def redraw(
    layer: Any,
    image: Any,
    layout: Layout,
    channel_axis: int | None,
    position: tuple[int, ...],
    picture: OverlayPicture,
) -> None:
    """Put another picture on the layer, of any kind, of the same slice or another one, and let it be seen.

    What stays as it is is not set again: napari slices the layer anew for everything that is, and it is drawn whenever
    somebody moves on to another slice.
    """
    name, colours, values = f"{image.name} {picture.title}", _COLOURS[picture.overlay], picture.values
    if layer.name != name:
        layer.name = name
    if layer.colormap.name != colours.name:
        layer.colormap = colours
        layer.contrast_limits_range = layer.contrast_limits = _LIMITS[picture.overlay]
    pixels = _with_all_axes(layout, values)
    if layer.data.dtype == pixels.dtype:
        np.copyto(layer.data, pixels)
    else:
        layer.data = pixels.copy()
    place = _place(image, layout, channel_axis, position)
    if not np.array_equal(layer.translate, place):
        layer.translate = place  # with a refresh
    else:
        layer.refresh(extent=False)
    if not layer.visible:
        layer.visible = True


def _with_all_axes(layout: Layout, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (1, ..., 1, H, W), with the channels of the image, all alike, where its labels have them."""
    slice_ = values.reshape((*(1 for _ in layout.sliders), *layout.size))
    axis = layout.channel_axis
    if axis is None or not layout.keeps_channel_axis:
        return slice_
    expanded = np.expand_dims(slice_, axis)
    return np.broadcast_to(expanded, (*expanded.shape[:axis], layout.shape[axis], *expanded.shape[axis + 1 :]))


def _place(image: Any, layout: Layout, channel_axis: int | None, position: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the translation of a layer that begins at a slice of the image.

    The world is affine(translate + linear(pixel)); the linear part of a slice's pixel is found as a difference.
    """
    corner = np.zeros(image.ndim)
    corner[list(layout.sliders)] = position
    moved = np.asarray(image.data_to_world(corner)) - np.asarray(image.data_to_world(np.zeros(image.ndim)))
    linear = np.asarray(image.affine.affine_matrix)[:-1, :-1]
    translate = np.asarray(image.translate) + np.linalg.solve(linear, moved)
    kept = [axis for axis in range(image.ndim) if layout.keeps_channel_axis or axis != channel_axis]
    return np.asarray(translate[kept])
