"""Frames that follow each other along one axis: the slices of a stack, or the time points of a movie."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.volumes.settings import VolumeSettings

SeriesId: TypeAlias = tuple[str | int, ...]
"""Name of an image, and the positions along its other axes; that along the axis itself is -1."""

USUAL_STEP: Final = 4.0
"""Pixels that two slices are taken to lie apart where nothing is known of it, and where time cannot be compared."""


@dataclass(frozen=True, eq=False)
class Series:
    """The frames of one image along an axis.

    Attributes
    ----------
    frames
        By place along the axis; places may be missing.
    step
        Distance of one place to the next, in pixels of the plane.
    """

    frames: Mapping[int, Frame]
    step: float = USUAL_STEP


def place_along(frame: Frame, along: str) -> tuple[SeriesId, int] | None:
    """Tell to which series a frame belongs, and its place in there; None where it has no such axis.

    Where nothing is known of the axes of a stack, its only axis is any that is asked for; of several, time is the first
    and depth the last, as everywhere.

    Parameters
    ----------
    frame
        Its key is a name and a position.
    along
        Letter of the axis; "" for none.

    Examples
    --------
    >>> place_along(Frame(("movie", 2, 7), None), "Z")
    (('movie', 2, -1), 7)
    """
    axis = _axis(frame, along)
    if axis is None or isinstance(frame.key, str):
        return None
    place = frame.key[1 + axis]
    return None if isinstance(place, str) else ((*frame.key[: 1 + axis], -1, *frame.key[2 + axis :]), place)


def is_wanted(frame: Frame, settings: VolumeSettings) -> bool:
    """Whether a frame is in the range of slices; one that has no neighbours is."""
    place = place_along(frame, settings.along)
    return place is None or settings.includes(place[1])


def series_along(frames: Iterable[Frame], along: str) -> dict[SeriesId, Series]:
    """Put frames together that follow each other along an axis; those without such an axis are left out."""
    found: dict[SeriesId, dict[int, Frame]] = {}
    for frame in frames:
        told = place_along(frame, along)
        if told is not None:
            found.setdefault(told[0], {})[told[1]] = frame
    return {name: Series(members, _step(next(iter(members.values())), along)) for name, members in found.items()}


def _axis(frame: Frame, along: str) -> int | None:
    if not along:
        return None
    key: FrameKey = frame.key
    count = 0 if isinstance(key, str) else len(key) - 1
    known = "" if frame.stack is None else frame.stack.axes
    if len(known) == count and along in known:
        return known.index(along)
    if known or not count:
        return None
    if count == 1:
        return 0
    return {"T": 0, "Z": count - 1}.get(along)


def _step(frame: Frame, along: str) -> float:
    """Distance of two slices in pixels: what cannot be compared, such as seconds with micrometres, counts as usual."""
    axis = _axis(frame, along)
    steps = () if frame.stack is None else frame.stack.steps
    if along == "T" or axis is None or axis >= len(steps) or not frame.spacing:
        return USUAL_STEP
    pixel, step = sum(map(abs, frame.spacing)) / 2, steps[axis]
    return abs(step) / pixel if step and pixel else USUAL_STEP
