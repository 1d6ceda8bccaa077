"""Large images in tiles: no seam, no gap, no more than is needed is read."""

import numpy as np
import pytest
import timm
import torch
import torchvision

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.errors import ImageError
from napari_fewshot.frames import Pixels, Stack, content_digest
from napari_fewshot.imaging.intensity import intensity_scale
from napari_fewshot.imaging.tiling import plan_tiles, some_of
from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.backbones.scale_space import ScaleSpace
from napari_fewshot.models.backbones.timm_models import TimmTrunk
from napari_fewshot.models.backbones.torchvision_trunks import TRUNKS, TorchvisionTrunk
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.loading import _factory
from napari_fewshot.models.methods import auto, panet
from napari_fewshot.models.registry import list_backbones

WITHOUT_DOWNLOAD = {card.name: card.home for card in list_backbones() if not card.needs_weights}


class Counting:
    """An array that is read lazily and counts what is read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read = 0
        self.most = 0

    def __getitem__(self, region: object) -> np.ndarray:
        part = self.array[region]
        self.read += part.nbytes
        self.most = max(self.most, part.nbytes)
        return part


def texture(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((shape[0] // 8 + 1, shape[1] // 8 + 1)).repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]]
    return (200 * coarse + 50 * rng.random(shape)).astype(np.uint8)


@pytest.mark.parametrize("size", [(100, 3000), (1000, 1001), (2048, 512)])
def test_tiles_cover_every_pixel_once(size: tuple[int, int]) -> None:
    covered = np.zeros(size, int)
    for tile in plan_tiles(size, 200_000, 32, 16):
        covered[tile.core] += 1
        assert tile.read_rows[0] % 16 == tile.read_columns[0] % 16 == 0
        read = np.zeros(size, bool)
        read[tile.read] = True
        kept = np.zeros(size, bool)
        kept[tile.read][tile.kept] = True
        inner = np.zeros(size, bool)
        inner[tile.read][tile.kept][tile.inner] = True
        core = np.zeros(size, bool)
        core[tile.core] = True
        assert (inner == core).all()
        assert (kept | core == kept).all() and (read | kept == read).all()
        assert kept[tile.read][tile.kept].shape == tile.size
        assert tile.kept[0].start % 16 == tile.kept[1].start % 16 == 0
    assert (covered == 1).all()


def test_a_small_image_is_one_tile_and_a_tiny_budget_still_works() -> None:
    (tile,) = plan_tiles((300, 400), 120_000, 64, 16)
    assert tile.size == (300, 400)
    assert len(plan_tiles((300, 400), 1, 64, 16)) == 12
    assert some_of(plan_tiles((300, 400), 1, 0, 16), 3)[0].core == (slice(0, 128), slice(0, 128))


def random_trunk(name: str) -> Backbone:
    torch.manual_seed(0)
    if name.startswith("timm:"):
        return TimmTrunk(name, timm.create_model(name.removeprefix("timm:")).state_dict())
    return TorchvisionTrunk(name, getattr(torchvision.models, name)().state_dict())


@pytest.mark.parametrize("name", [*WITHOUT_DOWNLOAD, *TRUNKS, "timm:test_resnet", "timm:convnext_atto"])
def test_tiled_features_equal_untiled_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = _factory("backbones", WITHOUT_DOWNLOAD[name])(name) if name in WITHOUT_DOWNLOAD else random_trunk(name)
    image = texture(100, 2 * backbone.halo + 400)
    extractor = FeatureExtractor(backbone, tile_values=1)
    whole = extractor(image)
    pixels = Pixels(image, "")
    features = extractor.open(pixels)
    monkeypatch.setattr(features, "_scale", intensity_scale(pixels, image.size))
    assert len(features.tiles) > 4
    for tile in features.tiles[::2]:
        part = features.compute(tile)
        for level in whole.levels:
            inner = tuple(slice(s.start // level.stride, -(-s.stop // level.stride)) for s in tile.inner)
            core = tuple(slice(s.start // level.stride, -(-s.stop // level.stride)) for s in tile.core)
            a, b = part.features[level][:, *inner].float(), whole.features[level][:, *core].float()
            torch.testing.assert_close(a, b, atol=2e-3 * b.abs().max().item(), rtol=0)


def segmenter(module: object, tile_values: int) -> FeatureSegmenter:
    backbone = ScaleSpace()
    return FeatureSegmenter(FeatureExtractor(backbone, tile_values=tile_values), module.make(backbone), "test")  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [auto, panet])
def test_proposals_show_no_seams(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    image = texture(300, 900)
    labels = (image > 128).astype(np.int32)
    support = SupportSet([Shot(Frame("a", image[:200, :300]), labels[:200, :300])])
    s = segmenter(module, 1 << 22)
    concept = s.learn(support)
    whole = concept.propose(Frame("q", image))
    s.extractor.tile_values = 1
    tiled = concept.propose(Frame("q", image))
    assert (tiled.labels == whole.labels).mean() > 0.98  # statistics of the image come from some tiles only
    assert tiled.score == pytest.approx(whole.score, abs=0.01)
    monkeypatch.setattr("napari_fewshot.models.extractor._STATISTICS_TILES", 1000)
    tiled = concept.propose(Frame("q", image))
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=0.02)
    assert (tiled.labels == whole.labels).mean() > 0.999


@pytest.mark.parametrize("module", [auto, panet])
def test_teaching_on_a_tiled_image_equals_teaching_on_the_whole(module: object) -> None:
    image = texture(300, 900)
    labels = np.full(image.shape, 255, np.int32)
    labels[100:200, 350:600] = image[100:200, 350:600] > 128
    support = SupportSet([Shot(Frame("a", image), labels)])
    query = Frame("q", texture(128, 128, seed=1))
    whole = segmenter(module, 1 << 22).learn(support).propose(query)
    tiled = segmenter(module, 1).learn(support).propose(query)
    assert (tiled.labels == whole.labels).mean() > 0.97


def test_only_tiles_with_strokes_are_read_for_teaching() -> None:
    image = Counting(texture(1500, 1500))
    labels = np.full(image.shape, 255, np.int32)
    labels[10:20, 10:60] = 0
    labels[30:40, 10:60] = 1
    shot = Shot(Frame("a", image), labels)
    _ = shot.digest  # goes through all of it once
    image.read = image.most = 0
    extractor = FeatureExtractor(ScaleSpace(), tile_values=700 * 700)
    concept = FeatureSegmenter(extractor, panet.make(extractor.backbone), "test").learn(SupportSet([shot]))
    assert image.most <= 700 * 700
    assert image.read < 3 * image.array.nbytes  # percentiles, statistics from some tiles, and the tile with strokes
    assert concept.class_ids == (1,)


def test_a_large_lazy_image_is_never_read_whole() -> None:
    dask = pytest.importorskip("dask.array")
    tall = texture(730, 740).astype(np.uint16)
    lazy = Counting(tall)
    for source in (lazy, dask.from_array(tall, chunks=(500, 500)), lambda: lazy):
        s = segmenter(panet, 700 * 700)
        labels = (tall[:64, :64] > 128).astype(np.int32)
        concept = s.learn(SupportSet([Shot(Frame("a", tall[:64, :64]), labels)]))
        assert concept.propose(Frame("q", source)).labels.shape == tall.shape
    assert lazy.most <= 700 * 700 * tall.itemsize


def test_pixels_are_hashed_alike_in_one_piece_or_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    image = texture(300, 200)
    monkeypatch.setattr("napari_fewshot.frames._BLOCK", 1000)
    assert Pixels(Counting(image), "").digest() == content_digest(image)


def test_percentiles_of_large_images_come_from_patches_all_over() -> None:
    ramp = np.linspace(0, 1000, 3_000_000, dtype=np.float32).reshape(1500, 2000)
    some = intensity_scale(Pixels(Counting(ramp), ""), 1_000_000)
    assert some.low[0] == pytest.approx(0, abs=20)
    assert some.high[0] == pytest.approx(1000, abs=20)


@pytest.mark.parametrize("fails", [1, 3, 5])
def test_running_out_of_memory_halves_the_tiles_until_it_fits(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = texture(600, 700)
    labels = (image > 128).astype(np.int32)
    support = SupportSet([Shot(Frame("a", image[:64, :64]), labels[:64, :64])])
    s = segmenter(panet, 1 << 22)
    concept = s.learn(support)
    expected = concept.propose(Frame("q", image)).labels
    s.extractor.cache.release_memory()
    real, calls = ScaleSpace.__call__, []

    def failing(self: ScaleSpace, planes: torch.Tensor) -> object:
        calls.append(planes.shape)
        if len(calls) <= fails:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, planes)

    monkeypatch.setattr(ScaleSpace, "__call__", failing)
    if fails <= 4:
        guess = concept.propose(Frame("q", image)).labels
        assert s.extractor.tile_values == 1 << (22 - fails)
        assert (guess == expected).mean() > 0.99
    else:
        with pytest.raises(Exception, match=r"not enough memory.*smaller part"):
            concept.propose(Frame("q", image))


def test_a_device_that_stays_full_gives_way_to_the_cpu_with_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    s = segmenter(panet, 1 << 18)
    image = texture(64, 64)
    concept = s.learn(SupportSet([Shot(Frame("a", image), (image > 128).astype(np.int32))]))
    expected = concept.propose(Frame("q", image))
    s.extractor.cache.release_memory()
    s.extractor.device = "cuda:7"  # a card that is full: whatever is asked of it fails

    real = FeatureExtractor.compute

    def full(self: FeatureExtractor, *args: object) -> object:
        if self.device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureExtractor, "compute", full)
    monkeypatch.setattr("napari_fewshot.models.feature_segmenter.moved", lambda state, device: state)
    monkeypatch.setattr(torch, "tensor", lambda *a, device=None, **k: torch.as_tensor(*a, **k))
    proposal = concept.propose(Frame("q", image))
    assert "ran out of memory" in proposal.note and "CPU" in proposal.note
    np.testing.assert_array_equal(proposal.labels, expected.labels)


def test_an_error_that_is_not_about_memory_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter_ = load_segmenter("panet", backbone="scale-space", device="cpu")

    def broken(*_: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(ScaleSpace, "__call__", broken)
    image = texture(64, 64)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        segmenter_.learn(SupportSet([Shot(Frame("a", image), (image > 128).astype(np.int32))]))


def test_an_empty_slice_of_a_stack_stays_empty() -> None:
    """Judged by itself, its noise would be as bright as cells."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    planes = np.stack([20 + 3 * rng.standard_normal((96, 96)) for _ in range(5)])
    truth = np.zeros((5, 96, 96), np.int32)
    for z in (0, 1, 2):
        for cy, cx in rng.uniform(15, 80, (5, 2)):
            disc = (y - cy) ** 2 + (x - cx) ** 2 < 80
            planes[z][disc] += 60
            truth[z][disc] = 1
    stack = planes.astype(np.uint16)
    together, alone = Frame.of_stack("s", stack), [Frame(("s", z), plane) for z, plane in enumerate(stack)]
    found = {}
    for name, frames in (("together", together), ("alone", alone)):
        concept = load_segmenter("auto", device="cpu").learn(SupportSet([Shot(frames[0], truth[0])]))
        found[name] = [(concept.propose(frame).labels == 1).mean() for frame in frames]
    assert found["together"][1] == pytest.approx((truth[1] == 1).mean(), rel=0.3)
    assert found["together"][4] < 0.005
    assert found["alone"][4] > found["together"][4]


