"""RePRI: its objective term by term, its guards, and large images in tiles."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_fewshot import Frame, Shot, SupportSet
from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.backbones.scale_space import ScaleSpace
from napari_fewshot.models.blocks.descent import Plain, steps
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.methods.base import Transductive
from napari_fewshot.models.methods.repri import (
    Classifier,
    RePRI,
    _objective,
    cross_entropy,
    divergence,
    entropy,
    make,
)
from tests.models.test_tiling import texture
from tests.models.toys import (
    LEVEL,
    SIZE,
    iou,
    noise,
    pictures,
    random_pyramid,
    random_shot,
    scaled,
    stripes,
    toy_ious,
    whole,
)

PLAIN = RePRI(MatchingLevels((4,), standardised=False))
FINE = RePRI(MatchingLevels((1,)))


def classifier(classes: int = 2, seed: int = 0) -> Classifier:
    return Classifier(noise(classes, 6, seed=seed), noise(classes, seed=seed + 1))


def by_hand(theta: Classifier, z: Tensor) -> Tensor:
    """Probability (1 + C, N) of each label, pixel by pixel."""
    rows = []
    for x in z.T:
        odds = [1.0] + [
            torch.exp(20 * (x @ w) / x.norm() / w.norm() - b).item() for w, b in zip(theta.w, theta.b, strict=True)
        ]
        rows.append([o / sum(odds) for o in odds])
    return torch.tensor(rows, dtype=torch.float64).T


def test_every_term_of_the_objective_equals_loops() -> None:
    theta, z, query = classifier(), noise(6, 30, seed=3), noise(6, 40, seed=4)
    y, weight = torch.randint(3, (30,), generator=torch.Generator().manual_seed(0)), noise(30, seed=5).abs()
    p, q = by_hand(theta, z), by_hand(theta, query)
    torch.testing.assert_close(theta.logits(z).softmax(0), p)
    ce = -sum(float(weight[i]) * p[y[i], i].log().item() for i in range(30))
    assert cross_entropy(theta.w, theta.b, z, y, weight).item() == pytest.approx(ce)
    h = -sum(float(v) * v.log().item() for column in q.T for v in column) / 40
    assert entropy(theta.logits(query)).item() == pytest.approx(h)
    marginal, pi = q.mean(1), torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(theta.marginal(query), marginal)
    kl = sum(float(m) * (m / n).log().item() for m, n in zip(marginal, pi, strict=True))
    assert divergence(marginal, pi).item() == pytest.approx(kl)
    total = _objective(theta.w, theta.b, z, y, weight, query, pi, entropy_weight=0.5, kl_weight=1.5)
    assert total.item() == pytest.approx(ce + 0.5 * h + 1.5 * kl)


def test_for_one_class_it_is_the_sigmoid_of_the_paper() -> None:
    theta, z = classifier(1), noise(6, 5, seed=3)
    s = torch.sigmoid(20 * torch.cosine_similarity(z, theta.w[0][:, None], dim=0) - theta.b[0])
    torch.testing.assert_close(theta.logits(z).softmax(0), torch.stack([1 - s, s]))


def test_amounts_diverge_unless_they_are_the_same() -> None:
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    assert divergence(p, p).item() == pytest.approx(0)
    for seed in range(20):
        other = noise(3, seed=seed).softmax(0)
        assert divergence(p, other) > 0 or torch.allclose(p, other)
    assert divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).isfinite()


def test_what_is_sure_has_no_entropy() -> None:
    assert entropy(torch.tensor([[100.0], [0.0]])).item() == pytest.approx(0)
    assert entropy(torch.zeros(4, 7)).item() == pytest.approx(np.log(4))


def test_the_length_of_vectors_and_features_is_irrelevant() -> None:
    theta, z = classifier(), noise(6, 5, seed=3)
    torch.testing.assert_close(Classifier(5 * theta.w, theta.b).logits(0.1 * z), theta.logits(z))
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))


def test_it_starts_at_the_averages_with_logits_of_zero_on_average() -> None:
    method = RePRI(MatchingLevels((4,), standardised=False), number=0)
    fitted = method.fit([random_shot(1, stripes(0, 1, 2))], (1, 2)).solution
    query = method.levels.draw([random_pyramid(9)], 4000)
    start = method._transductive(fitted, query, None)
    torch.testing.assert_close(start.logits(query)[1:].mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(start.w, fitted.prototypes)
    here = fitted.taught.y == 2
    torch.testing.assert_close(fitted.prototypes[1], fitted.taught.z[:, here].mean(1), atol=1e-6, rtol=0)


def test_small_steps_never_raise_the_objective() -> None:
    taught = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)).solution.taught
    query, pi = noise(6, 50, seed=7), torch.tensor([0.8, 0.2], dtype=torch.float64)
    objective = partial(_objective, entropy_weight=1, kl_weight=1)
    start = (noise(1, 6), torch.zeros(1, dtype=torch.float64))
    constants = (taught.z, taught.y, taught.weight, query, pi)
    losses = [loss for _, loss in steps(start, objective, constants, Plain(1e-3), 40)]
    assert all(after <= before for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


def test_without_its_terms_the_query_is_not_heard() -> None:
    taught = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)).solution.taught
    theta, pi = classifier(1), torch.tensor([0.5, 0.5], dtype=torch.float64)
    values = {
        _objective(theta.w, theta.b, taught.z, taught.y, taught.weight, noise(6, 50, seed=s), pi, 0.0, 0.0).item()
        for s in range(3)
    }
    assert len(values) == 1


def test_a_known_amount_is_found() -> None:
    method = RePRI(MatchingLevels((1,)), rate=0.05, number=200)
    fitted = method.fit([whole(*pictures(1))], (1,)).solution  # type: ignore[arg-type]
    pyramid, labels = pictures(2)
    query = method.levels.draw([pyramid], 4000)
    share = (labels == 1).double().mean()
    found = method._transductive(fitted, query, torch.stack([1 - share, share]))
    assert found.marginal(query)[1].item() == pytest.approx(share.item(), abs=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_the_shots_are_never_segmented_worse_than_without_the_query(seed: int) -> None:
    state = PLAIN.fit([random_shot(seed, stripes(0, 1, 2))], (1, 2))
    taught, alone = state.solution.taught, state.solution.inductive
    adapted = PLAIN.adapt(state, [random_pyramid(seed + 50)]).solution.transductive
    assert adapted is not None
    assert taught.iou(adapted) >= taught.iou(alone)


def test_nothing_is_invented_on_an_image_without_the_class() -> None:
    state = FINE.fit([whole(*pictures(1))], (1,))  # type: ignore[arg-type]
    pyramid, labels = pictures(3)
    ((level, features),) = pyramid.features.items()
    statistics = {level: (features.flatten(1).mean(1), features.flatten(1).std(1, correction=0))}
    ground = features[:, :, : 1 + int((labels == 0).all(0).long().cumprod(0).sum())]
    ground = torch.where((labels == 0)[None], features, ground[:, :1, :1])
    empty = FeaturePyramid({level: ground}, pyramid.size, statistics)
    adapted = FINE.adapt(state, [empty]).solution
    assert adapted.transductive is adapted.inductive, "the shots object"
    assert (FINE.predict(state, empty).argmax(0) == 1).double().mean() < 0.01


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_query_that_looks_a_little_different_is_learnt_from(seed: int) -> None:
    """All of it is a little more like the class than on the shots, the ground as well."""
    method = RePRI(MatchingLevels((1,), standardised=False))
    state = method.fit([whole(*pictures(1))], (1,))  # type: ignore[arg-type]
    pyramid, truth = pictures(seed)
    ((level, features),) = pyramid.features.items()
    shifted = features + 0.7 * state.solution.prototypes[0][:, None, None]
    query = FeaturePyramid({level: shifted}, pyramid.size)
    alone = state.solution.inductive.logits(shifted).argmax(0)
    assert iou(alone, truth) < 0.75
    assert iou(method.predict(state, query).argmax(0), truth) > 0.95


def test_adapting_changes_nothing_that_was_learnt_before() -> None:
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    w = state.solution.inductive.w.clone()
    adapted = PLAIN.adapt(state, [query])
    assert state.solution.transductive is None and torch.equal(state.solution.inductive.w, w)
    assert torch.equal(PLAIN.predict(adapted, query), PLAIN.predict(state, query))
    assert isinstance(PLAIN, Transductive)


def test_it_adapts_in_inference_mode_as_well_and_the_same() -> None:
    shots, query = [random_shot(1, stripes(0, 1))], random_pyramid(9)
    expected = PLAIN.predict(PLAIN.fit(shots, (1,)), query)
    with torch.inference_mode():
        inside = PLAIN.predict(PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9))
    assert torch.equal(inside, expected)


def test_padding_is_not_learnt_from() -> None:
    state = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,))
    features = random_pyramid(9).features[LEVEL]
    padded = FeaturePyramid({LEVEL: torch.cat([features, 100 * noise(6, 8, 2)], 2)}, SIZE)
    plain = FeaturePyramid({LEVEL: features}, SIZE)
    torch.testing.assert_close(*(PLAIN.levels.draw([p], 4000) for p in (padded, plain)))
    assert PLAIN.adapt(state, [padded]).solution.transductive is not None


def test_all_tiles_of_a_large_image_are_answered_for_in_the_same_way() -> None:
    image = texture(300, 900)
    support = SupportSet([Shot(Frame("a", image[:200, :300]), (image[:200, :300] > 128).astype(np.int32))])
    s = FeatureSegmenter(FeatureExtractor(ScaleSpace(), tile_values=1 << 22), make(ScaleSpace()), "test")
    concept = s.learn(support)
    whole_image = concept.propose(Frame("q", image))
    s.extractor.tile_values = 1
    told: list[tuple[int, int]] = []
    tiled = concept.propose(Frame("q", image), progress=lambda *at: told.append(at))
    assert (tiled.labels == whole_image.labels).mean() > 0.97
    assert [done for done, _ in told] == sorted(done for done, _ in told) and len({n for _, n in told}) == 1


def test_things_are_found_with_masks_and_with_strokes() -> None:
    assert min(toy_ious(FINE)) > 0.95
    assert min(toy_ious(FINE, shots=5, classes=2)) > 0.95
    assert min(toy_ious(FINE, strokes=True)) > 0.95
