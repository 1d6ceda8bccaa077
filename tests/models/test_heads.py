"""What holds for every method with a trained head: a new one is tested by being registered."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.models import dml, heads, list_segmenters
from napari_fewshot.models import weights as stock
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.heads import find_head, header_of
from napari_fewshot.models.loading import trained_method
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.trained import Episode, TrainedMethod, config_of

CARDS = [card for card in list_segmenters() if card.head]
NAMES = [card.name for card in CARDS]
CHANNELS = {4: 5, 8: 6, 16: 7}
SIZE = (64, 80)
Method = TrainedMethod[Any, Any]


@dataclass
class ToyBackbone:
    """Features of three strides: the image, averaged, in as many linear mixtures as a level has channels."""

    key: str = "toy-1"
    levels: tuple[Level, ...] = tuple(Level(s) for s in CHANNELS)
    matching_strides: tuple[int, ...] = (4, 8)
    linear: bool = True
    halo: int = 16

    def to(self, device: str) -> "ToyBackbone":
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        mixed = {}
        for level in self.levels:
            mixing = torch.randn(CHANNELS[level.stride], 3, generator=torch.Generator().manual_seed(level.stride))
            cells = torch.nn.functional.avg_pool2d(image[None], level.stride)[0]
            mixed[level] = (mixing @ cells.flatten(1)).view(-1, *cells.shape[1:])
        return mixed


def scene(seed: int, size: tuple[int, int] = SIZE) -> tuple[FeaturePyramid, Tensor]:
    """A bright rectangle on noise, and its labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(size, dtype=torch.long)
    top, left = (int(torch.randint(0, max(1, side // 3), (1,), generator=generator)) for side in size)
    labels[top : top + size[0] // 2, left : left + size[1] // 2] = 1
    colour = torch.tensor([1.0, 0.2, -0.5])[:, None, None]
    image = 0.3 * torch.randn(3, *size, generator=generator) + colour * (labels == 1)
    padded = torch.nn.functional.pad(image, (0, -size[1] % 16, 0, -size[0] % 16))
    return FeaturePyramid(ToyBackbone()(padded), size), labels


def shot(seed: int, size: tuple[int, int] = SIZE) -> SupportFeatures:
    pyramid, labels = scene(seed, size)
    return SupportFeatures.whole(pyramid, labels, f"{seed}")


def episode(shots: int = 2) -> Episode:
    query, labels = scene(99)
    return Episode(tuple(shot(seed) for seed in range(shots)), query, labels)


def fresh(name: str) -> Method:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trained_method(name).fresh(ToyBackbone())


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> Method:
    return fresh(request.param)


def total(method: Method, asked: Episode) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.stack(list(method.loss(asked).values())).sum()


def perturbed(method: Method) -> Method:
    """With all weights moved a little, so that none is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in method.head.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return method


def proposed(method: Method, shots: list[SupportFeatures], query: FeaturePyramid, classes: int = 1) -> Tensor:
    method.head.eval()
    with torch.inference_mode():
        p = method.predict(method.fit(shots, tuple(range(1, classes + 1))), query)
    assert p.shape == (1 + classes, *query.size)
    assert p.isfinite().all() and p.min() >= 0
    torch.testing.assert_close(p.sum(0), torch.ones(query.size), atol=1e-5, rtol=0)
    return p


# ---------------------------------------------------------------------------- training
def test_gradients_reach_every_number(method: Method) -> None:
    perturbed(method).head.train()
    for shots in (1, 3):
        total(method, episode(shots)).backward()
    silent = [n for n, p in method.head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_the_loss_of_an_episode_falls_in_twenty_steps(method: Method) -> None:
    method.head.train()
    asked = episode()
    optimiser = torch.optim.AdamW(method.head.parameters(), lr=3e-3)
    before = total(method, asked).item()
    for _ in range(20):
        optimiser.zero_grad()
        total(method, asked).backward()
        optimiser.step()
    assert total(method, asked).item() < 0.9 * before


@pytest.mark.parametrize("labels", ["nothing on the query", "all of it", "hardly anything known", "nothing known"])
def test_losses_stay_finite(method: Method, labels: str) -> None:
    asked = episode()
    wanted = {
        "nothing on the query": torch.zeros(SIZE, dtype=torch.long),
        "all of it": torch.ones(SIZE, dtype=torch.long),
        "hardly anything known": torch.full(SIZE, 255).index_fill(0, torch.tensor([0]), 1),
        "nothing known": torch.full(SIZE, 255),
    }[labels]
    loss = total(method, Episode(asked.shots, asked.query, wanted))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.head.parameters())


def test_the_labels_of_the_query_have_no_part_in_the_answer(method: Method) -> None:
    asked = episode()
    expected = proposed(method, list(asked.shots), asked.query)
    total(method, asked)
    assert torch.equal(proposed(method, list(asked.shots), asked.query), expected)


# ---------------------------------------------------------------------------- use
def one_pixel() -> Tensor:
    labels = torch.zeros(SIZE, dtype=torch.long)
    labels[20, 31] = 1
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        one_pixel(),
        torch.where(one_pixel() == 1, 1, 255),
        torch.ones(SIZE, dtype=torch.long),
        torch.ones(SIZE, dtype=torch.long).index_fill(0, torch.arange(30), 255),
    ],
    ids=["a dot", "a dot and nothing else", "all of it", "no background"],
)
def test_little_to_learn_from_is_enough(method: Method, labels: Tensor) -> None:
    perturbed(method)
    for size in (SIZE, (17, 33), (16, 100), (4, 4)):
        proposed(method, [SupportFeatures.whole(scene(1)[0], labels, "a")], scene(2, size)[0])


def test_shots_of_other_sizes_and_such_that_show_nothing_are_welcome(method: Method) -> None:
    perturbed(method)
    empty = SupportFeatures.whole(scene(5)[0], torch.zeros(SIZE, dtype=torch.long), "empty")
    unknown = SupportFeatures.whole(scene(6)[0], torch.full(SIZE, 255), "unknown")
    proposed(method, [shot(1, (33, 17)), shot(2), empty, unknown], scene(9)[0])


def test_features_that_are_the_same_everywhere_do_no_harm(method: Method) -> None:
    perturbed(method)
    for value in (0.0, 3.0):
        features = {level: torch.full_like(f, value) for level, f in scene(1)[0].features.items()}
        flat = FeaturePyramid(features, SIZE)
        proposed(method, [shot(1)], flat)
        proposed(method, [SupportFeatures.whole(flat, scene(1)[1], "flat")], scene(2)[0])


def test_fifty_shots_and_twenty_classes_are_no_obstacle(method: Method) -> None:
    perturbed(method)
    proposed(method, [shot(seed) for seed in range(50)], scene(99)[0])
    labels = torch.arange(20).view(4, 5).repeat_interleave(16, 0).repeat_interleave(16, 1) + 1
    proposed(method, [SupportFeatures.whole(scene(s)[0], labels, f"{s}") for s in (1, 2)], scene(3)[0], classes=20)


def test_a_shot_in_tiles_is_enough(method: Method) -> None:
    perturbed(method)
    (pyramid, labels), (other, beside) = scene(1), scene(2)
    tiles = [(pyramid, labels), (other, torch.where(beside == 1, 255, beside))]
    proposed(method, [SupportFeatures(lambda: iter(tiles), True, "a")], scene(9)[0])


def test_names_of_classes_are_irrelevant(method: Method) -> None:
    perturbed(method)
    pyramid, labels = scene(1)
    labels[:16, 40:] = 2
    swapped = torch.tensor([0, 2, 1])[labels]
    a, b = (proposed(method, [SupportFeatures.whole(pyramid, x, "a")], scene(9)[0], 2) for x in (labels, swapped))
    torch.testing.assert_close(b[[0, 2, 1]], a, atol=1e-4, rtol=0)


def test_half_precision_is_computed_in_single(method: Method) -> None:
    perturbed(method)
    pyramid, labels = scene(1)
    half = FeaturePyramid({level: f.half() for level, f in pyramid.features.items()}, SIZE)
    p = proposed(method, [SupportFeatures.whole(half, labels, "a")], half)
    assert p.dtype == torch.float32


# ---------------------------------------------------------------------------- files
def test_a_head_is_found_by_its_method_and_the_features_that_it_was_trained_on(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(tmp_path))
    kind, backbone = type(method), ToyBackbone()
    assert kind.trained_or_none(backbone) is None
    with pytest.raises(SettingsError, match="choose the backbone mica, or train one"):
        kind.trained(backbone)
    header = header_of(method.name, backbone.key, method.config)
    save_file(perturbed(method).head.state_dict(), tmp_path / "mine.safetensors", header)
    found = find_head(method.name, backbone)
    assert found is not None and found.path == tmp_path / "mine.safetensors"
    assert find_head(method.name, ToyBackbone("toy-2")) is None
    assert kind.trained(backbone).key == method.key != fresh(method.name).key
    assert torch.equal(
        proposed(kind.trained(backbone), [shot(1)], scene(2)[0]), proposed(method, [shot(1)], scene(2)[0])
    )


def test_a_head_of_another_shape_is_refused(method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(tmp_path))
    save_file({"x": torch.ones(1)}, tmp_path / "mine.safetensors", header_of(method.name, "toy-1", method.config))
    with pytest.raises(WeightsError, match="not for this version"):
        type(method).trained(ToyBackbone())


@pytest.mark.parametrize("content", [b"", b"nothing like it", b"\x08" + bytes(7) + b"{}      "])
def test_files_that_are_no_heads_are_passed_over(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "other.safetensors").write_bytes(content)
    assert find_head("pfenet", ToyBackbone()) is None


def test_every_shipped_head_belongs_to_a_method_and_fits_it() -> None:
    for head in heads._shipped_heads():
        if head.method == dml.NAME:  # which tells objects apart
            heads.fill(dml.EmbeddingHead(config_of(dml.EmbeddingConfig, head.config)), head.read(), head.shipped_as)
            continue
        assert head.method in NAMES
        kind = trained_method(head.method)
        made = kind(heads_config(kind, head))
        heads.fill(made.head, head.read(), head.shipped_as)


def heads_config(kind: type[Method], head: heads.HeadFile) -> Any:
    return config_of(kind.configuration, head.config)


def numbers_in(head: nn.Module) -> int:
    return sum(p.numel() for p in head.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_of_the_paper_can_be_built(name: str) -> None:
    kind = trained_method(name)
    with torch.device("meta"):
        assert numbers_in(kind.network(kind.configuration.paper())) > 0
