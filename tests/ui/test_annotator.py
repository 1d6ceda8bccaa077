"""A person who labels by mouse and keys changes at most half of the pixels that painting everything by hand takes."""

import faulthandler
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.annotator.__main__ import folder, table
from benchmarks.annotator.annotator import Annotator, Log
from benchmarks.annotator.strokes import Plan, Stroke, class_ious, mean_iou
from napari_fewshot.imaging.phantom import touching_cells
from napari_fewshot.support import UNLABELLED
from tests.fakes import BrightnessSegmenter


def label(opened: Callable[..., Any], images: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[Log, Any]:
    """Label a stack of one class in a real window; the log, and the labels layer."""
    viewer, dock = opened(show=True)
    viewer.add_image(images, name="stack")
    log = Annotator(viewer, dock, truth).label()
    return log, viewer.layers["stack labels"].data


def check(log: Log, labels: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    for z in range(len(truth)):
        assert mean_iou(labels[z], truth[z]) >= 0.9
    assert sorted(work.place for work in log.frames) == list(range(len(truth)))
    first = log.frames[0]
    assert first.changed == np.count_nonzero(labels[first.place]), "painted by hand, and counted"
    assert sum(work.truth for work in log.frames) == np.count_nonzero(truth == 1)
    assert 0 < log.effort <= 0.5


def test_a_synthetic_stack_is_labelled_with_half_of_the_effort(opened: Callable[..., Any]) -> None:
    phantom = touching_cells((5, 96, 96), cells=9, nuclei=False)
    truth = phantom.labels
    log, labels = label(opened, phantom.image, truth)
    check(log, labels, truth)


def test_phase_contrast_is_labelled_with_half_of_the_effort(opened: Callable[..., Any], shared_data: Path) -> None:
    """Six images' middles; all images as they are take half an hour or more: ``NAPARI_FEWSHOT_TEST_WHOLE=1``."""
    images, truth = folder(shared_data / "data" / "dev" / "usiigaci_phc")
    if os.environ.get("NAPARI_FEWSHOT_TEST_WHOLE", "0") != "0":
        faulthandler.cancel_dump_traceback_later()  # pytest ends what takes so long
    else:
        part = (slice(6), *(slice((side - 192) // 2, (side + 192) // 2) for side in truth.shape[1:]))
        images, truth = images[part], truth[part]
    log, labels = label(opened, images, truth)
    print(table(log))
    check(log, labels, truth)


def test_what_is_mostly_wrong_is_painted_anew(opened: Callable[..., Any]) -> None:
    """The second image is bright nearly everywhere: who learnt that bright is cell proposes all of that."""
    truth = np.zeros((2, 64, 64), np.uint8)
    truth[:, 20:40, 20:40] = 1
    images = np.where(truth == 1, 200, 30).astype(np.uint8)
    images[1, 4:, :] = 200
    viewer, dock = opened(BrightnessSegmenter(), show=True)
    viewer.add_image(images, name="stack")
    log = Annotator(viewer, dock, truth).label()
    first, second = log.frames
    assert second.proposed < 0.2
    assert 0 < second.changed == np.count_nonzero(viewer.layers["stack labels"].data[1]) <= second.truth
    assert min(log.ious) >= 0.9 and first.proposed == 0
    assert dock.controller.session.support.keys == (("stack", 0), ("stack", 1))


def test_strokes_mend_everything_and_make_nothing_wrong() -> None:
    truth = np.zeros((40, 60), np.uint8)
    truth[5:30, 5:30] = 1
    truth[10:20, 40:43] = 2
    truth[35:, :] = UNLABELLED
    labels = np.zeros_like(truth)
    labels[20:34, 10:50] = 1
    ys, xs = np.mgrid[:40, :60]
    known = truth != UNLABELLED
    for stroke in Plan(truth).strokes(lambda: labels):
        wrong = known & (labels != truth)
        for y, x in brushed(stroke):
            labels[(ys - y) ** 2 + (xs - x) ** 2 <= (stroke.size / 2) ** 2] = stroke.value
        now = known & (labels != truth)
        assert not (now & ~wrong).any() and now.sum() < wrong.sum()
    assert class_ious(labels, truth) == {1: 1.0, 2: 1.0}


def test_iou_is_the_mean_of_the_classes_without_what_is_unknown() -> None:
    truth = np.array([[1, 1, 2, 0, UNLABELLED]])
    assert mean_iou(np.array([[1, 0, 2, 0, 1]]), truth) == pytest.approx(0.75)
    assert mean_iou(np.zeros((2, 2)), np.zeros((2, 2))) == 1.0


def brushed(stroke: Stroke) -> list[tuple[int, int]]:
    """Pixels that the brush is on."""
    pairs = zip(stroke.path, stroke.path[1:], strict=False)
    steps = [np.linspace(a, b, 200).round().astype(int) for a, b in pairs]
    return [stroke.path[0], *((int(y), int(x)) for step in steps for y, x in step)]
