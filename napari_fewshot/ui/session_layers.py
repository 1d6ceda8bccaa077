"""The layers of a saved session: where images come from, and how they come back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.io.image_places import ImagePlace
from napari_fewshot.ui.layer_link import LayerLink

_RGB = (3, 4)


class SessionLayers:
    """Opens the images of sessions in a viewer.

    Parameters
    ----------
    viewer
        A napari viewer.
    link
        Its layers.
    """

    def __init__(self, viewer: Any, link: LayerLink) -> None:
        self._viewer, self._link = viewer, link

    def places(self) -> dict[str, ImagePlace | None]:
        """Where each image comes from, by uid; None for one that lies in no file."""
        return {choice.uid: self._place(choice.name, choice.channel_axis) for choice in self._link.images()}

    def _place(self, name: str, channel_axis: int | None) -> ImagePlace | None:
        layer = next((layer for layer in self._viewer.layers if layer.name == name), None)
        if layer is None:  # about to go
            return None
        source = layer.source
        path = None if source.path is None else Path(source.path)
        if path is None or not path.exists():
            return None
        same = [str(layer.name) for layer in self._viewer.layers if layer.source.path == source.path]
        reader = str(source.reader_plugin or "")
        return ImagePlace(str(path.absolute()), same.index(name), reader=reader, channel_axis=channel_axis)

    def open(self, name: str, place: ImagePlace) -> str:
        """Bring an image on screen; one that is there already is taken. Returns its uid.

        Raises
        ------
        ReadError
            If it cannot be opened.
        """
        there = [uid for uid, other in self.places().items() if other is not None and _is_same(other, place)]
        if there:
            uid = name if name in there else there[0]
        else:
            known = {choice.uid for choice in self._link.images()}
            try:
                self._viewer.open(place.path, plugin=place.reader or None)
            except Exception as error:
                raise ReadError(f"{place.path} cannot be opened in napari ({error}); open it yourself first") from error
            new = [uid for uid, p in self.places().items() if uid not in known and p is not None]
            fitting = [uid for uid in new if _is_same(self.places()[uid], place)] or new
            if not fitting:
                raise ReadError(f"{place.path} holds no image any more; choose another file")
            uid = fitting[0]
        self._link.choose(uid, True)
        self._link.set_channel_axis(uid, place.channel_axis)
        return uid

    def show(self, name: str, frames: Sequence[Frame]) -> str:
        """Bring an image on screen that lies in no file; one of that name that fits is taken. Returns its uid."""
        sizes = {frame.key: frame.size for frame in self._link.frames()}
        if all(sizes.get(frame.key) == frame.size for frame in frames):
            return name
        known = {choice.uid for choice in self._link.images()}
        positions = [() if isinstance(frame.key, str) else frame.key[1:] for frame in frames]
        planes = [np.asarray(frame.image) for frame in frames]
        stack_shape = tuple(max(int(p[axis]) for p in positions) + 1 for axis in range(len(positions[0])))
        pixels = np.zeros((*stack_shape, *planes[0].shape), planes[0].dtype)
        for position, plane in zip(positions, planes, strict=True):
            pixels[tuple(map(int, position))] = plane
        colours = planes[0].ndim == 3 and planes[0].shape[-1] in _RGB
        spacing = frames[0].spacing or (1.0, 1.0)
        steps = () if frames[0].stack is None else frames[0].stack.steps
        apart = steps if len(steps) == len(stack_shape) else (None,) * len(stack_shape)
        scale = (*(step or 1.0 for step in apart), *spacing)
        if planes[0].ndim == 3 and not colours:
            scale = (*scale, 1.0)
        self._viewer.add_image(pixels, name=name, rgb=colours, scale=scale)
        uid = next(choice.uid for choice in self._link.images() if choice.uid not in known)
        if planes[0].ndim == 3 and not colours:
            self._link.set_channel_axis(uid, pixels.ndim - 1)
        return uid

    def lie_along(self, uid: str, axes: str) -> None:
        """Say which of the axes that one moves along is depth: a letter for each."""
        choice = next((choice for choice in self._link.images() if choice.uid == uid), None)
        if choice is not None and len(choice.sliders) == len(axes):
            depth = [axis for (axis, _), letter in zip(choice.sliders, axes, strict=True) if letter == "Z"]
            self._link.set_depth_axis(uid, depth[0] if depth else None)

    def frames(self) -> Mapping[FrameKey, Frame]:
        """Every frame of every chosen image."""
        return {frame.key: frame for frame in self._link.frames()}


def _is_same(a: ImagePlace | None, b: ImagePlace) -> bool:
    return a is not None and Path(a.path) == Path(b.path) and a.number == b.number
