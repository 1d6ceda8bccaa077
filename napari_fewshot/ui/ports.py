"""What the controller asks of the window: its view, the layers, a thread. Fakes of these stand in for it in tests."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_fewshot.boxes import Box
from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.models.cache_settings import CacheSettings, CacheUsage
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.axes import Cut
from napari_fewshot.ui.state import DockState, ImageChoice, OverlayPicture

PAINTED_BACKGROUND = 254
"""Value of brushed background in a labels layer, where 0 means that nobody painted."""

Stack = npt.NDArray[np.unsignedinteger[Any]]
"""(sliders..., H, W) label values."""


class Asker(Protocol):
    """Who asked for a job, as the job can reach them from its thread."""

    def gave_up(self) -> bool:
        """Whether the job should stop."""
        ...

    def tell(self, item: object) -> None:
        """Say something in the middle of a step, before there is anything to yield."""
        ...


Job = Callable[[Asker], Iterator[object]]
"""Work for a thread: yields what it finds."""


@dataclass(frozen=True)
class ExportChoice:
    """A label layer that can be exported: its image, that one's name and file, and the file name to suggest."""

    uid: str
    name: str
    file_name: str
    source: Path | None = None
    told_apart: bool = False
    """Whether the numbers of its objects are written beside it, in formats that do not list objects."""


@dataclass(frozen=True)
class ExportRequest:
    """What a person asked to export: layer (uid) and file for each, and whether open proposals count.

    In a format of one file for all images, the files are the same.
    """

    files: tuple[tuple[str, Path], ...]
    with_proposals: bool = False
    overwrite: bool = False
    format: str = "tiff"
    with_origins: bool = False
    """Whether it is also to be written who labelled what."""

    def origins_file(self, choice: ExportChoice, file: Path) -> Path:
        """Return where the origins of the labels of an image go."""
        return file.with_name(f"{Path(choice.file_name).stem}_provenance.tif")

    @property
    def origins_table(self) -> Path:
        """Where the table of origins goes."""
        return self.files[0][1].with_name("provenance.csv")


@dataclass(frozen=True, eq=False)
class ExportStack:
    """The labels of one image, with what its layer knows."""

    labels: Stack
    spacing: tuple[float, ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]
    name: str = "labels"
    source: Path | None = None


