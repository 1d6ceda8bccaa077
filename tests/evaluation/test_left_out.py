"""Leaving out one shot after the other."""

import numpy as np
import pytest

from napari_fewshot import Frame, Shot, SupportSet
from napari_fewshot.errors import SupportError
from napari_fewshot.evaluation.left_out import leave_one_shot_out
from napari_fewshot.frames import Image
from tests.fakes import BrightnessSegmenter


def stripes(*values: int) -> Image:
    """An image of vertical stripes, 8 px wide."""
    return np.repeat(np.repeat(np.array([values], np.uint8), 8, axis=1), 16, axis=0)


def shot(name: str, image: Image, labels: Image) -> Shot:
    return Shot(Frame(name, image), labels)


def test_each_shot_is_proposed_from_the_others() -> None:
    easy = shot("easy", stripes(10, 200), stripes(0, 1))
    same = shot("same", stripes(10, 200), stripes(0, 1))
    hard = shot("hard", stripes(10, 200, 200, 200), stripes(0, 1, 0, 0))  # two bright stripes too many
    segmenter = BrightnessSegmenter()
    results = list(leave_one_shot_out(segmenter, SupportSet([easy, same, hard])))
    assert [result.key for result in results] == ["easy", "same", "hard"]
    assert [result.iou for result in results] == pytest.approx([1.0, 1.0, 1 / 3])
    assert [support.keys for support in segmenter.learnt] == [("same", "hard"), ("easy", "hard"), ("easy", "same")]
    assert results[2].class_iou == pytest.approx({1: 1 / 3})


def test_only_labelled_pixels_are_judged() -> None:
    whole = shot("whole", stripes(10, 200), stripes(0, 1))
    strokes = shot("strokes", stripes(10, 200, 200), stripes(0, 1, 255))
    (_, result) = leave_one_shot_out(BrightnessSegmenter(), SupportSet([whole, strokes]))
    assert result.iou == 1.0


def test_classes_on_one_shot_alone_are_named_and_not_judged() -> None:
    both = shot("both", stripes(10, 100, 240), stripes(0, 1, 2))
    first = shot("first", stripes(10, 100), stripes(0, 1))
    second = shot("only 3", stripes(10, 250), stripes(0, 3))
    results = {r.key: r for r in leave_one_shot_out(BrightnessSegmenter(), SupportSet([both, first, second]))}
    assert results["both"].unlearnt == (2,) and set(results["both"].class_iou) == {1, 3}
    assert results["only 3"].unlearnt == (3,) and results["only 3"].iou is None
    assert results["first"].unlearnt == () and results["first"].iou == 1.0


def test_where_nothing_is_it_is_right_to_propose_nothing() -> None:
    some = shot("some", stripes(10, 200), stripes(0, 1))
    empty = shot("empty", stripes(10, 12), stripes(0, 0))
    bright = shot("bright", stripes(200, 200), stripes(0, 0))
    results = {r.key: r for r in leave_one_shot_out(BrightnessSegmenter(), SupportSet([some, empty]))}
    assert results["empty"].iou == 1.0
    assert results["some"].iou is None and results["some"].unlearnt == (1,)
    results = {r.key: r for r in leave_one_shot_out(BrightnessSegmenter(), SupportSet([some, bright, empty]))}
    assert results["bright"].iou == 0.0


def test_a_shot_without_any_label_is_not_judged() -> None:
    some = shot("some", stripes(10, 200), stripes(0, 1))
    same = shot("same", stripes(10, 200), stripes(0, 1))
    blank = shot("blank", stripes(10, 200), stripes(255, 255))
    results = {r.key: r for r in leave_one_shot_out(BrightnessSegmenter(), SupportSet([some, same, blank]))}
    assert results["blank"].iou is None
    assert results["some"].iou == 1.0


@pytest.mark.parametrize("number", [0, 1])
def test_one_shot_is_not_enough(number: int) -> None:
    shots = [shot("a", stripes(10, 200), stripes(0, 1))][:number]
    with pytest.raises(SupportError, match=f"^{number} image.* at least 2 are needed"):
        next(leave_one_shot_out(BrightnessSegmenter(), SupportSet(shots)))
