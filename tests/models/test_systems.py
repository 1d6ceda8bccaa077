"""What holds for every system of the literature, on made-up features in float64."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.devices import moved
from napari_fewshot.models.methods.asgnet import ASGNet
from napari_fewshot.models.methods.asr import ASR
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState
from napari_fewshot.models.methods.cwt import CWT
from napari_fewshot.models.methods.fwb import FWB
from napari_fewshot.models.methods.knn import NearestNeighbours
from napari_fewshot.models.methods.panet import PANet
from napari_fewshot.models.methods.pfenet import PFENet
from napari_fewshot.models.methods.pmm import PMM
from napari_fewshot.models.methods.repri import RePRI
from napari_fewshot.models.methods.rpmm import RPMM
from napari_fewshot.models.methods.scl import SCL
from napari_fewshot.models.methods.sgone import SGOne
from tests.models.toys import (
    LEVEL,
    SIZE,
    WIDTH,
    in_halves,
    noise,
    permuted,
    pictures,
    random_pyramid,
    random_shot,
    stripes,
    whole,
)

Method = AdditiveMethod[Any, Any]
Make = Callable[[MatchingLevels], Method]


class OnLevels(PANet):
    """PANet takes features as they come."""

    def __init__(self, levels: MatchingLevels) -> None:
        super().__init__(levels.strides)


SYSTEMS: list[Make] = [OnLevels, NearestNeighbours, SGOne, PMM, RPMM, PFENet, FWB, RePRI, ASGNet, SCL, ASR, CWT]
PLAIN = MatchingLevels((4,), standardised=False)
FINE = MatchingLevels((1,))

pytestmark = pytest.mark.parametrize("make", SYSTEMS, ids=lambda make: make.name)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors in a state."""
    if isinstance(tree, Tensor):
        return [tree]
    if is_dataclass(tree):
        return [t for f in fields(tree) for t in tensors(getattr(tree, f.name))]
    if isinstance(tree, dict):
        return [t for value in tree.values() for t in tensors(value)]
    if isinstance(tree, tuple | list):
        return [t for value in tree for t in tensors(value)]
    return []


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def proposed(method: Method, state: AdditiveState[Any, Any], query: FeaturePyramid, classes: int) -> Tensor:
    p = method.predict(state, query)
    assert p.shape == (1 + classes, *query.size)
    assert p.isfinite().all() and p.min() >= 0
    torch.testing.assert_close(p.sum(0), torch.ones(query.size, dtype=p.dtype), atol=1e-5, rtol=0)
    return p


def test_answers_depend_on_features_and_shots_only_and_leave_no_trace(make: Make) -> None:
    """So nothing that is not handed in, such as the mask that is asked for, can have a part in them."""
    method = make(PLAIN)
    state = method.fit([random_shot(1, stripes(0, 1, 2)), random_shot(2, stripes(0, 1))], (1, 2))
    before = [t.clone() for t in tensors(state)]
    first = proposed(method, state, random_pyramid(9), 2)
    proposed(method, state, random_pyramid(10), 2)
    assert torch.equal(proposed(method, state, random_pyramid(9), 2), first)
    assert same(before, tensors(state))
    query = random_pyramid(9)
    kept = query.features[LEVEL].clone()
    fresh = make(PLAIN)
    again = fresh.fit([random_shot(1, stripes(0, 1, 2)), random_shot(2, stripes(0, 1))], (1, 2))
    assert torch.equal(proposed(fresh, again, query, 2), first)
    assert torch.equal(query.features[LEVEL], kept)


def test_shots_come_and_go_without_a_trace(make: Make) -> None:
    method = make(PLAIN)
    a, b, c = (random_shot(seed, stripes(0, 1, 2)) for seed in (1, 2, 3))
    stepwise = method.update(method.update(method.fit([b], (1, 2)), [c], [], (1, 2)), [a], ["2"], (1, 2))
    assert same(stepwise.solution, method.fit([c, a], (1, 2)).solution)


def test_features_of_pixels_without_a_label_teach_nothing(make: Make) -> None:
    method = make(PLAIN)
    labels = stripes(0, 1, 255)
    changed = random_pyramid(1)
    changed.features[LEVEL][:, :, 8:] += 100  # beyond the cells that interpolate labelled pixels
    states = [method.fit([whole(pyramid, labels)], (1,)) for pyramid in (random_pyramid(1), changed)]
    torch.testing.assert_close(*(proposed(method, state, random_pyramid(9), 1) for state in states))


