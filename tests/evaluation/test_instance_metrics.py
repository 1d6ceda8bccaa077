"""F1 and average precision of objects, against a slow twin that looks at every pair of masks."""

import numpy as np
import pytest

from napari_fewshot.evaluation.instance_metrics import THRESHOLDS, ObjectCounts, count_objects, total
from napari_fewshot.evaluation.object_tables import object_table


def slowly(proposed: np.ndarray, truth: np.ndarray) -> ObjectCounts:
    """The same, one pair of masks after the other, each true object taken at most once."""
    ids, true_ids = [i for i in np.unique(proposed) if i], [i for i in np.unique(truth) if i]
    right = []
    for threshold in THRESHOLDS:
        taken: set[int] = set()
        for i in ids:
            for j in true_ids:
                a, b = proposed == i, truth == j
                if j not in taken and np.logical_and(a, b).sum() / np.logical_or(a, b).sum() > threshold:
                    taken.add(j)
                    break
        right.append(len(taken))
    return ObjectCounts(tuple(right), len(ids), len(true_ids))


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, and the same blobs somewhat moved, with other ids, some lost and some cut."""
    rng = np.random.default_rng(seed)
    truth, proposed = np.zeros((48, 64), np.int32), np.zeros((48, 64), np.int32)
    for number in range(1, 15):
        row, column, height, width = rng.integers((0, 0, 4, 4), (40, 56, 12, 12))
        truth[row : row + height, column : column + width] = number
        if rng.random() < 0.8:
            row, column = row + rng.integers(0, 3), column + rng.integers(0, 2)
            proposed[row : row + height, column : column + width] = 100 - 3 * number
    return proposed, truth


@pytest.mark.parametrize("seed", range(8))
def test_the_same_as_looking_at_every_pair(seed: int) -> None:
    proposed, truth = scene(seed)
    found = count_objects(proposed, truth)
    assert found == slowly(proposed, truth)
    assert 0 < found.right[0] < found.true


def test_the_truth_is_all_right_whatever_its_numbers() -> None:
    _, truth = scene(0)
    found = count_objects(np.where(truth > 0, 50 - truth, 0), truth)
    assert found.f1(0.9) == found.precision(0.9) == found.mean_precision() == 1.0


def test_half_an_object_is_not_found() -> None:
    truth = np.ones((4, 4), np.int32)
    half = np.where(np.arange(4) < 2, 1, 0) * truth
    assert count_objects(half, truth) == ObjectCounts((0,) * 9, 1, 1)


def test_figures_by_hand() -> None:
    counts = ObjectCounts((6, *[3] * 8), proposed=10, true=8)
    assert counts.f1() == 12 / 18 and counts.precision() == 6 / 12
    assert counts.f1(0.75) == 6 / 18 and counts.precision(0.75) == 3 / 15
    assert counts.mean_precision() == pytest.approx((0.5 + 8 * 0.2) / 9)


def test_images_are_added_up() -> None:
    scenes = [count_objects(*scene(seed)) for seed in range(3)]
    added = total(scenes)
    assert added.proposed == sum(each.proposed for each in scenes) and added.true == sum(each.true for each in scenes)
    assert added.right == tuple(sum(numbers) for numbers in zip(*(each.right for each in scenes), strict=True))


def test_what_nobody_knows_counts_for_nothing() -> None:
    proposed, truth = scene(1)
    known = np.arange(64)[None] < 32
    known = np.broadcast_to(known, truth.shape)
    found = count_objects(proposed, truth, known)
    inside = [
        i for i in np.unique(proposed[proposed > 0]) if (known & (proposed == i)).sum() * 2 >= (proposed == i).sum()
    ]
    assert found == slowly(np.where(known & np.isin(proposed, inside), proposed, 0), np.where(known, truth, 0))
    assert found.proposed < count_objects(proposed, truth).proposed


def test_no_objects_have_no_figures() -> None:
    none = np.zeros((3, 3), np.int32)
    counts = count_objects(none, none)
    assert counts.f1() is counts.precision() is counts.mean_precision() is None
    assert count_objects(np.ones((3, 3), np.int32), none).f1() == 0.0


def test_only_what_was_counted_can_be_asked() -> None:
    with pytest.raises(ValueError, match=r"nothing is counted at an IoU of 0\.3"):
        ObjectCounts().f1(0.3)


def test_a_table_has_a_row_for_each_set_and_a_mean_of_sets() -> None:
    good, bad = ObjectCounts((4,) * 9, 4, 4), ObjectCounts((0,) * 9, 4, 4)
    table = object_table({"a": {"x": good, "y": bad}, "b": {"x": bad}}).splitlines()
    assert table[2] == "| x | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 | 0.000 | 0.000 | 0.000 |"
    assert table[3] == "| y | 0.000 | 0.000 | 0.000 | 0.000 | – | – | – | – |"
    assert table[4].startswith("| **mean** | **0.500** |") and table[4].endswith("**0.000** |")
