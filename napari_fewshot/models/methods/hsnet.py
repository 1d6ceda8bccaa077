"""HSNet: hypercorrelation squeeze (Min, Kang & Cho, ICCV 2021, arXiv 2104.01538).

Learns from *correlations* alone, never from features: how every place of the query goes with every place of a shot, on
several layers, which 4-D convolutions squeeze into a mask. Each shot votes. Here the background of a shot is correlated
with as well, and the answer corrects the calibrated prior of `pfenet`, from which training begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.convolution4d import CentrePivotConv4d, pooled_over_shot, resized_query
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels
from napari_fewshot.models.blocks.layers import conv, resized
from napari_fewshot.models.blocks.matching import MatchingLevels, from_finest
from napari_fewshot.models.blocks.prior import raw_prior
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.pfenet import PFENet, Seen
from napari_fewshot.models.methods.trained import TrainedMethod

_SUPPORT_CELLS: Final = 32 * 32
"""Places of a shot that are correlated; of its finest layer four times as many are kept."""

_QUERY_CELLS: Final = 64 * 64
"""Places of a query that are correlated: those of 512 x 512 pixels at stride 8. Larger ones are pooled to so many."""

_SHOTS: Final = 5
"""Shots of a class that vote, those that show most of it: each costs a pass."""

_COMPARED: Final = 600
"""Pixels of a class, and of everything else, that the prior compares with."""

_FINEST_GRID: Final = 8
_GROUPS: Final = 4
_SQUEEZED: Final = (2, 2)
"""Places on the shot that are left of every correlation."""

_KERNELS: Final = ((3, 3, 3), (5, 3, 3), (5, 5, 3))
_STRIDES: Final = ((2, 2, 2), (4, 2, 2), (4, 4, 2))
"""Of the squeezing blocks, from the coarsest correlations to the finest."""


@dataclass(frozen=True)
class SqueezeConfig:
    """What decides the shape of the head, and how it is used.

    Attributes
    ----------
    channels
        Features of each layer, fine to coarse.
    strides
        Of these layers.
    grids
        Stride at which each is correlated; layers of one grid become channels of one correlation.
    widths
        Channels after each convolution of a squeezing block.
    background
        Whether shots are correlated with outside the mask as well as inside.
    matching
        Strides of the levels that the prior is made on; they begin with the first of ``strides``.
    corrects
        Whether the answer is a correction of the calibrated prior, which the decoder then sees.
    counted
        Whether answers of shots are counted as votes, as in the paper, rather than averaged.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    grids: tuple[int, ...]
    widths: tuple[int, ...] = (8, 16, 32)
    background: bool = True
    matching: tuple[int, ...] = ()
    corrects: bool = True
    counted: bool = False

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On all levels that are no finer than those for comparing."""
        strides = from_finest(channels, matching)
        grids = tuple(max(stride, _FINEST_GRID) for stride in strides)
        return cls(tuple(channels[stride] for stride in strides), strides, grids, matching=matching)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50: all bottlenecks of blocks 2, 3 and 4, which are 4, 6 and 3 layers."""
        strides = (8,) * 4 + (16,) * 6 + (32,) * 3
        channels = (512,) * 4 + (1024,) * 6 + (2048,) * 3
        return cls(channels, strides, strides, (16, 64, 128), background=False, corrects=False, counted=True)

    @property
    def correlated(self) -> tuple[int, ...]:
        """Channels of the correlations of each grid, fine to coarse."""
        grids = sorted(set(self.grids))
        return tuple((2 if self.background else 1) * self.grids.count(grid) for grid in grids)


