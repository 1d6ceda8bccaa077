"""mIoU, FB-IoU and Dice against loops that are slow and obviously right."""

import numpy as np
import pytest

from napari_fewshot.evaluation.metrics import Counts, ImageCounts, Totals, count, mean
from napari_fewshot.frames import Labels


def slow_scores(queries: list[tuple[Labels, Labels, tuple[int, ...]]]) -> tuple[dict[int, float], float, float, float]:
    """Class IoU, mIoU, FB-IoU and Dice, pixel by pixel."""
    names = {"iou": {}, "dice": {}}
    classes = sorted({c for _, _, ids in queries for c in ids})
    for c in classes:
        both = either = areas = 0
        for proposed, truth, ids in queries:
            for guess, true in zip(proposed.ravel(), truth.ravel(), strict=True):
                if c in ids and true != 255:
                    both += guess == c and true == c
                    either += guess == c or true == c
                    areas += int(guess == c) + int(true == c)
        names["iou"][c], names["dice"][c] = both / either, 2 * both / areas
    front = [0, 0]
    back = [0, 0]
    for proposed, truth, ids in queries:
        for guess, true in zip(proposed.ravel(), truth.ravel(), strict=True):
            if true != 255:
                front[0] += guess in ids and true in ids
                front[1] += guess in ids or true in ids
                back[0] += guess not in ids and true not in ids
                back[1] += guess not in ids or true not in ids
    fb_iou = (front[0] / front[1] + back[0] / back[1]) / 2
    return (
        names["iou"],
        float(np.mean(list(names["iou"].values()))),
        fb_iou,
        float(np.mean(list(names["dice"].values()))),
    )


@pytest.mark.parametrize("ways", [1, 2])
def test_scores_are_those_of_a_loop_over_all_pixels(ways: int) -> None:
    rng = np.random.default_rng(ways)
    totals, queries = Totals(), []
    for _ in range(12):
        ids = tuple(int(c) for c in rng.choice([3, 7, 9, 12], ways, replace=False))
        values = [0, *ids]
        truth = rng.choice([*values, 255], (9, 11)).astype(np.int32)
        proposed = np.where(rng.random((9, 11)) < 0.6, truth % 255, rng.choice(values, (9, 11))).astype(np.int32)
        totals.add(count(proposed, truth, ids))
        queries.append((proposed, truth, ids))
    class_iou, miou, fb_iou, dice = slow_scores(queries)
    scores = totals.scores()
    assert scores.class_iou == pytest.approx(class_iou)
    assert scores.miou == pytest.approx(miou)
    assert scores.fb_iou == pytest.approx(fb_iou)
    assert scores.dice == pytest.approx(dice)


def test_pixels_are_added_up_before_they_are_divided() -> None:
    totals = Totals()
    totals.add(ImageCounts({1: Counts(90, 100, 90)}, Counts(90, 100, 90), Counts(0, 0, 10)))
    totals.add(ImageCounts({1: Counts(0, 0, 1)}, Counts(0, 0, 1), Counts(99, 100, 99)))
    scores = totals.scores()
    assert scores.miou == 90 / 101  # the mean of both images would be 0.45
    assert scores.fb_iou == pytest.approx((90 / 101 + 99 / 110) / 2)


def test_fb_iou_forgives_taking_one_class_for_another_and_miou_does_not() -> None:
    truth = np.array([[1, 1, 2, 2, 0, 0]], np.int32)
    proposed = np.array([[2, 2, 1, 1, 0, 0]], np.int32)
    totals = Totals()
    totals.add(count(proposed, truth, (1, 2)))
    assert totals.scores().miou == 0
    assert totals.scores().fb_iou == 1


def test_fb_iou_of_one_query_by_hand() -> None:
    truth = np.array([[1, 1, 0, 0], [0, 0, 255, 255]], np.int32)
    proposed = np.array([[1, 0, 1, 0], [0, 0, 1, 0]], np.int32)
    totals = Totals()
    totals.add(count(proposed, truth, (1,)))
    assert totals.scores().fb_iou == pytest.approx((1 / 3 + 3 / 5) / 2)


def test_a_false_positive_counts_on_a_query_that_does_not_show_the_class() -> None:
    nothing = np.zeros((2, 2), np.int32)
    totals = Totals()
    totals.add(count(nothing + 1, nothing, (1, 2)))
    assert totals.scores().class_iou == {1: 0.0, 2: None}
    assert totals.scores().miou == 0


def test_what_was_never_looked_for_is_in_no_mean() -> None:
    assert Totals().scores().miou is None
    assert Totals().scores().fb_iou is None
    assert mean([None, 0.5, None, 1.0]) == 0.75
