"""What heads that look at whole shots keep of them: maps of features with soft masks, small and few.

Vectors and banks of pixels forget where things were (`labelled_pixels` keeps those). A shot may be huge and lie in many
tiles; of each class the tiles that show most of it are kept, pooled to a bounded number of cells.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import single
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import to_cells
from napari_fewshot.support import UNLABELLED

_CELLS: Final = 40 * 40
"""Cells of a map: what a picture of 320 pixels has at stride 8."""

_PER_SHOT: Final = 2
"""Maps kept for each label of a shot."""


@dataclass(frozen=True, eq=False)
class SupportMap:
    """A shot, or a tile of it.

    Attributes
    ----------
    features
        (D, h, w); half precision where features come so.
    shares
        Label -> (h, w) how much of each cell is painted so, in [0, 1].
    known
        (h, w) how much of each cell is labelled at all.
    stride
        Pixels per cell, rows and columns: more than that of the level where the map was pooled.
    """

    features: Tensor
    shares: Mapping[int, Tensor]
    known: Tensor
    stride: tuple[float, float]

    def area(self, label: int) -> float:
        """Cells that show a label, in all."""
        return float(self.shares[label].sum()) if label in self.shares else 0.0


def collect_maps(
    parts: Iterable[tuple[FeaturePyramid, Tensor]], levels: MatchingLevels, most_cells: int = _CELLS
) -> tuple[SupportMap, ...]:
    """Go through the tiles of a shot, and keep those that show most of some label.

    Parameters
    ----------
    parts
        Features of each tile, and its labels (H, W), 255 where nothing is known.
    levels
        Which features.
    most_cells
        Of a map; larger ones are averaged over blocks of cells.
    """
    kept: list[SupportMap] = []
    for pyramid, labels in parts:
        kept = _worth_keeping([*kept, _map_of(pyramid, labels, levels, most_cells)])
    return tuple(kept)


def _map_of(pyramid: FeaturePyramid, labels: Tensor, levels: MatchingLevels, most_cells: int) -> SupportMap:
    cells, level = levels.cells(pyramid)
    height, width = (-(-pixels // level.stride) for pixels in pyramid.size)
    values = [int(v) for v in labels.unique() if v != UNLABELLED]
    masks = torch.stack([labels != UNLABELLED, *(labels == value for value in values)])
    size = (cells.shape[-2], cells.shape[-1])
    weights = to_cells(torch.cat([masks, torch.ones_like(masks[:1])]).to(cells.dtype), level, size)[
        ..., :height, :width
    ]
    features = cells[:, :height, :width]
    if height * width > most_cells:
        shrink = (most_cells / (height * width)) ** 0.5
        target = (max(1, int(height * shrink)), max(1, int(width * shrink)))
        features, weights = (F.adaptive_avg_pool2d(x, target) for x in (features, weights))
    shares = weights[:-1] / weights[-1].clamp_min(1e-6)
    stride = (pyramid.size[0] / features.shape[-2], pyramid.size[1] / features.shape[-1])
    half = next(iter(pyramid.features.values())).dtype == torch.float16
    return SupportMap(
        features.half() if half else features, dict(zip(values, shares[1:], strict=True)), shares[0], stride
    )


def _worth_keeping(maps: Sequence[SupportMap]) -> list[SupportMap]:
    """Those that are among the fullest of some label, in their order."""
    labels = {label for each in maps for label in each.shares}
    wanted: set[int] = set()
    for label in labels:
        order = sorted(range(len(maps)), key=lambda i: (-maps[i].area(label), i))
        wanted |= {i for i in order[:_PER_SHOT] if label in maps[i].shares}
    return [each for i, each in enumerate(maps) if i in wanted]


def maps_of_class(shots: Sequence[Sequence[SupportMap]], class_id: int, most: int) -> list[SupportMap]:
    """Choose the maps that show a class: the fullest of every shot first, ``most`` in all, in the order of the shots.

    With more shots than ``most``, those that show most of the class stay.
    """
    showing = [(s, m) for s, maps in enumerate(shots) for m in maps if class_id in m.shares]
    ranked: list[tuple[int, float, int]] = []
    seen: dict[int, int] = {}
    for i in sorted(range(len(showing)), key=lambda i: (-showing[i][1].area(class_id), i)):
        shot = showing[i][0]
        ranked.append((seen.get(shot, 0), -showing[i][1].area(class_id), i))
        seen[shot] = seen.get(shot, 0) + 1
    return [showing[i][1] for i in sorted(i for _, _, i in sorted(ranked)[:most])]


def map_features(each: SupportMap) -> Tensor:
    """Features (D, h, w), at least in single precision."""
    return single(each.features)
