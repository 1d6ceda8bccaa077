"""The images of a viewer, each under a name that it keeps, with the label layers that are found for it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from napari.layers import Image, Labels

from napari_fewshot.errors import ImageError
from napari_fewshot.frames import FrameKey
from napari_fewshot.ui.axes import guess_depth_axis
from napari_fewshot.ui.layer_role import role_of
from napari_fewshot.ui.linked_image import (
    LinkedImage,
    axis_labels,
    guessed_channel_axis,
    holds_classes,
    identity_of,
    split,
)
from napari_fewshot.ui.viewer_layers import ViewerLayers


class LinkedImages:
    """Takes up image layers that come, and forgets those that went.

    Parameters
    ----------
    layers
        Of the viewer.
    """

    def __init__(self, layers: ViewerLayers) -> None:
        self._layers = layers
        self._linked: dict[str, LinkedImage] = {}
        self._used_uids: set[str] = set()
        self._deleted: dict[str, tuple[Any, ...]] = {}  # what is known of images by uid, for when they are opened again
        self._free_labels: dict[str, Any] = {}  # layers of labels by name, that lie on no image yet

    def __iter__(self) -> Iterator[LinkedImage]:
        return iter(self._linked.values())

    def __getitem__(self, uid: str) -> LinkedImage:
        return self._linked[uid]

    def find(self, key: FrameKey) -> tuple[LinkedImage | None, tuple[int, ...]]:
        """Return the image of a frame, None where it is not there, and the position of the frame in it."""
        uid, position = split(key)
        return self._linked.get(uid), position

    def clear(self) -> None:
        """Forget all of them."""
        self._linked.clear()

    # ------------------------------------------------------------------ coming and going
    def refresh(self) -> tuple[list[LinkedImage], list[LinkedImage]]:
        """Take up new image layers, and forget layers that were deleted. Returns the new images, and the forgotten."""
        present = {layer.unique_id: layer for layer in self._layers}
        gone = [linked for linked in self if linked.image.unique_id not in present]
        for linked in gone:
            self._forget(linked)
        for linked in self:
            linked.forget_all_but(present.keys())
        taken = {linked.labels.unique_id for linked in self if linked.labels is not None}
        self._free_labels = {
            str(layer.name): layer
            for layer in present.values()
            if isinstance(layer, Labels) and layer.unique_id not in taken and holds_classes(layer)
        }
        known = {linked.image.unique_id for linked in self}
        news = [
            self._take_up(layer)
            for layer in present.values()
            if isinstance(layer, Image) and layer.unique_id not in known and role_of(layer) != "overlay"
        ]
        order = {unique_id: place for place, unique_id in enumerate(present)}
        self._linked = dict(sorted(self._linked.items(), key=lambda item: order[item[1].image.unique_id]))
        return news, gone

    def _take_up(self, image: Any) -> LinkedImage:
        uid = self._uid_of_before(image) or self._new_uid(str(image.name))
        self._linked[uid] = linked = LinkedImage(uid, image, channel_axis=guessed_channel_axis(image))
        with suppress(ImageError):  # of no plane: it is told where it is listed
            linked.depth_axis = guess_depth_axis(axis_labels(image), linked.layout.sliders)
        return linked

    def _new_uid(self, name: str) -> str:
        uid, number = name, 2
        while uid in self._used_uids:
            uid, number = f"{name} ({number})", number + 1
        self._used_uids.add(uid)
        return uid

    def _uid_of_before(self, image: Any) -> str:
        """The uid of the same image of the same file, that was deleted and is opened again; "" where it is new."""
        same = [uid for uid, of_before in self._deleted.items() if of_before == identity_of(image)]
        if same:
            del self._deleted[same[0]]
        return same[0] if same else ""

    def _forget(self, linked: LinkedImage) -> None:
        self._linked.pop(linked.uid)
        identity = identity_of(linked.image)
        if identity is not None:
            self._deleted[linked.uid] = identity

    # ------------------------------------------------------------------ labels that are there already
    def adopt_labels(self, linked: LinkedImage) -> bool:
        """Take the labels layer that is there for an image. Returns whether there is one."""
        layer = self.labels_of(linked)
        if layer is None:
            return False
        linked.labels = layer
        self._free_labels.pop(str(layer.name), None)
        return True

    def labels_of(self, linked: LinkedImage) -> Any:
        """The labels layer of an image, or one "<image> labels" that fits: from an earlier dock, or from a file."""
        if linked.labels is not None:
            return linked.labels
        layer = self._free_labels.get(f"{linked.image.name} labels")
        return layer if layer is not None and linked.layout.fits(layer.data) else None
