"""What holds for objects of every registered method: each is wrapped, taught two cells that touch, and asked again.

How objects are told apart is given here, not chosen on the shots: `test_objects.py` does that with two methods.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi

from napari_fewshot import Frame, Session, Shot, SupportSet, list_segmenters, load_segmenter
from napari_fewshot.instances.segmenter import InstanceSegmenter
from napari_fewshot.instances.splitting import SplitSettings
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.registry import AUTO_BACKBONE

Array = Any

SIZE = (32, 40)
EIGHT = np.ones((3, 3))


@cache
def features() -> FeatureCache:
    """Of the same few pictures, for all methods together."""
    return FeatureCache()


def scene(shift: int) -> tuple[Array, Array]:
    """A pair of discs that touch and a single one: (H, W) uint8, and their numbers."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image, ids = 40 + 4 * np.random.default_rng(shift).standard_normal(SIZE), np.zeros(SIZE, np.int32)
    for number, (row, column) in enumerate([(8, 8), (8, 19), (22, 29)], start=1):
        disc = ((y - row - shift) ** 2 + (x - column) ** 2 < 36) & (ids == 0)
        image[disc], ids[disc] = 190, number
    return image.clip(0, 255).astype(np.uint8), ids


def segmenter(method: str) -> InstanceSegmenter:
    made = load_segmenter(method, backbone=AUTO_BACKBONE, device="cpu", cache=features())
    return InstanceSegmenter(made, made.sibling(), SplitSettings())  # type: ignore[attr-defined] # all have one


def shot_of(shift: int) -> Shot:
    image, ids = scene(shift)
    return Shot.of_objects(Frame(("stack", shift), image), ids)


@pytest.mark.parametrize("method", [card.name for card in list_segmenters()])
def test_objects_go_with_the_labels_and_keep_their_numbers_when_they_are_proposed_anew(method: str) -> None:
    frame, shot = Frame(("stack", 9), scene(1)[0]), shot_of(0)
    concept = segmenter(method).learn(SupportSet([shot]))
    first, again = concept.propose(frame), concept.propose(frame)
    ids, labels = first.instances, first.labels
    assert ids is not None and ids.shape == labels.shape == SIZE and ids.dtype == np.int32
    np.testing.assert_array_equal(ids > 0, labels == 1)
    assert set(np.unique(ids).tolist()) - {0} == set(range(1, ids.max() + 1))
    for number in range(1, ids.max() + 1):
        assert ndi.label(ids == number, EIGHT)[1] == 1, "an object is in one piece"
    np.testing.assert_array_equal(again.instances, ids)
    np.testing.assert_array_equal(again.labels, labels)

    session = Session(segmenter(method))
    session.add_frames([frame])
    session.teach(shot)
    session.record(session.start_run(), replace(first, instances=7 * ids))
    other_way_round = np.where(ids > 0, ids.max() + 1 - ids, 0).astype(np.int32)
    session.record(session.start_run(), replace(again, instances=other_way_round))
    np.testing.assert_array_equal(session.objects(frame.key, with_proposals=True), 7 * ids)
