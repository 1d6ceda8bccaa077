"""A kind of stage: the embedding of `dml`, on features of a backbone that stays as it is.

It sees one pixel at a time, so that a bank of pixels is all that it takes: of crops with numbered objects, some pixels
of an object and of those next to it, and some of none.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.instances.objects import EIGHT
from napari_fewshot.instances.tuning import usual_radius
from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.metric_learning import (
    EmbeddingConfig,
    EmbeddingHead,
    PixelSample,
    embedding_losses,
    features_at,
)
from napari_fewshot.models.dml import BACKGROUND_PIXELS, NAME, NEIGHBOURS, PER_OBJECT, neighbourhoods, pick_pixels
from napari_fewshot.models.heads import channels_of, header_of
from napari_fewshot.models.loading import load_backbone
from napari_fewshot.models.registry import backbone_card
from napari_fewshot.training.augmentation import change, crop, draw_look, draw_view
from napari_fewshot.training.bank import INDEX, complete
from napari_fewshot.training.pictures import Picture, PictureSet, read_objects
from napari_fewshot.training.products import Product, card_on_features, in_half_precision
from napari_fewshot.training.sources import Sources
from napari_fewshot.training.stages import Bench, Ready, StageKind

_PIXELS: Final = NEIGHBOURS * PER_OBJECT + BACKGROUND_PIXELS
_NO_PIXEL: Final = -1
_RADII: Final = (4.0, 32.0)
"""Of the usual object of a crop, in pixels."""

_LEAST: Final = 2
"""Objects on a crop."""


@dataclass(frozen=True)
class ObjectSettings:
    """What a recipe says of an embedding.

    Attributes
    ----------
    backbone
        On whose features.
    batch
        Crops per step and process.
    crops, size
        How many are drawn once and for all, and their size in pixels; a multiple of 16.
    seeds
        Weight of what is learnt of seeds.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    """

    backbone: str = "mica"
    batch: int = 8
    crops: int = 2000
    size: int = 160
    seeds: float = 0.2

    def __post_init__(self) -> None:
        backbone_card(self.backbone)
        if min(self.batch, self.crops) < 1 or self.seeds < 0:
            raise SettingsError("batch and crops must be 1 or more, seeds 0 or more")
        if self.size < 32 or self.size % 16:
            raise SettingsError(f"size is {self.size}; give a multiple of 16, from 32 on")


class ObjectTraining(nn.Module):
    """The losses of an embedding on a batch of crops.

    Parameters
    ----------
    head
        What learns.
    seeds
        Weight of what is learnt of seeds.
    """

    def __init__(self, head: EmbeddingHead, seeds: float) -> None:
        super().__init__()
        self.head = head
        self._seeds = seeds

    def forward(self, batch: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the losses, averaged over the crops."""
        losses = [embedding_losses(self.head, PixelSample(*each), self._seeds) for each in batch]
        return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}


class PixelBank:
    """A bank that is there: draws batches of crops.

    Parameters
    ----------
    folder
        Of its files.
    batch
        Crops in each.
    """

    def __init__(self, folder: Path, batch: int) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in _ARRAYS}
        self._batch = batch

    def __len__(self) -> int:
        """Number of crops."""
        return len(self._arrays["ids"])

    def __call__(self, rng: np.random.Generator) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Draw a batch: features, places, ids and shares of the pixels of each crop; see `PixelSample`."""
        return [self.crop(int(at)) for at in rng.integers(len(self), size=self._batch)]

    def crop(self, at: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the pixels of one crop."""
        ids = np.array(self._arrays["ids"][at])
        kept = ids != _NO_PIXEL
        features, places, shares = (
            torch.from_numpy(np.array(self._arrays[name][at][kept], np.float32))
            for name in ("features", "places", "shares")
        )
        return features, places, torch.from_numpy(ids[kept].astype(np.int64)), shares


_ARRAYS: Final = ("features", "places", "ids", "shares")


def open_pixels(
    folder: Path, settings: ObjectSettings, backbone: Backbone, sources: Callable[[], Sources], seed: int, device: str
) -> PixelBank:
    """Open the bank in a folder, after filling it where it is not there yet. It appears when it is complete.

    Raises
    ------
    SettingsError
        If no picture has numbered objects.
    """
    complete(folder, lambda empty: _fill(empty, settings, backbone.to(device), numbered_sets(sources()), seed, device))
    return PixelBank(folder, settings.batch)


def numbered_sets(sources: Sources) -> tuple[PictureSet, ...]:
    """Keep pictures with numbered objects.

    Raises
    ------
    SettingsError
        If there is none.
    """
    kept = [replace(each, pictures=tuple(p for p in each.pictures if p.objects is not None)) for each in sources.sets]
    if not any(each.pictures for each in kept):
        raise SettingsError(
            "no picture has numbered objects; add a set with instances/: a number for each object, 0 around them"
        )
    return tuple(each for each in kept if each.pictures)


