"""Thresholds are the best there are, and one rule makes several classes of binary answers."""

import pytest
import torch

from napari_fewshot.models.blocks.calibration import best_threshold, calibrate
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest, safe_logit
from tests.models.toys import noise


def weighted_iou(similarity: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor, threshold: float) -> float:
    guess = similarity > threshold
    return (weight[guess & positive].sum() / weight[guess | positive].sum()).item()


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_gives_a_better_iou(seed: int) -> None:
    similarity = noise(60, seed=seed).mul(5).round()  # with ties
    positive = similarity + 5 * noise(60, seed=seed + 100) > 2
    weight = noise(60, seed=seed + 200).abs() + 0.1
    found = weighted_iou(similarity, positive, weight, best_threshold(similarity, positive, weight))
    tried = [weighted_iou(similarity, positive, weight, t.item()) for t in torch.arange(-30, 30, 0.25)]
    assert found == pytest.approx(max(tried), abs=1e-12)


def test_leniency_moves_the_threshold_towards_the_background() -> None:
    similarity = torch.tensor([0.9, 0.7, 0.3, 0.0])
    positive, weight = torch.tensor([True, True, False, False]), torch.tensor([1.0, 1, 2, 1])
    assert calibrate(similarity, positive, weight).threshold == pytest.approx(0.5)
    assert calibrate(similarity, positive, weight, leniency=0.1).threshold == pytest.approx(0.5 - 0.1 * (0.5 - 0.2))
    assert calibrate(similarity[:2], positive[:2], weight[:2], leniency=0.1).threshold < 0.7


def test_what_can_be_separated_is_separated_half_way() -> None:
    similarity = torch.tensor([0.9, 0.1, 0.5, -0.3])
    positive = torch.tensor([True, False, True, False])
    assert best_threshold(similarity, positive, torch.ones(4)) == pytest.approx(0.3)


def test_without_background_all_that_was_painted_lies_above_with_some_room() -> None:
    similarity = torch.tensor([0.5, 0.9, 0.4, 0.7])
    assert best_threshold(similarity, torch.ones(4, dtype=torch.bool), torch.ones(4)) == pytest.approx(0.35)
    assert best_threshold(similarity[:1], torch.ones(1, dtype=torch.bool), torch.ones(1)) < 0.5


def test_where_all_is_best_called_foreground_all_lies_above() -> None:
    similarity = torch.tensor([0.2, 0.2, 0.2])
    assert best_threshold(similarity, torch.tensor([True, False, True]), torch.ones(3)) < 0.2


def test_the_slope_is_steep_where_similarity_decides_and_flat_where_it_does_not() -> None:
    positive = torch.arange(200) < 100
    sure, unsure = torch.where(positive, 0.9, 0.1).double(), 0.1 * noise(200) + 0.02 * positive
    slopes = [calibrate(s, positive, torch.ones(200)).slope for s in (sure, unsure)]
    assert slopes == [80, 5]
    c = calibrate(sure, positive, torch.ones(200))
    assert c.logit(torch.tensor([c.threshold, 1.0])).tolist() == pytest.approx([0, 40])


def test_one_vs_rest_sums_to_one_and_is_the_sigmoid_for_one_class() -> None:
    p = torch.rand(1, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = one_vs_rest(safe_logit(p)).softmax(0)
    torch.testing.assert_close(out, torch.cat([1 - p, p]))
    several = one_vs_rest(noise(4, 7)).softmax(0)
    torch.testing.assert_close(several.sum(0), torch.ones(7, dtype=torch.float64))


def test_one_vs_rest_answers_background_only_where_no_class_has_a_half() -> None:
    p = torch.rand(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    best = one_vs_rest(safe_logit(p)).argmax(0)
    assert torch.equal(best == 0, (p < 0.5).all(0))
    chosen = best > 0
    assert torch.equal(best[chosen] - 1, p.argmax(0)[chosen])


def test_certainty_has_a_finite_logit() -> None:
    ends = safe_logit(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert ends.isfinite().all()
    assert ends[1] == 0 and ends[0] == pytest.approx(-ends[2].item())
