"""Along which axes the slices of a session lie, as it is saved."""

import json
from pathlib import Path

import numpy as np
import pytest

from napari_fewshot.errors import ReadError
from napari_fewshot.frames import Frame
from napari_fewshot.session import Session, open_session
from napari_fewshot.session.head import HEAD, sealed
from napari_fewshot.support import Shot

IMAGES = np.arange(3 * 16 * 16, dtype=np.uint8).reshape(3, 16, 16)


def _saved(folder: Path) -> dict[str, object]:
    session = Session()
    frames = Frame.of_stack("movie", IMAGES, (0.5, 0.5), step=2.0, axis="T")
    session.add_frames(frames)
    session.teach(Shot(frames[1], np.ones((16, 16), np.int32)))
    session.save(folder)
    head: dict[str, object] = json.loads((folder / HEAD).read_text("utf-8"))
    return head


def _write(folder: Path, head: dict[str, object]) -> None:
    del head["digest"]
    (folder / HEAD).write_bytes(sealed(head))


def test_axes_and_distances_come_back(tmp_path: Path) -> None:
    head = _saved(tmp_path / "kept")
    assert head["stacks"] == [{"name": "movie", "axes": "T", "steps": [2.0]}]
    frames = open_session(tmp_path / "kept").frames
    assert [(frame.stack.axes, frame.stack.steps) for frame in frames.values()] == [("T", (2.0,))] * 3


def test_a_session_from_before_says_nothing_of_axes(tmp_path: Path) -> None:
    head = _saved(tmp_path / "kept")
    del head["stacks"]
    _write(tmp_path / "kept", head)
    assert {frame.stack.axes for frame in open_session(tmp_path / "kept").frames.values()} == {""}


@pytest.mark.parametrize("wrong", [{"axes": "ZZ"}, {"axes": 7}, {"axes": "Z", "steps": [1, 2]}, {"steps": ["far"]}])
def test_axes_that_cannot_be_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    head = _saved(tmp_path / "kept")
    head["stacks"] = [{**head["stacks"][0], **wrong}]  # type: ignore[index]
    _write(tmp_path / "kept", head)
    with pytest.raises(ReadError, match="is damaged"):
        open_session(tmp_path / "kept")
