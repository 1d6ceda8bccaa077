"""The same answers on a graphics card as on the CPU."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchvision

from napari_fewshot import Frame, Shot, SupportSet, list_segmenters, load_segmenter
from napari_fewshot.io.samples import ihc_sample
from napari_fewshot.models.backbones.torchvision_trunks import TRUNKS, TorchvisionTrunk
from napari_fewshot.models.devices import free_memory
from napari_fewshot.models.extractor import TILE_VALUES, FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here that torch can use"),
]


@pytest.mark.parametrize("method", [card.name for card in list_segmenters()])
def test_proposals_agree_with_the_cpu(method: str) -> None:
    sample = ihc_sample()
    support = SupportSet([sample.shot(3)])
    on_cpu, on_gpu = (
        load_segmenter(method, device=d).learn(support).propose(sample.frames[4]) for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu.probabilities, on_cpu.probabilities, atol=0.05)
    assert (on_gpu.labels == on_cpu.labels).mean() > 0.99
    assert on_gpu.score == pytest.approx(on_cpu.score, abs=0.02)


def trunk(name: str) -> TorchvisionTrunk:
    """With the same random weights each time: they are made here and passed in, the package never does so."""
    torch.manual_seed(0)
    return TorchvisionTrunk(name, getattr(torchvision.models, name)().state_dict())


@pytest.mark.parametrize("name", TRUNKS)
def test_features_agree_with_the_cpu_within_the_tolerance_of_half_precision(name: str) -> None:
    image = ihc_sample().frames[0].read()
    on_cpu, on_gpu = FeatureExtractor(trunk(name), "cpu"), FeatureExtractor(trunk(name), "cuda")
    if torch.cuda.get_device_capability() >= (7, 0):
        assert on_gpu.precision == torch.float16 and on_gpu.key.endswith("|cuda|float16")
    expected, found = on_cpu(image), on_gpu(image)
    again = on_gpu(image)
    for level, features in expected.features.items():
        ours, theirs = found.features[level].cpu().float(), features.float()
        deviation = ((ours - theirs).square().mean() / theirs.square().mean()).sqrt().item()
        assert deviation < 0.03, level
        assert found.features[level].is_contiguous()
        assert torch.equal(found.features[level], again.features[level]), "the same bits from the cache"


def test_tiles_get_smaller_where_others_have_filled_the_card() -> None:
    free = free_memory("cuda")
    assert free is not None and 0 < free <= torch.cuda.get_device_properties(0).total_memory
    assert 1 << 18 <= FeatureExtractor(trunk("vgg16"), "cuda").tile_values <= TILE_VALUES
    hoard = torch.empty(free - (2 << 30), dtype=torch.uint8, device="cuda")
    assert FeatureExtractor(trunk("vgg16"), "cuda").tile_values < TILE_VALUES
    del hoard


def fill_the_card() -> Iterator[torch.Tensor]:
    """Take all memory, in ever smaller pieces."""
    for size in (1 << 30, 1 << 26, 1 << 22, 1 << 20):
        try:
            while True:
                yield torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            continue


def test_running_out_of_card_memory_ends_on_the_cpu_with_the_right_answer() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (256, 256)).astype(np.uint8)
    support = SupportSet([Shot(Frame("a", image), (image > 128).astype(np.int32))])
    expected = load_segmenter("auto", device="cpu").learn(support).propose(Frame("q", image))
    segmenter = load_segmenter("auto", device="cuda")
    assert isinstance(segmenter, FeatureSegmenter)
    concept = segmenter.learn(support)
    hoard = list(fill_the_card())
    segmenter.extractor.cache.release_memory()
    proposal = concept.propose(Frame("q", image))
    assert (proposal.labels == expected.labels).mean() > 0.99
    assert isinstance(segmenter.extractor, FeatureExtractor)
    assert segmenter.extractor.device == "cuda" or "ran out of memory" in proposal.note
    del hoard
