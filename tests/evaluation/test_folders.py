"""Data sets in folders: K images are taught, the others judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_fewshot.errors import ImageError, ReadError, SettingsError
from napari_fewshot.evaluation.folders import FolderProtocol, SetOutcome, evaluate_sets, find_sets
from napari_fewshot.frames import Frame
from napari_fewshot.io.journal import Journal
from napari_fewshot.segmenter import TileProgress
from napari_fewshot.support import SupportSet
from tests.evaluation.made_up import PhotographConcept, PhotographSegmenter, make_set, save
from tests.evaluation.test_metrics import slow_scores


def timeless(outcome: SetOutcome) -> SetOutcome:
    return replace(outcome, features=None, method=None, learn=None)


def test_the_first_images_of_an_order_that_show_something_are_taught(tmp_path: Path) -> None:
    make_set(tmp_path / "squares")
    segmenter = PhotographSegmenter()
    outcomes = list(evaluate_sets(segmenter, find_sets(tmp_path), FolderProtocol((1, 3), seeds=2)))
    assert [(o.name, o.shots, o.seed, o.queries) for o in outcomes] == [
        ("squares", 1, 0, 5),
        ("squares", 1, 1, 5),
        ("squares", 3, 0, 3),
        ("squares", 3, 1, 3),
    ]
    for outcome, support in zip(outcomes, segmenter.asked, strict=True):
        order = np.random.default_rng(1000 * outcome.seed + 7).permutation(6)
        taught = [f"squares/{i:03}" for i in order if i != 5][: outcome.shots]  # the last shows nothing
        assert list(support.keys) == taught


def test_iou_is_that_of_a_loop_over_all_pixels_of_all_queries(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "squares")
    segmenter = PhotographSegmenter()
    (outcome,) = evaluate_sets(segmenter, find_sets(folder), FolderProtocol((2,), seeds=1, queries=3))
    concept = segmenter.learn(segmenter.asked[0])
    order = [int(i) for i in np.random.default_rng(7).permutation(6)]
    taught = [i for i in order if i != 5][:2]
    queries = []
    for i in [i for i in order if i not in taught][:3]:
        image, labels = (np.asarray(Image.open(folder / kind / f"{i:03}.png")) for kind in ("images", "labels"))
        queries.append((concept.propose(Frame("q", image)).labels, labels.astype(np.int32), (1, 2)))
    _, miou, _, dice = slow_scores(queries)
    assert (outcome.iou, outcome.dice) == pytest.approx((miou, dice))
    assert outcome.method is not None and outcome.method > 0


def test_a_set_without_background_gets_its_largest_class_as_background(tmp_path: Path) -> None:
    for number in range(3):
        labels = np.full((20, 30), 2, np.uint8)
        labels[:, number * 5 : number * 5 + 6] = 1
        save(tmp_path / "cells" / "labels" / f"{number}.png", labels)
        save(tmp_path / "cells" / "images" / f"{number}.png", labels * 100)
    segmenter = PhotographSegmenter()
    (outcome,) = evaluate_sets(segmenter, find_sets(tmp_path), FolderProtocol((1,), seeds=1))
    assert segmenter.asked[0].class_ids == (1,)
    assert outcome.iou == 1.0


def test_tiff_and_jpeg_are_read_and_images_without_labels_left_out(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "mixed", images=4)
    (folder / "labels" / "000.png").unlink()
    pixels = np.asarray(Image.open(folder / "images" / "001.png"))
    (folder / "images" / "001.png").unlink()
    tifffile.imwrite(folder / "images" / "001.tif", pixels.astype(np.uint16))
    (data_set,) = find_sets(tmp_path)
    assert [file.name for file in data_set.images] == ["001.tif", "002.png", "003.png"]
    (outcome,) = evaluate_sets(PhotographSegmenter(), [data_set], FolderProtocol((1,), seeds=1, queries=1))
    assert outcome.queries == 1 and outcome.failure == ""


def test_sets_with_too_few_images_for_so_many_shots_are_left_out(tmp_path: Path) -> None:
    make_set(tmp_path / "few", images=4)
    make_set(tmp_path / "more", images=7)
    protocol = FolderProtocol((1, 5), seeds=1)
    reached = {(o.name, o.shots) for o in evaluate_sets(PhotographSegmenter(), find_sets(tmp_path), protocol)}
    assert reached == {("few", 1), ("more", 1), ("more", 5)}


def test_what_is_known_is_not_measured_again_unless_files_change(tmp_path: Path) -> None:
    make_set(tmp_path / "one")
    make_set(tmp_path / "two")
    protocol = FolderProtocol((1,), seeds=2)
    file = tmp_path / "run.jsonl"
    first = list(evaluate_sets(PhotographSegmenter(), find_sets(tmp_path), protocol, Journal(file, {"a": 1})))
    second = PhotographSegmenter()
    again = list(evaluate_sets(second, find_sets(tmp_path), protocol, Journal(file, {"a": 1})))
    assert again == first and second.asked == []
    save(tmp_path / "two" / "images" / "000.png", np.zeros((40, 48), np.uint8))
    third = PhotographSegmenter()
    changed = list(evaluate_sets(third, find_sets(tmp_path), protocol, Journal(file, {"a": 1})))
    assert changed[:2] == first[:2] and len(third.asked) == 2


class RefusesTwo(PhotographSegmenter):
    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> PhotographConcept:
        if str(support.keys[0]).startswith("two"):
            raise ImageError("all pixels have the same value")
        return super().learn(support)


def test_a_set_that_cannot_be_used_does_not_end_the_others(tmp_path: Path) -> None:
    for name in ("one", "two", "zoo"):
        make_set(tmp_path / name)
    protocol = FolderProtocol((1,), seeds=1)
    file = tmp_path / "run.jsonl"
    outcomes = list(evaluate_sets(RefusesTwo(), find_sets(tmp_path), protocol, Journal(file, {})))
    assert [o.failure for o in outcomes] == ["", "all pixels have the same value", ""]
    assert outcomes[1].iou is None
    again = evaluate_sets(RefusesTwo(), find_sets(tmp_path), protocol, Journal(file, {}))
    assert [timeless(o) for o in again] == [timeless(o) for o in outcomes]


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        find_sets(tmp_path / "nowhere")
    (tmp_path / "set" / "images").mkdir(parents=True)
    with pytest.raises(SettingsError, match="looked for SET/images"):
        find_sets(tmp_path)
    make_set(tmp_path / "set")
    save(tmp_path / "set" / "labels" / "000.png", np.ones((10, 48), np.uint8))
    with pytest.raises(SettingsError, match=r"000\.png is \(10, 48\), but its image is \(40, 48\)"):
        list(evaluate_sets(PhotographSegmenter(), find_sets(tmp_path), FolderProtocol((1,), seeds=3)))
    tifffile.imwrite(tmp_path / "set" / "labels" / "000.tif", np.full((40, 48), 300, np.uint16))
    (tmp_path / "set" / "labels" / "000.png").unlink()
    with pytest.raises(ReadError, match="values up to 300; number classes, not objects"):
        list(evaluate_sets(PhotographSegmenter(), find_sets(tmp_path), FolderProtocol((1,), seeds=1)))
    with pytest.raises(SettingsError, match="1 or more"):
        FolderProtocol((0,))
