"""``napari-fewshot propagate --instances``: labels, and beside them which pixel belongs to which object."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot import Frame, LabelClass, Session, Shot, models
from napari_fewshot.batch.recipe import read_recipe
from napari_fewshot.cli import app
from napari_fewshot.instances.embedding import TAUS, Embedded, NumberedShot
from napari_fewshot.instances.segmenter import InstanceSegmenter
from napari_fewshot.segmenter import SegmenterSettings
from tests.fakes import BrightnessSegmenter

SIDE = 12


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image whose objects are numbered, another image, and a stack."""

    def load(method: str, *, instances: bool, **_: object) -> InstanceSegmenter | BrightnessSegmenter:
        return InstanceSegmenter(BrightnessSegmenter(), BrightnessSegmenter()) if instances else BrightnessSegmenter()

    monkeypatch.setattr(models, "load_segmenter", load)
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    write("scans/a.tif", squares((4, 4), (4, 30), (30, 20)))
    tifffile.imwrite("a_ids.tif", squares((4, 4), (4, 30), (30, 20)))
    write("scans/b.tif", squares((6, 8), (30, 40)))
    write("scans/c.tif", np.stack([squares((30, 20 + 2 * z), (4, 4)) for z in range(3)]))
    return tmp_path


def squares(*corners: tuple[int, int]) -> np.ndarray:
    ids = np.zeros((48, 64), np.uint16)
    for number, (row, column) in enumerate(corners, start=1):
        ids[row : row + SIDE, column : column + SIDE] = 300 * number
    return ids


def write(name: str, ids: np.ndarray) -> None:
    image = np.where(ids > 0, 200, 20).astype(np.uint8)
    tifffile.imwrite(name, image, photometric="minisblack", metadata={"axes": "ZYX"[-image.ndim :]})


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def propagate(*words: str) -> Result:
    return run("propagate", "scans", "--shot", "scans/a.tif", "a_ids.tif", "--objects", "--instances", *words)


def test_numbers_of_objects_lie_beside_the_labels_and_the_recipe_repeats_them() -> None:
    result = propagate("--out", "out", "--format", "tiff", "--format", "nifti")
    assert result.exit_code == 0, result.output
    numbered = squares((4, 4), (4, 30), (30, 20))
    np.testing.assert_array_equal(tifffile.imread("out/a_labels.tif"), numbered > 0)
    ids = tifffile.imread("out/a_labels_objects.tif")
    np.testing.assert_array_equal(ids > 0, numbered > 0)
    assert [np.unique(ids[numbered == n]).size for n in (300, 600, 900)] == [1, 1, 1] and ids.max() == 3
    found = tifffile.imread("out/b_labels_objects.tif")
    assert np.array_equal(np.unique(found), [0, 1, 2]) and np.array_equal(found > 0, squares((6, 8), (30, 40)) > 0)
    stack = tifffile.imread("out/c_labels_objects.tif")
    assert stack.shape == (3, 48, 64) and all(set(np.unique(plane)) == {0, 1, 2} for plane in stack)
    assert Path("out/c_labels_objects.nii.gz").exists()
    recipe = read_recipe(Path("out"))
    assert recipe.segmenter.instances and recipe.objects
    assert run("run", "out", "--out", "again").exit_code == 0
    files = sorted(path.name for path in Path("out").glob("*_objects.tif"))
    assert files == ["a_labels_objects.tif", "b_labels_objects.tif", "c_labels_objects.tif"]
    for name in files:
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes(), name


def test_what_is_there_is_not_replaced_and_a_stopped_run_goes_on() -> None:
    Path("out").mkdir()
    Path("out/b_labels_objects.tif").write_bytes(b"mine")
    result = propagate("--out", "out")
    assert (result.exit_code, "holds results already" in result.stderr) == (2, True)
    assert Path("out/b_labels_objects.tif").read_bytes() == b"mine"
    assert propagate("--out", "whole").exit_code == 0
    lines = Path("whole/.napari-fewshot/journal.jsonl").read_text().splitlines(keepends=True)
    Path("whole/.napari-fewshot/journal.jsonl").write_text("".join(lines[:2]))  # settings, and the first image
    before = Path("whole/c_labels_objects.tif").read_bytes()
    Path("whole/c_labels_objects.tif").unlink()
    result = propagate("--out", "whole", "--resume")
    assert result.exit_code == 0, result.output
    assert Path("whole/c_labels_objects.tif").read_bytes() == before
    result = run("propagate", "scans", "--shot", "scans/a.tif", "a_ids.tif", "--objects", "--out", "whole", "--resume")
    assert result.exit_code == 2, "without objects it is another run"


def test_tables_and_outlines_list_the_objects_that_were_numbered() -> None:
    ids = squares((4, 4), (4, 4 + SIDE), (30, 20))  # the first two touch
    write("scans/a.tif", ids)
    tifffile.imwrite("a_ids.tif", ids)
    result = propagate("--out", "out", "--format", "tiff", "--format", "csv", "--format", "coco")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(Path("out/objects.csv").read_text("utf-8").splitlines()))
    own = [row for row in rows if row["image"] == "a"]
    assert [(int(row["area_px"]), row["class"]) for row in own] == [(SIDE**2, "class 1")] * 3
    for image in ("a", "b"):
        there = tifffile.imread(f"out/{image}_labels_objects.tif")
        numbers = {int(row["object_id"]) for row in rows if row["image"] == image}
        assert numbers == set(np.unique(there).tolist()) - {0}
    told = json.loads(Path("out/coco.json").read_text("utf-8"))
    assert len(told["annotations"]) == len(rows)
    assert run("export", "out", "--out", "again.csv").exit_code == 0
    assert Path("again.csv").read_bytes() == Path("out/objects.csv").read_bytes()
    assert sorted(path.name for path in Path("out").glob("*objects*"))[-1] == "objects.csv", "no second table"


