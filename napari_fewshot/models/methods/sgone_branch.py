"""SG-One with its trained segmentation branch (Zhang et al., IEEE Trans. Cybernetics 2020, arXiv 1810.09091): `sgone`.

A light branch of three convolutions looks at the query, each beside features of the guidance branch; what it found is
multiplied by the *similarity guidance map*, and two convolutions answer. The map may be negative: what is unlike the
class is turned round. Here the answer corrects the map as it is cut without training (`SGOne`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels
from napari_fewshot.models.blocks.layers import conv
from napari_fewshot.models.blocks.matching import MatchingLevels, from_finest
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.sgone import Guide, SGOne
from napari_fewshot.models.methods.trained import TrainedMethod

_FIRM: Final = 4.0
"""Bound of the logit that is corrected. What fits a shot too well would otherwise be too sure elsewhere."""

_MAPS: Final = 50
"""Maps of a class that are pooled where the guidance branch has a convolution of its own."""


@dataclass(frozen=True)
class BranchConfig:
    """What decides the shape of what is trained.

    Attributes
    ----------
    channels
        Features of a cell, of each level.
    strides
        Of these levels, ascending. The branch begins with the first.
    beside
        Which of them (by position) are put beside the branch again, one for each convolution after the first.
    width
        Channels of the branch.
    guidance
        Channels of a convolution of the last level in front of the cosine, as in the paper; 0: the cosine of all
        features as they are.
    maps
        Number of maps that the branch is multiplied by. 1: the guidance map. 2: beside it the same on features that
        count by how well they tell the class (contribution 1 of FWB), which is then the one that is corrected.
    dropout
        Share of channels that training leaves out of the features and of what was guided.
    corrects
        Whether the answer is a correction of the calibrated map, and not made from nothing.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    beside: tuple[int, ...] = (0, 1)
    width: int = 32
    guidance: int = 0
    maps: int = 2
    dropout: float = 0.2
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the finest level that the backbone recommends for comparing, and all coarser ones."""
        strides = from_finest(channels, matching)
        return cls(tuple(channels[stride] for stride in strides), strides, tuple(range(len(strides))))

    @classmethod
    def paper(cls) -> Self:
        """VGG-16: blocks 3 to 5, a branch of 128 channels, a guidance convolution of 512."""
        return cls((256, 512, 512), (4, 8, 16), (1, 2), 128, 512, maps=1, dropout=0.0, corrects=False)


class Branch(nn.Module):
    """Segmentation branch, and the last convolution of the guidance branch where it has one."""

    def __init__(self, config: BranchConfig) -> None:
        super().__init__()
        width = config.width
        self.channels, self.beside = config.channels, config.beside
        self.drop = nn.Dropout2d(config.dropout)
        self.guide = nn.Conv2d(config.channels[-1], config.guidance, 3, padding=1) if config.guidance else None
        self.stem = conv(config.channels[0], width)
        several = [conv(config.channels[i] + width, width) for i in config.beside]
        several[-1] = several[-1][:-1]  # no ReLU: what is guided has both signs
        self.steps = nn.ModuleList(several)
        self.merge = conv(config.maps * width, width)
        self.classify = nn.Conv2d(width, 1, 1)
        if config.corrects:
            nn.init.zeros_(self.classify.weight)
            nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def look(self, cells: Tensor) -> Tensor:
        """Segment cells (sum of channels, h, w) without knowing for what: (width, h, w), of both signs."""
        levels = self.drop(cells[None]).split(self.channels, 1)
        x: Tensor = self.stem(levels[0])
        for step, i in zip(self.steps, self.beside, strict=True):
            x = step(torch.cat([x, levels[i]], 1))
        return x[0]

    def forward(self, looked: Tensor, guidance: Tensor) -> Tensor:
        """Multiply by guidance maps (maps, h, w), and answer: (h, w)."""
        guided = (guidance[:, None] * looked).flatten(0, 1)[None]
        answer: Tensor = self.classify(self.drop(self.merge(guided)))
        return answer[0, 0]


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a shot: pixels, and maps where the guidance branch has a convolution."""

    pixels: ShotPixels
    maps: tuple[SupportMap, ...]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one class.

    Attributes
    ----------
    guide
        Without training: its average, and how the cosine with it becomes a logit.
    vector
        (guidance,) v of eq. 1 behind the guidance convolution; None where there is none.
    """

    guide: Guide
    vector: Tensor | None


class GuidedBranch(TrainedMethod[Kept, tuple[Known, ...]]):
    """Similarity guidance of a segmentation branch; vectors of several shots are averaged."""

    name = "sgone"
    configuration: ClassVar[type[BranchConfig]] = BranchConfig
    network = Branch

    def __init__(self, config: BranchConfig, head: nn.Module | None = None) -> None:
        super().__init__(config, head)
        self._plain = SGOne(self.levels, relevance=config.maps > 1)

    def summarise(self, shot: SupportFeatures) -> Kept:
        """Pool every label, keep some pixels, and maps where they are wanted."""
        pixels = collect_pixels(shot.parts(), self.levels, shot.is_dense)
        return Kept(pixels, collect_maps(shot.parts(), self.levels) if self.config.guidance else ())

    def combine(self, summaries: Sequence[Kept], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Make a guide for every class."""
        shots = bounded([kept.pixels for kept in summaries], len(with_background(class_ids)))
        guides = self._plain.combine(shots, class_ids)
        return tuple(
            Known(
                guide,
                self._vector([kept.maps for kept in summaries], class_id) if self.config.guidance else None,
            )
            for class_id, guide in zip(class_ids, guides, strict=True)
        )

    def _vector(self, shots: Sequence[Sequence[SupportMap]], class_id: int) -> Tensor:
        """Masked average pooling behind the guidance convolution (eq. 1), on average over maps."""
        pooled = []
        for each in maps_of_class(shots, class_id, _MAPS):
            share = self.on_head(each.shares[class_id])
            pooled.append((self._embedded(map_features(each)) * share).sum((1, 2)) / share.sum().clamp_min(1e-12))
        return torch.stack(pooled).mean(0)

    def _embedded(self, cells: Tensor) -> Tensor:
        """Features of the last level (of all levels, (D, h, w)) behind the guidance convolution."""
        last = self.on_head(cells[-self.config.channels[-1] :])
        embedded: Tensor = self.head.guide(last[None])  # type: ignore[operator]
        return embedded[0]

    def guidance(self, known: Known, cells: Tensor) -> Tensor:
        """Similarity guidance maps (maps, h, w) of one class, in [-1, 1] (eq. 2)."""
        if known.vector is None:
            guided = cosine_map(cells, known.guide.vectors)
        else:
            guided = cosine_map(self._embedded(cells), known.vector[None])
        if self.config.maps == 1:
            return guided
        return torch.cat([guided, cosine_map(cells, known.guide.vectors, known.guide.relevance)])

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone."""
        cells, level = self.levels.cells(query)
        looked = self.head.look(self.on_head(cells))  # type: ignore[operator]
        answers = []
        for known in solution:
            answer = self.head(looked, self.on_head(self.guidance(known, cells)))
            answers.append(answer + self.on_head(_cut(known.guide, cells)) if self.config.corrects else answer)
        return torch.stack(answers), level


def _cut(guide: Guide, cells: Tensor) -> Tensor:
    """Logit (h, w) of the map as it is cut without training, in [-4, 4]."""
    logit = guide.calibrations[0].logit(cosine_map(cells, guide.vectors, guide.relevance)[0])
    return _FIRM * torch.tanh(logit / _FIRM)


def make(backbone: Backbone) -> GuidedBranch | SGOne:
    """With the branch where it was trained on this backbone, else by the map alone."""
    return GuidedBranch.trained_or_none(backbone) or SGOne(MatchingLevels(backbone.matching_strides))
