"""Feature enrichment module (Tian et al., TPAMI 2020, section 3.3): query, class and prior fused at several scales.

Also the decoder of ASGNet, SCL and MMNet, which feed it other vectors and maps.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.blocks.layers import Residual, classifier, conv, resized, tiled

PAPER_BINS: Final = (60, 30, 15, 8)


class FeatureEnrichment(nn.Module):
    """Inter-source enrichment, inter-scale interaction from fine to coarse, information concentration.

    Parameters
    ----------
    width
        Channels of query and class, and of everything inside.
    cues
        Maps beside them, such as the prior; 1 in the paper.
    bins
        Scales. From 2 on: sides of the pooled maps in cells (the paper's, for maps of 60 x 60). Up to 1: shares of the
        side of the map, which suit maps of any size and shape.
    """

    def __init__(self, width: int, cues: int = 1, bins: Sequence[float] = PAPER_BINS) -> None:
        super().__init__()
        self.bins = tuple(bins)
        scales = range(len(self.bins))
        self.enter = nn.ModuleList(conv(2 * width + cues, width, 1) for _ in scales)
        self.merge = nn.ModuleList(conv(2 * width, width, 1) for _ in scales[1:])
        self.refine = nn.ModuleList(Residual(width) for _ in scales)
        self.inner = nn.ModuleList(classifier(width) for _ in scales)
        self.concentrate = nn.Sequential(*conv(width * len(self.bins), width, 1), Residual(width))

    def forward(self, query: Tensor, vectors: Tensor, cues: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Fuse.

        Parameters
        ----------
        query
            (B, width, h, w).
        vectors
            (B, width) of the class, or (B, width, h, w) where every cell has its own.
        cues
            (B, cues, h, w).

        Returns
        -------
        enriched : Tensor
            (B, width, h, w).
        inner : list
            Answers (B, 1, h_i, w_i) of each scale, for the auxiliary losses.
        """
        size = query.shape[-2:]
        guides = tiled(vectors, query) if vectors.ndim == 2 else vectors
        finer: Tensor | None = None
        scales, inner = [], []
        for i, share in enumerate(self.bins):
            cells = _cells(share, size)
            pooled = F.adaptive_avg_pool2d(query, cells)
            guide = guides[..., :1, :1].expand(-1, -1, *cells) if vectors.ndim == 2 else _pooled(guides, cells)
            merged = self.enter[i](torch.cat([pooled, guide, _pooled(cues, cells)], 1))  # eq. 6
            if finer is not None:  # eq. 7, the finer scale as the auxiliary feature
                merged = merged + self.merge[i - 1](torch.cat([merged, _pooled(finer, cells)], 1))
            merged = self.refine[i](merged)
            inner.append(self.inner[i](merged))
            finer = merged
            scales.append(resized(merged, size))
        enriched: Tensor = self.concentrate(torch.cat(scales, 1))  # eq. 8
        return enriched, inner


def _cells(share: float, size: Sequence[int]) -> tuple[int, int]:
    if share >= 2:
        return int(share), int(share)
    return max(1, round(share * size[0])), max(1, round(share * size[1]))


def _pooled(maps: Tensor, cells: tuple[int, int]) -> Tensor:
    """Average where the map becomes smaller, interpolate where it becomes larger."""
    if maps.shape[-2] >= cells[0] and maps.shape[-1] >= cells[1]:
        return F.adaptive_avg_pool2d(maps, cells)
    return resized(maps, cells)
