"""Trunks of torchvision's classification networks, cut into levels: ResNet-18 and 50, VGG-16 and MobileNetV2."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.backbones.base import Alignment, Level
from napari_fewshot.models.backbones.probing import typical_picture, unit_scale
from napari_fewshot.models.backbones.rgb import three_channels
from napari_fewshot.models.registry import backbone_card
from napari_fewshot.models.weights import WeightsSource, fingerprint, obtain

_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Trunk:
    """How to build a network and where to cut it: after each stage, features of one more stride."""

    build: Callable[[], nn.Module]
    stages: Callable[[nn.Module], list[nn.Module]]
    strides: tuple[int, ...]
    matching: tuple[int, ...]
    alignment: Alignment
    weights: WeightsEnum
    unused: tuple[str, ...]
    """Beginnings of the names of tensors that no level needs: classifier and last stage."""


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


def _mobilenet_stages(net: nn.Module) -> list[nn.Module]:
    """Blocks up to the last of each stride."""
    assert isinstance(net, torchvision.models.MobileNetV2)
    blocks = list(net.features)
    return [nn.Sequential(*blocks[a:b]) for a, b in ((0, 2), (2, 4), (4, 7), (7, 14))]


_TRUNKS: Final = {
    "resnet18": _Trunk(
        torchvision.models.resnet18,
        _resnet_stages,
        (2, 4, 8, 16),
        (8, 16),
        "corner",
        torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
        ("layer4.", "fc."),
    ),
    "resnet50": _Trunk(
        torchvision.models.resnet50,
        _resnet_stages,
        (2, 4, 8, 16),
        (8, 16),
        "corner",
        torchvision.models.ResNet50_Weights.IMAGENET1K_V2,
        ("layer4.", "fc."),
    ),
    "vgg16": _Trunk(
        torchvision.models.vgg16,
        _vgg_stages,
        (1, 2, 4, 8, 16),
        (16,),
        "centre",
        torchvision.models.VGG16_Weights.IMAGENET1K_V1,
        ("classifier.",),
    ),
    "mobilenet_v2": _Trunk(
        torchvision.models.mobilenet_v2,
        _mobilenet_stages,
        (2, 4, 8, 16),
        (8, 16),
        "corner",
        torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2,
        (*(f"features.{block}." for block in range(14, 19)), "classifier."),
    ),
}

TRUNKS: Final = tuple(_TRUNKS)


class TorchvisionTrunk:
    """The convolutional part of a network trained on ImageNet.

    Gray images go in as three equal channels; images of another number of channels as three averages over
    neighbouring groups of channels (two channels: first, second, mean). Every level is multiplied by one number, so
    that its features have about unit standard deviation.

    Parameters
    ----------
    name
        One of `TRUNKS`.
    weights
        Named tensors of the network; by default those of `weights_of`, downloaded where they are not here.

    Raises
    ------
    WeightsError
        If weights are missing or do not fit.
    """

    mixed_precision = True
    linear = False
    halo = 192  # no cell of any of them looks further (ResNet-50 up to layer 3: 291 pixels across)

    def __init__(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        trunk = _TRUNKS[name]
        tensors = obtain(weights_of(name)) if weights is None else weights
        net = trunk.build()
        _load(net, tensors, name, trunk.unused)
        self.levels = tuple(Level(stride, trunk.alignment) for stride in trunk.strides)
        self.matching_strides = trunk.matching
        self.key = f"{name}-{fingerprint(tensors)}-2"
        stages = nn.ModuleList(trunk.stages(net)).eval().requires_grad_(False)
        self._stages = stages.to(memory_format=torch.channels_last)
        self._mean = torch.tensor(_MEAN)[:, None, None]
        self._std = torch.tensor(_STD)[:, None, None]
        self._scales = [1.0] * len(self.levels)
        with torch.inference_mode():
            self._scales = [unit_scale(f) for f in self(typical_picture(192, 256)).values()]

    def to(self, device: str) -> "TorchvisionTrunk":
        """Move the network, in place."""
        self._stages.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        """Compute features; see `Backbone`."""
        return {level: f[0] for level, f in self.batch(three_channels(image)[None]).items()}

    def batch(self, images: Tensor) -> dict[Level, Tensor]:
        """Compute the features (B, C, H / s, W / s) of several images (B, 3, H, W) of one size."""
        x = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        features = {}
        for level, stage, scale in zip(self.levels, self._stages, self._scales, strict=True):
            x = stage(x)
            features[level] = scale * x
        return features


def _load(net: nn.Module, tensors: Mapping[str, Tensor], name: str, unused: tuple[str, ...]) -> None:
    """Load all tensors that the trunk needs."""
    try:
        missing, unexpected = net.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # tensors of other shapes
        missing, unexpected, reason = [], [], str(error).partition("\n")[2].strip().partition("\n")[0]
    else:
        reason = ""
    needed = [key for key in missing if not key.startswith(unused)]
    strange = [key for key in unexpected if not key.startswith(unused)]
    if needed or strange or reason:
        reason = reason or (f"{len(needed)} tensor(s) missing ({', '.join(needed[:3])} ...), {len(strange)} unknown")
        raise WeightsError(f"the weights do not fit {name}: {reason}; use torchvision's own file for {name}")


def make(name: str) -> TorchvisionTrunk:
    """Make the trunk of this name with the weights found for it."""
    return TorchvisionTrunk(name)


def weights_of(name: str) -> WeightsSource:
    """Return where torchvision has its weights."""
    offered, card = _TRUNKS[name].weights, backbone_card(name)
    return WeightsSource(
        name,
        (Path(offered.url).stem, name, f"{name}-*", f"{name}_*"),
        card.notice,
        card.licence,
        url=offered.url,
        size=int(offered.meta["_file_size"] * 2**20),
    )
