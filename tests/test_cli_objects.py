"""``napari-fewshot objects``: numbered images in, numbered images out."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot import models
from napari_fewshot.cli import app
from napari_fewshot.instances.segmenter import InstanceSegmenter
from tests.fakes import BrightnessSegmenter


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(method: str, *, backbone: str, device: str, instances: bool) -> InstanceSegmenter:
        assert instances
        return InstanceSegmenter(BrightnessSegmenter(), BrightnessSegmenter())

    monkeypatch.setattr(models, "load_segmenter", load)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["objects", *map(str, words)])


def squares(*corners: tuple[int, int]) -> np.ndarray:
    ids = np.zeros((48, 64), np.uint16)
    for number, (row, column) in enumerate(corners, start=1):
        ids[row : row + 12, column : column + 12] = 300 * number
    return ids


def write(folder: Path, name: str, ids: np.ndarray) -> Path:
    tifffile.imwrite(folder / name, np.where(ids > 0, 200, 20).astype(np.uint8))
    return folder / name


def test_all_images_are_numbered_and_what_a_person_numbered_stays(tmp_path: Path) -> None:
    here = squares((4, 4), (4, 30), (30, 20))
    shot, other = write(tmp_path, "a.tif", here), write(tmp_path, "b.tif", squares((6, 8), (30, 40)))
    tifffile.imwrite(tmp_path / "ids.tif", here)
    out = tmp_path / "out"
    result = run(shot, other, "--shot", shot, tmp_path / "ids.tif", "--out", out)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(out / "a_objects.tif"), here)
    found = tifffile.imread(out / "b_objects.tif")
    assert np.array_equal(np.unique(found), [0, 1, 2]) and np.array_equal(found > 0, squares((6, 8), (30, 40)) > 0)
    again = run(other, "--shot", shot, tmp_path / "ids.tif", "--out", out)
    assert again.exit_code == 2 and "is there already" in again.output
    assert run(other, "--shot", shot, tmp_path / "ids.tif", "--out", out, "--overwrite").exit_code == 0


def test_objects_of_a_stack_are_linked(tmp_path: Path) -> None:
    here = squares((4, 4), (30, 20))
    shot = write(tmp_path, "a.tif", here)
    tifffile.imwrite(tmp_path / "ids.tif", here)
    stack = np.stack([squares((30, 20 + 2 * z), (4, 4)) for z in range(4)])
    tifffile.imwrite(
        tmp_path / "s.tif",
        np.where(stack > 0, 200, 20).astype(np.uint8),
        metadata={"axes": "ZYX"},
        photometric="minisblack",
    )
    result = run(tmp_path / "s.tif", "--shot", shot, tmp_path / "ids.tif", "--out", tmp_path, "--link")
    assert result.exit_code == 0, result.output
    found = tifffile.imread(tmp_path / "s_objects.tif")
    assert found.shape == stack.shape
    assert len({found[z, 35, 27 + 2 * z] for z in range(4)}) == 1 and len(np.unique(found)) == 3


def test_nothing_to_learn_from_is_told(tmp_path: Path) -> None:
    result = run(write(tmp_path, "a.tif", squares((4, 4))), "--out", tmp_path)
    assert result.exit_code == 2 and "--shot IMAGE IDS" in result.output