def test_the_order_of_features_is_irrelevant(make: Make) -> None:
    method, columns = make(PLAIN), torch.tensor([3, 1, 5, 0, 2, 4])
    shots, query = [random_shot(1, stripes(0, 1, 2))], random_pyramid(9)
    ((other, _),) = permuted([whole(query, stripes(0))], columns)[0].parts()
    expected = proposed(method, method.fit(shots, (1, 2)), query, 2)
    found = proposed(method, method.fit(permuted(shots, columns), (1, 2)), other, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_names_of_classes_are_irrelevant(make: Make) -> None:
    method, query = make(PLAIN), random_pyramid(9)
    a = proposed(method, method.fit([random_shot(1, stripes(0, 1, 2))], (1, 2)), query, 2)
    b = proposed(method, method.fit([random_shot(1, stripes(0, 2, 1))], (1, 2)), query, 2)
    torch.testing.assert_close(b[[0, 2, 1]], a, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "labels",
    [
        stripes(1),
        stripes(1, 255),
        torch.zeros(SIZE, dtype=torch.long).index_fill(0, torch.tensor([0]), 1),
        torch.zeros(SIZE, dtype=torch.long).index_put((torch.tensor(3), torch.tensor(5)), torch.tensor(1)),
        torch.full(SIZE, 255).index_put((torch.tensor(3), torch.tensor(5)), torch.tensor(1)),
    ],
    ids=["all of it", "no background", "a line", "a dot", "a dot and nothing else"],
)
@pytest.mark.parametrize("size", [(32, 40), (17, 33), (4, 4)], ids=str)
def test_little_to_learn_from_is_enough_to_answer(make: Make, labels: Tensor, size: tuple[int, int]) -> None:
    for levels in (PLAIN, MatchingLevels((4,))):
        method = make(levels)
        state = method.fit([random_shot(1, labels)], (1,))
        proposed(method, state, random_pyramid(9, size), 1)


def test_features_that_are_the_same_everywhere_do_no_harm(make: Make) -> None:
    method = make(MatchingLevels((4,)))
    for value in (0.0, 3.0):
        flat = FeaturePyramid({LEVEL: torch.full((WIDTH, 8, 10), value, dtype=torch.float64)}, SIZE)
        proposed(method, method.fit([random_shot(1, stripes(0, 1))], (1,)), flat, 1)
        proposed(method, method.fit([whole(flat, stripes(0, 1))], (1,)), random_pyramid(9), 1)


def test_shots_that_show_nothing_and_shots_without_any_label_are_welcome(make: Make) -> None:
    method = make(PLAIN)
    silent = random_shot(3, stripes(255))
    shots = [random_shot(1, stripes(0, 1)), random_shot(2, stripes(0))]
    with_silent, without = method.fit([*shots, silent], (1,)), method.fit(shots, (1,))
    assert torch.equal(*(proposed(method, state, random_pyramid(9), 1) for state in (with_silent, without)))
    with_empty = proposed(method, without, random_pyramid(2), 1)
    alone = proposed(method, method.fit(shots[:1], (1,)), random_pyramid(2), 1)
    assert with_empty[1].mean() <= alone[1].mean() + 0.02, "what shows nothing is found more seldom"


def test_many_classes_and_shots_are_no_obstacle(make: Make) -> None:
    method = make(PLAIN)
    labels = torch.arange(20).view(4, 5).repeat_interleave(8, 0).repeat_interleave(8, 1)
    shots = [random_shot(seed, labels.roll(seed, 1)) for seed in range(12)]
    proposed(method, method.fit(shots, tuple(range(1, 20))), random_pyramid(99), 19)


def test_a_shot_in_tiles_is_as_good_as_in_one_piece(make: Make) -> None:
    method = make(MatchingLevels((1,), standardised=False))
    query, truth = pictures(9)
    shot = whole(*pictures(1))  # type: ignore[arg-type]
    guesses = [proposed(method, method.fit([s], (1,)), query, 1).argmax(0) for s in (shot, in_halves(shot))]
    assert (guesses[0] == guesses[1]).double().mean() > 0.99
    assert (guesses[1] == truth).double().mean() > 0.97


def test_half_precision_is_computed_in_single(make: Make) -> None:
    def half(seed: int) -> FeaturePyramid:
        pyramid, _ = pictures(seed)
        return FeaturePyramid({level: f.half() for level, f in pyramid.features.items()}, pyramid.size)

    method = make(FINE)
    exact = method.fit([whole(*pictures(1))], (1,))  # type: ignore[arg-type]
    rough = method.fit([whole(half(1), pictures(1)[1])], (1,))
    p = proposed(method, rough, half(9), 1)
    assert p.dtype == torch.float32
    assert (p.argmax(0) == proposed(method, exact, pictures(9)[0], 1).argmax(0)).double().mean() > 0.99


def test_what_was_learnt_can_be_moved_and_used_in_inference_mode(make: Make) -> None:
    method, shot, query = make(PLAIN), random_shot(1, stripes(0, 1, 2)), random_pyramid(9)
    expected = proposed(method, method.fit([shot], (1, 2)), query, 2)
    with torch.inference_mode():
        state = moved(method.fit([random_shot(1, stripes(0, 1, 2))], (1, 2)), "cpu")
        assert torch.equal(proposed(method, state, random_pyramid(9), 2), expected)


def test_levels_are_compared_together(make: Make) -> None:
    def two(seed: int) -> FeaturePyramid:
        return FeaturePyramid({Level(2): noise(3, 16, 20, seed=seed), Level(8): noise(4, 4, 5, seed=seed + 50)}, SIZE)

    method = make(MatchingLevels((2, 8)))
    proposed(method, method.fit([whole(two(1), stripes(0, 1))], (1,)), two(2), 1)
