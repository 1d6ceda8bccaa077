"""A segmenter is an extractor plus a method; this joins the two and is where numpy becomes tensors and back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.frames import Frame, FrameKey, Labels, Pixels
from napari_fewshot.imaging.tiling import Tile
from napari_fewshot.models.answers import Answers, DividedImage, constant_note, plan_parts, score_of
from napari_fewshot.models.blocks.quality import Quality
from napari_fewshot.models.canvas import Canvas
from napari_fewshot.models.devices import is_out_of_memory, moved, with_relief
from napari_fewshot.models.extractor import FeatureExtractor, ImageFeatures
from napari_fewshot.models.methods.base import (
    FewShotMethod,
    Judging,
    LabelledPart,
    SupportFeatures,
    TaggedFeatures,
    TakesTags,
)
from napari_fewshot.models.progress import expect, heed, told
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Evidence, Region, TileProgress
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot, SupportSet, Tag


@dataclass(frozen=True, eq=False)
class _Learnt:
    """What was learnt from shots: a later change of them goes on from there."""

    state: Any
    channels: Mapping[str, int]
    """Digest of each different shot -> channels of its image."""


class FeatureSegmenter:
    """A `FewShotSegmenter` of an extractor and a method.

    Learning again after a small change of the support set costs what the change costs.
    """

    def __init__(self, extractor: FeatureExtractor, method: FewShotMethod, name: str) -> None:
        self.extractor = extractor
        self.method = method
        self.name = name
        self._last: _Learnt | None = None

    def sibling(self) -> "FeatureSegmenter":
        """Make another one with the same features and method, which learns something else."""
        return FeatureSegmenter(self.extractor, self.method, self.name)

    @property
    def weights(self) -> dict[str, str]:
        """What identifies the weights, by part: a hash is in each."""
        head = getattr(self.method, "key", "")
        return {"backbone": self.extractor.backbone.key, **({"head": str(head)} if head else {})}

    @torch.inference_mode()
    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> "FeatureConcept":
        """Learn from all shots; see `FewShotSegmenter`."""
        support.check()

        def work() -> FeatureConcept:
            with told(progress):
                return self._learn(support)

        return with_relief(self.extractor, work)

    def _learn(self, support: SupportSet) -> "FeatureConcept":
        shots = {shot.digest: shot for shot in support.canonical()}
        last = self._last
        known = {} if last is None else {d: n for d, n in last.channels.items() if d in shots}
        taught = {digest: self._taught(shot) for digest, shot in shots.items() if digest not in known}
        channels = known | {digest: n for digest, (n, _) in taught.items()}
        _check_channels(channels, shots)
        added = [features for _, features in taught.values()]
        if last is None or not known:
            state = self.method.fit(added, support.class_ids)
        else:
            removed = [digest for digest in last.channels if digest not in shots]
            before = moved(last.state, self.extractor.device)
            state = self.method.update(before, added, removed, support.class_ids)
        self._last = _Learnt(state, channels)
        refined = self._refined(state, support, next(iter(channels.values())))
        return FeatureConcept(support, self.extractor, self.method, refined, channels)

    def _refined(self, state: Any, support: SupportSet, channels: int) -> Any:
        """Let the method learn from tagged images as well, if it can."""
        tags = support.canonical_tags() if support.tags and isinstance(self.method, TakesTags) else ()
        if not tags:
            return state
        assert isinstance(self.method, TakesTags)
        return self.method.refine(moved(state, self.extractor.device), [self._tagged(tag, channels) for tag in tags])

    def _tagged(self, tag: Tag, channels: int) -> TaggedFeatures:
        """Give a tagged image to the method in a form that it understands."""
        heed()
        pixels, name = tag.frame.open(), tag.frame.name
        if pixels.channels != channels:
            raise ImageError(
                f"'{name}' has {pixels.channels} channel(s), but the taught images have {channels}; take its tag away"
            )
        features = self.extractor.open(pixels, tag.frame.stack)
        if features.is_constant:
            raise ImageError(f"all pixels of '{name}' have the same value, so it contains nothing; take its tag away")
        expect(features.glimpse_steps)
        return TaggedFeatures(features.glimpses, tag.class_ids, tag.digest)

    def _taught(self, shot: Shot) -> tuple[int, SupportFeatures]:
        """Number of channels of a shot's image, and the shot as a method sees it."""
        heed()
        pixels = shot.frame.open()
        if shot.labels.shape != pixels.size:
            raise MaskError(f"mask is {shot.labels.shape} but '{shot.frame.name}' is {pixels.size}; paint it again")
        features = self.extractor.open(pixels, shot.frame.stack)
        if shot.class_ids and features.is_constant:
            raise ImageError(
                f"all pixels of '{shot.frame.name}' have the same value, so nothing can be learnt from it; "
                "teach another image"
            )
        tiles = [tile for tile in features.tiles if (shot.labels[tile.core] != UNLABELLED).any()]
        expect(features.steps(len(tiles)))
        parts = partial(_labelled_parts, features, tiles, shot.labels, self.extractor.device)
        return pixels.channels, SupportFeatures(parts, not shot.is_partial, shot.digest)

    @torch.inference_mode()
    def prepare(self, frame: Frame) -> Iterator[None]:
        """Compute and keep the features of a frame, a tile at each step; see `Prepares`.

        Where memory runs out it stops: to ask for less is up to whoever needs the result.
        """
        try:
            features = self.extractor.open(frame.open(), frame.stack)
            for is_constant in features.constant_tiles():
                if not is_constant:
                    break
                yield
            else:
                return
            for tile in features.tiles:
                features.compute(tile)
                yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise


