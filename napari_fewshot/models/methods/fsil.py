"""FSIL: few-shot segmentation with image-level labels (Lei et al., 2020, arXiv 2007.01496), without its training.

PANet, whose prototypes learn from further images on which nobody painted anything: of these it is only known that they
show a class. What looks like the class there is averaged ("distilled" pooling: what is not alike enough counts for
nothing) and fused with the average of the shots; with that it is looked for again, some times over ("iterative
fusion").

The paper gives no constants, and no code was published: rounds, threshold and weight of the fusion are ours. The
prototype of the background is what keeps other things on such an image out, so the shots should show some.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import (
    ShotPixels,
    bounded,
    collect_pixels,
    one_against_rest,
    single,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import (
    AdditiveMethod,
    AdditiveState,
    SupportFeatures,
    TaggedFeatures,
    with_background,
)
from napari_fewshot.models.methods.panet import PANet, Prototypes

ROUNDS: Final = 3
"""T: how often is looked for with what was found."""

GAMMA: Final = 1.0
"""How much what was found counts at the most, against the shots: where all of it is found for certain."""

QUANTILE: Final = 0.5
"""Share of the painted pixels of a class that are less like their average than what counts on other images."""

LEAST: Final = 0.01
"""Share of an image that has to count; where it is less, the image is left out."""

NO_WORSE: Final = 0.95
"""Share of the IoU on the shots that has to be left after the fusion. In the paper a loss on the shots sees to it that
prototypes do not drift."""

_TRIM: Final = 0.2
"""Share of the images that is left out at either end of each feature: one tag that is wrong does no harm among five."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of a shot."""

    prototypes: Prototypes
    pixels: ShotPixels


@dataclass(frozen=True, eq=False)
class Fused:
    """What was learnt.

    Attributes
    ----------
    taught
        (1 + C, D) prototypes of the shots, background first: those of PANet.
    least
        (C,) delta: cosine with the prototype of its class from which on a cell of a tagged image counts.
    prototypes
        (1 + C, D) after the fusion; those of the shots as long as there is nothing to fuse with.
    class_ids
        Of the classes, in this order.
    shots
        Pixels of all shots.
    """

    taught: Tensor
    least: Tensor
    prototypes: Tensor
    class_ids: tuple[int, ...]
    shots: tuple[ShotPixels, ...]

    def iou(self, row: int, prototype: Tensor) -> float:
        """How well the shots are segmented when this is the prototype of a class, the others those of the shots."""
        view = one_against_rest(self.shots, self.class_ids[row - 1])
        prototypes = self.taught.clone()
        prototypes[row] = prototype
        guess = cosine_map(view.features.T, prototypes).argmax(0) == row
        hit, union = (view.weight[side].sum() for side in (guess & view.positive, guess | view.positive))
        return float(hit / union)


State = AdditiveState[Seen, Fused]


