"""What somebody did to the objects of a frame, kept so small that it can be taken back and done again.

Both kinds know the frame as `Said`: it may have been proposed for anew, or painted on, since.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Instances
from napari_fewshot.support import BACKGROUND, UNLABELLED


class Said(NamedTuple):
    """What is said of the pixels of a frame, (H, W) each; or of some pixels, (N,) each.

    Attributes
    ----------
    labels
        uint8 classes.
    ids
        int32 objects, 0 for none.
    corrections
        uint8, 255 where no person said anything.
    """

    labels: npt.NDArray[np.uint8]
    ids: Instances
    corrections: npt.NDArray[np.uint8]


class Edit(Protocol):
    """A change of the objects of a frame."""

    @property
    def largest(self) -> int:
        """The largest number that comes in it: a new object gets none that undo may give again."""
        ...

    def taken_back(self, now: Said) -> Said:
        """Return what was there before, but for what was changed since."""
        ...

    def done_again(self, now: Said) -> Said:
        """Return what was there afterwards, but for what was changed since it was taken back."""
        ...


@dataclass(frozen=True, eq=False)
class Mending:
    """Objects put together, cut or deleted by a person.

    Attributes
    ----------
    at
        (N,) indices into the flat frame of the pixels that changed, or became a person's.
    before, after
        What was said of these pixels.
    """

    at: npt.NDArray[np.int64]
    before: Said
    after: Said

    @property
    def largest(self) -> int:
        """The largest number that comes in it."""
        return max(int(self.before.ids.max(initial=0)), int(self.after.ids.max(initial=0)))

    @classmethod
    def between(cls, before: Said, after: Said) -> "Mending":
        """Find out what changed."""
        at = np.flatnonzero(np.logical_or.reduce([a != b for a, b in zip(before, after, strict=True)]))
        return cls(at, _only(before, at), _only(after, at))

    def taken_back(self, now: Said) -> Said:
        """Return what was there before; a pixel that was changed since stays as it is."""
        here = _only(now, self.at)
        same = np.logical_and.reduce([a == b for a, b in zip(here, self.after, strict=True)])
        return _laid(now, self.at[same], _only(self.before, same))

    def done_again(self, now: Said) -> Said:
        """Return what was there afterwards; a pixel that somebody corrected since stays as it is."""
        same = now.corrections.ravel()[self.at] == self.before.corrections
        return _laid(now, self.at[same], _only(self.after, same))


@dataclass(frozen=True, eq=False)
class Renumbering:
    """Objects that got other numbers, and nothing else.

    Attributes
    ----------
    numbers
        Old number -> new number; no two are the same.
    """

    numbers: Mapping[int, int]

    @property
    def largest(self) -> int:
        """The largest number that comes in it."""
        return max([0, *self.numbers, *self.numbers.values()])

    @classmethod
    def between(cls, before: Instances, after: Instances) -> "Renumbering":
        """Find out which object got which number."""
        old, first = np.unique(before, return_index=True)
        new = after.ravel()[first]
        return cls({int(o): int(n) for o, n in zip(old, new, strict=True) if o})

    def of(self, ids: Instances) -> Instances:
        """Return objects with their new numbers; one that was not there then keeps its own, if that is free."""
        return _renumbered(ids, self.numbers)

    def taken_back(self, now: Said) -> Said:
        """Return them with their old numbers."""
        return now._replace(ids=_renumbered(now.ids, {new: old for old, new in self.numbers.items()}))

    def done_again(self, now: Said) -> Said:
        """Return them with their new numbers."""
        return now._replace(ids=self.of(now.ids))


def relabelled(labels: npt.NDArray[np.uint8], before: Instances, ids: Instances) -> npt.NDArray[np.uint8]:
    """Return labels (H, W) that go with objects that somebody edited.

    What is no object any more is background; an object that was made of several classes is of that which most of it
    has, the smallest of several.
    """
    labels = np.where((before > 0) & (ids == 0), BACKGROUND, labels).astype(np.uint8)
    for number in np.unique(ids[(ids != before) & (ids > 0)]):
        own = ids == number
        classes = labels[own]
        classes = classes[(classes != BACKGROUND) & (classes != UNLABELLED)]
        if len(classes):
            labels[own] = np.bincount(classes).argmax()
    return labels


def _renumbered(ids: Instances, numbers: Mapping[int, int]) -> Instances:
    known, position = np.unique(ids, return_inverse=True)
    taken, free = set(numbers.values()), max([0, int(known.max(initial=0)), *numbers.values()]) + 1
    found = []
    for number in known.tolist():
        wanted = numbers.get(number, number)
        if number and number not in numbers and number in taken:  # an object that came later, with a number in use
            wanted, free = free, free + 1
        found.append(wanted)
    return np.asarray(found, np.int32)[position].reshape(ids.shape)


def _only(said: Said, at: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Said:
    return Said(said.labels.ravel()[at], said.ids.ravel()[at], said.corrections.ravel()[at])


def _laid(over: Said, at: npt.NDArray[np.int64], some: Said) -> Said:
    laid = Said(over.labels.copy(), over.ids.copy(), over.corrections.copy())
    laid.labels.flat[at], laid.ids.flat[at], laid.corrections.flat[at] = some
    return laid
