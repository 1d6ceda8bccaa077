"""The only place that reads and writes the layers of the viewer."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Shapes
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from napari_fewshot.boxes import Box
from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.frames import Labels as LabelMap
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.axes import Cut, Layout, guess_depth_axis, slider_letters
from napari_fewshot.ui.box_layer import box_layer, boxes_on, colour_boxes, draw_with, take_over
from napari_fewshot.ui.drawing_tool import DrawingTool
from napari_fewshot.ui.layer_geometry import geometry_like, units_of
from napari_fewshot.ui.linked_image import (
    LinkedImage,
    axis_labels,
    axis_title,
    frames_of,
    guessed_channel_axis,
    holds_classes,
    identity_of,
    is_any,
    is_default,
    is_usable,
    misfit,
    pixel_indices,
    slice_of,
    split,
    unwrapped,
    view_of,
)
from napari_fewshot.ui.overlay_layer import overlay_layer, redraw
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, ExportStack
from napari_fewshot.ui.screen import Screen
from napari_fewshot.ui.state import ImageChoice, OverlayPicture

BACKGROUND_COLOUR = "#9ecae1"
_UNNAMED_COLOUR = "#ff00ff"
_ROLE = "napari_fewshot"  # key in a layer's metadata: says that a label layer is ours
_BRUSH_SECONDS = 0.1
_HISTORY_PIXELS = 5_000_000  # more than this in one step would fill the memory with napari's undo records


@dataclass(frozen=True, eq=False)
class _OverlaidImage:
    """The layer of a picture that lies over a slice, and what another picture must have in common to go on it."""

    layer: Any
    same_as: tuple[str, tuple[int, ...]]


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
        self._linked: dict[str, LinkedImage] = {}
        self._used_uids: set[str] = set()
        self._deleted: dict[str, tuple[Any, ...]] = {}  # what is known of images by uid, for when they are opened again
        self._classes: tuple[LabelClass, ...] = ()
        self._overlay: _OverlaidImage | None = None
        self._busy = False
        self._brush_told_at = 0.0
        self._free_labels: dict[str, Any] = {}
        self._screen = Screen(viewer, lambda: self._linked.values(), self._quietly)
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
        linked.depth_axis = guess_depth_axis(axis_labels(linked.image), linked.layout.sliders)
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
        return [frame for linked in self._linked.values() if linked.chosen for frame in frames_of(linked)]

    def name(self, key: FrameKey) -> str:
        """What to call a frame now: ``coins``, ``coins [3]``, ``movie [t=0, z=3]``."""
        uid, position = split(key)
        linked = self._linked.get(uid)
        if linked is None:
            return f"{uid} [{', '.join(map(str, position))}]" if position else uid
        if not position:
            return str(linked.image.name)
        labels = axis_labels(linked.image)
        sliders = linked.layout.sliders
        places = [
            str(place) if is_default(labels[axis]) else f"{labels[axis]}={place}"
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
        return self._screen.shown()

    def cut(self) -> Cut | None:
        """The cut through a chosen stack that is on screen, None where slices are."""
        return self._screen.cut()

    def go_to(self, key: FrameKey) -> None:
        """Bring a frame on screen: its image in front, the sliders at its slice."""
        uid, position = split(key)
        self._screen.go_to(self._linked[uid], position)

    def is_cut_painted(self, cut: Cut) -> bool:
        """Whether anything is painted on a cut."""
        for key in cut.keys:
            linked, position = self._find(key)
            layer = None if linked is None else linked.labels if linked.labels is not None else self._adoptable(linked)
            if linked is not None and layer is not None and cut.line_of(view_of(linked, layer, position)).any():
                return True
        return False

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
        return slice_of(linked, linked.labels if linked.labels is not None else self._adoptable(linked), position)

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
        return linked is not None and layer is not None and is_any(view_of(linked, layer, position))

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
        self._viewer.layers.selection.active = unwrapped(linked.boxes)
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
        layer = None if linked is None or not is_usable(linked) else self._boxes_of(linked)
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
            there = slice_of(linked, linked.labels, position)
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
            there = slice_of(linked, linked.labels, position)
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
        return slice_of(linked, linked.proposals, position)

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
        return slice_of(linked, linked.objects, position)

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
            there = view_of(linked, linked.objects, position)
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
        self._viewer.layers.selection.active = unwrapped(layer)
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
            if linked.labels is not None or (is_usable(linked) and self._adoptable(linked) is not None)
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
            raise MaskError(misfit(linked, linked.labels))
        labels = np.array(layout.stack_of(np.asarray(linked.labels.data)))
        names = axis_labels(image)
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
            linked.revision += linked.image is unwrapped(source)
            if not is_usable(linked):
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
        linked = self._screen.image()
        if linked is None or linked.objects is None:
            return
        try:
            index = linked.layout.label_index(self._screen.position_in(linked), linked.objects.data.ndim)
        except ImageError:  # a cut is on screen, say: whoever hears of it tells what can be done
            self.drawn.emit([])
            return
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
            if isinstance(layer, Labels) and layer.unique_id not in taken and holds_classes(layer)
        }
        known = {linked.image.unique_id for linked in self._linked.values()}
        for layer in present.values():
            if isinstance(layer, Image) and layer.unique_id not in known and layer.metadata.get(_ROLE) != "overlay":
                self._take_up(layer)
        order = {unique_id: place for place, unique_id in enumerate(present)}
        self._linked = dict(sorted(self._linked.items(), key=lambda item: order[item[1].image.unique_id]))

    def _take_up(self, image: Any) -> None:
        uid = self._uid_of_before(image) or self._new_uid(str(image.name))
        self._linked[uid] = linked = LinkedImage(uid, image, channel_axis=guessed_channel_axis(image))
        with suppress(ImageError):  # of no plane: it is told where it is listed
            linked.depth_axis = guess_depth_axis(axis_labels(image), linked.layout.sliders)
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
        same = [uid for uid, of_before in self._deleted.items() if of_before == identity_of(image)]
        if same:
            del self._deleted[same[0]]
        return same[0] if same else ""

    def _forget(self, linked: LinkedImage) -> None:
        """Let go of a deleted image. Its labels, a person's work, stay in the viewer; proposals go."""
        self._linked.pop(linked.uid)
        identity = identity_of(linked.image)
        if identity is not None:
            self._deleted[linked.uid] = identity
        if self._overlay is not None and self._overlay.same_as[0] == linked.uid:
            self._remove_overlay()
        if linked.proposals is not None:
            self._remove_layer(linked.proposals)

    def _remove_layer(self, layer: Any) -> None:
        with self._quietly(), suppress(ValueError, KeyError):
            self._viewer.layers.remove(unwrapped(layer))

    def _find(self, key: FrameKey) -> tuple[LinkedImage | None, tuple[int, ...]]:
        uid, position = split(key)
        return self._linked.get(uid), position

    def _choice(self, linked: LinkedImage) -> ImageChoice:
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

    # ------------------------------------------------------------------ private: label layers
    def _adoptable(self, linked: LinkedImage) -> Any:
        """A labels layer "<image> labels" that is there already and fits: from an earlier dock, or from a file."""
        layer = self._free_labels.get(f"{linked.image.name} labels")
        return layer if layer is not None and linked.layout.fits(layer.data) else None

    def _add_labels(self, linked: LinkedImage, role: str, *, opacity: float) -> Any:
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
                self._viewer.layers.selection.active = unwrapped(active)

    def _place_for(self, linked: LinkedImage, role: str) -> int:
        """Above the image; what a person painted lies above what was proposed, and objects above both."""
        above = {"labels": (linked.proposals,), "objects": (linked.labels, linked.proposals)}.get(role, ())
        below = next((layer for layer in above if layer is not None), linked.image)
        ids = [layer.unique_id for layer in self._viewer.layers]
        return ids.index(below.unique_id) + 1

    def _boxes_of(self, linked: LinkedImage) -> Any:
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

    def _put(self, linked: LinkedImage, layer: Any, position: tuple[int, ...], labels: npt.NDArray[Any] | int) -> None:
        """Write one whole slice, without napari's undo."""
        index = linked.layout.label_index(position, layer.data.ndim)
        layer.data[index] = labels
        with self._quietly(), suppress(ImageError):
            if self.cut() is not None or self._screen.position_in(linked) == position:
                layer.refresh(extent=False)

    def _write(
        self,
        linked: LinkedImage,
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
                            index = pixel_indices(layout.label_index(position, layer.data.ndim), rows, columns)
                            layer.data_setitem(index, values[mask], refresh=False)
            layer.refresh(extent=False)
