"""SCL: vectors of what is found and what is missed, and shots that judge each other."""

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import one_against_rest
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.scl import SCL
from tests.models.toys import (
    LEVEL,
    dots,
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

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
PLAIN = SCL(PLAIN_LEVELS)
FINE = MatchingLevels((1,))


def two_looks(seed: int) -> tuple[SupportFeatures, Tensor, Tensor]:
    """A shot, its labels, and where a fifth of the thing is that looks even less like the rest than the ground does."""
    pyramid, labels = pictures(seed)
    ((level, features),) = pyramid.features.items()
    rows, columns = labels.nonzero().T
    odd = torch.zeros_like(labels, dtype=torch.bool)
    odd[rows[: len(rows) // 5], columns[: len(rows) // 5]] = True
    directions = torch.linalg.qr(noise(16, 16, seed=99))[0]
    look = 1.5 * directions[8] - directions[-2]  # the latter is what both parts of the thing share
    changed = torch.where(odd[None], look[:, None, None] + 0.1 * noise(16, 48, 64, seed=seed), features)
    return whole(FeaturePyramid({level: changed}, (48, 64)), labels), labels, odd


def test_primary_and_auxiliary_vector_are_the_averages_of_what_is_found_and_missed() -> None:
    """By loops over the pixels (eqs. 1 to 6), where both are used."""
    shot, _, _ = two_looks(1)
    method = SCL(MatchingLevels((1,), standardised=False))
    kept = method.summarise(shot)
    (said,) = method.fit([shot], (1,)).solution[0].shots
    assert said.vectors.shape == (2, 16)
    x = kept.labels[1].features
    mean = sum(x) / len(x)
    alone = SCL(MatchingLevels((1,), standardised=False), auxiliary=False).fit([shot], (1,)).solution[0].shots[0]
    torch.testing.assert_close(alone.vectors[0], mean)
    found, missed = [], []
    for pixel in x:
        similar = float(pixel @ mean / pixel.norm() / mean.norm())
        (found if similar > alone.calibration.threshold else missed).append(pixel)
    torch.testing.assert_close(said.vectors[0], sum(found) / len(found))
    torch.testing.assert_close(said.vectors[1], sum(missed) / len(missed))
    # Together they are the average, by area.
    together = (len(found) * said.vectors[0] + len(missed) * said.vectors[1]) / len(x)
    torch.testing.assert_close(together, mean)


def test_what_the_average_misses_is_found_with_a_vector_of_its_own() -> None:
    shot, _, _ = two_looks(1)
    other, truth, odd = two_looks(2)
    ((query, _),) = other.parts()
    guesses = {}
    for auxiliary in (True, False):
        method = SCL(MatchingLevels((1,), standardised=False), auxiliary)
        guesses[auxiliary] = method.predict(method.fit([shot], (1,)), query).argmax(0)
    assert iou(guesses[False], truth) < 0.85
    assert iou(guesses[True], truth) > 0.95
    assert (guesses[True][odd] == 1).double().mean() > 0.9


def test_where_nothing_is_missed_one_vector_is_enough() -> None:
    method = SCL(FINE)
    (said,) = method.fit([whole(*pictures(1))], (1,)).solution[0].shots  # type: ignore[arg-type]
    assert said.vectors.shape[0] == 1


def test_an_auxiliary_vector_never_makes_the_shot_worse() -> None:
    for seed in range(8):
        shot = random_shot(seed, stripes(0, 1))
        view = one_against_rest([PLAIN.summarise(shot)], 1)
        ious = []
        for auxiliary in (True, False):
            (said,) = SCL(PLAIN_LEVELS, auxiliary).fit([shot], (1,)).solution[0].shots
            guess = said.logit(view.features.T) > 0
            ious.append((view.weight[guess & view.positive].sum() / view.weight[guess | view.positive].sum()).item())
        assert ious[0] >= ious[1]


def test_a_shot_is_trusted_by_its_iou_on_the_other_shots() -> None:
    shots = [random_shot(seed, stripes(0, 1)) for seed in (1, 2, 3)]
    jury = PLAIN.fit(shots, (1,)).solution[0]
    for k, said in enumerate(jury.shots):
        ious = []
        for i, shot in enumerate(shots):
            if i == k:
                continue
            ((pyramid, labels),) = shot.parts()
            up = upsample(pyramid.features[LEVEL], LEVEL, pyramid.size)
            ious.append(iou(said.logit(up) > 0, labels == 1))  # eq. 15
        assert jury.trust[k].item() == pytest.approx(sum(ious) / 2, abs=1e-3)  # eq. 16
    assert ((jury.trust >= 0) & (jury.trust <= 1)).all()


def test_the_answer_is_the_mean_of_all_shots_by_trust() -> None:
    shots, cells = [random_shot(seed, stripes(0, 1)) for seed in (1, 2, 3)], random_pyramid(9).features[LEVEL]
    jury = PLAIN.fit(shots, (1,)).solution[0]
    expected = sum(u * said.logit(cells) for u, said in zip(jury.trust, jury.shots, strict=True)) / jury.trust.sum()
    torch.testing.assert_close(jury.logit(cells), expected)  # eq. 17, divided by the sum of the weights


def test_a_shot_with_a_wrong_mask_is_hardly_heard() -> None:
    shots = [whole(*pictures(seed), f"{seed}") for seed in (1, 2, 3)]  # type: ignore[arg-type]
    pyramid, labels = pictures(4)
    shots.append(whole(pyramid, 1 - labels, "4"))  # background painted as the thing
    jury = SCL(FINE).fit(shots, (1,)).solution[0]
    assert jury.trust[3] < 0.3 * jury.trust[:3].min()
    query, truth = pictures(9)
    guess = SCL(FINE).predict(SCL(FINE).fit(shots, (1,)), query).argmax(0)
    assert iou(guess, truth) > 0.95


def test_shots_that_all_fail_are_heard_alike() -> None:
    jury = PLAIN.fit([random_shot(seed, stripes(0, 1)) for seed in (1, 2)], (1,)).solution[0]
    cells = random_pyramid(9).features[LEVEL]
    silent = type(jury)(jury.shots, torch.zeros_like(jury.trust))
    torch.testing.assert_close(silent.logit(cells), torch.stack([s.logit(cells) for s in jury.shots]).mean(0))


def test_a_shot_of_strokes_on_things_only_borrows_the_background_of_another() -> None:
    pyramid, labels = pictures(1)
    strokes = torch.where(labels == 1, dots(labels), 255)
    empty, _ = pictures(2)
    nothing = whole(empty, torch.where(pictures(2)[1] == 1, 255, 0), "nothing here")
    method = SCL(FINE)
    state = method.fit([whole(pyramid, strokes), nothing], (1,))
    query, truth = pictures(9)
    assert iou(method.predict(state, query).argmax(0), truth) > 0.9


def test_the_length_of_features_is_irrelevant() -> None:
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))


@pytest.mark.parametrize("relevance", [False, True])
def test_things_are_found_with_masks_and_with_strokes(relevance: bool) -> None:
    method = SCL(FINE, relevance=relevance)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95
