"""What holds for objects, whatever tells classes apart: the wrapper knows no method, so two of them do."""

from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi

from napari_fewshot import Frame, PropagationSettings, Proposal, Shot, SupportSet, load_segmenter
from napari_fewshot import propagate as propagated
from napari_fewshot.models.registry import AUTO_BACKBONE
from napari_fewshot.segmenter import Concept, FewShotSegmenter

Array = Any

EIGHT = np.ones((3, 3))

pytestmark = pytest.mark.parametrize("method", ["auto", "panet"])


@pytest.fixture
def segmenter(method: str) -> FewShotSegmenter:
    return load_segmenter(method, backbone=AUTO_BACKBONE, device="cpu", instances=True)


def scene(seed: int, classes: int = 1) -> tuple[Array, Array, Array]:
    """Pairs of discs that touch, bright (class 1) or striped (class 2). Returns image, labels, ids."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:72, :96]
    image, labels, ids = 0.2 + 0.03 * rng.standard_normal(y.shape), np.zeros(y.shape, np.int32), np.zeros(y.shape, int)
    places = [(18, 16), (18, 32), (52, 44), (52, 60), (20, 74)]
    for number, (row, column) in enumerate(places, start=1):
        row, column = row + int(rng.integers(-2, 3)), column + int(rng.integers(0, 2))
        disc = ((y - row) ** 2 + (x - column) ** 2 < 81) & (ids == 0)
        value = 1 + (number == len(places)) * (classes - 1)
        image[disc] = 0.8 if value == 1 else 0.5 + 0.25 * np.sin(1.5 * x[disc])
        labels[disc], ids[disc] = value, 40 * number
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), labels, ids


def learnt(segmenter: FewShotSegmenter, *seeds: int, classes: int = 1) -> Concept:
    scenes = {seed: scene(seed, classes) for seed in seeds}
    return segmenter.learn(
        SupportSet(Shot(Frame(f"{s}", image), labels, instances=ids) for s, (image, labels, ids) in scenes.items())
    )


def check(proposal: Proposal) -> None:
    """Ids and labels go together."""
    ids, labels = proposal.instances, proposal.labels
    assert ids is not None and ids.shape == labels.shape and ids.dtype == np.int32
    np.testing.assert_array_equal(ids > 0, labels > 0)
    np.testing.assert_array_equal(np.unique(ids), np.arange(ids.max() + 1))
    for number in range(1, ids.max() + 1):
        assert len(np.unique(labels[ids == number])) == 1
        assert ndi.label(ids == number, EIGHT)[1] == 1
    assert (
        proposal.confidence.shape == labels.shape and 0 <= proposal.confidence.min() <= proposal.confidence.max() <= 1
    )


def test_every_object_is_in_one_piece_and_of_one_class(segmenter: FewShotSegmenter) -> None:
    check(learnt(segmenter, 1, 2, classes=2).propose(Frame("q", scene(7, 2)[0])))


def test_one_shot_without_ids_is_enough(segmenter: FewShotSegmenter) -> None:
    image, labels, _ = scene(1)
    check(segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(Frame("q", scene(7)[0])))


def test_the_same_work_gives_the_same_objects(method: str, segmenter: FewShotSegmenter) -> None:
    again = load_segmenter(method, backbone=AUTO_BACKBONE, device="cpu", instances=True)
    frame = Frame("q", scene(7)[0])
    first, second = (learnt(each, *seeds).propose(frame) for each, seeds in ((segmenter, (1, 2)), (again, (2, 1))))
    np.testing.assert_array_equal(first.instances, second.instances)


def test_nothing_is_found_on_an_empty_frame(segmenter: FewShotSegmenter) -> None:
    proposal = learnt(segmenter, 1).propose(Frame("q", np.full((40, 50), 7, np.uint8)))
    check(proposal)
    assert proposal.instances is not None and not proposal.instances.any()


def test_objects_of_a_person_stay_on_a_partly_labelled_frame(segmenter: FewShotSegmenter) -> None:
    image, labels, ids = scene(7)
    known = np.arange(96) < 48
    partial = Shot(Frame("q", image), np.where(known, labels, 255), instances=np.where(known, ids, 0))
    dense = Shot(Frame("a", scene(1)[0]), scene(1)[1], instances=scene(1)[2])
    settings = PropagationSettings(min_area=5)
    (proposal,) = propagated(segmenter, SupportSet([dense, partial]), [Frame("q", image)], settings)
    assert proposal.instances is not None
    np.testing.assert_array_equal(proposal.instances[:, :48], ids[:, :48])
    np.testing.assert_array_equal(proposal.instances > 0, proposal.labels > 0)
