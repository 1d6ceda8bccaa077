"""Images and masks in every format, written by programs of others."""

import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st

from napari_fewshot.errors import FewShotError, MaskError, ReadError
from napari_fewshot.frames import Frame
from napari_fewshot.io.formats import write_labels
from napari_fewshot.io.images import _in_natural_order, find_images, open_images, read_images
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.io.masks import read_classes, read_labels, read_shots
from napari_fewshot.io.rasters import read_raster
from napari_fewshot.support import LabelClass


def noise(*shape: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def frames_of(*paths: Path | str, **options: Any) -> list[Frame]:
    return list(read_images(paths, **options))


def stacked(frames: list[Frame]) -> npt.NDArray[Any]:
    return np.stack([frame.read() for frame in frames])


# ---------------------------------------------------------------------------- TIFF
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_regions_of_a_tiff_are_those_of_the_whole(
    tmp_path: Path, compression: str | None, tile: tuple[int, int] | None
) -> None:
    image = noise(3, 100, 130)
    options = {"compression": compression, "tile": tile, "rowsperstrip": None if tile else 7}
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", **options)
    frames = frames_of(tmp_path / "a.tif")
    assert [frame.key for frame in frames] == [("a", 0), ("a", 1), ("a", 2)]
    np.testing.assert_array_equal(stacked(frames), image)
    pixels = frames[1].open()
    for region in [(slice(0, 100), slice(0, 130)), (slice(31, 33), slice(47, 97)), (slice(99, 100), slice(0, 1))]:
        np.testing.assert_array_equal(pixels[region], image[1][region])


@pytest.mark.parametrize(
    ("shape", "options", "keys"),
    [
        ((40, 30, 3), {"photometric": "rgb", "compression": "zlib"}, ["a"]),
        ((3, 40, 30), {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}, ["a"]),
        ((40, 30, 3), {"photometric": "rgb", "tile": (16, 16), "compression": "jpeg"}, ["a"]),
    ],
    ids=["contiguous", "separate", "jpeg tiles"],
)
def test_colours_of_a_tiff_come_last(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], keys: list[str]
) -> None:
    image = noise(*shape, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    (frame,) = frames_of(tmp_path / "a.tif")
    whole = tifffile.imread(tmp_path / "a.tif")
    expected = whole if whole.shape[-1] == 3 else np.moveaxis(whole, 0, -1)
    np.testing.assert_array_equal(frame.read(), expected)
    np.testing.assert_array_equal(frame.open()[5:20, 15:17], expected[5:20, 15:17])


def test_an_ome_tiff_keeps_axes_size_and_unit(tmp_path: Path) -> None:
    image = noise(2, 3, 2, 40, 30)
    meta = {"axes": "TZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeZ": 2}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata=meta, compression="zlib")
    frames = frames_of(tmp_path / "a.ome.tif")
    assert [frame.key for frame in frames] == [("a", t, z) for t in range(2) for z in range(3)]
    assert frames[0].spacing == (0.5, 0.25) and frames[0].size == (40, 30)
    np.testing.assert_array_equal(frames[4].read(), np.moveaxis(image[1, 1], 0, -1))
    (opened,) = open_images(tmp_path / "a.ome.tif")
    assert opened.step("Z") == (2.0, "µm")


def test_a_hyperstack_of_imagej_is_read_with_its_scale(tmp_path: Path) -> None:
    image = noise(4, 40, 30)
    meta = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(4, 2), metadata=meta)
    (opened,) = open_images(tmp_path / "a.tif")
    assert [opened.step(axis) for axis in "ZYX"] == [(2.0, "µm"), (0.5, "µm"), (0.25, "µm")]
    np.testing.assert_array_equal(stacked(list(opened.frames("a"))), image)


def test_pages_of_several_sizes_are_several_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(40, 30))
        file.write(noise(20, 60))
    assert [(frame.key, frame.size) for frame in frames_of(tmp_path / "a.tif")] == [
        ("a 1", (40, 30)),
        ("a 2", (20, 60)),
    ]


