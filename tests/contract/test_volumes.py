"""What holds for every registered method where the slices of a stack decide together."""

from typing import Any

import numpy as np
import pytest

from napari_fewshot import Frame, Shot, SupportSet, VolumeSettings, list_segmenters, load_segmenter
from napari_fewshot.models.registry import AUTO_BACKBONE
from napari_fewshot.volumes.concept import Consistency, Surroundings
from napari_fewshot.volumes.consistency import Weights

SIZE, SLICES = 32, 3


def _stack() -> tuple[Any, Any]:
    """A bright disc (class 1) and a striped one (class 2) that move from slice to slice."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:SLICES, :SIZE, :SIZE]
    labels = np.zeros((SLICES, SIZE, SIZE), np.int32)
    image = 0.2 + 0.05 * rng.standard_normal(labels.shape)
    for value, row, column in ((1, 9, 8), (2, 21, 22)):
        disc = (y - row - z) ** 2 + (x - column) ** 2 < 36
        labels[disc] = value
        image = np.where(disc, 0.8 if value == 1 else 0.5 + 0.25 * np.sin(1.5 * x), image)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), labels


IMAGES, LABELS = _stack()


@pytest.mark.parametrize("method", [card.name for card in list_segmenters()])
def test_slices_of_a_stack_decide_together(method: str) -> None:
    segmenter = load_segmenter(method, backbone=AUTO_BACKBONE, device="cpu")
    frames = Frame.of_stack("stack", IMAGES, (1.0, 1.0), step=4.0)
    concept = segmenter.learn(SupportSet([Shot(frames[1], LABELS[1])]))
    consistency = Consistency(concept, VolumeSettings("z"), Weights(0.5, 0.1))
    downwards, upwards = (consistency.around(Surroundings(frames)) for _ in range(2))
    proposal, alone = downwards.propose(frames[2]), concept.propose(frames[2])
    assert (proposal.key, proposal.class_ids, proposal.score) == (alone.key, alone.class_ids, alone.score)
    assert proposal.probabilities.shape == (3, SIZE, SIZE) and proposal.probabilities.dtype == np.float32
    np.testing.assert_allclose(proposal.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(proposal.labels, proposal.probabilities.argmax(axis=0))
    np.testing.assert_array_equal(proposal.confidence, proposal.probabilities.max(axis=0))
    assert (proposal.probabilities != alone.probabilities).any()
    upwards.propose(frames[0])
    np.testing.assert_array_equal(upwards.propose(frames[2]).probabilities, proposal.probabilities)
