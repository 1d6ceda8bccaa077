"""Pixels of images that lie in no file, as they are kept with a session."""

from pathlib import Path

import numpy as np
import pytest

from napari_fewshot.frames import Frame
from napari_fewshot.io.content_store import ContentStore
from napari_fewshot.io.image_places import ImagePlace
from napari_fewshot.session import embedding
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.session.embedding import EmbeddedPixels
from napari_fewshot.session.state import SessionState
from napari_fewshot.support import Shot, SupportSet

SIZE = 16, 16
FRAMES = {name: Frame(name, np.full(SIZE, value, np.uint8)) for value, name in enumerate("abc")}


def contents_of(*taught: str, places: tuple[str, ...] = ()) -> SessionContents:
    shots = [Shot(FRAMES[name], np.ones(SIZE, int)) for name in taught]
    return SessionContents(
        SessionState(SupportSet(shots)), FRAMES, places={name: ImagePlace("x.tif") for name in places}
    )


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


def test_images_that_lie_in_a_file_are_not_kept_again(store: ContentStore) -> None:
    kept = EmbeddedPixels(store).put(contents_of(places=("a", "c")))
    assert list(kept) == ["b"]
    np.testing.assert_array_equal(store.get(kept["b"]), FRAMES["b"].image)


def test_beyond_the_limit_only_images_that_were_taught_are_kept(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "EMBEDDED_BYTES", 16 * 16)
    assert list(EmbeddedPixels(store).put(contents_of("c"))) == ["a", "c"]


def test_an_image_that_is_taught_no_more_takes_no_room_from_those_that_are(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "EMBEDDED_BYTES", 10)
    pixels = EmbeddedPixels(store)
    assert list(pixels.put(contents_of("a", "b", "c"))) == ["a", "b", "c"]
    assert list(pixels.put(contents_of("c"))) == ["c"]


def test_pixels_that_cannot_be_had_are_not_missed(store: ContentStore) -> None:
    def gone() -> np.ndarray:
        raise RuntimeError("the layer is gone")

    frames = {"gone": Frame("gone", gone), **FRAMES}
    assert list(EmbeddedPixels(store).put(SessionContents(SessionState(), frames))) == ["a", "b", "c"]
