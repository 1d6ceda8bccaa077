"""From label maps to single objects, and from objects to outlines that are exact."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.io.label_stack import LabelStack, Plane
from napari_fewshot.support import UNLABELLED, LabelClass

Ring: TypeAlias = npt.NDArray[np.int64]
"""(n, 2) corners (x, y) of pixels, the last joined to the first; (0, 0) is the upper left corner of the image."""

_UNNAMED: Final = LabelClass(1, "object")  # where ids are objects, and nothing tells their class


@dataclass(frozen=True, eq=False)
class LabelObject:
    """One object of a class: what has one number, or is connected where nobody numbered objects.

    Attributes
    ----------
    label
        Its value in the label map.
    kind
        Its class.
    box
        (top, left, bottom, right) in pixels, the last two just outside.
    mask
        (bottom - top, right - left).
    number
        That a person or a method gave it, the same on all planes that it goes through; 0 where there is none.
    """

    label: int
    kind: LabelClass
    box: tuple[int, int, int, int]
    mask: npt.NDArray[np.bool_]
    number: int = 0

    @property
    def area(self) -> int:
        """In pixels."""
        return int(self.mask.sum())

    @property
    def centroid(self) -> tuple[float, float]:
        """(y, x), the mean of its pixels' positions; the middle of the upper left pixel is (0, 0)."""
        ys, xs = self.mask.nonzero()
        return self.box[0] + float(ys.mean()), self.box[1] + float(xs.mean())


def classes_of(stack: LabelStack) -> tuple[LabelClass, ...]:
    """Tell what objects of a stack can be of, by ascending id; ids that are not named get a plain name."""
    if stack.classes is None:
        return (_UNNAMED,)
    known = {each.id: each for each in stack.classes}
    found: set[int] = set()
    for plane in stack.planes():
        found |= set(np.unique(plane.labels).tolist())
    for class_id in found - {0, UNLABELLED} - known.keys():
        known[class_id] = LabelClass(class_id)
    return tuple(known[class_id] for class_id in sorted(known))


def objects_of(plane: Plane, classes: tuple[LabelClass, ...], *, ids_are_objects: bool) -> Iterator[LabelObject]:
    """Go through the objects of a plane, ordered by where they begin; by id where ids are objects.

    Parameters
    ----------
    plane
        Labels, and which object each pixel belongs to, where that is known.
    classes
        See `classes_of`.
    ids_are_objects
        Otherwise ids are classes. What has one number is an object then, in however many parts, and so is every
        connected component (diagonals connect) of a class where nobody numbered; what is not labelled (255) is none.
    """
    from scipy.ndimage import find_objects

    labels = np.asarray(plane.labels)
    kinds = {each.id: each for each in classes}
    given = labels if ids_are_objects else plane.objects
    if ids_are_objects:
        values, flat = np.unique(labels, return_inverse=True)
        numbers = (flat.reshape(labels.shape) + (0 if values[0] == 0 else 1)).astype(np.int32)
    else:
        numbers = _told_apart(np.where(labels == UNLABELLED, 0, labels), plane.objects)
    for number, place in enumerate(find_objects(numbers), start=1):
        if place is None:
            continue
        mask = numbers[place] == number
        value = int(labels[place][mask][0])
        box = (int(place[0].start), int(place[1].start), int(place[0].stop), int(place[1].stop))
        kind = classes[0] if ids_are_objects else kinds[value]
        yield LabelObject(value, kind, box, mask, 0 if given is None else int(given[place][mask][0]))


def _told_apart(labels: npt.NDArray[Any], ids: npt.NDArray[Any] | None) -> npt.NDArray[np.int32]:
    """Number objects from 1 in the order in which they begin: what has an id in a class, and what is connected else."""
    from skimage.measure import label

    if ids is None:
        return np.asarray(label(labels, background=0, connectivity=2), np.int32)
    rest = label(np.where(ids > 0, 0, labels), background=0, connectivity=2)
    inside = labels > 0
    every = np.where(ids > 0, ids, rest + int(ids.max()))[inside].astype(np.int64)
    known, of_class = np.unique(labels[inside], return_inverse=True)
    # an object is of one class; where somebody made it two, it is an object of each
    _, first, which = np.unique(every * max(1, len(known)) + of_class, return_index=True, return_inverse=True)
    numbers = np.zeros(labels.shape, np.int32)
    numbers[inside] = 1 + first.argsort().argsort()[which]
    return numbers


# ---------------------------------------------------------------------------- outlines
# Sides of a pixel, clockwise from the top: the neighbour (y, x) behind it, where it begins, and where it leads (x, y).
_SIDES: Final = (
    ((-1, 0), (0, 0), (1, 0)),
    ((0, 1), (1, 0), (0, 1)),
    ((1, 0), (1, 1), (-1, 0)),
    ((0, -1), (0, 1), (0, -1)),
)
_Edge: TypeAlias = tuple[int, int, int]
"""Where the side of a pixel begins, x and y, and which of `_SIDES` it is; the object lies on its right."""


def rings_of(mask: npt.NDArray[np.bool_], offset: tuple[int, int] = (0, 0)) -> list[Ring]:
    """Trace the edges of pixels around a mask (H, W): filled by even and odd, the rings give the mask back exactly.

    Each part that hangs together by the sides of pixels has one outer ring, clockwise; holes have counter-clockwise
    ones.

    Parameters
    ----------
    mask
        Any.
    offset
        (y, x) of its upper left corner in the image.
    """
    edges = dict.fromkeys(_edges(mask))  # a set that keeps the order: the same mask gives the same rings
    waiting = dict(edges)
    rings = []
    while waiting:
        first, corners = next(iter(waiting)), []
        edge = first
        while True:
            following = _following(edge, edges)
            del waiting[following]
            if following[2] != edge[2]:
                corners.append(following[:2])
            edge = following
            if edge == first:
                break
        rings.append(np.array(corners, np.int64) + np.array(offset[::-1]))
    return rings


def is_hole(ring: Ring) -> bool:
    """Whether a ring runs counter-clockwise on the screen, y pointing down."""
    x, y = ring.T
    return bool((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0)


def joined(rings: list[Ring]) -> Ring:
    """Join rings to one by bridges that are walked there and back, along the edges of pixels.

    For formats that know one polygon for an object. Bridges enclose nothing and go through the middle of no pixel.
    """
    path = rings[0]
    for ring in rings[1:]:
        (ax, ay), bx = path[0], ring[0, 0]
        there = [(ax, ay), (bx, ay)] if ax != bx else [(ax, ay)]
        path = np.concatenate([path, there, ring, ring[:1], there[::-1]])
    return path


def _edges(mask: npt.NDArray[np.bool_]) -> list[_Edge]:
    height, width = mask.shape
    padded = np.pad(mask, 1)
    found: list[_Edge] = []
    for side, ((dy, dx), (x, y), _) in enumerate(_SIDES):
        behind = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        rows, columns = np.nonzero(mask & ~behind)
        found += zip((columns + x).tolist(), (rows + y).tolist(), [side] * len(rows), strict=True)
    return found


def _following(edge: _Edge, edges: Container[_Edge]) -> _Edge:
    """Turn right where pixels touch by their corners only, so that each gets a ring of its own."""
    x, y, side = edge
    dx, dy = _SIDES[side][2]
    options = ((x + dx, y + dy, (side + turn) % 4) for turn in (1, 0, 3))
    return next(option for option in options if option in edges)