class View(Protocol):
    """The dock as the controller sees it."""

    def show_state(self, state: DockState) -> None:
        """Draw this."""
        ...

    def notify(self, message: str, *, error: BaseException | None = None, is_error: bool = False) -> None:
        """Say something in passing; ``error`` is an unexpected one, to be reported in full."""
        ...

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered by yes or no."""
        ...

    def ask_export(self, choices: Sequence[ExportChoice]) -> ExportRequest | None:
        """Ask what to export and where; None when the person changed their mind."""
        ...


class Layers(Protocol):
    """The layers of the viewer as the controller sees them; frames are named by key, images by uid."""

    def images(self) -> Sequence[ImageChoice]:
        """All image layers, in their order."""
        ...

    def choose(self, uid: str, chosen: bool) -> None:
        """Label an image, or leave it alone."""
        ...

    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image holds channels."""
        ...

    def set_depth_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image is its depth."""
        ...

    def frames(self) -> Sequence[Frame]:
        """Every frame of every chosen image, lazily read."""
        ...

    def name(self, key: FrameKey) -> str:
        """What to call a frame now."""
        ...

    def shown(self) -> FrameKey | None:
        """The frame on screen, None where no chosen image is there; raises ImageError where it cannot be told."""
        ...

    def cut(self) -> Cut | None:
        """The cut through a chosen stack that is on screen, None where slices are."""
        ...

    def is_cut_painted(self, cut: Cut) -> bool:
        """Whether anything is painted on a cut."""
        ...

    def go_to(self, key: FrameKey) -> None:
        """Bring a frame on screen."""
        ...

    def ensure_labels(self, uid: str) -> bool:
        """Make the labels layer of an image where there is none. Returns whether it is new."""
        ...

    def ensure_proposals(self, uid: str) -> bool:
        """Make the proposal layer of an image where there is none. Returns whether it is new."""
        ...

    def painted(self, key: FrameKey) -> npt.NDArray[np.integer[Any]] | None:
        """A copy of the labels layer at a frame (H, W), 254 for painted background; None where there is no layer."""
        ...

    def painted_by_hand(self, key: FrameKey) -> npt.NDArray[np.integer[Any]] | None:
        """The same without what `write_accepted` wrote."""
        ...

    def is_painted(self, key: FrameKey) -> bool:
        """Whether anything is painted at a frame."""
        ...

    def paints_anywhere(self, value: int) -> str:
        """Name of a labels layer that holds this value, or ""."""
        ...

    def draw_boxes(self, key: FrameKey, class_id: int) -> None:
        """Let boxes of a class be drawn on the image of a frame."""
        ...

    def is_drawing_boxes(self, key: FrameKey) -> bool:
        """Whether boxes of the image of a frame are being drawn."""
        ...

    def boxes(self, key: FrameKey, class_id: int) -> Sequence[Box]:
        """Boxes that are drawn at a frame; those of which it is not known yet what is in them are of this class."""
        ...

    def keep_boxes(self, key: FrameKey, class_id: int) -> None:
        """Remember where these boxes are, and that they are of this class."""
        ...

    def restore_painted(self, key: FrameKey, labels: Labels) -> None:
        """Write labels into a new labels layer."""
        ...

    def write_accepted(self, accepted: Sequence[tuple[FrameKey, Labels]]) -> None:
        """Write into labels layers where nobody painted, as one step of napari's own undo."""
        ...

    def unwrite(self, keys: Sequence[FrameKey]) -> None:
        """Take out again what `write_accepted` wrote at these frames, and nothing else."""
        ...

    def proposed(self, key: FrameKey) -> npt.NDArray[np.integer[Any]] | None:
        """A copy of the proposal layer at a frame (H, W), as a person may have changed it; None where there is none."""
        ...

    def show_proposal(self, key: FrameKey, labels: npt.NDArray[Any]) -> None:
        """Put a proposal on its layer, which must be there."""
        ...

    def clear_proposals(self, keys: Sequence[FrameKey]) -> None:
        """Take proposals off their layer."""
        ...

    def ensure_objects(self, uid: str) -> bool:
        """Make the layer of the objects of an image, and let it be seen. Returns whether it is new."""
        ...

    def objects(self, key: FrameKey) -> npt.NDArray[np.integer[Any]] | None:
        """A copy of the layer of objects at a frame (H, W), as a person may have changed it; None without a layer."""
        ...

    def show_objects(self, key: FrameKey, ids: npt.NDArray[Any]) -> None:
        """Put objects on their layer, which must be there."""
        ...

    def hide_objects(self) -> None:
        """Let the layers of objects be seen no more; what is on them stays."""
        ...

    def write_objects(self, key: FrameKey, ids: npt.NDArray[Any]) -> None:
        """Put objects on their layer as a person would, as one step of napari's own undo."""
        ...

    def take_tool(self, key: FrameKey) -> None:
        """Let lines be drawn over the layer of objects, which must be there."""
        ...

    def drop_tool(self) -> None:
        """Let no more lines be drawn."""
        ...

    def show_overlay(self, key: FrameKey, picture: OverlayPicture) -> None:
        """Lay a picture over a frame, on a layer of its own, instead of the one before."""
        ...

    def hide_overlay(self) -> None:
        """Remove that layer."""
        ...

    def has_overlay(self) -> bool:
        """Whether that layer is there: somebody may have deleted it."""
        ...

    def take_brush(self, key: FrameKey, value: int, *, on_proposal: bool) -> None:
        """Select the layer to paint on, the brush and its value."""
        ...

    def set_classes(self, classes: Sequence[LabelClass]) -> None:
        """Give the label layers these colours and names."""
        ...

    def label_layers(self) -> Sequence[tuple[str, str]]:
        """(uid, name of the image) of every image that has a labels layer."""
        ...

    def source_of(self, uid: str) -> Path | None:
        """The file or folder that an image was opened from, where there is one on this machine."""
        ...

    def export_stack(self, uid: str) -> ExportStack:
        """A copy of the labels of an image, 254 for painted background, with what is known of its scale."""
        ...


class Features(Protocol):
    """The features that are kept, and their limits."""

    @property
    def settings(self) -> CacheSettings:
        """The limits."""
        ...

    @property
    def notice(self) -> str:
        """Why features are not kept on the disk just now, or ""."""
        ...

    def limit(self, settings: CacheSettings) -> None:
        """Ask for other limits; `tidy` sees to it."""
        ...

    def clear(self) -> None:
        """Ask for everything to be given up; `tidy` sees to it."""
        ...

    def tidy(self) -> CacheUsage:
        """Do what was asked for since the last time, and measure what is taken; for a thread."""
        ...

    def needs_download(self, settings: SegmenterSettings) -> bool:
        """Whether this segmenter lacks weights on this computer; for a thread."""
        ...

    def model_names(self) -> Sequence[str]:
        """Models of timm that there are; raises SettingsError where it is not installed; for a thread."""
        ...

    def terms(self, backbone: str) -> str:
        """What to know before using a backbone's weights; raises SettingsError where there is none; for a thread."""
        ...


class Runner(Protocol):
    """Runs one job at a time, off the GUI thread; results arrive on it."""

    def start(self, job: Job, receive: Callable[[object], None], total: int) -> None:
        """Run a job; one that runs already is stopped first, and nothing more is heard of it."""
        ...

    def stop(self) -> None:
        """Stop what runs."""
        ...
