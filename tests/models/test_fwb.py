"""Feature weighting and boosting by its equations, on made-up features in float64."""

from itertools import pairwise

import pytest
import torch

from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.methods.fwb import FWB, Ensemble
from tests.models.toys import (
    LEVEL,
    pictures,
    random_pyramid,
    random_shot,
    scaled,
    stripes,
    toy_ious,
    whole,
)

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
PLAIN = FWB(PLAIN_LEVELS)
FINE = MatchingLevels((1,))


def fitted(method: FWB, *seeds: int) -> tuple[Ensemble, ...]:
    return method.fit([random_shot(seed, stripes(0, 1)) for seed in seeds], (1,)).solution[0]


def test_a_proposal_is_the_vote_of_the_experts_by_their_iou() -> None:
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    ((ensemble,),) = state.solution
    cells = query.features[LEVEL]
    p = torch.zeros(8, 10, dtype=torch.float64)
    for y in range(8):
        for x in range(10):
            f_q = cells[:, y, x] * ensemble.relevance
            total = 0.0
            for f, b, rho in zip(ensemble.vectors, ensemble.thresholds, ensemble.confidence, strict=True):
                f_s = f * ensemble.relevance
                sigma = f_s @ f_q / f_s.norm() / f_q.norm()  # eq. 6
                p[y, x] += rho * torch.sigmoid(ensemble.slope * (sigma - b))  # eq. 8
                total += float(rho)
            p[y, x] /= total
    torch.testing.assert_close(ensemble.vote(cells), p)
    expected = upsample((p / (1 - p)).log()[None], LEVEL, query.size)[0].sigmoid()
    torch.testing.assert_close(PLAIN.predict(state, query)[1], expected, atol=1e-5, rtol=0)


def test_the_first_step_goes_downhill_by_the_rate_in_every_direction() -> None:
    """Which is what Adam does at first; the slope is found by finite differences here."""
    shot = random_shot(1, stripes(0, 1))
    ((pyramid, labels),) = shot.parts()
    (ensemble,) = fitted(PLAIN, 1)
    x = upsample(pyramid.features[LEVEL], LEVEL, pyramid.size).flatten(1) * ensemble.relevance[:, None]
    truth = (labels == 1).flatten()

    def loss(f: torch.Tensor) -> float:
        f_s = f * ensemble.relevance
        sigma = (f_s @ x) / f_s.norm() / x.norm(dim=0)
        p = torch.sigmoid(ensemble.slope * (sigma - ensemble.thresholds[0]))
        return (-0.5 * p[truth].log().mean() - 0.5 * (1 - p[~truth]).log().mean()).item()

    assert ensemble.losses[0] == pytest.approx(loss(ensemble.vectors[0]), rel=1e-5)
    for i in range(6):
        step = 1e-5 * torch.eye(6, dtype=torch.float64)[i]
        slope = loss(ensemble.vectors[0] + step) - loss(ensemble.vectors[0] - step)
        moved = (ensemble.vectors[1] - ensemble.vectors[0])[i].item()
        assert moved == pytest.approx(-0.01 if slope > 0 else 0.01, abs=1e-5)


def test_small_steps_never_raise_the_loss_on_the_shots() -> None:
    (ensemble,) = fitted(FWB(PLAIN_LEVELS, experts=20, rate=1e-3), 1, 2)
    assert all(after <= before for before, after in pairwise(ensemble.losses))
    assert ensemble.losses[-1] < ensemble.losses[0]


def test_experts_are_judged_by_the_shots_alone() -> None:
    (ensemble,) = fitted(PLAIN, 1)
    ((pyramid, labels),) = random_shot(1, stripes(0, 1)).parts()
    x = upsample(pyramid.features[LEVEL], LEVEL, pyramid.size) * ensemble.relevance[:, None, None]
    for f, b, rho in zip(ensemble.vectors, ensemble.thresholds, ensemble.confidence, strict=True):
        guess = torch.cosine_similarity((f * ensemble.relevance)[:, None, None].expand_as(x), x, dim=0) > b
        truth = labels == 1
        assert rho.item() == pytest.approx(((guess & truth).sum() / (guess | truth).sum()).item(), abs=1e-3)


