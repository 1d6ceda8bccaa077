"""File > Save of napari, through its own writers: the files of each format, read by others."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

napari_components = pytest.importorskip("napari.components")
npe2 = pytest.importorskip("npe2")

LABELS = np.zeros((3, 40, 60), np.uint8)
LABELS[:, 5:20, 8:30] = 1
LABELS[1, 25:38, 40:55] = 2


@pytest.fixture
def viewer() -> Iterator[object]:
    """A viewer without a window, with a labels layer of the dock and one of somebody else."""
    npe2.PluginManager.instance().discover()
    model = napari_components.ViewerModel()
    model.add_labels(LABELS, name="cells", scale=(2.0, 0.5, 0.5), units=("micrometer",) * 3)
    model.add_labels(LABELS[1], name="nuclei")
    yield model
    model.layers.clear()


def save(viewer: object, path: Path, *names: str) -> list[str]:
    """What File > Save Selected Layers does with this plugin chosen in its list."""
    layers = viewer.layers  # type: ignore[attr-defined]
    layers.selection = {layers[name] for name in names}
    return list(layers.save(str(path), selected=True, plugin="napari-fewshot"))


def test_one_layer_is_saved_as_tiff_with_its_scale(viewer: object, tmp_path: Path) -> None:
    (written,) = save(viewer, tmp_path / "cells.tif", "cells")
    with tifffile.TiffFile(written) as file:
        np.testing.assert_array_equal(file.asarray(), LABELS)
        assert file.imagej_metadata is not None and file.imagej_metadata["spacing"] == 2.0
        assert file.pages.first.dtype == np.uint8


def test_one_layer_is_saved_as_nifti(viewer: object, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="the extra 'nifti' is not installed")
    (written,) = save(viewer, tmp_path / "cells.nii.gz", "cells")
    read = nibabel.load(written)
    np.testing.assert_array_equal(np.asarray(read.dataobj).transpose(2, 1, 0), LABELS)
    assert read.header.get_zooms() == pytest.approx((0.5, 0.5, 2.0))


def test_one_layer_is_saved_as_ome_zarr(viewer: object, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="the extra 'zarr' is not installed")
    save(viewer, tmp_path / "cells.zarr", "cells")
    group = zarr.open_group(tmp_path / "cells.zarr/labels/labels", mode="r")
    np.testing.assert_array_equal(group["0"][:], LABELS)
    assert "image-label" in dict(group.attrs)


def test_one_layer_is_saved_as_an_indexed_png(viewer: object, tmp_path: Path) -> None:
    (written,) = save(viewer, tmp_path / "nuclei.png", "nuclei")
    with Image.open(written) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), LABELS[1])


@pytest.mark.parametrize("names", [("nuclei",), ("cells", "nuclei")])
def test_layers_are_saved_as_objects(viewer: object, tmp_path: Path, names: tuple[str, ...]) -> None:
    objects = {"nuclei": 2, "cells": 4}
    (written,) = save(viewer, tmp_path / "all.json", *names)
    told = json.loads(Path(written).read_text())
    assert len(told["annotations"]) == sum(objects[name] for name in names)
    (written,) = save(viewer, tmp_path / "all.csv", *names)
    with open(written, encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == sum(objects[name] for name in names)


def test_several_layers_go_into_a_folder(viewer: object, tmp_path: Path) -> None:
    written = save(viewer, tmp_path / "both.tif", "cells", "nuclei")
    assert sorted(Path(path).name for path in written) == ["cells_labels.tif", "nuclei_labels.tif"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "both/nuclei_labels.tif"), LABELS[1])


def test_napari_finds_the_writers_by_the_ending_of_a_name(viewer: object) -> None:
    manager = npe2.PluginManager.instance()
    for ending in (".tif", ".tiff", ".zarr", ".nii", ".nii.gz", ".png", ".json", ".csv"):
        found = [
            writer.command
            for writer in manager.iter_compatible_writers(["labels"])
            if writer.command.startswith("napari-fewshot.") and ending in writer.filename_extensions
        ]
        assert found, ending


def test_a_name_that_is_a_folder_is_refused_and_the_folder_stays(viewer: object, tmp_path: Path) -> None:
    from napari_fewshot.errors import ExportError

    (tmp_path / "cells.tif").mkdir()
    (tmp_path / "cells.tif/mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="is a folder"):
        save(viewer, tmp_path / "cells.tif", "cells")
    assert (tmp_path / "cells.tif/mine.txt").read_text() == "mine"


def test_the_layer_of_objects_of_the_dock_keeps_every_number(viewer: object, tmp_path: Path) -> None:
    ids = np.zeros((20, 30), np.int32)
    ids[2:9, 2:9], ids[2:9, 9:16] = 254, 300  # 254 is painted background on the dock's layer of labels
    viewer.add_labels(ids, name="cells objects", metadata={"napari_fewshot": "objects"})  # type: ignore[attr-defined]
    (written,) = save(viewer, tmp_path / "objects.tif", "cells objects")
    np.testing.assert_array_equal(tifffile.imread(written), ids)
    (written,) = save(viewer, tmp_path / "objects.csv", "cells objects")
    assert len(Path(written).read_text("utf-8").splitlines()) == 1 + 2
