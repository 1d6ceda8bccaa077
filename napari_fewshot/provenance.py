"""Who says that a pixel is what it is labelled as: a person, the model, or both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey, frame_name, image_name
from napari_fewshot.label_values import UNLABELLED
from napari_fewshot.support import Shot

OriginMap: TypeAlias = npt.NDArray[np.uint8]
"""(H, W), a value of `Origin` for each pixel."""


class Origin(IntEnum):
    """Where the label of a pixel comes from. The values are those of exported label layers; they never change."""

    NONE = 0
    """Nobody has said anything."""
    HUMAN = 1
    """A person painted it, or said that nothing else is there."""
    BOXED = 2
    """Guessed from a box that a person drew."""
    CORRECTED = 3
    """A person changed what was proposed."""
    ACCEPTED = 4
    """Proposed, and accepted by a person as it was."""
    MODEL = 5
    """Proposed; nobody has decided yet."""

    @property
    def title(self) -> str:
        """For people."""
        return _TITLES[self]


_TITLES: Final = {
    Origin.NONE: "nobody",
    Origin.HUMAN: "human",
    Origin.BOXED: "from a box",
    Origin.CORRECTED: "corrected",
    Origin.ACCEPTED: "accepted model",
    Origin.MODEL: "model",
}

COLOURS: Final = {
    Origin.HUMAN: "#3182bd",
    Origin.BOXED: "#9ecae1",
    Origin.CORRECTED: "#dd9c00",
    Origin.ACCEPTED: "#31a354",
    Origin.MODEL: "#bdbdbd",
}
"""Of a label layer of origins, ``#rrggbb``."""


@dataclass(frozen=True)
class FrameProvenance:
    """One row of the table of provenance.

    Attributes
    ----------
    key
        The frame.
    state
        Where it stands in the review, see `FrameState`.
    origin
        In a word: the origin of what it is labelled with, `Origin.CORRECTED` where a person and the model share it.
    pixels
        How many pixels are of which origin; none of them where nothing is known of the frame.
    score
        Expected IoU of its open proposal in [0, 1], None where there is none.
    """

    key: FrameKey
    state: str
    origin: Origin
    pixels: Mapping[Origin, int]
    score: float | None = None

    def row(self) -> dict[str, str | int | float | None]:
        """Return what a spreadsheet shows of it; the same columns for every frame."""
        counts = {f"pixels {origin.title}": self.pixels.get(origin, 0) for origin in Origin}
        place = "" if isinstance(self.key, str) else " ".join(map(str, self.key[1:]))
        return {
            "frame": frame_name(self.key),
            "image": image_name(self.key),
            "position": place,
            "state": self.state,
            "origin": self.origin.title,
            "score": self.score,
            **counts,
        }


def of_shot(shot: Shot) -> OriginMap:
    """Return who said what of a shot (H, W): a person all of it, but for what was guessed from boxes."""
    origins = np.where(shot.labels == UNLABELLED, np.uint8(Origin.NONE), np.uint8(Origin.HUMAN))
    if shot.guessed is not None:
        origins[shot.guessed & (shot.labels != UNLABELLED)] = Origin.BOXED
    return origins


def of_shot_over(shot: Shot, before: npt.NDArray[Any], origins: OriginMap) -> OriginMap:
    """Return who said what of a shot that is taught on a frame that had been accepted.

    What looks as it was accepted was not painted: it keeps its origin. Everything else is a person's.

    Parameters
    ----------
    shot
        What is taught now.
    before
        (H, W) labels that were accepted.
    origins
        (H, W) of those.
    """
    now = of_shot(shot)
    if before.shape != now.shape:
        return now
    same = (shot.labels == before) & (now == Origin.HUMAN) & (origins != Origin.NONE)
    return np.where(same, origins, now)


def of_proposal(
    labels: npt.NDArray[np.integer[Any]],
    corrections: npt.NDArray[np.uint8] | None,
    shot: Shot | None,
    *,
    decided: bool = False,
) -> OriginMap:
    """Return who said what of a proposal.

    Parameters
    ----------
    labels
        (H, W) the proposal as it stands, corrections and what was painted on the frame included.
    corrections
        (H, W) 255 where nobody corrected; None where nothing was.
    shot
        What was taught on the frame, not all of which needs to be labelled.
    decided
        Whether the proposal was accepted.
    """
    origins = np.full(labels.shape, Origin.ACCEPTED if decided else Origin.MODEL, np.uint8)
    if corrections is not None:
        origins[corrections != UNLABELLED] = Origin.CORRECTED
    if shot is not None and shot.labels.shape == labels.shape:
        said = shot.said
        origins[(said != UNLABELLED) & (said == labels)] = Origin.HUMAN
    return origins


def in_a_word(origins: Iterable[Origin]) -> Origin:
    """Sum up the origins that occur on a frame.

    >>> in_a_word([Origin.HUMAN, Origin.ACCEPTED]).title
    'corrected'
    """
    found = set(origins) - {Origin.NONE}
    if len(found) <= 1:
        return next(iter(found), Origin.NONE)
    return Origin.HUMAN if found == {Origin.HUMAN, Origin.BOXED} else Origin.CORRECTED


def count(origins: OriginMap) -> dict[Origin, int]:
    """Count the pixels of each origin that occurs."""
    counts = np.bincount(origins.ravel(), minlength=len(Origin))
    return {origin: int(counts[origin]) for origin in Origin if counts[origin]}
