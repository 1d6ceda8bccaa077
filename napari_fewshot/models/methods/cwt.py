"""CWT: classifier weight transformer (Lu et al., ICCV 2021, arXiv 2108.03032), without its trained transformer.

The paper's first half is here in full: a linear classifier without a constant is fitted to the pixels of the shots,
on features that stay as they are. That "surprisingly strong baseline" is what a proposal is made of.

Its second half lets the weights of the classifier look at the query by one layer of attention (eqs. 2 and 3), whose
projections are trained. What is here are the equations with the projections that need no training, multiples of the
identity: the weights of a label move towards those cells of the query that they already agree with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels, unit
from napari_fewshot.models.blocks.linear_head import fit_linear_head
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background

_PIXELS_PER_LABEL: Final = 4000
"""Pixels of the shots that the head is fitted to, over all shots."""

_QUERY_CELLS: Final = 4000
"""Cells of the query that are attended to."""

_NEVER: Final = -60.0  # the logit of a label that nobody painted


@dataclass(frozen=True, eq=False)
class Head:
    """The classifier.

    Attributes
    ----------
    w
        (1 + C, D), background first.
    painted
        (1 + C,) whether a label was painted anywhere; others are never proposed.
    attended
        Whether the weights were adapted to a query.
    """

    w: Tensor
    painted: Tensor
    attended: bool = False

    def logits(self, cells: Tensor) -> Tensor:
        """Of cells (D, h, w): (1 + C, h, w)."""
        scores: Tensor = torch.tensordot(self.w, F.normalize(cells, dim=0, eps=1e-6), 1)
        return scores.masked_fill(~self.painted[:, None, None], _NEVER)


State = AdditiveState[ShotPixels, Head]


class CWT(AdditiveMethod[ShotPixels, Head]):
    """A linear head, fitted to the shots, that may attend to the query.

    Parameters
    ----------
    levels
        Features to classify.
    shrinkage
        lambda: weight of |w|^2 / 2 beside the cross-entropy. The paper stops after 200 steps instead, with about the
        same effect; so there is one optimum.
    attention
        How far weights move towards what they attend to, in shares of their length: psi of eq. 3 as a multiple of the
        identity. 0 is the head as the shots made it: without training nothing was better (docs/methods.md).
    """

    name = "cwt"

    def __init__(self, levels: MatchingLevels, shrinkage: float = 1e-4, attention: float = 0.0) -> None:
        self.levels = levels
        self.shrinkage = shrinkage
        self.attention = attention

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Head:
        """Fit w: all labels weigh the same, as in the authors' code (background 1, the class n_bg / n_fg)."""
        labels = with_background(class_ids)
        pooled = [
            [
                unit(shot.labels[value].features)
                for shot in bounded(summaries, len(labels), _PIXELS_PER_LABEL)
                if value in shot.labels
            ]
            for value in labels
        ]
        rows = [torch.cat(parts) for parts in pooled if parts]
        x = torch.cat(rows)
        numbers = torch.tensor([len(r) for r in rows], device=x.device)
        y = torch.arange(len(rows), device=x.device).repeat_interleave(numbers)
        weight = (1 / (len(rows) * numbers.to(x.dtype)))[y]
        painted = torch.tensor([bool(parts) for parts in pooled], device=x.device)
        w = x.new_zeros(len(labels), x.shape[1])
        w[painted] = fit_linear_head(x, y, weight, self.shrinkage)
        return Head(w, painted)

    def adapt(self, state: State, image: Iterable[FeaturePyramid]) -> State:
        """Let the weights attend to a query; see `Transductive`."""
        head = state.solution
        if not self.attention or head.attended:
            return state
        w = attend(head.w, self.levels.draw(image, _QUERY_CELLS), self.attention)
        return replace(state, solution=replace(head, w=w, attended=True))

    def predict(self, state: State, query: FeaturePyramid) -> Tensor:
        """Classify every pixel; attend to this query first, if the state did not."""
        head = self.adapt(state, [query]).solution
        cells, level = self.levels.cells(query)
        return probabilities(head.logits(cells), level, query.size)


def attend(w: Tensor, query: Tensor, share: float) -> Tensor:
    """Adapt the weights of a classifier to a query (eqs. 2 and 3).

    With W_q W_k^T / sqrt(d_a) = W_v = I and psi = share |w_c|. The softmax of the classifier compares its rows, so what
    is added to all of them alike changes nothing: only how differently labels attend does.

    Parameters
    ----------
    w
        (1 + C, D).
    query
        (D, N) cells of length 1, in any order.
    share
        Of the length of each row.

    Returns
    -------
    Tensor
        (1 + C, D) w*; ``w`` itself for a share of 0.
    """
    attention = (w @ query).softmax(1)  # (1 + C, N), rows summing to 1
    values = attention @ query.T  # (1 + C, D), inside of the convex hull of the query's features
    length: Tensor = w.norm(dim=1, keepdim=True)
    return w + share * length * values


def make(backbone: Backbone) -> CWT:
    """Classify on the levels that the backbone recommends, as they come."""
    return CWT(MatchingLevels(backbone.matching_strides, standardised=False))
