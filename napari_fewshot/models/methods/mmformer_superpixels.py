"""MM-Former without its training: superpixels are what is compared with a class and blended.

Also proposals that need no training: superpixels, and instances that somebody else has found. `mmformer` has the rest.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, collect_pixels
from napari_fewshot.models.blocks.mask_matching import blended, pooled
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest, safe_logit
from napari_fewshot.models.blocks.resampling import probabilities, to_cells
from napari_fewshot.models.blocks.superpixels import superpixels
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures
from napari_fewshot.models.methods.similarity_cues import Similarity, similarities

TRUST: Final = 0.5
"""How much a proposal counts against what a cell says alone, as long as nobody has learnt better."""

_BESIDE: Final = 1e-2
"""How much it counts that there is nothing, where instances of somebody else lie."""

_CELLS: Final = 16
"""Cells of a superpixel."""

_SUPERPIXELS: Final = 400
"""Of an image, or of a tile of it, at the most."""

_INSTANCES: Final = 1000
"""Proposals of somebody else, at the most."""


class SuperpixelMatching(AdditiveMethod[ShotPixels, tuple[Similarity, ...]]):
    """MM-Former without training: cells lean towards the mean answer of the calibrated cosine in their superpixel.

    Parameters
    ----------
    strides
        Of the levels to compare on, fine to coarse; superpixels are made of the finest.
    """

    name = "mmformer"

    def __init__(self, strides: tuple[int, ...]) -> None:
        self.levels = MatchingLevels(strides)
        self._outlines = MatchingLevels(strides[:1])

    def summarise(self, shot: SupportFeatures) -> ShotPixels:
        """Keep some pixels of every label."""
        return collect_pixels(shot.parts(), self.levels, shot.is_dense)

    def combine(self, summaries: Sequence[ShotPixels], class_ids: tuple[int, ...]) -> tuple[Similarity, ...]:
        """Average every class, and calibrate the cosine with it."""
        return similarities(self.levels, summaries, class_ids)

    def calibrated(self, known: tuple[Similarity, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Logits (C, h, w) of every cell alone, in [-4, 4]: what is certain must not drown what is beside it."""
        cells, level = self.levels.cells(query)
        return torch.stack([each.logit(cells) for each in known]), level

    def superpixels(self, query: FeaturePyramid) -> Tensor:
        """Proposals (N, h, w) that share out every cell."""
        cells, _ = self._outlines.cells(query)
        return superpixel_proposals(cells)

    def predict(self, state: AdditiveState[ShotPixels, tuple[Similarity, ...]], query: FeaturePyramid) -> Tensor:
        """Blend superpixels."""
        logits, level = self.calibrated(state.solution, query)
        masks = self.superpixels(query)
        trust = torch.full_like(masks[:, 0, 0], TRUST)
        answers = [blended(masks, coefficients(each, masks), trust, each) for each in logits]
        return probabilities(one_vs_rest(torch.stack(answers)), level, query.size)

    def predict_among(
        self, state: AdditiveState[ShotPixels, tuple[Similarity, ...]], query: FeaturePyramid, instances: Tensor
    ) -> Tensor:
        """Decide which of the instances of somebody else are of which class; see `MaskMatching.predict_among`."""
        logits, level = self.calibrated(state.solution, query)
        masks = instance_proposals(instances, logits, level)
        return among([coefficients(each, masks) for each in logits], masks, level, query.size)


def coefficients(calibrated: Tensor, masks: Tensor) -> Tensor:
    """Mean logit (N,) of the cells (h, w) that are under each of the masks (N, h, w)."""
    return pooled(calibrated[None], masks)[:, 0]


def among(logits: Sequence[Tensor], masks: Tensor, level: Level, size: tuple[int, int]) -> Tensor:
    """Probabilities (1 + C, H, W) by logits (N,) of instances for each class; there is nothing beside instances."""
    nothing, trust = torch.zeros_like(masks[0]), torch.ones_like(masks[:, 0, 0])
    answers = torch.stack([blended(masks, each.sigmoid(), trust, nothing, _BESIDE) for each in logits])
    return probabilities(one_vs_rest(safe_logit(answers)), level, size)


def superpixel_proposals(cells: Tensor) -> Tensor:
    """Share out the cells (D, h, w) of a query among superpixels: (N, h, w), whose sum is 1 everywhere."""
    height, width = cells.shape[-2:]
    number = max(1, min(_SUPERPIXELS, round(height * width / _CELLS)))
    across = max(1, min(number, round((number * width / height) ** 0.5)))
    down = number // across
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = [(torch.arange(n) * 2 + 1) * side // (2 * n) for n, side in ((down, height), (across, width))]
    seeds = (at[0][:, None] * width + at[1]).flatten().unique()
    places = torch.stack([rows.flatten(), columns.flatten()], 1).to(cells.device)
    x = F.normalize(cells.flatten(1), dim=0, eps=1e-6).T
    return superpixels(x, places, seeds.to(cells.device)).view(-1, height, width)


def instance_proposals(instances: Tensor, cells: Tensor, level: Level) -> Tensor:
    """Make proposals (N, h, w) of instances (H, W): integers, 0 where there is none.

    Raises
    ------
    SettingsError
        If there are too many for the memory of an ordinary computer.
    """
    values = [value for value in instances.unique().tolist() if value]
    if len(values) > _INSTANCES:
        raise SettingsError(
            f"there are {len(values)} instances on one image; give {_INSTANCES} at most, or parts of the image"
        )
    size = (cells.shape[-2], cells.shape[-1])
    total = to_cells(torch.ones_like(instances)[None].to(cells.dtype), level, size)[0].clamp_min(1e-6)
    masks = [to_cells((instances == value)[None].to(cells.dtype), level, size)[0] / total for value in values]
    return torch.stack(masks) if masks else cells.new_zeros((1, *size))
