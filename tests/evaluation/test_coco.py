"""COCO-20i from a folder of MS COCO: both partitions, and masks from polygons and run lengths."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_fewshot.errors import ReadError, SettingsError
from napari_fewshot.evaluation.coco import coco_classes, coco_pools
from napari_fewshot.io.coco_masks import decode
from tests.evaluation.made_up import CATEGORIES, make_coco, photograph, runs, save, write_instances

# By hand from the list of COCO's categories.
INTERLEAVED_0 = (
    "person, airplane, boat, parking meter, dog, elephant, backpack, suitcase, sports ball, skateboard, wine glass, "
    "spoon, sandwich, hot dog, chair, dining table, mouse, microwave, refrigerator, scissors"
)
INTERLEAVED_3_IDS = [4, 8, 13, 17, 21, 25, 32, 36, 40, 44, 49, 53, 57, 61, 65, 73, 77, 81, 86, 90]
CONTIGUOUS_0 = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow"
)
CONTIGUOUS_3_IDS = [67, 70, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88, 89, 90]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco(tmp_path_factory.mktemp("coco"))


def test_the_interleaved_partition_takes_every_fourth_class(coco: Path) -> None:
    first, last = coco_pools(coco, [0, 3], least_area=0)
    assert ", ".join(first.class_names.values()) == INTERLEAVED_0
    assert [CATEGORIES[c - 1]["id"] for c in last.class_names] == INTERLEAVED_3_IDS
    assert "partition 'interleaved'" in first.about


def test_the_contiguous_partition_takes_blocks_of_twenty(coco: Path) -> None:
    first, last = coco_pools(coco, [0, 3], partition="contiguous", least_area=0)
    assert ", ".join(first.class_names.values()) == CONTIGUOUS_0
    assert [CATEGORIES[c - 1]["id"] for c in last.class_names] == CONTIGUOUS_3_IDS
    assert "partition 'contiguous'" in first.about


@pytest.mark.parametrize("partition", ["interleaved", "contiguous"])
def test_four_folds_hold_all_80_classes_once(partition: Any) -> None:
    folds = [coco_classes(fold, partition) for fold in range(4)]
    assert sorted(c for fold in folds for c in fold) == list(range(1, 81))
    assert {len(fold) for fold in folds} == {20}


def test_there_is_no_third_partition() -> None:
    with pytest.raises(SettingsError, match="no partition 'random'"):
        coco_classes(0, "random")  # type: ignore[arg-type]


def test_masks_are_what_was_drawn_from_polygons_as_from_run_lengths(coco: Path) -> None:
    (pool,) = coco_pools(coco, [0], least_area=0)
    assert all(len(names) == 3 for names in pool.members.values())
    for class_id in (1, 5):
        for name in pool.members[class_id]:
            labels = pool.labels(name, (class_id,))
            assert labels.shape == (40, 56) and (labels == 1).sum() == 18 * 24 and set(np.unique(labels)) == {0, 1}
            assert pool.image(name)[labels == 1].mean() > 3 * pool.image(name)[labels == 0].mean()
            assert not pool.labels(name, (9,)).any()


def test_a_small_class_does_not_count_but_several_small_parts_do(tmp_path: Path) -> None:
    box = [[0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0]]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 20, "width": 20} for i in (1, 2)]
    parts = [(1, 1), (2, 1), (2, 1)]
    annotations = [{"image_id": i, "category_id": c, "area": 81, "iscrowd": 0, "segmentation": box} for i, c in parts]
    write_instances(tmp_path, images, annotations)
    (tmp_path / "val2014").mkdir()
    (pool,) = coco_pools(tmp_path, [0], least_area=100)
    assert pool.members[1] == ("2",)


def test_where_two_classes_of_an_episode_overlap_nothing_is_known(tmp_path: Path) -> None:
    def square(left: float) -> list[list[float]]:
        return [[left, 0.0, left + 4, 0.0, left + 4, 4.0, left, 4.0]]

    annotations = [
        {"image_id": 1, "category_id": c, "area": 16, "iscrowd": 0, "segmentation": square(left)}
        for c, left in ((1, 0.0), (5, 2.0), (1, 1.0), (9, 0.0))
    ]
    write_instances(tmp_path, [{"id": 1, "file_name": "1.jpg", "height": 5, "width": 8}], annotations)
    save(tmp_path / "images" / "val2014" / "1.jpg", photograph(np.zeros((5, 8), np.uint8), np.random.default_rng(0)))
    (pool,) = coco_pools(tmp_path, [0], least_area=0)
    assert pool.labels("1", (1, 5))[0].tolist() == [1, 1, 255, 255, 255, 2, 0, 0]
    assert pool.labels("1", (1,))[0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert pool.image("1").shape == (5, 8, 3)


def packed(counts: list[int]) -> str:
    """COCO's text form, written from its description: differences from the fourth on, 5 bits a character."""
    text = ""
    for i, value in enumerate(counts):
        rest = value - counts[i - 2] if i > 2 else value
        while True:
            bits, rest = rest & 31, rest >> 5
            done = (rest == 0 and not bits & 16) or (rest == -1 and bits & 16)
            text += chr(48 + (bits if done else bits | 32))
            if done:
                break
    return text


