"""What a method answers for one image, a tile at a time; and so for any part of it, without the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from napari_fewshot.frames import Frame, Pixels
from napari_fewshot.imaging.tiling import Span, Tile, plan_tiles
from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.quality import Quality, most_probable
from napari_fewshot.models.devices import moved, with_relief
from napari_fewshot.models.extractor import FeatureExtractor, ImageFeatures
from napari_fewshot.models.methods.base import FewShotMethod, Transductive
from napari_fewshot.models.progress import expect, told
from napari_fewshot.segmenter import PartProposal, Region, TileProgress
from napari_fewshot.support import BACKGROUND

LEAST_TILES: Final = 64
"""Of an image that is worth dividing: what concerns it as a whole is found on nine tiles, by all who do parts."""

_TILES_OF_PART: Final = 4


@dataclass(frozen=True, eq=False)
class Answer:
    """What is answered for a tile, or a part of one.

    Attributes
    ----------
    probabilities
        (1 + C, h, w), background first.
    labels, surest
        (h, w), see `most_probable`.
    """

    probabilities: Tensor
    labels: Tensor
    surest: Tensor


class Answers:
    """Features of an image, and what a method says of them.

    Parameters
    ----------
    extractor, method
        Of a segmenter.
    state
        What the method has learnt.
    class_ids
        The classes that it answers for.
    frame, pixels
        The image.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        method: FewShotMethod,
        state: Any,
        class_ids: tuple[int, ...],
        frame: Frame,
        pixels: Pixels,
    ) -> None:
        self.features: ImageFeatures = extractor.open(pixels, frame.stack)
        self.values = (BACKGROUND, *class_ids)
        self._method, self._taught, self._device = method, state, extractor.device

    @cached_property
    def state(self) -> Any:
        """What the method knows when it answers; it may have learnt from this image as well."""
        state = moved(self._taught, self._device)
        return self._method.adapt(state, self.features.glimpses()) if isinstance(self._method, Transductive) else state

    def of(self, tile: Tile, pyramid: FeaturePyramid) -> Answer:
        """Answer for a tile with these features."""
        return self._chosen(self._method.predict(self.state, pyramid)[:, *tile.inner])

    def within(self, tile: Tile, part: Region) -> tuple[Region, Answer]:
        """Answer for what a tile and a part of the image have in common, and say where that is."""
        common = Region(_common(tile.rows, part.rows), _common(tile.columns, part.columns))
        every = self._method.predict(self.state, self.features.pyramid(tile))[:, *tile.inner]
        if common.size == (tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0]):
            return common, self._chosen(every)
        rows, columns = (
            slice(first - start, last - start)
            for (first, last), (start, _) in ((common.rows, tile.rows), (common.columns, tile.columns))
        )
        return common, self._chosen(every[:, rows, columns])

    def _chosen(self, probabilities: Tensor) -> Answer:
        return Answer(probabilities, *most_probable(probabilities, self.values))


class DividedImage:
    """A `DividedFrame`: what is found out about the image as a whole is kept for the next part.

    Parameters
    ----------
    extractor
        What computes the features.
    open
        Opens the image.
    name
        Of the image, for messages.
    """

    def __init__(self, extractor: FeatureExtractor, open: Callable[[], Answers], name: str) -> None:
        self._extractor, self._open, self._name = extractor, open, name
        self._opened: tuple[tuple[int, str], Answers] | None = None

    @torch.inference_mode()
    def propose(self, part: Region, *, progress: TileProgress | None = None) -> PartProposal:
        """Propose labels for a part; see `DividedFrame`."""

        def work() -> PartProposal:
            with told(progress):
                return self._propose(part)

        return with_relief(self._extractor, work)

    def _propose(self, part: Region) -> PartProposal:
        answers = self._answers()
        tiles = [tile for tile in answers.features.tiles if _meet(tile.rows, part.rows, tile.columns, part.columns)]
        expect(answers.features.steps(len(tiles)))
        labels = np.zeros(part.size, np.int32)
        if answers.features.is_constant:
            return PartProposal(labels, (), constant_note(self._name))
        evidence = []
        for tile in tiles:
            where, answer = answers.within(tile, part)
            rows, columns = (
                slice(first - start, last - start)
                for (first, last), (start, _) in ((where.rows, part.rows), (where.columns, part.columns))
            )
            labels[rows, columns] = answer.labels.cpu().numpy()
            evidence.append(Quality(answers.values).add(answer.probabilities, answer.labels, answer.surest))
        return PartProposal(labels, tuple(evidence), self._extractor.notice)

    def _answers(self) -> Answers:
        """Open the image; anew after the extractor had to do with less memory, since its tiles are others then."""
        key = self._extractor.tile_values, self._extractor.device
        if self._opened is None or self._opened[0] != key:
            self._opened = key, self._open()
        return self._opened[1]


def plan_parts(extractor: FeatureExtractor, pixels: Pixels) -> tuple[Region, ...]:
    """Group the tiles of a large image, a few beside each other; () for an image that is better done as a whole."""
    backbone = extractor.backbone
    largest = extractor.tile_values // pixels.channels
    tiles = plan_tiles(pixels.size, largest, backbone.halo, backbone.levels[-1].stride)
    if len(tiles) < LEAST_TILES:
        return ()
    rows: dict[Span, list[Tile]] = {}
    for tile in tiles:
        rows.setdefault(tile.rows, []).append(tile)
    return tuple(
        Region(span, (group[0].columns[0], group[-1].columns[1]))
        for span, beside in rows.items()
        for group in (beside[i : i + _TILES_OF_PART] for i in range(0, len(beside), _TILES_OF_PART))
    )


def score_of(values: Sequence[int], evidence: Sequence[tuple[float, ...]]) -> float:
    """Return the expected IoU of an image from what its tiles tell; 1 where there is nothing to find on it."""
    quality = Quality(values)
    for each in evidence:
        quality.take(each)
    return quality.value if evidence else 1.0


def constant_note(name: str) -> str:
    """Say that an image is empty."""
    return f"all pixels of '{name}' have the same value: there is nothing to find on it"


def _common(a: Span, b: Span) -> Span:
    return max(a[0], b[0]), min(a[1], b[1])


def _meet(rows: Span, other_rows: Span, columns: Span, other_columns: Span) -> bool:
    return all(first < last for first, last in (_common(rows, other_rows), _common(columns, other_columns)))
