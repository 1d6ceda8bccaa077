"""The same answers on a graphics card as on the CPU: on a real one, or on an emulated one where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
import torchvision

from napari_fewshot import Frame, Shot, SupportSet, Tag, VolumeSettings, list_segmenters, load_segmenter
from napari_fewshot.instances.growing import GrowSettings
from napari_fewshot.instances.segmenter import InstanceSegmenter
from napari_fewshot.instances.splitting import SplitSettings
from napari_fewshot.io.samples import ihc_sample
from napari_fewshot.models import extractor as extractor_module
from napari_fewshot.models import list_backbones
from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.backbones.torchvision_trunks import TRUNKS, TorchvisionTrunk
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.cache_settings import CacheSettings
from napari_fewshot.models.devices import free_memory
from napari_fewshot.models.dml import Dml
from napari_fewshot.models.extractor import TILE_VALUES, FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.loading import load_backbone
from napari_fewshot.models.methods import logistic
from napari_fewshot.models.methods.base import TakesTags
from napari_fewshot.models.registry import AUTO_BACKBONE
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Region
from napari_fewshot.volumes.concept import Consistency, Surroundings
from napari_fewshot.volumes.consistency import Weights
from tests.contract.test_every_method import scene
from tests.emulated_card import EmulatedCard, Make, OnCard, emulated_card
from tests.models.test_timm import trunk as timm_trunk

IS_REAL = torch.cuda.is_available()
SIZE = (48, 64)
BACKBONES = [card.name for card in list_backbones() if not card.needs_weights]
WIDE = Frame("wide", scene(7, (32, 160), 2)[0])

pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not IS_REAL, reason="no GPU here that torch can use")


@pytest.fixture
def make() -> Make:
    """Whose card is emulated."""
    return "nvidia"


@pytest.fixture(autouse=True)
def card(make: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedCard | None]:
    """The emulated card; None where there is a real one."""
    if IS_REAL:
        yield None
        return
    monkeypatch.setattr(extractor_module, "_PROBE", 16)  # nothing is learnt of memory from this one
    monkeypatch.setattr(logistic, "_ITERATIONS", 20)  # for the CPU as well
    with emulated_card(make) as card:
        yield card


@cache
def kept(device: str) -> FeatureCache:
    """Features of the same few pictures, for all methods together."""
    return FeatureCache()


def frame(seed: int) -> Frame:
    return Frame(f"scene {seed}", scene(seed, SIZE, 2)[0])


def shot(seed: int) -> Shot:
    return Shot(frame(seed), scene(seed, SIZE, 2)[1])


def is_there(pyramid: FeaturePyramid) -> bool:
    return all(feature.is_cuda and isinstance(feature, OnCard) != IS_REAL for feature in pyramid.features.values())


# ---------------------------------------------------------------------------- methods
def loaded(method: str, backbone: str, device: str) -> FeatureSegmenter:
    """With tiles of 128 x 128 pixels."""
    segmenter = load_segmenter(method, backbone=backbone, device=device, cache=kept(device))
    assert isinstance(segmenter, FeatureSegmenter)
    segmenter.extractor.tile_values = 1 << 10
    return segmenter


def answer(segmenter: FeatureSegmenter) -> Proposal:
    """Learn, take in another shot, forget the first and take in a tag: a proposal made of two tiles."""
    segmenter.learn(SupportSet([shot(1)]))
    segmenter.learn(SupportSet([shot(1), shot(2)]))
    tags = [Tag(frame(5), (1, 2))] if isinstance(segmenter.method, TakesTags) else []
    return segmenter.learn(SupportSet([shot(2)], tags=tags)).propose(WIDE)


@pytest.mark.parametrize(
    ("method", "backbone", "make"),
    [
        *((card.name, AUTO_BACKBONE, "apple") for card in list_segmenters()),
        ("ridge", "scale-space", "nvidia"),
        ("logistic", "scale-space", "nvidia"),
        *((card.name, "scale-space", "nvidia") for card in list_segmenters() if card.head and not card.needs_head),
    ],
)
def test_proposals_agree_with_the_cpu(method: str, backbone: str) -> None:
    segmenter = loaded(method, backbone, "cuda")
    there, here = answer(segmenter), answer(loaded(method, backbone, "cpu"))
    assert len(segmenter.extractor.open(WIDE.open()).tiles) == 2
    assert segmenter.extractor.device == "cuda" and not there.note
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=0.05)
    assert (there.labels == here.labels).mean() > 0.99
    assert there.score == pytest.approx(here.score, abs=0.02)


def test_a_frame_is_divided_as_on_the_cpu() -> None:
    labels, scores = [], []
    for device in ("cuda", "cpu"):
        concept = loaded("ridge", AUTO_BACKBONE, device).learn(SupportSet([shot(1)]))
        divided = concept.divide(WIDE)
        parts = [divided.propose(Region((0, 32), columns)) for columns in ((0, 96), (96, 160))]
        labels.append(np.concatenate([part.labels for part in parts], axis=1))
        scores.append(concept.score([evidence for part in parts for evidence in part.evidence]))
    there, here = labels
    assert (there == here).mean() > 0.99 and 0 < (here > 0).mean() < 1
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize("settings", [SplitSettings(), GrowSettings()])
def test_objects_agree_with_the_cpu(settings: SplitSettings | GrowSettings) -> None:
    image, classes = scene(1, SIZE, 1)
    numbers, _ = ndi.label(classes)
    found = []
    for device in ("cuda", "cpu"):
        made = load_segmenter("ridge", device=device, cache=kept(device))
        assert isinstance(made, FeatureSegmenter)
        embedding = Dml.trained_or_none(made.extractor)
        assert embedding is not None
        embedding.steps = 3
        segmenter = InstanceSegmenter(made, made.sibling(), settings, embedding)
        concept = segmenter.learn(SupportSet([Shot.of_objects(Frame("a", image), numbers.astype(np.int32))]))
        found.append(concept.propose(Frame("b", image[:, ::-1])).instances)
    there, here = found
    assert there is not None and here is not None
    assert here.max() == there.max() > 0 and (there == here).mean() > 0.99


def test_slices_decide_together_as_on_the_cpu() -> None:
    frames = Frame.of_stack("stack", np.stack([scene(1, SIZE)[0]] * 3), (1.0, 1.0), step=2.0)
    found = []
    for device in ("cuda", "cpu"):
        concept = loaded("ridge", AUTO_BACKBONE, device).learn(SupportSet([Shot(frames[1], scene(1, SIZE)[1])]))
        together = Consistency(concept, VolumeSettings("z"), Weights(0.5, 0.1)).around(Surroundings(frames))
        found.append(together.propose(frames[2]))
    there, here = found
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=0.05)
    assert (there.labels == here.labels).mean() > 0.99


# ---------------------------------------------------------------------------- features
def random_trunk(name: str) -> TorchvisionTrunk:
    """With the same random weights each time: they are made here and passed in, the package never does so."""
    torch.manual_seed(0)
    return TorchvisionTrunk(name, getattr(torchvision.models, name)().state_dict())


def trunk(name: str) -> Backbone:
    if name.startswith("timm:"):
        return timm_trunk(name.removeprefix("timm:"))
    return random_trunk(name) if name in TRUNKS else load_backbone(name)


@pytest.mark.parametrize("name", [*(TRUNKS if IS_REAL else ["resnet18", "mobilenet_v2"]), "timm:test_vit", *BACKBONES])
def test_features_agree_with_the_cpu_within_the_tolerance_of_half_precision(name: str) -> None:
    image = ihc_sample().frames[0].read()[:64, :64]
    on_cpu, on_gpu = FeatureExtractor(trunk(name), "cpu"), FeatureExtractor(trunk(name), "cuda")
    if getattr(on_gpu.backbone, "mixed_precision", False) and torch.cuda.get_device_capability() >= (7, 0):
        assert on_gpu.precision == torch.float16 and on_gpu.key.endswith("|cuda|float16")
    expected, found = on_cpu(image), on_gpu(image)
    again = on_gpu(image)
    assert is_there(found)
    for level, features in expected.features.items():
        ours, theirs = found.features[level].cpu().float(), features.float()
        deviation = ((ours - theirs).square().mean() / theirs.square().mean()).sqrt().item()
        assert deviation < 0.03, level
        assert found.features[level].is_contiguous()
        assert torch.equal(found.features[level], again.features[level]), "the same bits from the cache"


def test_features_come_back_to_the_card_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.models.cache_folder.RESERVE", 0)
    made = []
    for _ in range(2):
        folder = FeatureCache.from_settings(CacheSettings(1.0, 1.0, tmp_path))
        extractor = FeatureExtractor(load_backbone("scale-space"), "cuda", folder)
        made.append(extractor(frame(1).read()))
        assert folder.flush(10)
        assert folder.usage().entries == 1 and folder.notice is None
    fresh, read = made
    assert is_there(fresh) and is_there(read)
    for level in fresh.levels:
        assert torch.equal(fresh.features[level], read.features[level])


# ---------------------------------------------------------------------------- memory
@needs_gpu
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


@contextmanager
def filled(card: EmulatedCard | None) -> Iterator[None]:
    """Leave no memory on the card."""
    if card is not None:
        card.full = True
        yield
        card.full = False
        return
    hoard = list(fill_the_card())
    yield
    del hoard


@pytest.mark.parametrize("method", ["auto", "pfenet"])
def test_running_out_of_card_memory_ends_on_the_cpu_with_the_right_answer(
    method: str, card: EmulatedCard | None
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    first, asked = Shot(Frame("a", image), (image > 128).astype(np.int32)), Frame("q", image)
    support = SupportSet([first])
    expected = load_segmenter(method, device="cpu").learn(support).propose(asked)
    segmenter = load_segmenter(method, device="cuda")
    assert isinstance(segmenter, FeatureSegmenter)
    concept = segmenter.learn(support)
    with filled(card):
        segmenter.extractor.cache.release_memory()
        proposal = concept.propose(asked)
        again = segmenter.learn(SupportSet([first, shot(1)])).propose(asked)
    assert (proposal.labels == expected.labels).mean() > 0.99
    assert again.labels.any()
    if card is not None:
        assert segmenter.extractor.device == "cpu"
    assert segmenter.extractor.device == "cuda" or "ran out of memory" in proposal.note
