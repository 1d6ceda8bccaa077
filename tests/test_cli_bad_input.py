"""Bad files and the shell: one sentence on stderr, the right exit code, and nothing that was there is touched."""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner, Result

from napari_fewshot.cli import app
from tests.fakes import BrightnessSegmenter

SIDE = 32
PICTURE = np.where(np.arange(SIDE)[:, None] > 15, 200, 20).astype(np.uint8).repeat(SIDE, 1).reshape(SIDE, SIDE)
MASK = (PICTURE > 100).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, its mask, and results of an earlier day."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    tifffile.imwrite("good.tif", PICTURE)
    tifffile.imwrite("mask.tif", MASK)
    Path("done").mkdir()
    Path("done/good_labels.tif").write_bytes(b"of an earlier day")
    return tmp_path


def propagate(*images: str, shot: tuple[str, str] = ("good.tif", "mask.tif"), out: str = "out") -> Result:
    return CliRunner().invoke(app, ["propagate", *images, "--shot", *shot, "--out", out])


def one_sentence(result: Result, code: int, words: str) -> None:
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert words in lines[0], lines[0]
    assert all(line.startswith("napari-fewshot: ") for line in lines) and len(lines) == (2 if code == 3 else 1)
    assert "Traceback" not in result.output


# ---------------------------------------------------------------------------- images
def patched(path: str, tags: dict[int, int], **options: object) -> None:
    """Write a TIFF whose tags say something else than what is in it."""
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), metadata=None, **options)
    with tifffile.TiffFile(path) as file:
        where = {tag.code: (tag.valueoffset, "<H" if tag.dtype == 3 else "<I") for tag in file.pages.first.tags}
    data = bytearray(Path(path).read_bytes())
    for code, value in tags.items():
        offset, kind = where[code]
        struct.pack_into(kind, data, offset, value)
    Path(path).write_bytes(data)


def ome(path: str, size_z: int = 1, name: str = "") -> None:
    other = f'<TiffData><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>' if name else "<TiffData/>"
    told = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I:0"><Pixels ID="P:0" '
        f'DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="64" SizeZ="{size_z}" SizeC="1" SizeT="1">{other}'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), description=told, metadata=None)


def truncated(path: str) -> None:
    tifffile.imwrite(path, PICTURE)
    Path(path).write_bytes(Path(path).read_bytes()[:-100])


def zarr_with(path: str, attributes: str, **array: str) -> None:
    Path(path, "0").mkdir(parents=True)
    Path(path, ".zgroup").write_text('{"zarr_format": 2}')
    Path(path, ".zattrs").write_text(attributes)
    told = {"shape": "[64, 64]", "chunks": "[64, 64]", **array}
    Path(path, "0/.zarray").write_text(
        f'{{"zarr_format": 2, "shape": {told["shape"]}, "chunks": {told["chunks"]}, "dtype": "|u1", '
        '"compressor": null, "fill_value": 0, "order": "C", "filters": null}'
    )


