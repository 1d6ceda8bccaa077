"""From an image to its features, once: intensity scale, tiles, padding, backbone, device, precision, cache."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.frames import Image, Pixels, Stack, content_digest
from napari_fewshot.imaging.intensity import IntensityScale, intensity_scale, scale_within
from napari_fewshot.imaging.tiling import Tile, plan_tiles, some_of
from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level, Statistics
from napari_fewshot.models.blocks.standardise import feature_statistics
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.devices import free_memory, is_out_of_memory, peak_memory, working_precision
from napari_fewshot.models.progress import heed, one_tile

TILE_VALUES: Final = 3 << 20
"""Pixels times channels that go through the backbone at once, where there is memory for them."""

_LEAST_VALUES: Final = 1 << 18
_STATISTICS_TILES: Final = 9
_HALF_LIMIT: Final = 65504.0
_STRIP: Final = 1 << 18
"""Values whose order in memory is changed at once on the CPU: few enough to stay in its cache."""

_PROBE: Final = 256
"""Side of the picture with which it is found out what a backbone takes of a card's memory."""

_SHARE: Final = 0.25
"""Of the free memory of a card, for the backbone: methods need some as well, and so does the screen."""


class FeatureExtractor:
    """A backbone made ready for images of any kind and size.

    Features are kept in half precision, whether they come fresh or from a cache, so that both give the same bits.

    Parameters
    ----------
    backbone
        What computes features.
    device
        Where; see `choose_device`.
    cache
        Where features are kept by the content of their image; a cache may serve several extractors.
    tile_values
        Pixels times channels to compute at once; a larger image goes through in overlapping tiles. By default
        `TILE_VALUES`, less on a graphics card with little free memory.
    precision
        In which the backbone works; by default what is fastest on the device and the backbone bears. What half
        precision cannot hold is computed again in single.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: str = "cpu",
        cache: FeatureCache | None = None,
        tile_values: int | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        self.backbone = backbone.to(device)
        self.device = device
        self.cache = cache if cache is not None else FeatureCache()
        self.notice = ""
        self._precision = precision
        self.tile_values = self._fitting_values() if tile_values is None else tile_values

    @property
    def precision(self) -> torch.dtype:
        """In which the backbone works; features are kept in half precision in any case."""
        return precision_for(self.backbone, self.device) if self._precision is None else self._precision

    @property
    def key(self) -> str:
        """Everything, beside the image, that features depend on."""
        working = "" if self.precision == torch.float32 else f"|{str(self.precision).removeprefix('torch.')}"
        return f"{self.backbone.key}|unit-range-1|half|{torch.device(self.device).type}{working}"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels that every pyramid has."""
        return self.backbone.levels

    def open(self, pixels: Pixels, stack: Stack | None = None) -> "ImageFeatures":
        """Get at the features of an image tile by tile; on an intensity scale that fits its stack where it has one."""
        return ImageFeatures(self, pixels, stack)

    def __call__(self, image: Image) -> FeaturePyramid:
        """Return the features of a whole image (H, W) or (H, W, channels), whatever its size."""
        pixels = Pixels(image, "image")
        height, width = pixels.size
        scale = intensity_scale(pixels, height * width)
        return self.compute(pixels[:height, :width], scale)

    @torch.inference_mode()
    def compute(self, image: Image, scale: IntensityScale, kept: tuple[slice, slice] | None = None) -> FeaturePyramid:
        """Return the features of an image or tile on a given scale, from the cache where they are known.

        Parameters
        ----------
        image
            (H, W) or (H, W, channels).
        scale
            What becomes 0 and 1.
        kept
            Rows and columns that features are wanted of, from multiples of the coarsest stride on; by default all.
        """
        rows, columns = kept or (slice(0, image.shape[0]), slice(0, image.shape[1]))
        height, width = image.shape[:2]
        part = "" if kept is None else f"|{rows.start}:{rows.stop},{columns.start}:{columns.stop}"
        key = f"{self.key}|{scale.key}|{content_digest(image)}{part}"
        known = self.cache.get(key, self.device)
        if known is not None:
            return known
        planes = torch.from_numpy(scale.apply(image)).to(self.device)  # (n, H, W)
        coarsest = self.levels[-1].stride
        below, beside = -height % coarsest, -width % coarsest
        padded = F.pad(planes[None], (0, beside, 0, below), mode="replicate")[0]
        made = self._features(padded)
        features = {}
        for level in tuple(made):  # never all of both precisions at once
            cells = made.pop(level)
            if kept is not None:
                cells = cells[:, *(_cells(s, n, level) for s, n in zip(kept, image.shape, strict=False))]
            features[level] = _half(cells)
        size = rows.stop - rows.start, columns.stop - columns.start
        return self.cache.put(key, FeaturePyramid(features, size))

    def _features(self, planes: Tensor) -> dict[Level, Tensor]:
        """Let padded planes (n, H, W) go through the backbone."""
        if self.precision == torch.float32:
            return self.backbone(planes)
        with torch.autocast(torch.device(self.device).type, self.precision):
            made = self.backbone(planes)
        if all(bool(f.isfinite().all()) for f in made.values()):
            return made
        del made
        return self.backbone(planes)

    @torch.inference_mode()
    def _fitting_values(self) -> int:
        """As many values at once as there is memory for: all at first, half of them, a quarter ..."""
        free = free_memory(self.device)
        if free is None:
            return TILE_VALUES
        side = -(-_PROBE // self.levels[-1].stride) * self.levels[-1].stride
        probe = torch.zeros(1, side, side, device=self.device)
        try:
            self._features(probe)  # the first time takes some that is kept
            each = max(1, peak_memory(self.device, lambda: self._features(probe))) / probe.numel()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return _LEAST_VALUES
        values = TILE_VALUES
        while values > _LEAST_VALUES and values * each > _SHARE * (free - self.cache.limit):
            values //= 2
        return max(values, _LEAST_VALUES)

    def relieve(self) -> bool:
        """Ask for less memory after there was not enough: smaller tiles, in the end the CPU.

        Returns
        -------
        bool
            Whether there is anything left to try.
        """
        self.cache.release_memory()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if self.tile_values > _LEAST_VALUES:
            self.tile_values //= 2
            return True
        if self.device == "cpu":
            return False
        self.notice = f"{self.device} ran out of memory: going on, more slowly, on the CPU"
        self.backbone.to("cpu")
        self.device, self.tile_values = "cpu", TILE_VALUES
        return True


class ImageFeatures:
    """Features of one image, computed tile by tile when they are asked for.

    Parameters
    ----------
    extractor
        What computes them.
    pixels
        The image; read tile by tile.
    stack
        What it was taken together with.
    """

    def __init__(self, extractor: FeatureExtractor, pixels: Pixels, stack: Stack | None = None) -> None:
        self._extractor = extractor
        self._pixels = pixels
        backbone = extractor.backbone
        largest = extractor.tile_values // pixels.channels
        self.tiles = plan_tiles(pixels.size, largest, backbone.halo, backbone.levels[-1].stride)
        self._last_read: tuple[Tile, Image] | None = None
        seen = pixels if len(self.tiles) > 1 else Pixels(self._read(self.tiles[0]), "")  # one tile: read just once
        self._scale = intensity_scale(seen, largest) if stack is None else scale_within(stack, seen, largest)

    @cached_property
    def is_constant(self) -> bool:
        """Whether all pixels of every channel have one value."""
        return all(self.constant_tiles())

    def constant_tiles(self) -> Iterator[bool]:
        """Tell of one tile after the other whether all its pixels have the value of the first."""
        first = self._read(self.tiles[0])[:1, :1]
        for tile in self.tiles:
            heed()
            yield bool((self._read(tile) == first).all())

    def steps(self, tiles: int) -> int:
        """How many tiles the backbone sees where so many are asked for: those for the statistics come on top."""
        return tiles + (len(self._sampled) if tiles and len(self.tiles) > 1 else 0)

    def pyramid(self, tile: Tile) -> FeaturePyramid:
        """Features of a tile and a little around it, with the statistics of the whole image."""
        statistics = self._statistics if len(self.tiles) > 1 else None
        with one_tile(self, tile):
            pyramid = self.compute(tile)
        return pyramid if statistics is None else replace(pyramid, statistics=statistics)

    def glimpses(self) -> Iterator[FeaturePyramid]:
        """Features of some tiles that are spread over the image, or of all of a small one."""
        for tile in self._sampled:
            yield self.pyramid(tile)

    @property
    def glimpse_steps(self) -> int:
        """How many tiles the backbone sees for these, those for the statistics included."""
        return self.steps(len(self._sampled))

    def compute(self, tile: Tile) -> FeaturePyramid:
        """The same without statistics: to have them at hand later."""
        kept = tile.kept if len(self.tiles) > 1 else None
        return self._extractor.compute(self._read(tile), self._scale, kept)

    def _read(self, tile: Tile) -> Image:
        """Read what a tile needs; the last one is kept, so that nothing is read twice in a row."""
        if self._last_read is None or self._last_read[0] is not tile:
            self._last_read = tile, self._pixels[tile.read]
        return self._last_read[1]

    @property
    def _sampled(self) -> tuple[Tile, ...]:
        """Tiles that stand for the whole image in its statistics."""
        return some_of(self.tiles, _STATISTICS_TILES)

    @cached_property
    def _statistics(self) -> Mapping[Level, Statistics]:
        """Mean and deviation of every feature, over some tiles spread evenly over the image."""
        parts: dict[Level, list[tuple[int, Tensor, Tensor]]] = {}
        for tile in self._sampled:
            with one_tile(self, tile, "statistics"):
                pyramid = self.compute(tile)
            for level in pyramid.levels:
                rows, columns = (slice(s.start // level.stride, -(-s.stop // level.stride)) for s in tile.inner)
                cells = pyramid.features[level][:, rows, columns]
                parts.setdefault(level, []).append((cells[0].numel(), *feature_statistics(cells)))
        return {level: _pooled(several) for level, several in parts.items()}


def precision_for(backbone: Backbone, device: str) -> torch.dtype:
    """Return what is fastest on a device and a backbone bears."""
    return working_precision(device) if getattr(backbone, "mixed_precision", False) else torch.float32


def _pooled(parts: list[tuple[int, Tensor, Tensor]]) -> Statistics:
    """Mean and deviation of everything, from number, mean and deviation of its parts."""
    numbers, means, deviations = zip(*parts, strict=True)
    weights = torch.tensor(numbers, dtype=means[0].dtype, device=means[0].device)[:, None] / sum(numbers)
    mean = (weights * torch.stack(means)).sum(0)
    second = (weights * (torch.stack(deviations).square() + torch.stack(means).square())).sum(0)
    return mean, (second - mean.square()).clamp_min(0).sqrt()


def _cells(pixels: slice, length: int, level: Level) -> slice:
    """Cells of some pixels of an image so many pixels long; at its end with those that come from padding."""
    return slice(pixels.start // level.stride, None if pixels.stop == length else -(-pixels.stop // level.stride))


def _half(features: Tensor) -> Tensor:
    """Half precision (C, h, w), one channel after the other in memory, in whatever order the backbone has them."""
    if features.is_contiguous():
        half = features.half()
    else:
        half = torch.empty(features.shape, dtype=torch.float16, device=features.device)
        height, on_cpu = features.shape[1], features.device.type == "cpu"
        rows = max(1, _STRIP // features[:, 0].numel()) if on_cpu else height
        for top in range(0, height, rows):
            half[:, top : top + rows] = features[:, top : top + rows].half()
    return half.clamp_(-_HALF_LIMIT, _HALF_LIMIT)  # what is larger became infinite
