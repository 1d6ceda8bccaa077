"""PL: few-shot segmentation with prototype learning (Dong & Xing, BMVC 2018).

Two networks. The prototype learner turns what is masked on the shots into one vector per class, and tells classes
apart by the distance to these, image by image; the segmenter adds each vector to the features of the query and scores
what comes out. Several classes are answered for together: the scores of each are weighted with how well the image goes
with its prototype. No code was published and several constants are unknown; docs/methods.md says what is ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels, unit
from napari_fewshot.models.blocks.layers import Residual, reduction
from napari_fewshot.models.blocks.matching import MatchingLevels, from_finest
from napari_fewshot.models.methods.base import AdditiveState, SupportFeatures, with_background
from napari_fewshot.models.methods.sgone import SGOne
from napari_fewshot.models.methods.similarity_cues import CUES, Similarity, similarities
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, segmentation_losses

_POOLED: Final = 600
"""Pixels of a label over all shots that its prototype is the average of."""

_LOOKED_AT: Final = 1000
"""Cells of a query that its vector is the average of."""


@dataclass(frozen=True)
class PrototypeConfig:
    """What decides the shape of both networks.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    width
        d: length of prototypes, and channels of the segmenter.
    slots
        N of the paper: the scores of every class fill 1 + N channels, and the k-th class has the k-th of them; classes
        that are more than that are answered for in groups. 0: one scorer, which all classes share, so that any number
        of them can be asked for and their order plays no part.
    depth
        Residual blocks between the sum and the scores; 0 in the paper.
    dropout
        Share of channels of the query that training leaves out.
    paired
        Whether the query is seen from each class, by the cells that are most like its prototype, and not as the
        average of all of its cells, in which small things drown.
    corrects
        Whether the answer corrects the calibrated cosine with the average of the class, and what is scored is told of
        such cosines as well; and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    width: int = 32
    slots: int = 0
    depth: int = 1
    dropout: float = 0.4
    paired: bool = True
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the finest level that the backbone recommends for comparing, and all coarser ones."""
        strides = from_finest(channels, matching)
        return cls(sum(channels[stride] for stride in strides), strides)

    @classmethod
    def paper(cls) -> Self:
        """VGG-16, last convolution; two classes at once; the width is not published."""
        return cls(512, (16,), 256, slots=2, depth=0, dropout=0.5, paired=False, corrects=False)


class PrototypeNetworks(nn.Module):
    """The prototype learner f and the segmenter g."""

    def __init__(self, config: PrototypeConfig) -> None:
        super().__init__()
        self.learner = nn.Sequential(
            nn.Linear(config.channels, 2 * config.width), nn.ReLU(), nn.Linear(2 * config.width, config.width)
        )
        self.segmenter = Segmenter(config)


class Segmenter(nn.Module):
    """Adds every prototype to the query, scores the sums and fuses the scores."""

    def __init__(self, config: PrototypeConfig) -> None:
        super().__init__()
        self.slots = config.slots
        self.query = reduction(config.channels, config.width, config.dropout)
        self.similarity = nn.Conv2d(CUES, config.width, 1) if config.corrects else None
        self.context = nn.Sequential(*(Residual(config.width) for _ in range(config.depth)))
        self.score = nn.Conv2d(config.width, 1 + max(1, config.slots), 1)
        if config.corrects:
            nn.init.zeros_(self.score.weight)
            nn.init.zeros_(self.score.bias if self.score.bias is not None else self.score.weight)

    def forward(self, query: Tensor, prototypes: Tensor, weights: Tensor, cues: Tensor) -> Tensor:
        """Answer for classes with prototypes (C, d) on a query (D, h, w).

        Parameters
        ----------
        query
            (D, h, w).
        prototypes
            (C, d); no more than there are slots.
        weights
            (C,) w, of the image for each class.
        cues
            (C, 3, h, w) what `Similarity` tells, added where the answer is a correction.

        Returns
        -------
        Tensor
            (1 + C, h, w) fused scores, background first.
        """
        features = self.query(query[None])
        scores = [self._scores(features + p[:, None, None], told) for p, told in zip(prototypes, cues, strict=True)]
        background = torch.stack([w * s[0] for w, s in zip(weights, scores, strict=True)]).sum(0)
        if self.slots:  # sum over n of w_n s_n, where every s_n has all channels
            fused = torch.stack([w * s[1:] for w, s in zip(weights, scores, strict=True)]).sum(0)[: len(prototypes)]
        else:  # the same sum, where s_n has the channel of its own class only; on average a class weighs 1
            fused = torch.stack([len(weights) * w * s[1] for w, s in zip(weights, scores, strict=True)])
        return torch.cat([background[None], fused])

    def _scores(self, fused: Tensor, cues: Tensor) -> Tensor:
        """s_n (1 + slots, h, w) of m_n (1, d, h, w)."""
        if self.similarity is not None:
            fused = fused + self.similarity(cues[None])
        scores: Tensor = self.score(self.context(fused.relu()))
        return scores[0]


@dataclass(frozen=True, eq=False)
class Taught:
    """What is known of the classes.

    Attributes
    ----------
    prototypes
        (1 + C, d), background first; zero where nothing shows background.
    has_background
        Whether something does.
    averages
        What is known of each class without training.
    image
        (D, M) cells of the image that is asked about, where it lies in several tiles.
    """

    prototypes: Tensor
    has_background: bool
    averages: tuple[Similarity, ...]
    image: Tensor | None = None


State = AdditiveState[ShotPixels, Taught]


class PrototypeLearning(TrainedMethod[ShotPixels, Taught]):
    """PL."""

    name = "pl"
    configuration: ClassVar[type[PrototypeConfig]] = PrototypeConfig
    network = PrototypeNetworks

    @property
    def _parts(self) -> PrototypeNetworks:
        return cast(PrototypeNetworks, self.head)

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Taught:
        """Learn a prototype for every class and for the background."""
        labels = with_background(class_ids)
        shots = bounded(summaries, len(labels), _POOLED)
        found = [self.prototype(shots, value) for value in labels]
        like = next(p for p in found if p is not None)
        rows = torch.stack([torch.zeros_like(like) if p is None else p for p in found])
        return Taught(rows, found[0] is not None, similarities(self.levels, summaries, class_ids))

    def prototype(self, shots: Sequence[ShotPixels], value: int) -> Tensor | None:
        """p_n (d,): the mean over shots of the mean embedding of what shows a label; None where nothing does."""
        shown = [self.embedded(unit(shot.labels[value].features)).mean(0) for shot in shots if value in shot.labels]
        return torch.stack(shown).mean(0) if shown else None

    def embedded(self, features: Tensor) -> Tensor:
        """f of features (N, D) of length 1: (N, d)."""
        found: Tensor = self._parts.learner(self.on_head(features) * self.config.channels**0.5)
        return found

    def weights(self, taught: Taught, image: Tensor) -> Tensor:
        """w (C,) of an image with cells (D, M) of length 1: the probability of each class, by distance."""
        classes = taught.prototypes[1:]
        cells = self.embedded(image.T)  # (M, d)
        if self.config.paired:
            attention = nearness(cells, classes).softmax(0)  # (M, C)
            seen = attention.T @ cells
        else:
            seen = cells.mean(0).expand_as(classes)
        return nearness(seen, classes).diagonal().softmax(0)

    def adapt(self, state: State, image: Iterable[FeaturePyramid]) -> State:
        """Look at all of an image before its tiles are answered for; see `Transductive`."""
        if len(state.solution.averages) == 1:  # its weight is 1 in any case
            return state
        seen = self.levels.draw(image, _LOOKED_AT)
        return AdditiveState(state.summaries, replace(state.solution, image=seen))

    def logits(self, solution: Taught, query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Score, fuse and compare with the background."""
        cells, level = self.levels.cells(query)
        image = self.levels.draw([query], _LOOKED_AT) if solution.image is None else solution.image
        fused = self._fused(solution, cells, self.weights(solution, image))
        if not self.config.corrects:
            return fused, level
        return fused + self.on_head(torch.stack([known.logit(cells) for known in solution.averages])), level

    def _fused(self, taught: Taught, cells: Tensor, weights: Tensor) -> Tensor:
        """Scores (C, h, w) of each class above those of the background."""
        number = len(weights)
        order = torch.arange(number, device=weights.device)
        if self.config.slots and self.head.training:  # permutation training: no slot belongs to any class
            order = torch.randperm(number).to(order)
        classes, cues = taught.prototypes[1:], torch.stack([known.cues(cells) for known in taught.averages])
        query, cues = self.on_head(cells), self.on_head(cues)
        answers = []
        for some in order.split(self.config.slots or number):
            scores = self._parts.segmenter(query, classes[some], weights[some], cues[some])
            answers.append(scores[1:] - scores[:1])
        return torch.cat(answers)[order.argsort()]

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Loss of the segmentation, and J_cls of the prototype learner, weighted alike."""
        taught = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        logits, level = self.logits(taught, episode.query)
        losses = segmentation_losses(above_the_others(logits), level, episode)
        auxiliary = self._class_loss(taught, episode)
        return losses if auxiliary is None else losses | {"class": auxiliary}

    def _class_loss(self, taught: Taught, episode: Episode) -> Tensor | None:
        """J_cls: what a label masks on the query has to lie nearest to the prototype of that label."""
        seen = self.summarise(SupportFeatures.whole(episode.query, episode.labels, "query"))
        first = 0 if taught.has_background else 1
        prototypes, values = taught.prototypes[first:], with_background(episode.class_ids)[first:]
        found = {i: self.prototype([seen], value) for i, value in enumerate(values)}
        masked = {i: vector for i, vector in found.items() if vector is not None}
        if not masked or len(prototypes) == 1:
            return None
        distances = nearness(torch.stack([*masked.values()]), prototypes)
        return F.cross_entropy(distances, torch.tensor([*masked], device=distances.device))


def nearness(vectors: Tensor, prototypes: Tensor) -> Tensor:
    """Minus the squared distances (M, N) of vectors (M, d) and prototypes (N, d), over the root of d.

    Not divided like this they would grow with d, and the softmax over them would know only 0 and 1.
    """
    lengths = vectors.square().sum(1)[:, None] + prototypes.square().sum(1)
    near: Tensor = (2 * vectors @ prototypes.T - lengths) / vectors.shape[1] ** 0.5
    return near


def above_the_others(logits: Tensor) -> Tensor:
    """Log odds (C, ...) of each class against all others and the background, where softmax([0, logits]) joins them."""
    joined = torch.cat([torch.zeros_like(logits[:1]), logits]).log_softmax(0)
    others = [torch.cat([joined[:n], joined[n + 1 :]]).logsumexp(0) for n in range(1, len(joined))]
    return joined[1:] - torch.stack(others)


def untrained(strides: tuple[int, ...]) -> SGOne:
    """What is left without training: the cosine with the average of a class, on the features that tell it."""
    return SGOne(MatchingLevels(strides), relevance=True)


def make(backbone: Backbone) -> SGOne | PrototypeLearning:
    """With both networks where they were trained on this backbone, else by averages alone."""
    return PrototypeLearning.trained_or_none(backbone) or untrained(backbone.matching_strides)
