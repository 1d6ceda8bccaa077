"""What is timed: made images, shots on them, and segmenters whose weights are at hand on any machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from scipy.ndimage import gaussian_filter

from napari_fewshot import Frame, Shot
from napari_fewshot.frames import Image, Labels
from napari_fewshot.imaging.intensity import to_unit_range
from napari_fewshot.models.backbones import mica
from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.backbones.scale_space import ScaleSpace
from napari_fewshot.models.backbones.torchvision_trunks import TorchvisionTrunk, weights_of
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.extractor import FeatureExtractor, precision_for
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.methods import auto
from napari_fewshot.models.weights import locate, read_weights

BACKBONES = ("resnet18", "mica")


def texture(side: int, seed: int) -> Image:
    """Grains of three sizes: (side, side) uint8, another image for every seed."""
    noise = np.random.default_rng(seed).standard_normal((3, side, side)).astype(np.float32)
    grains = sum(sigma * gaussian_filter(plane, sigma) for plane, sigma in zip(noise, (1, 4, 16), strict=True))
    low, high = np.percentile(grains, (1, 99))
    return (255 * (grains - low) / (high - low)).clip(0, 255).astype(np.uint8)


def mask(side: int, seed: int) -> Labels:
    """Blobs over half of the image: (side, side), 0 and 1."""
    noise = np.random.default_rng((seed, 1)).standard_normal((side, side))
    return (gaussian_filter(noise, 16) > 0).astype(np.int32)


@dataclass(frozen=True)
class Job:
    """The first image is taught, the others are proposed for."""

    images: tuple[Image, ...]
    masks: tuple[Labels, ...]

    @classmethod
    def of(cls, frames: int, side: int) -> "Job":
        """Make one image more than there are frames to propose for."""
        seeds = range(frames + 1)
        return cls(tuple(texture(side, s) for s in seeds), tuple(mask(side, s) for s in seeds))

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Frames to propose for."""
        return tuple(Frame(("frame", i), image) for i, image in enumerate(self.images) if i)

    def shot(self, index: int, change: int = 0) -> Shot:
        """One image with its mask; another ``change``, another mask."""
        labels = self.masks[index].copy()
        labels[change // labels.shape[1], change % labels.shape[1]] ^= 1
        return Shot(Frame(("frame", index), self.images[index]), labels)


def make_backbone(name: str) -> Backbone:
    """Make a backbone. ResNet-18 gets the weights found on this computer, else random ones: they take the same time."""
    if name == "scale-space":
        return ScaleSpace()
    if name == "mica":
        return mica.make(name)
    here = locate(weights_of("resnet18"))
    if here is not None:
        return TorchvisionTrunk("resnet18", read_weights(here))
    torch.manual_seed(0)
    return TorchvisionTrunk("resnet18", torchvision.models.resnet18(weights=None).state_dict())


def make_segmenter(backbone: Backbone, device: str, cache: FeatureCache | None = None) -> FeatureSegmenter:
    """Put the default method on a backbone, with an empty cache of its own."""
    return FeatureSegmenter(FeatureExtractor(backbone, device, cache), auto.make(backbone), "auto")


def as_tensor(image: Image, device: str) -> torch.Tensor:
    """Return an image as a backbone takes it, (1, H, W) float32."""
    return torch.from_numpy(to_unit_range(image)).to(device)


@torch.inference_mode()
def forward(backbone: Backbone, image: torch.Tensor) -> None:
    """Send an image through the bare backbone, in the precision that it is used in, and wait until it is through."""
    precision = precision_for(backbone, str(image.device))
    with torch.autocast(image.device.type, precision, enabled=precision != torch.float32):
        backbone(image)
    if image.is_cuda:
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Time that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
