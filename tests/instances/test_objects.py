"""Objects, their depth, cores, and ids that follow labels."""

import numpy as np
import pytest
import scipy.ndimage as ndi

from napari_fewshot import Frame, Shot, SupportSet
from napari_fewshot.errors import SupportError
from napari_fewshot.instances.fitting import follow, with_classes
from napari_fewshot.instances.objects import connected, depth, numbered, taught_objects, without_small
from napari_fewshot.instances.parts import core_of, parts_of
from napari_fewshot.proposals import Proposal


def frame(shape: tuple[int, int] = (20, 30)) -> Frame:
    return Frame("a", np.zeros(shape, np.uint8))


def touching() -> np.ndarray:
    """Two rectangles that share a side, and a small one alone."""
    ids = np.zeros((20, 30), np.int32)
    ids[4:14, 2:12], ids[4:14, 12:22], ids[17:19, 25:28] = 7, 3, 12
    return ids


def test_ids_become_consecutive_in_their_order() -> None:
    assert np.array_equal(np.unique(numbered(touching())), [0, 1, 2, 3])
    assert numbered(touching())[5, 15] == 1 and numbered(touching())[5, 5] == 2
    assert np.array_equal(numbered(np.full((2, 2), 9)), np.ones((2, 2)))


def test_what_touches_is_one_object_unless_classes_differ() -> None:
    labels = np.where(touching() > 0, 1, 0)
    assert connected(labels).max() == 2
    labels[touching() == 3] = 2
    assert connected(labels).max() == 3
    labels[0] = 255
    assert connected(labels).max() == 3


def test_depth_is_the_distance_to_the_nearest_other_pixel() -> None:
    ids = numbered(touching())
    found = depth(ids)
    for number in (1, 2, 3):
        own = ids == number
        assert np.allclose(found[own], ndi.distance_transform_edt(own)[own])
    assert not found[ids == 0].any()


def test_the_edge_of_the_image_ends_no_object() -> None:
    ids = np.zeros((9, 9), np.int32)
    ids[:, :4] = 1
    assert np.array_equal(depth(ids)[4], [4, 3, 2, 1, 0, 0, 0, 0, 0])
    assert (depth(np.ones((5, 6), np.int32)) >= 6).all()


def test_small_objects_go_and_the_others_are_numbered_anew() -> None:
    found = without_small(numbered(touching()), 7)
    assert np.array_equal(found > 0, np.isin(touching(), [3, 7])) and found.max() == 2


def test_cores_of_touching_objects_do_not_touch() -> None:
    ids = numbered(touching())
    core = core_of(ids, np.where(ids > 0, 1, 0).astype(np.int32))
    _, apart = ndi.label(core, np.ones((3, 3)))
    assert apart == 3
    assert all(core[ids == i].any() for i in (1, 2, 3)) and not core[ids == 0].any()


def test_parts_keep_what_nobody_labelled_and_classes_without_objects() -> None:
    labels = np.where(touching() > 0, 4, 0)
    labels[:2], labels[16, :5] = 255, 9
    shot = Shot(frame(), labels, instances=touching())
    (parts,) = parts_of(SupportSet([shot]), (4,))
    assert np.array_equal(parts.labels == 255, labels == 255)
    assert np.array_equal(parts.labels == 3, labels == 9)
    assert np.array_equal(np.isin(parts.labels, [1, 2]), labels == 4)
    assert parts.labels[9, 7] == 2 and parts.labels[9, 11] == 1  # inside, and where two touch


def test_too_many_classes_to_tell_apart_are_refused() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels.flat[:200] = np.arange(1, 201)
    with pytest.raises(SupportError, match="at most 127 can be told apart"):
        parts_of(SupportSet([Shot(frame(), labels)]), tuple(range(1, 201)))


def test_pixels_without_an_id_are_objects_by_connection() -> None:
    ids = touching()
    ids[ids == 12] = 0
    shot = Shot(frame(), np.where(touching() > 0, 1, 0), instances=ids)
    found = taught_objects(shot, (1,))
    assert found.max() == 3 and len(np.unique(found[17:19, 25:28])) == 1


def proposal(labels: np.ndarray, shares: np.ndarray) -> Proposal:
    """Of the classes 1 and 2, with these probabilities for them."""
    probabilities = np.stack([1 - shares.sum(0), *shares]).astype(np.float32)
    return Proposal("a", labels.astype(np.int32), (1, 2), probabilities, probabilities.max(0), 0.5)


def test_an_object_is_of_the_class_that_is_most_probable_over_all_of_it() -> None:
    ids = numbered(touching())
    shares = np.zeros((2, 20, 30))
    shares[0][ids == 1], shares[1][ids == 1] = 0.5, 0.3
    shares[1][ids == 2], shares[0][ids == 3] = 0.9, 0.9
    shares[:, 5, 15] = 0.0, 1.0  # a pixel that thinks otherwise
    labels, found = with_classes(ids, proposal(np.where(ids > 0, 1, 0), shares), (1, 2))
    assert np.array_equal(found, ids)
    assert [np.unique(labels[ids == i]).tolist() for i in range(4)] == [[0], [1], [2], [1]]


def test_classes_without_objects_keep_their_labels() -> None:
    ids = numbered(touching())
    labels = np.where(ids == 1, 2, 0)
    labels, found = with_classes(ids, proposal(labels, np.full((2, 20, 30), 0.4)), (1,))
    assert (labels[ids == 1] == 2).all() and not found[ids == 1].any()
    assert (labels[ids > 1] == 1).all() and np.array_equal(np.unique(found), [0, 1, 2])


def test_ids_follow_labels_that_were_changed() -> None:
    ids = touching()
    labels = np.where(ids > 0, 1, 0).astype(np.int32)
    labels[4:14, 2:5] = 0  # erased
    labels[14:16, 12:22] = 1  # painted on
    labels[1:3, 25:28] = 1  # a new one
    labels[17:19, 25:28] = 2  # of another class now
    found = follow(ids, labels, (1, 2))
    assert np.array_equal(found > 0, labels > 0)
    assert (found[4:14, 5:12] == 7).all() and (found[4:16, 12:22] == 3).all()
    assert (found[17:19, 25:28] == 12).all()
    new = np.unique(found[1:3, 25:28])
    assert len(new) == 1 and new[0] not in (0, 3, 7, 12)


def test_ids_of_classes_without_objects_are_none() -> None:
    assert not follow(np.zeros((20, 30), np.int32), np.full((20, 30), 2, np.int32), (1,)).any()
