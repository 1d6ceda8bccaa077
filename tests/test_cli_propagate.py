"""The verbs ``propagate`` and ``run``, from files to files."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot.cli import app
from napari_fewshot.io.images import read_images
from tests.fakes import BrightnessSegmenter

SIDE = 32


def image(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright square on a dark ground, and its mask."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    top = 4 + 2 * seed
    mask[top : top + 8, 6:20] = 1
    return np.where(mask, 200, 20).astype(np.uint8), mask


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images in a folder, one of them painted; masks are computed without torch."""
    (tmp_path / "the images ü").mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / "the images ü" / f"{number}.tif", image(number)[0])
    tifffile.imwrite(tmp_path / "mask.tif", image(1)[1])
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHOT = ("--shot", "the images ü/1.tif", "mask.tif")
PROPAGATE = ("propagate", "the images ü", *SHOT, "--out", "out")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def labels(name: str) -> np.ndarray:
    return tifffile.imread(Path("out") / f"{name}_labels.tif")


# ---------------------------------------------------------------------------- what is written
def test_every_image_of_a_folder_gets_its_labels(folder: Path) -> None:
    result = invoke(*PROPAGATE, "--class", "1=square")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("out").iterdir() if not path.name.startswith(".")) == [
        "0_labels.tif", "1_labels.tif", "2_labels.tif", "3_labels.tif", "frames.csv", "recipe.json",
    ]  # fmt: skip
    for number in range(4):
        np.testing.assert_array_equal(labels(str(number)), image(number)[1])
    rows = rows_of("out/frames.csv")
    assert [row["provenance"] for row in rows] == ["proposed", "painted", "proposed", "proposed"]
    assert "4 of 4: 3, expected IoU" in result.output
    assert not (folder / "out/.napari-fewshot/planes").exists()


def test_every_slice_of_a_stack_is_labelled_and_its_scale_kept(folder: Path) -> None:
    stack = np.stack([image(number)[0] for number in range(4)])
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite("stack.tif", stack, imagej=True, resolution=(2, 2), metadata=metadata)
    masks = np.zeros_like(stack)
    masks[1] = image(1)[1]
    tifffile.imwrite("masks.tif", masks, photometric="minisblack")
    result = invoke("propagate", "stack.tif", "--shot", "stack.tif", "masks.tif", "--out", "out")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(labels("stack"), [image(number)[1] for number in range(4)])
    with tifffile.TiffFile("out/stack_labels.tif") as file:
        assert file.imagej_metadata is not None and file.imagej_metadata["spacing"] == 2.0
    assert "stack [1], painted by hand" in result.output


def test_what_is_painted_on_a_part_of_an_image_stays(folder: Path) -> None:
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[:8, :4], mask[8:10, 8:12] = 1, 0  # against what brightness says
    mask[7:12, 12:18] = 1
    tifffile.imwrite("mask.tif", mask)
    assert invoke(*PROPAGATE).exit_code == 0
    said = mask != 255
    np.testing.assert_array_equal(labels("1")[said], mask[said])


@pytest.mark.parametrize("layout", ["two folders", "side by side"])
def test_shots_are_found_in_a_folder(folder: Path, layout: str) -> None:
    where, masks = (Path("shots/images"), Path("shots/labels")) if layout == "two folders" else (Path("shots"),) * 2
    for made in (where, masks):
        made.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(where / "a.tif", image(1)[0])
    tifffile.imwrite(masks / ("a.tif" if layout == "two folders" else "a_mask.tif"), image(1)[1])
    result = invoke("propagate", "the images ü/0.tif", "--shots", "shots", "--out", "out")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(labels("0"), image(0)[1])


