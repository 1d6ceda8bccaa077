"""What a person taught: shots (an image with its mask), tags (an image that shows something), and the support set."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.boxes import Box, box_labels, guessed_pixels
from napari_fewshot.errors import MaskError, SupportError
from napari_fewshot.frames import Frame, FrameKey, Instances, Labels, content_digest
from napari_fewshot.label_values import BACKGROUND as BACKGROUND
from napari_fewshot.label_values import MAX_CLASSES as MAX_CLASSES
from napari_fewshot.label_values import UNLABELLED as UNLABELLED

_MAX_ID: Final = 2**31 - 1
_ROWS: Final = 512  # of a label map that are gone through at once

_PALETTE = (
    "#e6550d",
    "#3182bd",
    "#31a354",
    "#c51b8a",
    "#dd9c00",
    "#756bb1",
    "#17a2a2",
    "#a63603",
    "#7a0177",
    "#525252",
)


@dataclass(frozen=True)
class LabelClass:
    """A class of things to label.

    Parameters
    ----------
    id
        Its value in label maps, 1..254.
    name
        What a person calls it.
    colour
        ``#rrggbb``; by default the next of a palette that colour-blind people can tell apart on gray images.
    """

    id: int
    name: str = ""
    colour: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.id <= MAX_CLASSES:
            raise MaskError(f"class id {self.id} is out of range; use 1 to {MAX_CLASSES}")
        if not self.name:
            object.__setattr__(self, "name", f"class {self.id}")
        if not self.colour:
            object.__setattr__(self, "colour", _PALETTE[(self.id - 1) % len(_PALETTE)])


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame with what a person painted on it.

    A shot is *dense* (every pixel is labelled, 0 is background) or *partial* (pixels of value 255 are unknown).
    A dense shot without any class is legal: it says "nothing here".

    Parameters
    ----------
    frame
        The image.
    labels
        (H, W) integers: 0 background, 1..254 classes, 255 not labelled. A copy is kept.
    guessed
        (H, W) True where a label was guessed from a box: it is learnt from, but a proposal for this frame may know
        better. None where a person said all of it. A copy is kept.
    instances
        (H, W) which object a pixel belongs to: ids from 1, each on pixels of one class, and 0 where there is no object,
        or nobody said which. None where objects were not told apart. A copy is kept.

    Raises
    ------
    MaskError
        If the mask has another shape than its image, is not 2D, or holds other values; if an object has pixels of no
        class, or of two.
    """

    frame: Frame
    labels: Labels
    guessed: npt.NDArray[np.bool_] | None = None
    instances: Instances | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _checked_labels(self.frame, self.labels))
        if self.instances is not None:
            object.__setattr__(self, "instances", _checked_instances(self.frame, self.instances, self.labels))
        if self.guessed is None:
            return
        guessed = np.array(self.guessed, dtype=bool)
        if guessed.shape != self.labels.shape:
            raise MaskError(f"what is guessed on '{self.frame.name}' is {guessed.shape}, its mask {self.labels.shape}")
        guessed.setflags(write=False)
        object.__setattr__(self, "guessed", guessed)

    @classmethod
    def scribbled(cls, frame: Frame, strokes: npt.NDArray[np.integer], background: npt.NDArray[np.bool_]) -> "Shot":
        """Make a partial shot of strokes.

        Parameters
        ----------
        frame
            The image.
        strokes
            (H, W) class ids where a class was brushed, 0 elsewhere.
        background
            (H, W) True where background was brushed. Everything else becomes unknown (255).
        """
        strokes = np.asarray(strokes)
        return cls(frame, np.where(strokes > 0, strokes, np.where(background, BACKGROUND, UNLABELLED)).astype(np.int32))

    @classmethod
    def boxed(cls, frame: Frame, boxes: Sequence[Box], *, all_boxed: bool = True) -> "Shot":
        """Make a partial shot of boxes drawn around things; see `box_labels` for what they are taken to say.

        Parameters
        ----------
        frame
            The image.
        boxes
            One around each thing.
        all_boxed
            Whether everything on the image that is of a class has its box, so that what lies outside of all boxes is
            background. Otherwise only what surrounds the boxes is.

        Raises
        ------
        MaskError
            If there is no box, or one lies outside of the image.
        """
        if not boxes:
            raise MaskError(f"there is no box on '{frame.name}'; draw one around each thing")
        size = frame.size or frame.open().size
        for box in boxes:
            if box.bottom <= 0 or box.right <= 0 or box.top >= size[0] or box.left >= size[1]:
                raise MaskError(f"{box} lies outside of '{frame.name}', which is {size}; draw it on the image")
        labels = box_labels(size, boxes, all_boxed=all_boxed)
        return cls(frame, labels, guessed_pixels(labels, all_boxed=all_boxed))

    @classmethod
    def of_objects(cls, frame: Frame, ids: npt.ArrayLike, class_id: int = 1) -> "Shot":
        """Make a dense shot of objects of one class, each with a number of its own.

        Parameters
        ----------
        frame
            The image.
        ids
            (H, W) integers: 0 background, every other value an object.
        class_id
            What they are, 1..254.

        Raises
        ------
        MaskError
            If the ids have another shape than the image, or are no ids.

        Examples
        --------
        >>> Shot.of_objects(Frame("a", np.zeros((16, 16))), np.eye(16, dtype=int) * 300).class_ids
        (1,)
        """
        given = np.asarray(ids)
        _check_ids(frame, given)
        return cls(frame, np.where(given > 0, class_id, BACKGROUND), instances=given)

    @property
    def key(self) -> FrameKey:
        """The key of the frame."""
        return self.frame.key

    @property
    def said(self) -> Labels:
        """(H, W) what a person said: the labels, 255 where they were guessed."""
        return self.labels if self.guessed is None else np.where(self.guessed, UNLABELLED, self.labels).astype(np.int32)

    @cached_property
    def class_ids(self) -> tuple[int, ...]:
        """Ids of the classes painted here, ascending."""
        counts = np.zeros(UNLABELLED + 1, np.int64)
        for top in range(0, len(self.labels), _ROWS):  # `unique` would copy all of it, and takes eight times as long
            counts += np.bincount(self.labels[top : top + _ROWS].ravel(), minlength=len(counts))
        return tuple(int(v) for v in counts.nonzero()[0] if v not in (BACKGROUND, UNLABELLED))

    @cached_property
    def is_partial(self) -> bool:
        """Whether some pixels are not labelled."""
        return bool((self.labels == UNLABELLED).any())

    @cached_property
    def has_background(self) -> bool:
        """Whether at least one pixel is labelled as background."""
        return bool((self.labels == BACKGROUND).any())

    @cached_property
    def digest(self) -> str:
        """Hash of image and mask: equal shots have equal digests, whatever their keys."""
        told = "" if self.instances is None else content_digest(self.instances)
        return self.frame.open().digest() + content_digest(self.labels) + told


