"""A segmenter is an extractor plus a method; this joins the two and is where numpy becomes tensors and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.frames import Frame, Image
from napari_fewshot.imaging.intensity import is_constant
from napari_fewshot.models.blocks.quality import expected_iou
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.methods.base import FewShotMethod, SupportFeatures
from napari_fewshot.proposals import Proposal
from napari_fewshot.support import Shot, SupportSet


class FeatureSegmenter:
    """A `FewShotSegmenter` of an extractor and a method.

    Learning again after a small change of the support set costs what the change costs.
    """

    def __init__(self, extractor: FeatureExtractor, method: FewShotMethod, name: str) -> None:
        self.extractor = extractor
        self.method = method
        self.name = name
        self._last: FeatureConcept | None = None

    @torch.inference_mode()
    def learn(self, support: SupportSet) -> "FeatureConcept":
        """Learn from all shots; see `FewShotSegmenter`."""
        support.check()
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
            state = self.method.update(last.state, added, removed, support.class_ids)
        self._last = FeatureConcept(support, self.extractor, self.method, state, channels)
        return self._last

    def _taught(self, shot: Shot) -> tuple[int, SupportFeatures]:
        """Number of channels of a shot's image, and the shot as a method sees it."""
        image = shot.frame.read()
        if shot.labels.shape != image.shape[:2]:
            raise MaskError(f"mask is {shot.labels.shape} but '{shot.frame.name}' is {image.shape[:2]}; paint it again")
        if shot.class_ids and is_constant(image):
            raise ImageError(
                f"all pixels of '{shot.frame.name}' have the same value, so nothing can be learnt from it; "
                "teach another image"
            )
        labels = torch.from_numpy(shot.labels.astype(np.int64)).to(self.extractor.device)
        return channel_count(image), SupportFeatures(lambda: self.extractor(image), labels, shot.digest)


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
    def propose(self, frame: Frame) -> Proposal:
        """Propose labels for a frame; see `Concept`."""
        image = frame.read()
        if is_constant(image):
            return self._nothing(frame, image)
        taught = next(iter(self.channels.values()))
        if channel_count(image) != taught:
            raise ImageError(
                f"'{frame.name}' has {channel_count(image)} channel(s), but the taught images have {taught}; "
                "label images of different kinds one kind at a time"
            )
        probabilities = self.method.predict(self.state, self.extractor(image))  # (1 + C, H, W)
        confidence, best = probabilities.max(0)
        values = torch.tensor((0, *self.class_ids), device=best.device)
        return Proposal(
            frame.key,
            _numpy(values[best]).astype(np.int32),
            self.class_ids,
            _numpy(probabilities.float()),
            _numpy(confidence.float()),
            expected_iou(probabilities),
        )

    def _nothing(self, frame: Frame, image: Image) -> Proposal:
        """Propose background for an image that shows nothing at all, whatever was taught."""
        height, width = image.shape[:2]
        probabilities = np.zeros((1 + len(self.class_ids), height, width), np.float32)
        probabilities[0] = 1
        return Proposal(
            frame.key,
            np.zeros((height, width), np.int32),
            self.class_ids,
            probabilities,
            np.ones((height, width), np.float32),
            1.0,
            note=f"all pixels of '{frame.name}' have the same value: there is nothing to find on it",
        )


def channel_count(image: Image) -> int:
    """Number of channels of (H, W) or (H, W, channels)."""
    return 1 if image.ndim == 2 else image.shape[-1]


def _check_channels(channels: Mapping[str, int], shots: Mapping[str, Shot]) -> None:
    if len(set(channels.values())) > 1:
        told = ", ".join(f"'{shots[digest].frame.name}': {n}" for digest, n in channels.items())
        raise ImageError(
            f"the taught images differ in their number of channels ({told}); teach images of one kind only"
        )


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
