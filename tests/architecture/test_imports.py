"""What an import costs and brings along, each asked in a Python of its own."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = ["torch", "torchvision", "napari", "qtpy", "PyQt6", "magicgui", "superqt", "skimage", "scipy", "numpy"]
GUI = ["napari", "qtpy", "PyQt6", "magicgui", "superqt"]


def brought_in(statement: str) -> set[str]:
    """Top-level modules that Python knows after running a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(list({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_brings_in_nothing_heavy() -> None:
    assert brought_in("import napari_fewshot").isdisjoint(HEAVY)


def test_importing_the_package_takes_less_than_0_3_seconds() -> None:
    def seconds(statement: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", statement], check=True)
        return time.perf_counter() - start

    # The least of several: a busy machine makes a run slower, never faster.
    assert min(seconds("import napari_fewshot") - seconds("pass") for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    "statement",
    [
        "from napari_fewshot import Frame, LabelClass, Proposal, Shot, SupportSet",
        "from napari_fewshot import PropagationSettings, Session, propagate; Session()",
        "from napari_fewshot import load_segmenter, list_segmenters; list_segmenters()",
        "from napari_fewshot.models import list_backbones; list_backbones()",
    ],
)
def test_values_session_and_method_list_need_neither_torch_nor_a_window(statement: str) -> None:
    assert brought_in(statement).isdisjoint(["torch", "torchvision", *GUI])


def test_opening_the_dock_s_module_imports_no_torch() -> None:
    assert brought_in("import napari_fewshot.ui.dock").isdisjoint(["torch", "torchvision"])


def test_the_controller_needs_no_window() -> None:
    assert brought_in("import napari_fewshot.ui.controller").isdisjoint(["torch", *GUI])


def test_what_the_manifest_names_for_reading_and_writing_needs_no_torch() -> None:
    assert brought_in("import napari_fewshot.io.labels, napari_fewshot.io.samples").isdisjoint(["torch", *GUI])
