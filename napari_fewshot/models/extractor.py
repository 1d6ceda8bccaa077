"""From an image to its feature pyramid, once: normalisation, padding, backbone, device, cache."""

import torch
import torch.nn.functional as F  # noqa: N812

from napari_fewshot.frames import Image, content_digest
from napari_fewshot.imaging.intensity import to_unit_range
from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.cache import FeatureCache


class FeatureExtractor:
    """A backbone made ready for images of any kind and size.

    Parameters
    ----------
    backbone
        What computes features.
    device
        Where; see `choose_device`.
    cache
        Where features are kept by the content of their image; a cache may serve several extractors.
    """

    def __init__(self, backbone: Backbone, device: str = "cpu", cache: FeatureCache | None = None) -> None:
        self.backbone = backbone.to(device)
        self.device = device
        self.cache = cache if cache is not None else FeatureCache()
        self.key = f"{backbone.key}|unit-range-1|{device}"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels that every pyramid has."""
        return self.backbone.levels

    def __call__(self, image: Image) -> FeaturePyramid:
        """Return the features of an image (H, W) or (H, W, channels)."""
        key = f"{self.key}|{content_digest(image)}"
        known = self.cache.get(key)
        if known is None:
            known = self._compute(image)
            self.cache.put(key, known)
        return known

    @torch.inference_mode()
    def _compute(self, image: Image) -> FeaturePyramid:
        planes = torch.from_numpy(to_unit_range(image)).to(self.device)  # (n, H, W)
        height, width = planes.shape[-2:]
        coarsest = self.levels[-1].stride
        below, beside = -height % coarsest, -width % coarsest
        padded = F.pad(planes[None], (0, beside, 0, below), mode="replicate")[0]
        return FeaturePyramid(self.backbone(padded), (height, width))
