"""CyCTR: cycle-consistent transformer (Zhang et al., NeurIPS 2021, arXiv 2106.02320).

Every place of the query asks pixels of the shots, of the class and of everything else, what they know. Pixels that are
confusing are not asked: those whose best match on the query goes best with a pixel of another label. Here the answer
corrects the calibrated prior of `pfenet`, from which training begins, and pixels are drawn evenly and always the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.cycle_attention import CycleAttention, PredictedAttention
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels, single
from napari_fewshot.models.blocks.layers import classifier, conv, reduction, resized
from napari_fewshot.models.blocks.losses import dice_loss
from napari_fewshot.models.blocks.resampling import to_cells
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.prior_cues import ALL_CUES, COMPARED, Known, PriorCues
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, segmentation_losses

_QUERY_TOKENS: Final = 64 * 64
"""Places of a query that ask: those of 512 x 512 pixels at stride 8. Larger ones are pooled to so many."""


@dataclass(frozen=True)
class CycleConfig:
    """What decides the shape of the head, and how it is used.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    width
        Channels inside; a multiple of 4 and of ``heads``.
    heads
        Of every attention.
    encoders
        L, each with a self-alignment and a cross-alignment block.
    points
        P, places of the query that a place of it asks.
    tokens
        N_s / 2: pixels of the class, and as many of everything else, in all.
    pooled
        Cells of the finest level along the side of a place that asks.
    cues
        1: the stretched prior alone, as in the paper; `ALL_CUES`: see `PriorCues`.
    corrects
        Whether the answer is a correction of the calibrated prior, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 48
    heads: int = 4
    encoders: int = 2
    points: int = 9
    tokens: int = 300
    pooled: int = 2
    cues: int = ALL_CUES
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the levels that the backbone recommends for comparing."""
        return cls(sum(channels[stride] for stride in matching), matching)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50, PASCAL-5^i: blocks 2 and 3 on stride 8, 256 channels, 8 heads, 5 x 600 pixels of five shots."""
        return cls(512 + 1024, (8, 16), 256, 8, tokens=1500, pooled=1, cues=1, corrects=False)