def test_without_numbers_what_is_connected_is_an_object() -> None:
    tifffile.imwrite("mask.tif", (squares((4, 4), (4, 30), (30, 20)) > 0).astype(np.uint8))
    result = run("propagate", "scans", "--shot", "scans/a.tif", "mask.tif", "--instances", "--out", "out")
    assert result.exit_code == 0, result.output
    assert tifffile.imread("out/a_labels_objects.tif").max() == 3
    assert tifffile.imread("out/b_labels_objects.tif").max() == 2


@pytest.mark.parametrize(
    ("words", "why"), [(["--format", "png"], "do not fit"), (["--cluster", "local:1"], "told apart by one process")]
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(words: list[str], why: str) -> None:
    if words[0] == "--cluster":
        pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    result = propagate("--out", "out", *words)
    assert (result.exit_code, why in result.stderr) == (2, True)
    assert not Path("out").exists()


class OneObject:
    """An embedding in which all pixels are of one object."""

    def __init__(self, key: str) -> None:
        self.key = key

    def fit(self, shots: tuple[NumberedShot, ...], radius: float) -> "OneObject":
        return self

    def at(self, frame: Frame, ys: np.ndarray, xs: np.ndarray) -> Embedded:
        return Embedded(np.zeros((len(ys), 2), np.float32), np.full((len(ys), len(TAUS)), 0.5, np.float32))


def install(monkeypatch: pytest.MonkeyPatch, embedding: OneObject | None) -> None:
    """Let an embedding of objects be found beside the weights, or none."""

    def load(method: str, *, instances: bool, **_: object) -> InstanceSegmenter:
        return InstanceSegmenter(BrightnessSegmenter(), BrightnessSegmenter(), embedding=embedding)

    monkeypatch.setattr(models, "load_segmenter", load)


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (OneObject("dml-1"), OneObject("dml-2"), "the embedding of objects dml-1, but here is dml-2"),
        (OneObject("dml-1"), None, "the embedding of objects dml-1, but here is none"),
        (None, OneObject("dml-2"), "no embedding of objects, but here is dml-2"),
    ],
)
def test_a_recipe_names_the_embedding_of_objects_and_refuses_another(
    then: OneObject | None, now: OneObject | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, then)
    assert propagate("--out", "out").exit_code == 0
    assert read_recipe(Path("out")).weights["objects"] == ("" if then is None else then.key)
    assert run("run", "out", "--out", "again").exit_code == 0
    install(monkeypatch, now)
    for words in (["run", "out", "--out", "other"], ["run", "out", "--out", "out", "--resume"]):
        result = run(*words)
        assert (result.exit_code, told in result.stderr) == (2, True), result.output
    assert not Path("other").exists()
    recipe = json.loads(Path("out/recipe.json").read_text("utf-8"))
    del recipe["weights"]["objects"]  # as it was written before embeddings were named
    Path("old.json").write_text(json.dumps(recipe))
    assert run("run", "old.json", "--out", "old").exit_code == 0


def test_a_session_names_the_embedding_of_objects_and_its_recipe_refuses_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, OneObject("dml-1"))
    session = Session(
        settings=SegmenterSettings(instances=True),
        load=lambda settings: models.load_segmenter(settings.method, instances=settings.instances),
    )
    session.add_images(["scans/a.tif", "scans/b.tif"])
    ids = squares((4, 4), (4, 30), (30, 20)).astype(np.int32) // 300
    session.teach(Shot.of_objects(session.frame("a"), ids))
    assert len(list(session.propose())) == 1
    session.save("saved")
    assert "dml-1" in run("session", "info", "saved").output
    install(monkeypatch, OneObject("dml-2"))
    result = run("session", "run", "saved", "--out", "out")
    assert (result.exit_code, "dml-1, but here is dml-2" in result.stderr) == (2, True), result.output


def test_a_session_with_objects_is_repeated_with_them() -> None:
    session = Session(
        classes=[LabelClass(1, "square", "#112233")],
        settings=SegmenterSettings(instances=True),
        load=lambda settings: models.load_segmenter(settings.method, instances=settings.instances),
    )
    session.add_images(["scans/a.tif", "scans/c.tif"])
    numbered = squares((30, 20), (4, 4)) // 300
    numbered[4 : 4 + SIDE, 4 : 4 + SIDE // 2] = 7  # one of them is two, side by side
    session.teach(Shot(session.frame(("c", 0)), (numbered > 0).astype(np.int32), instances=numbered.astype(np.int32)))
    session.save("saved")
    result = run("session", "run", "saved", "--out", "out")
    assert result.exit_code == 0, result.output
    objects = tifffile.imread("out/c_labels_objects.tif")
    assert len(np.unique(objects[0])) == 4, "background and the three that were numbered"
    for proposal in session.propose():
        written = tifffile.imread("out/a_labels_objects.tif") if proposal.key == "a" else objects[proposal.key[1]]
        np.testing.assert_array_equal(written, proposal.instances)
    (shot,) = read_recipe(Path("out")).shots
    np.testing.assert_array_equal(tifffile.imread(shot.instances)[0], numbered)
    assert run("run", "out", "--out", "again").exit_code == 0
    for name in ("a_labels_objects.tif", "c_labels_objects.tif", "c_labels.tif"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes(), name