def test_a_big_tiff_is_read_by_regions_alone(tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    tifffile.memmap(path, shape=(40_000, 30_000), dtype="uint16", bigtiff=True)[20_000, 15_000:15_004] = 7  # sparse
    (frame,) = frames_of(path)
    assert frame.open()[20_000:20_001, 14_999:15_005].tolist() == [[0, 7, 7, 7, 7, 0]]


def test_a_truncated_tiff_is_an_error_and_never_fewer_or_empty_pixels(tmp_path: Path) -> None:
    for number, options in enumerate([{}, {"compression": "zlib"}, {"compression": "zlib", "tile": (32, 32)}]):
        path = tmp_path / f"{number}.tif"
        with tifffile.TiffWriter(path) as file:
            for plane in noise(5, 64, 64):
                file.write(plane, contiguous=False, **options)
        whole = path.read_bytes()
        for share in (0.01, 0.3, 0.6, 0.95):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(ReadError, match="cannot be read as an image"):
                stacked(frames_of(path))


# ---------------------------------------------------------------------------- NIfTI
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_slices_are_those_along_z_and_the_affine_is_kept(tmp_path: Path, suffix: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    data = noise(30, 40, 5)
    affine = np.diag([0.5, 0.7, 3.0, 1.0])
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / f"brain{suffix}")
    frames = frames_of(tmp_path / f"brain{suffix}")
    assert [frame.key for frame in frames] == [("brain", z) for z in range(5)]
    np.testing.assert_array_equal(stacked(frames), data.transpose(2, 1, 0))
    assert frames[0].spacing == pytest.approx((0.7, 0.5))
    (opened,) = open_images(tmp_path / f"brain{suffix}")
    np.testing.assert_allclose(opened.affine, affine)
    assert opened.step("Z") == (3.0, "mm")


def test_nifti_without_an_affine_is_read_and_its_labels_have_none_either(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(noise(30, 40, 5), None)
    image.header.set_zooms((0.5, 0.7, 3.0))
    nibabel.save(image, tmp_path / "plain.nii")
    assert int(nibabel.load(tmp_path / "plain.nii").header["sform_code"]) == 0
    frames = frames_of(tmp_path / "plain.nii")
    assert len(frames) == 5 and frames[0].spacing == pytest.approx((0.7, 0.5))
    stack = LabelStack(np.ones((5, 40, 30), int), source=tmp_path / "plain.nii")
    back = nibabel.load(write_labels(tmp_path / "labels.nii", stack)[0])
    assert int(back.header["sform_code"]) == int(back.header["qform_code"]) == 0
    assert back.header.get_zooms() == pytest.approx((0.5, 0.7, 3.0))


# ---------------------------------------------------------------------------- DICOM
def make_slice(path: Path, pixels: npt.NDArray[Any], z: float, number: int, series: str = "1.2.3") -> None:
    pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    data.SeriesInstanceUID, data.InstanceNumber = series, number
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelSpacing, data.SliceThickness = [0.7, 0.5], 9
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [10, 20, z]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = pixels.astype(np.uint16).tobytes()
    data.save_as(path, enforce_file_format=True)


def test_a_dicom_series_is_sorted_by_where_its_slices_lie(tmp_path: Path) -> None:
    data = noise(4, 40, 30)
    for i, (z, name) in enumerate([(6.0, "a"), (0.0, "b"), (4.0, "c"), (2.0, "d")]):
        make_slice(tmp_path / f"{name}.dcm", data[int(z / 2)], z, number=i)  # neither name nor number in order
    frames = frames_of(tmp_path)
    assert [frame.key for frame in frames] == [(tmp_path.name, z) for z in range(4)]
    np.testing.assert_array_equal(stacked(frames), data.astype(float) - 1024)
    (opened,) = open_images(tmp_path)
    assert [opened.step(axis) for axis in "ZYX"] == [(2.0, "mm"), (0.7, "mm"), (0.5, "mm")]
    np.testing.assert_allclose(opened.affine, [[-0.5, 0, 0, -10], [0, -0.7, 0, -20], [0, 0, 2, 0], [0, 0, 0, 1]])


def test_dicom_slices_of_two_sizes_in_one_series_are_refused(tmp_path: Path) -> None:
    make_slice(tmp_path / "a.dcm", noise(40, 30), 0, 0)
    make_slice(tmp_path / "b.dcm", noise(40, 31), 1, 1)
    with pytest.raises(ReadError, match="keep each series in a folder of its own"):
        frames_of(tmp_path)


# ---------------------------------------------------------------------------- OME-Zarr
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_is_read_lazily_with_its_scale(tmp_path: Path, version: str) -> None:
    from tests.test_io_formats import make_image

    data = make_image(tmp_path / "an image µ.ome.zarr", version)
    frames = frames_of(tmp_path / "an image µ.ome.zarr")
    assert [frame.key for frame in frames] == [("an image µ", z) for z in range(3)]
    assert frames[0].spacing == (0.5, 0.25) and frames[0].size == (130, 96)
    np.testing.assert_array_equal(frames[2].read(), np.moveaxis(data[:, 2], 0, -1))


def test_a_remote_ome_zarr_is_read_through_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    from tests.test_io_formats import make_image

    data = make_image(tmp_path / "a.zarr", "0.5")
    memory = fsspec.filesystem("memory")
    for file in (tmp_path / "a.zarr").rglob("*"):
        if file.is_file():
            memory.pipe(f"/bucket/a.zarr/{file.relative_to(tmp_path / 'a.zarr').as_posix()}", file.read_bytes())
    frames = frames_of("memory://bucket/a.zarr")
    assert frames[0].key == ("a", 0)
    np.testing.assert_array_equal(frames[1].read(), np.moveaxis(data[:, 1], 0, -1))
    with pytest.raises(ReadError, match="cannot be opened as zarr"):
        frames_of("memory://bucket/none.zarr")


def make_zarr(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], axes: str, inner: str = "0") -> Any:
    """An image that only metadata tells of; not one chunk is on the disk."""
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(zarr.storage.LocalStore(path), zarr_format=2)
    scales = {"version": "0.4", "axes": [{"name": axis} for axis in axes], "datasets": [{"path": inner}]}
    group.attrs["multiscales"] = [scales]
    return group.create_array("0", shape=shape, chunks=chunks, dtype="uint8")


def test_five_axes_in_any_order_give_the_right_planes(tmp_path: Path) -> None:
    array = make_zarr(tmp_path / "a.zarr", (30, 2, 40, 3, 5), (30, 1, 40, 1, 1), "xcytz")
    data = noise(30, 2, 40, 3, 5, dtype="uint8")
    array[:] = data
    frames = frames_of(tmp_path / "a.zarr")
    assert [frame.key for frame in frames] == [("a", t, z) for t in range(3) for z in range(5)]
    np.testing.assert_array_equal(frames[7].read(), data[:, :, :, 1, 2].transpose(2, 0, 1))
    np.testing.assert_array_equal(frames[7].open()[3:9, 20:22], data[:, :, :, 1, 2].transpose(2, 0, 1)[3:9, 20:22])


def test_an_enormous_zarr_of_small_chunks_is_fine_and_one_of_enormous_chunks_is_refused(tmp_path: Path) -> None:
    make_zarr(tmp_path / "sparse.zarr", (10, 200_000, 200_000), (1, 512, 512), "zyx")
    assert frames_of(tmp_path / "sparse.zarr")[3].open()[150_000:150_002, 0:2].tolist() == [[0, 0], [0, 0]]
    make_zarr(tmp_path / "bomb.zarr", (200_000, 200_000), (200_000, 200_000), "yx")
    with pytest.raises(ReadError, match=r"chunks of 37\.3 GiB"):
        frames_of(tmp_path / "bomb.zarr")
    make_zarr(tmp_path / "many.zarr", (10**9, 64, 64), (1, 64, 64), "zyx")
    with pytest.raises(ReadError, match="would be 1,000,000,000 images"):
        frames_of(tmp_path / "many.zarr")
    make_zarr(tmp_path / "wordy.zarr", (64, 64), (64, 64), "yx")
    (tmp_path / "wordy.zarr/.zattrs").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ReadError, match="MiB of metadata"):
        frames_of(tmp_path / "wordy.zarr")