def test_nothing_of_a_query_is_left_in_what_was_learnt() -> None:
    state = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,))
    before = [t.clone() for t in (state.solution[0][0].vectors, state.solution[0][0].confidence)]
    first = PLAIN.predict(state, random_pyramid(9))
    PLAIN.predict(state, random_pyramid(10))
    assert torch.equal(PLAIN.predict(state, random_pyramid(9)), first)
    after = (state.solution[0][0].vectors, state.solution[0][0].confidence)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_votes_lie_between_the_experts() -> None:
    (ensemble,) = fitted(PLAIN, 1)
    cells = random_pyramid(9).features[LEVEL]
    alone = torch.stack(
        [
            Ensemble(
                ensemble.vectors[n : n + 1],
                ensemble.thresholds[n : n + 1],
                torch.ones(1, dtype=torch.float64),
                (),
                ensemble.slope,
                ensemble.relevance,
            ).vote(cells)
            for n in range(10)
        ]
    )
    vote = ensemble.vote(cells)
    assert (vote <= alone.amax(0) + 1e-12).all() and (vote >= alone.amin(0) - 1e-12).all()


def test_one_expert_is_the_average_of_the_class_and_ten_begin_with_it() -> None:
    (alone,), (ten,) = fitted(FWB(PLAIN_LEVELS, experts=1), 1), fitted(PLAIN, 1)
    assert len(alone.vectors) == 1 and len(ten.vectors) == 10
    torch.testing.assert_close(ten.vectors[:1], alone.vectors)
    mean = PLAIN.summarise(random_shot(1, stripes(0, 1))).labels[1].mean
    torch.testing.assert_close(alone.vectors[0] / alone.vectors[0].norm(), mean / mean.norm())
    assert alone.relevance.norm().item() == pytest.approx(1)


def test_experts_that_are_all_useless_vote_alike() -> None:
    (e,) = fitted(PLAIN, 1)
    useless = Ensemble(e.vectors, e.thresholds, torch.zeros_like(e.confidence), e.losses, e.slope, e.relevance)
    alike = Ensemble(e.vectors, e.thresholds, torch.ones_like(e.confidence), e.losses, e.slope, e.relevance)
    cells = random_pyramid(9).features[LEVEL]
    torch.testing.assert_close(useless.vote(cells), alike.vote(cells))


def test_the_same_shot_twice_is_one() -> None:
    twice = [random_shot(1, stripes(0, 1)) for _ in range(2)]
    for fusion in ("joint", "average"):
        method = FWB(PLAIN_LEVELS, fusion)  # type: ignore[arg-type]
        once = method.fit(twice[:1], (1,))
        object.__setattr__(twice[1], "digest", "another")
        both = method.fit(twice, (1,))
        query = random_pyramid(9)
        torch.testing.assert_close(method.predict(both, query), method.predict(once, query), atol=1e-4, rtol=0)


def test_several_shots_share_one_ensemble_or_have_one_each() -> None:
    joint, average = PLAIN, FWB(PLAIN_LEVELS, "average")
    assert len(fitted(joint, 1, 2, 3)) == 1
    each = fitted(average, 1, 2, 3)
    assert len(each) == 3
    state, cells = average.fit([random_shot(s, stripes(0, 1)) for s in (1, 2, 3)], (1,)), random_pyramid(9)
    p = torch.stack([e.vote(cells.features[LEVEL]) for e in each]).mean(0)
    expected = upsample((p / (1 - p)).log()[None], LEVEL, cells.size)[0].sigmoid()
    torch.testing.assert_close(average.predict(state, cells)[1], expected, atol=1e-5, rtol=0)


def test_the_length_of_features_is_irrelevant() -> None:
    ((pyramid, labels),) = random_shot(1, stripes(0, 1)).parts()
    query = random_pyramid(9)
    expected = PLAIN.predict(PLAIN.fit([whole(pyramid, labels)], (1,)), query)
    longer = PLAIN.fit([whole(scaled(pyramid, 10), labels)], (1,))
    torch.testing.assert_close(PLAIN.predict(longer, scaled(query, 3)), expected, atol=1e-5, rtol=0)


def test_it_learns_in_inference_mode_as_well_and_the_same() -> None:
    shots, query = [whole(*pictures(1))], pictures(2)[0]  # type: ignore[arg-type]
    method = FWB(FINE)
    expected = method.predict(method.fit(shots, (1,)), query)
    with torch.inference_mode():
        pyramid, labels = pictures(1)
        inside = method.predict(method.fit([whole(pyramid, labels)], (1,)), query)
        assert torch.is_inference_mode_enabled()
    assert torch.equal(inside, expected)


@pytest.mark.parametrize("fusion", ["joint", "average"])
def test_things_are_found_with_masks_and_with_strokes(fusion: str) -> None:
    method = FWB(FINE, fusion)  # type: ignore[arg-type]
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95
