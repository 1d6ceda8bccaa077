"""RePRI: region proportion regularised inference (Boudiaf et al., CVPR 2021, arXiv 2012.06166).

Nothing of it needs training, neither here nor in the paper, whose point that is: a classifier with one vector per class
is fitted to the shots *and* to the image to propose for ("transduction"). It shall be right on the shots (CE), sure on
the query (H), and find as much of every class there as it did before (KL): otherwise being sure of nothing were best.

The shots have the last word. A classifier that has come to segment them worse than the one that was fitted to them
alone, or that finds a very different amount on the query, is not used: that is how things are invented on images
without any.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, calibrate
from napari_fewshot.models.blocks.descent import Plain, steps
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels, unit
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

TEMPERATURE: Final = 20.0
"""tau."""

RATE: Final = 0.025
STEPS: Final = 50

REFRESH: Final = 10
"""t_pi: after so many steps pi is what is found by then, and counts one more (as in the authors' code)."""

_PIXELS_PER_LABEL: Final = 4000
"""Pixels of the shots that are looked at."""

_QUERY_CELLS: Final = 4000
"""Cells of the query that are looked at."""

_MOST_CHANGE: Final = 5.0
"""Factor by which the amount that is found of a class may differ from what the shots alone find."""

_LITTLE: Final = 1e-3
"""Share of the image below which amounts are alike."""

_NO_LESS: Final = 1e-10


@dataclass(frozen=True, eq=False)
class Classifier:
    """theta (eq. 2): logits are tau cos(z, w_c) - b_c for the classes, and 0 for the background.

    Attributes
    ----------
    w
        (C, D).
    b
        (C,).
    """

    w: Tensor
    b: Tensor

    def logits(self, z: Tensor) -> Tensor:
        """(1 + C, ...) of features (D, ...). For one class their softmax is the sigmoid of the paper."""
        return one_vs_rest(TEMPERATURE * cosine_map(z, self.w) - self.b.view(-1, *[1] * (z.ndim - 1)))

    def marginal(self, z: Tensor) -> Tensor:
        """Average probability (1 + C,) of each label over cells (D, N)."""
        return self.logits(z).softmax(0).mean(1)


@dataclass(frozen=True, eq=False)
class Taught:
    """Pixels of all shots.

    Attributes
    ----------
    z
        (D, N) of length 1.
    y
        (N,) 0 for background, c for the c-th class.
    weight
        (N,) summing to 1; all shots weigh the same.
    shots
        K.
    """

    z: Tensor
    y: Tensor
    weight: Tensor
    shots: int

    @classmethod
    def of(cls, shots: Sequence[ShotPixels], labels: tuple[int, ...]) -> "Taught":
        """Join the pixels of all shots that show anything."""
        showing = [shot for shot in shots if shot.labels]
        z, y, weight = [], [], []
        for shot in showing:
            total = sum(pixels.area for pixels in shot.labels.values())
            for value, pixels in shot.labels.items():
                share = pixels.area / total if shot.is_dense else 1 / len(shot.labels)
                z.append(unit(pixels.features))
                y.append(torch.full_like(pixels.at[:, 0], labels.index(value)))
                weight.append(z[-1].new_full((len(pixels),), share / len(pixels) / len(showing)))
        return cls(torch.cat(z).T.contiguous(), torch.cat(y), torch.cat(weight), len(showing))

    def iou(self, classifier: Classifier) -> float:
        """Mean IoU over the classes of what a classifier makes of these pixels."""
        guess = classifier.logits(self.z).argmax(0)
        values = torch.arange(1, 1 + len(classifier.w), device=guess.device)[:, None]
        hit, union = (guess == values) & (self.y == values), (guess == values) | (self.y == values)
        return float(((hit * self.weight).sum(1) / (union * self.weight).sum(1)).mean())


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learnt.

    Attributes
    ----------
    taught
        Pixels of the shots.
    prototypes
        (C, D) average of each class, w at first.
    inductive
        What was fitted to the shots alone.
    transductive
        What was fitted to a query as well, if it was and the shots did not object.
    """

    taught: Taught
    prototypes: Tensor
    inductive: Classifier
    transductive: Classifier | None = None


State = AdditiveState[ShotPixels, Fitted]


class RePRI(AdditiveMethod[ShotPixels, Fitted]):
    """A classifier that is fitted to each query as well.

    Parameters
    ----------
    levels
        Features to compare.
    rate
        Of gradient descent.
    number
        Of its steps.
    """

    name = "repri"

    def __init__(self, levels: MatchingLevels, rate: float = RATE, number: int = STEPS) -> None:
        self.levels = levels
        self.rate = rate
        self.number = number

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Fitted:
        """Fit a classifier to the shots alone."""
        labels = with_background(class_ids)
        taught = Taught.of(bounded(summaries, len(labels), _PIXELS_PER_LABEL), labels)
        prototypes, thresholds = [], []
        for c in range(1, len(labels)):
            here = taught.y == c
            w = taught.z[:, here] @ taught.weight[here]
            prototypes.append(w / taught.weight[here].sum())
            similarity = cosine_map(taught.z, w[None])[0]
            thresholds.append(calibrate(similarity, here, taught.weight, IN_SAMPLE).threshold)
        w = torch.stack(prototypes)
        start = Classifier(w, TEMPERATURE * w.new_tensor(thresholds))
        inductive = self._descend(start, cross_entropy, (taught.z, taught.y, taught.weight), self.number)
        return Fitted(taught, w, inductive)

    def adapt(self, state: State, image: Iterable[FeaturePyramid], proportions: Tensor | None = None) -> State:
        """Fit the classifier to a query as well.

        Parameters
        ----------
        state
            What was learnt from the shots; not changed.
        image
            Features of the query, or of some tiles of it.
        proportions
            (1 + C,) pi, where it is known how much of the image each label covers; None to find out.
        """
        fitted = state.solution
        query = self.levels.draw(image, _QUERY_CELLS)
        found = self._transductive(fitted, query, proportions)
        return replace(state, solution=replace(fitted, transductive=_better(fitted, found, query)))

    def predict(self, state: State, query: FeaturePyramid) -> Tensor:
        """Classify every pixel; fit to this query first, if the state was not."""
        fitted = state.solution
        if fitted.transductive is None:
            fitted = self.adapt(state, [query]).solution
            assert fitted.transductive is not None
        cells, level = self.levels.cells(query)
        return probabilities(fitted.transductive.logits(cells), level, query.size)

    def _transductive(self, fitted: Fitted, query: Tensor, proportions: Tensor | None) -> Classifier:
        """Minimise eq. 1."""
        taught = fitted.taught
        w = fitted.prototypes
        # b is such that logits are 0 on average, as in the authors' code; the paper takes the average probability.
        at = Classifier(w, TEMPERATURE * cosine_map(query, w).mean(1))
        weight = 1 / taught.shots  # lambda_H and lambda_KL
        before = min(REFRESH, self.number)
        for number, kl_weight in ((before, weight), (self.number - before, weight + 1)):  # eq. 3
            pi = at.marginal(query) if proportions is None else proportions
            objective = partial(_objective, entropy_weight=weight, kl_weight=kl_weight)
            at = self._descend(at, objective, (taught.z, taught.y, taught.weight, query, pi), number)
        return at

    def _descend(
        self, start: Classifier, loss: Callable[..., Tensor], constants: tuple[Tensor, ...], number: int
    ) -> Classifier:
        *_, ((w, b), _) = steps((start.w, start.b), loss, constants, Plain(self.rate), number + 1)
        return Classifier(w, b)


def cross_entropy(w: Tensor, b: Tensor, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """CE of eq. 1: of pixels (D, N) with their labels."""
    return weight @ F.cross_entropy(Classifier(w, b).logits(z).T, y, reduction="none")


def entropy(logits: Tensor) -> Tensor:
    """H of eq. 1: Shannon entropy of logits (1 + C, N), averaged over the cells; 0 where all is sure."""
    surprise = -logits.log_softmax(0)
    return (logits.softmax(0) * surprise).sum(0).mean()


def divergence(marginal: Tensor, pi: Tensor) -> Tensor:
    """D_KL of eq. 1: how far amounts (1 + C,) are from those that are asked for; 0 if they are the same."""
    marginal, pi = marginal.clamp_min(_NO_LESS), pi.clamp_min(_NO_LESS)
    return (marginal * (marginal / pi).log()).sum()


def _objective(
    w: Tensor,
    b: Tensor,
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    query: Tensor,
    pi: Tensor,
    entropy_weight: float,
    kl_weight: float,
) -> Tensor:
    """Compute eq. 1."""
    logits = Classifier(w, b).logits(query)
    unsure, wrong_amount = entropy(logits), divergence(logits.softmax(0).mean(1), pi)
    return cross_entropy(w, b, z, y, weight) + entropy_weight * unsure + kl_weight * wrong_amount


def _better(fitted: Fitted, found: Classifier, query: Tensor) -> Classifier:
    """Choose: what was found with the query, or, if the shots object, what was found without."""
    alone = fitted.inductive
    if fitted.taught.iou(found) < fitted.taught.iou(alone):
        return alone
    amounts = [classifier.marginal(query)[1:] + _LITTLE for classifier in (found, alone)]
    change = float((amounts[0] / amounts[1]).log().abs().max().exp())
    return found if change <= _MOST_CHANGE else alone


def make(backbone: Backbone) -> RePRI:
    """Compare on the levels that the backbone recommends."""
    return RePRI(MatchingLevels(backbone.matching_strides))
