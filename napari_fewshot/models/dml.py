"""The engine `dml`: an embedding that was learnt from many objects, and goes on learning from those of a user's shots.

See `napari_fewshot.models.blocks.metric_learning` for the network, `napari_fewshot.instances.growing` for its use.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from napari_fewshot.frames import Frame, Instances
from napari_fewshot.instances.embedding import TAUS, Embedded, NumberedShot
from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.descent import Adam, steps
from napari_fewshot.models.blocks.metric_learning import (
    EmbeddingConfig,
    EmbeddingHead,
    PixelSample,
    embedding_losses,
    features_at,
)
from napari_fewshot.models.devices import with_relief
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.heads import fill, find_head
from napari_fewshot.models.methods.trained import config_of
from napari_fewshot.models.progress import heed
from napari_fewshot.models.weights import fingerprint
from napari_fewshot.support import UNLABELLED

NAME: Final = "dml"
"""What files of this head call their method."""

PER_OBJECT: Final = 16
"""Pixels of an object that are looked at."""

BACKGROUND_PIXELS: Final = 128
"""And of what is not of an object, for each group of neighbours."""

NEIGHBOURS: Final = 20
"""Objects that are compared with each other: one, and those next to it."""

_OBJECTS: Final = 600  # of all shots together
_CHUNK: Final = 1 << 14  # pixels that go through the head at once
_STEPS: Final = 120
_RATE: Final = 1e-3

Indices = npt.NDArray[np.intp]


class Dml:
    """An `EmbeddingModel` of features and a head.

    Parameters
    ----------
    extractor
        Of the features that the head was trained on.
    head
        Where learning from shots begins; not changed.
    steps
        Of gradient descent on the objects of the shots.
    """

    def __init__(self, extractor: FeatureExtractor, head: EmbeddingHead, steps: int = _STEPS) -> None:
        self.extractor = extractor
        self.head = head
        self.steps = steps

    @classmethod
    def trained_or_none(cls, extractor: FeatureExtractor, *, shipped: bool = True) -> Self | None:
        """Make one with the head that was trained on these features; None where there is none.

        Parameters
        ----------
        extractor
            Of the features.
        shipped
            Whether the one that comes with the package counts as well, or only one that somebody trained.

        Raises
        ------
        WeightsError
            If its file is damaged, or made for another version.
        """
        found = find_head(NAME, extractor.backbone)
        if found is None or (found.shipped_as and not shipped):
            return None
        tensors = found.read()
        with torch.random.fork_rng(devices=[]):  # what it begins with is drawn, and then overwritten
            head = EmbeddingHead(config_of(EmbeddingConfig, found.config))
        fill(head, tensors, found.path.name)
        return cls(extractor, head)

    @property
    def key(self) -> str:
        """Identity of the weights that learning from shots begins with."""
        return f"{NAME}-{fingerprint(self.head.state_dict())}"

    def fit(self, shots: tuple[NumberedShot, ...], radius: float) -> "FittedDml":
        """Go on learning from the objects of shots; see `EmbeddingModel`. Without objects it stays as it was."""

        def work() -> FittedDml:
            with torch.inference_mode(False):  # gradients go through what is made of these features
                groups = self._groups(shots, radius)
                return FittedDml(self.extractor, self._descended(groups) if groups else self.head, radius)

        return with_relief(self.extractor, work)

    def _groups(self, shots: tuple[NumberedShot, ...], radius: float) -> list["_Group"]:
        """Each object of the shots with those next to it, in an order that is the same every time."""
        rng = np.random.default_rng(0)
        groups = []
        for taught in shots:
            known = taught.shot.labels != UNLABELLED
            picked = pick_pixels(taught.ids, known, rng, max(1, _OBJECTS // len(shots)), 4 * BACKGROUND_PIXELS)
            if picked is None:
                continue
            ys, xs, shares = picked
            of = taught.ids[ys, xs].astype(np.int64)
            places = np.stack([ys, xs], 1).astype(np.float32) / np.float32(radius)
            features = self._features(taught.shot.frame, ys, xs)
            pixels = PixelSample(*map(torch.from_numpy, (features, places, of, shares)))
            groups += [_Group(pixels, torch.from_numpy(kept)) for kept in neighbourhoods(places, of, rng)]
        return [groups[i] for i in rng.permutation(len(groups))]

    def _features(self, frame: Frame, ys: Indices, xs: Indices) -> npt.NDArray[np.float32]:
        def take(pyramid: FeaturePyramid, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
            return (features_at(pyramid, self.head.config.strides, rows, columns),)

        (features,) = _tile_by_tile(self.extractor, frame, ys, xs, (self.head.config.channels,), take)
        return features

    def _descended(self, groups: list["_Group"]) -> EmbeddingHead:
        """The head after some steps, two groups at each."""
        head = copy.deepcopy(self.head).cpu()
        names = [name for name, _ in head.named_parameters()]
        turns = cycle(groups)

        def loss(*parameters: Tensor) -> Tensor:
            bound = partial(functional_call, head, dict(zip(names, parameters, strict=True)))
            several = [
                embedding_losses(lambda *values: bound(values), group.pixels.only(group.kept))
                for group in islice(turns, 2)
            ]
            return torch.stack([value for losses in several for value in losses.values()]).sum()

        *_, (last, _) = steps(tuple(head.parameters()), loss, (), Adam(_RATE), self.steps + 1)
        head.load_state_dict(dict(zip(names, last, strict=True)))
        return head.requires_grad_(False).eval()


@dataclass(frozen=True, eq=False)
class _Group:
    """Some pixels of a shot."""

    pixels: PixelSample
    kept: Tensor


@dataclass(frozen=True, eq=False)
class FittedDml:
    """An `Embedder`."""

    extractor: FeatureExtractor
    head: EmbeddingHead
    radius: float

    def at(self, frame: Frame, ys: Indices, xs: Indices) -> Embedded:
        """Embed some pixels of a frame; see `Embedder`. Memory grows with what comes out only."""
        config = self.head.config

        def embed(pyramid: FeaturePyramid, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
            features = features_at(pyramid, config.strides, rows, columns)
            vectors, logits = self.head.to(features.device)(features, features.new_zeros(len(rows), 2))
            return vectors, logits.sigmoid()

        widths = config.dimensions, len(TAUS)
        vectors, goodness = with_relief(
            self.extractor, lambda: _tile_by_tile(self.extractor, frame, ys, xs, widths, embed)
        )
        places = np.stack([ys, xs], 1).astype(np.float32) / np.float32(self.radius)
        vectors += places @ self.head.places.weight.detach().cpu().numpy().T  # of the frame, not of its tiles
        return Embedded(vectors, goodness)


@torch.inference_mode()
def _tile_by_tile(
    extractor: FeatureExtractor,
    frame: Frame,
    ys: Indices,
    xs: Indices,
    widths: tuple[int, ...],
    made: Callable[[FeaturePyramid, Tensor, Tensor], tuple[Tensor, ...]],
) -> tuple[npt.NDArray[np.float32], ...]:
    """(N, width) of each of what is made of the features of some pixels, chunk by chunk."""
    results = tuple(np.zeros((len(ys), width), np.float32) for width in widths)
    features = extractor.open(frame.open(), frame.stack)
    for tile in features.tiles:
        rows, columns = tile.core
        here = np.flatnonzero((ys >= rows.start) & (ys < rows.stop) & (xs >= columns.start) & (xs < columns.stop))
        if not len(here):
            continue
        heed()
        pyramid = features.pyramid(tile)
        top, left = tile.inner[0].start - rows.start, tile.inner[1].start - columns.start
        for chunk in np.array_split(here, -(-len(here) // _CHUNK)):
            at = (torch.from_numpy(v).to(extractor.device) for v in (ys[chunk] + top, xs[chunk] + left))
            for result, values in zip(results, made(pyramid, *at), strict=True):
                result[chunk] = values.cpu().numpy()
    return results


def pick_pixels(
    ids: Instances, known: npt.NDArray[np.bool_], rng: np.random.Generator, objects: int, background: int
) -> tuple[Indices, Indices, npt.NDArray[np.float32]] | None:
    """Pick pixels of objects and of what is none.

    Parameters
    ----------
    ids
        (H, W) objects 1, 2, 3, ...
    known
        (H, W) where it is known what there is.
    rng
        Picks.
    objects
        So many at the most.
    background
        Pixels of no object, at the most.

    Returns
    -------
    tuple or None
        Rows, columns, and for how many pixels each stands; None where there is no object.
    """
    flat = np.where(known, ids, -1).ravel()
    order = rng.permutation(len(flat))
    order = order[np.argsort(flat[order], kind="stable")]
    values, starts, counts = np.unique(flat[order], return_index=True, return_counts=True)
    there = [
        (order[start : start + n], int(n)) for value, start, n in zip(values, starts, counts, strict=True) if value > 0
    ]
    if not there:
        return None
    chosen = [there[i] for i in np.sort(rng.permutation(len(there))[:objects])]
    nothing = [(order[s : s + n], int(n)) for v, s, n in zip(values, starts, counts, strict=True) if v == 0]
    takes = [(pixels[:PER_OBJECT], n) for pixels, n in chosen] + [(pixels[:background], n) for pixels, n in nothing]
    at = np.concatenate([pixels for pixels, _ in takes])
    shares = np.concatenate([np.full(len(pixels), n / len(pixels), np.float32) for pixels, n in takes])
    ys, xs = np.unravel_index(at, ids.shape)
    return ys, xs, shares


def neighbourhoods(
    places: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], rng: np.random.Generator
) -> Iterator[Indices]:
    """Yield pixels of an object, of those next to it, and some background, object by object in a random order.

    Parameters
    ----------
    places
        (P, 2) where pixels are.
    ids
        (P,) of which object, 0 for none.
    rng
        Of the order, and of the background.
    """
    numbers = np.unique(ids[ids > 0])
    centres = np.stack([places[ids == n].mean(0) for n in numbers])
    nothing = np.flatnonzero(ids == 0)
    for at in rng.permutation(len(numbers)):
        nearest = np.argsort(np.square(centres - centres[at]).sum(1), kind="stable")[:NEIGHBOURS]
        own = np.flatnonzero(np.isin(ids, numbers[nearest]))
        yield np.concatenate([own, rng.permutation(nothing)[:BACKGROUND_PIXELS]])
