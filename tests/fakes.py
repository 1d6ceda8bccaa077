"""A segmenter without torch: it knows of a class only how bright it is."""

from dataclasses import dataclass, field

import numpy as np

from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.proposals import Proposal
from napari_fewshot.support import SupportSet


@dataclass(frozen=True)
class Brightness:
    """Gives every pixel the label whose mean value over the shots is nearest to its own."""

    support: SupportSet
    means: dict[int, float]

    def propose(self, frame: Frame) -> Proposal:
        image = frame.read().astype(np.float32)
        ids = tuple(self.means)
        distances = np.stack([np.abs(image - mean) for mean in self.means.values()])  # (1 + C, H, W)
        weights = np.exp(-distances / 16)
        probabilities = (weights / weights.sum(axis=0)).astype(np.float32)
        labels = np.array(ids, np.int32)[distances.argmin(axis=0)]
        confidence = probabilities.max(axis=0)
        return Proposal(frame.key, labels, ids[1:], probabilities, confidence, float(confidence.mean()))


@dataclass
class BrightnessSegmenter:
    """Counts what it was asked to learn."""

    name: str = "brightness"
    learnt: list[SupportSet] = field(default_factory=list)

    def learn(self, support: SupportSet) -> Brightness:
        support.check()
        self.learnt.append(support)
        means = {}
        for label in (0, *support.class_ids):
            values = [shot.frame.read()[shot.labels == label] for shot in support]
            means[label] = float(np.concatenate(values).mean()) if any(v.size for v in values) else 0.0
        return Brightness(support, means)


def proposal(key: FrameKey, labels: Labels, score: float = 0.5) -> Proposal:
    """Make a proposal by hand, certain of every pixel."""
    ids = tuple(int(i) for i in np.unique(labels) if i)
    probabilities = np.stack([labels == i for i in (0, *ids)]).astype(np.float32)
    return Proposal(key, labels.astype(np.int32), ids, probabilities, np.ones(labels.shape, np.float32), score)
