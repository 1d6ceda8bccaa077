"""Ended at any moment: complete files or none, and ``--resume`` does the rest.

A moment is a step on the disk (opening a file to write, a rename, a removal, a folder): there the process ends itself.
"""

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_fewshot.cli import app
from tests.fakes import BrightnessSegmenter

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes end themselves as on Unix"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SIDE = 32
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
PROPAGATE = (
    "propagate", "scans", "--shot", "scans/0.tif", "mask.tif", "--out", "out",
    "--format", "tiff", "--format", "ome-zarr", "--format", "csv",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images and a stack; masks are computed without torch."""
    import napari_fewshot.models.reproducible  # noqa: F401 - brings torch, once for all children

    pytest.importorskip("zarr", reason="the extra 'zarr' is not installed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    Path("scans").mkdir()
    images = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(3)]
    for number, image in enumerate(images):
        image[4 + 2 * number : 14 + 2 * number, 6:20] = 200
    tifffile.imwrite("mask.tif", (images[0] > 0).astype(np.uint8))
    for number in range(2):
        tifffile.imwrite(f"scans/{number}.tif", images[number])
    tifffile.imwrite("scans/stack.tif", np.stack(images), photometric="minisblack", metadata={"axes": "ZYX"})
    return tmp_path


def in_a_child(work: Callable[[], int]) -> int:
    """Run something in a process of its own; returns how it ended, as `os.waitstatus_to_exitcode` says it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(*arguments: str, moment: int = 0, how: signal.Signals = signal.SIGKILL, count: Path | None = None) -> int:
    """Run the verb, and end the process at a moment; 0 for never."""

    def work() -> int:
        steps: list[str] = []

        def note(event: str, told: tuple[object, ...]) -> None:
            if event not in STEPS or not told or "/out" not in str(told[0]):
                return
            if event == "open" and not int(str(told[2])) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            steps.append(f"{event} {told[0]}")
            if len(steps) == moment:
                os.kill(os.getpid(), how)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
        sys.addaudithook(note)
        code = CliRunner().invoke(app, [*PROPAGATE, *arguments]).exit_code
        if count is not None:
            count.write_text("\n".join(steps))
        return code

    return in_a_child(work)


def visible() -> dict[str, dict[str, bytes]]:
    """Each file or folder that a person sees, with all that is in it."""
    return {
        entry.name: {str(p.relative_to(entry)): p.read_bytes() for p in (entry, *entry.rglob("*")) if p.is_file()}
        for entry in Path("out").iterdir()
        if not entry.name.startswith(".")
    }


@pytest.mark.parametrize(("how", "times"), [(signal.SIGKILL, 3), (signal.SIGINT, 1)])
def test_ended_at_any_moment_it_leaves_complete_files_or_none_and_resume_does_the_rest(
    folder: Path, how: signal.Signals, times: int
) -> None:
    assert run(count=folder / "steps") == 0
    whole, done = visible(), (folder / "steps").read_text().splitlines()
    steps = len(done)
    assert {"0_labels.tif", "stack_labels.tif", "stack_labels.ome.zarr", "objects.csv", "frames.csv"} < whole.keys()
    assert steps > 50
    moments = random.Random(how).sample(range(1, steps + 1), times)
    moments.append(next(n for n, step in enumerate(done, 1) if step.startswith("os.rename") and "frames.csv" in step))
    for turn, moment in enumerate(moments):
        os.rename("out", f"before {turn}")
        ended = run(moment=moment, how=how)
        assert ended == (-how if how == signal.SIGKILL else 130)
        left = visible() if Path("out").is_dir() else {}
        assert left == {name: whole[name] for name in left}, f"step {moment} of {steps}"
        again = run("--resume", moment=moment // 2 + 1, how=how)  # and once more, on the way
        assert again in (0, -how, 130)
        left = visible()
        assert left == {name: whole[name] for name in left}, f"step {moment} of {steps}, stopped twice"
        assert run("--resume") == 0
        assert visible() == whole, f"step {moment} of {steps}, resumed"
        hidden = [entry.name for entry in Path("out").iterdir() if entry.name.startswith(".")]
        assert hidden == [".napari-fewshot"]
