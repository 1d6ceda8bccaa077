"""How much of a lazy image layer is read: the tiles that are asked for, of the full resolution, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from napari.components import ViewerModel

from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.ui.layer_link import LayerLink

SLICES, SIDE, CHUNK = 3, 512, 64


class Counted:
    """An array that says how much of it was read, like one that lies in a file."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.bytes_read = self.largest = 0

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self._values[index].copy()
        self.bytes_read += part.nbytes
        self.largest = max(self.largest, part.nbytes)
        return part


def stack(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)


def counted_dask(source: Counted, *chunks: int) -> da.Array:
    return da.from_array(source, chunks=chunks, asarray=False, fancy=False, lock=False, meta=np.empty(0, np.uint16))


KINDS: dict[str, Callable[[Counted], dict[str, Any]]] = {
    "dask": lambda source: {"data": counted_dask(source, 1, CHUNK, CHUNK)},
    "indexed": lambda source: {"data": source},
    "multiscale": lambda source: {
        "data": [counted_dask(source, 1, CHUNK, CHUNK), da.zeros((SLICES, SIDE // 2, SIDE // 2), dtype=np.uint16)],
        "multiscale": True,
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_is_read_and_nothing_else(kind: str) -> None:
    values = stack(SLICES, SIDE, SIDE)
    source = Counted(values)
    viewer = ViewerModel()
    viewer.add_image(name="big", contrast_limits=(0, 4000), **KINDS[kind](source))
    (_, _, frame) = LayerLink(viewer).frames()
    before = source.bytes_read
    pixels = frame.open()
    assert pixels.size == (SIDE, SIDE) and pixels.dtype == np.uint16
    assert source.bytes_read == before, "opening reads nothing"
    np.testing.assert_array_equal(pixels[CHUNK : 2 * CHUNK, :CHUNK], values[2, CHUNK : 2 * CHUNK, :CHUNK])
    assert source.bytes_read - before == CHUNK * CHUNK * 2


def test_channels_in_front_are_read_region_by_region_too() -> None:
    values = stack(2, SLICES, 128, 128)
    source = Counted(values)
    viewer = ViewerModel()
    viewer.add_image(
        counted_dask(source, 1, 1, 32, 32), contrast_limits=(0, 4000), axis_labels=("c", "z", "y", "x"), name="big"
    )
    (_, frame, _) = LayerLink(viewer).frames()
    before = source.bytes_read
    region = frame.open()[32:64, 64:96]
    np.testing.assert_array_equal(region, np.moveaxis(values[:, 1, 32:64, 64:96], 0, -1))
    assert source.bytes_read - before == 2 * 32 * 32 * 2


def test_a_zarr_array_is_read_region_by_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = stack(SLICES, 256, 256)
    array = zarr.create_array(tmp_path / "big.zarr", shape=values.shape, chunks=(1, CHUNK, CHUNK), dtype=np.uint16)
    array[:] = values
    viewer = ViewerModel()
    viewer.add_image(array, contrast_limits=(0, 4000), name="big")
    (_, frame, _) = LayerLink(viewer).frames()
    read: list[Any] = []
    whole_read = zarr.Array.__getitem__

    def counting(self: zarr.Array, index: Any) -> Any:
        part = whole_read(self, index)
        read.append(np.asarray(part).nbytes)
        return part

    monkeypatch.setattr(zarr.Array, "__getitem__", counting)
    np.testing.assert_array_equal(frame.open()[:CHUNK, CHUNK : 2 * CHUNK], values[1, :CHUNK, CHUNK : 2 * CHUNK])
    assert read == [CHUNK * CHUNK * 2]


class Means:
    """A backbone that knows the mean of 4 x 4 pixels."""

    key, levels, matching_strides, linear, halo = "means", (Level(4),), (4,), False, 8

    def to(self, device: str) -> "Means":
        return self

    def __call__(self, image: torch.Tensor) -> dict[Level, torch.Tensor]:
        return {Level(4): torch.nn.functional.avg_pool2d(image, 4)}


def test_a_large_slice_goes_through_the_backbone_without_ever_being_read_as_a_whole() -> None:
    source = Counted(stack(2, SIDE, SIDE))
    viewer = ViewerModel()
    viewer.add_image(source, contrast_limits=(0, 4000), name="big")
    (_, frame) = LayerLink(viewer).frames()
    source.bytes_read = source.largest = 0
    features = FeatureExtractor(Means(), "cpu", FeatureCache(), tile_values=128 * 128).open(frame.open())
    for tile in features.tiles:
        features.pyramid(tile)
    assert len(features.tiles) > 9
    assert source.largest <= 2 * 256 * 256, "tiles for features, patches for the intensity scale"
