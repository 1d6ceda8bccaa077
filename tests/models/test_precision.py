"""How numbers are computed and kept: order in memory, half precision where it is faster, tiles that fit the card."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from skimage import data
from torch import Tensor

from napari_fewshot import SupportSet
from napari_fewshot.io.samples import ihc_sample
from napari_fewshot.models import extractor as extractor_module
from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.backbones.rgb import three_channels
from napari_fewshot.models.backbones.scale_space import ScaleSpace
from napari_fewshot.models.backbones.timm_models import TimmTrunk
from napari_fewshot.models.backbones.torchvision_trunks import TRUNKS, TorchvisionTrunk
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.cache_settings import CacheSettings
from napari_fewshot.models.devices import free_memory, peak_memory, working_precision
from napari_fewshot.models.extractor import TILE_VALUES, FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.methods import auto
from napari_fewshot.models.weights import FOLDER_VARIABLE

HALF, BFLOAT = torch.float16, torch.bfloat16


def random_trunk(name: str) -> TorchvisionTrunk:
    torch.manual_seed(0)
    return TorchvisionTrunk(name, getattr(torchvision.models, name)().state_dict())


def picture(height: int = 96, width: int = 128) -> np.ndarray:
    return data.camera()[100 : 100 + height, 150 : 150 + width]


def deviation(a: FeaturePyramid, b: FeaturePyramid) -> float:
    """Root mean square of the difference over that of the features, of the level where it is largest."""
    found = []
    for level in a.levels:
        x, y = a.features[level].float(), b.features[level].float()
        found.append(((x - y).square().mean() / y.square().mean()).sqrt().item())
    return max(found)


# ---------------------------------------------------------------------------- order in memory
@pytest.mark.parametrize("name", TRUNKS)
def test_channels_last_gives_the_features_of_the_usual_order(name: str) -> None:
    trunk = random_trunk(name)
    image = torch.from_numpy(picture()).float()[None] / 255
    stages = copy.deepcopy(trunk._stages).to(memory_format=torch.contiguous_format)
    x = ((three_channels(image) - trunk._mean) / trunk._std)[None].contiguous()
    with torch.inference_mode():
        for stage, scale, ours in zip(stages, trunk._scales, trunk(image).values(), strict=True):
            x = stage(x)
            torch.testing.assert_close(ours, scale * x[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 48), (200, 70)])
def test_features_are_kept_channel_by_channel_whatever_the_order_of_the_backbone(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractor_module, "_STRIP", 1000)
    f = torch.randn(7, *size, generator=torch.Generator().manual_seed(0)) * 1e5
    for features in (f, f[None].contiguous(memory_format=torch.channels_last)[0]):
        half = extractor_module._half(features)
        assert half.is_contiguous() and half.dtype == HALF
        torch.testing.assert_close(half, f.half().clamp(-65504, 65504), atol=0, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, HALF, BFLOAT])
def test_features_have_the_same_bits_fresh_from_memory_and_from_the_disk(
    precision: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fewshot.models.cache_folder.RESERVE", 0)
    trunk = random_trunk("resnet18")

    def opened() -> FeatureExtractor:
        cache = FeatureCache.from_settings(CacheSettings(1.0, 1.0, tmp_path))
        return FeatureExtractor(trunk, cache=cache, precision=precision)

    first = opened()
    fresh, kept = first(picture()), first(picture())
    assert first.cache.flush(10)
    second = opened()
    read = second(picture())
    assert second.cache.disk is not None and second.cache.usage().entries == 1
    for level in fresh.levels:
        for other in (kept, read):
            assert torch.equal(fresh.features[level], other.features[level])
            assert fresh.features[level].stride() == other.features[level].stride()


# ---------------------------------------------------------------------------- precision
@pytest.mark.parametrize("name", TRUNKS)
@pytest.mark.parametrize(("precision", "at_most"), [(HALF, 0.02), (BFLOAT, 0.15)])
def test_less_precision_changes_features_little_and_their_key(
    name: str, precision: torch.dtype, at_most: float
) -> None:
    trunk = random_trunk(name)
    single, less = FeatureExtractor(trunk), FeatureExtractor(trunk, precision=precision)
    assert 0 < deviation(less(picture()), single(picture())) < at_most
    assert less.key != single.key and str(precision).removeprefix("torch.") in less.key


@pytest.mark.parametrize(
    ("backbone", "at_most"), [("resnet18", 0.01), ("mobilenet_v2", 0.03), ("timm:vit_tiny_patch16_224", 0.01)]
)
def test_half_precision_changes_proposals_little_with_real_weights(
    backbone: str, at_most: float, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(shared_data / "weights"))
    made: Backbone = TimmTrunk(backbone) if backbone.startswith("timm:") else TorchvisionTrunk(backbone)
    sample = ihc_sample()
    pyramids, proposals = [], []
    for precision in (HALF, torch.float32):
        extractor = FeatureExtractor(made, precision=precision)
        pyramids.append(extractor(picture()))
        concept = FeatureSegmenter(extractor, auto.make(made), "test").learn(SupportSet([sample.shot(3)]))
        proposals.append(concept.propose(sample.frames[4]))
    assert deviation(*pyramids) < at_most
    half, single = proposals
    assert (half.labels == single.labels).mean() > 0.995
    np.testing.assert_allclose(half.probabilities, single.probabilities, atol=0.05)
    assert half.score == pytest.approx(single.score, abs=0.005)


class Overflowing:
    """Its features are those of the image, by way of numbers that half precision cannot hold where it is bright."""

    key, mixed_precision, levels, matching_strides, halo = "overflowing", True, (Level(1),), (1,), 0
    linear = False
    calls = 0

    def to(self, device: str) -> "Overflowing":
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        self.calls += 1
        up, down = torch.full((1, 1, 1, 1), 200.0), torch.full((1, 1, 1, 1), 1 / 200)
        large = F.conv2d(F.conv2d(image[None] * 100, up), up)
        return {Level(1): F.conv2d(F.conv2d(large, down), down)[0] / 100}


def test_what_half_precision_cannot_hold_is_computed_again_in_single() -> None:
    dark, bright = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    dark[0, 0], bright[::2] = 1, 1  # one bright pixel in a thousand becomes more than 1; half of all become 1
    backbone = Overflowing()
    with_half, single = FeatureExtractor(backbone, precision=HALF), FeatureExtractor(backbone)
    features = with_half(bright).features[Level(1)]
    assert backbone.calls == 2
    torch.testing.assert_close(features, single(bright).features[Level(1)], atol=1e-3, rtol=1e-3)
    assert features.max() == 1


def test_networks_work_in_half_precision_where_a_card_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert working_precision("cuda:0") == HALF
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert working_precision("cuda:0") == torch.float32
    assert working_precision("cpu") == working_precision("mps") == torch.float32


def test_going_on_on_the_cpu_goes_on_in_single_precision_under_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        extractor_module, "working_precision", lambda device: torch.float32 if device == "cpu" else HALF
    )
    trunk, jets = FeatureExtractor(random_trunk("resnet18")), FeatureExtractor(ScaleSpace())
    for extractor in (trunk, jets):
        extractor.device = "cuda:0"
    assert (trunk.precision, jets.precision) == (HALF, torch.float32), "derivatives are differences of like numbers"
    assert trunk.key.endswith("|half|cuda|float16") and jets.key.endswith("|half|cuda")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    while trunk.device != "cpu":
        assert trunk.relieve()
    assert trunk.precision == torch.float32 and trunk.key.endswith("|half|cpu")


# ---------------------------------------------------------------------------- tiles that fit the card
class Card:
    """A graphics card on which the backbone takes so many bytes a pixel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_gib: float, bytes_each: int) -> None:
        self.free, self.each = int(free_gib * (1 << 30)), bytes_each
        self.is_full = False
        monkeypatch.setattr(extractor_module, "free_memory", lambda device: self.free)
        monkeypatch.setattr(extractor_module, "peak_memory", self.measure)

    def measure(self, device: str, work: object) -> int:
        if self.is_full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 256 * 256 * self.each


