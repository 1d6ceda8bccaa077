"""CANet: dense comparison, refined step by step (Zhang et al., CVPR 2019, arXiv 1903.02351).

The *dense comparison module* puts the average of the class beside every cell of the query and lets convolutions
compare; an *attention* weighs what several shots say. The *iterative optimisation module* turns the comparison and its
own last answer into the next answer. Here it is told as well what the plain cosine with the average says, as `sgone`
calibrates it on the shots, and corrects that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.comparing import ComparingConvolution, IterativeOptimisation
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded
from napari_fewshot.models.blocks.layers import ATROUS, conv, keep_signals, reduction
from napari_fewshot.models.blocks.matching import from_finest
from napari_fewshot.models.blocks.support_maps import map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.shot_summary import ShotSummary, summarise_shot
from napari_fewshot.models.methods.similarity_cues import CUES, Similarity, similarities
from napari_fewshot.models.methods.trained import TrainedMethod

_PIXELS: Final = 600
"""Pixels of every label of a shot that the average is made of, and the threshold found on."""

_MAPS: Final = 50
"""Maps of a class whose averages are made with whole maps."""

_AT_ONCE: Final = 8
"""Shots that are compared at the same time: more would take more memory, and would be no faster."""


@dataclass(frozen=True)
class CANetConfig:
    """What decides the shape of the head, and how it is used.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    width
        Channels inside.
    kernel
        Of the convolution that reduces features: 3 in the paper (with dilation 2), which needs whole maps of the
        shots. With 1, pixels drawn from them will do, and what is small loses nothing.
    cues
        Maps that the comparison is given beside features. 0: none, as in the paper. 3: see `Similarity.cues`.
    dropout
        Share of channels that training leaves out of the reduced features and of the comparison.
    reset
        p_r: how often training begins without a former answer, and ends with the first.
    refinements
        Answers after the first.
    dilations
        Of the pyramid pooling, in cells.
    corrects
        Whether the answer is a correction of the calibrated similarity, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 32
    kernel: int = 1
    cues: int = CUES
    dropout: float = 0.2
    reset: float = 0.7
    refinements: int = 2
    dilations: tuple[int, ...] = ATROUS
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the finest level that the backbone recommends for comparing, and all coarser ones."""
        strides = from_finest(channels, matching)
        return cls(sum(channels[stride] for stride in strides), strides)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50: blocks 2 and 3 on stride 8, 256 channels, four refinements."""
        return cls(512 + 1024, (8, 16), 256, 3, cues=0, dropout=0.5, refinements=4, corrects=False)


class DenseComparison(nn.Module):
    """DCM (section 4.1) with attention over shots (section 4.3)."""

    def __init__(self, config: CANetConfig) -> None:
        super().__init__()
        width = config.width
        if config.kernel == 1:
            self.reduce = reduction(config.channels, width, config.dropout)
        else:
            self.reduce = nn.Sequential(
                *conv(config.channels, width, config.kernel, dilation=2), nn.Dropout2d(config.dropout)
            )
        self.compare = ComparingConvolution(width + config.cues, width, width, dilation=2)
        self.drop = nn.Dropout2d(config.dropout)
        self.attend = ComparingConvolution(width + config.cues, width, width)
        self.weigh = nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(width, 1, 3, padding=1, bias=False))

    def weights(self, query: Tensor, vectors: Tensor) -> Tensor:
        """Say how much each of K shots counts for a query: (K,), summing to 1 (eq. 2).

        ``query`` (width + cues, h, w) is reduced, ``vectors`` are (K, width). The last convolution has no bias: the
        softmax would cancel it.
        """
        shared = self.attend.of_map(query)
        several = [
            self.weigh(shared + self.attend.of_vectors(some, query)).mean((1, 2, 3)) for some in vectors.split(_AT_ONCE)
        ]
        return torch.cat(several).softmax(0)

    def forward(self, query: Tensor, vectors: Tensor) -> Tensor:
        """Compare a query with K shots, and add up the results by their weights: (width, h, w)."""
        weights = self.weights(query, vectors)
        shared = self.compare.of_map(query)
        total = torch.zeros_like(shared)
        for some, weight in zip(vectors.split(_AT_ONCE), weights.split(_AT_ONCE), strict=True):
            compared = self.drop((shared + self.compare.of_vectors(some, query)).relu())  # (k, width, h, w)
            total = total + torch.einsum("k,kchw->chw", weight, compared)
        return total


