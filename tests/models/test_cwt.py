"""CWT: a linear head fitted to the shots, and attention of its weights to the query."""

import math

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.linear_head import fit_linear_head, head_loss
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.methods.cwt import CWT, attend
from tests.models.toys import LEVEL, noise, random_pyramid, random_shot, scaled, stripes, toy_ious, whole

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
PLAIN = CWT(PLAIN_LEVELS)
SHRINKAGE = 1e-2


def pixels(labels: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels and weights of some pixels."""
    x = torch.nn.functional.normalize(noise(90, 6, seed=labels), dim=1)
    y = torch.arange(90) % labels
    x[y == 0, 0] += 0.5
    weight = torch.rand(90, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, y, weight / weight.sum()


def test_the_loss_of_the_head_equals_loops() -> None:
    x, y, weight = pixels()
    w = noise(3, 6, seed=7)
    expected = 0.0
    for i in range(len(x)):
        scores = [sum(float(w[c, d] * x[i, d]) for d in range(6)) for c in range(3)]
        expected -= float(weight[i]) * (scores[int(y[i])] - math.log(sum(math.exp(s) for s in scores)))
    expected += SHRINKAGE / 2 * sum(float(v) ** 2 for v in w.flatten())
    assert head_loss(w, x, y, weight, SHRINKAGE).item() == pytest.approx(expected)


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_the_head_is_at_the_only_optimum(labels: int) -> None:
    """Its gradient is 0 there, and the loss bends upwards in every direction."""
    x, y, weight = pixels(labels)
    w = fit_linear_head(x, y, weight, SHRINKAGE).requires_grad_()
    (slope,) = torch.autograd.grad(head_loss(w, x, y, weight, SHRINKAGE), w)
    assert slope.abs().max() < 1e-5
    bend = torch.autograd.functional.hessian(lambda v: head_loss(v, x, y, weight, SHRINKAGE), w.detach())
    assert torch.linalg.eigvalsh(bend.view(w.numel(), w.numel())).min() >= SHRINKAGE - 1e-9
    best = head_loss(w, x, y, weight, SHRINKAGE)
    for seed in range(8):
        assert head_loss(w + 0.1 * noise(labels, 6, seed=seed), x, y, weight, SHRINKAGE) > best


def test_the_method_fits_the_head_to_unit_features_with_labels_of_equal_weight() -> None:
    shots = [random_shot(1, stripes(0, 0, 0, 1, 2)), random_shot(2, stripes(0, 255, 1))]
    x, y = [], []
    for value in (0, 1, 2):
        for shot in map(PLAIN.summarise, shots):
            if value in shot.labels:
                found = shot.labels[value].features
                x.append(found / found.norm(dim=1, keepdim=True))
                y += [value] * len(found)
    rows, labels = torch.cat(x), torch.tensor(y)
    weight = torch.stack([1 / (3 * (labels == value).sum()) for value in y]).double()
    w = PLAIN.fit(shots, (1, 2)).solution.w.requires_grad_()
    (slope,) = torch.autograd.grad(head_loss(w, rows, labels, weight, PLAIN.shrinkage), w)
    assert slope.abs().max() < 1e-5


def test_attention_equals_loops() -> None:
    w, cells = noise(3, 6, seed=1), torch.nn.functional.normalize(noise(6, 20, seed=2), dim=0)
    found = attend(w, cells, 0.3)
    for c in range(3):
        scores = [sum(float(w[c, d] * cells[d, n]) for d in range(6)) for n in range(20)]  # w W_q (F W_k)^T
        total = sum(math.exp(s) for s in scores)
        value = sum(math.exp(s) / total * cells[:, n] for n, s in enumerate(scores))
        torch.testing.assert_close(found[c], w[c] + 0.3 * w[c].norm() * value)  # eq. 3


def test_without_psi_the_weights_stay_and_the_order_of_cells_never_matters() -> None:
    w, cells = noise(3, 6, seed=1), torch.nn.functional.normalize(noise(6, 20, seed=2), dim=0)
    assert torch.equal(attend(w, cells, 0.0), w)
    torch.testing.assert_close(attend(w, cells[:, torch.randperm(20)], 0.5), attend(w, cells, 0.5))


def test_only_how_differently_labels_attend_counts() -> None:
    """On a query that is the same everywhere all rows of equal length get the same, which their softmax cancels."""
    w, flat = torch.tensor([[1.0, 2.0], [2.0, -1.0]]).double(), torch.tensor([[0.6], [0.8]]).double().expand(2, 9)
    difference = attend(w, flat, 0.5) - w
    torch.testing.assert_close(difference[0], difference[1])


def test_attention_adapts_to_the_query_that_is_asked_about_and_to_nothing_else() -> None:
    method = CWT(PLAIN_LEVELS, attention=0.5)
    state = method.fit([random_shot(1, stripes(0, 1))], (1,))
    before = state.solution.w.clone()
    query = random_pyramid(9)
    adapted = method.adapt(state, [query])
    assert torch.equal(state.solution.w, before) and not torch.equal(adapted.solution.w, before)
    assert torch.equal(method.predict(adapted, query), method.predict(state, query))
    assert PLAIN.adapt(state, [query]) is state


def test_a_label_that_nobody_painted_is_never_proposed() -> None:
    p = PLAIN.predict(PLAIN.fit([random_shot(1, stripes(1, 2, 255))], (1, 2)), random_pyramid(9))
    assert p[0].max() < 1e-9


def test_the_length_of_features_is_irrelevant() -> None:
    ((pyramid, labels),) = random_shot(1, stripes(0, 1)).parts()
    state, query = PLAIN.fit([whole(pyramid, labels)], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))
    longer = PLAIN.fit([whole(scaled(pyramid, 10), labels)], (1,))
    torch.testing.assert_close(PLAIN.predict(longer, query), PLAIN.predict(state, query), atol=1e-5, rtol=0)


def test_padding_is_not_attended_to() -> None:
    padded = noise(6, 9, 11, seed=3)
    pyramids = [FeaturePyramid({LEVEL: f}, (32, 40)) for f in (padded, padded[:, :8, :10])]
    torch.testing.assert_close(*(PLAIN_LEVELS.draw([pyramid], 1000) for pyramid in pyramids))


@pytest.mark.parametrize("attention", [0.0, 0.3])
@pytest.mark.parametrize("standardised", [True, False])
def test_things_are_found_with_masks_and_with_strokes(standardised: bool, attention: float) -> None:
    method = CWT(MatchingLevels((1,), standardised), attention=attention)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95
