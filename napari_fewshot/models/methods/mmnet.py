"""MMNet: learning meta-class memory (Wu et al., ICCV 2021, arXiv 2108.02958).

A memory of *meta-classes* says what every place is made of, in words that all classes share. Places of the query are
told in these words what is painted on the shots, each shot counts by how much it has to say, and the module of PFENet
decides. No code of the authors is public: what the paper leaves open is ours, see docs/methods.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.enrichment import PAPER_BINS, FeatureEnrichment
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels
from napari_fewshot.models.blocks.layers import classifier, conv
from napari_fewshot.models.blocks.meta_memory import MetaClassMemory, propagated
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.pfenet_fem import inner_loss
from napari_fewshot.models.methods.prior_cues import ALL_CUES, COMPARED, Known, PriorCues
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, segmentation_losses

_SHOTS: Final = 10
"""Shots of a class that are carried over, those that show most of it."""

_NODES: Final = 400
"""Cells of a shot that show the class and are compared with, the fullest first."""

_REBUILT: Final = 400
"""Cells of a shot that the memory has to tell from each other, in training."""

_MEMORY_LOSS: Final = 0.1
"""gamma of eq. 13."""


@dataclass(frozen=True)
class MemoryConfig:
    """What decides the shape of the head, and how it is used.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    classes
        N, meta-classes.
    width
        D, of their embeddings, and of what follows.
    bins
        Scales, see `FeatureEnrichment`.
    sharpness
        Of the search for what is alike, of the choice between shots and, in training, of that between embeddings; 1 in
        the paper.
    cues
        1: the foreground confidence map alone, as in the paper; `ALL_CUES`: see `PriorCues`.
    corrects
        Whether the answer is a correction of the calibrated prior, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    classes: int = 50
    width: int = 32
    bins: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    sharpness: float = 20.0
    cues: int = ALL_CUES
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the levels that the backbone recommends for comparing."""
        return cls(sum(channels[stride] for stride in matching), matching)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50: blocks 2 and 3 on stride 8, 50 meta-classes of 256 channels, bins of PFENet."""
        return cls(512 + 1024, (8, 16), 50, 256, PAPER_BINS, 1.0, cues=1, corrects=False)


class MemoryHead(nn.Module):
    """The memory, and the module of PFENet with what is before and after it."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.memory = MetaClassMemory(config.channels, config.width, config.classes)
        self.fused, self.found = (conv(config.classes, config.width, 1) for _ in range(2))
        self.enrich = FeatureEnrichment(config.width, config.cues, config.bins)
        self.classify = classifier(config.width, zero=config.corrects)

    def forward(self, fused: Tensor, found: Tensor, cues: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Answer for one class.

        Parameters
        ----------
        fused
            (N, h, w) h'_q, activations of the query times what the shots hold that is like them.
        found
            (N, h, w) v_q, the latter.
        cues
            (cues, h, w).

        Returns
        -------
        logits : Tensor
            (1, h, w).
        inner : list
            Auxiliary answers (1, h_i, w_i) of each scale.
        """
        enriched, inner = self.enrich(self.fused(fused[None]), self.found(found[None]), cues[None])
        return self.classify(enriched)[:, 0], [answer[:, 0] for answer in inner]


@dataclass(frozen=True, eq=False)
class Nodes:
    """Cells of one shot that show a class: activations (N, S), and how much of each is painted (S,), at most 1."""

    activations: Tensor
    shares: Tensor


@dataclass(frozen=True, eq=False)
class Remembered:
    """What is known of one class: for the cues, and of each shot the cells that show it."""

    known: Known
    shots: tuple[Nodes, ...]


Summary = tuple[ShotPixels, tuple[SupportMap, ...]]