@dataclass(frozen=True, eq=False)
class Tag:
    """One frame of which it is known only that some classes are on it, not where: an *auxiliary image*.

    Parameters
    ----------
    frame
        The image.
    class_ids
        What it contains, 1..254, in any order; at least one. That other classes are not on it is not said.

    Raises
    ------
    MaskError
        If no class is named, or one that cannot be.
    """

    frame: Frame
    class_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        ids = tuple(sorted(set(self.class_ids)))
        if not ids:
            raise MaskError(f"the tag of '{self.frame.name}' names no class; say what the image contains")
        if not 1 <= ids[0] <= ids[-1] <= MAX_CLASSES:
            raise MaskError(f"the tag of '{self.frame.name}' names the classes {ids}; use ids from 1 to {MAX_CLASSES}")
        object.__setattr__(self, "class_ids", ids)

    @property
    def key(self) -> FrameKey:
        """The key of the frame."""
        return self.frame.key

    @cached_property
    def digest(self) -> str:
        """Hash of image and classes: equal tags have equal digests, whatever their keys."""
        return f"{self.frame.open().digest()} contains {self.class_ids}"


@dataclass(frozen=True, eq=False)
class SupportSet:
    """All shots and tags of a run, and the classes they speak of. Immutable: every change makes a new one.

    Parameters
    ----------
    shots
        In any order.
    classes
        Names and colours; ids that are painted but not named here get a plain name.
    tags
        In any order. One on the frame of a shot is superfluous, since the shot says more, and left out.

    Raises
    ------
    MaskError
        If two classes share an id, or two tags a frame.
    """

    shots: tuple[Shot, ...] = ()
    classes: tuple[LabelClass, ...] = field(default=())
    tags: tuple[Tag, ...] = ()

    def __init__(
        self, shots: Iterable[Shot] = (), classes: Iterable[LabelClass] = (), tags: Iterable[Tag] = ()
    ) -> None:
        object.__setattr__(self, "shots", tuple(shots))
        object.__setattr__(self, "tags", _needed(tuple(tags), self.shots))
        object.__setattr__(self, "classes", _complete(tuple(classes), self.shots, self.tags))

    def __len__(self) -> int:
        return len(self.shots)

    def __iter__(self) -> Iterator[Shot]:
        return iter(self.shots)

    @property
    def keys(self) -> tuple[FrameKey, ...]:
        """The frames that were taught on."""
        return tuple(shot.key for shot in self.shots)

    @cached_property
    def class_ids(self) -> tuple[int, ...]:
        """Ids that are painted on at least one shot, ascending."""
        return tuple(sorted({c for shot in self.shots for c in shot.class_ids}))

    @cached_property
    def tagged_ids(self) -> tuple[int, ...]:
        """Ids that some tag names, ascending."""
        return tuple(sorted({c for tag in self.tags for c in tag.class_ids}))

    @property
    def has_instances(self) -> bool:
        """Whether on at least one shot somebody told objects apart."""
        return any(shot.instances is not None for shot in self.shots)

    @cached_property
    def counted_ids(self) -> tuple[int, ...]:
        """Classes that come in objects, ascending: those of which somebody numbered some, or all if nobody did."""
        told = (np.unique(s.labels[s.instances > 0]) for s in self.shots if s.instances is not None)
        return tuple(sorted({int(c) for found in told for c in found})) or self.class_ids

    @property
    def unpainted(self) -> tuple[LabelClass, ...]:
        """Classes that are named but painted on no shot: nothing can be proposed for them yet."""
        return tuple(c for c in self.classes if c.id not in self.class_ids)

    @property
    def has_background(self) -> bool:
        """Whether at least one pixel is labelled as background."""
        return any(shot.has_background for shot in self.shots)

    def with_shot(self, shot: Shot) -> "SupportSet":
        """Add a shot; one on the same frame is replaced, and so is a tag."""
        return SupportSet((*(s for s in self.shots if s.key != shot.key), shot), self.classes, self.tags)

    def without(self, key: FrameKey) -> "SupportSet":
        """Leave out the shot on this frame."""
        return SupportSet((s for s in self.shots if s.key != key), self.classes, self.tags)

    def tag(self, key: FrameKey) -> Tag | None:
        """Return the tag of this frame, if it has one."""
        return next((tag for tag in self.tags if tag.key == key), None)

    def with_tag(self, tag: Tag) -> "SupportSet":
        """Add a tag; one on the same frame is replaced.

        Raises
        ------
        SupportError
            If the frame has a shot.
        """
        if tag.key in self.keys:
            raise SupportError(f"'{tag.frame.name}' is taught already, which says more than what it contains")
        return SupportSet(self.shots, self.classes, (*self.without_tag(tag.key).tags, tag))

    def without_tag(self, key: FrameKey) -> "SupportSet":
        """Leave out the tag of this frame."""
        return SupportSet(self.shots, self.classes, (tag for tag in self.tags if tag.key != key))

    def with_classes(self, classes: Iterable[LabelClass]) -> "SupportSet":
        """Give other names and colours."""
        return SupportSet(self.shots, classes, self.tags)

    def canonical(self) -> tuple[Shot, ...]:
        """Return each different shot once, in an order that depends on contents only.

        Learning from these makes a duplicate worth nothing and the order of teaching irrelevant, bit for bit.
        """
        unique = {shot.digest: shot for shot in self.shots}
        return tuple(unique[digest] for digest in sorted(unique))

    def canonical_tags(self) -> tuple[Tag, ...]:
        """Return what tags say of classes that are painted somewhere: each different one once, in an order of contents.

        Of a class that nobody ever painted it is not known what it looks like: that an image contains it is no help.
        """
        known = (Tag(tag.frame, painted) for tag in self.tags if (painted := self._painted(tag)))
        unique = {tag.digest: tag for tag in known}
        return tuple(unique[digest] for digest in sorted(unique))

    def _painted(self, tag: Tag) -> tuple[int, ...]:
        return tuple(c for c in tag.class_ids if c in self.class_ids)

    def check(self) -> None:
        """Make sure that there is something to learn.

        Raises
        ------
        SupportError
            If there is no shot, or no class is painted on any.
        """
        if not self.shots:
            raise SupportError("nothing has been taught yet; paint a mask on one image and teach it")
        if not self.class_ids:
            raise SupportError(
                f"no class is painted on any of the {len(self.shots)} taught image(s); "
                "paint at least one pixel of what you look for and teach that image"
            )


