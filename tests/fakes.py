"""A segmenter without torch: it knows of a class only how bright it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import TileProgress
from napari_fewshot.support import SupportSet


@dataclass
class BrightnessSegmenter:
    """Gives every pixel the label whose mean value over the shots is nearest to its own.

    Goes through every image in some tiles (strips of rows), and keeps a list of what it was asked to learn and one of
    the images of which it has gone through a tile.
    """

    name: str = "brightness"
    tiles: int = 1
    learnt: list[SupportSet] = field(default_factory=list)
    tiles_seen: list[FrameKey] = field(default_factory=list)

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> "Brightness":
        support.check()
        self.learnt.append(support)
        keys = [shot.key for shot in support for _ in range(self.tiles)]
        for _ in self.strips(keys, progress):
            pass
        means = {}
        for label in (0, *support.class_ids):
            values = [shot.frame.read()[shot.labels == label] for shot in support]
            means[label] = float(np.concatenate(values).mean()) if any(v.size for v in values) else 0.0
        return Brightness(support, means, self)

    def strips(self, keys: list[FrameKey], progress: TileProgress | None) -> Iterator[int]:
        """Number of each tile; these are the images that they belong to."""
        for done, key in enumerate(keys):
            if progress is not None:
                progress(done, len(keys))
            self.tiles_seen.append(key)
            self.on_tile(key)
            yield done

    def on_tile(self, key: FrameKey) -> None:
        """Called while a tile is gone through."""


@dataclass(frozen=True)
class Brightness:
    """What it has learnt."""

    support: SupportSet
    means: dict[int, float]
    segmenter: BrightnessSegmenter = field(default_factory=BrightnessSegmenter)

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        image = frame.read().astype(np.float32)
        ids = tuple(self.means)
        probabilities = np.zeros((len(ids), *image.shape), np.float32)
        rows = np.array_split(np.arange(len(image)), self.segmenter.tiles)
        for tile in self.segmenter.strips([frame.key] * len(rows), progress):
            strip = image[rows[tile]]
            distances = np.stack([np.abs(strip - mean) for mean in self.means.values()])  # (1 + C, rows, W)
            weights = np.exp(-distances / 16)
            probabilities[:, rows[tile]] = weights / weights.sum(axis=0)
        labels = np.array(ids, np.int32)[probabilities.argmax(axis=0)]
        confidence = probabilities.max(axis=0)
        return Proposal(frame.key, labels, ids[1:], probabilities, confidence, float(confidence.mean()))


def proposal(key: FrameKey, labels: Labels, score: float = 0.5) -> Proposal:
    """Make a proposal by hand, certain of every pixel."""
    ids = tuple(int(i) for i in np.unique(labels) if i)
    probabilities = np.stack([labels == i for i in (0, *ids)]).astype(np.float32)
    return Proposal(key, labels.astype(np.int32), ids, probabilities, np.ones(labels.shape, np.float32), score)
