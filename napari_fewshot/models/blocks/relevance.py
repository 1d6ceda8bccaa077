"""Which features tell a class from everything else (Nguyen & Todorovic, ICCV 2019, contribution 1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, any_mean


def feature_relevance(difference: Tensor) -> Tensor:
    """Solve: maximise phi^T r with r of length 1 (eq. 4 of FWB). That is r = phi / |phi| (eq. 5).

    Parameters
    ----------
    difference
        (D,) phi, the average feature of the class minus that of everything else.

    Returns
    -------
    Tensor
        (D,); all alike where there is no difference at all.
    """
    length = difference.norm()
    return F.normalize(difference, dim=0) if length > 1e-6 else torch.full_like(difference, len(difference) ** -0.5)


def foreground_minus_background(shots: Sequence[ShotPixels], class_id: int) -> Tensor:
    """Add up phi over the shots (eqs. 3 and 10 of FWB).

    Shots that show the class only, or no class, have no difference of their own. Where there are none but such, the
    averages of the ones are compared with the averages of the others; where nothing shows background, phi is 0.

    Parameters
    ----------
    shots
        In canonical order.
    class_id
        Painted on at least one of them.

    Returns
    -------
    Tensor
        (D,).
    """
    insides = {i: shot.labels[class_id].mean for i, shot in enumerate(shots) if class_id in shot.labels}
    outsides = {i: outside for i, shot in enumerate(shots) if (outside := mean_of_rest(shot, class_id)) is not None}
    both = [insides[i] - outsides[i] for i in insides if i in outsides]
    if both:
        return torch.stack(both).sum(0)
    if not outsides:
        return torch.zeros_like(any_mean(shots))
    return torch.stack([*insides.values()]).mean(0) - torch.stack([*outsides.values()]).mean(0)


def mean_of_rest(shot: ShotPixels, class_id: int) -> Tensor | None:
    """Average feature (D,) of what a shot shows beside a class, by area; on a partly labelled one by label."""
    rest = [pixels for value, pixels in shot.labels.items() if value != class_id]
    if not rest:
        return None
    weights = [pixels.area if shot.is_dense else 1 for pixels in rest]
    return torch.stack([w / sum(weights) * pixels.mean for w, pixels in zip(weights, rest, strict=True)]).sum(0)


def shared_relevance(shots: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> Tensor:
    """One relevance (D,) for all classes together: the root of the mean square of theirs, so of length 1 as well.

    For methods that compare with all labels at once, on one scale. For a single class it is the class's own, but for
    signs, which do not matter.
    """
    squares = [feature_relevance(foreground_minus_background(shots, class_id)).square() for class_id in class_ids]
    return torch.stack(squares).mean(0).sqrt()


def weighted(cells: Tensor, relevance: Tensor | None) -> Tensor:
    """Multiply the features of cells (D, ...) by how much each counts; None: all alike."""
    return cells if relevance is None else cells * relevance.view(-1, *[1] * (cells.ndim - 1))