def _checked_labels(frame: Frame, labels: npt.ArrayLike) -> Labels:
    given = np.asarray(labels)
    if given.ndim != 2:
        raise MaskError(f"mask of '{frame.name}' has shape {given.shape}; give one 2D label map (height, width)")
    if given.dtype.kind not in "uib":
        raise MaskError(f"mask of '{frame.name}' holds values of type {given.dtype}; convert it to whole numbers")
    size = frame.size
    if size is not None and given.shape != size:
        raise MaskError(f"mask is {given.shape} but '{frame.name}' is {size}; paint on the same slice")
    if given.size and (given.min() < 0 or given.max() > UNLABELLED):
        raise MaskError(
            f"mask of '{frame.name}' holds values from {given.min()} to {given.max()}; "
            f"use 0 for background, 1 to {MAX_CLASSES} for classes, {UNLABELLED} for unknown"
        )
    kept = np.array(given, dtype=np.int32, order="C")
    kept.setflags(write=False)
    return kept


def _check_ids(frame: Frame, given: npt.NDArray[np.generic]) -> None:
    if given.dtype.kind not in "uib":
        raise MaskError(f"objects of '{frame.name}' have ids of type {given.dtype}; number them 1, 2, 3, ...")
    if given.size and (given.min() < 0 or given.max() > _MAX_ID):
        raise MaskError(f"objects of '{frame.name}' have ids from {given.min()} to {given.max()}; use 1 to {_MAX_ID:,}")