MULTISCALES = '{"multiscales": [{"version": "0.4", "axes": ["y", "x"], "datasets": [{"path": "0"}]}]}'
STACK = MULTISCALES.replace('["y"', '["z", "y"')
BAD: dict[str, tuple[str, Callable[[str], object], str]] = {
    "truncated": ("bad.tif", truncated, "ends too early"),
    "empty": ("bad.tif", lambda path: Path(path).write_bytes(b""), "cannot be read"),
    "wrong magic": ("bad.tif", lambda path: Image.fromarray(PICTURE).save(path, "PNG"), "cannot be read"),
    "tiles by the billion": (
        "bad.tif",
        lambda path: patched(path, {256: 2**31 - 16, 257: 2**31 - 16}, tile=(16, 16), compression="zlib"),
        "strips or tiles",
    ),
    "an enormous strip": ("bad.tif", lambda path: patched(path, {256: 2**31 - 1, 257: 2**31 - 1}), "ends too early"),
    "planes by the billion": ("bad.ome.tif", lambda path: ome(path, 2 * 10**9), "claims to hold 2,000,000,000 planes"),
    "a file elsewhere": ("bad.ome.tif", lambda path: ome(path, 2, "../secret.tif"), "lies outside of it"),
    "an enormous chunk": (
        "bad.zarr",
        lambda path: zarr_with(path, MULTISCALES, shape="[99999, 99999]", chunks="[99999, 99999]"),
        "chunks of",
    ),
    "slices by the billion": (
        "bad.zarr",
        lambda path: zarr_with(path, STACK, shape="[1000000000, 64, 64]", chunks="[1, 64, 64]"),
        "would be 1,000,000,000 images",
    ),
    "metadata without end": ("bad.zarr", lambda path: zarr_with(path, "[" * 100_000), "cannot be opened as zarr"),
    "metadata by the ton": ("bad.zarr", lambda path: zarr_with(path, " " * (2**24 + 1)), "MiB of metadata"),
    "a level elsewhere": (
        "bad.zarr", lambda path: zarr_with(path, MULTISCALES.replace('"0"', '"../../secret"')), "lies outside of it",
    ),
    "a plate": ("bad.zarr", lambda path: zarr_with(path, '{"plate": {"wells": [{"path": "B/3"}]}}'), "such as B/3/0"),
    "no volume": ("bad.nii.gz", lambda path: Path(path).write_bytes(b"\x1f\x8b\x08\x00" + bytes(60)), "cannot"),
    "a pickle": ("bad.npy", lambda path: np.save(path, np.array([{}], object), allow_pickle=True), "Python objects"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_image_is_told_and_the_good_one_is_labelled(folder: Path, what: str) -> None:
    import napari_fewshot.models.reproducible  # noqa: F401 - brings torch, which takes seconds

    name, make, words = BAD[what]
    make(name)
    begun = time.process_time()
    result = propagate("good.tif", name)
    assert time.process_time() - begun < 3
    one_sentence(result, 3, words)
    np.testing.assert_array_equal(tifffile.imread("out/good_labels.tif"), MASK)
    assert sorted(path.name for path in Path("out").iterdir() if not path.name.startswith(".")) == [
        "frames.csv", "good_labels.tif", "recipe.json",
    ]  # fmt: skip


def test_a_pyramid_in_a_tiff_is_one_image_at_its_full_size(folder: Path) -> None:
    large = np.kron(PICTURE, np.ones((8, 8), np.uint8))
    with tifffile.TiffWriter("pyramid.ome.tif") as file:
        file.write(large, subifds=2, tile=(64, 64))
        for step in (2, 4):
            file.write(large[::step, ::step], subfiletype=1, tile=(64, 64))
    assert propagate("pyramid.ome.tif").exit_code == 0
    (made,) = Path("out").glob("*.tif")
    np.testing.assert_array_equal(tifffile.imread(made), np.kron(MASK, np.ones((8, 8), np.uint8)))


def test_five_axes_out_of_order_spaces_and_letters_of_all_kinds(folder: Path) -> None:
    where = Path("my images", "Überblick 3 – 細胞")
    where.mkdir(parents=True)
    stack = np.broadcast_to(PICTURE.T[:, None, :, None, None], (SIDE, 2, SIDE, 4, 3))  # X T Y Q Z
    np.save(where / "a b.npy", stack)
    masks = np.zeros((2, 4, 3, SIDE, SIDE), np.uint8)
    masks[1, 2, 0] = MASK
    tifffile.imwrite(where / "mask of a b.tif", masks, photometric="minisblack", metadata={"axes": "TQZYX"})
    shot = ("--shot", str(where / "a b.npy"), str(where / "mask of a b.tif"))
    result = CliRunner().invoke(app, ["propagate", str(where / "a b.npy"), *shot, "--axes", "XTYQZ", "--out", "out 細"])
    assert result.exit_code == 0, result.output
    labels = tifffile.imread("out 細/a b_labels.tif")
    np.testing.assert_array_equal(labels, np.broadcast_to(MASK, masks.shape))


# ---------------------------------------------------------------------------- shots
@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((16, 16), np.uint8), "the mask mask.tif is 16 x 16 but its image good.tif is 32 x 32"),
        (np.ones((2, 32, 32), np.uint8), "is 2 x 32 x 32"),
        (np.full((32, 32), 300, np.uint16), "number classes from 1 to 254"),
        (np.full((32, 32), 0.5, np.float32), "no whole numbers"),
        (np.full((32, 32), -1, np.int16), "from -1 to -1"),
    ],
)
def test_a_bad_mask_stops_before_anything_is_written(folder: Path, mask: np.ndarray, words: str) -> None:
    tifffile.imwrite("mask.tif", mask, photometric="minisblack")
    one_sentence(propagate("good.tif"), 2, words.replace("mask.tif is", f"{folder / 'mask.tif'} is").split(" but ")[0])
    assert not Path("out").exists()


def test_a_damaged_mask_stops_before_anything_is_written(folder: Path) -> None:
    truncated("mask.tif")
    one_sentence(propagate("good.tif"), 2, "ends too early")
    assert not Path("out").exists()


# ---------------------------------------------------------------------------- where results go
def test_results_of_an_earlier_day_stay(folder: Path) -> None:
    one_sentence(propagate("good.tif", out="done"), 2, "holds results already")
    assert {path.name: path.read_bytes() for path in Path("done").iterdir()} == {
        "good_labels.tif": b"of an earlier day"
    }


def test_a_folder_that_is_read_only_is_refused_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "done" and allowed(path, mode))
    one_sentence(propagate("good.tif", out="done/new"), 2, "you may not write in")
    assert sorted(path.name for path in Path("done").iterdir()) == ["good_labels.tif"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc is a folder that nobody may write in")
def test_a_folder_that_nobody_may_write_in_is_told(folder: Path) -> None:
    one_sentence(propagate("good.tif", out="/proc/out"), 2, "choose another")


# ---------------------------------------------------------------------------- very many files
def test_a_folder_of_very_many_files_is_listed_at_once(folder: Path) -> None:
    from napari_fewshot.batch.recipe import Recipe, ShotFiles
    from napari_fewshot.batch.run import find_sources

    Path("many").mkdir()
    for number in range(5000):
        os.link("good.tif", f"many/{number}.tif")
    recipe = Recipe(("many",), (ShotFiles("good.tif", "mask.tif"),))
    begun = time.process_time()
    sources = find_sources(recipe)
    assert time.process_time() - begun < 2  # 0.1 s where nothing else runs
    assert [source.name for source in sources] == [str(number) for number in range(5000)]
