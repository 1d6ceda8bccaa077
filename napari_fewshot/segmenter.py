"""The port: what the rest of the package asks of a few-shot segmenter, whoever provides it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeAlias, runtime_checkable

from napari_fewshot.frames import Frame, Labels
from napari_fewshot.proposals import Proposal
from napari_fewshot.support import SupportSet

TileProgress = Callable[[int, int], None]
"""Told before each tile of an image how many tiles are done, and how many there are in all (at least one more).

A large image has many tiles, a small one is a single one. Whatever it raises ends the work there and comes out of the
call; what was computed until then stays known, nothing else has changed.
"""


@runtime_checkable
class Concept(Protocol):
    """What was learnt from one support set. Immutable, safe to use from several threads."""

    @property
    def support(self) -> SupportSet:
        """The shots it was learnt from."""
        ...

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        """Propose labels for a frame, at the size of its image.

        Parameters
        ----------
        frame
            What to propose for.
        progress
            Told how far it is, and may raise to give up.

        Raises
        ------
        ImageError
            If the image cannot be used.
        """
        ...


@runtime_checkable
class FewShotSegmenter(Protocol):
    """Learns a concept from a few shots."""

    @property
    def name(self) -> str:
        """Method, backbone and device in words."""
        ...

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> Concept:
        """Learn from all shots; learning again after a small change is cheap.

        Parameters
        ----------
        support
            What was taught.
        progress
            Told how far it is, and may raise to give up.

        Raises
        ------
        SupportError
            If there is nothing to learn from.
        """
        ...


Evidence: TypeAlias = tuple[float, ...]
"""What the expected IoU of an image follows from, as far as one tile of it tells."""


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Attributes
    ----------
    rows, columns
        The first one, and the one behind the last.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def index(self) -> tuple[slice, slice]:
        """Of its pixels, in the image."""
        return slice(*self.rows), slice(*self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True, eq=False)
class PartProposal:
    """What is proposed for a part of an image.

    Attributes
    ----------
    labels
        (H, W) int32, of the part alone.
    evidence
        Of each of its tiles, in their order.
    note
        See `Proposal.note`.
    """

    labels: Labels
    evidence: tuple[Evidence, ...]
    note: str = ""


class DividedFrame(Protocol):
    """A frame that is proposed for part by part, in any order and by several processes, with the same result."""

    def propose(self, part: Region, *, progress: TileProgress | None = None) -> PartProposal:
        """Propose labels for a part.

        Raises
        ------
        ImageError
            If the image cannot be used.
        """
        ...


@runtime_checkable
class Divides(Protocol):
    """What a concept may offer beside: to propose for a large frame in parts, none of which needs the others."""

    def parts(self, frame: Frame) -> tuple[Region, ...]:
        """Cut a frame into parts that are worth a piece of work each, without reading it; () where it is just one."""
        ...

    def divide(self, frame: Frame) -> DividedFrame:
        """Open a frame, to propose for some of its parts."""
        ...

    def score(self, evidence: Sequence[Evidence]) -> float:
        """Return the expected IoU of a frame from the evidence of all of its parts, in their order."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """What a segmenter may offer beside: to do ahead of time what proposing for a frame takes, whatever is taught."""

    def prepare(self, frame: Frame) -> Iterator[None]:
        """Prepare a frame in small steps, so that whoever asks can rest or give up between any two.

        Raises
        ------
        ImageError
            If the image cannot be used.
        """
        ...


@dataclass(frozen=True)
class SegmenterSettings:
    """Which segmenter to use; the same three choices in Python, in the dock and in the shell."""

    method: Annotated[str, "How masks are computed from features; 'auto' is the best by measurement."] = "auto"
    backbone: Annotated[str, "What computes features from images; 'auto' needs no download."] = "auto"
    device: Annotated[str, "Where to compute: cuda, mps, cpu, or 'auto' for the fastest there is."] = "auto"
    instances: Annotated[bool, "Whether objects that touch are told apart."] = False
