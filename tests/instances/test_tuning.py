"""How objects are told apart, chosen on shots that were left out."""

import numpy as np
import pytest

from napari_fewshot.instances.splitting import Clues, SplitSettings, filled, split
from napari_fewshot.instances.tuning import Rehearsed, choose

SIDE = 96
RADIUS = 9.0


def disks() -> np.ndarray:
    """(96, 96) nine disks apart from each other, numbered."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ids = np.zeros((SIDE, SIDE), np.int32)
    for number in range(9):
        row, column = divmod(number, 3)
        ids[(y - 16 - 32 * row) ** 2 + (x - 16 - 32 * column) ** 2 < RADIUS**2] = number + 1
    return ids


def rehearsed(foreground: np.ndarray, parts: np.ndarray) -> Rehearsed:
    truth = disks()
    clues = Clues(*(each.astype(np.float32) for each in (foreground, np.where(truth > 0, 0.9, 0.0), parts)))
    return Rehearsed(clues, truth, np.ones(truth.shape, bool))


def test_cores_and_rims_have_a_say_where_they_know_better() -> None:
    there = disks() > 0
    bridged = np.where(there, 0.9, 0.1)
    bridged[15:18] = 0.9  # a bar through three of them that the classes take for cells
    bridged[:, 60:63] = 0.9
    right = np.where(there, 0.9, 0.02)
    without, both = rehearsed(bridged, bridged), rehearsed(bridged, right)
    chosen = choose([both], RADIUS)
    assert isinstance(chosen.settings, SplitSettings) and chosen.settings.parts == 0.5
    before = choose([without], RADIUS)
    assert (chosen.merit or 0) > (before.merit or 0)
    np.testing.assert_array_equal(split(both.clues, chosen.settings, RADIUS) > 0, there)


def test_where_nothing_is_won_classes_decide_alone() -> None:
    right = np.where(disks() > 0, 0.9, 0.1)
    chosen = choose([rehearsed(right, right)], RADIUS)
    assert isinstance(chosen.settings, SplitSettings) and chosen.settings.parts == 0
    assert chosen.f1 == 1


def test_specks_of_almost_half_an_object_can_be_left_out() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    specks = np.zeros((SIDE, SIDE), bool)
    for row, column in ((0, 0), (1, 1), (0, 1), (1, 0)):
        specks |= (y - 32 - 32 * row) ** 2 + (x - 32 - 32 * column) ** 2 < 0.36 * RADIUS**2  # 0.36 of its area
    seen = np.where((disks() > 0) | specks, 0.9, 0.1)
    chosen = choose([rehearsed(seen, seen)], RADIUS)
    assert isinstance(chosen.settings, SplitSettings) and chosen.settings.min_area == 0.45
    assert chosen.f1 == 1


def test_foreground_is_a_mean_by_how_much_parts_have_a_say() -> None:
    clues = Clues(np.full((2, 2), 0.4, np.float32), np.zeros((2, 2), np.float32), np.full((2, 2), 0.8, np.float32))
    assert not filled(clues, 0.5).any() and filled(clues, 0.5, 0.5).all() and filled(clues, 0.7, 1.0).all()


@pytest.mark.parametrize("parts", [-0.1, 1.1])
def test_a_share_is_between_0_and_1(parts: float) -> None:
    with pytest.raises(ValueError, match="parts is"):
        SplitSettings(parts=parts)
