"""Every example runs as it stands and writes what it says."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile

EXAMPLES = Path(__file__).parents[1] / "examples"
WRITES = {
    "propagate_in_python.py": [f"coins {i}_labels.tif" for i in (1, 2, 3, 4)],
    "label_a_stack.py": ["cells_labels.tif", "cells_overlay.png"],
    "number_touching_cells.py": ["cells_objects.png", "cells_objects.tif"],
    "slices_that_decide_together.py": ["cells_labels.tif"],
}


def test_every_example_is_listed_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_an_example_runs_and_writes_labels(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert sorted(path.name for path in (tmp_path / "example-output").iterdir()) == sorted(WRITES[name])
    assert "expected IoU" in capsys.readouterr().out
    for path in (tmp_path / "example-output").glob("*.tif"):
        labels = tifffile.imread(path)
        planes = labels if labels.ndim == 3 else labels[None]
        assert all(0.01 < np.mean(plane > 0) < 0.99 for plane in planes)