def test_several_formats_are_written_of_one_run(folder: Path) -> None:
    assert invoke(*PROPAGATE, "--format", "png", "--format", "csv", "--format", "coco").exit_code == 0
    names = {path.name for path in Path("out").iterdir()}
    assert names >= {"0_labels.png", "3_labels.png", "objects.csv", "coco.json"}
    told = rows_of("out/objects.csv")
    assert [(row["image"], row["area_px"]) for row in told] == [(str(n), "112") for n in range(4)]
    assert len(json.loads(Path("out/coco.json").read_text())["annotations"]) == 4


def test_programs_are_told_in_lines_of_json(folder: Path) -> None:
    result = invoke(*PROPAGATE, "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["begin", *["frame", "written"] * 4, "end"]
    assert [event["done"] for event in events if event["event"] == "frame"] == [1, 2, 3, 4]
    assert Path(events[2]["files"][0]).is_file()


# ---------------------------------------------------------------------------- the recipe
def test_a_recipe_repeats_a_run_bit_for_bit(folder: Path) -> None:
    assert invoke(*PROPAGATE, "--format", "tiff", "--format", "csv", "--min-area", "3").exit_code == 0
    result = invoke("run", "out/recipe.json", "--out", "again")
    assert result.exit_code == 0, result.output
    hidden = ".napari-fewshot"
    first, second = ({k: v for k, v in contents(folder / n).items() if hidden not in k} for n in ("out", "again"))
    assert first == second
    assert len(first) == 4 + 3


def test_a_recipe_serves_other_images(folder: Path) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    tifffile.imwrite("other.tif", image(3)[0])
    result = invoke("run", "out", "other.tif", "--out", "others")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread("others/other_labels.tif"), image(3)[1])


def test_a_recipe_refuses_a_shot_that_has_changed_since(folder: Path) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    tifffile.imwrite("mask.tif", image(2)[1])
    result = invoke("run", "out", "--out", "again")
    assert result.exit_code == 2
    assert "is not what it was" in result.stderr
    assert not Path("again").exists()


def test_a_recipe_refuses_other_images_and_other_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    tifffile.imwrite("the images ü/4.tif", image(0)[0])
    result = invoke("run", "out", "--out", "again")
    assert (result.exit_code, "other images" in result.stderr) == (2, True)
    Path("the images ü/4.tif").unlink()
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter("another"))
    result = invoke("run", "out", "--out", "again")
    assert (result.exit_code, "another" in result.stderr) == (2, True)
    assert not Path("again").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"napari-fewshot recipe": 2}', '{"napari-fewshot recipe": 1}', "[" * 9999]
)
def test_what_is_no_recipe_is_refused_in_one_sentence(folder: Path, text: str) -> None:
    Path("recipe.json").write_text(text)
    result = invoke("run", "recipe.json", "--out", "again")
    assert result.exit_code == 2
    assert "is no recipe" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


