"""What the dock shows: one frozen value, made by the controller and drawn by the panel."""

from dataclasses import dataclass, field

from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import Action


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
    """

    uid: str
    name: str
    chosen: bool = True
    channel_axis: int | None = None
    axes: tuple[tuple[int, str], ...] = ()
    trouble: str = ""
    contains: str = ""


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
    classes: tuple[LabelClass, ...] = ()
    brush: int = 1
    slice_line: str = ""
    can_tag: bool = False
    """Whether it can be said what the slice on screen contains."""
    contained: frozenset[int] = field(default_factory=frozenset)
    """Ids of classes that the slice on screen is said to contain."""
    tag_note: str = ""
    """What a person should know of what slices are said to contain."""
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
    model: ModelState = field(default_factory=ModelState)
    """What is known of a model of timm that was named."""
