"""One large plane as many pieces of work: no seam, nothing done twice, the files of one piece."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot.batch import frames as batch_frames
from napari_fewshot.batch.planes import (
    StoredLabels,
    StoredPlane,
    part_file,
    plane_file,
    read_plane,
    write_plane,
)
from napari_fewshot.cli import app
from napari_fewshot.io.label_stack import PlaneNote
from napari_fewshot.segmenter import Region

SIZE = (210, 330)
PARTS = tuple(Region(rows, columns) for rows in ((0, 80), (80, 210)) for columns in ((0, 128), (128, 256), (256, 330)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plane that is large by decree, an image to learn from, and its mask."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    bright = (np.sin(y / 9) * np.sin(x / 11)) > 0.3
    image = (np.where(bright, 170, 40) + noise.integers(0, 30, SIZE)).astype(np.uint8)
    tifffile.imwrite("small.tif", image[:96, :96])
    tifffile.imwrite("mask.tif", bright[:96, :96].astype(np.uint8))
    tifffile.imwrite("plane.tif", image)
    return tmp_path


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> list[Region]:
    """Divide every plane of that size; returns the parts that were computed."""
    done: list[Region] = []

    def parts(_: object, pixels: Any) -> tuple[Region, ...]:
        return PARTS if pixels.size == SIZE else ()

    def note(job: batch_frames.Job, *rest: Any) -> StoredPlane:
        stored = propose(job, *rest)
        if job.part is not None:
            done.append(job.part)
        return stored

    propose = batch_frames._proposed
    monkeypatch.setattr("napari_fewshot.models.feature_segmenter.plan_parts", parts)
    monkeypatch.setattr(batch_frames, "_proposed", note)
    return done


def propagate(*arguments: str) -> Result:
    every = ("propagate", "plane.tif", "--shot", "small.tif", "mask.tif", "--features-gib", "0", "--device", "cpu")
    return CliRunner().invoke(app, [*every, *arguments])


def files(folder: str) -> dict[str, bytes]:
    every = (path for path in Path(folder).rglob("*") if path.is_file() and ".napari-fewshot" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in every}


@pytest.mark.parametrize(
    "arguments", [("--format", "tiff", "--format", "ome-zarr", "--format", "csv"), ("--min-area", "150")]
)
def test_a_plane_in_parts_gives_the_files_of_one_piece(
    folder: Path, request: pytest.FixtureRequest, arguments: tuple[str, ...]
) -> None:
    assert propagate("--out", "whole", *arguments).exit_code == 0
    done = request.getfixturevalue("divided")
    result = propagate("--out", "parts", "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert done == list(PARTS)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(event["done"], event["total"]) for event in told if event["event"] == "part"] == [
        (n, 6) for n in range(1, 6)
    ]
    assert files("parts") == files("whole")
    assert 0.02 < tifffile.imread("parts/plane_labels.tif").mean() < 0.6


def test_what_was_painted_on_a_divided_plane_stays(folder: Path, divided: list[Region]) -> None:
    mask = np.full(SIZE, 255, np.uint8)
    mask[70:90, 120:140] = 1  # where four parts meet
    mask[100:140, 200:300] = 0
    tifffile.imwrite("plane_mask.tif", mask)
    result = propagate("--shot", "plane.tif", "plane_mask.tif", "--out", "out")
    assert result.exit_code == 0, result.output
    labels = tifffile.imread("out/plane_labels.tif")
    np.testing.assert_array_equal(labels[mask != 255], mask[mask != 255])
    assert len(divided) == 6


def test_a_divided_plane_that_was_stopped_goes_on_where_it_was(
    folder: Path, divided: list[Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert propagate("--out", "whole").exit_code == 0
    divided.clear()

    def stop(path: Path, plane: StoredPlane) -> None:
        if len(divided) == 3:
            raise KeyboardInterrupt
        write_plane(path, plane)

    with monkeypatch.context() as patch:
        patch.setattr(batch_frames, "write_plane", stop)
        assert propagate("--out", "out").exit_code == 130
    assert not Path("out/plane_labels.tif").exists()
    divided.clear()
    result = propagate("--out", "out", "--resume")
    assert result.exit_code == 0, result.output
    assert divided == list(PARTS[2:])
    assert files("out") == files("whole")


def test_a_part_that_cannot_be_done_fails_its_image_alone(
    folder: Path, divided: list[Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tifffile.imread("plane.tif").astype(np.float32)
    values[200, 300] = np.nan
    tifffile.imwrite("plane.tif", values)
    tifffile.imwrite("other.tif", tifffile.imread("small.tif"))
    result = propagate("other.tif", "--out", "out")
    assert result.exit_code == 3, result.output
    assert result.stderr.count("NaN") == 1
    assert sorted(files("out")) == ["frames.csv", "other_labels.tif", "recipe.json"]


def stored(folder: Path, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    rng = np.random.default_rng(1)
    for position in np.ndindex(*shape[:-2]):
        labels = rng.integers(0, 5, shape[-2:]).astype(np.uint8)
        plane = plane_file(folder, position)
        for part in PARTS:
            write_plane(
                part_file(plane, part), StoredPlane(labels[part.index], PlaneNote("proposed"), "", ((1.0, 2.0),))
            )
        yield position, labels


def test_parts_are_read_as_one_array_wherever_it_is_indexed(tmp_path: Path) -> None:
    shape = (2, *SIZE)
    expected = np.zeros(shape, np.uint8)
    for position, labels in stored(tmp_path, shape):
        expected[position] = labels
    lazy = StoredLabels({(n,): plane_file(tmp_path, (n,)) for n in range(2)}, shape)
    lazy = pickle.loads(pickle.dumps(lazy))  # as it travels to a worker
    for index in (
        ..., 1, (0, slice(70, 90)), (slice(None), slice(79, 81), slice(120, 300)), (1, 80, slice(None)),
        (slice(0, 0),), (1, slice(0, 210, 7), slice(3, 330, 50)), (0, 209, 329), (1, slice(5, 5), slice(0, 9)),
    ):  # fmt: skip
        np.testing.assert_array_equal(lazy[index], expected[index])
    read = read_plane(part_file(plane_file(tmp_path, (0,)), PARTS[0]))
    assert read is not None and read.evidence == ((1.0, 2.0),)
