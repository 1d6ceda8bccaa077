"""The dock answers at once while a long run goes on."""

from collections.abc import Callable
from typing import Any

from benchmarks.speed.dock import SLICES, begin, in_numbers, measure

MOST = 0.1
"""Seconds within which people take an answer for immediate."""


def test_the_dock_answers_at_once_while_200_slices_are_proposed(opened: Callable[..., Any]) -> None:
    """Bounds what the window's own thread computes for an answer, which other programs on the machine hardly change.

    How long people wait is in docs/review.md, measured on a machine that does nothing else.
    """
    viewer, dock = opened(show=True)
    goes_on = begin(viewer, dock, 224)  # of so many actions that one, the first to make a layer, does not decide
    during = in_numbers(measure(viewer, dock, goes_on))
    assert len(dock.controller.session.review_queue()) == SLICES - 1
    assert all(row["times"] >= 2 for row in during.values()), f"the run was over too soon: {during}"
    assert during["all actions"]["work"] < MOST, during
    assert during["next to review"]["work"] < MOST, during
    assert not dock.panel.error_text.text()