@pytest.mark.parametrize("inner", ["../secret", "/etc", "..", "0/../../secret", "C:\\secret"])
def test_a_zarr_cannot_lead_out_of_its_folder(tmp_path: Path, inner: str) -> None:
    make_zarr(tmp_path / "secret", (64, 64), (64, 64), "yx")
    make_zarr(tmp_path / "a.zarr", (64, 64), (64, 64), "yx", inner)
    with pytest.raises(ReadError, match="lies outside of it"):
        frames_of(tmp_path / "a.zarr")


def test_a_zarr_cannot_lead_out_of_its_folder_by_a_link(tmp_path: Path) -> None:
    make_zarr(tmp_path / "secret", (64, 64), (64, 64), "yx")
    make_zarr(tmp_path / "a.zarr", (64, 64), (64, 64), "yx", "link")
    (tmp_path / "a.zarr/link").symlink_to(tmp_path / "secret/0")
    with pytest.raises(ReadError, match="a link to outside of it"):
        frames_of(tmp_path / "a.zarr")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.zarr/labels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FewShotError):
        write_labels(tmp_path / "a.zarr", LabelStack(np.ones((64, 64), int)))
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---------------------------------------------------------------------------- pictures, arrays, folders
def test_a_folder_is_read_in_the_natural_order_of_its_names(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        PIL.Image.fromarray(noise(20, 24, 3, dtype="uint8") // number).save(tmp_path / f"tile {number}.png")
    PIL.Image.fromarray(noise(20, 24, dtype="uint8")).save(tmp_path / "Übersicht.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    np.save(tmp_path / "volume.npy", noise(3, 20, 24))
    frames = frames_of(tmp_path)
    assert [frame.name for frame in frames] == [
        "tile 1", "tile 2", "tile 10", "volume [0]", "volume [1]", "volume [2]", "Übersicht",
    ]  # fmt: skip
    assert frames[0].read().shape == (20, 24, 3) and frames[-1].read().shape == (20, 24)
    assert [frame.name for frame in frames_of(str(tmp_path / "tile 1*.png"))] == ["tile 1", "tile 10"]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(noise(20, 24, dtype="uint8")).save(tmp_path / folder / "x.png")
    assert [frame.key for frame in frames_of(tmp_path / "a", tmp_path / "b")] == ["a/x.png", "b/x.png"]
    assert len(frames_of(tmp_path / "a", tmp_path / "a" / "x.png")) == 1


@given(st.lists(st.text("aAbBß09\u0661-_ ²", min_size=1, max_size=9), min_size=2, max_size=9, unique=True))
@example(["a10", "a2", "a02", "a", "ab", "a1b", "a12", "A2", "a1"])
def test_numbers_in_names_count_as_numbers(names: list[str]) -> None:
    def slowly(name: str) -> tuple[list[str | int], str]:
        parts = re.split(r"(\d+)", name.casefold())
        return [int(part) if part.isdecimal() else part for part in parts], name

    assert [path.name for path in _in_natural_order(map(Path, names))] == sorted(names, key=slowly)


def test_what_is_named_twice_is_listed_once_and_what_cannot_be_looked_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    for name in ("b2.png", "b10.png", "locked/c.png"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    every = [tmp_path, "b10.png", str(tmp_path / "b2.png"), tmp_path / "b*.png", "https://a.org/b", "https://A.org/b"]
    assert find_images([*every, *every]) == [
        tmp_path / "b2.png", tmp_path / "b10.png", Path("b10.png"), "https://a.org/b", "https://A.org/b",
    ]  # fmt: skip
    with pytest.raises(ReadError, match="is not there"):
        find_images([tmp_path / "b2.png" / "c.png"])
    with pytest.raises(ReadError, match="is not there"):
        find_images(["a\0b"])
    look = os.stat

    def locked(path: Any, *rest: Any, **named: Any) -> os.stat_result:
        if str(path).endswith("c.png"):
            raise PermissionError(13, "Permission denied")
        return look(path, *rest, **named)

    monkeypatch.setattr(os, "stat", locked)  # whoever runs the tests may be allowed everything
    with pytest.raises(ReadError, match=r"c.png cannot be looked at \(Permission denied\); check its permissions"):
        find_images([tmp_path / "locked" / "c.png"])


def test_a_folder_of_very_many_files_is_listed_without_opening_one(tmp_path: Path) -> None:
    for number in range(5_000):
        (tmp_path / f"{number}.png").touch()
    frames = read_images([tmp_path])
    assert [next(frames).key for _ in range(3)] == ["0", "1", "2"]
    assert len(find_images([tmp_path])) == 5_000


def test_numpy_files_are_mapped_and_axes_can_be_named(tmp_path: Path) -> None:
    data = noise(2, 40, 30)
    np.save(tmp_path / "a.npy", data)
    np.savez_compressed(tmp_path / "b.npz", data)
    np.testing.assert_array_equal(stacked(frames_of(tmp_path / "a.npy")), data)
    np.testing.assert_array_equal(stacked(frames_of(tmp_path / "b.npz")), data)
    (frame,) = frames_of(tmp_path / "a.npy", axes="CYX")
    np.testing.assert_array_equal(frame.read(), np.moveaxis(data, 0, -1))
    with pytest.raises(ReadError, match="axes 'YX' do not describe"):
        frames_of(tmp_path / "a.npy", axes="YX")


class Trap:
    """Would write a file on being unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("open('trapped', 'w').close()",))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", np.array(Trap(), object), allow_pickle=True)
    with pytest.raises(ReadError, match="holds Python objects"):
        frames_of(tmp_path / "a.npy")
    np.save(tmp_path / "a_seg.npy", np.array({"masks": Trap()}, object), allow_pickle=True)
    with pytest.raises(ReadError, match="holds no masks; save them as PNG or TIFF in Cellpose"):
        read_labels(tmp_path / "a_seg.npy")
    (tmp_path / "b_seg.npy").write_bytes(pickle.dumps({"masks": 1}))
    with pytest.raises(ReadError, match=r"cannot be read safely .* \(File > Save masks\)"):
        read_labels(tmp_path / "b_seg.npy")
    assert not (tmp_path / "trapped").exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / "trapped").exists()  # so the trap is a real one


def test_an_npz_that_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.io.numpy_files._MOST_BYTES", 1000)
    np.savez_compressed(tmp_path / "a.npz", np.zeros((400, 400)))
    assert (tmp_path / "a.npz").stat().st_size < 3000
    with pytest.raises(ReadError, match="unpacks to"):
        frames_of(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("../../evil.txt", "x")
    with pytest.raises(ReadError, match="holds 0 arrays"):
        frames_of(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "name", ["a.tif", "a.png", "a.nii", "a.nii.gz", "a.npy", "a.npz", "a.dcm", "a.zarr", "a_seg.npy"]
)
@pytest.mark.parametrize("content", [b"", b"hello, this is no image at all" * 20])
def test_what_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError):
        [frame.read() for frame in frames_of(tmp_path / name)]
    with pytest.raises(ReadError):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".nii.gz", ".npy", ".jpg"])
def test_a_file_with_any_bytes_changed_is_read_or_refused_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    good = tmp_path / f"good{suffix}"
    image = noise(40, 32, dtype="uint8")
    if suffix == ".tif":
        tifffile.imwrite(good, image, compression="zlib", rowsperstrip=8)
    elif suffix == ".nii.gz":
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), good)
    elif suffix == ".npy":
        np.save(good, image)
    else:
        PIL.Image.fromarray(image).save(good)
    whole = good.read_bytes()
    generator = np.random.default_rng(1)
    for number in range(50):
        content = bytearray(whole)
        for place in generator.integers(0, len(content), 4):
            content[place] = generator.integers(0, 256)
        (bad := tmp_path / f"bad{number}{suffix}").write_bytes(bytes(content))
        try:
            for frame in frames_of(bad):
                frame.read()
            if suffix in (".tif", ".png", ".jpg"):
                read_raster(bad)
        except FewShotError:  # whatever else is raised fails the test
            continue


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"none\.tif is not there"):
        frames_of(tmp_path / "none.tif")
    with pytest.raises(ReadError, match="there is no image at"):
        frames_of(str(tmp_path / "*.tif"))
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(ReadError, match="of a kind that is not known"):
        frames_of(tmp_path / "a.docx")


# ---------------------------------------------------------------------------- masks as shots
def picture_with_mask(folder: Path) -> tuple[Path, npt.NDArray[np.int32]]:
    PIL.Image.fromarray(noise(40, 56, dtype="uint8")).save(folder / "image.png")
    labels = np.zeros((40, 56), np.int32)
    labels[4:12, 5:20], labels[20:36, 30:50] = 1, 3
    return folder / "image.png", labels


@pytest.mark.parametrize("name", ["m.tif", "m.nii.gz", "m.png", "m.json", "m.zarr", "m.npy"])
def test_a_mask_of_any_format_is_a_shot(tmp_path: Path, name: str) -> None:
    image, labels = picture_with_mask(tmp_path)
    classes = (LabelClass(1, "cell", "#ff0000"), LabelClass(3, "nucleus", "#00ff00"))
    if name == "m.npy":
        np.save(tmp_path / name, labels)
    else:
        stack = LabelStack(labels, "image", classes=classes, source=image)
        write_labels(tmp_path / name, [stack] if name == "m.json" else stack)
    (shot,) = read_shots(image, tmp_path / name)
    np.testing.assert_array_equal(shot.labels, labels)
    assert shot.key == "image" and shot.frame.read().shape == (40, 56)
    if name in ("m.json", "m.zarr"):
        assert [(each.id, each.name) for each in read_classes(tmp_path / name)] == [(1, "cell"), (3, "nucleus")]


def test_masks_of_cellpose_are_read_without_unpickling(tmp_path: Path) -> None:
    image, labels = picture_with_mask(tmp_path)
    content = {
        "outlines": labels.astype(np.uint16), "masks": (labels * 1000).astype(np.uint32), "filename": "image.png",
        "flows": [noise(2, 3), None, np.float32(3.5), [np.ones(2)]], "est_diam": np.float64(30.0),
        "ismanual": np.zeros(3, bool),
        "chan_choose": [0, 0], "colors": noise(2, 3).astype(np.uint8),
    }  # fmt: skip
    for protocol in (2, 3, 4, 5):
        with open(tmp_path / "image_seg.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(np.array(content, object), file, protocol=protocol)
        np.testing.assert_array_equal(read_labels(tmp_path / "image_seg.npy"), labels * 1000)
        (shot,) = read_shots(image, tmp_path / "image_seg.npy")
        np.testing.assert_array_equal(shot.labels, labels > 0)


def test_slices_of_a_stack_without_labels_are_passed_over(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", noise(4, 40, 56), photometric="minisblack")
    labels = np.zeros((4, 40, 56), np.uint8)
    labels[1, 5:9, 5:9] = 2
    tifffile.imwrite(tmp_path / "mask.tif", labels, photometric="minisblack")
    (shot,) = read_shots(tmp_path / "image.tif", tmp_path / "mask.tif")
    assert shot.key == ("image", 1) and shot.class_ids == (2,)


def test_masks_that_do_not_fit_are_refused_with_both_sizes(tmp_path: Path) -> None:
    image, labels = picture_with_mask(tmp_path)
    for wrong in (labels[1:], labels.T, np.stack([labels, labels])):
        tifffile.imwrite(tmp_path / "m.tif", wrong.astype(np.uint8))
        with pytest.raises(MaskError, match=r"but its image .* is 40 x 56"):
            list(read_shots(image, tmp_path / "m.tif"))
    np.save(tmp_path / "m.npy", labels * 300)
    with pytest.raises(MaskError, match="holds values from 0 to 900; if they number objects"):
        list(read_shots(image, tmp_path / "m.npy"))
    (shot,) = read_shots(image, tmp_path / "m.npy", objects=True)
    assert shot.class_ids == (1,)
    np.save(tmp_path / "m.npy", labels * 0.5)
    with pytest.raises(ReadError, match="no whole numbers"):
        list(read_shots(image, tmp_path / "m.npy"))
    PIL.Image.fromarray(noise(40, 56, 3, dtype="uint8")).save(tmp_path / "m.png")
    with pytest.raises(ReadError, match="picture in colours"):
        list(read_shots(image, tmp_path / "m.png"))


def coco_of(height: int, width: int, *counts: int) -> str:
    mask = {"counts": counts, "size": [height, width]}
    image = {"id": 1, "file_name": "image.png", "height": height, "width": width}
    return json.dumps({"images": [image], "annotations": [{"image_id": 1, "category_id": 1, "segmentation": mask}]})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1, 2", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "is no file of COCO instances"),
        ('{"images": [{"id": 1}]}', "is no file of COCO instances"),
        (coco_of(10**6, 10**6, 1), "1000000 x 1000000 pixels"),
        (coco_of(40, 56, 10**15), "does not fit its image"),
    ],
    ids=["truncated", "nested", "list", "without sizes", "enormous", "enormous run"],
)
def test_bad_coco_files_are_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ReadError, match=told):
        read_labels(tmp_path / "m.json", image="image.png")


# ---------------------------------------------------------------------------- npe2
def test_napari_opens_what_it_does_not_know_by_itself(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    from napari_fewshot.io.layers import get_reader
    from tests.test_io_formats import make_image

    data = noise(30, 40, 5)
    image = nibabel.Nifti1Image(data, np.diag([0.5, 0.75, 3, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "brain.nii.gz")
    pixels = make_image(tmp_path / "a.zarr", "0.4")
    labels = np.ones((3, 130, 96), np.uint8)
    write_labels(tmp_path / "a.zarr", LabelStack(labels))
    ((array, attributes, kind),) = get_reader(str(tmp_path / "brain.nii.gz"))(str(tmp_path / "brain.nii.gz"))
    np.testing.assert_array_equal(np.asarray(array), data.transpose(2, 1, 0))
    assert (attributes["scale"], attributes["units"], kind) == ([3.0, 0.75, 0.5], "µm", "image")
    opened = get_reader(str(tmp_path / "a.zarr"))(str(tmp_path / "a.zarr"))
    assert [(kind, attributes["name"]) for _, attributes, kind in opened] == [("image", "a"), ("labels", "a labels")]
    np.testing.assert_array_equal(np.asarray(opened[0][0]), np.moveaxis(pixels, 0, -1))
    assert opened[0][1]["channel_axis"] == 3
    np.testing.assert_array_equal(opened[1][0], labels)
    assert get_reader(str(tmp_path)) is None and get_reader("a.tif") is None