class _Normed(nn.Module):
    """What attention found, added, and an MLP; each followed by layer normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attended, self.thought = nn.LayerNorm(width), nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, 3 * width), nn.ReLU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """Take (N, width) and what was found for it."""
        x = self.attended(x + found)
        thought: Tensor = self.thought(x + self.think(x))
        return thought


class Encoder(nn.Module):
    """A self-alignment and a cross-alignment block (figure 3)."""

    def __init__(self, config: CycleConfig) -> None:
        super().__init__()
        self.within = PredictedAttention(config.width, config.heads, config.points)
        self.across = CycleAttention(config.width, config.heads)
        self.first, self.second = _Normed(config.width), _Normed(config.width)

    def forward(self, query: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        """Encode a query (width, h, w) with tokens (M, width) of the shots and their labels (M,)."""
        x = self.first(_rows(query), _rows(self.within(query)))
        x = self.second(x, self.across(x, tokens, labels))
        encoded: Tensor = x.T.reshape(query.shape)
        return encoded


def _rows(maps: Tensor) -> Tensor:
    return maps.flatten(1).T


class CycleTransformer(nn.Module):
    """All that is trained: what is around the encoders as well (appendix A)."""

    def __init__(self, config: CycleConfig) -> None:
        super().__init__()
        width = config.width
        self.reduce = reduction(config.channels, width)
        self.query = conv(2 * width + config.cues, width, 1)
        self.support = conv(2 * width, width, 1)
        self.encoders = nn.ModuleList(Encoder(config) for _ in range(config.encoders))
        self.classify = classifier(width, dropout=0.0, zero=config.corrects)
        self.align = nn.Sequential(*conv(2 * width, width, 1), nn.Conv2d(width, 1, 1))
        self._pooled = config.pooled

    def forward(self, query: Tensor, vector: Tensor, cues: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        """Answer for one class.

        Parameters
        ----------
        query
            (width, h, w) reduced features.
        vector
            (width,) reduced average of the class.
        cues
            (cues, h, w).
        tokens
            (M, width) reduced features of pixels of the shots.
        labels
            (M,) bool, whether they are of the class.

        Returns
        -------
        Tensor
            (h, w) logits.
        """
        merged = self.query(torch.cat([query, _everywhere(vector, query), cues])[None])[0]
        known = self.support(torch.cat([tokens.T, vector[:, None].expand(-1, len(tokens))])[None, ..., None])[0, ..., 0]
        coarse = F.adaptive_avg_pool2d(merged, self._size(merged))
        encoded = coarse
        for encoder in self.encoders:
            encoded = encoder(encoded, known.T, labels)
        if (
            encoded.shape != merged.shape
        ):  # what is fine comes from before, what is known of the whole from the encoders
            encoded = merged + resized(encoded[None], merged.shape[-2:])[0]
        logits: Tensor = self.classify(encoded[None])
        return logits[0, 0]

    def _size(self, maps: Tensor) -> tuple[int, int]:
        height, width = maps.shape[-2:]
        shrink = max(self._pooled, (height * width / _QUERY_TOKENS) ** 0.5)
        return max(1, int(height / shrink)), max(1, int(width / shrink))

    def aligned(self, tokens: Tensor, vector: Tensor) -> Tensor:
        """Say whether pixels of the shots (M, width) are what a vector (width,) of the query is: (M,) logits."""
        both = torch.cat([tokens.T, vector[:, None].expand(-1, len(tokens))])
        logits: Tensor = self.align(both[None, ..., None])
        return logits.flatten()


def _everywhere(vector: Tensor, like: Tensor) -> Tensor:
    return vector[:, None, None].expand(-1, *like.shape[-2:])


@dataclass(frozen=True, eq=False)
class Tokens:
    """What is known of one class: for the cues, and pixels (M, D) of it and of everything else, with labels (M,)."""

    known: Known
    features: Tensor
    labels: Tensor


class CyCTR(TrainedMethod[ShotPixels, tuple[Tokens, ...]]):
    """Cycle-consistent transformer."""

    name = "cyctr"
    configuration: ClassVar[type[CycleConfig]] = CycleConfig
    network = CycleTransformer

    def __init__(self, config: CycleConfig, head: nn.Module | None = None) -> None:
        super().__init__(config, head)
        self._cues = PriorCues(self.levels, config.cues)

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label, drawn evenly (section 3.3: mask-guided sparse sampling)."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense, max(COMPARED, self.config.tokens))

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Tokens, ...]:
        """Collect the pixels that are asked, of all shots."""
        labels = len(with_background(class_ids))
        shots = bounded(summaries, labels, COMPARED)
        drawn = bounded(summaries, labels, self.config.tokens)
        return tuple(self._tokens(self._cues.known(shots, class_id), drawn, class_id) for class_id in class_ids)

    def _tokens(self, known: Known, shots: Sequence[ShotPixels], class_id: int) -> Tokens:
        pixels = [(value == class_id, p.features) for shot in shots for value, p in shot.labels.items()]
        features, labels = [], []
        for side in (True, False):
            if drawn := [f for is_class, f in pixels if is_class == side]:
                features.append(_evenly(drawn, self.config.tokens))
                labels.append(torch.full((len(features[-1]),), side))
        return Tokens(known, torch.cat(features), torch.cat(labels).to(features[0].device))

    def logits(self, solution: tuple[Tokens, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for one class after the other."""
        cells, level = self.levels.cells(query)
        reduced = self._reduced(cells)
        answers = []
        for each in solution:
            cues, calibrated = map(self.on_head, self._cues.maps(each.known, cells, level, query.size))
            vector = self._reduced(each.known.vector[:, None, None])[:, 0, 0]
            answer = self.head(reduced, vector, cues, self._of_pixels(each), each.labels)
            answers.append(answer + calibrated if self.config.corrects else answer)
        return torch.stack(answers), level

    def _reduced(self, cells: Tensor) -> Tensor:
        reduced: Tensor = self.head.reduce(self.on_head(cells)[None])  # type: ignore[operator]
        return reduced[0]

    def _of_pixels(self, each: Tokens) -> Tensor:
        return self._reduced(each.features.T[..., None])[..., 0].T

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Loss of the answer; and of the shots as the class on the query finds them (section 4.1)."""
        solution = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        losses = segmentation_losses(*self.logits(solution, episode.query), episode)
        cells, level = self.levels.cells(episode.query)
        reduced = self._reduced(cells)
        shown = []
        for class_id, each in zip(episode.class_ids, solution, strict=True):
            mask = (episode.labels == class_id)[None].to(cells.dtype)  # `reduced` is half in mixed precision
            painted = to_cells(mask, level, (reduced.shape[1], reduced.shape[2]))[0]
            if painted.sum() > 0:
                vector = (reduced * painted).sum((1, 2)) / painted.sum()
                found = self.head.aligned(self._of_pixels(each), vector)  # type: ignore[operator]
                shown.append(dice_loss(found.sigmoid(), each.labels))
        return losses | ({"aligned": torch.stack(shown).mean()} if shown else {})


def _evenly(drawn: Sequence[Tensor], most: int) -> Tensor:
    """Put features (N, D) of several draws together, and keep every n-th: (M, D), at least single, M <= most."""
    features = torch.cat([single(each) for each in drawn])  # autocast to bfloat16 joins no half precision
    return features[:: max(1, -(-len(features) // most))]


def make(backbone: Backbone) -> CyCTR:
    """With the head that was trained on the features of the backbone."""
    return CyCTR.trained(backbone)
