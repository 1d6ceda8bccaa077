"""Stacks whose labels are known: what slices that decide together bring, and how much less labels flicker.

A few slices, spread evenly, are taught in full; all others are proposed for, each by itself (off) and together with its
neighbours (on), with the weights that are learnt from the shots.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import FewShotError, SettingsError
from napari_fewshot.evaluation.folders import DataSet
from napari_fewshot.evaluation.metrics import mean
from napari_fewshot.frames import Frame
from napari_fewshot.io.journal import Journal
from napari_fewshot.io.rasters import read_image, read_label_map
from napari_fewshot.segmenter import Concept, FewShotSegmenter
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot, SupportSet
from napari_fewshot.volumes.concept import Consistency, Surroundings
from napari_fewshot.volumes.series import USUAL_STEP
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.tuning import learn_consistency

LabelStack = npt.NDArray[np.int32]
"""(Z, H, W) label values."""


@dataclass(frozen=True, eq=False)
class LabelledStack:
    """A stack whose labels are known.

    Attributes
    ----------
    name
        What to call it.
    images
        (Z, H, W) or (Z, H, W, channels).
    labels
        (Z, H, W): 0 background, 1, 2, ... classes, 255 not labelled.
    step
        Distance of two slices, in pixels.
    """

    name: str
    images: npt.NDArray[Any]
    labels: LabelStack
    step: float = USUAL_STEP

    @classmethod
    def of(cls, data_set: DataSet, step: float = USUAL_STEP) -> "LabelledStack":
        """Take the images of a data set for slices, in the order of their names.

        Raises
        ------
        SettingsError
            If they are not of one size.
        ReadError
            If one cannot be read.
        """
        images = [read_image(file) for file in data_set.images]
        labels = [read_label_map(file) for file in data_set.labels]
        if len({image.shape for image in images} | {(*each.shape, *images[0].shape[2:]) for each in labels}) > 1:
            raise SettingsError(
                f"the images of {data_set.name}, and their labels, are not of one size: they are no stack"
            )
        stack = np.stack(labels).astype(np.int32)
        if not (stack == BACKGROUND).any():  # cells and their borders, say
            stack[stack == np.bincount(stack[stack != UNLABELLED]).argmax()] = BACKGROUND
        return cls(data_set.name, np.stack(images), stack, step)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Its slices."""
        return Frame.of_stack(self.name, self.images, (1.0, 1.0), step=self.step)

    @property
    def class_ids(self) -> list[int]:
        """Classes that are on it."""
        return [int(c) for c in np.unique(self.labels) if c not in (BACKGROUND, UNLABELLED)]


@dataclass(frozen=True)
class VolumeOutcome:
    """What came out on one stack with one number of shots, without neighbours (off) and with them (on).

    Attributes
    ----------
    name
        Of the stack.
    shots
        How many slices were taught.
    off, on
        Mean IoU over the classes, pixels of all slices that were not taught counted together.
    flicker_off, flicker_on
        Of the pixels whose true label stays from one slice to the next: the share whose proposed label does not.
    blinks_off, blinks_on
        Share of pixels with another label than on the slice above and the one below, which agree with each other, less
        the same share of the truth.
    change_off, change_on
        Pixels that change their proposed label from one slice to the next, for each that changes its true one.
    seconds_off, seconds_on
        Of the processor, for a slice; with what is learnt of neighbours.
    failure
        Why nothing could be learnt or proposed; "" otherwise.
    """

    name: str
    shots: int
    off: float | None = None
    on: float | None = None
    flicker_off: float | None = None
    flicker_on: float | None = None
    blinks_off: float | None = None
    blinks_on: float | None = None
    change_off: float | None = None
    change_on: float | None = None
    seconds_off: float | None = None
    seconds_on: float | None = None
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Measured:
    """An outcome, with all that it was found from.

    Attributes
    ----------
    outcome
        It.
    off, on
        Labels of all slices; those that were taught as they were.
    others
        Places of those that were not.
    consistency
        What was learnt.
    """

    outcome: VolumeOutcome
    off: LabelStack
    on: LabelStack
    others: tuple[int, ...]
    consistency: Consistency


def evaluate_volumes(
    segmenter: FewShotSegmenter, stacks: Sequence[LabelledStack], shots: Sequence[int], journal: Journal | None = None
) -> Iterator[VolumeOutcome]:
    """Go through all stacks and numbers of shots, lazily.

    Parameters
    ----------
    segmenter
        What is measured.
    stacks
        On what.
    shots
        Numbers of slices that are taught; those that leave fewer than two slices are left out.
    journal
        Where outcomes are kept; those that it holds are not computed again.

    Yields
    ------
    VolumeOutcome
        One for each.
    """
    for stack in stacks:
        for count in shots:
            if count > len(stack.images) - 2:
                continue
            key = f"{stack.name}, {count} shots, {stack.images.shape}, step {stack.step:g}"
            known = None if journal is None else journal.records.get(key)
            if known is not None:
                yield VolumeOutcome(**known["outcome"])
                continue
            try:
                outcome = measure(segmenter, stack, count).outcome
            except FewShotError as error:
                outcome = VolumeOutcome(stack.name, count, failure=str(error))
            if journal is not None:
                journal.add(key, {"outcome": asdict(outcome)})
            yield outcome