class CANetHead(nn.Module):
    """Both modules."""

    def __init__(self, config: CANetConfig) -> None:
        super().__init__()
        self.compare = DenseComparison(config)
        self.optimise = IterativeOptimisation(config.width, config.dilations)
        keep_signals(self)
        if config.corrects:
            nn.init.zeros_(self.optimise.classify.weight)

    def forward(self, compared: Tensor, base: Tensor, refinements: int) -> Tensor:
        """Answer, and refine the answer: (h, w).

        Parameters
        ----------
        compared
            (width, h, w) what `DenseComparison` returned.
        base
            (h, w) logits that are corrected; zeros where nothing is.
        refinements
            How often. Gradients pass through the last step only.
        """
        last = compared.new_zeros((2, *compared.shape[1:]))
        for _ in range(refinements):
            with torch.no_grad():
                p = (base + self.optimise(compared, last)).sigmoid()
                last = torch.stack([1 - p, p])
        answer: Tensor = base + self.optimise(compared, last)
        return answer


@dataclass(frozen=True, eq=False)
class Known:
    """What the head is told of one class.

    Attributes
    ----------
    vectors
        (K, width) reduced average of every shot that shows it.
    similarity
        What is known of it without training.
    """

    vectors: Tensor
    similarity: Similarity


class CANet(TrainedMethod[ShotSummary, tuple[Known, ...]]):
    """Dense comparison and iterative optimisation."""

    name = "canet"
    configuration: ClassVar[type[CANetConfig]] = CANetConfig
    network = CANetHead

    def summarise(self, shot: SupportFeatures) -> ShotSummary:
        """Keep pixels, and maps where features are reduced with what is around them."""
        return summarise_shot(shot, self.levels, _PIXELS, with_maps=self.config.kernel > 1)

    def combine(self, summaries: Sequence[ShotSummary], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Pool every class on every shot."""
        shots = bounded([summary.pixels for summary in summaries], len(with_background(class_ids)))
        return tuple(
            Known(self._vectors(summaries, shots, class_id), similarity)
            for class_id, similarity in zip(class_ids, similarities(self.levels, shots, class_ids), strict=True)
        )

    def _vectors(self, summaries: Sequence[ShotSummary], shots: Sequence[ShotPixels], class_id: int) -> Tensor:
        """Average of the reduced features of the class on each shot (K, width)."""
        if self.config.kernel == 1:
            drawn = [shot.labels[class_id].features for shot in shots if class_id in shot.labels]
            return torch.stack([self._reduced(pixels.T[:, :, None]).mean((1, 2)) for pixels in drawn])
        maps = maps_of_class([summary.maps for summary in summaries], class_id, _MAPS)
        return torch.stack(
            [_masked_average(self._reduced(map_features(each)), self.on_head(each.shares[class_id])) for each in maps]
        )

    def _reduced(self, cells: Tensor) -> Tensor:
        """Features (D, h, w) of shot or query, reduced by the same convolution: (width, h, w)."""
        reduced: Tensor = self.head.compare.reduce(self.on_head(cells)[None])  # type: ignore[union-attr, operator]
        return reduced[0]

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone; in training with the first answer, or one of those that follow it."""
        cells, level = self.levels.cells(query)
        reduced = self._reduced(cells)
        return torch.stack([self._answer(known, cells, reduced) for known in solution]), level

    def _answer(self, known: Known, cells: Tensor, reduced: Tensor) -> Tensor:
        told = [reduced, *([self.on_head(known.similarity.cues(cells))] if self.config.cues else [])]
        base = self.on_head(known.similarity.logit(cells)) if self.config.corrects else torch.zeros_like(reduced[0])
        compared = self.head.compare(torch.cat(told), self.on_head(known.vectors))  # type: ignore[operator]
        answer: Tensor = self.head(compared, base, self._refinements())
        return answer

    def _refinements(self) -> int:
        """All of them in use; in training mostly none (section 4.2: dropout of the whole mask)."""
        most: int = self.config.refinements
        if not self.head.training or not most:
            return most
        return 0 if torch.rand(()) < self.config.reset else int(torch.randint(1, most + 1, ()))


def _masked_average(features: Tensor, shares: Tensor) -> Tensor:
    """Average (D,) of a map (D, h, w) by how much of each cell is painted (h, w)."""
    return (features * shares).sum((1, 2)) / shares.sum().clamp_min(1e-12)


def make(backbone: Backbone) -> CANet:
    """With the head that was trained on the features of the backbone."""
    return CANet.trained(backbone)
