"""Label files, read back with tifffile alone."""

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_fewshot.errors import ExportError
from napari_fewshot.io.labels import write_labels_tiff
from napari_fewshot.io.layers import write_layer, write_layers
from napari_fewshot.io.names import default_name, default_names


def labels_of(shape: tuple[int, ...], top: int = 3, dtype: str = "int64") -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, top + 1, shape).astype(dtype)
    labels.flat[-1] = top
    return labels


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(".partial"))


def micrometres(path: Path) -> dict[str, float]:
    """Read the voxel size as an ImageJ reader does: resolution tags, unit and spacing of the description."""
    with tifffile.TiffFile(path) as file:
        meta = file.imagej_metadata
        assert meta is not None
        assert meta["unit"] == "micron"
        tags = file.pages.first.tags
        size = {axis: tags[f"{axis}Resolution"].value for axis in "XY"}
        assert tags["ResolutionUnit"].value == 1  # none: the unit is in the description
    found = {axis: denominator / numerator for axis, (numerator, denominator) in size.items()}
    return found | ({"Z": meta["spacing"]} if "spacing" in meta else {})


@pytest.mark.parametrize(
    ("shape", "axes"), [((20, 31), "YX"), ((4, 20, 31), "ZYX"), ((2, 4, 20, 31), "TZYX"), ((2, 4, 3, 20, 31), "TZCYX")]
)
@pytest.mark.parametrize(("top", "dtype"), [(1, "uint8"), (255, "uint8"), (256, "uint16"), (65535, "uint16")])
def test_labels_come_back_as_they_were_in_the_smallest_type(
    tmp_path: Path, shape: tuple[int, ...], axes: str, top: int, dtype: str
) -> None:
    labels = labels_of(shape, top)
    path = write_labels_tiff(tmp_path / "a.tif", labels)
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert (series.kind, series.axes, series.shape, str(series.dtype)) == ("imagej", axes, shape, dtype)
        assert file.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
        np.testing.assert_array_equal(series.asarray(), labels)
    assert leftovers(tmp_path) == []


def test_a_mask_of_three_columns_is_not_taken_for_colours(tmp_path: Path) -> None:
    labels = labels_of((5, 20, 3))
    np.testing.assert_array_equal(tifffile.imread(write_labels_tiff(tmp_path / "a.tif", labels)), labels)
    labels = labels_of((5, 20, 3), 70000)
    np.testing.assert_array_equal(tifffile.imread(write_labels_tiff(tmp_path / "b.tif", labels)), labels)


@pytest.mark.parametrize("unit", ["µm", "um", "micrometer", "micron", ("micrometer", "um", "µm")])
def test_voxel_size_and_unit_are_where_imagej_looks_for_them(tmp_path: Path, unit: Any) -> None:
    path = write_labels_tiff(tmp_path / "a.tif", labels_of((4, 20, 31)), spacing=(2.0, 0.325, 0.65), unit=unit)
    assert micrometres(path) == pytest.approx({"Z": 2.0, "Y": 0.325, "X": 0.65}, rel=1e-6)


def test_spacings_in_several_units_are_converted_to_that_of_x(tmp_path: Path) -> None:
    path = write_labels_tiff(
        tmp_path / "a.tif", labels_of((4, 20, 31)), spacing=(0.002, 500, 0.5), unit=("mm", "nm", "um")
    )
    assert micrometres(path) == pytest.approx({"Z": 2.0, "Y": 0.5, "X": 0.5}, rel=1e-6)


def test_time_steps_are_kept_in_seconds(tmp_path: Path) -> None:
    labels = labels_of((3, 4, 20, 31))
    path = write_labels_tiff(tmp_path / "a.tif", labels, spacing=(2, 1, 0.5, 0.5), unit=("minute", "um", "um", "um"))
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata is not None
        assert file.imagej_metadata["finterval"] == 120
        assert (file.imagej_metadata["frames"], file.imagej_metadata["slices"]) == (3, 4)


def test_imagej_shows_small_ids_from_black_to_white(tmp_path: Path) -> None:
    path = write_labels_tiff(tmp_path / "a.tif", labels_of((20, 31), 2))
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata is not None
        assert (file.imagej_metadata["min"], file.imagej_metadata["max"]) == (0, 2)


