"""Multinomial logistic regression on standardised multi-level features, with every label weighing the same.

Minimises  sum_i d_i log p(y_i | x_i) + lambda / 2 |W|^2  with p = softmax(W^T x + b), where d_i makes up for the
number of pixels of each label (Hastie, Tibshirani & Friedman, 2009, section 4.4). Unlike least squares it does not
mind by how far a pixel is right, so pixels near the border decide, not the bulk of an object.

A label that covers much is then made more likely than a rare one, by a small power of its share of the taught area: on
other images shares differ, so they are not believed in full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.optimize import minimize
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.levels import LiftedLevels
from napari_fewshot.models.blocks.pixels import choose_pixels
from napari_fewshot.models.devices import quiet_blas, widest_float
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

_PIXELS_PER_LABEL: Final = 3000
"""Pixels looked at per label and shot."""

_PIXELS_IN_ALL: Final = 12000
"""Pixels looked at per label over all shots."""

_ROWS: Final = {"cpu": 1024}
"""Pixels gone through at once, by kind of device: few enough to stay in the cache of a processor."""

_ITERATIONS: Final = 100
_TOLERANCE: Final = 1e-9  # of the loss ...
_GRADIENT: Final = 1e-5  # ... or of its largest slope, evened: logits are right to about a thousandth with either
_BEND: Final = 0.1  # c, between that of shots that nothing tells apart (1/4) and of such as are told apart well
_FLOOR: Final = 0.1
_NEVER: Final = -60.0  # the logit of a label that nobody painted


@dataclass(frozen=True, eq=False)
class Samples:
    """Some pixels of one label of one shot.

    Attributes
    ----------
    features
        (N, D), half precision.
    area
        Pixels that have this label; 0 on a partly labelled shot, where painted areas say nothing.
    """

    features: Tensor
    area: int


ShotSamples = Mapping[int, Samples]


@dataclass(frozen=True, eq=False)
class LogisticWeights:
    """Logits are ``x W + offset``.

    Attributes
    ----------
    weights
        (D, 1 + C).
    offset
        (1 + C,).
    """

    weights: Tensor
    offset: Tensor


class Logistic(AdditiveMethod[ShotSamples, LogisticWeights]):
    """Multi-class classifier on pixels.

    Parameters
    ----------
    shrinkage
        lambda at one shot, for features of unit variance and weights d that sum to 1; of K shots it is divided by
        sqrt(K): what several images agree on can be believed further.
    prior
        Between 0, every label as likely as any other, and 1, as likely as its share of the taught area.
    levels
        Which features there are of a pixel.
    """

    name = "logistic"

    def __init__(self, shrinkage: float = 0.05, prior: float = 0.25, levels: LiftedLevels | None = None) -> None:
        self.shrinkage = shrinkage
        self.prior = prior
        self.levels = LiftedLevels() if levels is None else levels

    def summarise(self, shot: SupportFeatures) -> ShotSamples:
        """Keep the features of some pixels of every label of a shot."""
        found: dict[int, list[Tensor]] = {}
        areas: dict[int, int] = {}
        for pyramid, labels in shot.parts():
            for value, (ys, xs) in choose_pixels(labels, _PIXELS_PER_LABEL).items():
                found.setdefault(value, []).append(self.levels.sample(pyramid, ys, xs).half())
                areas[value] = areas.get(value, 0) + int((labels == value).sum())
        return {
            value: Samples(_thinned(torch.cat(parts), _PIXELS_PER_LABEL), areas[value] if shot.is_dense else 0)
            for value, parts in found.items()
        }

    def combine(self, summaries: Sequence[ShotSamples], class_ids: tuple[int, ...]) -> LogisticWeights:
        """Fit to everything that was taught."""
        pooled = [[shot[v] for shot in summaries if v in shot] for v in with_background(class_ids)]
        features = [_thinned(torch.cat([s.features for s in parts]), _PIXELS_IN_ALL) for parts in pooled if parts]
        there = [column for column, parts in enumerate(pooled) if parts]
        x = torch.cat(features).float()  # (N, D)
        numbers = torch.tensor([len(f) for f in features], device=x.device)
        y = torch.arange(len(there), device=x.device).repeat_interleave(numbers)
        mean = x.mean(0)
        deviation = _deviation(x.sub_(mean)) + _FLOOR
        told = sum(1 for shot in summaries if shot)  # not those on which nothing is labelled
        shrinkage = self.shrinkage / told**0.5
        fitted = _fit(x.div_(deviation), y, numbers, shrinkage)  # (labels there, D + 1)
        areas = torch.tensor([float(sum(s.area for s in pooled[column])) for column in there], device=x.device)
        offset = fitted[:, -1] + self.prior * _log_shares(areas)
        weights = fitted[:, :-1].T / deviation[:, None]
        made = LogisticWeights(x.new_zeros(x.shape[1], len(pooled)), x.new_full((len(pooled),), _NEVER))
        made.weights[:, there] = weights
        made.offset[there] = offset - mean @ weights
        return made

    def predict(self, state: AdditiveState[ShotSamples, LogisticWeights], query: FeaturePyramid) -> Tensor:
        """Apply W to every level at its own stride."""
        solution = state.solution
        return self.levels.apply(query, solution.weights).add_(solution.offset[:, None, None]).softmax(0)


def _thinned(rows: Tensor, most: int) -> Tensor:
    """Take every n-th row so that no more than ``most`` are left."""
    return rows if len(rows) <= most else rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).long()]


def _deviation(centred: Tensor) -> Tensor:
    """Root mean square of each column; part by part, which is far faster than `Tensor.std`."""
    return torch.stack([part.square().sum(0) for part in centred.split(1024)]).sum(0).div_(len(centred)).sqrt_()


def _fit(x: Tensor, y: Tensor, numbers: Tensor, shrinkage: float) -> Tensor:
    """Minimise the loss over W and b, joined: (labels, D + 1)."""
    labels, width = len(numbers), x.shape[1]
    share = (1 / (labels * numbers.float()))[y]  # d
    rows = _ROWS.get(x.device.type, len(x))
    parts = list(zip(x.split(rows), y[:, None].split(rows), share[:, None].split(rows), strict=True))
    to_even, widest = _evening(x, numbers, shrinkage), widest_float(x.device)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        joined = torch.from_numpy(flat.astype(np.float32)).to(x.device).view(labels, width + 1)
        weights, constant = joined[:, :-1] @ to_even, joined[:, -1]
        value = weights.square().sum(dtype=widest).mul_(shrinkage / 2)
        slopes, slope = weights * shrinkage, torch.zeros_like(constant)
        for features, label, weight in parts:
            scores = F.linear(features, weights, constant).log_softmax(1)  # (rows, labels)
            value -= scores.gather(1, label).mul_(weight).sum(dtype=widest)
            residual = scores.exp_().scatter_add_(1, label, torch.full_like(weight, -1)).mul_(weight)
            slopes.addmm_(residual.T, features)
            slope += residual.sum(0)
        gradient = torch.cat([slopes @ to_even.T, slope[:, None]], 1)
        return float(value), gradient.cpu().double().numpy().ravel()

    options = {"maxiter": _ITERATIONS, "maxcor": 10, "ftol": _TOLERANCE, "gtol": _GRADIENT}
    with quiet_blas():
        found = minimize(loss, np.zeros(labels * (width + 1)), jac=True, method="L-BFGS-B", options=options)
    joined = torch.from_numpy(found.x.astype(np.float32)).to(x.device).view(labels, width + 1)
    return torch.cat([joined[:, :-1] @ to_even, joined[:, -1:]], 1)


def _evening(x: Tensor, numbers: Tensor, shrinkage: float) -> Tensor:
    """Return a (D, D) matrix A for W = U A, such that the loss bends alike in all directions of U.

    Then few steps suffice (preconditioning). The loss bends by  p (1 - p) X'dX + lambda  at most by 1/4 of the first
    part (Boehning, 1992) and by less where the shots are told apart well. With A = L^-1 for  L L' = c X'dX + lambda
    that becomes nearly round, and some of the pixels of each label tell enough of X'dX.
    """
    step = max(1, len(x) // (2 * x.shape[1]))
    bend = torch.zeros(x.shape[1], x.shape[1], device=x.device)
    for rows in x.split(numbers.tolist()):  # one label after the other: in whatever order, the same pixels
        some = rows[::step]
        bend.addmm_(some.T, some, alpha=_BEND / (len(numbers) * len(some)))
    bend.diagonal().add_(shrinkage)
    identity = torch.eye(len(bend), device=x.device)
    inverse: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(bend), identity, upper=False)
    return inverse


def _log_shares(areas: Tensor) -> Tensor:
    """Log of each label's share of the area, the largest 0; all 0 where no shot is fully labelled."""
    return torch.zeros_like(areas) if areas.sum() == 0 else (areas.clamp_min(1) / areas.max()).log()


def make(backbone: Backbone) -> Logistic:
    """Use every level of the backbone."""
    return Logistic()
