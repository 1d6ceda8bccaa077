"""The way back: what was found on a query is asked to find again what was painted on the shots (PANet, section 3.5).

In training this is a loss, the *prototype alignment regularisation*. On an image without labels it is a sign of quality
that needs none: a proposal that is right segments the shots about as well as they segment themselves.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, one_against_rest
from napari_fewshot.models.blocks.pooling import masked_pool
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.support import BACKGROUND, UNLABELLED


def alignment_loss(
    query: Tensor,
    found: Tensor,
    shots: Sequence[tuple[Tensor, Tensor]],
    level: Level,
    class_ids: Sequence[int],
    alpha: float = 20.0,
) -> Tensor:
    """Cross-entropy of the shots with what the query makes of them (eqs. 6 and 7): L_PAR.

    Each class is told from the background alone, on each shot that shows it; pixels of other classes are left out, as
    in the authors' code. (Eq. 7 of the paper names the mask of the query, where that of the shot is meant.)

    Parameters
    ----------
    query
        (D, h, w) features.
    found
        (H, W) labels that were predicted for it, the most probable ones: 0 or a class.
    shots
        Features (D, h, w) and labels (H, W) of each, 255 where nothing is known.
    level
        On whose cells features lie.
    class_ids
        Of the episode.
    alpha
        Scale of the cosine.

    Returns
    -------
    Tensor
        A number: the average over shots and classes. 0 where nothing was found, or nothing else.
    """
    losses = []
    for class_id in class_ids:
        prototypes, mass = masked_pool(query, level, torch.stack([found == BACKGROUND, found == class_id]))
        if not bool((mass > 0).all()):
            continue
        for features, labels in shots:
            if not bool((labels == class_id).any()):
                continue
            target = torch.full_like(labels, UNLABELLED)
            target[labels == BACKGROUND], target[labels == class_id] = 0, 1
            logits = upsample(alpha * cosine_map(features, prototypes), level, (labels.shape[0], labels.shape[1]))
            losses.append(F.cross_entropy(logits[None], target[None], ignore_index=UNLABELLED))
    return torch.stack(losses).mean() if losses else query.sum() * 0


class Cycle:
    """Averages of what was proposed for an image, collected tile by tile, and how well they find the shots again."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}

    def add(self, cells: Tensor, level: Level, labels: Tensor) -> None:
        """Take in a part of the image.

        Parameters
        ----------
        cells
            (D, h, w) features.
        level
            On whose cells they lie.
        labels
            (H, W) what was proposed; 255 for pixels that another part answers for.
        """
        for value in labels.unique().tolist():
            if value != UNLABELLED:
                means, mass = masked_pool(cells, level, (labels == value)[None])
                self._sums[value] = self._sums.get(value, 0) + mass * means[0]

    def ious(self, shots: Sequence[ShotPixels], class_ids: Sequence[int]) -> dict[int, float]:
        """IoU of each class on the shots that show it, as the averages of the image segment them.

        Each is told from the background alone; pixels of other classes are left out. Classes of which nothing was
        proposed have no way back, nor has any where nothing was proposed to be background: they are not in the answer.
        """
        quality = {}
        for class_id in class_ids:
            showing = [_only(shot, (BACKGROUND, class_id)) for shot in shots if class_id in shot.labels]
            if class_id not in self._sums or BACKGROUND not in self._sums or not showing:
                continue
            view = one_against_rest(showing, class_id)
            # A sum is as parallel to a feature as an average.
            both = torch.stack([self._sums[BACKGROUND], self._sums[class_id]])
            background, own = cosine_map(view.features.T, both)
            guess = own > background
            hit, union = (view.weight[side].sum() for side in (guess & view.positive, guess | view.positive))
            quality[class_id] = float(hit / union)
        return quality


def _only(shot: ShotPixels, values: tuple[int, ...]) -> ShotPixels:
    """A shot with some of its labels."""
    return ShotPixels({v: shot.labels[v] for v in values if v in shot.labels}, shot.is_dense)
