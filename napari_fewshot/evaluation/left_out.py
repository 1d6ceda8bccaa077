"""How good it is on what somebody painted: each shot is left out once and proposed for from the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from napari_fewshot.errors import SupportError
from napari_fewshot.evaluation.metrics import count, mean
from napari_fewshot.frames import FrameKey
from napari_fewshot.segmenter import Concept, FewShotSegmenter
from napari_fewshot.support import Shot, SupportSet


@dataclass(frozen=True)
class LeftOut:
    """How well a shot is proposed from the others.

    Attributes
    ----------
    key
        The frame.
    iou
        Mean over the classes that are painted or proposed there, in [0, 1]; 1 where nothing is painted and nothing
        proposed; None where there is nothing to learn it from, or nothing is labelled.
    class_iou
        Class id -> IoU, for those classes.
    unlearnt
        Classes that are painted on this shot alone: they are not judged.
    """

    key: FrameKey
    iou: float | None
    class_iou: Mapping[int, float]
    unlearnt: tuple[int, ...] = ()


def leave_one_shot_out(segmenter: FewShotSegmenter, support: SupportSet) -> Iterator[LeftOut]:
    """Leave out each shot once, learn from the others, and compare what is proposed with what was painted.

    It tells how well the next image will go, from what is there already. Pixels that are not labelled are not judged:
    of a shot with a few strokes only the strokes are, which makes it look better than it is.

    Parameters
    ----------
    segmenter
        What is measured.
    support
        At least two shots.

    Yields
    ------
    LeftOut
        One per shot, in their order, each when it is done.

    Raises
    ------
    SupportError
        At the first item, if there are fewer than two shots.
    ImageError
        If an image cannot be used.

    Examples
    --------
    >>> from napari_fewshot import load_segmenter
    >>> list(leave_one_shot_out(load_segmenter(device="cpu"), SupportSet()))
    Traceback (most recent call last):
        ...
    napari_fewshot.errors.SupportError: 0 images are taught; at least 2 are needed ...
    """
    if len(support) < 2:
        raise SupportError(
            f"{len(support)} image{'s are' if len(support) != 1 else ' is'} taught; at least 2 are needed to leave one "
            "out: label another image and teach it"
        )
    for shot in support:
        yield _left_out(segmenter, shot, support.without(shot.key))


def _left_out(segmenter: FewShotSegmenter, shot: Shot, others: SupportSet) -> LeftOut:
    unlearnt = tuple(c for c in shot.class_ids if c not in others.class_ids)
    if not can_be_judged(shot, others):
        return LeftOut(shot.key, None, {}, unlearnt)
    class_iou = class_ious(segmenter.learn(others), shot, others.class_ids)
    return LeftOut(shot.key, overall(class_iou), class_iou, unlearnt)


def can_be_judged(shot: Shot, others: SupportSet) -> bool:
    """Whether proposals for a shot from some others can be compared with what was painted on it."""
    known = any(c in others.class_ids for c in shot.class_ids) or (not shot.class_ids and shot.has_background)
    return bool(others.class_ids) and known


def class_ious(concept: Concept, shot: Shot, class_ids: Sequence[int]) -> dict[int, float]:
    """Propose for the frame of a shot, and compare with what was painted: class id -> IoU, where there is a union.

    Raises
    ------
    ImageError
        If the image cannot be used.
    """
    counted = count(concept.propose(shot.frame).labels, shot.labels, class_ids).classes
    return {c: counts.iou for c, counts in counted.items() if counts.iou is not None}


def overall(class_iou: Mapping[int, float]) -> float:
    """Mean over classes; 1 where nothing is painted and nothing proposed."""
    iou = mean(class_iou.values())
    return 1.0 if iou is None else iou
