import re

import numpy as np
import pytest

from napari_fewshot import Frame, LabelClass, Shot, SupportSet
from napari_fewshot.errors import MaskError, SupportError
from napari_fewshot.support import Tag

IMAGE = np.arange(16 * 20, dtype=np.uint16).reshape(16, 20)
FRAME = Frame("a", IMAGE)


def mask(**pixels: int) -> np.ndarray:
    """(16, 20) zeros with a pixel of each value given, side by side in the first row."""
    labels = np.zeros(IMAGE.shape, np.int32)
    for column, value in enumerate(pixels.values()):
        labels[0, column] = value
    return labels


# ---------------------------------------------------------------- classes
@pytest.mark.parametrize("number", [0, -1, 255, 1000])
def test_a_class_id_outside_1_to_254_is_refused(number: int) -> None:
    with pytest.raises(MaskError, match=f"class id {number} is out of range; use 1 to 254"):
        LabelClass(number)


def test_a_class_gets_a_plain_name_and_a_colour_of_its_own() -> None:
    first, second = LabelClass(1), LabelClass(2)
    assert (first.name, second.name) == ("class 1", "class 2")
    assert first.colour != second.colour
    assert LabelClass(254).colour.startswith("#")
    assert LabelClass(3, "nuclei", "#102030") == LabelClass(3, "nuclei", "#102030")


# ---------------------------------------------------------------- shots
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "bool"])
def test_a_mask_of_any_whole_number_type_is_kept_as_int32(dtype: str) -> None:
    shot = Shot(FRAME, mask(a=1).astype(dtype))
    assert shot.labels.dtype == np.int32
    np.testing.assert_array_equal(shot.labels, mask(a=1))


def test_a_shot_keeps_a_copy_that_cannot_be_written() -> None:
    labels = mask(a=1)
    shot = Shot(FRAME, labels)
    labels[:] = 7
    assert shot.class_ids == (1,)
    with pytest.raises(ValueError, match="read-only"):
        shot.labels[0, 0] = 2


def test_a_mask_of_another_shape_than_its_image_is_refused() -> None:
    with pytest.raises(MaskError, match=r"mask is \(20, 16\) but 'a' is \(16, 20\); paint on the same slice"):
        Shot(FRAME, np.zeros((20, 16), int))


def test_a_mask_that_is_not_2d_is_refused() -> None:
    with pytest.raises(MaskError, match=r"mask of 'a' has shape \(3, 16, 20\); give one 2D label map"):
        Shot(FRAME, np.zeros((3, 16, 20), int))


def test_a_mask_of_floats_is_refused() -> None:
    with pytest.raises(MaskError, match="mask of 'a' holds values of type float64; convert it to whole numbers"):
        Shot(FRAME, np.zeros((16, 20)))


@pytest.mark.parametrize("value", [-1, 256, 40_000])
def test_mask_values_that_mean_nothing_are_refused(value: int) -> None:
    with pytest.raises(MaskError, match=r"mask of 'a' holds values from .*use 0 for background, 1 to 254 for classes"):
        Shot(FRAME, mask(a=value))


def test_a_dense_shot_without_any_class_says_nothing_here() -> None:
    shot = Shot(FRAME, mask())
    assert shot.class_ids == ()
    assert not shot.is_partial


def test_a_shot_with_unknown_pixels_is_partial_and_255_is_no_class() -> None:
    shot = Shot(FRAME, mask(a=3, b=255, c=1))
    assert shot.is_partial
    assert shot.class_ids == (1, 3)


def test_scribbles_leave_everything_else_unknown() -> None:
    background = np.zeros(IMAGE.shape, bool)
    background[0, 1:4] = True
    shot = Shot.scribbled(FRAME, mask(a=2, b=2), background)
    assert shot.labels[0, :5].tolist() == [2, 2, 0, 0, 255]  # a class goes over background
    assert (shot.labels[1:] == 255).all()


def test_equal_shots_have_equal_digests_whatever_their_keys() -> None:
    shot = Shot(FRAME, mask(a=1))
    assert Shot(Frame("b", IMAGE.copy()), mask(a=1)).digest == shot.digest
    assert Shot(FRAME, mask(a=2)).digest != shot.digest
    assert Shot(Frame("a", IMAGE + 1), mask(a=1)).digest != shot.digest


