"""The embedding of `dml`: losses against slow twins, and what it learns of shots."""

import math

import numpy as np
import pytest
import torch

from napari_fewshot import Frame, Shot
from napari_fewshot.instances.embedding import TAUS, NumberedShot
from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.metric_learning import (
    EmbeddingConfig,
    EmbeddingHead,
    PixelSample,
    embedding_losses,
    features_at,
    good_masks,
    pair_loss,
    pair_weights,
    squared_distances,
)
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.blocks.standardise import standardisation
from napari_fewshot.models.dml import _CHUNK, NEIGHBOURS, PER_OBJECT, Dml, _tile_by_tile, neighbourhoods, pick_pixels
from napari_fewshot.models.extractor import FeatureExtractor
from tests.models.test_heads import CHANNELS, ToyBackbone, scene

IDS = torch.tensor([1, 1, 1, 2, 2, 5])


def vectors(seed: int = 0) -> torch.Tensor:
    return torch.randn(len(IDS), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def head(channels: int = sum(CHANNELS.values()), strides: tuple[int, ...] = tuple(CHANNELS)) -> EmbeddingHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EmbeddingHead(EmbeddingConfig(channels, strides, 16, 4))


def pixels(number: int = 60) -> PixelSample:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(number, sum(CHANNELS.values()), generator=generator)
    ids = torch.arange(number) % 4
    places = torch.stack([ids * 1.5, torch.zeros(number)], 1) + 0.3 * torch.randn(number, 2, generator=generator)
    return PixelSample(features, places, ids, torch.ones(number))


def test_its_key_tells_the_weights_that_learning_begins_with() -> None:
    model = Dml(FeatureExtractor(ToyBackbone(), torch.device("cpu")), head())
    key = model.key
    assert key.startswith("dml-") and key == Dml(model.extractor, head()).key
    with torch.no_grad():
        next(model.head.parameters()).add_(1)
    assert model.key != key


# ---------------------------------------------------------------------------- equations
def test_distances_are_those_of_a_loop() -> None:
    x, found = vectors(), squared_distances(vectors())
    for p in range(len(x)):
        for q in range(len(x)):
            assert found[p, q].item() == pytest.approx(sum(float(d) ** 2 for d in x[p] - x[q]), abs=1e-12)


def test_weights_are_inverse_to_sizes_and_half_is_for_pairs_of_one_object() -> None:
    found = pair_weights(IDS)
    same = IDS[:, None] == IDS
    assert found.sum().item() == pytest.approx(1) and found[same].sum().item() == pytest.approx(0.5)
    assert found[0, 5] / found[0, 3] == pytest.approx(2) and found[5, 5] / found[0, 1] == pytest.approx(9)
    assert pair_weights(torch.tensor([3, 3])).sum().item() == pytest.approx(1)


def test_the_pairwise_loss_is_that_of_a_loop() -> None:
    x, weights, expected = vectors(), pair_weights(IDS), 0.0
    for p in range(len(x)):
        for q in range(len(x)):
            s = 2 / (1 + math.exp(max(float((x[p] - x[q]).square().sum()), 0.0)))
            expected -= float(weights[p, q]) * (math.log(s) if IDS[p] == IDS[q] else math.log(1 - s))
    assert pair_loss(squared_distances(x), IDS).item() == pytest.approx(expected, rel=1e-6)


def test_with_a_floor_the_far_ends_of_a_large_object_cost_no_more_than_that() -> None:
    x, weights, expected = vectors(), pair_weights(IDS), 0.0
    for p in range(len(x)):
        for q in range(len(x)):
            s = 2 / (1 + math.exp(max(float((x[p] - x[q]).square().sum()), 0.0)))
            expected -= float(weights[p, q]) * (math.log(0.9 * s + 0.1) if IDS[p] == IDS[q] else math.log(1 - s))
    assert pair_loss(squared_distances(x), IDS, 0.1).item() == pytest.approx(expected, rel=1e-6)
    large = torch.tensor([[0.0], [1000.0]], dtype=torch.float64, requires_grad=True)
    loss = pair_loss(squared_distances(large), torch.tensor([1, 1]), 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(0.1) / 2) and large.grad is not None and not large.grad.any()


def test_the_loss_is_nothing_for_objects_on_spots_far_apart_and_finite_for_two_on_one_spot() -> None:
    spots = 20.0 * IDS[:, None].double()
    assert pair_loss(squared_distances(spots), IDS).item() == pytest.approx(0, abs=1e-9)
    together = torch.zeros(len(IDS), 2, dtype=torch.float64, requires_grad=True)
    loss = pair_loss(squared_distances(together), IDS)
    loss.backward()
    assert 1 < loss.item() < 10 and together.grad is not None and together.grad.isfinite().all()
    assert pair_loss(torch.zeros(0, 0), IDS[:0]).item() == 0


def test_good_masks_are_those_of_a_loop() -> None:
    x, shares = 0.7 * vectors(), torch.tensor([1.0, 4, 2, 1, 3, 6])
    found = good_masks(squared_distances(x), IDS, shares)
    for p in range(len(x)):
        for t, tau in enumerate(TAUS):
            mask = {q for q in range(len(x)) if 2 / (1 + math.exp(float((x[p] - x[q]).square().sum()))) >= tau}
            true = {q for q in range(len(x)) if IDS[q] == IDS[p]}
            common, union = (sum(float(shares[q]) for q in s) for s in (mask & true, mask | true))
            assert bool(found[p, t]) == (common >= 0.5 * union)
    assert 0 < found.float().mean() < 1


def test_features_of_pixels_are_those_of_the_standardised_and_enlarged_maps() -> None:
    pyramid, _ = scene(1)
    ys, xs = torch.tensor([0, 13, 63]), torch.tensor([0, 40, 79])
    whole = []
    for level, values in pyramid.features.items():
        scale, shift = standardisation(pyramid, level)
        whole.append(upsample(scale[:, None, None] * values + shift[:, None, None], level, pyramid.size))
    expected = torch.cat(whole)[:, ys, xs].T
    torch.testing.assert_close(features_at(pyramid, tuple(CHANNELS), ys, xs), expected, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------- training
def test_gradients_reach_every_number() -> None:
    network = head()
    torch.stack(list(embedding_losses(network, pixels()).values())).sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_loss_falls_in_twenty_steps() -> None:
    network, seen = head(), pixels()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(21):
        loss = torch.stack(list(embedding_losses(network, seen).values())).sum()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("value", [0, 1])
def test_losses_of_nothing_but_background_and_of_one_object_are_finite(value: int) -> None:
    seen = pixels()
    for kept in (slice(None), slice(1)):
        some = seen.only(torch.arange(60)[kept])
        losses = embedding_losses(head(), PixelSample(some.features, some.places, some.ids * 0 + value, some.shares))
        assert all(loss.isfinite() for loss in losses.values())


def test_the_head_of_the_paper_can_be_built() -> None:
    config = EmbeddingConfig.paper()
    found, logits = EmbeddingHead(config)(torch.zeros(2, config.channels), torch.zeros(2, 2))
    assert found.shape == (2, 64) and logits.shape == (2, len(TAUS))


# ---------------------------------------------------------------------------- pixels
def objects(size: tuple[int, int] = (64, 80)) -> np.ndarray:
    ids = np.zeros(size, np.int32)
    for number in range(12):
        y, x = divmod(number, 4)
        ids[4 + 20 * y : 20 + 20 * y, 2 + 16 * x : 18 + 16 * x] = number + 1
    return ids


def test_pixels_are_of_every_object_and_stand_for_all_of_it() -> None:
    ids = objects()
    ids[60, 75] = 13
    found = pick_pixels(ids, ids != 3, np.random.default_rng(0), 100, 32)
    assert found is not None
    ys, xs, shares = found
    of = ids[ys, xs]
    assert set(of.tolist()) == set(range(14)) - {3} and (of == 13).sum() == 1 and (of == 0).sum() == 32
    assert all((of == n).sum() == PER_OBJECT for n in (1, 12))
    for n in (0, 1, 13):
        assert shares[of == n].sum() == pytest.approx((ids == n).sum())
    assert pick_pixels(np.zeros((5, 5), np.int32), np.ones((5, 5), bool), np.random.default_rng(0), 9, 9) is None


def test_groups_are_an_object_and_those_next_to_it() -> None:
    ids = np.repeat(np.arange(60), 2).astype(np.int64)
    places = np.stack([ids, ids * 0], 1).astype(np.float32)
    groups = list(neighbourhoods(places, ids, np.random.default_rng(0)))
    assert len(groups) == 59
    for group in groups:
        numbers = np.unique(ids[group])[1:]  # without the background
        assert len(numbers) == NEIGHBOURS and np.ptp(numbers) == NEIGHBOURS - 1


# ---------------------------------------------------------------------------- shots
def image(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 6, (64, 80))
    return (60 + 90 * (objects() > 0) + 5 * (objects() % 3) + noise).clip(0, 255).astype(np.uint8)


class TwoChannelToy(ToyBackbone):
    """Whose images have one channel."""

    def __call__(self, image: torch.Tensor) -> dict[object, torch.Tensor]:
        return super().__call__(image.expand(3, -1, -1))  # type: ignore[return-value]


def dml(tile_values: int | None = None, steps: int = 40) -> Dml:
    return Dml(FeatureExtractor(TwoChannelToy(), tile_values=tile_values), head(), steps)  # type: ignore[arg-type]


def taught(seed: int, ids: np.ndarray) -> NumberedShot:
    return NumberedShot(Shot.of_objects(Frame(f"{seed}", image(seed)), ids), ids)


def test_learning_from_shots_makes_objects_more_compact_and_is_always_the_same() -> None:
    model = dml()
    before = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    ys, xs = np.nonzero(objects())
    spread = {}
    for steps in (0, 40):
        fitted = dml(steps=steps).fit((taught(1, objects()), taught(2, objects())), 9.0)
        found = fitted.at(Frame("q", image(3)), ys, xs)
        assert found.vectors.shape == (len(ys), 4) and found.goodness.shape == (len(ys), len(TAUS))
        assert np.isfinite(found.vectors).all() and 0 <= found.goodness.min() <= found.goodness.max() <= 1
        sample = slice(None, None, 7)
        squared = torch.from_numpy(np.square(found.vectors[sample, None] - found.vectors[None, sample]).sum(-1))
        spread[steps] = pair_loss(squared, torch.from_numpy(objects()[ys, xs][sample]).long()).item()
    assert spread[40] < spread[0]
    again = model.fit((taught(1, objects()), taught(2, objects())), 9.0)
    for name, tensor in fitted.head.state_dict().items():
        assert torch.equal(again.head.state_dict()[name], tensor)
        assert torch.equal(model.head.state_dict()[name], before[name])


def test_without_an_object_it_stays_as_it_was() -> None:
    model = dml()
    nothing = NumberedShot(Shot(Frame("a", image(1)), np.zeros((64, 80), np.int32)), np.zeros((64, 80), np.int32))
    assert model.fit((nothing,), 9.0).head is model.head
    assert model.fit((), 9.0).head is model.head


def test_an_object_of_one_pixel_is_enough() -> None:
    ids = np.zeros((64, 80), np.int32)
    ids[30, 40] = 1
    fitted = dml().fit((taught(1, ids),), 1.0)
    assert all(tensor.isfinite().all() for tensor in fitted.head.state_dict().values())
    assert fitted.at(Frame("q", image(2)), np.zeros(0, np.intp), np.zeros(0, np.intp)).vectors.shape == (0, 4)


def test_tiles_leave_no_seam_and_coordinates_are_those_of_the_frame() -> None:
    model = dml(steps=0).fit((), 9.0)
    big = np.tile(image(1), (4, 4))
    ys, xs = (v.ravel() for v in np.mgrid[:256:5, :320:5])
    whole = model.at(Frame("q", big), ys, xs)
    tiled = dml(tile_values=1 << 14, steps=0)
    assert len(tiled.extractor.open(Frame("q", big).open()).tiles) > 1
    apart = np.abs(tiled.fit((), 9.0).at(Frame("q", big), ys, xs).vectors - whole.vectors)
    assert apart.max() < 0.2 and np.ptp(whole.vectors[:, 0]) > 20


def test_memory_is_bounded_however_many_pixels_are_asked_for() -> None:
    sizes = []

    def made(pyramid: FeaturePyramid, ys: torch.Tensor, xs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        sizes.append(len(ys))
        return (torch.stack([ys, xs], 1).float(),)

    ys, xs = (v.ravel() for v in np.mgrid[:300, :300])
    frame = Frame("q", np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8))
    (found,) = _tile_by_tile(dml().extractor, frame, ys, xs, (2,), made)
    assert max(sizes) <= _CHUNK and sum(sizes) == len(ys)
    assert np.array_equal(found, np.stack([ys, xs], 1))