# ---------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("propagate", "nowhere", *SHOT), "nowhere is not there"),
        (("propagate", "nothing*.tif", *SHOT), "there is no image at"),
        (("propagate", "the images ü"), "--shot IMAGE MASK"),
        (("propagate", "the images ü", "--shot", "mask.tif"), "--shot IMAGE MASK"),
        (("propagate", "the images ü", "--shots", "the images ü"), "no image with its mask"),
        (("propagate", "the images ü", "--shot", "the images ü/1.tif", "small.tif"), "is 16 x 16"),
        (("propagate", "the images ü", *SHOT, "--format", "gif"), "there is no format 'gif'"),
        (("propagate", "the images ü", *SHOT, "--method", "magic"), "there is no method 'magic'"),
        (("propagate", "the images ü", *SHOT, "--class", "square"), "names no class"),
        (("propagate", "the images ü", *SHOT, "--axes", "QYX"), "do not describe"),
        (("propagate", "the images ü", *SHOT, "--resume", "--overwrite"), "give one of them"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_sentence_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    tifffile.imwrite("small.tif", np.ones((16, 16), np.uint8))
    result = invoke(*arguments, "--out", "out")
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not Path("out").exists()


def test_an_image_that_cannot_be_used_is_told_and_the_others_are_done(folder: Path) -> None:
    whole = (folder / "the images ü/2.tif").read_bytes()
    (folder / "the images ü/2.tif").write_bytes(whole[:300])
    tifffile.imwrite("the images ü/3.tif", np.zeros((8, 8), np.uint8))
    result = invoke(*PROPAGATE, "--format", "tiff", "--format", "csv")
    assert result.exit_code == 3, result.output
    assert "napari-fewshot: 2: " in result.stderr
    assert "napari-fewshot: 3: '3' is 8 x 8 pixels" in result.stderr
    assert sorted(path.name for path in Path("out").glob("*.tif")) == ["0_labels.tif", "1_labels.tif"]
    (folder / "the images ü/2.tif").write_bytes(whole)
    Path("the images ü/3.tif").unlink()
    result = invoke(*PROPAGATE, "--format", "tiff", "--format", "csv", "--resume")
    assert result.exit_code == 0, result.output
    assert [r["image"] for r in rows_of("out/objects.csv")] == ["0", "1", "2"]


def test_results_that_are_there_are_replaced_only_if_asked(folder: Path) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    before = contents(folder / "out")
    result = invoke(*PROPAGATE)
    assert (result.exit_code, "holds results already" in result.stderr) == (2, True)
    assert contents(folder / "out") == before
    assert invoke(*PROPAGATE, "--overwrite", "--min-area", "999").exit_code == 0
    assert not labels("0").any()


def test_a_file_of_somebody_else_is_not_replaced(folder: Path) -> None:
    Path("out").mkdir()
    Path("out/2_labels.tif").write_bytes(b"mine")
    for arguments in ((), ("--resume",)):
        assert invoke(*PROPAGATE, *arguments).exit_code == 2
    assert contents(folder / "out") == {"2_labels.tif": b"mine"}


def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    Path("out").write_bytes(b"a file")
    result = invoke(*PROPAGATE)
    assert (result.exit_code, "is not a folder" in result.stderr) == (2, True)


def test_a_full_disk_is_told_and_leaves_no_half_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    result = invoke(*PROPAGATE)
    assert (result.exit_code, "is full" in result.stderr) == (2, True)
    assert list(Path("out").glob("*.tif")) == []
    monkeypatch.undo()


# ---------------------------------------------------------------------------- stopped, and resumed
def test_resuming_does_no_frame_again_and_gives_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(*PROPAGATE, "--format", "tiff", "--format", "csv").exit_code == 0
    whole = {name: data for name, data in contents(folder / "out").items() if not name.startswith(".")}
    shutil.rmtree("out")
    slow = Stopping(after=3)
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: slow)
    result = invoke(*PROPAGATE, "--format", "tiff", "--format", "csv")
    assert result.exit_code == 130
    assert "complete" in result.stderr
    assert sorted(path.name for path in Path("out").glob("*.tif")) == ["0_labels.tif", "1_labels.tif"]
    again = BrightnessSegmenter()
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: again)
    result = invoke(*PROPAGATE, "--format", "tiff", "--format", "csv", "--resume")
    assert result.exit_code == 0, result.output
    assert "0: done before" in result.output
    assert again.tiles_seen == ["1", "2", "3"]  # the shot is learnt from; of the others, those that were left
    assert {name: data for name, data in contents(folder / "out").items() if not name.startswith(".")} == whole


def test_resuming_what_is_complete_does_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    before = contents(folder / "out")
    again = BrightnessSegmenter()
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: again)
    assert invoke(*PROPAGATE, "--resume").exit_code == 0
    assert (again.tiles_seen, again.learnt) == ([], [])
    assert contents(folder / "out") == before


def test_resuming_with_other_settings_is_refused(folder: Path) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    before = contents(folder / "out")
    result = invoke(*PROPAGATE, "--resume", "--min-area", "5")
    assert (result.exit_code, "min_area: 0, now 5" in result.stderr) == (2, True)
    assert contents(folder / "out") == before


