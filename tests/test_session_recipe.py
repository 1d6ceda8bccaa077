"""A session as a recipe: what was painted in the dock, repeated from files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot import Frame, LabelClass, PropagationSettings, Session, Shot
from napari_fewshot.batch.recipe import read_recipe
from napari_fewshot.batch.session_recipe import Painted
from napari_fewshot.cli import app
from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import FrameKey, Stack
from napari_fewshot.io.images import open_images
from napari_fewshot.support import SupportSet, Tag
from tests.fakes import BrightnessSegmenter

SIZE = (24, 32)


def stack() -> np.ndarray:
    images = np.full((5, *SIZE), 20, np.uint8)
    for z in range(4):  # nothing on the last
        images[z, 2 + 2 * z : 12 + 2 * z, 5:20] = 200
        images[z, 20:22, 28:30] = 200  # a speck
    return images


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A stack and an image; two slices are taught, and on one of them there is nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    tifffile.imwrite("my stack.tif", stack(), photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite("one.tif", stack()[2])
    made = Session(classes=[LabelClass(1, "square", "#112233")], load=lambda _: BrightnessSegmenter())
    made.add_images(["my stack.tif", "one.tif"])
    made.propagation = PropagationSettings(min_area=9, max_hole=3)
    partly = np.full(SIZE, 255, np.int32)
    partly[2:12, 5:20], partly[14:18, :] = 1, 0
    made.teach(Shot(made.frame(("my stack", 0)), partly))
    made.teach(Shot(made.frame(("my stack", 4)), np.zeros(SIZE, np.int32)))
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_a_session_runs_again_from_the_shell_and_its_recipe_repeats_it(session: Session) -> None:
    session.save("saved")
    result = run("session", "run", "saved", "--out", "out", "--format", "tiff", "--format", "csv")
    assert result.exit_code == 0, result.output
    proposed = {proposal.key: proposal.labels for proposal in session.propose()}
    labels = tifffile.imread("out/my stack_labels.tif")
    for z in range(4):
        np.testing.assert_array_equal(labels[z], proposed["my stack", z])
    assert not labels[4].any()
    np.testing.assert_array_equal(tifffile.imread("out/one_labels.tif"), proposed["one"])
    recipe = read_recipe(Path("out"))
    assert (recipe.classes, recipe.min_area, recipe.clean_up.max_hole) == ((LabelClass(1, "square", "#112233"),), 9, 3)
    assert [shot.positions for shot in recipe.shots] == [((0,), (4,))]
    assert all(shot.digests for shot in recipe.shots) and recipe.weights["features"]
    again = run("run", "out", "--out", "again")
    assert again.exit_code == 0, again.output
    for name in ("my stack_labels.tif", "one_labels.tif", "frames.csv", "objects.csv", "recipe.json"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes(), name


def test_a_mask_that_was_changed_since_is_refused(session: Session) -> None:
    session.save("saved")
    assert run("session", "run", "saved", "--out", "out").exit_code == 0
    (mask,) = Path("out/shots").iterdir()
    changed = tifffile.imread(mask)
    changed[0, 20, 20] = 1
    tifffile.imwrite(mask, changed, photometric="minisblack", metadata={"axes": "ZYX"})
    result = run("run", "out", "--out", "again")
    assert (result.exit_code, "is not what it was" in result.stderr) == (2, True)
    assert not Path("again").exists()


def test_shots_that_were_set_aside_are_not_learnt_from(session: Session) -> None:
    session.teach(Shot(session.frame("one"), np.ones(SIZE, np.int32)))
    session.set_aside("one")
    session.save("saved")
    assert run("session", "run", "saved", "--out", "out").exit_code == 0
    assert len(read_recipe(Path("out")).shots) == 1


@pytest.mark.parametrize(
    "image",
    [
        stack(),
        stack()[1],
        stack()[2].astype(np.float32) / 3,
        np.stack([stack()[:3], stack()[1:4]]),
        np.moveaxis(stack()[:3], 0, -1),
        np.stack([stack()[:4], stack()[:4] + 1], axis=-1).astype(np.uint16),
    ],
    ids=["stack", "image", "real numbers", "times and depths", "three channels", "stack of two channels"],
)
def test_images_that_lie_in_no_file_are_written_beside_the_recipe(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    session = Session(classes=[LabelClass(1, "square", "#112233")], load=lambda _: BrightnessSegmenter())
    positions = list(np.ndindex(*image.shape[: -3 if image.shape[-1] < 4 else -2]))
    axes = "TZ"[-len(positions[0]) :]
    known = Stack(lambda: [], axes, (None, 2.5)[-len(axes) :]) if positions[0] else None
    keys: list[FrameKey] = [("in memory", *at) if at else "in memory" for at in positions]
    session.add_frames(
        Frame(key, image[at], (0.5, 0.25), known) for key, at in zip(keys, positions, strict=True)
    )  # fmt: skip
    session.teach(Shot(session.frame(keys[0]), (_first_channel(image[positions[0]]) > 30).astype(np.int32)))
    session.save("saved")
    result = run("session", "run", "saved", "--out", "out")
    assert result.exit_code == 0, result.output
    recipe = read_recipe(Path("out"))
    (file,) = Path("out/images").glob("*/in memory.ome.tif")
    assert recipe.images == (str(file.absolute()),)
    (opened,) = open_images(file)
    assert opened.step("X")[0] == 0.25 and opened.step("Y")[0] == 0.5
    for at in positions:
        np.testing.assert_array_equal(np.asarray(opened.plane(at)[...]), image[at])
    labels = tifffile.imread("out/in memory_labels.tif")
    if image[positions[0]].ndim == 2:  # the segmenter of these tests knows no colours
        proposals = {proposal.key: proposal.labels for proposal in session.propose()}
        for key, at in zip(keys[1:], positions[1:], strict=True):
            np.testing.assert_array_equal(labels[at], proposals[key])
    again = run("run", "out", "--out", "again")
    assert again.exit_code == 0, again.output
    assert Path("again/in memory_labels.tif").read_bytes() == Path("out/in memory_labels.tif").read_bytes()
    before = file.stat().st_mtime_ns
    assert run("session", "run", "saved", "--out", "out", "--overwrite").exit_code == 0
    assert [file.stat().st_mtime_ns] == [each.stat().st_mtime_ns for each in Path("out/images").glob("*/*")]
    assert file.stat().st_mtime_ns == before


def _first_channel(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else image[..., 0]


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ({("odd", 0): np.uint8, ("odd", 2): np.uint8}, "are no stack"),
        ({("odd", 0): np.uint8, ("odd", 1): np.uint16}, "differ in size or type"),
        ({("odd", 0, 0, 0): np.uint8}, "are no stack"),
        ({("odd", "left"): np.uint8}, "are not numbered"),
        ({"odd": np.int64}, "cannot hold values of type int64"),
    ],
)
def test_what_no_file_can_hold_is_left_out_or_refused_where_it_was_taught(
    session: Session, frames: dict[FrameKey, type], why: str
) -> None:
    session.add_frames(Frame(key, stack()[1].astype(dtype)) for key, dtype in frames.items())
    session.save("saved")
    result = run("session", "run", "saved", "--out", "out")
    assert (result.exit_code, "'odd' is not in the recipe" in result.stderr, why in result.stderr) == (0, True, True)
    session.teach(Shot(session.frame(next(iter(frames))), np.ones(SIZE, np.int32)))
    session.save("saved")
    result = run("session", "run", "saved", "--out", "other")
    assert (result.exit_code, why in result.stderr, "save it" in result.stderr) == (2, True, True)
    assert not Path("other").exists()


def test_tags_are_learnt_from_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tag, ...]] = []

    class Listening(BrightnessSegmenter):
        def learn(self, support: SupportSet, **more: Any) -> Any:
            seen.append(support.tags)
            return super().learn(support, **more)

    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: Listening())
    session.tag(Tag(session.frame(("my stack", 2)), (1,)))
    session.save("saved")
    assert run("session", "run", "saved", "--out", "out").exit_code == 0
    (told,) = read_recipe(Path("out")).tags
    assert (told.image, told.class_ids, told.position) == (str(Path("my stack.tif").absolute()), (1,), (2,))
    assert json.loads(Path("out/recipe.json").read_text())["napari-fewshot recipe"] == 2
    assert run("run", "out", "--out", "again").exit_code == 0
    for (tag,) in seen:
        np.testing.assert_array_equal(tag.frame.read(), stack()[2])
        assert tag.frame.stack is not None
    assert len(seen) == 2
    changed = stack()
    changed[2, 0, 0] += 1
    tifffile.imwrite("my stack.tif", changed, photometric="minisblack", metadata={"axes": "ZYX"})
    result = run("run", "out", "--out", "third")
    assert (result.exit_code, "when it was tagged" in result.stderr) == (2, True)
    assert not Path("third").exists()


def test_an_image_that_is_no_longer_what_was_taught_is_refused(session: Session) -> None:
    from napari_fewshot.batch.session_recipe import recipe_of

    contents = session.snapshot()
    tifffile.imwrite("my stack.tif", stack()[:, ::-1].copy(), photometric="minisblack", metadata={"axes": "ZYX"})
    shots = [replace(shot, frame=Frame(shot.key, stack()[shot.key[1]])) for shot in contents.state.support.shots]
    state = replace(contents.state, support=replace(contents.state.support, shots=tuple(shots)))
    with pytest.raises(SettingsError, match="read in another way"):
        recipe_of(replace(contents, state=state), Path("out"), ("tiff",))
    assert not Path("out").exists()


@pytest.mark.parametrize("index", [..., 1, (0, 2), slice(0, 2), (slice(None), 1), (1, slice(1, 3), slice(0, 9))])
def test_masks_of_a_stack_are_made_where_they_are_read(index: object) -> None:
    labels = np.arange(np.prod(SIZE)).reshape(SIZE) % 3
    planes = {(1, 2): labels.astype(np.int32)}
    whole = np.full((2, 3, *SIZE), 255, np.uint8)
    whole[1, 2] = labels
    np.testing.assert_array_equal(Painted(planes, whole.shape, whole.dtype, 255)[index], whole[index])  # type: ignore[index]


def test_recipes_of_before_are_read_as_they_were(session: Session) -> None:
    session.save("saved")
    assert run("session", "run", "saved", "--out", "out").exit_code == 0
    told = json.loads(Path("out/recipe.json").read_text())
    for shot in told["shots"]:
        del shot["positions"]
    del told["clean_up"], told["volume"]
    Path("out/recipe.json").write_text(json.dumps(told))
    assert read_recipe(Path("out")).shots[0].positions == ()


# ---------------------------------------------------------------------------- the dock's export
def test_the_export_of_the_dock_leaves_a_recipe_that_repeats_its_proposals(session: Session, tmp_path: Path) -> None:
    from napari_fewshot.ui.jobs import Written
    from napari_fewshot.ui.recipes import FILE_NAME, write_recipe_of

    proposed = {proposal.key: proposal.labels for proposal in session.propose()}
    (written,) = write_recipe_of(session.snapshot(), tmp_path / "exported", "tiff")
    assert written == Written(tmp_path / "exported" / FILE_NAME)
    result = run("run", str(tmp_path / "exported" / FILE_NAME), "--out", "out")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread("out/my stack_labels.tif")[2], proposed["my stack", 2])


def test_an_export_without_a_recipe_says_why(session: Session, tmp_path: Path) -> None:
    from napari_fewshot.ui.recipes import Told, write_recipe_of

    session.add_frames([Frame("in memory", stack()[1].astype(np.int64))])
    session.teach(Shot(session.frame("in memory"), np.ones(SIZE, np.int32)))
    (told,) = write_recipe_of(session.snapshot(), tmp_path / "exported", "tiff")
    assert isinstance(told, Told) and "'in memory' was taught and lies in no file" in told.text
    assert not (tmp_path / "exported").exists()
    assert list(write_recipe_of(Session().snapshot(), tmp_path / "exported", "tiff")) == []
