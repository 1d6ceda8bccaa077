"""All layers of a viewer as the dock asks for them: a frame is named by its key, an image by its uid."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_fewshot.boxes import Box
from napari_fewshot.errors import MaskError
from napari_fewshot.frames import Frame, FrameKey, frame_name
from napari_fewshot.frames import Labels as LabelMap
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.axes import Cut, Layout, guess_depth_axis
from napari_fewshot.ui.box_layer import colour_boxes
from napari_fewshot.ui.drawing_tool import DrawingTool
from napari_fewshot.ui.drawn_boxes import DrawnBoxes
from napari_fewshot.ui.label_layers import Change, LabelLayers
from napari_fewshot.ui.layer_role import give_role
from napari_fewshot.ui.linked_image import (
    axis_labels,
    choice_of,
    frames_of,
    is_any,
    is_usable,
    name_of,
    slice_of,
    source_of,
    split,
    stack_of,
    unwrapped,
    view_of,
)
from napari_fewshot.ui.linked_images import LinkedImages
from napari_fewshot.ui.object_layers import ObjectLayers
from napari_fewshot.ui.overlay_layer import SliceOverlay
from napari_fewshot.ui.ports import ExportStack
from napari_fewshot.ui.screen import Screen
from napari_fewshot.ui.state import ImageChoice, OverlayPicture
from napari_fewshot.ui.viewer_layers import ViewerLayers

_BRUSH_SECONDS = 0.1


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
        self._brush_told_at = 0.0
        self._layers = ViewerLayers(viewer)
        self._images = LinkedImages(self._layers)
        self._screen = Screen(viewer, self._images, self._layers)
        self._labels = LabelLayers(self._layers, self._screen, self._watch_painting)
        self._boxes = DrawnBoxes(self._layers, self._labels, self._images, self._watch_boxes)
        self._tool = DrawingTool(viewer, self._layers)
        self._tool.dropped.connect(self.tool_dropped.emit)
        self._objects = ObjectLayers(self._layers, self._labels, self._screen, self._tool)
        self._objects.drawn.connect(self.drawn.emit)
        self._overlay = SliceOverlay(self._layers)
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
            self._layers.connect(emitter, slot)
        if hasattr(events, "renamed"):  # not in every napari
            self._layers.connect(events.renamed, self._on_layers)
        self._find_images()

    def close(self) -> None:
        """Let go of the viewer. Layers stay as they are, but for the picture over them, which would grow old."""
        with suppress(Exception):  # the viewer may be half gone
            self._tool.drop()
            self._overlay.remove()
        self._layers.close()
        self._images.clear()

    # ------------------------------------------------------------------ images
    def images(self) -> list[ImageChoice]:
        """All image layers, in their order."""
        return [choice_of(linked) for linked in self._images]

    def choose(self, uid: str, chosen: bool) -> None:
        """Label an image, or leave it alone."""
        self._images[uid].chosen = chosen

    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image holds channels; label layers that no longer fit are let go of."""
        linked = self._images[uid]
        Layout(linked.layout.shape, linked.layout.rgb, axis)  # refuses what leaves no plane
        linked.channel_axis = axis
        linked.depth_axis = guess_depth_axis(axis_labels(linked.image), linked.layout.sliders)
        linked.written.clear()
        proposals, linked.proposals = linked.proposals, None
        linked.forget_misfits()
        if proposals is not None:
            self._layers.remove(proposals)

    def set_depth_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image is its depth; the others that one moves along are time, and what else there is."""
        self._images[uid].depth_axis = axis

    def frames(self) -> list[Frame]:
        """Every frame of every chosen image, lazily read."""
        return [frame for linked in self._images if linked.chosen for frame in frames_of(linked)]

    def name(self, key: FrameKey) -> str:
        """What to call a frame now: ``coins``, ``coins [3]``, ``movie [t=0, z=3]``."""
        linked, position = self._images.find(key)
        return frame_name(key) if linked is None else name_of(linked, position)

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
        self._screen.go_to(self._images[uid], position)

    def is_cut_painted(self, cut: Cut) -> bool:
        """Whether anything is painted on a cut."""
        for key in cut.keys:
            painted = self._painted(key)
            if painted is not None and cut.line_of(painted).any():
                return True
        return False

    # ------------------------------------------------------------------ labels
    def ensure_labels(self, uid: str) -> bool:
        """Make the labels layer of an image where there is none; one of that name that fits is used."""
        linked = self._images[uid]
        if linked.labels is not None:
            return False
        linked.written.clear()
        if self._images.adopt_labels(linked):
            give_role(linked.labels, "labels")  # 254 is painted background from now on
            self._labels.colour(linked.labels)
            self._watch_painting(linked.labels)
            return False
        linked.labels = self._labels.add(linked, "labels", opacity=0.6)
        return True

    def painted(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """A copy of the labels layer at a frame (H, W), 254 for painted background; None where there is no layer."""
        painted = self._painted(key)
        return None if painted is None else painted.copy()

    def painted_by_hand(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """The same without what `write_accepted` wrote."""
        painted, (linked, position) = self.painted(key), self._images.find(key)
        written = None if linked is None else linked.written.get(position)
        if painted is not None and written is not None and written.shape == painted.shape:
            painted[painted == written] = 0
        return painted

    def is_painted(self, key: FrameKey) -> bool:
        """Whether anything is painted at a frame."""
        painted = self._painted(key)
        return painted is not None and is_any(painted)

    def _painted(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """The labels layer at a frame (H, W), not to be written to."""
        linked, position = self._images.find(key)
        layer = None if linked is None else self._images.labels_of(linked)
        return None if linked is None or layer is None else view_of(linked, layer, position)

    def paints_anywhere(self, value: int) -> str:
        """Name of a labels layer that holds this value, or ""."""
        for linked in self._images:
            if linked.labels is not None and bool((np.asarray(linked.labels.data) == value).any()):
                return str(linked.labels.name)
        return ""

    def restore_painted(self, key: FrameKey, labels: LabelMap) -> None:
        """Write labels into a new labels layer."""
        linked, position = self._images.find(key)
        if linked is not None and linked.labels is not None:
            self._labels.put(linked, linked.labels, position, labels)

    def write_accepted(self, accepted: Sequence[tuple[FrameKey, LabelMap]]) -> None:
        """Write into labels layers where nobody painted: one step of napari's own undo for each layer."""
        news: dict[str, dict[tuple[int, ...], LabelMap]] = {}
        for key, labels in accepted:
            linked, position = self._images.find(key)
            if linked is not None and linked.labels is not None:
                news.setdefault(linked.uid, {})[position] = labels
        self._write({uid: self._labels.accepting(self._images[uid], of_image) for uid, of_image in news.items()})

    def unwrite(self, keys: Sequence[FrameKey]) -> None:
        """Take out again what `write_accepted` wrote at these frames, and nothing else."""
        positions: dict[str, list[tuple[int, ...]]] = {}
        for key in keys:
            linked, position = self._images.find(key)
            if linked is not None:
                positions.setdefault(linked.uid, []).append(position)
        self._write({uid: self._labels.unwriting(self._images[uid], of_image) for uid, of_image in positions.items()})

    def _write(self, changes: Mapping[str, Sequence[Change]]) -> None:
        for uid, of_image in changes.items():
            if of_image:
                self._labels.write(self._images[uid], self._images[uid].labels, of_image)

    def take_brush(self, key: FrameKey, value: int, *, on_proposal: bool) -> None:
        """Select the layer to paint on, the brush and its value."""
        linked, _ = self._images.find(key)
        layer = None if linked is None else linked.proposals if on_proposal else linked.labels
        if layer is None:
            return
        layer.visible = True
        self._layers.select(layer)
        layer.selected_label = value
        layer.mode = "paint"

    def set_classes(self, classes: Sequence[LabelClass]) -> None:
        """Give the label layers these colours and names."""
        if tuple(classes) == self._labels.classes:
            return
        self._labels.classes = tuple(classes)
        for linked in self._images:
            for layer in (linked.labels, linked.proposals):
                if layer is not None:
                    self._labels.colour(layer)
            if linked.boxes is not None:
                colour_boxes(linked.boxes, self._labels.colours)

    # ------------------------------------------------------------------ boxes
    def draw_boxes(self, key: FrameKey, class_id: int) -> None:
        """Let boxes of a class be drawn on a Shapes layer of the image; one that is selected is taken."""
        linked, _ = self._images.find(key)
        if linked is not None:
            self._boxes.draw(linked, class_id)

    def is_drawing_boxes(self, key: FrameKey) -> bool:
        """Whether boxes of the image of a frame are being drawn."""
        linked, _ = self._images.find(key)
        return linked is not None and linked.boxes is not None and self._layers.is_selected(linked.boxes)

    def boxes(self, key: FrameKey, class_id: int) -> Sequence[Box]:
        """Boxes that are drawn at a frame; those on a Shapes layer that a person made and selected are of this class.

        Whole numbers are edges of pixels, see `Box`.
        """
        linked, position = self._images.find(key)
        return () if linked is None else self._boxes.on(linked, self._viewer.dims, position, class_id)

    def keep_boxes(self, key: FrameKey, class_id: int) -> None:
        """Keep the Shapes layer that boxes are read from for the image, whatever is selected later."""
        linked, _ = self._images.find(key)
        if linked is not None:
            self._boxes.keep(linked, class_id)

    # ------------------------------------------------------------------ proposals
    def ensure_proposals(self, uid: str) -> bool:
        """Make the proposal layer of an image where there is none."""
        linked = self._images[uid]
        if linked.proposals is not None and linked.layout.fits(linked.proposals.data):
            return False
        linked.proposals = self._labels.add(linked, "proposals", opacity=0.4)
        return True

    def proposed(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """A copy of the proposal layer at a frame (H, W), as a person may have changed it; None where there is none."""
        linked, position = self._images.find(key)
        if linked is None or linked.proposals is None or not linked.layout.fits(linked.proposals.data):
            return None
        return slice_of(linked, linked.proposals, position)

    def show_proposal(self, key: FrameKey, labels: npt.NDArray[Any]) -> None:
        """Put a proposal on its layer."""
        linked, position = self._images.find(key)
        if linked is not None and linked.proposals is not None:
            self._labels.put(linked, linked.proposals, position, labels)

    def clear_proposals(self, keys: Sequence[FrameKey]) -> None:
        """Take proposals off their layer."""
        for key in keys:
            linked, position = self._images.find(key)
            if linked is not None and linked.proposals is not None:
                with suppress(MaskError, IndexError):  # of an image that changed its shape nothing is left
                    self._labels.put(linked, linked.proposals, position, 0)

    # ------------------------------------------------------------------ objects
    def ensure_objects(self, uid: str) -> bool:
        """Make the layer of the objects of an image where there is none; one of that name that fits is used."""
        return self._objects.ensure(self._images[uid])

    def objects(self, key: FrameKey) -> npt.NDArray[Any] | None:
        """A copy of the objects at a frame (H, W), as a person may have changed them; None where there is no layer."""
        linked, position = self._images.find(key)
        if linked is None or linked.objects is None or not linked.layout.fits(linked.objects.data):
            return None
        return slice_of(linked, linked.objects, position)

    def show_objects(self, key: FrameKey, ids: npt.NDArray[Any]) -> None:
        """Put objects on their layer, which must be there."""
        linked, position = self._images.find(key)
        if linked is not None and linked.objects is not None:
            self._labels.put(linked, linked.objects, position, ids)

    def hide_objects(self) -> None:
        """Let the layers of objects be seen no more; what is on them stays."""
        self._objects.hide(self._images)

    def write_objects(self, key: FrameKey, ids: npt.NDArray[Any]) -> None:
        """Put objects on their layer as a person would, as one step of napari's own undo."""
        linked, position = self._images.find(key)
        if linked is not None and linked.objects is not None:
            there = view_of(linked, linked.objects, position)
            self._labels.write(linked, linked.objects, [(position, there != ids, ids)])

    def take_tool(self, key: FrameKey) -> None:
        """Let lines be drawn over the layer of objects, which must be there."""
        linked, _ = self._images.find(key)
        if linked is not None and linked.objects is not None:
            self._tool.take(linked.objects)

    def drop_tool(self) -> None:
        """Let no more lines be drawn."""
        self._tool.drop()

    # ------------------------------------------------------------------ what lies over a slice
    def show_overlay(self, key: FrameKey, picture: OverlayPicture) -> None:
        """Lay a picture over a frame, on a layer of its own, instead of the one before."""
        linked, position = self._images.find(key)
        if linked is None:
            self._overlay.hide()
        else:
            self._overlay.show(linked, position, picture)

    def hide_overlay(self) -> None:
        """Let that layer be seen no more."""
        self._overlay.hide()

    def has_overlay(self) -> bool:
        """Whether that layer is there."""
        return self._overlay.is_there

    # ------------------------------------------------------------------ export
    def label_layers(self) -> list[tuple[str, str]]:
        """(uid, name of the image) of every image that has a labels layer."""
        return [
            (linked.uid, str(linked.image.name))
            for linked in self._images
            if linked.labels is not None or (is_usable(linked) and self._images.labels_of(linked) is not None)
        ]

    def source_of(self, uid: str) -> Path | None:
        """The file or folder that an image was opened from, where there is one on this machine."""
        return source_of(self._images[uid])

    def export_stack(self, uid: str) -> ExportStack:
        """A copy of the labels of an image, 254 for painted background, with what is known of its scale."""
        self.ensure_labels(uid)
        return stack_of(self._images[uid])

    # ------------------------------------------------------------------ private: events
    def _find_images(self) -> None:
        """Take up new image layers, and forget layers that were deleted."""
        news, gone = self._images.refresh()
        self._overlay.on_layers(gone)
        for linked in gone:
            if linked.proposals is not None:  # labels, a person's work, stay in the viewer
                self._layers.remove(linked.proposals)
        for linked in news:
            self._layers.connect(linked.image.events.name, self._on_layers)
            self._layers.connect(linked.image.events.data, self._on_data)
            self._layers.connect(linked.image.events.visible, self._on_slice)

    def _on_data(self, event: Any = None) -> None:
        """Let go of labels that lie no longer on their image; they stay in the viewer. Proposals go."""
        source = getattr(event, "source", None)
        for linked in self._images:
            linked.known_layout = None
            linked.revision += linked.image is unwrapped(source)
            proposals = linked.forget_misfits() if is_usable(linked) else None
            if proposals is not None:
                self._layers.remove(proposals)
        self._on_layers()

    def _on_layers(self, event: Any = None) -> None:
        if self._layers.is_changing:
            return
        self._find_images()
        self.layers_changed.emit()

    def _on_slice(self, event: Any = None) -> None:
        if not self._layers.is_changing:
            self.slice_changed.emit()

    def _watch_painting(self, layer: Any) -> None:
        self._layers.connect(layer.events.paint, self._on_edit)
        self._layers.connect(layer.events.labels_update, self._on_brush)
        self._layers.connect(layer.events.set_data, self._on_redrawn)

    def _on_edit(self, event: Any = None) -> None:
        if not self._layers.is_changing:
            self.edited.emit()

    def _on_brush(self, event: Any = None) -> None:
        """Every movement of the brush ends here: tell about it now and then, the end of a stroke is told anyway."""
        if not self._layers.is_changing and time.monotonic() - self._brush_told_at > _BRUSH_SECONDS:
            self._brush_told_at = time.monotonic()
            self.brushed.emit()

    def _on_redrawn(self, event: Any = None) -> None:
        """What napari's undo ends with."""
        if not self._layers.is_changing:
            self.brushed.emit()

    def _watch_boxes(self, layer: Any) -> None:
        self._layers.connect(layer.events.data, self._on_box)

    def _on_box(self, event: Any = None) -> None:
        """A box was drawn, changed or removed; while the mouse still moves, nothing is told."""
        if not self._layers.is_changing and str(getattr(event, "action", "")).lower().endswith("ed"):
            self.edited.emit()