class FSIL(AdditiveMethod[Seen, Fused]):
    """PANet whose prototypes learn from tagged images.

    Parameters
    ----------
    strides
        Levels to compare on, concatenated on the finest of them.
    alpha
        Scale of the cosine before the softmax.
    gamma
        How much tagged images count at the most, from 0, which is PANet, to 1.
    rounds
        Of the fusion.
    no_worse
        Share of its IoU on the shots that has to be left to a class: otherwise its prototype stays that of the shots.
    """

    name = "fsil"

    def __init__(
        self,
        strides: tuple[int, ...],
        alpha: float = 20.0,
        gamma: float = GAMMA,
        rounds: int = ROUNDS,
        no_worse: float = NO_WORSE,
    ) -> None:
        self.panet = PANet(strides, alpha)
        self.levels = MatchingLevels(strides, standardised=False)
        self.gamma = gamma
        self.rounds = rounds
        self.no_worse = no_worse

    def summarise(self, shot: SupportFeatures) -> Seen:
        """Pool the features of every label, and keep some pixels to tell how alike those of a class are."""
        return Seen(self.panet.summarise(shot), collect_pixels(shot.parts(), self.levels, shot.is_dense))

    def combine(self, summaries: Sequence[Seen], class_ids: tuple[int, ...]) -> Fused:
        """Average over the shots."""
        prototypes = self.panet.combine([seen.prototypes for seen in summaries], class_ids)
        shots = bounded([seen.pixels for seen in summaries], len(with_background(class_ids)))
        least = [_least(shots, class_id, prototypes[row]) for row, class_id in enumerate(class_ids, 1)]
        return Fused(prototypes, torch.stack(least), prototypes, class_ids, tuple(shots))

    def refine(self, state: State, tagged: Sequence[TaggedFeatures]) -> State:
        """Fuse the prototype of every class with what is found of it on images that show it; see `TakesTags`."""
        learnt = state.solution
        at = learnt.taught
        for _ in range(self.rounds):
            after = self._fused(learnt, at, tagged)
            if torch.equal(after, at):
                break
            at = after
        return replace(state, solution=replace(learnt, prototypes=self._no_worse(learnt, at)))

    def _no_worse(self, learnt: Fused, fused: Tensor) -> Tensor:
        """Keep the prototypes of the shots for classes that the shots are segmented worse with."""
        kept = learnt.taught.clone()
        for row in range(1, len(fused)):
            if learnt.iou(row, fused[row]) >= self.no_worse * learnt.iou(row, kept[row]):
                kept[row] = fused[row]
        return kept

    def _fused(self, learnt: Fused, at: Tensor, tagged: Sequence[TaggedFeatures]) -> Tensor:
        """Make a round: look for the classes with these prototypes, and fuse what is found with those of the shots."""
        found: dict[int, list[Found]] = {}
        for image in tagged:
            for row, one in self._found(learnt, at, image).items():
                found.setdefault(row, []).append(one)
        fused = learnt.taught.clone()
        for row, several in found.items():
            gamma = self.gamma * sum(one.certainty for one in several) / len(several)
            fused[row] = (1 - gamma) * learnt.taught[row] + gamma * trimmed_mean(torch.stack([f.mean for f in several]))
        return fused

    def _found(self, learnt: Fused, at: Tensor, tagged: TaggedFeatures) -> Mapping[int, "Found"]:
        """What is found on one image: by row of the prototypes, of each class with which it is tagged."""
        rows = [1 + learnt.class_ids.index(class_id) for class_id in tagged.class_ids]
        pools = {row: Pool(at.new_zeros(at.shape[1])) for row in rows}
        for pyramid in tagged.image():
            cells, level = self.levels.cells(pyramid)
            height, width = (-(-pixels // level.stride) for pixels in pyramid.size)  # the rest is padding
            x = cells[:, :height, :width].flatten(1)
            similarity = cosine_map(x, at)  # (1 + C, N)
            certainty = (self.panet.alpha * similarity).softmax(0)
            for row in rows:
                pools[row].add(x, distilled(certainty[row], similarity[row], float(learnt.least[row - 1])))
        return {row: pool.found() for row, pool in pools.items() if pool.is_enough}

    def predict(self, state: State, query: FeaturePyramid) -> Tensor:
        """Compare with the prototypes as PANet does."""
        as_panet: AdditiveState[Prototypes, Tensor] = AdditiveState({}, state.solution.prototypes)
        return self.panet.predict(as_panet, query)


def distilled(certainty: Tensor, similarity: Tensor, least: float) -> Tensor:
    """Weight of each cell of an image that is known to show a class.

    Parameters
    ----------
    certainty
        (N,) q: probability of the class, against the background and the other classes.
    similarity
        (N,) d: cosine with its prototype.
    least
        delta.

    Returns
    -------
    Tensor
        (N,) q where d >= delta, else 0.
    """
    return torch.where(similarity >= least, certainty, 0)


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of a class on one image: its average feature (D,), and how certain it is, from 0 to 1."""

    mean: Tensor
    certainty: float


@dataclass(eq=False)
class Pool:
    """Adds up cells of an image, tile by tile."""

    total: Tensor
    """(D,)"""
    mass: float = 0.0
    kept: int = 0
    seen: int = 0

    def add(self, x: Tensor, weights: Tensor) -> None:
        """Take in cells (D, N) with their weights (N,)."""
        self.total = self.total + x @ weights
        self.mass += float(weights.sum())
        self.kept += int((weights > 0).sum())
        self.seen += len(weights)

    @property
    def is_enough(self) -> bool:
        """Whether there is enough to go by."""
        return self.mass >= LEAST * self.seen and self.mass > 0

    def found(self) -> Found:
        """The average, and how certain it is: that of the cells that count."""
        return Found(self.total / self.mass, self.mass / self.kept)


def trimmed_mean(values: Tensor) -> Tensor:
    """Average of values (N, D) over N, of each feature without the highest and lowest of five or more."""
    left_out = int(_TRIM * len(values))
    return values.sort(0).values[left_out : len(values) - left_out].mean(0)


def _least(shots: Sequence[ShotPixels], class_id: int, prototype: Tensor) -> Tensor:
    """Find delta: what most painted pixels of a class exceed in likeness to their average."""
    painted = [single(shot.labels[class_id].features) for shot in shots if class_id in shot.labels]
    alike = cosine_map(torch.cat(painted).T, prototype[None])[0]
    return alike.cpu().quantile(QUANTILE)  # it is used as a number; and MPS has not the float64 of torch's quantile


def make(backbone: Backbone) -> FSIL:
    """Compare on the levels that the backbone recommends."""
    return FSIL(backbone.matching_strides)
