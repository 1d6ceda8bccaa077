"""What is looked at: which image, which slice of it, or which cut through a stack; and how to get to another one."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError
from napari_fewshot.frames import FrameKey
from napari_fewshot.ui.axes import Cut
from napari_fewshot.ui.layer_geometry import world_to_layer_units
from napari_fewshot.ui.linked_image import LinkedImage, is_usable, set_visible
from napari_fewshot.ui.viewer_layers import ViewerLayers


class Screen:
    """Tells where the sliders of a viewer stand, and moves them.

    Parameters
    ----------
    viewer
        A napari viewer.
    images
        Those that there are, whenever it is asked.
    layers
        Of the viewer.
    """

    def __init__(self, viewer: Any, images: Iterable[LinkedImage], layers: ViewerLayers) -> None:
        self._viewer, self._images, self._layers = viewer, images, layers
        self._current = ""

    def shown(self) -> FrameKey | None:
        """The frame on screen, None where no chosen image is there.

        Raises
        ------
        ImageError
            If the view is one in which no slice can be painted: 3D, another plane, outside of the image.
        """
        linked = self.image()
        return None if linked is None else (linked.uid, *self.position_in(linked))

    def position_in(self, linked: LinkedImage) -> tuple[int, ...]:
        """Where the sliders stand in an image."""
        name, layout, dims = linked.image.name, linked.layout, self._viewer.dims
        if dims.ndisplay != 2:
            raise ImageError("this is the 3D view; switch to 2D with the button at the bottom left to paint and review")
        offset = dims.ndim - layout.ndim
        if {axis - offset for axis in dims.displayed} != set(layout.plane):
            raise ImageError(
                f"'{name}' is shown along other axes than its height and width, where one can only paint and teach; "
                "roll the axes back with the button at the bottom left, or choose another channel axis under Advanced"
            )
        return self._place_of(linked, layout.sliders, layout.stack_shape)

    def _place_of(self, linked: LinkedImage, axes: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
        """Where the sliders stand along some axes of an image, which have so many places."""
        name, point = linked.image.name, self._data_point(linked)
        position = tuple(int(np.round(point[axis])) for axis in axes)
        if not all(0 <= place < count for place, count in zip(position, counts, strict=True)):
            raise ImageError(f"'{name}' has no slice at this slider position; move the slider back into the image")
        return position

    def cut(self) -> Cut | None:
        """The cut through a chosen stack that is on screen, None where slices are."""
        linked, dims = self.image(), self._viewer.dims
        if linked is None or dims.ndisplay != 2:
            return None
        layout = linked.layout
        seen = layout.cut({axis - (dims.ndim - layout.ndim) for axis in dims.displayed})
        if seen is None:
            return None
        through, across = seen
        places = tuple(axis for axis in (*layout.sliders, across) if axis != through)
        try:
            *others, index = self._place_of(linked, places, [layout.shape[axis] for axis in places])
        except ImageError:  # the slider of a larger image beside it
            return None
        at = layout.sliders.index(through)
        keys: list[FrameKey] = [
            (linked.uid, *others[:at], place, *others[at:]) for place in range(layout.shape[through])
        ]
        side: Literal["y", "x"] = "y" if across == layout.plane[0] else "x"
        return Cut(tuple(keys), side, index, f"a cut through '{linked.image.name}' at {side} = {index}")

    # ------------------------------------------------------------------ going somewhere
    def go_to(self, linked: LinkedImage, position: tuple[int, ...]) -> None:
        """Bring a slice of an image on screen: the image in front, the sliders at the slice."""
        layout, dims = linked.layout, self._viewer.dims
        self._bring_forward(linked)
        point = np.array(self._data_point(linked), dtype=float)
        for axis, place in zip(layout.sliders, position, strict=True):
            point[axis] = place
        world = np.asarray(linked.image.data_to_world(point)) / world_to_layer_units(dims, linked.image)
        offset = dims.ndim - layout.ndim
        for axis in layout.sliders:
            dims.set_point(axis + offset, float(world[axis]))

    # ------------------------------------------------------------------ which image
    def image(self) -> LinkedImage | None:
        """The image that is looked at: of the selected layer, else the same as before, else the topmost visible."""
        chosen = [linked for linked in self._images if linked.chosen and is_usable(linked)]
        active = self._layers.selected
        if active is not None:
            selected = active.unique_id
            for linked in chosen:
                layers = (linked.image, linked.labels, linked.proposals, linked.boxes, linked.objects)
                if any(layer is not None and layer.unique_id == selected for layer in layers):
                    self._current = linked.uid
                    return linked
        visible = [linked for linked in chosen if linked.image.visible]
        before = [linked for linked in visible if linked.uid == self._current]
        found = before or visible[::-1] or chosen[::-1]
        self._current = found[0].uid if found else ""
        return found[0] if found else None

    def _bring_forward(self, linked: LinkedImage) -> None:
        """Show an image and its label layers; hide other images that would lie over it."""
        shown = self.image()
        with self._layers.quietly():
            if shown is not None and shown is not linked and not self._is_grid():
                for other in self._images:
                    if other.chosen and other is not linked:
                        set_visible(other, False)
            set_visible(linked, True)
            layer = linked.proposals if linked.proposals is not None else linked.image
            if linked.objects is None or not self._layers.is_selected(linked.objects):
                self._layers.select(layer)  # who mends objects goes on with that
        self._current = linked.uid

    def _is_grid(self) -> bool:
        """Whether layers lie side by side (``viewer.canvas`` since napari 0.9)."""
        owner = self._viewer.canvas if hasattr(self._viewer, "canvas") else self._viewer
        return bool(owner.grid.enabled)

    def _data_point(self, linked: LinkedImage) -> npt.NDArray[np.float64]:
        """Where the sliders stand, in pixels of the image."""
        dims, ndim = self._viewer.dims, linked.layout.ndim
        world = np.zeros(ndim)
        point = np.asarray(dims.point, dtype=float)[-ndim:]
        world[-len(point) :] = point
        return np.asarray(linked.image.world_to_data(world * world_to_layer_units(dims, linked.image)))
