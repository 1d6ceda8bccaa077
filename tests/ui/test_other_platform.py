"""The main job once more on the other of two kinds of display, in a Python of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAIN_JOB = Path(__file__).with_name("test_main_job.py")
_OTHER = "offscreen" if os.environ.get("DISPLAY") and os.environ.get("QT_QPA_PLATFORM") != "offscreen" else "xcb"


@pytest.mark.skipif(sys.platform != "linux", reason="no display server to choose here")
def test_the_main_job_works_on_the_other_platform() -> None:
    """Offscreen when the tests run on a display, on an invisible display (Xvfb) when they run offscreen."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(MAIN_JOB)]
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "COV_CORE_SOURCE")}
    environment |= {"QT_QPA_PLATFORM": _OTHER}
    if _OTHER == "xcb":
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            pytest.skip("no display server: Xvfb is not installed")
        command = [xvfb, "-a", "-s", "-screen 0 1366x768x24", *command]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
