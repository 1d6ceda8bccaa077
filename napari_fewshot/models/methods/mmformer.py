"""MM-Former: mask matching transformer (Jiao et al., NeurIPS 2022, arXiv 2301.01208).

An image is cut into proposals, whatever they show, and these are compared with the class as wholes: decompose first,
then match and blend. Proposals come from a segmenter that was trained to find objects of any class, are superpixels, or
what somebody else has found (`MaskMatching.predict_among`). Training has two stages: the segmenter, then matching.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels
from napari_fewshot.models.blocks.mask_matching import (
    blended,
    contrastive_loss,
    pooled,
    stretched_to_one,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.potential_objects import objects_of, proposal_losses
from napari_fewshot.models.blocks.resampling import to_cells
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, map_features, maps_of_class
from napari_fewshot.models.methods.base import AdditiveState, SupportFeatures
from napari_fewshot.models.methods.mmformer_networks import MaskMatchingConfig, MaskMatchingTransformer
from napari_fewshot.models.methods.mmformer_superpixels import TRUST, SuperpixelMatching, among, instance_proposals
from napari_fewshot.models.methods.similarity_cues import Similarity
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, segmentation_losses
from napari_fewshot.support import UNLABELLED

_MAPS: Final = 5
"""Maps of shots that a query is aligned with, for each class."""

_MOST: Final = 2.0
"""Bound of what matching adds to the logit of a proposal."""

_TRUST: Final = math.log(2)
"""Bound of what it adds to the logarithm of the trust in one. So none counts more than what a cell says alone: with
more, thin things drowned in the large proposals around them."""


Proposals = Literal["learnt", "superpixels", "both"]
"""Where proposals come from."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of a shot: pixels and small maps."""

    pixels: ShotPixels
    maps: tuple[SupportMap, ...]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one class.

    Attributes
    ----------
    average
        What is known of it without training.
    maps
        Shots that show it, with how much of every cell does.
    """

    average: Similarity
    maps: tuple[tuple[SupportMap, Tensor], ...] = ()


class MaskMatching(TrainedMethod[Seen, tuple[Known, ...]]):
    """MM-Former.

    Parameters
    ----------
    config, head
        See `TrainedMethod`.
    proposals
        "learnt" ones, "superpixels" or "both"; by default superpixels, which do best on kinds of images that nobody
        trained on, or the learnt ones where matching goes by slots. Training is on both.

    Raises
    ------
    SettingsError
        If matching goes by slots, and others than learnt proposals are wanted.
    """

    name = "mmformer"
    configuration: ClassVar[type[MaskMatchingConfig]] = MaskMatchingConfig
    network = MaskMatchingTransformer

    def __init__(
        self,
        config: MaskMatchingConfig,
        head: nn.Module | None = None,
        proposals: Proposals | None = None,
    ) -> None:
        super().__init__(config, head)
        self.proposals: Proposals = proposals or ("learnt" if config.slots else "superpixels")
        if config.slots and self.proposals != "learnt":
            raise SettingsError("matching by slots knows the learnt proposals only; make the head with slots=False")
        self.matched_levels = MatchingLevels(config.strides[config.first_matched :])
        self._untrained = SuperpixelMatching(config.strides)

    @property
    def _parts(self) -> MaskMatchingTransformer:
        return cast(MaskMatchingTransformer, self.head)

    def summarise(self, shot: SupportFeatures) -> Seen:
        """Keep some pixels of every label, and small maps of the levels that are matched."""
        return Seen(self._untrained.summarise(shot), collect_maps(shot.parts(), self.matched_levels))

    def combine(self, summaries: Sequence[Seen], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Choose what the query is aligned with."""
        averages = self._untrained.combine([seen.pixels for seen in summaries], class_ids)
        maps = [seen.maps for seen in summaries]
        return tuple(
            Known(average, tuple((m, m.shares[class_id]) for m in maps_of_class(maps, class_id, _MAPS)))
            for average, class_id in zip(averages, class_ids, strict=True)
        )

    def predicted_masks(self, query: FeaturePyramid) -> list[Tensor]:
        """Logits of the learnt proposals (N, h, w) of each layer of the segmenter."""
        cells, _ = self.levels.cells(query)
        memory = [MatchingLevels((stride,)).cells(query)[0] for stride in self.matched_levels.strides[::-1]]
        found: list[Tensor] = self._parts.proposals(self.on_head(cells), [self.on_head(m) for m in memory])
        return found

    def masks(self, query: FeaturePyramid, proposals: Proposals | None = None) -> Tensor:
        """Proposals (N, h, w) in [0, 1], which matching does not move; those of a kind share out a cell."""
        proposals, several = proposals or self.proposals, []
        if proposals != "superpixels":
            learnt = self.predicted_masks(query)[-1].detach().sigmoid()
            several.append(learnt if self.config.slots else learnt / learnt.sum(0).clamp_min(1))
        if proposals != "learnt":
            several.append(self.on_head(self._untrained.superpixels(query)))
        return torch.cat(several)

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Match and blend, class by class."""
        return self._answers(solution, query, self.masks(query))[0], self._level(query)

    def predict_among(
        self, state: AdditiveState[Seen, tuple[Known, ...]], query: FeaturePyramid, instances: Tensor
    ) -> Tensor:
        """Decide which of the instances of somebody else are of which class.

        Parameters
        ----------
        state, query
            As for `predict`.
        instances
            (H, W) integers, 0 where there is none.

        Returns
        -------
        Tensor
            (1 + C, H, W) probabilities.

        Raises
        ------
        SettingsError
            If there are too many, or matching knows its own proposals only.
        """
        if self.config.slots:
            raise SettingsError("matching by slots knows the learnt proposals only; make the head with slots=False")
        calibrated, level = self._calibrated(state.solution, query)
        masks = instance_proposals(instances, calibrated, level)
        matched = self._matched(state.solution, query, masks)
        logits = [self._coefficients(s, masks, each)[0] for s, each in zip(matched, calibrated, strict=True)]
        return among(logits, masks, level, query.size)

    def _level(self, query: FeaturePyramid) -> Level:
        return next(iter(query.select(self.config.strides).features))

    def _calibrated(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        logits, level = self._untrained.calibrated(tuple(known.average for known in solution), query)
        return self.on_head(logits), level

    def _answers(
        self, solution: tuple[Known, ...], query: FeaturePyramid, masks: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (C, h, w), and of each class the similarities (N,)."""
        calibrated, level = self._calibrated(solution, query)
        shown = [-(-pixels // level.stride) for pixels in query.size]
        inside = torch.zeros_like(masks)
        inside[:, : shown[0], : shown[1]] = masks[:, : shown[0], : shown[1]]  # the rest is padding
        matched = self._matched(solution, query, inside)
        answers = [self._blend(s, inside, each) for s, each in zip(matched, calibrated, strict=True)]
        return torch.stack(answers), matched

    def _matched(self, solution: tuple[Known, ...], query: FeaturePyramid, masks: Tensor) -> list[Tensor]:
        cells, _ = self.matched_levels.cells(query)
        coarse = F.adaptive_avg_pool2d(masks, (cells.shape[-2], cells.shape[-1]))
        return [self.similarities(known, cells, coarse) for known in solution]

    def similarities(self, known: Known, cells: Tensor, masks: Tensor) -> Tensor:
        """S (N,), the cosines of proposals (N, h, w) with a class, both averaged over shots (eq. 4)."""
        align, query = self._parts.matching.align, self.on_head(cells)
        pairs = [
            align(query, masks, self.on_head(map_features(each)), self.on_head(share)) for each, share in known.maps
        ]
        proposed = torch.stack([p for p, _ in pairs]).mean(0)
        wanted = torch.stack([w for _, w in pairs]).mean(0)
        return F.cosine_similarity(proposed, wanted[None], eps=1e-6)

    def _coefficients(self, similarities: Tensor, masks: Tensor, calibrated: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N,) of the coefficients of proposals, each by itself, and trust (N,) in them.

        Nothing that the network is told depends on size: how large things are is another matter on every kind of image.
        """
        answers, squares = pooled(torch.stack([calibrated, calibrated.square()]), masks).unbind(1)
        certainty = masks.square().sum((1, 2)) / masks.sum((1, 2)).clamp_min(1e-6)
        spread = (squares - answers.square()).clamp_min(0).sqrt()
        cues = [similarities, stretched_to_one(similarities), answers / 4, spread / 4, certainty]
        change, trust = self._parts.matching.coefficients(torch.stack(cues, 1)).T
        return answers + _MOST * torch.tanh(change / _MOST), TRUST * (_TRUST * torch.tanh(trust)).exp()

    def _blend(self, similarities: Tensor, masks: Tensor, calibrated: Tensor) -> Tensor:
        """Logits (h, w) of one class."""
        if self.config.slots:  # eq. 4; M^ is no probability, but the class is where it is more than a half
            mixed = torch.einsum("n,nhw->hw", self._parts.matching.coefficients(similarities), masks)
            return 4 * (mixed - 0.5)
        return blended(masks, *self._coefficients(similarities, masks, calibrated), calibrated)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """L_P while the segmenter learns; those of the answer and L_co while matching does."""
        losses: dict[str, Tensor] = {}
        if _learns(self._parts.proposals):
            losses |= self._proposal_losses(episode)
        if not _learns(self._parts.matching):
            return losses
        masks = self.masks(episode.query, "learnt" if self.config.slots else "both")
        solution = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        logits, similarities = self._answers(solution, episode.query, masks)
        level = self._level(episode.query)
        contrast = [
            contrastive_loss(s, masks, *_shares(episode.labels, class_id, level, masks))
            for s, class_id in zip(similarities, episode.class_ids, strict=True)
            if bool((episode.labels == class_id).any())
        ]
        losses |= segmentation_losses(logits, level, episode)
        return losses | ({"contrast": 0.6 * torch.stack(contrast).mean()} if contrast else {})

    def _proposal_losses(self, episode: Episode) -> dict[str, Tensor]:
        """L_P on the query and on the first shot, which needs no query to be learnt from."""
        each = []
        for image, known in ((episode.query, episode.labels), next(iter(episode.shots[0].parts()))):
            predictions = self.predicted_masks(image)
            size = (predictions[0].shape[-2], predictions[0].shape[-1])
            objects, counts = objects_of(known, self._level(image), size)
            each.append(proposal_losses(predictions, self.on_head(objects), self.on_head(counts)))
        return {name: torch.stack([losses[name] for losses in each]).mean() for name in each[0]}


def _learns(part: nn.Module) -> bool:
    return any(p.requires_grad for p in part.parameters())


def _shares(labels: Tensor, class_id: int, level: Level, masks: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each cell (h, w) is of a class, in [0, 1], and how many of its pixels are labelled."""
    painted = torch.stack([labels == class_id, labels != UNLABELLED]).to(masks.dtype)
    found, known = to_cells(painted, level, (masks.shape[-2], masks.shape[-1]))
    return found / known.clamp_min(1e-6), known


def make(backbone: Backbone) -> SuperpixelMatching | MaskMatching:
    """With both parts where they were trained on this backbone, else superpixels on the levels that it recommends."""
    return MaskMatching.trained_or_none(backbone) or SuperpixelMatching(backbone.matching_strides)
