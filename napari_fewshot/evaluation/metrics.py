"""mIoU, FB-IoU and Dice, as papers on few-shot segmentation compute them: pixels are added up first, divided last."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Labels
from napari_fewshot.support import UNLABELLED


@dataclass(frozen=True)
class Counts:
    """Pixels of one class, on one image or added up over many.

    Attributes
    ----------
    shared
        Proposed, and true: the intersection.
    proposed
        Proposed in all.
    true
        True in all.

    Examples
    --------
    >>> (Counts(1, 2, 3) + Counts(1, 1, 1)).iou
    0.4
    """

    shared: int = 0
    proposed: int = 0
    true: int = 0

    @classmethod
    def of(cls, proposed: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> "Counts":
        """Count two masks of one shape."""
        return cls(int((proposed & true).sum()), int(proposed.sum()), int(true.sum()))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.shared + other.shared, self.proposed + other.proposed, self.true + other.true)

    @property
    def union(self) -> int:
        """Pixels that are proposed, true, or both."""
        return self.proposed + self.true - self.shared

    @property
    def iou(self) -> float | None:
        """Intersection over union, in [0, 1]; None where there is nothing to divide by."""
        return self.shared / self.union if self.union else None

    @property
    def dice(self) -> float | None:
        """Twice the intersection over both areas, in [0, 1]; None where there is nothing to divide by."""
        return 2 * self.shared / (self.proposed + self.true) if self.union else None


@dataclass(frozen=True)
class ImageCounts:
    """What was counted on one query.

    Attributes
    ----------
    classes
        Of every class that was looked for.
    foreground
        Of all of them together, whichever it is: a cat that is called a dog is foreground all the same.
    background
        Of everything else.
    """

    classes: Mapping[int, Counts]
    foreground: Counts
    background: Counts


def count(proposed: Labels, truth: Labels, class_ids: Sequence[int]) -> ImageCounts:
    """Compare a proposal with the truth; pixels whose truth is 255 are left out, whatever is proposed there.

    A class that was looked for counts on every query, also on one that does not show it. (PANet's `util/metric.py`
    counts it only where the query shows it, which forgives false positives on the others; with one class per episode
    the two agree.)

    Parameters
    ----------
    proposed, truth
        (H, W) label maps.
    class_ids
        What was looked for.

    Examples
    --------
    >>> counts = count(np.array([[1, 1, 0]], np.int32), np.array([[1, 0, 255]], np.int32), [1])
    >>> counts.classes[1], counts.background
    (Counts(shared=1, proposed=2, true=1), Counts(shared=0, proposed=0, true=1))
    """
    known = truth != UNLABELLED
    classes = {c: Counts.of((proposed == c) & known, (truth == c) & known) for c in class_ids}
    some = np.isin(proposed, class_ids), np.isin(truth, class_ids)
    foreground = Counts.of(some[0] & known, some[1] & known)
    background = Counts.of(~some[0] & known, ~some[1] & known)
    return ImageCounts(classes, foreground, background)


@dataclass(frozen=True)
class Scores:
    """What a run comes to.

    Attributes
    ----------
    class_iou
        Class id -> IoU over all episodes that looked for it; None where it was neither there nor proposed.
    miou
        Mean of these. In [0, 1], as the other two; None where nothing was counted.
    fb_iou
        Mean of the IoU of foreground and that of background; mostly the higher one, because background is easy.
    dice
        Mean over classes.
    """

    class_iou: Mapping[int, float | None]
    miou: float | None
    fb_iou: float | None
    dice: float | None


@dataclass
class Totals:
    """Queries added up as they come."""

    classes: dict[int, Counts] = field(default_factory=dict)
    foreground: Counts = Counts()
    background: Counts = Counts()

    def add(self, counted: ImageCounts) -> None:
        """Take in one query."""
        for class_id, counts in counted.classes.items():
            self.classes[class_id] = self.classes.get(class_id, Counts()) + counts
        self.foreground += counted.foreground
        self.background += counted.background

    def scores(self) -> Scores:
        """Divide what was added up, then average over classes.

        - mIoU is not the mean of the IoU of each image, which weighs small objects more: PANet (`util/metric.py`),
          PFENet (`test.py`) and HSNet (`common/logger.py`) all add up first.
        - FB-IoU adds up all classes, and takes whichever of them was looked for as foreground, as PFENet and HSNet
          do. With several classes per episode PANet's differs: it adds up the errors of each class, so that taking one
          for the other counts as wrong.
        - A class that no episode looked for is left out of the mean; HSNet counts it as zero.
        """
        in_order = dict(sorted(self.classes.items()))
        return Scores(
            {class_id: counts.iou for class_id, counts in in_order.items()},
            mean(counts.iou for counts in in_order.values()),
            mean((self.foreground.iou, self.background.iou)),
            mean(counts.dice for counts in in_order.values()),
        )


def mean(values: Iterable[float | None]) -> float | None:
    """Average what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
