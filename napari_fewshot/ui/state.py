"""What the dock shows: one frozen value, made by the controller and drawn by the panel."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import Action
from napari_fewshot.volumes.settings import VolumeSettings


@dataclass(frozen=True)
class ImageChoice:
    """An image layer in the list.

    Attributes
    ----------
    uid
        Stable name of the layer, whatever it is called now.
    name
        What it is called now.
    chosen
        Whether it is to be labelled.
    channel_axis
        The axis that holds channels, or None.
    axes
        The axes that could hold channels, with their names.
    trouble
        Why it cannot be labelled, or "".
    contains
        What its slices are said to contain, in words, or "".
    revision
        Another number each time that its pixels were replaced.
    sliders
        The axes that one moves along, with their names.
    depth_axis
        Which of these is depth, or None.
    stack_axes
        A letter for each of these: Z for depth, T for time.
    """

    uid: str
    name: str
    chosen: bool = True
    channel_axis: int | None = None
    axes: tuple[tuple[int, str], ...] = ()
    trouble: str = ""
    contains: str = ""
    revision: int = 0
    sliders: tuple[tuple[int, str], ...] = ()
    depth_axis: int | None = None
    stack_axes: str = ""


class Standing(StrEnum):
    """Where a frame stands, in the words of the table."""

    UNTOUCHED = "untouched"
    TAUGHT = "taught"
    NOTHING_HERE = "nothing here"
    ASIDE = "set aside"
    PROPOSED = "proposed"
    CORRECTED = "corrected"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Order(StrEnum):
    """In which order proposals are reviewed."""

    GAIN = "most to gain first"
    PLACE = "one after the other"


@dataclass(frozen=True, eq=False)
class ReviewRow:
    """A frame in the table. Rows are compared by identity: one that changed is another object.

    Attributes
    ----------
    key
        The frame.
    name
        What it is called now.
    place
        Its number among all frames, from 0.
    standing
        Where it stands.
    score
        Of its open proposal, in [0, 1]; None where there is none.
    gain
        How much a look at its open proposal promises, in [0, 1], see `review.expected_gain`; None where there is none.
    class_ids
        Classes that are on it, as far as it is taught, proposed or decided.
    pixels
        How many pixels are of a class.
    area
        The same as a share of all, in [0, 1]; None where nothing is known.
    contains
        Ids of classes that it is said to contain.
    picture
        (h, w, 3) uint8, a small one; None as long as nobody has asked for it.
    """

    key: FrameKey
    name: str
    place: int
    standing: Standing = Standing.UNTOUCHED
    score: float | None = None
    gain: float | None = None
    class_ids: tuple[int, ...] = ()
    pixels: int = 0
    area: float | None = None
    contains: tuple[int, ...] = ()
    picture: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ReviewTable:
    """The table of all frames.

    Attributes
    ----------
    rows
        In the order of the frames.
    shown
        The frame on screen.
    order
        In which order proposals are reviewed.
    selection
        How many rows are selected, and how many of them wait for a decision, in words; or "".
    """

    rows: tuple[ReviewRow, ...] = ()
    shown: FrameKey | None = None
    order: Order = Order.GAIN
    selection: str = ""


class Overlay(StrEnum):
    """What can be laid over the slice on screen."""

    UNCERTAINTY = "uncertainty"
    CHANGE = "change"
    PROBABILITY = "probability"
    PROVENANCE = "provenance"
    CLEAN_UP = "clean-up"


class ObjectTool(StrEnum):
    """What a line means that is drawn over objects."""

    MERGE = "merge"
    SPLIT = "split"
    DELETE = "delete"


@dataclass(frozen=True, eq=False)
class OverlayPicture:
    """A picture to lay over a slice.

    Attributes
    ----------
    overlay
        What it shows.
    title
        The same in words.
    values
        (H, W) float32 in [0, 1]; of a change or a clean-up uint8, see `doubt.change`; of provenance uint8, values of
        `Origin`.
    """

    overlay: Overlay
    title: str
    values: npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    done, total
        Frames; a total of 0 means that it is not known yet.
    text
        The same in words.
    part
        Share of the frame at work that is done, from 0 to 1.
    """

    done: int
    total: int
    text: str
    part: float = 0.0


@dataclass(frozen=True)
class ModelState:
    """A model of timm that a person names.

    Attributes
    ----------
    names
        Those that there are; empty where nobody has asked yet.
    text
        The terms of the one that was named, what is wrong with its name, or what to do.
    is_trouble
        Whether something is wrong.
    """

    names: tuple[str, ...] = ()
    text: str = ""
    is_trouble: bool = False


@dataclass(frozen=True)
class DockState:
    """Everything that changes in the dock."""

    next_step: str = ""
    error: str = ""
    images: tuple[ImageChoice, ...] = ()
    review: ReviewTable = field(default_factory=ReviewTable)
    classes: tuple[LabelClass, ...] = ()
    brush: int = 1
    slice_line: str = ""
    contained: frozenset[int] = field(default_factory=frozenset)
    """Ids of classes that the slice on screen is said to contain."""
    tag_note: str = ""
    """What a person should know of what slices are said to contain."""
    overlay: Overlay | None = None
    """What is laid over the slice on screen."""
    overlay_note: str = ""
    """How to read it, or why there is nothing to see."""
    above: int = 0
    enabled: frozenset[Action] = field(default_factory=frozenset)
    correcting: bool = False
    progress: Progress | None = None
    estimate: str = ""
    """What proposing will cost."""
    warning: str = ""
    """What there is not enough of for it."""
    notices: tuple[str, ...] = ()
    """What a person should know about how things go; stays until it was read."""
    kept: str = ""
    """What the kept features take."""
    not_preparing: str = ""
    """Why images are not prepared although that was chosen, or ""."""
    backbone: str = "auto"
    """The backbone in use."""
    volume: VolumeSettings = field(default_factory=VolumeSettings)
    """What proposals take from the slices around them."""
    objects: bool = False
    """Whether objects that touch are told apart."""
    tool: ObjectTool | None = None
    """The tool for objects that is in hand."""
    object_note: str = ""
    """What to do with it, or what came of it."""
    model: ModelState = field(default_factory=ModelState)
    """What is known of a model of timm that was named."""
