"""An image layer with the label layers that lie on it, and its frames. What is asked of layers is asked here."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.frames import Frame, FrameKey, Stack
from napari_fewshot.ui.axes import Layout, LazyFrame, guess_channel_axis, slider_letters
from napari_fewshot.ui.layer_geometry import units_of
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, ExportStack
from napari_fewshot.ui.state import ImageChoice

_ROWS: Final = 512  # that are looked at at once


@dataclass(eq=False)
class LinkedImage:
    """One image layer with its label layers."""

    uid: str
    image: Any
    chosen: bool = True
    channel_axis: int | None = None
    depth_axis: int | None = None
    labels: Any = None
    proposals: Any = None
    boxes: Any = None
    objects: Any = None
    separates: bool = False
    """Whether objects are told apart, so that their layer is seen."""
    written: dict[tuple[int, ...], npt.NDArray[Any]] = field(default_factory=dict)
    """(H, W) by position: what an acceptance wrote, 0 elsewhere."""
    revision: int = 0
    """Another number each time that the pixels were replaced."""
    known_layout: Layout | None = None
    """Found once until the data change: every slice asks for it, and napari's layers answer slowly."""

    @property
    def data(self) -> Any:
        """The whole array at full resolution."""
        return self.image.data[0] if self.image.multiscale else self.image.data

    @property
    def layout(self) -> Layout:
        """The axes of the image as it is now."""
        if self.known_layout is None or self.known_layout.channel_axis != self.channel_axis:
            self.known_layout = Layout(tuple(map(int, self.data.shape)), bool(self.image.rgb), self.channel_axis)
        return self.known_layout

    def layer_below(self, name: Literal["labels", "proposals", "objects"]) -> Any:
        """What a layer lies right above: what a person paints on proposals, objects on both, all on the image."""
        above = {"labels": (self.proposals,), "objects": (self.labels, self.proposals), "proposals": ()}[name]
        return next((layer for layer in above if layer is not None), self.image)

    def forget_all_but(self, unique_ids: Collection[Any]) -> None:
        """Let go of layers that are not among these."""
        for name in ("labels", "proposals", "boxes", "objects"):
            layer = getattr(self, name)
            if layer is not None and layer.unique_id not in unique_ids:
                setattr(self, name, None)

    def forget_misfits(self) -> Any:
        """Let go of label layers that do not lie on the image, and return that of proposals if it does not."""
        misfits = {
            name: layer
            for name in ("labels", "proposals", "objects")
            if (layer := getattr(self, name)) is not None and not self.layout.fits(layer.data)
        }
        for name in misfits:
            setattr(self, name, None)
        return misfits.get("proposals")


