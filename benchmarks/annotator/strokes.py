"""Where somebody who knows the truth paints next: strokes of a round brush over what is wrong. Knows no window."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from napari_fewshot.support import BACKGROUND, UNLABELLED

LabelMap = npt.NDArray[Any]  # (H, W)
Mask = npt.NDArray[np.bool_]  # (H, W)
Point = tuple[int, int]  # (y, x)
Box = tuple[slice, slice]

_SIZES: Final = (41, 31, 23, 17, 13, 9, 7, 5, 3, 1)  # of brushes, in pixels
_REACH: Final = _SIZES[0]  # around a region, as far as a brush on it may be
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
    pairs = np.bincount((truth.astype(np.uint16) << 8 | labels.astype(np.uint16)).ravel(), minlength=1 << 16)
    table = pairs.reshape(256, 256)
    table[UNLABELLED] = 0
    both, either = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
    return {int(c): float(both[c] / either[c]) for c in either.nonzero()[0] if c != BACKGROUND}


def mean_iou(labels: LabelMap, truth: LabelMap) -> float:
    """Mean of `class_ious`; 1 where there is nothing and nothing is labelled."""
    ious = class_ious(labels, truth)
    return float(np.mean(list(ious.values()))) if ious else 1.0


class Plan:
    """Chooses strokes that mend one frame: the large wrong regions of the worst class before small ones.

    Regions of about a size are gone through brush by brush, as nobody takes another brush for each of them. A stroke
    stays where the truth is what it paints, so it never makes anything wrong. It may pass over what is right already,
    as a brush does.

    Parameters
    ----------
    truth
        (H, W): 0 background, classes, 255 where nothing is known.
    """

    def __init__(self, truth: LabelMap) -> None:
        self._truth = truth
        self._room: dict[int, npt.NDArray[np.float64]] = {}

    def strokes(self, look: Callable[[], LabelMap]) -> Iterator[Stroke]:
        """Choose stroke after stroke until nothing is wrong.

        ``look`` returns the labels (H, W) as they are, 0 where background; it is asked again before each stroke.
        """
        while regions := self._large(look()):
            routes = [(value, *_route(mask, self._room_for(value)[box]), box) for value, box, mask in regions]
            for value, size, path, covered, box in sorted(routes, key=lambda route: (route[0], -route[1])):
                if (look()[box][covered] != value).any():  # unless another stroke went over it
                    yield Stroke(value, size, tuple((y + box[0].start, x + box[1].start) for y, x in path))

    def _large(self, labels: LabelMap) -> list[tuple[int, Box, Mask]]:
        """Wrong regions with half of the area of the largest, or more: what is right there, a box around, a mask."""
        wrong = (self._truth != UNLABELLED) & (labels != self._truth)
        if not wrong.any():
            return []
        ious = class_ious(labels, self._truth)
        worst = min(ious, key=lambda c: ious[c])
        wrong &= (labels == worst) | (self._truth == worst)
        found: list[tuple[int, int, Box, Mask]] = []
        for value in np.flatnonzero(np.bincount(self._truth[wrong])).tolist():
            parts, _ = ndi.label(wrong & (self._truth == value), np.ones((3, 3)))
            areas = np.bincount(parts.ravel())
            for i, box in enumerate(ndi.find_objects(parts), 1):
                wide = tuple(
                    slice(max(0, at.start - _SIZES[0]), at.stop + _SIZES[0]) for at in box
                )  # no brush is wider
                found.append((int(areas[i]), value, wide, parts[wide] == i))
        least = max(area for area, *_ in found) / 2
        return [region for area, *region in found if area >= least]

    def _room_for(self, value: int) -> npt.NDArray[np.float64]:
        """How far it is from each pixel to the nearest one that must not be painted with a value."""
        if value not in self._room:
            free = (self._truth == value) | (self._truth == UNLABELLED)
            everywhere = np.full(free.shape, np.inf)
            self._room[value] = everywhere if free.all() else ndi.distance_transform_edt(free)
        return self._room[value]


def _route(region: Mask, room: npt.NDArray[np.float64]) -> tuple[int, list[Point], Mask]:
    """Choose a brush for a region, and lead it over as much of that as can be reached in one stroke.

    Also returns what of the region is under the brush at the corners of its way: between them napari takes large steps.
    """
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
    corners = np.ones(region.shape, bool)
    corners[tuple(np.transpose(path))] = False
    return size, path, region & (ndi.distance_transform_edt(corners) <= size / 2)


def _line(start: Point, end: Point) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pixels that a brush may be on from one point to another."""
    steps = 2 * max(abs(end[0] - start[0]), abs(end[1] - start[1])) + 1
    ys, xs = (np.linspace(a, b, steps) for a, b in zip(start, end, strict=True))
    return (
        np.concatenate([np.floor(ys), np.ceil(ys)]).astype(np.intp),
        np.concatenate([np.floor(xs), np.ceil(xs)]).astype(np.intp),
    )
