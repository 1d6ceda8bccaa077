"""Between the cells of a level and the pixels of its image, without shifting either (methods' hazard 8)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level


def upsample(maps: Tensor, level: Level, size: tuple[int, int]) -> Tensor:
    """Interpolate maps of a level bilinearly to the pixels of its image.

    Parameters
    ----------
    maps
        (C, h, w) on the cells of ``level``.
    level
        Where those cells lie.
    size
        (H, W) of the image.

    Returns
    -------
    Tensor
        (C, H, W). Linear in ``maps``: W up(F) = up(W F), so apply channel mixing first, it is cheaper there.
    """
    height, width = size
    if level.stride > 1:
        h, w = maps.shape[-2:]
        if level.alignment == "centre":
            full = (h * level.stride, w * level.stride)
            maps = F.interpolate(maps[None], full, mode="bilinear", align_corners=False)[0]
        else:
            full = ((h - 1) * level.stride + 1, (w - 1) * level.stride + 1)
            maps = F.interpolate(maps[None], full, mode="bilinear", align_corners=True)[0]
            missing = (max(0, height - full[0]), max(0, width - full[1]))
            maps = F.pad(maps[None], (0, missing[1], 0, missing[0]), mode="replicate")[0]
    return maps[:, :height, :width]


def probabilities(logits: Tensor, level: Level, size: tuple[int, int]) -> Tensor:
    """Upsample logits (1 + C, h, w), then softmax: (1 + C, H, W). Interpolating probabilities would blur them."""
    return upsample(logits, level, size).softmax(0)


def sample(
    maps: Tensor, level: Level, ys: Tensor, xs: Tensor, per_cell: Callable[[Tensor], Tensor] = lambda cells: cells
) -> Tensor:
    """Interpolate maps of a level at some pixels only: ``upsample(maps)[:, ys, xs].T``.

    Parameters
    ----------
    maps
        (C, h, w) on the cells of ``level``.
    level
        Where those cells lie.
    ys, xs
        (N,) pixel coordinates.
    per_cell
        Done to cells (C, n) -> (D, n) before they are interpolated, and only to those that are needed.

    Returns
    -------
    Tensor
        (N, C), or (N, D).
    """
    y0, y1, wy = _neighbours(ys, maps.shape[-2], level)
    x0, x1, wx = _neighbours(xs, maps.shape[-1], level)
    cells = maps.flatten(1)
    if level.stride == 1:
        return per_cell(cells.index_select(1, y0 * maps.shape[-1] + x0)).T.contiguous()
    corners = torch.stack([y * maps.shape[-1] + x for y in (y0, y1) for x in (x0, x1)])  # (4, N)
    needed, at = corners.unique(return_inverse=True)
    values = per_cell(cells.index_select(1, needed)).T.contiguous()  # (n, D)
    above_left, above_right, below_left, below_right = (values.index_select(0, i) for i in at)  # (N, D) each
    wy, wx = wy.to(values.dtype), wx.to(values.dtype)
    above = torch.lerp(above_left, above_right, wx[:, None])
    below = torch.lerp(below_left, below_right, wx[:, None])
    return torch.lerp(above, below, wy[:, None])


def to_cells(pixels: Tensor, level: Level, cells: tuple[int, int]) -> Tensor:
    """Distribute weights on pixels over the cells: the transpose of `upsample`.

    Since upsampling U is linear, sum_pixels m (U F) = sum_cells (U^T m) F: pooling over pixels of an
    upsampled feature map needs no upsampled feature map.

    Parameters
    ----------
    pixels
        (N, H, W) weights.
    level
        Where the cells lie.
    cells
        (h, w).

    Returns
    -------
    Tensor
        (N, h, w) with the same sum per map.
    """
    height, width = pixels.shape[-2:]
    y0, y1, wy = _neighbours(torch.arange(height, device=pixels.device), cells[0], level)
    x0, x1, wx = _neighbours(torch.arange(width, device=pixels.device), cells[1], level)
    rows = pixels.new_zeros((len(pixels), cells[0], width))
    rows.index_add_(1, y0, pixels * (1 - wy)[:, None]).index_add_(1, y1, pixels * wy[:, None])
    weights = pixels.new_zeros((len(pixels), *cells))
    weights.index_add_(2, x0, rows * (1 - wx)).index_add_(2, x1, rows * wx)
    return weights


def merge_levels(pyramid: FeaturePyramid, strides: tuple[int, ...]) -> tuple[Tensor, Level]:
    """Concatenate some levels on the cells of the finest of them.

    Returns
    -------
    features : Tensor
        (C, h, w), C the sum over the levels.
    level : Level
        The finest level.
    """
    chosen = pyramid.select(strides).features
    finest = next(iter(chosen))
    cells = next(iter(chosen.values())).shape[-2:]
    merged = [
        upsample(_single(f), Level(level.stride // finest.stride, level.alignment), (cells[0], cells[1]))
        for level, f in chosen.items()
    ]
    return torch.cat(merged), finest


def _single(features: Tensor) -> Tensor:
    return features.float() if features.dtype == torch.float16 else features


def _neighbours(at: Tensor, cells: int, level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Cells left and right of each pixel, and the weight of the right one."""
    position = ((at - level.origin) / level.stride).clamp(0, cells - 1).to(torch.float32)
    left = position.floor().long()
    right = (left + 1).clamp_max(cells - 1)
    return left, right, position - left