class LayerSlice:
    """Finds one frame of an image layer at the moment it is asked for; holds no pixels and no layer."""

    def __init__(self, linked: LinkedImage, position: tuple[int, ...]) -> None:
        self._linked, self._position, self._name = ref(linked), position, linked.image.name
        self._known_shape = linked.layout.frame_shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, channels); of a layer that was deleted, what it was at last."""
        linked = self._linked()
        if linked is not None:
            with suppress(ImageError):  # its data are no image any more
                self._known_shape = linked.layout.frame_shape
        return self._known_shape

    def __call__(self) -> LazyFrame:
        """Get at the pixels, which are read region by region; of a multiscale layer those at full resolution."""
        linked = self._existing()
        return linked.layout.take(linked.data, self._position)

    def _existing(self) -> LinkedImage:
        linked = self._linked()
        if linked is None:
            raise ImageError(f"the layer '{self._name}' was deleted; open it again to go on with it")
        return linked


def frames_of(linked: LinkedImage) -> Iterator[Frame]:
    """Every frame of an image, lazily read; none of one that cannot be labelled."""
    if not is_usable(linked):
        return
    layout = linked.layout
    y, x = (abs(float(linked.image.scale[axis])) for axis in layout.plane)
    slices = {position: LayerSlice(linked, position) for position in layout.positions()}
    letters = slider_letters(axis_labels(linked.image), layout.sliders, linked.depth_axis)
    steps = [abs(float(linked.image.scale[axis])) for axis in layout.sliders]
    together = Stack.of(list(slices.values()), letters, steps) if layout.sliders else None
    for position, one in slices.items():
        yield Frame((linked.uid, *position), one, (y, x), together)


def choice_of(linked: LinkedImage) -> ImageChoice:
    """What the list of images shows of one."""
    names = axis_labels(linked.image)
    try:
        layout, trouble = linked.layout, ""
        if not all(layout.shape):
            trouble = f"the image is empty, shape {layout.shape}; load one that has pixels"
    except ImageError as error:
        layout, trouble = None, str(error)
    titles = [] if layout is None else [axis_title(i, names[i], layout.shape[i]) for i in range(layout.ndim)]
    axes = tuple(enumerate(titles)) if layout is not None and not layout.rgb and layout.ndim > 2 else ()
    sliders = () if layout is None else tuple((axis, titles[axis]) for axis in layout.sliders)
    return ImageChoice(
        linked.uid,
        str(linked.image.name),
        linked.chosen,
        linked.channel_axis,
        axes,
        trouble,
        revision=linked.revision,
        sliders=sliders,
        depth_axis=linked.depth_axis,
        stack_axes="" if layout is None else slider_letters(names, layout.sliders, linked.depth_axis),
    )


def name_of(linked: LinkedImage, position: tuple[int, ...]) -> str:
    """What to call a frame now: ``coins``, ``coins [3]``, ``movie [t=0, z=3]``."""
    if not position:
        return str(linked.image.name)
    labels, sliders = axis_labels(linked.image), linked.layout.sliders
    places = [
        str(place) if is_default(labels[axis]) else f"{labels[axis]}={place}"
        for axis, place in zip(sliders, position, strict=False)
    ]
    return f"{linked.image.name} [{', '.join(places)}]"


def stack_of(linked: LinkedImage) -> ExportStack:
    """A copy of the labels of an image, which must be there, with what is known of its scale."""
    layout, image = linked.layout, linked.image
    if not layout.fits(linked.labels.data):
        raise MaskError(misfit(linked, linked.labels))
    names, units = axis_labels(image), units_of(image)
    scale = np.abs(np.asarray(image.scale, dtype=float))
    return ExportStack(
        np.array(layout.stack_of(np.asarray(linked.labels.data))),
        tuple(float(scale[axis]) for axis in layout.spatial),
        tuple(units[axis] for axis in layout.spatial),
        tuple(names[axis] for axis in layout.spatial),
        str(image.name),
        source_of(linked),
    )


def source_of(linked: LinkedImage) -> Path | None:
    """The file or folder that an image was opened from, where there is one on this machine."""
    path = getattr(linked.image.source, "path", None)
    return Path(path) if path and Path(path).exists() else None


def is_usable(linked: LinkedImage) -> bool:
    """Whether an image has planes with pixels."""
    try:
        return all(linked.layout.shape)
    except ImageError:
        return False


def slice_of(linked: LinkedImage, layer: Any, position: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """A copy of one slice (H, W) of a label layer, of its data type; None where there is no layer."""
    return None if layer is None else view_of(linked, layer, position).copy()


def is_any(labels: npt.NDArray[Any]) -> bool:
    """Whether anything but 0 is there: asked at every stroke, so no more rows are looked at than it takes."""
    return any(bool(labels[top : top + _ROWS].any()) for top in range(0, len(labels), _ROWS))


def view_of(linked: LinkedImage, layer: Any, position: tuple[int, ...]) -> npt.NDArray[Any]:
    """One slice (H, W) of a label layer."""
    if not linked.layout.fits(layer.data):
        raise MaskError(misfit(linked, layer))
    return np.asarray(layer.data[linked.layout.label_index(position, layer.data.ndim)])


def misfit(linked: LinkedImage, layer: Any) -> str:
    """Say that a label layer does not lie on its image, and what to do."""
    return (
        f"'{layer.name}' has shape {layer.data.shape} but '{linked.image.name}' is {linked.layout.shape}; "
        "rename or delete that layer and paint on a new one"
    )


def pixel_indices(
    index: tuple[int | slice, ...], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], ...]:
    """Turn the index of a slice and pixels in it into one index array for each axis."""
    plane = iter((rows, columns))
    return tuple(next(plane) if isinstance(at, slice) else np.full(rows.shape, at) for at in index)


def identity_of(image: Any) -> tuple[Any, ...] | None:
    """What an image layer has in common with another one of the same image in the same file; None without a file."""
    path = getattr(image.source, "path", None)
    data = image.data[0] if image.multiscale else image.data
    return None if path is None else (str(path), str(image.name), tuple(map(int, data.shape)))


def guessed_channel_axis(image: Any) -> int | None:
    """The axis of an image that most probably holds channels."""
    axis = guess_channel_axis(axis_labels(image), bool(image.rgb))
    data = image.data[0] if image.multiscale else image.data
    try:
        Layout(tuple(map(int, data.shape)), bool(image.rgb), axis)
    except ImageError:
        return None
    return axis


def holds_classes(labels: Any) -> bool:
    """Whether a labels layer can be one of ours: in memory, and not somebody's thousand numbered cells."""
    data = labels.data
    if labels.multiscale or not isinstance(data, np.ndarray):
        return False
    return data.dtype == np.uint8 or not data.size or int(data.max()) <= PAINTED_BACKGROUND


def axis_labels(image: Any) -> tuple[str, ...]:
    """What the axes of an image are called."""
    return tuple(map(str, image.axis_labels))


def axis_title(axis: int, label: str, size: int) -> str:
    """For example: axis 1 (z), 40 long."""
    return f"axis {axis}{'' if is_default(label) else f' ({label})'}, {size} long"


def is_default(axis_label: str) -> bool:
    """napari's own labels are "-3", or "axis -3" in older versions."""
    return axis_label.removeprefix("axis").strip().lstrip("-").isdecimal() or not axis_label.strip()


def set_visible(linked: LinkedImage, visible: bool) -> None:
    """Show or hide an image with all that lies on it."""
    for layer in (linked.image, linked.labels, linked.proposals):
        if layer is not None and layer.visible != visible:  # napari slices it anew even where nothing changes
            layer.visible = visible
    if linked.objects is not None:
        linked.objects.visible = visible and linked.separates


def split(key: FrameKey) -> tuple[str, tuple[int, ...]]:
    """The uid of the image of a frame, and its position."""
    if isinstance(key, str):
        return key, ()
    return str(key[0]), tuple(int(place) for place in key[1:])


def unwrapped(layer: Any) -> Any:
    """The layer itself: plugins get proxies, which napari's selection does not recognise (napari#5767)."""
    return getattr(layer, "__wrapped__", layer)
