"""Quality, clean-up and effort without a window: what is told, and when."""

import numpy as np
import pytest

from napari_fewshot.errors import SupportError
from napari_fewshot.evaluation.agreement import agreement
from napari_fewshot.provenance import Origin
from napari_fewshot.session.state import Effort
from napari_fewshot.ui.cleaning import Cleaning
from napari_fewshot.ui.effort import EffortMeter
from napari_fewshot.ui.quality import Quality
from napari_fewshot.ui.state import Overlay, Standing
from tests.test_controller import Dock, FakeRunner, dock, picture, truth

__all__ = ["dock"]  # a fixture


@pytest.fixture
def checker() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def quality(dock: Dock, checker: FakeRunner) -> Quality:
    controller = dock.controller
    return Quality(
        dock.session, dock.layers.name, controller.review, checker, controller.reporter, lambda: dock.seconds
    )


@pytest.fixture
def tidier() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def cleaning(dock: Dock, tidier: FakeRunner) -> Cleaning:
    controller = dock.controller
    return Cleaning(dock.session, controller.sync, controller.palette, controller.doubt, tidier, controller.reporter)


def teach(dock: Dock, *keys: tuple[str, int], wrong: bool = False) -> None:
    for key in keys:
        number = key[1] + (5 if key[0] == "b" else 0)
        dock.show(key)
        dock.paint(key, np.roll(truth(number), 7, axis=0) if wrong else truth(number))
        dock.controller.teach()


# ------------------------------------------------------------------------------------------- quality
def test_it_is_said_what_to_do_as_long_as_there_is_too_little_to_tell(
    dock: Dock, quality: Quality, checker: FakeRunner
) -> None:
    assert quality.state().headline.startswith("Teach an image first") and not quality.state().can_check
    teach(dock, ("a", 0))
    quality.check()
    checker.finish()
    assert quality.state().headline.startswith("Teach a second image") and quality.state().progress == ""
    teach(dock, ("a", 1))
    quality.check()
    checker.finish()
    assert quality.state().headline.startswith("Expect about") and quality.state().curve is None
    assert quality.state().forecast == "Teach a third image to see what one more would bring."


def test_it_grows_while_it_is_found_out_and_stops_when_asked(dock: Dock, quality: Quality, checker: FakeRunner) -> None:
    teach(dock, ("a", 0), ("a", 1), ("a", 2), ("b", 0))
    quality.check()
    while "trials" not in quality.state().progress:
        dock.seconds += 1
        assert checker.step()
    dock.seconds += 3
    state = quality.state()
    assert state.progress.startswith("1 of 28 trials, about") and state.part == pytest.approx(1 / 28)
    assert [line.iou is None for line in state.shots] == [False, True, True, True]
    quality.cancel()
    assert quality.state().progress == "" and checker.stopped
    quality.check()
    checker.finish()
    state = quality.state()
    assert state.curve is not None and len(state.classes[0][1]) == 4 and "hardly anything" in state.forecast
    assert not state.is_old
    teach(dock, ("b", 1))
    assert quality.state().is_old


def test_a_wrong_shot_is_named_and_set_aside(dock: Dock, quality: Quality, checker: FakeRunner) -> None:
    teach(dock, ("a", 0), ("a", 1), ("a", 2), ("b", 0))
    teach(dock, ("a", 3), wrong=True)
    quality.check()
    checker.finish()
    worst = min((line for line in quality.state().shots if line.iou is not None), key=lambda line: line.iou or 0)
    assert worst.key == ("a", 3)
    quality.set_aside(("a", 3), True)
    (line,) = [line for line in quality.state().shots if line.aside]
    assert line.key == ("a", 3) and "set aside" in line.note
    rows = {row.key: row for row in dock.controller.review.table(None).rows}
    assert rows["a", 3].standing is Standing.ASIDE
    quality.set_aside(("a", 3), False)
    assert not any(line.aside for line in quality.state().shots)


def test_what_goes_wrong_is_told(dock: Dock, quality: Quality, checker: FakeRunner) -> None:
    teach(dock, ("a", 0), ("a", 1))
    dock.segmenter.learn = None
    quality.check()
    checker.finish()
    assert quality.state().progress == "" and "TypeError" in dock.controller.reporter.error


