"""The only place that reads and writes the layers of the viewer."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from weakref import ref

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Shapes
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from napari_fewshot.boxes import Box
from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.frames import Frame, FrameKey, Stack
from napari_fewshot.frames import Labels as LabelMap
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.axes import Cut, Layout, LazyFrame, guess_channel_axis, guess_depth_axis, slider_letters
from napari_fewshot.ui.box_layer import box_layer, boxes_on, colour_boxes, draw_with, take_over
from napari_fewshot.ui.drawing_tool import DrawingTool
from napari_fewshot.ui.layer_geometry import geometry_like, units_of, world_to_layer_units
from napari_fewshot.ui.overlay_layer import overlay_layer, redraw
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, ExportStack
from napari_fewshot.ui.state import ImageChoice, OverlayPicture

BACKGROUND_COLOUR = "#9ecae1"
_UNNAMED_COLOUR = "#ff00ff"
_ROLE = "napari_fewshot"  # key in a layer's metadata: says that a label layer is ours
_BRUSH_SECONDS = 0.1
_ROWS = 512  # that are looked at at once
_HISTORY_PIXELS = 5_000_000  # more than this in one step would fill the memory with napari's undo records


@dataclass(eq=False)
class _Linked:
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


@dataclass(frozen=True, eq=False)
class _OverlaidImage:
    """The layer of a picture that lies over a slice, and what another picture must have in common to go on it."""

    layer: Any
    same_as: tuple[str, tuple[int, ...]]


class LayerSlice:
    """Finds one frame of an image layer at the moment it is asked for; holds no pixels and no layer."""

    def __init__(self, linked: _Linked, position: tuple[int, ...]) -> None:
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

    def _existing(self) -> _Linked:
        linked = self._linked()
        if linked is None:
            raise ImageError(f"the layer '{self._name}' was deleted; open it again to go on with it")
        return linked


class LayerLink:
    """Finds the images to label in a viewer, and keeps a labels and a proposal layer beside each.

    Parameters
    ----------
    viewer
        A napari viewer.
    """

    layers_changed = Signal()
    """Image layers came, went, were renamed or got other data."""
    slice_changed = Signal()
    """Another slice or another layer is looked at."""
    edited = Signal()
    """Somebody painted: a stroke is done."""
    brushed = Signal()
    """Labels look different: a stroke goes on, was undone, or was done again."""
    drawn = Signal(object)
    """A line was drawn over objects: [(row, column), ...] in pixels of the frame on screen; of a click one point."""
    tool_dropped = Signal()
    """Somebody took another tool than that for such lines."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._linked: dict[str, _Linked] = {}
        self._used_uids: set[str] = set()
        self._deleted: dict[str, tuple[Any, ...]] = {}  # what is known of images by uid, for when they are opened again
        self._classes: tuple[LabelClass, ...] = ()
        self._overlay: _OverlaidImage | None = None
        self._current = ""
        self._busy = False
        self._brush_told_at = 0.0
        self._free_labels: dict[str, Any] = {}
        self._tool = DrawingTool(viewer, self._insert, self._remove_layer, self._quietly, {_ROLE: "line"})
        self._tool.drawn.connect(self._on_line)
        self._tool.dropped.connect(self.tool_dropped.emit)
        self._disconnects: list[Callable[[], None]] = []
        events = viewer.layers.events
        for emitter, slot in (
            (events.inserted, self._on_layers),
            (events.removed, self._on_layers),
            (events.reordered, self._on_slice),
            (viewer.layers.selection.events.active, self._on_slice),
            (viewer.dims.events.current_step, self._on_slice),
            (viewer.dims.events.ndisplay, self._on_slice),
            (viewer.dims.events.order, self._on_slice),
        ):
            self._connect(emitter, slot)
        if hasattr(events, "renamed"):  # not in every napari
            self._connect(events.renamed, self._on_layers)
        self._find_images()

    def close(self) -> None:
        """Let go of the viewer. Layers stay as they are, but for the picture over them, which would grow old."""
        with suppress(Exception):  # the viewer may be half gone
            self._tool.drop()
            self._remove_overlay()
        for disconnect in self._disconnects:
            with suppress(Exception):  # the viewer may be half gone
                disconnect()
        self._disconnects.clear()
        self._linked.clear()

    # ------------------------------------------------------------------ images
    def images(self) -> list[ImageChoice]:
        """All image layers, in their order."""
        return [self._choice(linked) for linked in self._linked.values()]

    def choose(self, uid: str, chosen: bool) -> None:
        """Label an image, or leave it alone."""
        self._linked[uid].chosen = chosen

    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image holds channels; label layers that no longer fit are let go of."""
        linked = self._linked[uid]
        Layout(linked.layout.shape, linked.layout.rgb, axis)  # refuses what leaves no plane
        linked.channel_axis = axis
        linked.depth_axis = guess_depth_axis(_axis_labels(linked.image), linked.layout.sliders)
        linked.written.clear()
        if linked.labels is not None and not linked.layout.fits(linked.labels.data):
            linked.labels = None
        if linked.proposals is not None:
            self._remove_layer(linked.proposals)
            linked.proposals = None
        if linked.objects is not None and not linked.layout.fits(linked.objects.data):
            linked.objects = None

    def set_depth_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image is its depth; the others that one moves along are time, and what else there is."""
        self._linked[uid].depth_axis = axis

    def frames(self) -> list[Frame]:
        """Every frame of every chosen image, lazily read."""
        return [frame for linked in self._linked.values() if linked.chosen for frame in _frames_of(linked)]

    def name(self, key: FrameKey) -> str:
        """What to call a frame now: ``coins``, ``coins [3]``, ``movie [t=0, z=3]``."""
        uid, position = _split(key)
        linked = self._linked.get(uid)
        if linked is None:
            return f"{uid} [{', '.join(map(str, position))}]" if position else uid
        if not position:
            return str(linked.image.name)
        labels = _axis_labels(linked.image)
        sliders = linked.layout.sliders
        places = [
            str(place) if _is_default(labels[axis]) else f"{labels[axis]}={place}"
            for axis, place in zip(sliders, position, strict=False)
        ]
        return f"{linked.image.name} [{', '.join(places)}]"

    # ------------------------------------------------------------------ the slice on screen
    def shown(self) -> FrameKey | None:
        """The frame on screen, None where no chosen image is there.

        Raises
        ------
        ImageError
            If the view is one in which no slice can be painted: 3D, another plane, outside of the image.
        """
        linked = self._current_image()
        return None if linked is None else (linked.uid, *self._position(linked))

    def _position(self, linked: _Linked) -> tuple[int, ...]:
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

    def _place_of(self, linked: _Linked, axes: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
        """Where the sliders stand along some axes of an image, which have so many places."""
        name, point = linked.image.name, self._data_point(linked)
        position = tuple(int(np.round(point[axis])) for axis in axes)
        if not all(0 <= place < count for place, count in zip(position, counts, strict=True)):
            raise ImageError(f"'{name}' has no slice at this slider position; move the slider back into the image")
        return position

    def cut(self) -> Cut | None:
        """The cut through a chosen stack that is on screen, None where slices are."""
        linked, dims = self._current_image(), self._viewer.dims
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

    def is_cut_painted(self, cut: Cut) -> bool:
        """Whether anything is painted on a cut."""
        for key in cut.keys:
            linked, position = self._find(key)
            layer = None if linked is None else linked.labels if linked.labels is not None else self._adoptable(linked)
            if linked is not None and layer is not None and cut.line_of(_view_of(linked, layer, position)).any():
                return True
        return False

    def go_to(self, key: FrameKey) -> None:
        """Bring a frame on screen: its image in front, the sliders at its slice."""
        uid, position = _split(key)
        linked = self._linked[uid]
        layout, dims = linked.layout, self._viewer.dims
        self._bring_forward(linked)
        point = np.array(self._data_point(linked), dtype=float)
        for axis, place in zip(layout.sliders, position, strict=True):
            point[axis] = place
        world = np.asarray(linked.image.data_to_world(point)) / world_to_layer_units(dims, linked.image)
        offset = dims.ndim - layout.ndim
        for axis in layout.sliders:
            dims.set_point(axis + offset, float(world[axis]))

    # ------------------------------------------------------------------ labels
    def ensure_labels(self, uid: str) -> bool:
        """Make the labels layer of an image where there is none; one of that name that fits is used."""
        linked = self._linked[uid]
        if linked.labels is not None:
            return False
        linked.written.clear()
        linked.labels = self._adoptable(linked)
        if linked.labels is not None:
            self._free_labels.pop(str(linked.labels.name), None)
            linked.labels.metadata[_ROLE] = "labels"  # 254 is painted background from now on
            self._colour(linked.labels)
            self._watch_painting(linked.labels)
            return False
        linked.labels = self._add_labels(linked, "labels", opacity=0.6)
        return True

    def ensure_proposals(self, uid: str) -> bool:
        """Make the proposal layer of an image where there is none."""
        linked = self._linked[uid]
        if linked.proposals is not None and linked.layout.fits(linked.proposals.data):
            return False
        linked.proposals = self._add_labels(linked, "proposals", opacity=0.4)
        return True

    def painted(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """A copy of the labels layer at a frame (H, W), 254 for painted background; None where there is no layer."""
        linked, position = self._find(key)
        if linked is None:
            return None
        return _slice_of(linked, linked.labels if linked.labels is not None else self._adoptable(linked), position)

    def painted_by_hand(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """The same without what `write_accepted` wrote."""
        painted, (linked, position) = self.painted(key), self._find(key)
        written = None if linked is None else linked.written.get(position)
        if painted is not None and written is not None and written.shape == painted.shape:
            painted[painted == written] = 0
        return painted

    def is_painted(self, key: FrameKey) -> bool:
        """Whether anything is painted at a frame."""
        linked, position = self._find(key)
        layer = None if linked is None else linked.labels if linked.labels is not None else self._adoptable(linked)
        return linked is not None and layer is not None and _is_any(_view_of(linked, layer, position))

    def paints_anywhere(self, value: int) -> str:
        """Name of a labels layer that holds this value, or ""."""
        for linked in self._linked.values():
            if linked.labels is not None and bool((np.asarray(linked.labels.data) == value).any()):
                return str(linked.labels.name)
        return ""

    def draw_boxes(self, key: FrameKey, class_id: int) -> None:
        """Let boxes of a class be drawn on a Shapes layer of the image; one that is selected is taken."""
        linked, _ = self._find(key)
        if linked is None:
            return
        self.keep_boxes(key, class_id)
        if linked.boxes is None:
            linked.boxes = box_layer(linked.image, linked.layout, linked.channel_axis, {_ROLE: "boxes"})
            with self._quietly():
                self._viewer.add_layer(linked.boxes)
            self._watch_boxes(linked.boxes)
        linked.boxes.visible = True
        self._viewer.layers.selection.active = _unwrapped(linked.boxes)
        draw_with(linked.boxes, class_id, {c.id: c.colour for c in self._classes}.get(class_id, _UNNAMED_COLOUR))

    def is_drawing_boxes(self, key: FrameKey) -> bool:
        """Whether boxes of the image of a frame are being drawn."""
        linked, _ = self._find(key)
        active = self._viewer.layers.selection.active
        return (
            linked is not None
            and linked.boxes is not None
            and active is not None
            and active.unique_id == linked.boxes.unique_id
        )

    def boxes(self, key: FrameKey, class_id: int) -> Sequence[Box]:
        """Boxes that are drawn at a frame; those on a Shapes layer that a person made and selected are of this class.

        Whole numbers are edges of pixels, see `Box`.
        """
        linked, position = self._find(key)
        layer = None if linked is None or not _is_usable(linked) else self._boxes_of(linked)
        if linked is None or layer is None:
            return ()
        return boxes_on(layer, linked.image, linked.layout, self._viewer.dims, position, class_id)

    def keep_boxes(self, key: FrameKey, class_id: int) -> None:
        """Keep the Shapes layer that boxes are read from for the image, whatever is selected later."""
        linked, _ = self._find(key)
        layer = None if linked is None else self._boxes_of(linked)
        if linked is None or layer is None or layer is linked.boxes:
            return
        linked.boxes = layer
        layer.metadata[_ROLE] = "boxes"
        take_over(layer, class_id)
        colour_boxes(layer, {c.id: c.colour for c in self._classes})
        self._watch_boxes(layer)

    def restore_painted(self, key: FrameKey, labels: LabelMap) -> None:
        """Write labels into a new labels layer."""
        linked, position = self._find(key)
        if linked is not None and linked.labels is not None:
            self._put(linked, linked.labels, position, labels)

    def write_accepted(self, accepted: Sequence[tuple[FrameKey, LabelMap]]) -> None:
        """Write into labels layers where nobody painted: one step of napari's own undo for each layer."""
        changes: dict[str, list[tuple[tuple[int, ...], npt.NDArray[Any]]]] = {}
        for key, labels in accepted:
            linked, position = self._find(key)
            if linked is None or linked.labels is None:
                continue
            there = _slice_of(linked, linked.labels, position)
            before = linked.written.get(position)
            news = np.where(there == 0, labels, 0).astype(np.uint8)
            linked.written[position] = news if before is None else np.where(there == before, before, 0) | news
            changes.setdefault(linked.uid, []).append((position, news))
        for uid, slices in changes.items():
            linked = self._linked[uid]
            self._write(linked, linked.labels, [(at, new != 0, new) for at, new in slices])

    def unwrite(self, keys: Sequence[FrameKey]) -> None:
        """Take out again what `write_accepted` wrote at these frames, and nothing else."""
        changes: dict[str, list[tuple[tuple[int, ...], npt.NDArray[Any], npt.NDArray[Any]]]] = {}
        for key in keys:
            linked, position = self._find(key)
            written = None if linked is None else linked.written.pop(position, None)
            if linked is None or linked.labels is None or written is None:
                continue
            there = _slice_of(linked, linked.labels, position)
            ours = (written != 0) & (there == written)
            changes.setdefault(linked.uid, []).append((position, ours, np.zeros_like(written)))
        for uid, slices in changes.items():
            self._write(self._linked[uid], self._linked[uid].labels, slices)

    # ------------------------------------------------------------------ proposals
    def proposed(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """A copy of the proposal layer at a frame (H, W), as a person may have changed it; None where there is none."""
        linked, position = self._find(key)
        if linked is None or linked.proposals is None or not linked.layout.fits(linked.proposals.data):
            return None
        return _slice_of(linked, linked.proposals, position)

    def show_proposal(self, key: FrameKey, labels: npt.NDArray[Any]) -> None:
        """Put a proposal on its layer."""
        linked, position = self._find(key)
        if linked is not None and linked.proposals is not None:
            self._put(linked, linked.proposals, position, labels)

    def clear_proposals(self, keys: Sequence[FrameKey]) -> None:
        """Take proposals off their layer."""
        for key in keys:
            linked, position = self._find(key)
            if linked is not None and linked.proposals is not None:
                with suppress(MaskError, IndexError):  # of an image that changed its shape nothing is left
                    self._put(linked, linked.proposals, position, 0)

    # ------------------------------------------------------------------ objects
    def ensure_objects(self, uid: str) -> bool:
        """Make the layer of the objects of an image where there is none; one of that name that fits is used."""
        linked = self._linked[uid]
        is_new = linked.objects is None or not linked.layout.fits(linked.objects.data)
        if not is_new:
            if not linked.separates:
                linked.objects.visible = bool(linked.image.visible)
        else:
            name = f"{linked.image.name} objects"
            there = next((x for x in self._viewer.layers if isinstance(x, Labels) and x.name == name), None)
            if there is not None and linked.layout.fits(there.data) and isinstance(there.data, np.ndarray):
                linked.objects = there
                there.metadata[_ROLE] = "objects"
                self._watch_painting(there)
            else:
                linked.objects = self._add_labels(linked, "objects", opacity=0.6)
        linked.separates = True
        return is_new

    def objects(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """A copy of the objects at a frame (H, W), as a person may have changed them; None where there is no layer."""
        linked, position = self._find(key)
        if linked is None or linked.objects is None or not linked.layout.fits(linked.objects.data):
            return None
        return _slice_of(linked, linked.objects, position)

    def show_objects(self, key: FrameKey, ids: npt.NDArray[Any]) -> None:
        """Put objects on their layer, which must be there."""
        linked, position = self._find(key)
        if linked is not None and linked.objects is not None:
            self._put(linked, linked.objects, position, ids)

    def hide_objects(self) -> None:
        """Let the layers of objects be seen no more; what is on them stays."""
        for linked in self._linked.values():
            linked.separates = False
            if linked.objects is not None:
                linked.objects.visible = False

    def write_objects(self, key: FrameKey, ids: npt.NDArray[Any]) -> None:
        """Put objects on their layer as a person would, as one step of napari's own undo."""
        linked, position = self._find(key)
        if linked is not None and linked.objects is not None:
            there = _view_of(linked, linked.objects, position)
            self._write(linked, linked.objects, [(position, there != ids, ids)])

    def take_tool(self, key: FrameKey) -> None:
        """Let lines be drawn over the layer of objects, which must be there."""
        linked, _ = self._find(key)
        if linked is not None and linked.objects is not None:
            self._tool.take(linked.objects)

    def drop_tool(self) -> None:
        """Let no more lines be drawn."""
        self._tool.drop()

    # ------------------------------------------------------------------ what lies over a slice
    def show_overlay(self, key: FrameKey, picture: OverlayPicture) -> None:
        """Lay a picture over a frame, on a layer of its own, instead of the one before."""
        linked, position = self._find(key)
        if linked is None or picture.values.shape != linked.layout.size:
            self.hide_overlay()
            return
        now, there = (linked.uid, picture.values.shape), self._overlay
        if there is not None and there.same_as == now:
            with self._quietly():
                redraw(there.layer, linked.image, linked.layout, linked.channel_axis, position, picture)
            return
        self._remove_overlay()
        layer = overlay_layer(linked.image, linked.layout, linked.channel_axis, position, picture, {_ROLE: "overlay"})
        self._insert(self._place_for(linked, "labels"), layer)
        self._overlay = _OverlaidImage(layer, now)

    def hide_overlay(self) -> None:
        """Let that layer be seen no more.

        It stays, as napari looks for garbage whenever a layer goes, which takes a third of a second.
        """
        if self._overlay is not None and self._overlay.layer.visible:
            self._overlay.layer.visible = False

    def _remove_overlay(self) -> None:
        there, self._overlay = self._overlay, None
        if there is not None:
            self._remove_layer(there.layer)

    def has_overlay(self) -> bool:
        """Whether that layer is there."""
        return self._overlay is not None

    def take_brush(self, key: FrameKey, value: int, *, on_proposal: bool) -> None:
        """Select the layer to paint on, the brush and its value."""
        linked, _ = self._find(key)
        layer = None if linked is None else linked.proposals if on_proposal else linked.labels
        if linked is None or layer is None:
            return
        layer.visible = True
        self._viewer.layers.selection.active = _unwrapped(layer)
        layer.selected_label = value
        layer.mode = "paint"

    def set_classes(self, classes: Sequence[LabelClass]) -> None:
        """Give the label layers these colours and names."""
        if tuple(classes) == self._classes:
            return
        self._classes = tuple(classes)
        for linked in self._linked.values():
            for layer in (linked.labels, linked.proposals):
                if layer is not None:
                    self._colour(layer)
            if linked.boxes is not None:
                colour_boxes(linked.boxes, {c.id: c.colour for c in self._classes})

    # ------------------------------------------------------------------ export
    def label_layers(self) -> list[tuple[str, str]]:
        """(uid, name of the image) of every image that has a labels layer."""
        return [
            (linked.uid, str(linked.image.name))
            for linked in self._linked.values()
            if linked.labels is not None or (_is_usable(linked) and self._adoptable(linked) is not None)
        ]

    def source_of(self, uid: str) -> Path | None:
        """The file or folder that an image was opened from, where there is one on this machine."""
        path = getattr(self._linked[uid].image.source, "path", None)
        return Path(path) if path and Path(path).exists() else None

    def export_stack(self, uid: str) -> ExportStack:
        """A copy of the labels of an image, 254 for painted background, with what is known of its scale."""
        linked = self._linked[uid]
        self.ensure_labels(uid)
        layout, image = linked.layout, linked.image
        if not layout.fits(linked.labels.data):
            raise MaskError(_misfit(linked, linked.labels))
        labels = np.array(layout.stack_of(np.asarray(linked.labels.data)))
        names = _axis_labels(image)
        scale, units = np.abs(np.asarray(image.scale, dtype=float)), units_of(image)
        return ExportStack(
            labels,
            tuple(float(scale[axis]) for axis in layout.spatial),
            tuple(units[axis] for axis in layout.spatial),
            tuple(names[axis] for axis in layout.spatial),
            str(image.name),
            self.source_of(uid),
        )

    # ------------------------------------------------------------------ private: events
    def _connect(self, emitter: Any, slot: Callable[..., None]) -> None:
        emitter.connect(slot)
        self._disconnects.append(lambda: emitter.disconnect(slot))

    def _on_data(self, event: Any = None) -> None:
        """Let go of labels that lie no longer on their image; they stay in the viewer. Proposals go."""
        source = getattr(event, "source", None)
        for linked in self._linked.values():
            linked.known_layout = None
            linked.revision += linked.image is _unwrapped(source)
            if not _is_usable(linked):
                continue
            if linked.labels is not None and not linked.layout.fits(linked.labels.data):
                linked.labels = None
            if linked.proposals is not None and not linked.layout.fits(linked.proposals.data):
                self._remove_layer(linked.proposals)
                linked.proposals = None
            if linked.objects is not None and not linked.layout.fits(linked.objects.data):
                linked.objects = None
        self._on_layers()

    def _on_layers(self, event: Any = None) -> None:
        if self._busy:
            return
        self._find_images()
        self.layers_changed.emit()

    def _on_slice(self, event: Any = None) -> None:
        if not self._busy:
            self.slice_changed.emit()

    def _on_edit(self, event: Any = None) -> None:
        if not self._busy:
            self.edited.emit()

    def _on_brush(self, event: Any = None) -> None:
        """Every movement of the brush ends here: tell about it now and then, the end of a stroke is told anyway."""
        if not self._busy and time.monotonic() - self._brush_told_at > _BRUSH_SECONDS:
            self._brush_told_at = time.monotonic()
            self.brushed.emit()

    def _on_box(self, event: Any = None) -> None:
        """A box was drawn, changed or removed; while the mouse still moves, nothing is told."""
        if not self._busy and str(getattr(event, "action", "")).lower().endswith("ed"):
            self.edited.emit()

    def _on_line(self, path: npt.NDArray[np.float64]) -> None:
        """A line (N, n) over a layer of objects; what is outside of the plane is where the sliders stand."""
        linked = self._current_image()
        if linked is None or linked.objects is None:
            return
        index = linked.layout.label_index(self._position(linked), linked.objects.data.ndim)
        plane = [axis for axis, at in enumerate(index) if isinstance(at, slice)]
        self.drawn.emit([(float(row), float(column)) for row, column in path[:, plane]])

    def _on_redrawn(self, event: Any = None) -> None:
        """What napari's undo ends with."""
        if not self._busy:
            self.brushed.emit()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Do not report what we do ourselves."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    # ------------------------------------------------------------------ private: finding layers
    def _find_images(self) -> None:
        """Take up new image layers, and forget layers that were deleted."""
        present = {layer.unique_id: layer for layer in self._viewer.layers}
        for linked in list(self._linked.values()):
            if linked.image.unique_id not in present:
                self._forget(linked)
                continue
            if linked.labels is not None and linked.labels.unique_id not in present:
                linked.labels = None
            if linked.proposals is not None and linked.proposals.unique_id not in present:
                linked.proposals = None
            if linked.boxes is not None and linked.boxes.unique_id not in present:
                linked.boxes = None
            if linked.objects is not None and linked.objects.unique_id not in present:
                linked.objects = None
        if self._overlay is not None and self._overlay.layer.unique_id not in present:
            self._overlay = None
        taken = {linked.labels.unique_id for linked in self._linked.values() if linked.labels is not None}
        self._free_labels = {
            str(layer.name): layer
            for layer in present.values()
            if isinstance(layer, Labels) and layer.unique_id not in taken and _holds_classes(layer)
        }
        known = {linked.image.unique_id for linked in self._linked.values()}
        for layer in present.values():
            if isinstance(layer, Image) and layer.unique_id not in known and layer.metadata.get(_ROLE) != "overlay":
                self._take_up(layer)
        order = {unique_id: place for place, unique_id in enumerate(present)}
        self._linked = dict(sorted(self._linked.items(), key=lambda item: order[item[1].image.unique_id]))

    def _take_up(self, image: Any) -> None:
        uid = self._uid_of_before(image) or self._new_uid(str(image.name))
        self._linked[uid] = linked = _Linked(uid, image, channel_axis=_guess(image))
        with suppress(ImageError):  # of no plane: it is told where it is listed
            linked.depth_axis = guess_depth_axis(_axis_labels(image), linked.layout.sliders)
        self._connect(image.events.name, self._on_layers)
        self._connect(image.events.data, self._on_data)
        self._connect(image.events.visible, self._on_slice)

    def _new_uid(self, name: str) -> str:
        uid, number = name, 2
        while uid in self._used_uids:
            uid, number = f"{name} ({number})", number + 1
        self._used_uids.add(uid)
        return uid

    def _uid_of_before(self, image: Any) -> str:
        """The uid of the same image of the same file, that was deleted and is opened again; "" where it is new."""
        same = [uid for uid, of_before in self._deleted.items() if of_before == _identity(image)]
        if same:
            del self._deleted[same[0]]
        return same[0] if same else ""

    def _forget(self, linked: _Linked) -> None:
        """Let go of a deleted image. Its labels, a person's work, stay in the viewer; proposals go."""
        self._linked.pop(linked.uid)
        identity = _identity(linked.image)
        if identity is not None:
            self._deleted[linked.uid] = identity
        if self._overlay is not None and self._overlay.same_as[0] == linked.uid:
            self._remove_overlay()
        if linked.proposals is not None:
            self._remove_layer(linked.proposals)

    def _remove_layer(self, layer: Any) -> None:
        with self._quietly(), suppress(ValueError, KeyError):
            self._viewer.layers.remove(_unwrapped(layer))

    def _find(self, key: FrameKey) -> tuple[_Linked | None, tuple[int, ...]]:
        uid, position = _split(key)
        return self._linked.get(uid), position

    def _choice(self, linked: _Linked) -> ImageChoice:
        names = _axis_labels(linked.image)
        try:
            layout, trouble = linked.layout, ""
            if not all(layout.shape):
                trouble = f"the image is empty, shape {layout.shape}; load one that has pixels"
        except ImageError as error:
            layout, trouble = None, str(error)
        titles = [] if layout is None else [_axis_title(i, names[i], layout.shape[i]) for i in range(layout.ndim)]
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

    def _current_image(self) -> _Linked | None:
        """The image that is looked at: of the selected layer, else the same as before, else the topmost visible."""
        chosen = [linked for linked in self._linked.values() if linked.chosen and _is_usable(linked)]
        active = self._viewer.layers.selection.active
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

    def _bring_forward(self, linked: _Linked) -> None:
        """Show an image and its label layers; hide other images that would lie over it."""
        shown = self._current_image()
        with self._quietly():
            if shown is not None and shown is not linked and not self._is_grid():
                for other in self._linked.values():
                    if other.chosen and other is not linked:
                        _set_visible(other, False)
            _set_visible(linked, True)
            layer = linked.proposals if linked.proposals is not None else linked.image
            self._viewer.layers.selection.active = _unwrapped(layer)
        self._current = linked.uid

    def _is_grid(self) -> bool:
        """Whether layers lie side by side (``viewer.canvas`` since napari 0.9)."""
        owner = self._viewer.canvas if hasattr(self._viewer, "canvas") else self._viewer
        return bool(owner.grid.enabled)

    def _data_point(self, linked: _Linked) -> npt.NDArray[np.float64]:
        """Where the sliders stand, in pixels of the image."""
        dims, ndim = self._viewer.dims, linked.layout.ndim
        world = np.zeros(ndim)
        point = np.asarray(dims.point, dtype=float)[-ndim:]
        world[-len(point) :] = point
        return np.asarray(linked.image.world_to_data(world * world_to_layer_units(dims, linked.image)))

    # ------------------------------------------------------------------ private: label layers
    def _adoptable(self, linked: _Linked) -> Any:
        """A labels layer "<image> labels" that is there already and fits: from an earlier dock, or from a file."""
        layer = self._free_labels.get(f"{linked.image.name} labels")
        return layer if layer is not None and linked.layout.fits(layer.data) else None

    def _add_labels(self, linked: _Linked, role: str, *, opacity: float) -> Any:
        layout = linked.layout
        layer = Labels(
            layout.empty_labels(np.int32 if role == "objects" else np.uint8),
            name=f"{linked.image.name} {role}",
            opacity=opacity,
            metadata={_ROLE: role},
            **geometry_like(linked.image, drop_axis=None if layout.keeps_channel_axis else linked.channel_axis),
        )
        if role != "objects":  # of which each has a colour of its own, as napari gives it
            self._colour(layer)
        self._insert(self._place_for(linked, role), layer)
        with self._quietly():
            layer.visible = bool(linked.image.visible)
        self._watch_painting(layer)
        return layer

    def _insert(self, place: int, layer: Any) -> None:
        """Add a layer; the selected one stays selected."""
        active = self._viewer.layers.selection.active
        with self._quietly():
            self._viewer.layers.insert(place, layer)
            if active is not None:
                self._viewer.layers.selection.active = _unwrapped(active)

    def _place_for(self, linked: _Linked, role: str) -> int:
        """Above the image; what a person painted lies above what was proposed, and objects above both."""
        above = {"labels": (linked.proposals,), "objects": (linked.labels, linked.proposals)}.get(role, ())
        below = next((layer for layer in above if layer is not None), linked.image)
        ids = [layer.unique_id for layer in self._viewer.layers]
        return ids.index(below.unique_id) + 1

    def _boxes_of(self, linked: _Linked) -> Any:
        """The Shapes layer with the boxes of an image: its own, the selected one, or one of an earlier dock."""
        if linked.boxes is not None:
            return linked.boxes
        taken = {other.boxes.unique_id for other in self._linked.values() if other.boxes is not None}
        active = self._viewer.layers.selection.active
        for layer in self._viewer.layers:
            if not isinstance(layer, Shapes) or layer.unique_id in taken or layer.metadata.get(_ROLE) == "line":
                continue
            is_selected = active is not None and layer.unique_id == active.unique_id
            if is_selected or (layer.metadata.get(_ROLE) == "boxes" and layer.name == f"{linked.image.name} boxes"):
                return layer
        return None

    def _watch_boxes(self, layer: Any) -> None:
        self._connect(layer.events.data, self._on_box)

    def _watch_painting(self, layer: Any) -> None:
        self._connect(layer.events.paint, self._on_edit)
        self._connect(layer.events.labels_update, self._on_brush)
        self._connect(layer.events.set_data, self._on_redrawn)

    def _colour(self, layer: Any) -> None:
        colours: dict[int | None, Any] = {c.id: c.colour for c in self._classes}
        colours |= {None: _UNNAMED_COLOUR, 0: "transparent", PAINTED_BACKGROUND: BACKGROUND_COLOUR}
        names = [c.name for c in self._classes]
        unpainted = "background" if layer.metadata.get(_ROLE) == "proposals" else "not painted"
        with self._quietly():
            layer.colormap = DirectLabelColormap(color_dict=colours)
            layer.features = {
                "index": [0, *(c.id for c in self._classes), PAINTED_BACKGROUND],
                "name": [unpainted, *names, "background"],
            }

    def _put(self, linked: _Linked, layer: Any, position: tuple[int, ...], labels: npt.NDArray[Any] | int) -> None:
        """Write one whole slice, without napari's undo."""
        index = linked.layout.label_index(position, layer.data.ndim)
        layer.data[index] = labels
        with self._quietly(), suppress(ImageError):
            if self.cut() is not None or self._position(linked) == position:
                layer.refresh(extent=False)

    def _write(
        self,
        linked: _Linked,
        layer: Any,
        slices: Sequence[tuple[tuple[int, ...], npt.NDArray[Any], npt.NDArray[Any]]],
    ) -> None:
        """Write values where a mask says so on several slices, as one step of napari's undo where memory allows."""
        layout = linked.layout
        with self._quietly():
            if sum(int(mask.sum()) for _, mask, _ in slices) > _HISTORY_PIXELS:
                for position, mask, values in slices:
                    layer.data[layout.label_index(position, layer.data.ndim)][mask] = values[mask]
            else:
                with layer.block_history():
                    for position, mask, values in slices:
                        rows, columns = np.nonzero(mask)
                        if len(rows):
                            index = _pixel_indices(layout.label_index(position, layer.data.ndim), rows, columns)
                            layer.data_setitem(index, values[mask], refresh=False)
            layer.refresh(extent=False)


def _frames_of(linked: _Linked) -> Iterator[Frame]:
    if not _is_usable(linked):
        return
    layout = linked.layout
    y, x = (abs(float(linked.image.scale[axis])) for axis in layout.plane)
    slices = {position: LayerSlice(linked, position) for position in layout.positions()}
    letters = slider_letters(_axis_labels(linked.image), layout.sliders, linked.depth_axis)
    steps = [abs(float(linked.image.scale[axis])) for axis in layout.sliders]
    together = Stack.of(list(slices.values()), letters, steps) if layout.sliders else None
    for position, one in slices.items():
        yield Frame((linked.uid, *position), one, (y, x), together)


def _is_usable(linked: _Linked) -> bool:
    try:
        return all(linked.layout.shape)
    except ImageError:
        return False


def _slice_of(linked: _Linked, layer: Any, position: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """A copy of one slice (H, W) of a label layer, of its data type; None where there is no layer."""
    return None if layer is None else _view_of(linked, layer, position).copy()


def _is_any(labels: npt.NDArray[Any]) -> bool:
    """Whether anything but 0 is there: asked at every stroke, so no more rows are looked at than it takes."""
    return any(bool(labels[top : top + _ROWS].any()) for top in range(0, len(labels), _ROWS))


def _view_of(linked: _Linked, layer: Any, position: tuple[int, ...]) -> npt.NDArray[Any]:
    """One slice (H, W) of a label layer."""
    if not linked.layout.fits(layer.data):
        raise MaskError(_misfit(linked, layer))
    return np.asarray(layer.data[linked.layout.label_index(position, layer.data.ndim)])


def _misfit(linked: _Linked, layer: Any) -> str:
    return (
        f"'{layer.name}' has shape {layer.data.shape} but '{linked.image.name}' is {linked.layout.shape}; "
        "rename or delete that layer and paint on a new one"
    )


def _pixel_indices(
    index: tuple[int | slice, ...], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], ...]:
    """Turn the index of a slice and pixels in it into one index array for each axis."""
    plane = iter((rows, columns))
    return tuple(next(plane) if isinstance(at, slice) else np.full(rows.shape, at) for at in index)


def _identity(image: Any) -> tuple[Any, ...] | None:
    """What an image layer has in common with another one of the same image in the same file; None without a file."""
    path = getattr(image.source, "path", None)
    data = image.data[0] if image.multiscale else image.data
    return None if path is None else (str(path), str(image.name), tuple(map(int, data.shape)))


def _guess(image: Any) -> int | None:
    axis = guess_channel_axis(_axis_labels(image), bool(image.rgb))
    data = image.data[0] if image.multiscale else image.data
    try:
        Layout(tuple(map(int, data.shape)), bool(image.rgb), axis)
    except ImageError:
        return None
    return axis


def _holds_classes(labels: Any) -> bool:
    """Whether a labels layer can be one of ours: in memory, and not somebody's thousand numbered cells."""
    data = labels.data
    if labels.multiscale or not isinstance(data, np.ndarray):
        return False
    return data.dtype == np.uint8 or not data.size or int(data.max()) <= PAINTED_BACKGROUND


def _axis_labels(image: Any) -> tuple[str, ...]:
    return tuple(map(str, image.axis_labels))


def _axis_title(axis: int, label: str, size: int) -> str:
    """For example: axis 1 (z), 40 long."""
    return f"axis {axis}{'' if _is_default(label) else f' ({label})'}, {size} long"


def _is_default(axis_label: str) -> bool:
    """napari's own labels are "-3", or "axis -3" in older versions."""
    return axis_label.removeprefix("axis").strip().lstrip("-").isdecimal() or not axis_label.strip()


def _set_visible(linked: _Linked, visible: bool) -> None:
    for layer in (linked.image, linked.labels, linked.proposals):
        if layer is not None and layer.visible != visible:  # napari slices it anew even where nothing changes
            layer.visible = visible
    if linked.objects is not None:
        linked.objects.visible = visible and linked.separates


def _split(key: FrameKey) -> tuple[str, tuple[int, ...]]:
    if isinstance(key, str):
        return key, ()
    return str(key[0]), tuple(int(place) for place in key[1:])


def _unwrapped(layer: Any) -> Any:
    """The layer itself: plugins get proxies, which napari's selection does not recognise (napari#5767)."""
    return getattr(layer, "__wrapped__", layer)
