"""ASR: anti-aliasing semantic reconstruction (Liu et al., CVPR 2021, arXiv 2106.00184), without its training.

Channels are split into groups. What a class looks like in each group is a vector of a basis; the class, and every pixel
of the query, are rebuilt in this basis from how strongly each group answers, and what of a pixel does not lie along the
class is filtered out by a projection.

The paper trains channels such that every group answers to one class of the training set, and such that groups are
orthogonal. Here nothing is trained, so what these losses bring about is made by construction:

* groups take channels in the order of how much more they answer to the class than to the rest;
* channels are split into what is above and below zero, so that no direction is lost when a group becomes a length;
* every group keeps to its own channels, so that the basis is orthogonal.

The decoder that judges what was filtered is trained as well. In its place stands the share of a pixel that the filter
keeps, cut where that fits the shots best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.calibration import IN_SAMPLE, Calibration, calibrate
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, bounded, collect_pixels, one_against_rest
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.resampling import probabilities
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures, with_background


@dataclass(frozen=True, eq=False)
class SemanticSpace:
    """What is known of one class: a basis v_1 .. v_B, and the class in it.

    Attributes
    ----------
    members
        (B, 2D) 1 where a rectified channel belongs to a group, else 0; every channel belongs to one.
    vector
        (2D,) v_s, the average rectified feature of the class, over its shots.
    calibration
        How the share of a pixel that the filter keeps becomes a logit.
    """

    members: Tensor
    vector: Tensor
    calibration: Calibration

    @property
    def weights(self) -> Tensor:
        """w (B,): the class in this basis, the length of its vector in each group (eq. 1)."""
        return lengths(self.vector.square(), self.members)

    @property
    def basis(self) -> Tensor:
        """v_b (B, 2D) of length 1, or 0 where the class does not answer in a group; orthogonal to each other."""
        return F.normalize(self.members * self.vector, dim=1)

    def logit(self, squares: Tensor) -> Tensor:
        """Answer for squared rectified cells (2D, ...): (...)."""
        return self.calibration.logit(kept(lengths(squares, self.members), self.weights))


class ASR(AdditiveMethod[ShotPixels, tuple[SemanticSpace, ...]]):
    """Projection of reconstructed features to the reconstructed class.

    Parameters
    ----------
    levels
        Features to reconstruct.
    groups
        B; in the paper the number of classes that were trained with (15 or 60).
    """

    name = "asr"

    def __init__(self, levels: MatchingLevels, groups: int = 16) -> None:
        self.levels = levels
        self.groups = groups

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[SemanticSpace, ...]:
        """Span a space for every class."""
        shots = bounded(summaries, len(with_background(class_ids)))
        return tuple(self._space(shots, class_id) for class_id in class_ids)

    def _space(self, shots: Sequence[ShotPixels], class_id: int) -> SemanticSpace:
        view = one_against_rest(shots, class_id)
        x = rectified(view.features.T)  # (2D, N)
        vector = _mean_over_shots(x, view.weight * view.positive, view.shot)
        elsewhere = _mean_over_shots(x, view.weight * ~view.positive, view.shot)
        members = grouped(vector - elsewhere, self.groups)
        share = kept(lengths(x.square(), members), lengths(vector.square(), members))
        return SemanticSpace(members, vector, calibrate(share, view.positive, view.weight, IN_SAMPLE))

    def predict(self, state: AdditiveState[ShotPixels, tuple[SemanticSpace, ...]], query: FeaturePyramid) -> Tensor:
        """Filter the query for every class, and join the answers."""
        cells, level = self.levels.cells(query)
        squares = rectified(cells).square_()
        logits = torch.stack([space.logit(squares) for space in state.solution])
        return probabilities(one_vs_rest(logits), level, query.size)


def rectified(x: Tensor) -> Tensor:
    """Split channels (D, ...) into what is above and what is below zero: (2D, ...), none of it negative."""
    return torch.cat([x.clamp_min(0), (-x).clamp_min(0)])


def grouped(answers: Tensor, groups: int) -> Tensor:
    """Split channels averagely into groups: those first that answer least.

    Parameters
    ----------
    answers
        (2D,) how much more a channel answers to the class than to the rest.
    groups
        B; no more than there are channels are made.

    Returns
    -------
    Tensor
        (B, 2D) 1 for the members of each group, else 0.
    """
    members = answers.new_zeros(min(groups, len(answers)), len(answers))
    for row, channels in zip(members, answers.argsort(stable=True).tensor_split(len(members)), strict=True):
        row[channels] = 1
    return members


def lengths(squares: Tensor, members: Tensor) -> Tensor:
    """W (B, ...): length of features in every group, from their squares (2D, ...). That is their place in the basis."""
    total: Tensor = torch.tensordot(members, squares, 1)
    return total.sqrt()


def filtered(places: Tensor, weights: Tensor) -> Tensor:
    """Project what was reconstructed to the class (eq. 5), in terms of an orthogonal basis.

    Parameters
    ----------
    places
        (B, ...) W of the query.
    weights
        (B,) w of the class.

    Returns
    -------
    Tensor
        (B, ...) all parallel to w, none longer than before.
    """
    along = F.normalize(weights, dim=0)
    projection: Tensor = torch.tensordot(along, places, 1)
    return projection * along.view(-1, *[1] * (places.ndim - 1))


def kept(places: Tensor, weights: Tensor) -> Tensor:
    """Share (...) of the length of each feature (B, ...) that `filtered` keeps, in [0, 1]; 0 for a feature of length 0.

    The length itself says how strong the contrast of a place is, which is different from image to image.
    """
    projection: Tensor = torch.tensordot(F.normalize(weights, dim=0), places, 1)
    length: Tensor = places.norm(dim=0)
    return projection / length.clamp_min(1e-6)


def _mean_over_shots(x: Tensor, weight: Tensor, shot: Tensor) -> Tensor:
    """Mean over shots of the weighted mean of their pixels (2D, N) -> (2D,); 0 where nothing has weight."""
    means = []
    for number in shot[weight > 0].unique():
        here = (shot == number) & (weight > 0)
        means.append(x[:, here] @ weight[here] / weight[here].sum())
    return torch.stack(means).mean(0) if means else torch.zeros_like(x[:, 0])


def make(backbone: Backbone) -> ASR:
    """Reconstruct the levels that the backbone recommends, as they come."""
    return ASR(MatchingLevels(backbone.matching_strides, standardised=False))