def test_slices_unlike_all_that_was_taught_are_named(dock: Dock, checker: FakeRunner) -> None:
    other = Dock(a=np.stack([picture(z) for z in range(3)] + [255 - picture(3) // 8]))
    quality = Quality(other.session, other.layers.name, other.controller.review, checker, other.controller.reporter)
    teach(other, ("a", 0), ("a", 1))
    assert quality.state().unlike == ()
    quality.check()
    checker.finish()
    assert [key for key, _ in quality.state().unlike] == [("a", 3)]
    assert "1 slice looks like nothing" in quality.state().unlike_note


def test_agreement_is_about_slices_that_somebody_looked_at(dock: Dock, quality: Quality) -> None:
    dock.propose_all()
    assert quality.state().agreement == ""
    dock.show(("a", 1))
    dock.layers.proposal_stacks["a"][1][truth(1) == 0] = 1
    dock.controller.accept()
    assert "On 1 slice" in quality.state().agreement and "none needed no correction" in quality.state().agreement
    expected = truth(1).sum() / truth(1).size
    assert f"{expected:.2f} (IoU)" in quality.state().agreement
    dock.controller.undo()
    dock.controller.accept_above()
    assert "1 slice" in quality.state().agreement or quality.state().agreement == ""


def test_agreement_leaves_out_what_was_painted_before() -> None:
    labels = np.array([[1, 1, 2, 0, 0, 1]])
    origins = np.array([[Origin.HUMAN, Origin.MODEL, Origin.ACCEPTED, Origin.CORRECTED, Origin.NONE, Origin.CORRECTED]])
    assert agreement(labels, origins.astype(np.uint8)).iou == pytest.approx(2 / 4)


def test_pauses_are_no_work(dock: Dock) -> None:
    meter = EffortMeter(dock.session, lambda: dock.seconds)
    for wait in (5, 10, 600, 20):
        dock.seconds += wait
        meter.stroke()
    meter.click()
    assert dock.session.effort == Effort(30.0, 4, 1)


# ------------------------------------------------------------------------------------------- clean-up
def test_the_preview_follows_the_slice_and_the_steps(dock: Dock, cleaning: Cleaning, tidier: FakeRunner) -> None:
    dock.propose_all()
    dock.show(("a", 1))
    cleaning.preview()
    tidier.finish()
    assert cleaning.state().note == "Nothing would change on this slice." and tidier.started == 1
    cleaning.follow()
    assert tidier.started == 1, "nothing changed"
    cleaning.change({"min_area": 10_000})
    tidier.finish()
    assert cleaning.state().note == f"{int(truth(1).sum()):,} pixels go (magenta)."
    dock.controller.refresh()
    assert dock.controller.doubt.overlay is Overlay.CLEAN_UP and dock.layers.has_overlay()
    np.testing.assert_array_equal(dock.layers.proposed(("a", 1)), truth(1))
    dock.show(("a", 0))
    cleaning.follow()
    assert "No proposal on this slice" in cleaning.state().note


def test_all_are_tidied_in_one_step_and_what_is_decided_meanwhile_stays(
    dock: Dock, cleaning: Cleaning, tidier: FakeRunner
) -> None:
    dock.propose_all()
    dock.controller.set_refresh_after_decision(False)
    cleaning.change({"min_area": 10_000})
    cleaning.tidy_all()
    dock.show(("a", 2))
    dock.controller.accept()
    tidier.finish()
    assert cleaning.state().note == "4 slices tidied."
    assert not dock.layers.proposed(("a", 1)).any()
    np.testing.assert_array_equal(dock.session.labels(("a", 2)), truth(2))
    dock.controller.undo()
    np.testing.assert_array_equal(dock.layers.proposed(("a", 1)), truth(1))


def test_a_threshold_without_probabilities_is_said(dock: Dock, cleaning: Cleaning, tidier: FakeRunner) -> None:
    dock.propose_all()
    dock.controller.doubt._kept.clear()
    cleaning.set_threshold(0.9)
    cleaning.tidy_all()
    tidier.finish()
    assert "5 slices left as they were" in cleaning.state().note
    cleaning.set_threshold(None)
    assert cleaning.steps.does_nothing


def test_without_proposals_it_is_said_what_to_do(dock: Dock, cleaning: Cleaning) -> None:
    with pytest.raises(SupportError, match="press Propose"):
        cleaning.tidy_all()
    with pytest.raises(SupportError, match="no open proposal on this slice"):
        cleaning.tidy_shown()
    assert "when they come" in cleaning.state().note
