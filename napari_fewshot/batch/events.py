"""What happens while images are labelled, as values: whoever asked shows them as they like."""

from dataclasses import dataclass
from pathlib import Path

from napari_fewshot.io.label_stack import Position


@dataclass(frozen=True)
class FrameDone:
    """A frame is done.

    Attributes
    ----------
    image, position
        Which.
    provenance, score, remark
        See `PlaneNote` and `Proposal.note`.
    done, total
        Frames, of those that are known by now.
    """

    image: str
    position: Position
    provenance: str
    score: float | None
    remark: str
    done: int
    total: int


@dataclass(frozen=True)
class PartDone:
    """A part of a large frame is done.

    Attributes
    ----------
    image, position
        Which frame.
    done, total
        Its parts.
    """

    image: str
    position: Position
    done: int
    total: int


@dataclass(frozen=True)
class ImageWritten:
    """All frames of an image are done, and its files are written."""

    image: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class ImageFailed:
    """An image has no labels."""

    image: str
    message: str


@dataclass(frozen=True)
class ImageSkipped:
    """An image was done by an earlier run."""

    image: str
    frames: int


@dataclass(frozen=True)
class AllWritten:
    """The end: files that are about all images."""

    files: tuple[Path, ...]
    failed: int


Event = FrameDone | PartDone | ImageWritten | ImageFailed | ImageSkipped | AllWritten