def test_without_spacing_no_scale_is_made_up(tmp_path: Path) -> None:
    for number, kwargs in enumerate([{}, {"spacing": (1, 1, 1)}, {"spacing": (1, 1, 1), "unit": "pixel"}]):
        path = write_labels_tiff(tmp_path / f"{number}.tif", labels_of((4, 20, 31)), **kwargs)
        with tifffile.TiffFile(path) as file:
            assert file.imagej_metadata is not None
            assert not {"unit", "spacing"} & file.imagej_metadata.keys()


@pytest.mark.parametrize(
    ("shape", "top", "axes", "expected_axes"),
    [
        ((4, 20, 31), 70_000, None, "ZYX"),
        ((4, 3, 20, 31), 3, "CZYX", "CZYX"),
        ((2, 2, 2, 2, 20, 31), 3, None, "TQZCYX"),
        ((2, 2, 2, 2, 2, 2, 20, 31), 3, None, "TQZPCAYX"),
    ],
    ids=["large ids", "axis order", "six axes", "eight axes"],
)
def test_what_imagej_cannot_hold_becomes_ome(
    tmp_path: Path, shape: tuple[int, ...], top: int, axes: str | None, expected_axes: str
) -> None:
    labels = labels_of(shape, top)
    spacing = (*[2.0] * (len(shape) - 2), 0.5, 0.25)
    path = write_labels_tiff(tmp_path / "a.tif", labels, spacing=spacing, unit="um", axes=axes)
    with tifffile.TiffFile(path) as file:
        assert (file.series[0].kind, file.series[0].axes) == ("ome", expected_axes)
        assert file.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        np.testing.assert_array_equal(file.series[0].asarray(), labels)
        pixels = tifffile.xml2dict(file.ome_metadata or "")["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"], pixels["PhysicalSizeZ"]) == (0.25, 0.5, 2.0)
        assert pixels["PhysicalSizeXUnit"] == pixels["PhysicalSizeZUnit"] == "µm"
        assert file.pages.first.get_resolution("MICROMETER") == pytest.approx((4, 2))


def test_a_name_that_asks_for_ome_gets_ome(tmp_path: Path) -> None:
    with tifffile.TiffFile(write_labels_tiff(tmp_path / "a.ome.tif", labels_of((20, 31)))) as file:
        assert file.series[0].kind == "ome"


def test_what_is_too_big_for_a_classic_tiff_is_a_big_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.io.labels._CLASSIC_TIFF_BYTES", 10_000)  # the real limit is 4 GB
    labels = labels_of((20, 30, 31))
    with tifffile.TiffFile(write_labels_tiff(tmp_path / "a.tif", labels)) as file:
        assert file.is_bigtiff
        assert file.is_ome
        np.testing.assert_array_equal(file.asarray(), labels)


def test_a_lazy_stack_is_read_in_slabs(tmp_path: Path) -> None:
    largest = 0

    class Lazy:
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, index: slice) -> np.ndarray:
            nonlocal largest
            largest = max(largest, self.array[index].nbytes)
            return self.array[index]

    stack = np.zeros((40, 1024, 1024), np.int32)
    stack[:, 100:200] = np.arange(40)[:, None, None]
    np.testing.assert_array_equal(tifffile.imread(write_labels_tiff(tmp_path / "a.tif", Lazy(stack))), stack)
    assert largest <= 2**26 < stack.nbytes


def test_a_dask_array_is_written(tmp_path: Path) -> None:
    da = pytest.importorskip("dask.array")
    labels = labels_of((5, 20, 31), 300)
    path = write_labels_tiff(tmp_path / "a.tif", da.from_array(labels, chunks=(2, 10, 31)))
    np.testing.assert_array_equal(tifffile.imread(path), labels)


def test_inputs_are_not_changed_and_views_are_written_as_seen(tmp_path: Path) -> None:
    labels = labels_of((4, 20, 31))
    before = labels.copy()
    path = write_labels_tiff(tmp_path / "a.tif", labels[::-1, ::2, ::-1])
    np.testing.assert_array_equal(tifffile.imread(path), before[::-1, ::2, ::-1])
    np.testing.assert_array_equal(labels, before)


