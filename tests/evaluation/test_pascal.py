"""PASCAL-5i from a folder of VOC 2012."""

from pathlib import Path

import numpy as np
import pytest

from napari_fewshot.errors import ReadError, SettingsError
from napari_fewshot.evaluation.pascal import VOC_CLASSES, pascal_classes, pascal_pools
from tests.evaluation.made_up import make_voc, save


def test_four_folds_hold_all_20_classes_once() -> None:
    assert [pascal_classes(fold) for fold in range(4)] == [
        (1, 2, 3, 4, 5),
        (6, 7, 8, 9, 10),
        (11, 12, 13, 14, 15),
        (16, 17, 18, 19, 20),
    ]
    assert [VOC_CLASSES[c - 1] for c in pascal_classes(0)] == ["aeroplane", "bicycle", "bird", "boat", "bottle"]
    assert VOC_CLASSES[pascal_classes(3)[0] - 1] == "potted plant" and len(VOC_CLASSES) == 20
    with pytest.raises(SettingsError, match="no fold 4"):
        pascal_classes(4)


@pytest.mark.parametrize("inside", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_images_come_from_the_list_and_masks_keep_their_borders(tmp_path: Path, inside: str) -> None:
    make_voc(tmp_path / inside, classes=[6, 7], images=2)
    told: list[tuple[int, int]] = []
    (pool,) = pascal_pools(tmp_path, [1], least_area=0, report=lambda done, total: told.append((done, total)))
    assert (pool.name, pool.fold) == ("PASCAL-5i", 1)
    assert dict(pool.class_names) == {6: "bus", 7: "car", 8: "cat", 9: "chair", 10: "cow"}
    assert pool.members[6] == ("2008_006000", "2008_006001") and pool.members[8] == ()
    assert "val.txt (4 images), masks of SegmentationClass" in pool.about
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert pool.image("2008_006000").shape == (40, 56, 3)
    labels = pool.labels("2008_006000", (7, 6))
    assert np.unique(labels).tolist() == [0, 2, 255] and (labels == 2).sum() == 18 * 24
    assert np.unique(pool.labels("2008_006000", (7,))).tolist() == [0, 255]


def test_masks_of_sbd_are_preferred_where_they_are(tmp_path: Path) -> None:
    make_voc(tmp_path, classes=[1], images=1)
    save(tmp_path / "SegmentationClassAug" / "2008_001000.png", np.full((40, 56), 2, np.uint8))
    (pool,) = pascal_pools(tmp_path, [0], least_area=0)
    assert pool.members[2] == ("2008_001000",) and pool.members[1] == ()
    assert pool.about.endswith("masks of SegmentationClassAug")


def test_images_on_which_a_class_is_small_do_not_count_for_it(tmp_path: Path) -> None:
    make_voc(tmp_path, classes=[1], images=2)
    big = np.zeros((60, 60), np.uint8)
    big[:50, :41] = 1  # 2,050 px; a border does not count
    big[50] = 255
    save(tmp_path / "SegmentationClass" / "2008_001001.png", big, palette=True)
    (pool,) = pascal_pools(tmp_path, [0])
    assert pool.members[1] == ("2008_001001",)
    assert pool.about.endswith("classes from 2,048 pixels on")


def test_other_lists_can_be_named_and_without_one_all_masks_count(tmp_path: Path) -> None:
    make_voc(tmp_path, classes=[1], images=2)
    (train,) = pascal_pools(tmp_path, [0], images="train", least_area=0)
    assert train.members[1] == ("2008_001002",)
    with pytest.raises(SettingsError, match=r"trainaug\.txt is missing"):
        pascal_pools(tmp_path, [0], images="trainaug")
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").unlink()
    (every,) = pascal_pools(tmp_path, [0], least_area=0)
    assert len(every.members[1]) == 3 and "no list, all masks (3 images)" in every.about


def test_errors_say_what_is_missing_and_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        pascal_pools(tmp_path / "nowhere")
    with pytest.raises(
        SettingsError, match=r"PASCAL VOC 2012 was not found: JPEGImages is in none of .*VOCdevkit/VOC2012"
    ):
        pascal_pools(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(SettingsError, match="neither SegmentationClassAug nor SegmentationClass"):
        pascal_pools(tmp_path)
    make_voc(tmp_path, classes=[1], images=2)
    (tmp_path / "JPEGImages" / "2008_001000.jpg").write_bytes(b"half")
    (pool,) = pascal_pools(tmp_path, [0], least_area=0)
    with pytest.raises(ReadError, match=r"2008_001000\.jpg cannot be read"):
        pool.image("2008_001000")
    (tmp_path / "SegmentationClass" / "2008_001001.png").unlink()
    with pytest.raises(ReadError, match=r"2008_001001\.png is missing"):
        pascal_pools(tmp_path, [0])
    save(tmp_path / "SegmentationClass" / "2008_001001.png", np.zeros((40, 56, 3), np.uint8))
    with pytest.raises(ReadError, match="a picture in colours"):
        pascal_pools(tmp_path, [0])
