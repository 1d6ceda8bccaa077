"""Which weights are chosen where the evidence is clear, and where it is not."""

import numpy as np

from napari_fewshot.volumes.consistency import Weights
from napari_fewshot.volumes.tuning import Counts, _best

BLOCKS, PIXELS = 16, 100
OFF = Weights(strength=0.0)


def _counts(wrong: np.ndarray) -> Counts:
    """Blocks of 100 pixels, half of them of the class, of which so many are taken for background."""
    background, objects = np.full(BLOCKS, PIXELS // 2), np.full(BLOCKS, PIXELS // 2)
    both = np.stack([background, objects - wrong], axis=1)
    proposed = np.stack([background + wrong, objects - wrong], axis=1)
    return np.stack([both, proposed, np.stack([background, objects], axis=1)], axis=1)


def test_a_gain_in_every_block_is_believed() -> None:
    scores = {OFF: _counts(np.full(BLOCKS, 20)), Weights(1.0, 0.05): _counts(np.full(BLOCKS, 10))}
    assert _best(scores) == Weights(1.0, 0.05)


def test_a_gain_that_one_block_alone_brings_is_not() -> None:
    wrong = np.full(BLOCKS, 20) + np.array([-20, *[1] * (BLOCKS - 1)])
    scores = {OFF: _counts(np.full(BLOCKS, 20)), Weights(1.0, 0.05): _counts(wrong)}
    gain = (20 * BLOCKS - wrong.sum()) / BLOCKS / PIXELS
    assert 0 < gain < 0.01
    assert _best(scores) == OFF


def test_no_gain_means_each_slice_by_itself() -> None:
    same = _counts(np.full(BLOCKS, 20))
    assert _best({OFF: same, Weights(1.0, 0.05): same, Weights(0.5, 0.1): _counts(np.full(BLOCKS, 25))}) == OFF


def test_of_those_that_gain_nearly_as_much_edges_are_kept_first_and_then_neighbours_count_most() -> None:
    scores = {
        OFF: _counts(np.full(BLOCKS, 30)),
        Weights(1.0, 0.2): _counts(np.full(BLOCKS, 10)),
        Weights(0.25, 0.1): _counts(np.full(BLOCKS, 12)),
        Weights(0.5, 0.1): _counts(np.full(BLOCKS, 13)),
        Weights(1.0, 0.05): _counts(np.full(BLOCKS, 24)),
    }
    assert _best(scores) == Weights(0.5, 0.1)
