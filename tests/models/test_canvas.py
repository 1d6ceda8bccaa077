"""Large proposals lie in a file that nobody sees, and are the same there."""

import gc
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.imaging import cost
from napari_fewshot.imaging.tiling import plan_tiles
from napari_fewshot.models import canvas as canvas_module
from napari_fewshot.models.cache_settings import FOLDER_VARIABLE
from napari_fewshot.models.canvas import Canvas


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of this test go."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def _always_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas_module, "IN_MEMORY", 0)
    monkeypatch.setattr(canvas_module, "_RESERVE", 0)


def painted(size: tuple[int, int] = (70, 90), layers: int = 3) -> Canvas:
    """Tile by tile, each with numbers of its own."""
    canvas = Canvas(layers, size)
    for number, tile in enumerate(plan_tiles(size, 1, 0, 4)):
        shape = tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0]
        canvas.put(tile, np.full((layers, *shape), number / 7, np.float32), np.full(shape, number), number / 9)
    return canvas


@pytest.mark.usefixtures("_always_in_a_file")
def test_a_canvas_in_a_file_holds_what_one_in_memory_holds(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    large = painted()
    assert len(large._maps) == 3
    monkeypatch.setattr(canvas_module, "IN_MEMORY", 1 << 30)
    small = painted()
    assert small._maps == []
    for name in ("probabilities", "labels", "confidence"):
        ours, theirs = getattr(large, name), getattr(small, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype and ours.flags.writeable and ours.flags.c_contiguous
    assert folder.is_dir() and not any(folder.iterdir()), "nothing is left behind, whatever happens to the program"


@pytest.mark.usefixtures("_always_in_a_file")
def test_arrays_outlive_their_canvas() -> None:
    labels = painted().labels
    gc.collect()
    assert labels.max() == painted().labels.max() > 0


@pytest.mark.usefixtures("_always_in_a_file")
@pytest.mark.parametrize("trouble", ["no room", "no folder", "no mapping"])
def test_without_a_file_it_is_in_memory(trouble: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if trouble == "no room":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    elif trouble == "no folder":
        folder.write_text("something else")
    else:
        monkeypatch.setattr(canvas_module.mmap, "mmap", refuse)
    canvas = painted()
    assert canvas._maps == [] and canvas.labels.max() > 0


def refuse(*_: object) -> None:
    raise OSError("no mapping today")


@pytest.mark.skipif(sys.platform != "linux", reason="how much is in memory is told by Linux only")
@pytest.mark.usefixtures("_always_in_a_file")
def test_what_was_put_down_does_not_stay_in_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    size = (2048, 2048)  # 67 MB
    before = resident()
    canvas = Canvas(2, size)
    for tile in plan_tiles(size, 256 * 256, 0, 16):
        canvas.put(tile, np.float32([0.25, 0.75])[:, None, None], 1, 0.75)
    assert resident() - before < 10e6
    assert canvas.probabilities[1].min() == 0.75 and (canvas.labels == 1).all()


@pytest.mark.parametrize("constant", [False, True])
def test_proposals_are_the_same_wherever_they_lie(constant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas_module, "_RESERVE", 0)
    image = np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8)
    concept = load_segmenter("panet", device="cpu").learn(SupportSet([Shot(Frame("a", image), image // 128)]))
    query = Frame("q", np.full_like(image, 7) if constant else image)
    found = []
    for limit in (0, 1 << 30):
        monkeypatch.setattr(canvas_module, "IN_MEMORY", limit)
        found.append(concept.propose(query))
    for name in ("probabilities", "labels", "confidence", "score", "note"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))
    np.testing.assert_array_equal(found[0].confidence, found[0].probabilities.max(0))
    np.testing.assert_array_equal(found[0].labels, found[0].probabilities.argmax(0))


def test_the_estimate_of_memory_knows_of_it() -> None:
    assert cost._RESULT_LIMIT == canvas_module.IN_MEMORY
