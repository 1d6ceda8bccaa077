"""PANet's training by its equations, in loops and float64: embedded prototypes, the loss of the query, and PAR."""

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.methods.panet import PANet
from napari_fewshot.models.methods.panet_par import AlignedPANet, AlignmentConfig
from napari_fewshot.models.methods.trained import Episode
from tests.models.toys import (
    LEVEL,
    SIZE,
    WIDTH,
    dots,
    in_halves,
    noise,
    pictures,
    random_pyramid,
    random_shot,
    scaled,
    stripes,
    toy_ious,
    whole,
)

CONFIG = AlignmentConfig(WIDTH, (4,), width=5)


def method(config: AlignmentConfig = CONFIG, learnt: float = 0.3) -> AlignedPANet:
    """With every weight drawn; with `learnt` = 0 as training finds it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AlignedPANet(config)
    made.head.double()
    with torch.no_grad():
        for i, p in enumerate(made.head.parameters()):
            p.add_(learnt * noise(*p.shape, seed=i))
    return made


def episode(classes: tuple[int, ...] = (1, 2), **options: Any) -> Episode:
    """A picture with two classes and another with one of them; partly labelled query."""
    shots = (random_shot(1, stripes(0, 1, 2, 255)), random_shot(2, stripes(1, 0)))
    return Episode(shots, random_pyramid(9), options.get("labels", stripes(0, 1, 2, 1, 255)), classes)


def embedded_by_hand(head: Any, x: Tensor) -> Tensor:
    """One feature (D,): where it points to decides what is added, how long it is how much."""
    direction = x / x.pow(2).sum().sqrt() * WIDTH**0.5
    hidden = [max(0.0, float(w @ direction + b)) for w, b in zip(head.inner.weight, head.inner.bias, strict=True)]
    added = torch.stack([w @ x.new_tensor(hidden) + b for w, b in zip(head.outer.weight, head.outer.bias, strict=True)])
    return x + x.pow(2).sum().sqrt() / WIDTH**0.5 * added


def embedded_cells(head: Any, pyramid: FeaturePyramid) -> Tensor:
    cells = pyramid.features[LEVEL]
    rows = [
        torch.stack([embedded_by_hand(head, cells[:, y, x]) for x in range(cells.shape[2])], 1)
        for y in range(cells.shape[1])
    ]
    return torch.stack(rows, 1)


def prototypes_by_hand(head: Any, asked: Episode, class_ids: tuple[int, ...]) -> Tensor:
    rows = []
    for value in (0, *class_ids):
        means = []
        for shot in asked.shots:
            ((pyramid, labels),) = shot.parts()
            up = upsample(pyramid.features[LEVEL], LEVEL, SIZE)
            found = [
                embedded_by_hand(head, up[:, y, x])
                for y in range(SIZE[0])
                for x in range(SIZE[1])
                if labels[y, x] == value
            ]
            if found:
                means.append(torch.stack(found).mean(0))
        rows.append(torch.stack(means).mean(0))
    return torch.stack(rows)


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    return torch.stack([torch.cosine_similarity(features, p[:, None, None], dim=0) for p in prototypes])


def entropy_by_hand(logits: Tensor, wanted: Tensor, order: tuple[int, ...]) -> float:
    """Mean of -log softmax over all pixels with one of the labels in `order`."""
    each = [
        -float(logits[:, y, x].log_softmax(0)[order.index(int(wanted[y, x]))])
        for y in range(SIZE[0])
        for x in range(SIZE[1])
        if int(wanted[y, x]) in order
    ]
    return sum(each) / len(each)


# ---------------------------------------------------------------------------- equations
@torch.no_grad()
def test_the_answer_and_both_losses_equal_loops_over_classes_shots_and_pixels() -> None:
    trained, asked = method(), episode()
    prototypes = prototypes_by_hand(trained.head, asked, (1, 2))
    query = embedded_cells(trained.head, asked.query)
    logits = upsample(20 * cosines(query, prototypes), LEVEL, SIZE)  # eq. 3
    p = trained.predict(trained.fit(asked.shots, (1, 2)), asked.query)
    torch.testing.assert_close(p, logits.softmax(0), atol=1e-5, rtol=0)
    found = logits.argmax(0)
    assert found.unique().tolist() == [0, 1, 2]
    losses = trained.loss(asked)
    assert list(losses) == ["entropy", "alignment"]
    assert losses["entropy"].item() == pytest.approx(entropy_by_hand(logits, asked.labels, (0, 1, 2)), abs=1e-5)

    up, back = upsample(query, LEVEL, SIZE), []
    for class_id in (1, 2):
        both = torch.stack([up[:, found == value].mean(1) for value in (0, class_id)])
        for shot in asked.shots:
            ((pyramid, labels),) = shot.parts()
            if (labels == class_id).any():
                answers = upsample(20 * cosines(embedded_cells(trained.head, pyramid), both), LEVEL, SIZE)
                back.append(entropy_by_hand(answers, labels, (0, class_id)))  # eq. 7
    assert len(back) == 3
    assert losses["alignment"].item() == pytest.approx(sum(back) / 3, abs=1e-5)


@torch.no_grad()
def test_lambda_weighs_the_regularisation_and_nothing_else() -> None:
    losses = {
        weight: method(AlignmentConfig(WIDTH, (4,), width=5, alignment=weight)).loss(episode())
        for weight in (0, 1, 0.25)
    }
    assert list(losses[0]) == ["entropy"]
    assert losses[0]["entropy"] == losses[1]["entropy"] == losses[0.25]["entropy"]
    assert losses[0.25]["alignment"].item() == pytest.approx(0.25 * losses[1]["alignment"].item())


@torch.no_grad()
def test_before_training_it_is_panet() -> None:
    plain, fresh = PANet((4,)), method(learnt=0)
    for shots in (
        [random_shot(1, stripes(0, 1, 2)), random_shot(2, stripes(0, 2, 255))],
        [random_shot(1, stripes(1, 2))],
        [random_shot(1, dots(stripes(0, 1, 2)))],
    ):
        answers = [m.predict(m.fit(shots, (1, 2)), random_pyramid(9)) for m in (plain, fresh)]
        torch.testing.assert_close(*answers, atol=1e-9, rtol=0)


@torch.no_grad()
def test_how_bright_features_are_is_irrelevant() -> None:
    trained = method()
    state = trained.fit([random_shot(1, stripes(0, 1))], (1,))
    expected = trained.predict(state, random_pyramid(9))
    torch.testing.assert_close(trained.predict(state, scaled(random_pyramid(9), 100)), expected)
    brighter = whole(scaled(random_pyramid(1), 100), stripes(0, 1))
    torch.testing.assert_close(trained.predict(trained.fit([brighter], (1,)), random_pyramid(9)), expected)


@torch.no_grad()
def test_tiles_of_a_shot_teach_what_the_whole_teaches() -> None:
    trained = method(AlignmentConfig(16, (1,), width=5))
    pyramid, labels = pictures(1)
    shot = whole(pyramid, torch.where(labels == 1, 1, dots(labels, kept=0.5)))  # few enough for all to be kept
    at_once, in_parts = (trained.fit([s], (1,)).solution for s in (shot, in_halves(shot)))
    torch.testing.assert_close(in_parts, at_once)


# ---------------------------------------------------------------------------- training
def test_gradients_of_both_losses_are_those_of_differences() -> None:
    trained = method()
    asked = episode()
    for name in ("entropy", "alignment"):
        trained.head.zero_grad()
        trained.loss(asked)[name].backward()
        for p in trained.head.parameters():
            i, eps = int(p.grad.abs().argmax()), 1e-6  # type: ignore[union-attr]
            with torch.no_grad():
                p.view(-1)[i] += eps
                above = trained.loss(asked)[name].item()
                p.view(-1)[i] -= 2 * eps
                below = trained.loss(asked)[name].item()
                p.view(-1)[i] += eps
            assert p.grad.view(-1)[i].item() == pytest.approx((above - below) / 2 / eps, rel=1e-3)  # type: ignore[union-attr]


def test_from_its_zero_it_learns_to_tell_apart_what_panet_cannot() -> None:
    """A class of two opposite looks has an average that says nothing; a map of the features can join them."""

    def asked(seed: int) -> Episode:
        def shown(number: int) -> tuple[FeaturePyramid, Tensor]:
            labels = stripes(1, 0, 1, 0, 1)
            cells = 0.1 * noise(WIDTH, 8, 10, seed=number)
            cells[0, :, :2], cells[0, :, 4:6], cells[0, :, 8:] = 1, -1, 1  # the looks of the class
            cells[1, :, 2:4], cells[1, :, 6:8] = 1, -1  # and those of the ground
            return FeaturePyramid({LEVEL: cells}, SIZE), labels

        (shot, painted), (query, truth) = shown(seed), shown(seed + 1)
        return Episode((whole(shot, painted),), query, truth)

    def error(trained: AlignedPANet) -> float:
        held = asked(1000)
        p = trained.predict(trained.fit(held.shots, (1,)), held.query)
        return float((p.argmax(0) != held.labels).double().mean())

    trained = method(AlignmentConfig(WIDTH, (4,), width=16), learnt=0)
    before = error(trained)
    optimiser = torch.optim.AdamW(trained.head.parameters(), lr=3e-2)
    for step in range(100):
        optimiser.zero_grad()
        torch.stack([*trained.loss(asked(2 * step)).values()]).sum().backward()
        optimiser.step()
    assert before > 0.2
    assert error(trained) < 0.05


def test_where_nothing_is_found_only_the_query_teaches() -> None:
    trained, asked = method(), episode((1,))
    everything = FeaturePyramid({LEVEL: torch.ones(WIDTH, 8, 10, dtype=torch.float64)}, SIZE)  # all of it looks alike
    losses = trained.loss(Episode(asked.shots, everything, stripes(0, 1), (1,)))
    assert losses["alignment"] == 0
    assert losses["entropy"] > 0


def test_what_is_painted_of_no_class_asked_for_is_background() -> None:
    trained = method()
    truth, other = (episode((1,), labels=labels) for labels in (stripes(0, 1, 0, 1, 255), stripes(0, 1, 2, 1, 255)))
    assert trained.loss(truth)["entropy"] == trained.loss(other)["entropy"]


@torch.no_grad()
def test_a_toy_of_two_classes_is_solved() -> None:
    fresh = AlignedPANet(AlignmentConfig(16, (1,)))
    assert min(toy_ious(fresh, shots=2, classes=2, dtype=torch.float32)) > 0.95
