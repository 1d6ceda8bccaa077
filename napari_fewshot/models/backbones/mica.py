"""Mica: the backbone that comes with the package, small enough for a laptop, trained by the package itself.

A residual network from full resolution down to stride 16 (He et al., CVPR 2016), and a path back up that hands what
the coarse levels know to the fine ones (feature pyramid network, Lin et al., CVPR 2017), so that thin and small
things are seen sharply and in context. Levels are linear outputs, scaled to unit standard deviation.
"""

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.backbones.rgb import three_channels
from napari_fewshot.models.registry import MICA_PREFIX
from napari_fewshot.models.weights import WeightsSource, fetch, fingerprint, read_own, shipped

WEIGHTS: Final = "mica-v1"
"""Name of the weights that come with the package."""

STRIDES: Final = (1, 2, 4, 8, 16)
WIDTHS: Final = (16, 32, 48, 96, 192)
"""Channels of the network, and features of the level, at each stride."""

LEVELS: Final = tuple(Level(stride, "centre") for stride in STRIDES)
"""Cell i of a padded convolution is centred on pixel ``stride * i``, but pictures were mirrored in training, so that
what it tells has moved to the middle of the ``stride`` pixels: labels are found best so (a test measures it)."""

_BLOCKS: Final = (0, 1, 2, 3)
_OUT: Final = (3, 3, 3, 1)
MEAN: Final = 0.5
STD: Final = 0.25
"""Of intensities, as the network expects them: taken off, then divided by."""


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation, which are fused for use."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs))


def _unit(convolution: nn.Sequential) -> nn.Sequential:
    """Leave no say over mean and deviation to training: 0 and 1 before any ReLU."""
    convolution[1].requires_grad_(False)
    return convolution


class _Block(nn.Module):
    """Two convolutions beside a shortcut (He et al., 2016, fig. 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)
        last = self.second[1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)  # begins as the identity (Goyal et al., 2017)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.second(F.relu_(self.first(x))).add_(x))


class MicaNet(nn.Module):
    """The network, from (B, 3, H, W) with H and W multiples of 16 to (B, C, H / s, W / s) per stride s, fine to coarse.

    It expects intensities with 0.5 taken off, then divided by 0.25.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _unit(_convolution(3, WIDTHS[0], 5))
        self.enter = nn.ModuleList(_convolution(finer, width, stride=2) for finer, width in pairwise(WIDTHS))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(width) for _ in range(blocks)))
            for width, blocks in zip(WIDTHS[1:], _BLOCKS, strict=True)
        )
        self.lateral = nn.ModuleList(_convolution(width, width, 1) for width in WIDTHS[1:-1])
        self.back = nn.ModuleList(_convolution(coarser, width, 1) for width, coarser in pairwise(WIDTHS[1:]))
        self.out = nn.ModuleList(
            _unit(_convolution(width, width, size)) for width, size in zip(WIDTHS[1:], _OUT, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute all levels."""
        finest = F.relu_(self.stem(x))
        encoded, x = [], finest
        for enter, stage in zip(self.enter, self.stages, strict=True):
            x = stage(F.relu_(enter(x)))
            encoded.append(x)
        levels = []
        encoded.pop()  # is `x`
        for i in reversed(range(len(self.out))):
            if i < len(self.lateral):
                context = F.interpolate(self.back[i](x), scale_factor=2, mode="bilinear", align_corners=False)
                x = F.relu_(context.add_(self.lateral[i](encoded.pop())))  # each is let go as soon as it was used
            levels.append(self.out[i](x))
        return [finest, *reversed(levels)]


def normalised(images: Tensor) -> Tensor:
    """Bring intensities in about [0, 1] to what the network expects."""
    return (images - MEAN) / STD


def fused(net: MicaNet) -> MicaNet:
    """Return a copy for use, every batch normalisation taken into the convolution before it."""
    made = copy.deepcopy(net).eval()
    for module in list(made.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[0], nn.Conv2d):
            convolution, norm = module[0], module[1]
            assert isinstance(norm, nn.BatchNorm2d)
            module[0], module[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return made


class Mica:
    """The network with trained weights, for images of any number of channels.

    Parameters
    ----------
    weights
        Named tensors of `fused` networks.
    name
        What to call them in messages.

    Raises
    ------
    WeightsError
        If they do not fit the network.
    """

    mixed_precision = True
    levels = LEVELS
    linear = True
    matching_strides = (4, 8)
    halo = 192  # no cell looks further than 177 pixels

    def __init__(self, weights: Mapping[str, Tensor], name: str = "mica") -> None:
        self.key = f"mica-{fingerprint(weights)}-1"
        self._net = _loaded(weights, name).to(memory_format=torch.channels_last)

    def to(self, device: str) -> "Mica":
        """Move the network, in place."""
        self._net.to(device)
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        """Compute features; see `Backbone`."""
        images = normalised(three_channels(image))[None].contiguous(memory_format=torch.channels_last)
        return dict(zip(self.levels, (f[0] for f in self._net(images)), strict=True))


def _loaded(weights: Mapping[str, Tensor], name: str) -> MicaNet:
    """Make a network of trained weights only: no number of it is ever random."""
    with torch.random.fork_rng(devices=[]):  # what it begins with is drawn, and then overwritten to the last number
        net = fused(MicaNet())
    tensors = {key: tensor.float() for key, tensor in weights.items()}
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise WeightsError(
            f"the weights of {name} are not for this version of the network ({reason}); "
            "train them again with 'napari-fewshot train'"
        ) from error
    return net.requires_grad_(False)


def make(name: str) -> Mica:
    """Make it with the weights that come with the package ("mica"), or with the user's own ("mica:<name>")."""
    if not name.startswith(MICA_PREFIX):
        return Mica(shipped(WEIGHTS))
    return Mica(read_own(fetch(weights_of(name))), name)


def weights_of(name: str) -> WeightsSource:
    """Return where weights of the user's own lie: a file of that name in a folder of theirs."""
    return WeightsSource(name, (name.removeprefix(MICA_PREFIX),), "", "that of whoever trained them")