def test_bool_masks_become_zero_and_one(tmp_path: Path) -> None:
    mask = np.eye(20, dtype=bool)
    back = tifffile.imread(write_labels_tiff(tmp_path / "a.tif", mask))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, mask.astype(np.uint8))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(9, int), "give a label map"),
        (np.zeros((4, 4)), "whole numbers"),
        (np.zeros((4, 4), complex), "whole numbers"),
        (np.full((4, 4), "a", object), "whole numbers"),
        (np.zeros((0, 4), int), "empty"),
        (np.full((4, 4), -1), "below 0"),
        (np.full((4, 4), 2**33), "relabel"),
        (np.zeros((1,) * 9, int), "9 dimensions"),
    ],
    ids=["1-D", "float", "complex", "object", "empty", "negative", "huge ids", "9-D"],
)
def test_what_is_not_a_label_map_gets_a_clear_message_and_no_file(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        write_labels_tiff(tmp_path / "a.tif", labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spacing": (1, 1)}, "one for each"),
        ({"spacing": (1, 0, 1)}, "above 0"),
        ({"spacing": (1, float("nan"), 1)}, "above 0"),
        ({"axes": "YX"}, "do not fit"),
        ({"axes": "YXZ"}, "end in YX"),
        ({"axes": "WYX"}, "end in YX"),
    ],
)
def test_spacing_and_axes_that_do_not_fit_are_refused(tmp_path: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        write_labels_tiff(tmp_path / "a.tif", labels_of((4, 20, 31)), **kwargs)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- nothing is ever lost
def test_an_existing_file_is_kept_unless_overwriting_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"precious")
    with pytest.raises(ExportError, match="exists already; choose another name"):
        write_labels_tiff(path, labels_of((20, 31)))
    assert path.read_bytes() == b"precious"
    write_labels_tiff(path, labels_of((20, 31)), overwrite=True)
    assert tifffile.imread(path).shape == (20, 31)


def test_a_write_protected_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"precious")
    path.chmod(0o444)
    with pytest.raises(ExportError, match="write-protected"):
        write_labels_tiff(path, labels_of((20, 31)), overwrite=True)
    assert path.read_bytes() == b"precious"