def test_run_lengths_packed_in_text_are_those_in_numbers() -> None:
    rng = np.random.default_rng(0)
    for share in (0.02, 0.5, 0.9):
        mask = rng.random((37, 53)) < share
        numbers = runs(mask)
        assert (decode(numbers, mask.shape) == mask).all()
        assert (decode({"counts": packed(numbers["counts"]), "size": [37, 53]}, mask.shape) == mask).all()


def test_text_of_coco_s_own_library_is_understood() -> None:
    # pycocotools.mask.encode of a mask of 6 x 8 with rows 1 to 3, columns 2 to 5 set
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:6] = True
    assert (decode({"size": [6, 8], "counts": "=3300000;"}, (6, 8)) == mask).all()


def test_a_pixel_is_in_a_polygon_if_its_middle_is() -> None:
    corners = np.array([[3.2, 2.1], [17.7, 6.4], [12.3, 18.9], [5.1, 14.2]])  # x, y

    def inside(x: float, y: float) -> bool:
        odd = False
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                odd = not odd
        return odd

    expected = [[inside(x + 0.5, y + 0.5) for x in range(20)] for y in range(22)]
    assert (decode([corners.ravel().tolist()], (22, 20)) == np.array(expected)).all()


def test_several_polygons_of_one_object_are_joined() -> None:
    squares = [[0, 0, 3, 0, 3, 3, 0, 3], [2, 2, 5, 2, 5, 5, 2, 5]]
    assert decode(squares, (6, 6)).sum() == 9 + 9 - 1


@pytest.mark.parametrize("wrong", [{"counts": [3, 4], "size": [2, 2]}, {"size": [2, 2]}, {"counts": "é"}, 7])
def test_a_mask_that_does_not_fit_is_refused(wrong: Any) -> None:
    with pytest.raises(ReadError, match="does not fit its image of 2 x 2"):
        decode(wrong, (2, 2))


def test_errors_say_what_is_missing_and_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"MS COCO was not found: annotations/instances_val2014\.json is in none of .*COCO2014"
    ):
        coco_pools(tmp_path)
    write_instances(tmp_path / "COCO2014", [], [])
    with pytest.raises(
        SettingsError, match=r"images val2014 of MS COCO was not found: there is none of .*images/val2014"
    ):
        coco_pools(tmp_path)
    (tmp_path / "COCO2014" / "val2014").mkdir()
    assert all(not names for pool in coco_pools(tmp_path) for names in pool.members.values())
    file = tmp_path / "COCO2014" / "annotations" / "instances_val2014.json"
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": CATEGORIES[:3]}))
    with pytest.raises(SettingsError, match="names 3 categories, not 80"):
        coco_pools(tmp_path)
    file.write_text('{"images": [')
    with pytest.raises(SettingsError, match="is not a file of instances"):
        coco_pools(tmp_path)
