"""What is kept of a shot: for each label the average feature, and the features of some pixels drawn evenly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.pooling import masked_pool
from napari_fewshot.models.blocks.resampling import sample
from napari_fewshot.support import UNLABELLED

_PER_SHOT: Final = 1500
"""Pixels kept per label and shot."""

_VALUES: Final = 1 << 23
"""Numbers kept per shot, over all labels: 16 MiB in half precision."""

_PER_LABEL: Final = 6000
"""Pixels of a label that are worked with, over all shots."""

_IN_ALL: Final = 24000
"""Pixels that are worked with, over all labels and shots."""


@dataclass(frozen=True, eq=False)
class LabelledPixels:
    """Pixels of one label of one shot.

    Attributes
    ----------
    mean
        (D,) average over all of them (masked average pooling).
    area
        How many there are.
    features
        (N, D) of some of them.
    at
        (N, 3) where these are: tile, row and column in it.
    order
        (N,) random numbers in [0, 1), ascending; each pixel of the label had one, and the lowest were kept. So the
        first n of them are an even draw of n pixels, however many tiles they come from.
    """

    mean: Tensor
    area: int
    features: Tensor
    at: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def first(self, most: int) -> "LabelledPixels":
        """Keep fewer of them, drawn evenly."""
        if len(self) <= most:
            return self
        kept = (values[:most].clone() for values in (self.features, self.at, self.order))  # let go of the others
        return LabelledPixels(self.mean, self.area, *kept)


@dataclass(frozen=True, eq=False)
class ShotPixels:
    """All labels of one shot, by label value; and whether all of its pixels are labelled."""

    labels: Mapping[int, LabelledPixels]
    is_dense: bool


def collect_pixels(
    parts: Iterable[tuple[FeaturePyramid, Tensor]], levels: MatchingLevels, is_dense: bool, most: int = _PER_SHOT
) -> ShotPixels:
    """Go through the tiles of a shot.

    Parameters
    ----------
    parts
        Features of each tile, and its labels (H, W), 255 where nothing is known.
    levels
        Which features.
    is_dense
        Whether all pixels of the shot are labelled.
    most
        Pixels kept per label.
    """
    found: dict[int, LabelledPixels] = {}
    for tile, (pyramid, labels) in enumerate(parts):
        cells, level = levels.cells(pyramid)
        for value in labels.flatten().bincount().nonzero()[:, 0].tolist():  # `unique` would sort the whole image
            if value == UNLABELLED:
                continue
            mask = labels == value
            means, _ = masked_pool(cells, level, mask[None])
            ys, xs = mask.nonzero(as_tuple=True)
            area = len(ys)
            order = torch.rand(area, generator=torch.Generator().manual_seed(area))
            order, lowest = order.sort() if area <= most else order.topk(most, largest=False)
            lowest = lowest.to(ys.device)
            ys, xs = ys[lowest], xs[lowest]
            features = sample(cells, level, ys, xs)
            kept = features.half() if pyramid.features[level].dtype == torch.float16 else features
            at = torch.stack([torch.full_like(ys, tile), ys, xs], 1)
            drawn = LabelledPixels(means[0], area, kept, at, order.to(ys.device))
            found[value] = _joined(found[value], drawn, most) if value in found else drawn
    share = max(1, _VALUES // sum(pixels.features.shape[1] for pixels in found.values())) if found else most
    return ShotPixels({value: pixels.first(share) for value, pixels in found.items()}, is_dense)


def _joined(one: LabelledPixels, other: LabelledPixels, most: int) -> LabelledPixels:
    """The pixels of several tiles together."""
    area = one.area + other.area
    mean = (one.area * one.mean + other.area * other.mean) / area
    order, ranks = torch.cat([one.order, other.order]).sort(stable=True)
    features, at = torch.cat([one.features, other.features]), torch.cat([one.at, other.at])
    return LabelledPixels(mean, area, features[ranks[:most]], at[ranks[:most]], order[:most])


def bounded(shots: Sequence[ShotPixels], labels: int, most: int = _PER_LABEL) -> list[ShotPixels]:
    """Keep no more pixels than can be worked with, the same number of every shot that shows a label.

    Parameters
    ----------
    shots
        In canonical order.
    labels
        How many there are, background included.
    most
        Pixels of a label, over all shots.
    """
    showing: dict[int, int] = {}
    for shot in shots:
        for value in shot.labels:
            showing[value] = showing.get(value, 0) + 1
    share = min(most, _IN_ALL // labels)
    return [
        ShotPixels(
            {value: pixels.first(max(1, share // showing[value])) for value, pixels in shot.labels.items()},
            shot.is_dense,
        )
        for shot in shots
    ]


@dataclass(frozen=True, eq=False)
class OneAgainstRest:
    """Some labelled pixels of all shots, seen from one class: what is not of the class is its background.

    Attributes
    ----------
    features
        (N, D), at least single precision.
    positive
        (N,) whether a pixel is of the class.
    weight
        (N,) how many pixels of a shot it stands for. On a partly labelled shot all labels stand for equally many: how
        much was painted of each says nothing.
    shot
        (N,) number of the shot that it is on.
    at
        (N, 3) where it is: tile, row and column in it.
    """

    features: Tensor
    positive: Tensor
    weight: Tensor
    shot: Tensor
    at: Tensor


def one_against_rest(shots: Sequence[ShotPixels], class_id: int) -> OneAgainstRest:
    """Look at all shots from one class, which is painted on at least one of them."""
    features, positive, weight, number, at = [], [], [], [], []
    for i, shot in enumerate(shots):
        total = sum(pixels.area for pixels in shot.labels.values())
        for value, pixels in shot.labels.items():
            stands_for = (pixels.area if shot.is_dense else total / len(shot.labels)) / len(pixels)
            x = single(pixels.features)
            features.append(x)
            positive.append(torch.full_like(pixels.at[:, 0], value == class_id, dtype=torch.bool))
            weight.append(x.new_full((len(x),), stands_for))
            number.append(torch.full_like(pixels.at[:, 0], i))
            at.append(pixels.at)
    return OneAgainstRest(torch.cat(features), torch.cat(positive), torch.cat(weight), torch.cat(number), torch.cat(at))


def single(features: Tensor) -> Tensor:
    """Half precision to single; what has more stays."""
    return features.float() if features.dtype == torch.float16 else features


def unit(features: Tensor) -> Tensor:
    """Features (N, D) of length 1; zero stays zero."""
    return F.normalize(single(features), dim=1, eps=1e-6)


def pooled_mean(shots: Sequence[ShotPixels], value: int) -> Tensor:
    """Average over shots of the average feature of a label (D,), zero where none shows it (eq. 1 of PANet)."""
    means = [shot.labels[value].mean for shot in shots if value in shot.labels]
    return torch.stack(means).mean(0) if means else torch.zeros_like(any_mean(shots))


def any_mean(shots: Sequence[ShotPixels]) -> Tensor:
    """The average feature of some label of some shot: for its size, type and device."""
    return next(pixels.mean for shot in shots for pixels in shot.labels.values())