@dataclass(frozen=True, eq=False)
class FeatureConcept:
    """A `Concept`: the state of a method fitted to one support set."""

    support: SupportSet
    extractor: FeatureExtractor
    method: FewShotMethod
    state: Any
    channels: Mapping[str, int]
    """Digest of each different shot -> channels of its image, the same for all."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Classes that can be proposed."""
        return self.support.class_ids

    @torch.inference_mode()
    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        """Propose labels for a frame; see `Concept`."""
        pixels = self._pixels(frame)

        def work() -> Proposal:
            with told(progress):
                return self._propose(frame, pixels)

        return with_relief(self.extractor, work)

    def parts(self, frame: Frame) -> tuple[Region, ...]:
        """Cut a large frame into parts; see `Divides`. A method that judges its proposals wants to see them whole."""
        return () if isinstance(self.method, Judging) else plan_parts(self.extractor, self._pixels(frame))

    def divide(self, frame: Frame) -> DividedImage:
        """Open a frame, to propose for some of its parts; see `Divides`."""
        return DividedImage(self.extractor, partial(self._answers, frame, self._pixels(frame)), frame.name)

    def score(self, evidence: Sequence[Evidence]) -> float:
        """Return the expected IoU of a divided frame; see `Divides`."""
        return score_of((BACKGROUND, *self.class_ids), evidence)

    def _answers(self, frame: Frame, pixels: Pixels) -> Answers:
        return Answers(self.extractor, self.method, self.state, self.class_ids, frame, pixels)

    def _pixels(self, frame: Frame) -> Pixels:
        """Open a frame that is of the kind that was taught."""
        pixels = frame.open()
        taught = next(iter(self.channels.values()))
        if pixels.channels != taught:
            raise ImageError(
                f"'{frame.name}' has {pixels.channels} channel(s), but the taught images have {taught}; "
                "label images of different kinds one kind at a time"
            )
        return pixels

    def _propose(self, frame: Frame, pixels: Pixels) -> Proposal:
        answers = self._answers(frame, pixels)
        features = answers.features
        expect(features.steps(len(features.tiles)))
        canvas = Canvas(1 + len(self.class_ids), pixels.size)
        if features.is_constant:
            sure = np.eye(1 + len(self.class_ids), 1, dtype=np.float32)[..., None]  # (1 + C, 1, 1): background
            for tile in features.tiles:
                canvas.put(tile, sure, 0, 1.0)
            return self._proposal(frame.key, canvas, 1.0, constant_note(frame.name))
        quality = Quality(answers.values)
        judge = self.method.judge(answers.state) if isinstance(self.method, Judging) else None
        for tile in features.tiles:
            pyramid = features.pyramid(tile)
            answer = answers.of(tile, pyramid)
            labels = answer.labels
            quality.add(answer.probabilities, labels, answer.surest)
            if judge is not None:
                answered = labels.new_full(tile.size, UNLABELLED)
                answered[tile.inner] = labels
                judge.add(pyramid, answered)
            canvas.put(tile, answer.probabilities.cpu().numpy(), labels.cpu().numpy(), answer.surest.cpu().numpy())
        judged = None if judge is None else judge.value
        return self._proposal(frame.key, canvas, quality.value if judged is None else judged, self.extractor.notice)

    def _proposal(self, key: FrameKey, canvas: Canvas, score: float, note: str) -> Proposal:
        labels, probabilities, confidence = canvas.labels, canvas.probabilities, canvas.confidence
        return Proposal(key, labels, self.class_ids, probabilities, confidence, score, note)


def _labelled_parts(
    features: ImageFeatures, tiles: Sequence[Tile], labels: Labels, device: str
) -> Iterator[LabelledPart]:
    """Go through those tiles of a shot on which something is labelled."""
    for tile in tiles:
        known = np.full(tile.size, UNLABELLED, np.int64)
        known[tile.inner] = labels[tile.core]
        yield features.pyramid(tile), torch.from_numpy(known).to(device)


def _check_channels(channels: Mapping[str, int], shots: Mapping[str, Shot]) -> None:
    if len(set(channels.values())) > 1:
        told = ", ".join(f"'{shots[digest].frame.name}': {n}" for digest, n in channels.items())
        raise ImageError(
            f"the taught images differ in their number of channels ({told}); teach images of one kind only"
        )