def _block(widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, size, stride in zip(widths[:-1], widths[1:], kernels, strides, strict=True):
        layers += [CentrePivotConv4d(inputs, outputs, size, stride), nn.GroupNorm(_GROUPS, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class HypercorrelationSqueeze(nn.Module):
    """Squeezing and mixing blocks from coarse to fine, and the decoder (sections 4.2 and 4.3)."""

    def __init__(self, config: SqueezeConfig) -> None:
        super().__init__()
        levels, width = len(config.correlated), config.widths[-1]
        above = [min(levels - 1 - p, len(_KERNELS) - 1) for p in range(levels)]  # 0 for the coarsest
        self.squeeze = nn.ModuleList(
            _block((inputs, *config.widths), _KERNELS[i], _STRIDES[i])
            for inputs, i in zip(config.correlated, above, strict=True)
        )
        self.mix = nn.ModuleList(_block((width,) * 4, (3, 3, 3), (1, 1, 1)) for _ in range(levels - 1))
        self.decode = nn.Sequential(*conv(width, width), *conv(width, width // 2))
        cues = 1 if config.corrects else 0
        self.classify = nn.Sequential(*conv(width // 2 + cues, width // 2), nn.Conv2d(width // 2, 1, 3, padding=1))
        if config.corrects:
            nn.init.zeros_(self.classify[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.classify[-1].bias)  # type: ignore[arg-type]

    def forward(self, pyramid: Sequence[Tensor], cues: Tensor) -> Tensor:
        """Answer for one shot.

        Parameters
        ----------
        pyramid
            Correlations (B, L_p, h_p, w_p, h'_p, w'_p) of each grid, fine to coarse, in [0, 1].
        cues
            (B, cues, h, w), on the cells that are answered for; there may be none.

        Returns
        -------
        Tensor
            (B, h, w) logits.
        """
        mixed = self._squeezed(-1, pyramid)
        for p in reversed(range(len(pyramid) - 1)):
            squeezed = self._squeezed(p, pyramid)
            mixed = self.mix[p](squeezed + resized_query(mixed, (squeezed.shape[2], squeezed.shape[3])))
        context = self.decode(mixed.mean((-2, -1)))  # Z
        logits: Tensor = self.classify(torch.cat([resized(context, cues.shape[-2:]), cues], 1))
        return logits[:, 0]

    def _squeezed(self, p: int, pyramid: Sequence[Tensor]) -> Tensor:
        return pooled_over_shot(self.squeeze[p](pyramid[p]), _SQUEEZED)


@dataclass(frozen=True, eq=False)
class Masked:
    """One layer of one shot.

    Attributes
    ----------
    features
        (C, h', w') of length 1.
    masks
        (1 or 2, h', w') how much of each cell is of the class, and of everything else, the fullest cell having 1.
    """

    features: Tensor
    masks: Tensor


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one class: its pixels, and of each shot that votes all layers."""

    seen: Seen
    shots: tuple[tuple[Masked, ...], ...]


Summary = tuple[ShotPixels, tuple[SupportMap, ...]]


class HSNet(TrainedMethod[Summary, tuple[Known, ...]]):
    """Hypercorrelation squeeze networks."""

    name = "hsnet"
    configuration: ClassVar[type[SqueezeConfig]] = SqueezeConfig
    network = HypercorrelationSqueeze

    def __init__(self, config: SqueezeConfig, head: nn.Module | None = None) -> None:
        super().__init__(config, head)
        self._prior = PFENet(MatchingLevels(config.matching or config.strides[:1]))

    def summarise(self, shot: SupportFeatures) -> Summary:
        """Keep some pixels of every label, and maps of the tiles that show most of it."""
        pixels = collect_pixels(shot.parts(), self._prior.levels, shot.is_dense, _COMPARED)
        return pixels, collect_maps(shot.parts(), self.levels, 4 * _SUPPORT_CELLS)

    def combine(self, summaries: Sequence[Summary], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Mask the layers of the shots of every class, and fill the banks of the prior."""
        shots = bounded([pixels for pixels, _ in summaries], len(with_background(class_ids)), _COMPARED)
        return tuple(
            Known(
                self._prior.seen(shots, class_id),
                tuple(self._masked(each, class_id) for each in self._voting(summaries, class_id)),
            )
            for class_id in class_ids
        )

    def _voting(self, summaries: Sequence[Summary], class_id: int) -> list[SupportMap]:
        return maps_of_class([maps for _, maps in summaries], class_id, _SHOTS)

    def _masked(self, each: SupportMap, class_id: int) -> tuple[Masked, ...]:
        """All layers of a map, on the cells that they are correlated on (eq. 1)."""
        inside = each.shares[class_id]
        weights = torch.stack([inside, each.known - inside, each.known])
        masked = []
        for features, size in self._layers(map_features(each), _SUPPORT_CELLS):
            thing, rest, known = F.adaptive_avg_pool2d(weights, size)
            masks = torch.stack([thing, rest] if self.config.background else [thing]) / known.clamp_min(1e-6)
            fullest = masks.amax((1, 2), keepdim=True)
            masked.append(Masked(F.normalize(features, dim=0, eps=1e-5), masks / fullest.clamp_min(1e-6)))
        return tuple(masked)

    def _layers(self, cells: Tensor, most: int) -> list[tuple[Tensor, tuple[int, int]]]:
        """Features (C_l, h_l, w_l) of every layer on its grid, with its size, of all layers on the finest cells."""
        finest = self.config.strides[0]
        shrink = max(1.0, (cells[0].numel() * (finest / min(self.config.grids)) ** 2 / most) ** 0.5)
        layers = []
        for features, grid in zip(cells.split(self.config.channels), self.config.grids, strict=True):
            rows, columns = (max(1, round(side * finest / (grid * shrink))) for side in cells.shape[-2:])
            layers.append((F.adaptive_avg_pool2d(features, (rows, columns)), (rows, columns)))
        return layers

    def correlations(self, query: Sequence[Tensor], shot: Sequence[Masked]) -> list[Tensor]:
        """Correlate a query with a shot: (1, L_p, h, w, h', w') in [0, 1] for each grid, fine to coarse (eq. 2).

        ``query`` are features (C_l, h_l, w_l) of length 1 of each layer.
        """
        found: dict[int, list[Tensor]] = {grid: [] for grid in sorted(set(self.config.grids))}
        for grid, features, masked in zip(self.config.grids, query, shot, strict=True):
            cosines = torch.einsum("cyx,cvu->yxvu", features, masked.features).clamp_min(0)
            found[grid] += [cosines * mask for mask in masked.masks]
        return [torch.stack(layers)[None] for layers in found.values()]

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Let the shots of every class vote, one after the other: correlations of one shot are held at a time."""
        cells, level = self.levels.cells(query)
        compared, _ = self._prior.levels.cells(query)
        layers = [F.normalize(features, dim=0, eps=1e-5) for features, _ in self._layers(cells, _QUERY_CELLS)]
        return torch.stack([self._answer(known, layers, compared) for known in solution]), level

    def _answer(self, known: Known, layers: Sequence[Tensor], compared: Tensor) -> Tensor:
        """Logits (h, w) of one class."""
        calibrated = known.seen.calibration.logit(raw_prior(compared, known.seen.banks))
        base = self.on_head(calibrated if self.config.corrects else torch.zeros_like(calibrated))
        cues = torch.tanh(base / 4)[None, None, ...] if self.config.corrects else base.new_zeros((1, 0, *base.shape))
        answers = [
            base + self.head([self.on_head(c) for c in self.correlations(layers, shot)], cues)[0]
            for shot in known.shots
        ]
        return vote(torch.stack(answers), counted=self.config.counted and not self.head.training)


def vote(logits: Tensor, counted: bool) -> Tensor:
    """Join the answers (K, ...) of several shots into one (...), in logits.

    Counted, it is as in section 4.5: the share of yes, divided by the largest share on the query, against a half. That
    has no gradient, and finds something wherever a single shot does; otherwise probabilities are averaged.
    """
    if len(logits) == 1:
        return logits[0]
    if counted:
        votes = (logits > 0).to(logits.dtype).sum(0)
        return (votes / votes.max().clamp_min(1)).logit(eps=1e-3)
    yes, no = F.logsigmoid(logits).logsumexp(0), F.logsigmoid(-logits).logsumexp(0)
    return yes - no  # the logit of the average, exact for sure answers too


def make(backbone: Backbone) -> HSNet:
    """With the head that was trained on the features of the backbone."""
    return HSNet.trained(backbone)
