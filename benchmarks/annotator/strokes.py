"""Where somebody who knows the truth paints next: strokes of a round brush over what is wrong. Knows no window."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from napari_fewshot.support import BACKGROUND, UNLABELLED

LabelMap = npt.NDArray[Any]  # (H, W)
Mask = npt.NDArray[np.bool_]  # (H, W)
Point = tuple[int, int]  # (y, x)

_SIZES: Final = (41, 31, 23, 17, 13, 9, 7, 5, 3, 1)  # of brushes, in pixels
_COVERED: Final = 0.7  # of a wrong region, by the largest brush that is worth taking
_LONGEST: Final = 100  # corners of a stroke


@dataclass(frozen=True)
class Stroke:
    """The mouse held down from point to point.

    Attributes
    ----------
    value
        What is painted: a class, or 0 for background.
    size
        Diameter of the brush in pixels.
    path
        Points (y, x) in pixels, one or more.
    """

    value: int
    size: int
    path: tuple[Point, ...]


def class_ious(labels: LabelMap, truth: LabelMap) -> dict[int, float]:
    """IoU of each class that is in the truth or in the labels, without the pixels of which nothing is known."""
    known = truth != UNLABELLED
    present = set(np.unique(labels[known]).tolist()) | set(np.unique(truth[known]).tolist())
    pairs = {c: ((labels == c) & known, truth == c) for c in sorted(present - {BACKGROUND})}
    return {int(c): float((a & b).sum() / (a | b).sum()) for c, (a, b) in pairs.items()}


def mean_iou(labels: LabelMap, truth: LabelMap) -> float:
    """Mean of `class_ious`; 1 where there is nothing and nothing is labelled."""
    ious = class_ious(labels, truth)
    return float(np.mean(list(ious.values()))) if ious else 1.0


class Plan:
    """Chooses strokes that mend one frame: the largest wrong region of the worst class first.

    A stroke stays where the truth is what it paints, so it never makes anything wrong. It may pass over what is
    right already, as a brush does.

    Parameters
    ----------
    truth
        (H, W): 0 background, classes, 255 where nothing is known.
    """

    def __init__(self, truth: LabelMap) -> None:
        self._truth = truth
        self._room: dict[int, npt.NDArray[np.float64]] = {}

    def next(self, labels: LabelMap) -> Stroke | None:
        """Choose the next stroke for labels (H, W), 0 where background; None where nothing is wrong."""
        region = self._largest(labels)
        if region is None:
            return None
        value, mask = region
        room = self._room_for(value)
        reach = _SIZES[0]
        box = tuple(
            slice(max(0, int(at.min()) - reach), int(at.max()) + reach + 1) for at in np.nonzero(mask)
        )  # a brush reaches no further
        size, path = _route(mask[box], room[box])
        corner = (box[0].start, box[1].start)
        return Stroke(value, size, tuple((y + corner[0], x + corner[1]) for y, x in path))

    def _largest(self, labels: LabelMap) -> tuple[int, Mask] | None:
        wrong = (self._truth != UNLABELLED) & (labels != self._truth)
        if not wrong.any():
            return None
        ious = class_ious(labels, self._truth)
        worst = min(ious, key=lambda c: ious[c])
        wrong &= (labels == worst) | (self._truth == worst)
        best: tuple[int, int, Mask] | None = None
        for value in np.unique(self._truth[wrong]).tolist():
            parts, count = ndi.label(wrong & (self._truth == value), np.ones((3, 3)))
            areas = np.bincount(parts.ravel(), minlength=count + 1)
            areas[0] = 0
            if best is None or areas.max() > best[0]:
                best = int(areas.max()), int(value), parts == areas.argmax()
        return None if best is None else best[1:]

    def _room_for(self, value: int) -> npt.NDArray[np.float64]:
        """How far it is from each pixel to the nearest one that must not be painted with a value."""
        if value not in self._room:
            free = (self._truth == value) | (self._truth == UNLABELLED)
            everywhere = np.full(free.shape, np.inf)
            self._room[value] = everywhere if free.all() else ndi.distance_transform_edt(free)
        return self._room[value]


def _route(region: Mask, room: npt.NDArray[np.float64]) -> tuple[int, list[Point]]:
    """Choose a brush for a region, and lead it over as much of that as can be reached in one stroke."""
    for size in _SIZES:
        centres = room > size / 2
        if not centres.any():
            continue
        gap, nearest = ndi.distance_transform_edt(~centres, return_indices=True)
        reached = region & (gap <= size / 2)
        if reached.sum() >= _COVERED * region.sum():
            break
    rest = reached
    path: list[Point] = []
    while rest.any() and len(path) < _LONGEST:
        ys, xs = np.nonzero(rest)
        far = (ys - path[-1][0]) ** 2 + (xs - path[-1][1]) ** 2 if path else -room[ys, xs]
        y, x = ys[far.argmin()], xs[far.argmin()]
        here = (int(nearest[0, y, x]), int(nearest[1, y, x]))
        line = _line(path[-1] if path else here, here)
        if not centres[line].all():
            break  # the next one is another stroke
        path.append(here)
        brushed = np.ones(rest.shape, bool)
        brushed[line] = False
        rest = rest & (ndi.distance_transform_edt(brushed) > size / 2)
    return size, path


def _line(start: Point, end: Point) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pixels that a brush may be on from one point to another."""
    steps = 2 * max(abs(end[0] - start[0]), abs(end[1] - start[1])) + 1
    ys, xs = (np.linspace(a, b, steps) for a, b in zip(start, end, strict=True))
    return (
        np.concatenate([np.floor(ys), np.ceil(ys)]).astype(np.intp),
        np.concatenate([np.floor(xs), np.ceil(xs)]).astype(np.intp),
    )