@pytest.mark.parametrize(
    ("free_gib", "bytes_each", "expected"),
    [
        (80, 250, TILE_VALUES),  # more than enough: no larger than elsewhere, so that kept features fit tomorrow
        (8, 250, TILE_VALUES),
        (3, 250, TILE_VALUES // 2),  # 0.75 are for features that are kept; of the rest a quarter
        (4, 1000, TILE_VALUES // 4),
        (0.5, 250, 1 << 18),  # the least
    ],
)
def test_tiles_are_sized_from_the_free_memory_of_the_card(
    free_gib: float, bytes_each: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Card(monkeypatch, free_gib, bytes_each)
    assert FeatureExtractor(ScaleSpace()).tile_values == expected
    assert FeatureExtractor(ScaleSpace(), tile_values=1000).tile_values == 1000


def test_a_card_that_is_full_from_the_start_gets_the_smallest_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch, 8, 250)
    card.is_full = True
    extractor = FeatureExtractor(ScaleSpace())
    assert extractor.tile_values == 1 << 18
    assert not extractor.relieve(), "nothing smaller is left to try on the CPU"


def test_an_error_while_measuring_that_is_not_about_memory_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ScaleSpace, image: Tensor) -> dict[Level, Tensor]:
        raise RuntimeError("no kernel image is available for execution on the device")

    Card(monkeypatch, 8, 250)
    monkeypatch.setattr(ScaleSpace, "__call__", broken)
    with pytest.raises(RuntimeError, match="no kernel image"):
        FeatureExtractor(ScaleSpace())


def test_free_memory_is_what_the_card_and_torch_have_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"now": 100, "peak": 100}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: taken["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: taken["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    assert free_memory("cuda:0") == 1200
    assert free_memory("cpu") is None and free_memory("mps") is None
    assert peak_memory("cuda:0", lambda: taken.update(peak=170)) == 70
