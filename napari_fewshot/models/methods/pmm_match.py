"""PMM and RPMM with their trained head (Yang et al., ECCV 2020, arXiv 2008.03898): `pmm` and `rpmm` as they are chosen.

*P-Match* puts each prototype of the class beside every cell of the query and lets convolutions compare; *P-Conv* is
two more maps for the convolutions that follow, those of CANet. `rpmm` passes three times through the same head, with 1,
3 and 6 prototypes, and every pass is told what the one before it answered. Here the head is told as well how the same
mixtures answer on features that stay as they are (`PMM`, `RPMM`), and corrects that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.comparing import ComparingConvolution, IterativeOptimisation
from napari_fewshot.models.blocks.labelled_pixels import LabelledPixels, ShotPixels, bounded, collect_pixels, single
from napari_fewshot.models.blocks.layers import ATROUS, conv, keep_signals, reduction
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import safe_logit
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.pmm import PMM, Mixtures
from napari_fewshot.models.methods.rpmm import RPMM
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, segmentation_losses

_PIXELS: Final = 600
"""Pixels of each label that a mixture is fitted to, over all shots."""

_MAPS: Final = 50
"""Maps of a label that a mixture is fitted to where features are reduced with what is around them."""

_CUES: Final = 3

_FIRM: Final = 4.0
"""Bound of the logit that is corrected. What fits a shot too well would otherwise be too sure elsewhere."""


@dataclass(frozen=True)
class MatchConfig:
    """What decides the shape of the head, and how it is used.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    components
        Prototypes per label of each pass.
    width
        Channels inside.
    kernel
        Of the convolution that reduces features: 3 in the paper (with dilation 2), which needs whole maps of the
        shots. With 1, pixels drawn from them will do.
    cues
        Maps beside the reduced features. 0: none, as in the paper. 3: the logit that is corrected, and the largest
        cosine with a prototype of the class and of anything else, on features that stay as they are.
    dropout
        Share of channels of the comparison that training leaves out.
    dilations
        Of the pyramid pooling, in cells.
    corrects
        Whether the answer is a correction of P-Conv on features that stay as they are, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    components: tuple[int, ...] = (3,)
    width: int = 32
    kernel: int = 1
    cues: int = _CUES
    dropout: float = 0.2
    dilations: tuple[int, ...] = ATROUS
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the levels that the backbone recommends for comparing."""
        return cls(sum(channels[stride] for stride in matching), matching)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50: blocks 2 and 3 on stride 8, 256 channels."""
        return cls(512 + 1024, (8, 16), width=256, kernel=3, cues=0, dropout=0.5, corrects=False)

    @property
    def is_stack(self) -> bool:
        """Whether there are several passes."""
        return len(self.components) > 1


@dataclass(frozen=True)
class StackConfig(MatchConfig):
    """The same for the stack."""

    components: tuple[int, ...] = (1, 3, 6)