def test_labels_are_tidied_as_told(folder: Path) -> None:
    assert invoke(*PROPAGATE).exit_code == 0
    plain = {name: data for name, data in contents(folder / "out").items() if name.endswith(".tif")}
    for told in (["--largest-only", "--max-hole", "9", "--smooth", "1"], ["--threshold", "1=1"]):
        assert invoke(*PROPAGATE, "--overwrite", *told).exit_code == 0
        assert {n: d for n, d in contents(folder / "out").items() if n.endswith(".tif")} != plain
    for wrong, said in (("cell=0.5", "say CLASS=P"), ("1=7", "threshold of class 1 is 7.0")):
        result = invoke(*PROPAGATE, "--overwrite", "--threshold", wrong)
        assert (result.exit_code, said in result.stderr) == (2, True)


class Stopping(BrightnessSegmenter):
    """Is stopped at a tile."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def on_tile(self, key: object) -> None:
        if len(self.tiles_seen) == self.after:
            raise KeyboardInterrupt


KILLED = """
    import sys, napari_fewshot.models
    from napari_fewshot.cli import main
    from tests.fakes import BrightnessSegmenter

    class Slow(BrightnessSegmenter):
        def on_tile(self, key):
            import time
            time.sleep(0.05)

    napari_fewshot.models.load_segmenter = lambda *args, **kwargs: Slow()
    sys.argv = ["napari-fewshot", *sys.argv[1:]]
    main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on Unix")
def test_a_killed_run_leaves_complete_files_or_none_and_is_finished_by_resume(folder: Path) -> None:
    stack = np.stack([image(number % 4)[0] for number in range(8)])
    tifffile.imwrite("the images ü/stack.tif", stack, metadata={"axes": "ZYX"})
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    arguments = [*PROPAGATE, "--format", "tiff", "--format", "ome-zarr", "--json"]
    command = [sys.executable, "-c", textwrap.dedent(KILLED), *arguments]
    for resume, frames in (([], 2), (["--resume"], 4)):  # between two images; in the middle of the stack
        with subprocess.Popen([*command, *resume], stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            events = (json.loads(line)["event"] for line in child.stdout)
            for _ in zip(range(frames), (event for event in events if event == "frame"), strict=False):
                pass
            child.send_signal(signal.SIGKILL)
        for path in Path("out").glob("*.tif"):
            np.testing.assert_array_equal(tifffile.imread(path), image(int(path.name[0]))[1])
        for path in Path("out").glob("*.zarr"):
            assert [frame.read().shape for frame in read_images([path / "labels" / "labels"])] == [(SIDE, SIDE)]
    assert len(list(Path("out").glob("[0-3]_labels.tif"))) >= 3
    assert not Path("out/stack_labels.tif").exists()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()].count("skipped") >= 3
    np.testing.assert_array_equal(labels("stack"), [image(number % 4)[1] for number in range(8)])
    files = {f"{stem}_labels{suffix}" for stem in (*"0123", "stack") for suffix in (".tif", ".ome.zarr")}
    assert {path.name for path in Path("out").iterdir()} == {*files, "frames.csv", "recipe.json", ".napari-fewshot"}


# ---------------------------------------------------------------------------- with the real thing
def test_the_default_method_repeats_itself_on_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert invoke(*PROPAGATE, "--device", "cpu", "--features-gib", "0").exit_code == 0
    recipe = json.loads(Path("out/recipe.json").read_text())
    assert recipe["weights"]["features"].startswith("mica-")
    assert invoke("run", "out", "--out", "again", "--features-gib", "0").exit_code == 0
    for number in range(4):
        name = f"{number}_labels.tif"
        assert (folder / "out" / name).read_bytes() == (folder / "again" / name).read_bytes()
        assert 0 < np.mean(labels(str(number))) < 0.5