def measure(segmenter: FewShotSegmenter, stack: LabelledStack, shots: int) -> Measured:
    """Propose for slices of a stack with and without their neighbours.

    Raises
    ------
    FewShotError
        If nothing can be learnt or proposed.
    """
    frames, count, truth = stack.frames, len(stack.images), stack.labels
    taught = [round((i + 0.5) * count / shots - 0.5) for i in range(shots)]
    others = tuple(z for z in range(count) if z not in taught)
    concept = segmenter.learn(SupportSet([Shot(frames[z], truth[z]) for z in taught]))
    begun = time.process_time()
    off = _proposed(concept, frames, others, truth)
    between = time.process_time()
    consistency = learn_consistency(segmenter, concept, frames, VolumeSettings("z"))
    on = _proposed(consistency.around(Surroundings(frames)), frames, others, truth)
    ended = time.process_time()
    (iou_off, *rest_off), (iou_on, *rest_on) = (
        (
            mean_iou(labels, truth, others, stack.class_ids),
            flicker(labels, truth, others),
            _less(blinks(labels, others), blinks(truth, others)),
            _ratio(change(labels, others), change(truth, others)),
        )
        for labels in (off, on)
    )
    outcome = VolumeOutcome(
        stack.name,
        shots,
        *(iou_off, iou_on, rest_off[0], rest_on[0], rest_off[1], rest_on[1], rest_off[2], rest_on[2]),
        *((between - begun) / len(others), (ended - between) / len(others)),
    )
    return Measured(outcome, off, on, others, consistency)


def _proposed(concept: Concept, frames: Sequence[Frame], others: Sequence[int], truth: LabelStack) -> LabelStack:
    """Propose for slices, and take the others as they were taught."""
    labels = truth.copy()
    for z in others:
        labels[z] = concept.propose(frames[z]).labels
    return labels


def mean_iou(labels: LabelStack, truth: LabelStack, others: Sequence[int], class_ids: Sequence[int]) -> float | None:
    """Mean over the classes that are there or proposed, pixels of all these slices counted together."""
    here, there = labels[list(others)], truth[list(others)]
    known = there != UNLABELLED
    pairs = [((here == c) & known, there == c) for c in class_ids]
    return mean(float((a & b).sum() / (a | b).sum()) for a, b in pairs if (a | b).any())


def flicker(labels: LabelStack, truth: LabelStack, others: Sequence[int]) -> float | None:
    """Of pixels whose true label stays from one slice to the next: how many change their proposed label."""
    pairs = _pairs(others)
    stays = _share(pairs, lambda z: truth[z] == truth[z + 1])
    return _ratio(_share(pairs, lambda z: (truth[z] == truth[z + 1]) & (labels[z] != labels[z + 1])), stays)


def blinks(labels: LabelStack, others: Sequence[int]) -> float | None:
    """Share of pixels that have another label than on both slices beside, which agree."""
    middle = [z for z in others if z - 1 in others and z + 1 in others]
    return _share(middle, lambda z: (labels[z - 1] == labels[z + 1]) & (labels[z] != labels[z - 1]))


def change(labels: LabelStack, others: Sequence[int]) -> float | None:
    """Share of pixels that change their label from one slice to the next."""
    return _share(_pairs(others), lambda z: labels[z] != labels[z + 1])


def _pairs(others: Sequence[int]) -> list[int]:
    return [z for z in others if z + 1 in others]


def _share(places: Sequence[int], of: Callable[[int], npt.NDArray[np.bool_]]) -> float | None:
    return mean(float(of(z).mean()) for z in places)


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def volume_table(outcomes: Sequence[VolumeOutcome]) -> str:
    """Make a table in Markdown: a row for each stack and number of shots, and the mean gain.

    Examples
    --------
    >>> print(volume_table([VolumeOutcome("cells", 1, 0.7, 0.8, 0.04, 0.03, 0.006, 0.003, 1.1, 1.0, 0.1, 0.3)]))
    | stack | K | mIoU off | on | flicker off | on | less by | blinks off | on | change off | on | s/slice off | on |
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
    | cells | 1 | 0.700 | 0.800 | 4.00 % | 3.00 % | 25 % | 0.60 % | 0.30 % | 1.10 | 1.00 | 0.10 | 0.30 |
    <BLANKLINE>
    Mean gain of the mIoU: +0.100
    """
    heads = ("stack", "K", "mIoU off", "on", "flicker off", "on", "less by", "blinks off", "on", "change off", "on")
    lines = [[*heads, "s/slice off", "on"], ["---", *["---:"] * 12], *map(_row, outcomes)]
    gain = mean(_less(each.on, each.off) for each in outcomes)
    told = "–" if gain is None else f"{gain:+.3f}"
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + f"\n\nMean gain of the mIoU: {told}"


def _row(outcome: VolumeOutcome) -> list[str]:
    kept = _ratio(outcome.flicker_on, outcome.flicker_off)
    shares = (outcome.flicker_off, outcome.flicker_on), (outcome.blinks_off, outcome.blinks_on)
    flickers, blinking = ([_shown(share, ".2%") for share in both] for both in shares)
    return [
        *(outcome.name, str(outcome.shots), _shown(outcome.off, ".3f"), _shown(outcome.on, ".3f")),
        *(*flickers, _shown(None if kept is None else 1 - kept, ".0%"), *blinking),
        *(_shown(value, ".2f") for value in (outcome.change_off, outcome.change_on)),
        *(_shown(value, ".2f") for value in (outcome.seconds_off, outcome.seconds_on)),
    ]


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("%", " %")