def _checked_instances(frame: Frame, ids: npt.ArrayLike, labels: Labels) -> Instances:
    given = np.asarray(ids)
    if given.shape != labels.shape:
        raise MaskError(
            f"objects of '{frame.name}' are {given.shape}, its mask {labels.shape}; number them on the mask"
        )
    _check_ids(frame, given)
    kept = np.array(given, dtype=np.int32, order="C")
    at = kept > 0
    classes = labels[at]
    if ((classes == BACKGROUND) | (classes == UNLABELLED)).any():
        wrong = kept[at][(classes == BACKGROUND) | (classes == UNLABELLED)][0]
        raise MaskError(f"object {wrong} of '{frame.name}' has pixels of no class; label them, or take its number away")
    pairs = np.unique(kept[at].astype(np.int64) * (UNLABELLED + 1) + classes) // (UNLABELLED + 1)
    if len(shared := pairs[1:][pairs[1:] == pairs[:-1]]):
        raise MaskError(f"object {shared[0]} of '{frame.name}' has pixels of two classes; number each part")
    kept.setflags(write=False)
    return kept


def _needed(tags: tuple[Tag, ...], shots: tuple[Shot, ...]) -> tuple[Tag, ...]:
    """Tags on frames without a shot."""
    keys = [tag.key for tag in tags]
    if len(set(keys)) != len(keys):
        raise MaskError("two tags share a frame; name all that it contains in one")
    taught = {shot.key for shot in shots}
    return tuple(tag for tag in tags if tag.key not in taught)


def _complete(named: tuple[LabelClass, ...], shots: tuple[Shot, ...], tags: tuple[Tag, ...]) -> tuple[LabelClass, ...]:
    """Add plain names for painted or tagged ids that have none; ascending ids."""
    by_id = {c.id: c for c in named}
    if len(by_id) != len(named):
        raise MaskError("two classes share an id; give each its own")
    spoken_of = {i for shot in shots for i in shot.class_ids} | {i for tag in tags for i in tag.class_ids}
    return tuple(by_id.get(i) or LabelClass(i) for i in sorted(by_id.keys() | spoken_of))
