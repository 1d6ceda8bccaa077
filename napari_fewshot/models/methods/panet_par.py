"""PANet with an embedding that is trained (Wang et al., ICCV 2019, arXiv 1908.06391): `panet-par`.

The paper trains the whole backbone: with the loss of the query, and with the *prototype alignment regularisation* (PAR,
eqs. 6 and 7), for which the query, as it was segmented, has to segment the shots in turn. Here the backbone stays as it
is, and what both losses train is a small residual map of each feature by itself. It begins with zero, which is `panet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.alignment import alignment_loss
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, any_mean, bounded, collect_pixels, single
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import SupportFeatures, with_background
from napari_fewshot.models.methods.trained import Episode, TrainedMethod
from napari_fewshot.support import UNLABELLED


@dataclass(frozen=True)
class AlignmentConfig:
    """What decides the shape of the embedding, and how it is trained.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    width
        Units between features and what is added to them.
    alpha
        Scale of the cosine before the softmax.
    alignment
        Lambda, the weight of PAR; 0: trained without it.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 96
    alpha: float = 20.0
    alignment: float = 1.0

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the levels that the backbone recommends for comparing."""
        return cls(sum(channels[stride] for stride in matching), matching)

    @classmethod
    def paper(cls) -> Self:
        """The last convolutions of VGG-16; those are what the paper trains, so there is no width to quote."""
        return cls(512, (16,), 512)


class Embedding(nn.Module):
    """x + |x| g(x / |x|), with g two layers: features keep their direction until something is learnt.

    However bright a feature is, its direction afterwards is the same, as a cosine asks for.
    """

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.scale = config.channels**0.5  # so that numbers are about 1, however many there are
        self.inner = nn.Linear(config.channels, config.width)
        self.outer = nn.Linear(config.width, config.channels)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """What is added to features (N, D): (N, D)."""
        lengths = features.norm(dim=1, keepdim=True)
        directions = features / lengths.clamp_min(1e-6)
        added: Tensor = lengths / self.scale * self.outer(self.inner(self.scale * directions).relu())
        return added


class AlignedPANet(TrainedMethod[ShotPixels, Tensor]):
    """PANet on embedded features."""

    name = "panet-par"
    configuration: ClassVar[type[AlignmentConfig]] = AlignmentConfig
    network = Embedding
    standardised = False

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Pool the features of every label, and keep some pixels."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Tensor:
        """Average embedded features over the pixels, then over the shots that show a label (eqs. 1 and 2).

        Returns
        -------
        Tensor
            (1 + C, D), background first: zero where nothing shows it.
        """
        labels = with_background(class_ids)
        shots = bounded(summaries, len(labels))
        nothing = torch.zeros_like(self.on_head(single(any_mean(shots))))
        rows = []
        for value in labels:
            pooled = [self._pooled(shot, value) for shot in shots if value in shot.labels]
            rows.append(torch.stack(pooled).mean(0) if pooled else nothing)
        return torch.stack(rows)

    def _pooled(self, shot: ShotPixels, value: int) -> Tensor:
        """Average (D,): of all pixels what they are, of those that were kept what is added."""
        pixels = shot.labels[value]
        added: Tensor = self.head(self.on_head(single(pixels.features)))
        return self.on_head(single(pixels.mean)) + added.mean(0)

    def embedded(self, query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Features (D, h, w) as they are compared, and the level of these cells."""
        cells, level = self.levels.cells(query)
        features = self.on_head(cells.flatten(1).T)
        return (features + self.head(features)).T.unflatten(1, cells.shape[1:]), level

    def logits(self, solution: Tensor, query: FeaturePyramid) -> tuple[Tensor, Level]:
        """How much better each class goes with a cell than the background does: eq. 3, where that has the logit 0."""
        features, level = self.embedded(query)
        return self._above_background(features, solution), level

    def _above_background(self, features: Tensor, prototypes: Tensor) -> Tensor:
        scores: Tensor = self.config.alpha * cosine_map(features, prototypes)
        return scores[1:] - scores[:1]

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """L_seg (eq. 5), over all classes jointly, and lambda L_PAR (eqs. 6 and 7)."""
        prototypes = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        features, level = self.embedded(episode.query)
        logits = upsample(self._above_background(features, prototypes), level, episode.query.size)
        scores = torch.cat([torch.zeros_like(logits[:1]), logits])  # (1 + C, H, W)
        losses = {"entropy": _joint_entropy(scores, episode)}
        if self.config.alignment:
            losses["alignment"] = self.config.alignment * self._way_back(features, level, scores, episode)
        return losses

    def _way_back(self, features: Tensor, level: Level, scores: Tensor, episode: Episode) -> Tensor:
        """L_PAR: the shots segmented by what was found most probable on the query."""
        values = torch.tensor(with_background(episode.class_ids), device=scores.device)
        found = values[scores.argmax(0)]
        shots = [(self.embedded(part)[0], labels) for shot in episode.shots for part, labels in shot.parts()]
        return alignment_loss(features, found, shots, level, episode.class_ids, self.config.alpha)


def _joint_entropy(scores: Tensor, episode: Episode) -> Tensor:
    """Mean of -log softmax of what a pixel is, over all pixels of which that is known; 0 without any."""
    wanted = torch.where(episode.labels == UNLABELLED, UNLABELLED, 0)
    for index, class_id in enumerate(episode.class_ids, 1):
        wanted[episode.labels == class_id] = index
    if bool((wanted == UNLABELLED).all()):
        return scores.sum() * 0
    entropy: Tensor = F.cross_entropy(scores[None], wanted[None], ignore_index=UNLABELLED)
    return entropy


def make(backbone: Backbone) -> AlignedPANet:
    """With the embedding that was trained on this backbone; without any, `panet` is the same method."""
    return AlignedPANet.trained(backbone)
