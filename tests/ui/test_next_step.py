"""The line that always says what to do next."""

from dataclasses import replace

import pytest

from napari_fewshot.session import FrameState
from napari_fewshot.ui.actions import DEFAULT_KEYS
from napari_fewshot.ui.next_step import Situation, next_step

READY = Situation(images=1, chosen=1, shown="coins [3]", classes=("coin",))
TAUGHT = replace(READY, shots=1, has_class=True, state=FrameState.TAUGHT)
REVIEW = replace(TAUGHT, proposals=3, state=FrameState.PROPOSED, score=0.874)


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (Situation(), "Open an image or a stack"),
        (Situation(images=2), "Tick the images that you want to label"),
        (replace(READY, trouble="This is the 3D view"), "This is the 3D view"),
        (replace(READY, classes=()), "Add a class"),
        (READY, "Paint 'coin' on 'coins [3]', then press Teach this slice (Shift+T)."),
        (replace(READY, classes=("a", "b", "c")), "Paint 'a', 'b' or 'c' on"),
        (replace(READY, painted=True), "Paint the rest of 'coin'"),
        (replace(READY, shots=1), "Only empty slices are taught so far"),
        (replace(READY, shown=""), "Show one of the ticked images"),
        (replace(TAUGHT, has_background=False), "Everything taught so far is a class."),
        (TAUGHT, "Press Propose (Shift+G)"),
        (replace(TAUGHT, unpainted=("Nucleus",)), "'Nucleus' is painted nowhere yet"),
        (replace(TAUGHT, running=True), "Proposals are on their way"),
        (REVIEW, "Check the proposal on 'coins [3]' (score 87\u00a0%). Where it is wrong, press Correct (Shift+B)"),
        (
            replace(REVIEW, state=FrameState.CORRECTED),
            "Check the proposal on 'coins [3]' (score 87\u00a0%). Then press Accept",
        ),
        (replace(REVIEW, running=True), "Check the proposal on"),
        (replace(REVIEW, state=FrameState.ACCEPTED, score=None), "3 proposals wait for you. Press Next to review"),
        (replace(REVIEW, state=FrameState.ACCEPTED, score=None, proposals=1), "1 proposal waits for you."),
        (replace(TAUGHT, undecided=False), "Every slice is decided. Press Export (Shift+E)"),
    ],
)
def test_every_situation_has_its_sentence(now: Situation, sentence: str) -> None:
    assert next_step(now).startswith(sentence)


def test_every_key_is_another() -> None:
    assert len(set(DEFAULT_KEYS.values())) == len(DEFAULT_KEYS)
