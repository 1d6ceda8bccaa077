"""The same answers on a graphics card as on the CPU."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_fewshot import Frame, Shot, SupportSet, list_segmenters, load_segmenter
from napari_fewshot.io.samples import ihc_sample
from napari_fewshot.models.extractor import FeatureExtractor
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