class MMNet(TrainedMethod[Summary, tuple[Remembered, ...]]):
    """Meta-class memory network."""

    name = "mmnet"
    configuration: ClassVar[type[MemoryConfig]] = MemoryConfig
    network = MemoryHead

    def __init__(self, config: MemoryConfig, head: nn.Module | None = None) -> None:
        super().__init__(config, head)
        self._cues = PriorCues(self.levels, config.cues)

    def summarise(self, shot: SupportFeatures) -> Summary:
        """Keep some pixels of every label, and maps of the tiles that show most of it."""
        pixels = collect_pixels(shot.parts(), self.levels, shot.is_dense, COMPARED)
        return pixels, collect_maps(shot.parts(), self.levels)

    def combine(self, summaries: Sequence[Summary], class_ids: tuple[int, ...]) -> tuple[Remembered, ...]:
        """Say of the cells of every class what they are made of."""
        shots = bounded([pixels for pixels, _ in summaries], len(with_background(class_ids)), COMPARED)
        maps = [maps for _, maps in summaries]
        return tuple(
            Remembered(
                self._cues.known(shots, class_id),
                tuple(self._nodes(each, class_id) for each in maps_of_class(maps, class_id, _SHOTS)),
            )
            for class_id in class_ids
        )

    def _nodes(self, each: SupportMap, class_id: int) -> Nodes:
        """The cells of a map that show a class, the fullest having a share of 1, however little of it is painted."""
        shares = each.shares[class_id].flatten()
        fullest = shares.sort(descending=True, stable=True).indices[:_NODES]
        fullest = fullest[shares[fullest] > 0]
        activations = self._activations(map_features(each)).flatten(1)
        return Nodes(activations[:, fullest], self.on_head(shares[fullest] / shares.max()))

    def _activations(self, cells: Tensor) -> Tensor:
        activations: Tensor = self.head.memory(self.on_head(cells))  # type: ignore[operator]
        return activations

    def logits(self, solution: tuple[Remembered, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for one class after the other."""
        cells, level = self.levels.cells(query)
        activations = self._activations(cells)
        answers = [self._answer(each, cells, activations, level, query.size)[0] for each in solution]
        return torch.cat(answers), level

    def _answer(
        self, each: Remembered, cells: Tensor, activations: Tensor, level: Level, size: tuple[int, int]
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (1, h, w) of one class, and the auxiliary ones of each scale."""
        found = self._found(activations.flatten(1), each.shots).view(activations.shape)
        cues, calibrated = map(self.on_head, self._cues.maps(each.known, cells, level, size))
        logits, inner = self.head(activations * found, found, cues)  # eq. 5
        return logits + calibrated if self.config.corrects else logits, inner

    def _found(self, query: Tensor, shots: Sequence[Nodes]) -> Tensor:
        """What the shots hold that is like each cell of a query (N, Q), weighted by quality: (N, Q).

        As h_q is the same for all shots, v_q is averaged in place of h_q v_q.
        """
        told = [propagated(query, shot.activations, shot.shares, self.config.sharpness) for shot in shots]
        quality = torch.stack([q for _, q in told])  # p, (K, Q)
        weights = (self.config.sharpness * quality).softmax(0)
        return torch.stack([weight * found for weight, (found, _) in zip(weights, told, strict=True)]).sum(0)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Loss of the answer, of those of the scales, and of the memory on the shots (eq. 13)."""
        summaries = [self.summarise(shot) for shot in episode.shots]
        cells, level = self.levels.cells(episode.query)
        activations = self._activations(cells)
        solution = self.combine(summaries, episode.class_ids)
        answers = [self._answer(each, cells, activations, level, episode.query.size) for each in solution]
        losses = segmentation_losses(torch.cat([logits for logits, _ in answers]), level, episode)
        losses["inner"] = inner_loss([inner for _, inner in answers], cells, level, episode)
        return losses | {"memory": _MEMORY_LOSS * self._memory_loss(summaries[0][1])}  # one shot: others cost time

    def _memory_loss(self, maps: Sequence[SupportMap]) -> Tensor:
        memory, losses = self.head.memory, []
        assert isinstance(memory, MetaClassMemory)
        for each in maps:
            activations = self._activations(map_features(each)).flatten(1)
            some = activations[:, :: max(1, -(-activations.shape[1] // _REBUILT))]
            losses.append(memory.reconstruction_loss(some, self.config.sharpness))
        return torch.stack(losses).mean()


def make(backbone: Backbone) -> MMNet:
    """With the head that was trained on the features of the backbone."""
    return MMNet.trained(backbone)
