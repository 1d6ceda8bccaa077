"""The contract of every method: features in, probabilities out; never images, never backbones."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.support import BACKGROUND, UNLABELLED

LabelledPart = tuple[FeaturePyramid, Tensor]
"""Features of an image or of a tile of it, and labels (H, W) int64 of the same pixels, 255 where nothing is known."""


@dataclass(frozen=True, eq=False)
class SupportFeatures:
    """One shot as a method sees it.

    Attributes
    ----------
    parts
        Goes through the image tile by tile; labels outside of what a tile answers for are 255, and tiles without
        any label are left out. A function, so that features given up by the cache are computed only when needed.
    is_dense
        Whether every pixel of the image is labelled.
    digest
        Identity of image and labels.
    """

    parts: Callable[[], Iterator[LabelledPart]]
    is_dense: bool
    digest: str

    @classmethod
    def whole(cls, pyramid: FeaturePyramid, labels: Tensor, digest: str) -> "SupportFeatures":
        """Make one of an image in one piece."""
        return cls(lambda: iter([(pyramid, labels)]), not bool((labels == UNLABELLED).any()), digest)


class FewShotMethod(Protocol):
    """One system of few-shot segmentation. Holds settings and trained weights, never anything about a support set."""

    name: str

    def fit(self, support: Sequence[SupportFeatures], class_ids: tuple[int, ...]) -> Any:
        """Learn from shots, all different, in canonical order. Pure: sees no query, changes no input.

        Returns
        -------
        State
            Immutable; what `predict` needs.
        """
        ...

    def update(
        self,
        state: Any,
        added: Sequence[SupportFeatures],
        removed: Sequence[str],
        class_ids: tuple[int, ...],
    ) -> Any:
        """Learn from a changed support set: the same, bit for bit, as `fit` on what there is now.

        ``removed`` are digests. ``state`` itself is not changed.
        """
        ...

    def predict(self, state: Any, query: FeaturePyramid) -> Tensor:
        """Return probabilities (1 + C, H, W) at the size of the image: background, then classes, summing to 1."""
        ...


@runtime_checkable
class Transductive(Protocol):
    """What a method may offer beside: to learn from the image that it is asked about, before it answers."""

    def adapt(self, state: Any, image: Iterable[FeaturePyramid]) -> Any:
        """Learn from an image without labels.

        Parameters
        ----------
        state
            What was learnt from shots; not changed.
        image
            Features of the image, or of some tiles that are spread over a large one: all of its tiles are then
            answered for in the same way.

        Returns
        -------
        State
            For `predict`, and for this image only.
        """
        ...


class Judge(Protocol):
    """Finds out how good one proposal is, part by part of its image."""

    def add(self, query: FeaturePyramid, labels: Tensor) -> None:
        """Take in a tile: its features, and what was proposed for it (H, W); 255 where other tiles answer."""
        ...

    @property
    def value(self) -> float | None:
        """The IoU to expect, in [0, 1]; None where the method has nothing to say."""
        ...


@runtime_checkable
class Judging(Protocol):
    """What a method may offer beside: a sign of its own of how good a proposal is, in place of `Quality`."""

    def judge(self, state: Any) -> Judge:
        """Begin to judge one proposal that was made with a state."""
        ...


@dataclass(frozen=True, eq=False)
class TaggedFeatures:
    """One image of which it is only known that it shows some classes, as a method sees it.

    Attributes
    ----------
    image
        Goes through the image, or through some tiles that are spread over a large one. A function, so that a method may
        go through it several times, and features given up by the cache are computed only when needed.
    class_ids
        What it shows, ascending; every one of them is painted on some shot.
    digest
        Identity of image and classes.
    """

    image: Callable[[], Iterator[FeaturePyramid]]
    class_ids: tuple[int, ...]
    digest: str

    @classmethod
    def whole(cls, pyramid: FeaturePyramid, class_ids: tuple[int, ...], digest: str) -> "TaggedFeatures":
        """Make one of an image in one piece."""
        return cls(lambda: iter([pyramid]), class_ids, digest)


@runtime_checkable
class TakesTags(Protocol):
    """What a method may offer beside: to learn from images that are only known to show some classes.

    Its card says so: "tags" is among what it accepts.
    """

    def refine(self, state: Any, tagged: Sequence[TaggedFeatures]) -> Any:
        """Learn from such images as well.

        Parameters
        ----------
        state
            What was learnt from shots; not changed, and what `FewShotMethod.update` goes on from.
        tagged
            At least one, all different, in canonical order.

        Returns
        -------
        State
            For `FewShotMethod.predict`.
        """
        ...


Summary = TypeVar("Summary")
Solution = TypeVar("Solution")


@dataclass(frozen=True, eq=False)
class AdditiveState(Generic[Summary, Solution]):
    """What was seen of each shot, by digest, and what follows from all of it."""

    summaries: Mapping[str, Summary]
    solution: Solution


class AdditiveMethod(ABC, Generic[Summary, Solution]):
    """A method that needs only a summary of each shot (sufficient statistics, prototypes).

    Summaries are kept apart by shot and combined in the order of their digests. So a changed shot costs one
    summary, and the result does not depend on the order of teaching, not even in the last bit.
    """

    def fit(self, support: Sequence[SupportFeatures], class_ids: tuple[int, ...]) -> AdditiveState[Summary, Solution]:
        """Summarise every shot, then combine; see `FewShotMethod`."""
        return self._combined({}, support, class_ids)

    def update(
        self,
        state: AdditiveState[Summary, Solution],
        added: Sequence[SupportFeatures],
        removed: Sequence[str],
        class_ids: tuple[int, ...],
    ) -> AdditiveState[Summary, Solution]:
        """Summarise the new shots only; see `FewShotMethod`."""
        kept = {digest: summary for digest, summary in state.summaries.items() if digest not in set(removed)}
        return self._combined(kept, added, class_ids)

    @abstractmethod
    def summarise(self, shot: SupportFeatures) -> Summary:
        """Reduce one shot to what `combine` needs of it."""

    @abstractmethod
    def combine(self, summaries: Sequence[Summary], class_ids: tuple[int, ...]) -> Solution:
        """Solve for everything that was taught. ``summaries`` come in canonical order."""

    def _combined(
        self, kept: dict[str, Summary], added: Sequence[SupportFeatures], class_ids: tuple[int, ...]
    ) -> AdditiveState[Summary, Solution]:
        summaries = kept | {shot.digest: self.summarise(shot) for shot in added}
        ordered = {digest: summaries[digest] for digest in sorted(summaries)}
        return AdditiveState(ordered, self.combine(list(ordered.values()), class_ids))


def labels_present(labels: Tensor) -> list[int]:
    """Values of a label map (0 and class ids, not 255), ascending."""
    return [int(v) for v in labels.unique() if v != UNLABELLED]


def with_background(class_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Label value of each channel of a prediction: background first."""
    return (BACKGROUND, *class_ids)