# ---------------------------------------------------------------- support sets
def test_painted_classes_that_nobody_named_get_plain_names() -> None:
    support = SupportSet([Shot(FRAME, mask(a=4, b=2))], [LabelClass(9, "rare"), LabelClass(4, "nuclei")])
    assert [(c.id, c.name) for c in support.classes] == [(2, "class 2"), (4, "nuclei"), (9, "rare")]
    assert support.class_ids == (2, 4)
    assert [c.name for c in support.unpainted] == ["rare"]


def test_two_classes_with_one_id_are_refused() -> None:
    with pytest.raises(MaskError, match="two classes share an id; give each its own"):
        SupportSet([], [LabelClass(1, "a"), LabelClass(1, "b")])


def test_a_shot_on_the_same_frame_replaces_the_earlier_one() -> None:
    support = SupportSet([Shot(FRAME, mask(a=1)), Shot(Frame("b", IMAGE), mask(a=1))])
    changed = support.with_shot(Shot(FRAME, mask(a=2)))
    assert changed.keys == ("b", "a")
    assert changed.class_ids == (1, 2)
    assert support.class_ids == (1,)  # the set that it came from is as it was


def test_leaving_out_a_shot_keeps_the_named_classes() -> None:
    support = SupportSet([Shot(FRAME, mask(a=1))], [LabelClass(1, "nuclei")]).without("a")
    assert len(support) == 0
    assert [c.name for c in support.classes] == ["nuclei"]


def test_renaming_classes_keeps_the_shots() -> None:
    support = SupportSet([Shot(FRAME, mask(a=1))]).with_classes([LabelClass(1, "nuclei")])
    assert support.keys == ("a",)
    assert [c.name for c in support.classes] == ["nuclei"]


def test_background_counts_only_where_it_was_painted() -> None:
    full = np.full(IMAGE.shape, 255)
    full[0, 0] = 1
    assert not SupportSet([Shot(FRAME, full)]).has_background
    assert SupportSet([Shot(FRAME, full), Shot(Frame("b", IMAGE), mask())]).has_background


def test_order_and_duplicates_make_no_difference_to_what_is_learnt_from() -> None:
    one, two = Shot(FRAME, mask(a=1)), Shot(Frame("b", IMAGE + 1), mask(a=1))
    again = Shot(Frame("c", IMAGE), mask(a=1))
    digests = [shot.digest for shot in SupportSet([one, two]).canonical()]
    assert [shot.digest for shot in SupportSet([two, again, one]).canonical()] == digests
    assert len(digests) == 2


def test_nothing_taught_is_said_so() -> None:
    with pytest.raises(SupportError, match="nothing has been taught yet; paint a mask on one image and teach it"):
        SupportSet().check()


def test_no_class_painted_anywhere_is_said_so() -> None:
    support = SupportSet([Shot(FRAME, mask()), Shot(Frame("b", IMAGE), mask())], [LabelClass(1)])
    with pytest.raises(SupportError, match=r"no class is painted on any of the 2 taught image\(s\)"):
        support.check()


def test_one_painted_pixel_is_enough() -> None:
    SupportSet([Shot(FRAME, mask(a=1))]).check()


def test_what_is_painted_is_found_wherever_it_is_on_a_tall_image() -> None:
    labels = np.full((1500, 16), 255)
    labels[1200, 3], labels[-1, -1] = 7, 254
    shot = Shot(Frame("tall", np.zeros((1500, 16), np.uint8)), labels)
    assert shot.class_ids == (7, 254) and not shot.has_background and shot.is_partial
    labels[700, 0] = 0
    assert Shot(shot.frame, labels).has_background


# ---------------------------------------------------------------- tags
OTHER = Frame("b", IMAGE + 1)


def test_a_tag_names_each_class_once_in_order() -> None:
    assert Tag(OTHER, (3, 1, 3)).class_ids == (1, 3)
    assert Tag(OTHER, (3, 1)).digest == Tag(Frame("c", IMAGE + 1), (1, 3)).digest != Tag(OTHER, (1,)).digest


def test_a_tag_that_names_no_class_or_one_that_cannot_be_is_refused() -> None:
    with pytest.raises(MaskError, match="the tag of 'b' names no class; say what the image contains"):
        Tag(OTHER, ())
    for ids in ((0, 1), (1, 255)):
        with pytest.raises(MaskError, match=r"the tag of 'b' names the classes .*; use ids from 1 to 254"):
            Tag(OTHER, ids)


