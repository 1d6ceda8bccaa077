"""Trunks of torchvision's classification networks, cut into levels: ResNet-18, ResNet-50 and VGG-16."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.backbones.base import Alignment, Level
from napari_fewshot.models.weights import torchvision_weights

_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)
_UNUSED: Final = ("fc.", "classifier.", "layer4.")


@dataclass(frozen=True)
class _Trunk:
    """How to build a network and where to cut it: after each stage, features of one more stride."""

    build: Callable[[], nn.Module]
    stages: Callable[[nn.Module], list[nn.Module]]
    strides: tuple[int, ...]
    matching: tuple[int, ...]
    alignment: Alignment
    weights: WeightsEnum


def _resnet_stages(net: nn.Module) -> list[nn.Module]:
    assert isinstance(net, torchvision.models.ResNet)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu)
    return [stem, nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3]


def _vgg_stages(net: nn.Module) -> list[nn.Module]:
    """conv1 to conv5, each without its last pooling; the last without its last ReLU, as PANet and SG-One have it."""
    assert isinstance(net, torchvision.models.VGG)
    layers = list(net.features)
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    starts = [0, *pools[:-1]]
    stages = [nn.Sequential(*layers[a:b]) for a, b in zip(starts, pools, strict=True)]
    return [*stages[:-1], stages[-1][:-1]]


_TRUNKS: Final = {
    "resnet18": _Trunk(
        torchvision.models.resnet18,
        _resnet_stages,
        (2, 4, 8, 16),
        (8, 16),
        "corner",
        torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    ),
    "resnet50": _Trunk(
        torchvision.models.resnet50,
        _resnet_stages,
        (2, 4, 8, 16),
        (8, 16),
        "corner",
        torchvision.models.ResNet50_Weights.IMAGENET1K_V2,
    ),
    "vgg16": _Trunk(
        torchvision.models.vgg16,
        _vgg_stages,
        (1, 2, 4, 8, 16),
        (16,),
        "centre",
        torchvision.models.VGG16_Weights.IMAGENET1K_V1,
    ),
}

TRUNKS: Final = tuple(_TRUNKS)


class TorchvisionTrunk:
    """The convolutional part of a network trained on ImageNet.

    Gray images go in as three equal channels; images of another number of channels as three averages over
    neighbouring groups of channels (two channels: first, second, mean).

    Parameters
    ----------
    name
        One of `TRUNKS`.
    weights
        Named tensors of the network; by default what `torchvision_weights` finds.

    Raises
    ------
    WeightsError
        If weights are missing or do not fit.
    """

    def __init__(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        trunk = _TRUNKS[name]
        tensors = torchvision_weights(name, trunk.weights) if weights is None else weights
        net = trunk.build()
        _load(net, tensors, name)
        self.levels = tuple(Level(stride, trunk.alignment) for stride in trunk.strides)
        self.matching_strides = trunk.matching
        self.key = f"{name}-{_fingerprint(tensors)}"
        self._stages = nn.ModuleList(trunk.stages(net)).eval().requires_grad_(False)
        self._mean = torch.tensor(_MEAN)[:, None, None]
        self._std = torch.tensor(_STD)[:, None, None]

    def to(self, device: str) -> "TorchvisionTrunk":
        """Move the network, in place."""
        self._stages.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        """Compute features; see `Backbone`."""
        x = ((three_channels(image) - self._mean) / self._std)[None]
        features = {}
        for level, stage in zip(self.levels, self._stages, strict=True):
            x = stage(x)  # (1, C, H / s, W / s)
            features[level] = x[0]
        return features


def three_channels(image: Tensor) -> Tensor:
    """Make red, green and blue of any number of channels: (n, H, W) -> (3, H, W)."""
    if len(image) == 1:
        return image.expand(3, -1, -1)
    if len(image) == 2:
        return torch.cat([image, image.mean(0, keepdim=True)])
    return torch.stack([group.mean(0) for group in image.tensor_split(3)])


def _load(net: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load all tensors that the trunk needs; the classifier and the last stage of a ResNet are not used."""
    missing, unexpected = net.load_state_dict(tensors, strict=False)
    needed = [key for key in missing if not key.startswith(_UNUSED)]
    strange = [key for key in unexpected if not key.startswith(_UNUSED)]
    if needed or strange:
        raise WeightsError(
            f"the weights do not fit {name}: {len(needed)} tensor(s) missing ({', '.join(needed[:3])} ...), "
            f"{len(strange)} unknown; use torchvision's own file for {name}"
        )


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Short hash of all weights."""
    digest = hashlib.blake2b(digest_size=8)
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def make(name: str) -> TorchvisionTrunk:
    """Make the trunk of this name with the weights found for it."""
    return TorchvisionTrunk(name)