@torch.inference_mode()
def _fill(
    folder: Path, settings: ObjectSettings, backbone: Backbone, sets: tuple[PictureSet, ...], seed: int, device: str
) -> None:
    folder.mkdir()
    strides = tuple(level.stride for level in backbone.levels)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number in range(settings.crops):
        image, ids, radius, rng = _draw(np.random.default_rng((seed, number)), sets, settings.size)
        made = backbone(image.to(device))
        halves = {level: values.half() for level, values in made.items()}  # as they are kept in use
        values = _pixels(FeaturePyramid(halves, (settings.size, settings.size)), strides, ids, radius, rng)
        for name, value in zip(_ARRAYS, values, strict=True):
            if name not in arrays:
                shape = (settings.crops, _PIXELS, *value.shape[1:])
                arrays[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", value.dtype, shape)
            arrays[name][number, : len(value)] = value
            if name == "ids":
                arrays[name][number, len(value) :] = _NO_PIXEL
    arrays.clear()  # which writes what is left to write
    (folder / INDEX).write_text(json.dumps({"crops": settings.crops}), "utf-8")


def _draw(
    rng: np.random.Generator, sets: tuple[PictureSet, ...], size: int
) -> tuple[Tensor, npt.NDArray[np.int32], float, np.random.Generator]:
    """A crop (3, S, S) in which the usual object has a radius of a few pixels, its objects, and that radius."""
    while True:
        pictures = sets[rng.integers(len(sets))].pictures
        drawn = pictures[rng.integers(len(pictures))]
        numbered = read_objects(drawn)
        assert numbered is not None
        wanted = float(np.exp(rng.uniform(*np.log(_RADII))))
        zoom = wanted / usual_radius([numbered])
        view = draw_view(rng, (zoom * 0.9, zoom * 1.1), np.pi)
        image, seen = crop(Picture(drawn.pixels, numbered), view, size)
        ids = apart(seen.numpy().astype(np.int32))
        if int(ids.max()) >= _LEAST:
            return change(image, draw_look(rng), rng).contiguous(), ids, usual_radius([ids]), rng


def apart(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Give pieces of an object that do not touch numbers of their own: beyond its edge a picture is mirrored."""
    found = np.zeros_like(ids)
    for number, box in enumerate(ndi.find_objects(ids), start=1):
        if box is None:
            continue
        pieces, count = ndi.label(ids[box] == number, EIGHT)
        found[box] = np.where(pieces > 0, pieces + found.max(), found[box])
        assert count
    return found


def _pixels(
    pyramid: FeaturePyramid,
    strides: tuple[int, ...],
    ids: npt.NDArray[np.int32],
    radius: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[Any], ...]:
    """Features, places, ids and shares of an object, of those next to it, and of none."""
    picked = pick_pixels(ids, np.ones(ids.shape, bool), rng, int(ids.max()), BACKGROUND_PIXELS)
    assert picked is not None
    ys, xs, shares = picked
    places = np.stack([ys, xs], 1).astype(np.float32) / np.float32(radius)
    of = ids[ys, xs]
    kept = next(neighbourhoods(places, of.astype(np.int64), rng))
    device = next(iter(pyramid.features.values())).device
    at = (torch.from_numpy(v[kept]).to(device) for v in (ys, xs))
    features = features_at(pyramid, strides, *at).half().cpu().numpy()
    return features, places[kept], of[kept].astype(np.int32), shares[kept]


def prepare(settings: ObjectSettings, bench: Bench) -> Ready:
    """Set the stage up: the bank where it is missing, and the head as the stage before left it."""
    backbone = load_backbone(settings.backbone)
    head: EmbeddingHead = bench.begin()
    told = repr((settings.crops, settings.size, backbone.key, bench.origin, bench.seed, _PIXELS, _RADII))
    folder = bench.shared / f"pixels-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    bank = open_pixels(folder, settings, backbone, bench.sources, bench.seed, str(bench.device))
    return Ready(ObjectTraining(head, settings.seeds), head, bank)


def _config(settings: ObjectSettings) -> tuple[EmbeddingConfig, Backbone]:
    backbone = load_backbone(settings.backbone)
    return EmbeddingConfig.for_features(channels_of(backbone)), backbone


def _header(settings: ObjectSettings) -> dict[str, str]:
    config, backbone = _config(settings)
    return header_of(NAME, backbone.key, config)


def _card(settings: ObjectSettings, parameters: int) -> dict[str, Any]:
    config, backbone = _config(settings)
    return card_on_features(settings.backbone, backbone, NAME, EmbeddingHead, config, parameters)


EMBEDDING: Final = Product(
    lambda settings: EmbeddingHead(_config(settings)[0]),
    lambda head: in_half_precision(head.state_dict()),
    _header,
    _card,
    lambda settings, name: f"objects on the backbone {settings.backbone}",
)

KIND: Final = StageKind(ObjectSettings, prepare, EMBEDDING)
"""Pixels of crops with numbered objects, computed once, and the embedding that is learnt from them."""