def test_tags_come_and_go_and_the_set_before_stays_as_it_was() -> None:
    before = SupportSet([Shot(FRAME, mask(a=1))])
    after = before.with_tag(Tag(OTHER, (1,))).with_tag(Tag(OTHER, (2,)))
    assert not before.tags and [tag.class_ids for tag in after.tags] == [(2,)]
    assert after.tag("b") is after.tags[0] and after.tag("a") is None
    assert after.class_ids == (1,) and after.tagged_ids == (2,)
    assert [c.name for c in after.classes] == ["class 1", "class 2"] and [c.id for c in after.unpainted] == [2]
    assert not after.without_tag("b").tags and after.without("a").tags == after.tags
    assert after.with_classes([LabelClass(1, "cell"), LabelClass(2)]).tags == after.tags


def test_a_tag_on_a_taught_frame_is_superfluous() -> None:
    shot = Shot(OTHER, mask(a=1))
    assert not SupportSet([shot], tags=[Tag(OTHER, (1,))]).tags
    assert not SupportSet(tags=[Tag(OTHER, (1,))]).with_shot(shot).tags
    with pytest.raises(SupportError, match="'b' is taught already, which says more"):
        SupportSet([shot]).with_tag(Tag(OTHER, (1,)))


def test_two_tags_of_one_frame_are_refused() -> None:
    with pytest.raises(MaskError, match="two tags share a frame; name all that it contains in one"):
        SupportSet(tags=[Tag(OTHER, (1,)), Tag(OTHER, (2,))])


def test_tags_alone_teach_nothing() -> None:
    with pytest.raises(SupportError, match="nothing has been taught yet"):
        SupportSet(tags=[Tag(OTHER, (1,))]).check()


def test_only_tags_of_painted_classes_count_each_once_in_an_order_of_contents() -> None:
    same = Frame("c", IMAGE + 1)
    tags = [Tag(OTHER, (1, 7)), Tag(same, (1,)), Tag(Frame("d", IMAGE + 2), (7,)), Tag(Frame("e", IMAGE + 3), (1, 2))]
    support = SupportSet([Shot(FRAME, mask(a=1, b=2))], tags=tags)
    found = [tag.class_ids for tag in support.canonical_tags()]
    assert sorted(found) == [(1,), (1, 2)]
    turned = SupportSet(support.shots, tags=tags[::-1])
    assert [tag.digest for tag in turned.canonical_tags()] == [tag.digest for tag in support.canonical_tags()]


def test_a_shot_of_objects_is_one_class_with_an_id_for_each() -> None:
    ids = np.zeros((16, 16), np.uint16)
    ids[1:4, 1:4], ids[1:4, 4:8] = 700, 3
    shot = Shot.of_objects(Frame("a", np.zeros((16, 16))), ids, class_id=5)
    assert shot.class_ids == (5,) and shot.instances is not None
    assert shot.instances.dtype == np.int32 and np.array_equal(shot.instances, ids)
    assert not np.shares_memory(shot.instances, ids) and not shot.instances.flags.writeable


def test_objects_told_apart_make_another_shot() -> None:
    labels = np.ones((16, 16), np.int32)
    frame, halves = Frame("a", np.zeros((16, 16))), np.where(np.arange(16) < 8, 1, 2) * labels
    plain, told = Shot(frame, labels), Shot(frame, labels, instances=halves)
    assert plain.digest != told.digest
    assert not SupportSet([plain]).has_instances and SupportSet([plain, told]).has_instances


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (np.ones((16, 15), int), "are (16, 15), its mask (16, 16)"),
        (np.ones((16, 16)), "of type float64"),
        (-np.ones((16, 16), int), "ids from -1"),
        (np.full((16, 16), 2**31), "ids from 2147483648"),
        (np.full((16, 16), 9), "object 9 of 'a' has pixels of no class"),
        (np.where(np.arange(16) < 8, 4, 0) * np.ones((16, 1), int), "object 4 of 'a' has pixels of two classes"),
    ],
)
def test_objects_that_cannot_be_are_refused(ids: np.ndarray, told: str) -> None:
    labels = np.repeat([[1] * 4 + [2] * 4 + [0] * 4 + [255] * 4], 16, axis=0)
    with pytest.raises(MaskError, match=re.escape(told)):
        Shot(Frame("a", np.zeros((16, 16))), labels, instances=ids)