def test_overwriting_keeps_the_permissions_and_follows_a_link(tmp_path: Path) -> None:
    path = tmp_path / "real" / "a.tif"
    write_labels_tiff(path, labels_of((20, 31)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    path.chmod(0o664)
    link = tmp_path / "link.tif"
    link.symlink_to(path)
    write_labels_tiff(link, labels_of((10, 10)), overwrite=True)
    assert link.is_symlink()
    assert tifffile.imread(path).shape == (10, 10)
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert write_labels_tiff(tmp_path / "new" / "folder" / "a.tif", labels_of((20, 31))).exists()


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ExportError, match="is not a folder"):
        write_labels_tiff(tmp_path / "file" / "a.tif", labels_of((20, 31)))
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        write_labels_tiff(tmp_path / "b.tif", labels_of((20, 31)), overwrite=True)


def test_a_name_too_long_for_the_file_system_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="too long"):
        write_labels_tiff(tmp_path / ("a" * 300), labels_of((20, 31)))


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    write_labels_tiff(path, labels_of((20, 31)))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(ExportError, match="full; free some space or choose another folder"):
                write_labels_tiff(path, labels_of((50, 100, 100)), overwrite=True)
        assert path.read_bytes() == before
        assert leftovers(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
def test_a_write_that_the_system_refuses_midway_leaves_the_old_file(tmp_path: Path) -> None:
    """The system itself cuts the write short after 20 kB, as a quota does."""
    write_labels_tiff(tmp_path / "a.tif", labels_of((20, 31)))
    before = (tmp_path / "a.tif").read_bytes()
    code = """
        import resource, signal, sys
        import numpy as np
        from napari_fewshot.errors import ExportError
        from napari_fewshot.io.labels import write_labels_tiff
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            write_labels_tiff(sys.argv[1], np.random.default_rng(0).integers(0, 255, (50, 200, 200)), overwrite=True)
        except ExportError as error:
            print(error)
    """
    done = _python(code, str(tmp_path / "a.tif"))
    assert "'a.tif' was not written" in done.stdout
    assert (tmp_path / "a.tif").read_bytes() == before
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc is a folder that nobody may write in")
def test_a_folder_that_cannot_be_written_in_is_reported() -> None:
    with pytest.raises(ExportError, match=r"was not written: .*choose another"):
        write_labels_tiff("/proc/a.tif", labels_of((20, 31)))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_no_permission_is_told_from_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ExportError, match=r"may not write|read-only"):
        write_labels_tiff(tmp_path / "a.tif", labels_of((20, 31)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on Unix")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "a.tif"
    write_labels_tiff(path, labels_of((20, 31)))
    before = path.read_bytes()
    code = """
        import sys, time
        import numpy as np
        from napari_fewshot.io.labels import write_labels_tiff

        class Slow:
            shape, dtype, reads = (800, 512, 512), np.dtype("uint16"), 0

            def __getitem__(self, index):
                self.reads += 1
                if self.reads > 7:  # seven slabs to find the largest id, then those to write
                    time.sleep(0.5)
                return np.broadcast_to(np.uint16(1), (len(range(*index.indices(800))), 512, 512))

        write_labels_tiff(sys.argv[1], Slow(), overwrite=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size for p in tmp_path.glob(".*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.poll() is None, "it was finished before it could be killed"
    child.send_signal(how)
    assert child.wait(30) != 0
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*.tif")] == ["a.tif"]  # what is left has a name nobody takes for labels
    if how == signal.SIGINT:
        assert leftovers(tmp_path) == []


def _python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


# ---------------------------------------------------------------------------- napari layers
def test_a_layer_keeps_scale_units_and_axes_of_napari(tmp_path: Path) -> None:
    pint = pytest.importorskip("pint")
    labels = labels_of((4, 20, 31))
    attributes = {
        "name": "cells",
        "scale": np.array([2.0, -0.5, 0.25]),
        "units": (pint.Unit("micrometer"), pint.Unit("micrometer"), pint.Unit("micrometer")),
        "axis_labels": ("time", "y", "x"),
    }
    written = write_layer(str(tmp_path / "cells.tif"), labels, attributes)
    assert written == [str(tmp_path / "cells.tif")]
    with tifffile.TiffFile(written[0]) as file:
        assert file.series[0].axes == "TYX"
    assert micrometres(Path(written[0])) == pytest.approx({"Y": 0.5, "X": 0.25})


@pytest.mark.parametrize("axis_labels", [None, ("-3", "-2", "-1"), ("tile", "y", "x"), ("y", "x"), ("x", "y", "z")])
@pytest.mark.parametrize("units", [None, "um", ("um", "um", "um")])
def test_a_layer_without_telling_axis_labels_gets_the_usual_axes(tmp_path: Path, axis_labels: Any, units: Any) -> None:
    attributes = {"scale": (2, 0.5, 0.5), "units": units, "axis_labels": axis_labels}
    (path,) = write_layer(str(tmp_path / "cells"), labels_of((4, 20, 31)), attributes)
    assert path.endswith("cells.tif")
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "ZYX"
        assert file.imagej_metadata is not None
        assert file.imagej_metadata["unit"] == ("micron" if units else "pixel")


def test_saving_one_layer_replaces_the_file_that_napari_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    write_layer(str(path), labels_of((20, 31)), {})
    assert tifffile.imread(path).shape == (20, 31)
    path.write_bytes(b"old")
    assert write_layers(str(path), [(labels_of((20, 31)), {"name": "x"}, "labels")]) == [str(path)]
    assert tifffile.imread(path).shape == (20, 31)


def test_several_layers_go_into_a_folder_under_their_own_names(tmp_path: Path) -> None:
    layers = [(labels_of((20 + i, 31)), {"name": name}, "labels") for i, name in enumerate(["cells", "Cells", "a/b"])]
    written = write_layers(str(tmp_path / "out.tif"), layers)
    assert [Path(p).relative_to(tmp_path).as_posix() for p in written] == [
        "out/cells_labels.tif", "out/Cells_labels_2.tif", "out/a_b_labels.tif",
    ]  # fmt: skip
    assert [tifffile.imread(p).shape[0] for p in written] == [20, 21, 22]


def test_several_layers_replace_no_file_that_nobody_asked_about(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b_labels.tif").write_bytes(b"precious")
    layers = [(labels_of((20, 31)), {"name": name}, "labels") for name in "ab"]
    with pytest.raises(ExportError, match="exists already"):
        write_layers(str(tmp_path / "out"), layers)
    assert (tmp_path / "out" / "b_labels.tif").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "a_labels.tif").exists()


def test_of_a_multiscale_layer_the_full_resolution_is_written(tmp_path: Path) -> None:
    levels = [labels_of((40, 60)), labels_of((20, 30))]
    (path,) = write_layer(str(tmp_path / "a.tif"), levels, {"multiscale": True, "scale": (0.5, 0.5)})
    np.testing.assert_array_equal(tifffile.imread(path), levels[0])


@pytest.mark.parametrize(
    ("layer", "file"),
    [
        ("coins", "coins_labels.tif"),
        ("coins labels", "coins labels.tif"),
        ("Labels", "Labels.tif"),
        ("stack.tif", "stack_labels.tif"),
        ("../../etc/passwd", "etc_passwd_labels.tif"),
        ("C:\\data\\a*b?", "C_data_a_b_labels.tif"),
        ("Zellkörper µm", "Zellkörper µm_labels.tif"),
        ("", "labels.tif"),
        (" . ", "labels.tif"),
        ("image [1]", "image _1_labels.tif"),
        ("con", "con_labels.tif"),
    ],
)
def test_file_names_come_from_layer_names_and_are_legal_everywhere(layer: str, file: str) -> None:
    assert default_name(layer) == file


def test_a_long_layer_name_still_makes_a_file(tmp_path: Path) -> None:
    path = tmp_path / default_name("ö" * 400)
    write_labels_tiff(path, labels_of((20, 31)))
    assert path.exists()


def test_names_are_unique_on_file_systems_that_ignore_case() -> None:
    names = default_names(["a", "A", "a", "b", ""])
    assert names == ["a_labels.tif", "A_labels_2.tif", "a_labels_3.tif", "b_labels.tif", "labels.tif"]


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_a_real_napari_layer_is_written_and_read_by_napari_again(tmp_path: Path, ndim: int) -> None:
    layers = pytest.importorskip("napari.layers")
    scale, units = (10.0, 2.0, 0.5, 0.25)[-ndim:], ("second", *["micrometer"] * 3)[-ndim:]
    layer = layers.Labels(labels_of((3, 4, 20, 31)[-ndim:]), name="cells", scale=scale, units=units)
    data, attributes, _ = layer.as_layer_data_tuple()
    (path,) = write_layer(str(tmp_path / default_name(layer.name)), data, attributes)
    assert path.endswith("cells_labels.tif")
    assert micrometres(Path(path)) == pytest.approx(dict(zip("XYZ", scale[::-1], strict=False)))
    ((back, *_),) = pytest.importorskip("napari_builtins.io").napari_get_reader(path)(path)
    np.testing.assert_array_equal(np.asarray(back), layer.data)


@pytest.mark.parametrize("shape", [(20, 30), (3, 20, 30)])
def test_background_painted_in_the_dock_is_zero_in_a_file_that_napari_saves(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    labels = np.zeros(shape, np.uint8)
    labels[..., :5, :5], labels[..., 5:9, 5:9] = 1, 254
    for name, metadata in (("dock", {"napari_fewshot": "labels"}), ("other", {}), ("none", None)):
        path = str(tmp_path / f"{name}.tif")
        write_layer(path, labels, {"name": name, "metadata": metadata})
        expected = np.where(labels == 254, 0, labels) if name == "dock" else labels
        np.testing.assert_array_equal(tifffile.imread(path), expected)
    attributes = {"name": "dock", "metadata": {"napari_fewshot": "labels"}}
    write_layers(str(tmp_path / "both.tif"), [(labels, {**attributes, "name": n}, "labels") for n in "ab"])
    assert tifffile.imread(tmp_path / "both" / "a_labels.tif").max() == 1
    assert labels.max() == 254, "the layer keeps it"
