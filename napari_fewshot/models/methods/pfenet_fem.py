"""PFENet's feature enrichment module, trained (Tian et al., TPAMI 2020, arXiv 2008.01449): `pfenet` as it is chosen.

Query, class and prior are fused at several scales, and every scale answers for itself in training. Beside the prior of
the paper the module is told how the shots calibrate it, how similar a pixel is to everything else that was painted, and
how similar on the features that tell the class (`EnrichmentConfig.cues`); its answer corrects the calibrated prior. So
what it learnt on few kinds of images does less harm on others: the paper's own module is known to fail there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.enrichment import PAPER_BINS, FeatureEnrichment
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels
from napari_fewshot.models.blocks.layers import classifier, reduction, resized
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.pfenet import PFENet
from napari_fewshot.models.methods.prior_cues import ALL_CUES, COMPARED, Known, PriorCues
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, segmentation_losses


@dataclass(frozen=True)
class EnrichmentConfig:
    """What decides the shape of the trained module.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    width
        Channels inside.
    bins
        Scales, see `FeatureEnrichment`.
    cues
        1: the stretched prior alone, as in the paper. 4: beside it the prior before stretching as the shots calibrate
        it, the same prior minus that of everything else, and the cosine on the features that tell the class.
    dropout
        Share of channels of the reduced features that training leaves out.
    corrects
        Whether the answer is a correction of the calibrated prior, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 48
    bins: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    cues: int = ALL_CUES
    dropout: float = 0.2
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the levels that the backbone recommends for comparing."""
        return cls(sum(channels[stride] for stride in matching), matching)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50: blocks 2 and 3 on stride 8, 256 channels, bins of 60, 30, 15 and 8 cells, dropout of a half."""
        return cls(512 + 1024, (8, 16), 256, PAPER_BINS, cues=1, dropout=0.5, corrects=False)


class Enrichment(nn.Module):
    """The module with what is before and after it: reductions of query and class, and the classifier."""

    def __init__(self, config: EnrichmentConfig) -> None:
        super().__init__()
        self.query = reduction(config.channels, config.width, config.dropout)
        self.support = reduction(config.channels, config.width, config.dropout)
        self.enrich = FeatureEnrichment(config.width, config.cues, config.bins)
        self.classify = classifier(config.width, zero=config.corrects)

    def forward(self, query: Tensor, vectors: Tensor, cues: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Answer for classes with vectors (C, D) and cues (C, cues, h, w) on a query (D, h, w).

        Returns
        -------
        logits : Tensor
            (C, h, w).
        inner : list
            Auxiliary answers (C, h_i, w_i) of each scale.
        """
        reduced = self.query(query[None]).expand(len(vectors), -1, -1, -1)
        classes = self.support(vectors[:, :, None, None])[:, :, 0, 0]
        enriched, inner = self.enrich(reduced, classes, cues)
        return self.classify(enriched)[:, 0], [answer[:, 0] for answer in inner]


class GuidedEnrichment(TrainedMethod[ShotPixels, tuple[Known, ...]]):
    """PFENet with its feature enrichment module."""

    name = "pfenet"
    configuration: ClassVar[type[EnrichmentConfig]] = EnrichmentConfig
    network = Enrichment

    def __init__(self, config: EnrichmentConfig, head: nn.Module | None = None) -> None:
        super().__init__(config, head)
        self._cues = PriorCues(self.levels, config.cues)

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense, COMPARED)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Pool every class, and fill its banks."""
        shots = bounded(summaries, len(with_background(class_ids)), COMPARED)
        return tuple(self._cues.known(shots, class_id) for class_id in class_ids)

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone."""
        cells, level = self.levels.cells(query)
        answers = [self._answers(known, cells, level, query.size)[0] for known in solution]
        return torch.cat(answers), level

    def _answers(self, known: Known, cells: Tensor, level: Level, size: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
        """Logits (1, h, w) of one class, and the auxiliary ones of each scale."""
        cues, calibrated = self._cues.maps(known, cells, level, size)
        logits, inner = self.head(*map(self.on_head, (cells, known.vector[None], cues[None])))
        return logits + self.on_head(calibrated) if self.config.corrects else logits, inner

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Loss of the answer, and the mean of those of the scales (eq. 9, sigma = 1)."""
        cells, level = self.levels.cells(episode.query)
        losses: dict[str, Tensor] = {}
        solution = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        answers = [self._answers(known, cells, level, episode.query.size) for known in solution]
        losses |= segmentation_losses(torch.cat([logits for logits, _ in answers]), level, episode)
        return losses | {"inner": inner_loss([inner for _, inner in answers], cells, level, episode)}


def inner_loss(answers: Sequence[Sequence[Tensor]], cells: Tensor, level: Level, episode: Episode) -> Tensor:
    """Mean loss of what the scales answer, for each class (1, h_i, w_i); ``cells`` (..., h, w) lie on ``level``."""
    scales = zip(*answers, strict=True)  # of each scale the answers for all classes
    inner = [torch.cat([resized(one[None], cells.shape[-2:])[0] for one in scale]) for scale in scales]
    return torch.stack([segmentation_losses(logits, level, episode)["entropy"] for logits in inner]).mean()


def make(backbone: Backbone) -> PFENet | GuidedEnrichment:
    """With the module where it was trained on this backbone, else by the prior on the levels that it recommends.

    The paper takes the prior from the last block of a network only, which is even more abstract than what backbones
    here end with.
    """
    return GuidedEnrichment.trained_or_none(backbone) or PFENet(MatchingLevels(backbone.matching_strides))
