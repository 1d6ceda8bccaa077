"""Episodes ask for what their support shows, and the network learns through the solution of the classifier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.mica import MicaNet
from napari_fewshot.support import UNLABELLED
from napari_fewshot.training.episodes import EpisodeDraws, EpisodesSettings, Episodic, prepare, ridge
from napari_fewshot.training.pictures import Picture, PictureSet
from napari_fewshot.training.sources import Sources
from napari_fewshot.training.stages import Bench

SMALL = EpisodesSettings("mobilenet_v2", size=64, queries=2, most_shots=3, pixels=50, others=2, other_size=32)


def squares(number: int) -> Picture:
    """Two kinds of squares on dark noise: class 1 bright, class 3 half as bright; a strip that nobody labelled."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 40, (1, 96, 112))
    labels = np.zeros((96, 112), np.uint8)
    for value, brightness in ((1, 200), (3, 100)):
        for _ in range(3):
            y, x = rng.integers(0, 70, 2)
            labels[y : y + 22, x : x + 22] = value
            image[0, y : y + 22, x : x + 22] = brightness
    labels[-5:] = UNLABELLED
    return Picture(image.astype(np.uint8), labels)


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources((PictureSet("squares", tuple(squares(n) for n in range(4))),), (1.0,))


def drawn(sources: Sources, seed: int) -> tuple[Tensor, Tensor, int, Tensor]:
    images, labels, shots, others = EpisodeDraws(sources, SMALL)(np.random.default_rng(seed))
    return images, labels, int(shots), others


@pytest.mark.parametrize("seed", range(12))
def test_everything_that_is_asked_for_was_taught(sources: Sources, seed: int) -> None:
    images, labels, shots, others = drawn(sources, seed)
    assert 1 <= shots <= 3
    assert images.shape == (shots + 2, 3, 64, 64)
    assert labels.shape == (shots + 2, 64, 64)
    assert others.shape == (2, 3, 32, 32)
    taught = set(labels[:shots].unique().tolist()) - {UNLABELLED}
    asked = set(labels[shots:].unique().tolist()) - {UNLABELLED}
    assert asked <= taught
    assert taught == set(range(len(taught)))  # no gaps
    assert len(taught) >= 2


def test_an_episode_is_the_same_for_the_same_seed_and_another_for_another(sources: Sources) -> None:
    first, again, other = drawn(sources, 3), drawn(sources, 3), drawn(sources, 4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_some_episodes_are_painted_in_patches_and_some_in_full(sources: Sources) -> None:
    shares = [
        float((labels[:shots] == UNLABELLED).float().mean())
        for _, labels, shots, _ in (drawn(sources, s) for s in range(30))
    ]
    assert min(shares) < 0.2
    assert max(shares) > 0.6


def test_the_closed_form_is_the_weighted_least_squares_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=generator), torch.rand(40, 3, generator=generator)
    weights = torch.rand(40, generator=generator)
    solution = ridge(x, y, weights, torch.tensor(0.3)).requires_grad_(False)

    def objective(w: Tensor) -> Tensor:
        error = x @ w[:-1] + w[-1] - y
        return (weights[:, None] * error.square()).sum() + 0.3 * w[:-1].square().sum()

    slope = torch.autograd.functional.jacobian(objective, solution)
    assert slope.abs().max() < 1e-3


@pytest.fixture
def module(teacher: Path, sources: Sources) -> Episodic:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = prepare(SMALL, Bench(lambda: sources, MicaNet, torch.device("cpu"))).module
    assert isinstance(made, Episodic)
    return made.train()


def test_batch_normalisation_stands_still(module: Episodic, sources: Sources) -> None:
    norms = [m for m in module.distillation.net.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms if m.running_mean is not None]
    module(EpisodeDraws(sources, SMALL)(np.random.default_rng(0)))
    assert all(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True) if m.running_mean is not None)


def test_learning_makes_the_query_easier(module: Episodic, sources: Sources) -> None:
    """A few steps on one episode; the loss flows through the solution into the first convolution."""
    batch = EpisodeDraws(sources, SMALL)(np.random.default_rng(1))
    first = module(batch)["episode"]
    first.backward()
    stem = next(module.distillation.net.stem.parameters())
    assert stem.grad is not None
    assert stem.grad.abs().max() > 0
    optimiser = torch.optim.Adam(module.distillation.net.parameters(), 1e-3)
    for _ in range(8):
        optimiser.zero_grad()
        loss = module(batch)["episode"]
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.8 * first.item()


@pytest.mark.parametrize(
    "wrong", [{"queries": 0}, {"pixels": 0}, {"taught": -1}, {"size": 50}, {"others": 1}, {"teacher": "x"}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        EpisodesSettings(**wrong)  # type: ignore[arg-type]
