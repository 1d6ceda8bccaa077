"""The relation baseline of FSS-1000 (Li et al., CVPR 2020, arXiv 1907.12347).

Shots and query go through the same encoder, shots with their mask and the query with an empty one. What the deepest
layer makes of the shots is averaged and put beside what it makes of the query; convolutions relate both, and a decoder
goes back to the finest cells with what the encoder saw of the query on the way. Here the encoder begins with the
features of a backbone instead of colours, and the answer corrects what the cosine with the average of the class says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import bounded
from napari_fewshot.models.blocks.layers import classifier, conv, resized
from napari_fewshot.models.blocks.matching import from_finest
from napari_fewshot.models.blocks.support_maps import SupportMap, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.shot_summary import ShotSummary, summarise_shot
from napari_fewshot.models.methods.similarity_cues import CUES, Similarity, similarities
from napari_fewshot.models.methods.trained import TrainedMethod

_PIXELS: Final = 600
"""Pixels of every label of a shot that the threshold is found on."""

_MAPS: Final = 16
"""Maps of a class that are encoded: those that show most of it."""


@dataclass(frozen=True)
class FSS1000Config:
    """What decides the shape of the network.

    Attributes
    ----------
    channels
        Features of a cell of each level, fine to coarse.
    strides
        Of these levels.
    widths
        Channels of encoder and decoder on each.
    grid
        The support is seen in so many rows and columns, which lie on the query as they lie on the shots. 1: as the
        average over the class, wherever it is.
    masks
        1: how much of each cell of a shot is painted, as in the paper. 2: how much of it is labelled at all, as well.
    cues
        Maps that the last step of the decoder is given beside its own. 0: none, as in the paper. 3: see
        `Similarity.cues`.
    corrects
        Whether the answer is a correction of the calibrated similarity, and not made from nothing.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    widths: tuple[int, ...]
    grid: int = 1
    masks: int = 2
    cues: int = CUES
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the finest level that the backbone recommends for comparing, and all coarser ones."""
        strides = from_finest(channels, matching)
        widths = tuple(min(32 + 16 * i, 64) for i in range(len(strides)))
        return cls(tuple(channels[stride] for stride in strides), strides, widths)

    @classmethod
    def paper(cls) -> Self:
        """VGG-16: the widths of its blocks, and the support in 7 x 7 parts."""
        widths = (64, 128, 256, 512, 512)
        return cls(widths, (1, 2, 4, 8, 16), widths, grid=7, masks=1, cues=0, corrects=False)


class RelationNet(nn.Module):
    """Encoder, relation and decoder."""

    def __init__(self, config: FSS1000Config) -> None:
        super().__init__()
        self.channels, self.grid = config.channels, config.grid
        self.ratios = [coarse // fine for fine, coarse in zip(config.strides, config.strides[1:], strict=False)]
        widths, deepest = config.widths, config.widths[-1]
        above = (config.masks, *widths[:-1])  # what a step gets beside the features of its level
        self.encode = nn.ModuleList(map(_double, (c + a for c, a in zip(config.channels, above, strict=True)), widths))
        self.relate = nn.Sequential(conv(2 * deepest, deepest, norm=True), conv(deepest, deepest, norm=True))
        below = (*widths[1:], deepest)
        extra = (config.cues, *(0 for _ in widths[1:]))
        self.decode = nn.ModuleList(
            _double(width + b + e, width) for width, b, e in zip(widths, below, extra, strict=True)
        )
        self.classify = classifier(widths[0], zero=config.corrects)

    def encoded(self, cells: Tensor, masks: Tensor) -> list[Tensor]:
        """Encode cells (D, h, w), which hold all levels on those of the finest, and masks (masks, h, w).

        Returns
        -------
        list
            (1, width, h_i, w_i) of each level, fine to coarse: the skips, and the deepest one.
        """
        passed, steps, ratio = masks[None], [], 1
        for i, (level, encode) in enumerate(zip(cells.split(self.channels), self.encode, strict=True)):
            if i:
                passed = F.max_pool2d(passed, self.ratios[i - 1], ceil_mode=True)
                ratio *= self.ratios[i - 1]
            own = F.avg_pool2d(level[None], ratio, ceil_mode=True)  # back to the cells that the level has of its own
            passed = encode(torch.cat([own, passed], 1))
            steps.append(passed)
        return steps

    def code(self, cells: Tensor, masks: Tensor) -> Tensor:
        """Encode a shot, and keep the class in ``grid`` x ``grid`` parts: (1, width, grid, grid)."""
        deepest = self.encoded(cells, masks)[-1]
        if self.grid > 1:
            return F.adaptive_avg_pool2d(deepest, self.grid)
        shares = F.adaptive_avg_pool2d(masks[None, :1], (deepest.shape[-2], deepest.shape[-1]))
        return (deepest * shares).sum((2, 3), keepdim=True) / shares.sum().clamp_min(1e-12)

    def forward(self, steps: list[Tensor], code: Tensor, cues: Tensor) -> Tensor:
        """Relate an encoded query with the code of a class, and decode: logits (h, w).

        Parameters
        ----------
        steps
            What `encoded` returned for the query, with empty masks.
        code
            (1, width, grid, grid) average over the shots.
        cues
            (cues, h, w), on the finest cells.
        """
        there = resized(code, steps[-1].shape[-2:])
        x = self.relate(torch.cat([there, steps[-1]], 1))
        for i in reversed(range(len(steps))):
            beside = [steps[i], *([cues[None]] if i == 0 else [])]
            x = self.decode[i](torch.cat([resized(x, steps[i].shape[-2:]), *beside], 1))
        logits: Tensor = self.classify(x)
        return logits[0, 0]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, norm=True), conv(outputs, outputs, norm=True))


@dataclass(frozen=True, eq=False)
class Known:
    """What the network is told of one class.

    Attributes
    ----------
    code
        (1, width, grid, grid) average over the shots.
    similarity
        What is known of it without training.
    """

    code: Tensor
    similarity: Similarity


class FSS1000(TrainedMethod[ShotSummary, tuple[Known, ...]]):
    """The relation baseline."""

    name = "fss1000"
    configuration: ClassVar[type[FSS1000Config]] = FSS1000Config
    network = RelationNet

    def summarise(self, shot: SupportFeatures) -> ShotSummary:
        """Keep pixels to calibrate by, and maps to encode."""
        return summarise_shot(shot, self.levels, _PIXELS, with_maps=True)

    def combine(self, summaries: Sequence[ShotSummary], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Encode every class on every shot, and average: the answer depends on what shots show, not on how many do."""
        shots = bounded([summary.pixels for summary in summaries], len(with_background(class_ids)))
        maps = [summary.maps for summary in summaries]
        return tuple(
            Known(self._code(maps_of_class(maps, class_id, _MAPS), class_id), similarity)
            for class_id, similarity in zip(class_ids, similarities(self.levels, shots, class_ids), strict=True)
        )

    def _code(self, maps: Sequence[SupportMap], class_id: int) -> Tensor:
        codes = [self.head.code(self.on_head(map_features(m)), self._masks(m, class_id)) for m in maps]  # type: ignore[operator]
        return torch.stack(codes).mean(0)

    def _masks(self, each: SupportMap, class_id: int) -> Tensor:
        masks = [each.shares[class_id], each.known]
        return self.on_head(torch.stack(masks[: self.config.masks]))

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone; the query is encoded once."""
        cells, level = self.levels.cells(query)
        seen = self.on_head(cells)
        steps = self.head.encoded(seen, seen.new_zeros((self.config.masks, *cells.shape[1:])))  # type: ignore[operator]
        return torch.stack([self._answer(known, cells, steps) for known in solution]), level

    def _answer(self, known: Known, cells: Tensor, steps: list[Tensor]) -> Tensor:
        cues = self.on_head(known.similarity.cues(cells)[: self.config.cues])
        answer: Tensor = self.head(steps, known.code, cues)
        return answer + self.on_head(known.similarity.logit(cells)) if self.config.corrects else answer


def make(backbone: Backbone) -> FSS1000:
    """With the network that was trained on the features of the backbone."""
    return FSS1000.trained(backbone)