class Match(nn.Module):
    """P-Match and what follows it: ``optimise`` is CANet's, told of one earlier answer.

    Where the two maps of P-Conv go is as in the authors' code: a single pass has them in the place of CANet's last
    answer; a stack in front of the second convolution, and the place is for the pass before.
    """

    def __init__(self, config: MatchConfig) -> None:
        super().__init__()
        width = config.width
        self.is_stack = config.is_stack
        if config.kernel == 1:
            self.reduce = reduction(config.channels, width)
        else:
            self.reduce = conv(config.channels, width, config.kernel, dilation=2)
        self.compare = ComparingConvolution(width + config.cues, width, width, dilation=2)
        self.merge = conv(width + (2 if config.is_stack else 0), width)
        self.drop = nn.Dropout2d(config.dropout)
        self.optimise = IterativeOptimisation(width, config.dilations)
        keep_signals(self)
        if config.corrects:
            nn.init.zeros_(self.optimise.classify.weight)

    def match(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """Activate a query (width + cues, h, w) by prototypes (K, width) of the class (eq. 6): (width, h, w).

        The mean over prototypes: their number differs between passes, and with what was painted.
        """
        activated = self.compare.of_map(query) + self.compare.of_vectors(prototypes, query)  # (K, width, h, w)
        return activated.relu().mean(0)

    def forward(self, query: Tensor, prototypes: Tensor, maps: Tensor, last: Tensor) -> Tensor:
        """Answer with logits (h, w).

        Parameters
        ----------
        query
            (width + cues, h, w) reduced features, and cues.
        prototypes
            (K, width) mu+ of the class.
        maps
            (2, h, w) M- and M+ of P-Conv (eq. 8).
        last
            (2, h, w) probabilities of background and class by the pass before, or zeros.
        """
        matched = self.match(query, prototypes)
        activated = torch.cat([matched, maps]) if self.is_stack else matched  # eq. 9
        merged = self.drop(self.merge(activated[None]))[0]
        answer: Tensor = self.optimise(merged, last if self.is_stack else maps)
        return answer


@dataclass(frozen=True, eq=False)
class Pass:
    """Mixtures of all labels, background first: on features that stay as they are, and on reduced ones."""

    plain: Mixtures
    reduced: Mixtures


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a shot: pixels, and maps where features are reduced with what is around them."""

    pixels: ShotPixels
    maps: tuple[SupportMap, ...]


class MatchedPMM(TrainedMethod[Kept, tuple[Pass, ...]]):
    """Prototype mixtures with P-Match."""

    name = "pmm"
    configuration: ClassVar[type[MatchConfig]] = MatchConfig
    network = Match

    def summarise(self, shot: SupportFeatures) -> Kept:
        """Keep some pixels of every label, and maps where they are wanted."""
        pixels = collect_pixels(shot.parts(), self.levels, shot.is_dense)
        return Kept(pixels, collect_maps(shot.parts(), self.levels) if self.config.kernel > 1 else ())

    def combine(self, summaries: Sequence[Kept], class_ids: tuple[int, ...]) -> tuple[Pass, ...]:
        """Fit the mixtures of every pass, on both kinds of features; gradients go through the rounds of EM."""
        values = with_background(class_ids)
        shots = bounded([kept.pixels for kept in summaries], len(values))
        few = bounded(shots, len(values), _PIXELS)
        reduced = self._reduced_maps(summaries, values) if self.config.kernel > 1 else self._reduced_pixels(few)
        return tuple(
            Pass(Mixtures.fit(shots, class_ids, k, None), Mixtures.fit(reduced, class_ids, k, None))
            for k in self.config.components
        )

    def _reduced_pixels(self, shots: Sequence[ShotPixels]) -> list[ShotPixels]:
        reduced = []
        for shot in shots:
            labels = {value: self._with(p, self._one_by_one(p.features)) for value, p in shot.labels.items()}
            reduced.append(ShotPixels(labels, shot.is_dense))
        return reduced

    def _one_by_one(self, features: Tensor) -> Tensor:
        """Pixels (N, D), reduced without what is around them: (N, width)."""
        return self._reduced(single(features).T[:, :, None])[:, :, 0].T

    def _reduced_maps(self, summaries: Sequence[Kept], values: Sequence[int]) -> list[ShotPixels]:
        """Cells that are mostly of a label, or the one that is most of all, of the fullest maps."""
        shots = [kept.maps for kept in summaries]
        template = {v: p for kept in summaries for v, p in kept.pixels.labels.items()}
        found = {}
        for value in values:
            drawn = []
            for each in maps_of_class(shots, value, _MAPS):
                share = each.shares[value].flatten()
                chosen = share >= share.max().clamp_max(0.5)
                drawn.append(self._reduced(map_features(each)).flatten(1).T[chosen.to(share.device)])
            if drawn:
                found[value] = self._with(template[value], torch.cat(drawn))
        return [ShotPixels(found, is_dense=True)]

    @staticmethod
    def _with(pixels: LabelledPixels, features: Tensor) -> LabelledPixels:
        """The same pixels as they look reduced."""
        return replace(pixels, mean=features.mean(0), features=features)

    def _reduced(self, cells: Tensor) -> Tensor:
        """Features (D, h, w) of shot or query, reduced by the same convolution: (width, h, w)."""
        reduced: Tensor = self.head.reduce(self.on_head(cells)[None])  # type: ignore[operator]
        return reduced[0]

    def logits(self, solution: tuple[Pass, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone: the mean over passes of its probability, as a logit."""
        passes, level = self.passes(solution, query)
        if len(passes) == 1:
            return passes[0], level
        return safe_logit(torch.stack(passes).sigmoid().mean(0)), level

    def passes(self, solution: tuple[Pass, ...], query: FeaturePyramid) -> tuple[list[Tensor], Level]:
        """Logits (C, h, w) of each pass, and the level of their cells."""
        cells, level = self.levels.cells(query)
        reduced = self._reduced(cells)
        last: list[Tensor] = []
        found = []
        for known in solution:
            answers = self._pass(known, cells, reduced, last)
            last = [torch.stack([1 - p, p]) for p in answers.sigmoid()]
            found.append(answers)
        return found, level

    def _pass(self, known: Pass, cells: Tensor, reduced: Tensor, last: Sequence[Tensor]) -> Tensor:
        plain, trained = known.plain.p_conv(cells), known.reduced.p_conv(reduced)
        near = torch.stack([cosine_map(cells, mu).amax(0) for mu in known.plain.prototypes])  # (1 + C, h, w)
        zeros = reduced.new_zeros((2, *reduced.shape[1:]))
        answers = []
        for c in range(1, len(plain)):
            base = _FIRM * torch.tanh(_against_others(plain, c) / _FIRM)
            cues = torch.stack([base / _FIRM, near[c], _without(near, c).amax(0)])[: self.config.cues]
            p = trained.softmax(0)[c]
            answer = self.head(
                torch.cat([reduced, self.on_head(cues)]),
                known.reduced.prototypes[c],
                torch.stack([1 - p, p]),
                last[c - 1] if last else zeros,
            )
            answers.append(answer + self.on_head(base) if self.config.corrects else answer)
        return torch.stack(answers)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Loss of every pass, on average."""
        solution = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        passes, level = self.passes(solution, episode.query)
        each = [segmentation_losses(logits, level, episode, 1 / len(passes)) for logits in passes]
        return {name: torch.stack([losses[name] for losses in each]).sum() for name in each[0]}


class MatchedRPMM(MatchedPMM):
    """The stack of three, each pass told what the one before answered."""

    name = "rpmm"
    configuration: ClassVar[type[MatchConfig]] = StackConfig


def _without(values: Tensor, index: int) -> Tensor:
    """All but one (n, ...) -> (n - 1, ...)."""
    return torch.cat([values[:index], values[index + 1 :]])


def _against_others(logits: Tensor, index: int) -> Tensor:
    """Logit (h, w) of the probability that the softmax over (1 + C, h, w) gives one label."""
    return logits[index] - _without(logits, index).logsumexp(0)


def make(backbone: Backbone) -> MatchedPMM | PMM:
    """With the head where it was trained on this backbone, else P-Conv alone."""
    return MatchedPMM.trained_or_none(backbone) or PMM(MatchingLevels(backbone.matching_strides))


def make_stack(backbone: Backbone) -> MatchedRPMM | RPMM:
    """With the head where it was trained on this backbone, else the mean of three times P-Conv."""
    return MatchedRPMM.trained_or_none(backbone) or RPMM(MatchingLevels(backbone.matching_strides))