def test_a_constant_slice_of_a_stack_is_recognised_and_a_stack_is_looked_at_once() -> None:
    stack = np.stack([texture(64, 64, seed=z) for z in range(20)])
    stack[7] = 30
    sources = [Counting(plane) for plane in stack]
    frames = Frame.of_stack("s", sources)
    concept = load_segmenter("panet", device="cpu").learn(
        SupportSet([Shot(frames[0], (stack[0] > 128).astype(np.int32))])
    )
    looked_at = [source.read for source in sources]
    assert sum(read > 0 for read in looked_at) == 9  # the taught one is among them
    assert "same value" in concept.propose(frames[7]).note
    assert sources[3].read == 0
    concept.propose(frames[3])
    assert sources[3].read == stack[3].nbytes


def test_images_of_a_stack_that_cannot_be_read_are_left_out_of_its_scale() -> None:
    plane = texture(64, 64).astype(np.float32)
    broken = np.full_like(plane, np.nan)

    def gone() -> np.ndarray:
        raise ImageError("the layer was deleted")

    query = Frame("q", plane, stack=Stack.of([plane, broken, gone]))
    alone = Frame("q", plane)
    concept = load_segmenter("panet", device="cpu").learn(SupportSet([Shot(alone, (plane > 128).astype(np.int32))]))
    np.testing.assert_array_equal(concept.propose(query).labels, concept.propose(alone).labels)
    nothing = Frame("q", plane, stack=Stack.of([gone]))
    np.testing.assert_array_equal(concept.propose(nothing).labels, concept.propose(alone).labels)
