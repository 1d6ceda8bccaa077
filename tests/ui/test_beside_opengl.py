"""Pretrained networks in a program that draws with OpenGL: two libraries that have LLVM in them must not meet."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from threading import Event

import pytest

from napari_fewshot.models import beside_opengl
from napari_fewshot.models.beside_opengl import without_triton
from tests.ui.conftest import WITHOUT_OPENGL

IN_A_WINDOW = """
import sys
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from napari_fewshot import load_segmenter
from napari_fewshot.errors import WeightsError
viewer = napari.Viewer(show=True)
viewer.add_image(np.random.default_rng(0).random((64, 64)))
QApplication.processEvents()
assert viewer.screenshot(flash=False).max() > 100, "nothing was drawn"
for backbone in ("resnet18", "timm:test_resnet"):
    try:
        load_segmenter("panet", backbone=backbone, device="cpu")
    except WeightsError:
        print("went well")
viewer.close()
"""


@pytest.mark.skipif(WITHOUT_OPENGL, reason="no display server")
def test_networks_are_loaded_in_a_window_that_draws() -> None:
    """Where Mesa draws, loading triton, which torchvision and timm make torch do, would end the program."""
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_WINDOW],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **nowhere, "TORCH_HOME": os.devnull + "/none", "HF_HOME": os.devnull + "/none"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("went well") == 2


@pytest.fixture
def _beside_mesa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside_opengl, "_has_llvm", lambda: True)
    monkeypatch.delitem(sys.modules, "triton", raising=False)


@pytest.mark.usefixtures("_beside_mesa")
def test_triton_is_hidden_inside_and_back_afterwards() -> None:
    there = find_spec("triton") is not None
    with without_triton(), without_triton():
        assert find_spec("triton") is None
        with pytest.raises(ImportError):
            import triton  # noqa: F401
    assert (find_spec("triton") is not None) == there


@pytest.mark.usefixtures("_beside_mesa")
def test_another_thread_that_comes_later_finds_it_hidden_as_long_as_it_needs() -> None:
    inside, leave = Event(), Event()

    def first() -> None:
        with without_triton():
            inside.set()
            leave.wait(10)

    def second() -> bool:
        with without_triton():
            return find_spec("triton") is None

    with ThreadPoolExecutor(2) as threads:
        threads.submit(first)
        assert inside.wait(10)
        later = threads.submit(second)
        leave.set()
        assert later.result(10)
    assert "triton" not in sys.modules


def test_where_nothing_has_loaded_llvm_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside_opengl, "_has_llvm", lambda: False)
    before = sys.modules.get("triton")
    with without_triton():
        assert sys.modules.get("triton") is before
