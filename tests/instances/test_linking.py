"""Ids that stay from proposal to proposal, and along a stack."""

import itertools

import numpy as np
import pytest

from napari_fewshot.instances.linking import linked, matched


def disks(*places: tuple[int, int, int], radius: int = 5, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    """(row, column, id) of each; later ones lie over earlier ones."""
    ids = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for row, column, number in places:
        ids[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return ids


def test_an_object_keeps_its_number_when_it_moves_a_little() -> None:
    before = disks((10, 10, 4), (30, 40, 9))
    found = matched(disks((31, 42, 1), (11, 10, 2), (50, 70, 3)), before)
    assert found[31, 42] == 9 and found[11, 10] == 4
    assert found[50, 70] == 10  # new


def test_all_pairs_together_count_not_the_best_one() -> None:
    before = np.array([[1] * 6 + [2] * 8 + [0] * 2])
    now = np.array([[0] * 3 + [7] * 7 + [8] * 6])
    # 7 overlaps 2 (4 px of 11) more than 1 (3 of 10), but then 8, which overlaps 2 alone, has no partner
    assert matched(now, before)[0, [4, 12]].tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_the_pairing_is_the_best_of_all_pairings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, now = (
        np.repeat(rng.integers(0, 5, (1, 12)), rng.integers(1, 5, 12), axis=1).astype(np.int32) for _ in range(2)
    )
    width = min(before.shape[1], now.shape[1])
    before, now = before[:, :width], now[:, :width]

    def iou(i: int, j: int) -> float:
        shared = ((now == i) & (before == j)).sum()
        value = shared / ((now == i) | (before == j)).sum()
        return float(value) if value >= 0.1 else 0.0

    ids, old = [i for i in np.unique(now) if i], [j for j in np.unique(before) if j]
    slots = [*old, *[0] * len(ids)]
    best = max(
        sum(iou(i, j) for i, j in zip(ids, order, strict=False) if j)
        for order in itertools.permutations(slots, len(ids))
    )
    found = matched(now, before)
    reached = sum(iou(i, int(found[now == i][0])) for i in ids if found[now == i][0] in old)
    assert reached == pytest.approx(best)
    assert len(np.unique(found[found > 0])) == len(ids)


def test_objects_that_jump_are_found_within_reach_and_not_beyond() -> None:
    before, now = disks((10, 10, 4)), disks((10, 22, 1))
    assert matched(now, before)[10, 22] == 5
    assert matched(now, before, reach=3)[10, 22] == 4
    assert matched(now, before, reach=2)[10, 22] == 5


def test_a_stack_is_linked_and_no_number_is_given_twice() -> None:
    frames = [disks((20, 10 + 3 * t, 1), *([(45, 60, 2)] if t != 2 else [])) for t in range(5)]
    found = list(linked(frames))
    moving = [ids[20, 10 + 3 * t] for t, ids in enumerate(found)]
    assert len(set(moving)) == 1
    assert found[1][45, 60] == found[0][45, 60] and found[4][45, 60] == found[3][45, 60]
    assert found[3][45, 60] not in (moving[0], found[0][45, 60])  # it was gone in between


def test_nothing_links_to_nothing() -> None:
    empty = np.zeros((4, 4), np.int32)
    assert not any(ids.any() for ids in linked([empty, empty]))
    assert matched(np.eye(4, dtype=np.int32), empty).max() == 1


def test_frames_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="compare frames of one size"):
        matched(np.zeros((3, 4), np.int32), np.zeros((4, 3), np.int32))
