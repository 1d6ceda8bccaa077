"""Labels written in every format, and read back by programs of others."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile
from skimage.draw import polygon2mask
from skimage.measure import regionprops

from napari_fewshot.errors import ExportError, SettingsError
from napari_fewshot.io.coco_masks import decode
from napari_fewshot.io.formats import LABEL_FORMATS, format_of, label_format, write_labels
from napari_fewshot.io.label_stack import LabelStack, PlaneNote
from napari_fewshot.io.objects import classes_of, objects_of
from napari_fewshot.support import LabelClass

CLASSES = (LabelClass(1, "cell", "#ff8000"), LabelClass(3, "nucléus", "#0080ff"))


def blobs(shape: tuple[int, ...] = (40, 56), ids: tuple[int, ...] = (1, 3), seed: int = 0) -> npt.NDArray[np.int32]:
    """Ragged shapes with holes, parts that touch by corners, and single pixels."""
    generator = np.random.default_rng(seed)
    coarse = generator.choice([0, 0, *ids], size=(*shape[:-2], -(-shape[-2] // 4), -(-shape[-1] // 4)))
    labels = coarse.repeat(4, -2).repeat(4, -1)[..., : shape[-2], : shape[-1]]
    specks = generator.random(shape) < 0.05
    return np.where(specks, generator.choice([0, *ids], size=shape), labels).astype(np.int32)


def stack_of(labels: Any, **options: Any) -> LabelStack:
    return LabelStack(labels, options.pop("name", "cells"), classes=options.pop("classes", CLASSES), **options)


def objects_in(labels: npt.NDArray[Any]) -> list[Any]:
    """What scikit-image calls the objects: components of each class, diagonals connect."""
    from skimage.measure import label

    return regionprops(label(labels, background=0, connectivity=2))


# ---------------------------------------------------------------------------- COCO
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("name", ["coco", "coco-rle"])
def test_coco_masks_areas_and_boxes_are_those_that_pycocotools_sees(tmp_path: Path, name: str) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO
    labels = blobs()
    (path,) = write_labels(tmp_path / "all.json", [stack_of(labels)], format=name)
    told = coco(str(path))
    (image,) = told.loadImgs(told.getImgIds())
    assert (image["height"], image["width"]) == labels.shape
    assert {each["id"]: each["name"] for each in told.loadCats(told.getCatIds())} == {1: "cell", 3: "nucléus"}
    drawn = np.zeros_like(labels)
    annotations = told.loadAnns(told.getAnnIds())
    mask_api = pytest.importorskip("pycocotools.mask")
    for each in annotations:
        mask = told.annToMask(each).astype(bool)
        assert (drawn[mask] == 0).all()
        drawn[mask] = each["category_id"]
        assert each["area"] == mask.sum() == mask_api.area(told.annToRLE(each))
        assert each["bbox"] == mask_api.toBbox(told.annToRLE(each)).tolist()
    np.testing.assert_array_equal(drawn, labels)
    assert len(annotations) == len(objects_in(labels))
    kinds = {type(each["segmentation"]) for each in annotations}
    assert kinds == ({dict} if name == "coco-rle" else {dict, list})  # holes need run lengths


def test_coco_lists_decided_planes_of_all_images_and_who_says_so(tmp_path: Path) -> None:
    stack = blobs((3, 20, 24))
    stack[0] = 0
    notes = {(0,): PlaneNote("accepted"), (2,): PlaneNote("proposed", 0.75)}
    (path,) = write_labels(tmp_path / "a", [stack_of(stack, notes=notes), stack_of(stack[1])], format="coco")
    assert path == tmp_path / "a.json"
    told = json.loads(path.read_text("utf-8"))
    assert [each["file_name"] for each in told["images"]] == ["cells_z000.png", "cells_z002.png", "cells.png"]
    by_image = {i: [a for a in told["annotations"] if a["image_id"] == i] for i in (1, 2, 3)}
    assert by_image[1] == []
    assert {(a["score"], a["provenance"]) for a in by_image[2]} == {(0.75, "proposed")}
    assert by_image[3] and not any("score" in a for a in by_image[3])


# ---------------------------------------------------------------------------- YOLO
def test_yolo_outlines_fill_to_the_same_objects(tmp_path: Path) -> None:
    labels = blobs()
    (folder,) = write_labels(tmp_path / "yolo", [stack_of(labels)], format="yolo")
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((folder / "data.yaml").read_text("utf-8"))
    assert told["names"] == {0: "cell", 1: "nucléus"}
    drawn = np.zeros_like(labels)
    lines = (folder / "labels" / "cells.txt").read_text().splitlines()
    for line in lines:
        number, *shares = line.split()
        corners = np.array(shares, float).reshape(-1, 2)
        assert corners.min() >= 0 and corners.max() <= 1
        yx = corners[:, ::-1] * labels.shape - 0.5  # scikit-image counts from the middle of the first pixel
        drawn[polygon2mask(labels.shape, yx.round(4))] = (1, 3)[int(number)]
    np.testing.assert_array_equal(drawn, labels)
    assert len(lines) == len(objects_in(labels))


def test_yolo_replaces_nothing_that_is_there_and_leaves_other_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "yolo"
    (folder / "labels").mkdir(parents=True)
    (folder / "labels" / "cells.txt").write_text("precious")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        write_labels(folder, [stack_of(blobs())], format="yolo")
    assert (folder / "labels" / "cells.txt").read_text() == "precious" and not (folder / "data.yaml").exists()
    write_labels(folder, [stack_of(blobs())], format="yolo", overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "labels" / "cells.txt").read_text() != "precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["yolo"]


# ---------------------------------------------------------------------------- CSV
def test_the_table_holds_what_scikit_image_measures(tmp_path: Path) -> None:
    labels = blobs()
    stack = stack_of(labels, spacing=(0.5, 0.25), units="um", notes={(): PlaneNote("proposed", 0.5)})
    (path,) = write_labels(tmp_path / "objects.csv", [stack])
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = objects_in(labels)
    assert len(rows) == len(expected)
    for row, each in zip(rows, expected, strict=True):
        assert int(row["area_px"]) == each.area
        assert float(row["area"]) == pytest.approx(each.area * 0.125) and row["area_unit"] == "µm²"
        assert (float(row["centroid_y"]), float(row["centroid_x"])) == pytest.approx(each.centroid, abs=1e-3)
        assert tuple(int(row[side]) for side in ("top", "left", "bottom", "right")) == each.bbox
        assert int(row["label"]) == labels[tuple(each.coords[0])]
        assert row["class"] == {"1": "cell", "3": "nucléus"}[row["label"]]
        assert (row["image"], row["plane"], row["score"], row["provenance"]) == ("cells", "cells", "0.5000", "proposed")


def test_a_name_is_no_formula_for_a_spreadsheet(tmp_path: Path) -> None:
    stack = stack_of(blobs(), name="=cmd|' /C calc'!A0", classes=(LabelClass(1, "+cell"),))
    (path,) = write_labels(tmp_path / "objects.csv", [stack])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert all(row["image"].startswith("'=") for row in rows)
    assert {row["class"] for row in rows} == {"'+cell", "class 3"}


def test_where_ids_are_objects_each_is_one_row_of_one_class(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), np.int64)
    labels[2:5, 2:5] = labels[10:12, 20:25] = 70_000
    labels[15:18, 3:9] = 7
    (path,) = write_labels(tmp_path / "objects.csv", [LabelStack(labels, "cells")])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [(row["label"], row["class"], row["area_px"]) for row in rows] == [
        ("7", "object", "18"),
        ("70000", "object", "19"),
    ]
    full = np.ones((4, 4), int)  # no background at all
    (plane,) = LabelStack(full).planes()
    assert [each.area for each in objects_of(plane, classes_of(LabelStack(full)), ids_are_objects=True)] == [16]


def test_what_nobody_labelled_is_no_object() -> None:
    labels = np.full((6, 6), 255)
    labels[:2] = 3
    stack = stack_of(labels)
    (plane,) = stack.planes()
    assert [each.kind.name for each in objects_of(plane, classes_of(stack), ids_are_objects=False)] == ["nucléus"]


# ---------------------------------------------------------------------------- objects that are numbered
@pytest.fixture
def numbered() -> LabelStack:
    """Two cells that touch, one in two parts, one that nobody numbered, and a nucleus; a number where no label is."""
    labels, ids = np.zeros((2, 24, 32), np.uint8), np.zeros((2, 24, 32), np.int32)
    for z, number, rows, columns in [
        (0, 70_000, (2, 8), (2, 8)), (0, 4, (2, 8), (8, 14)),
        (0, 9, (12, 15), (2, 6)), (0, 9, (18, 22), (2, 6)),
        (1, 4, (2, 8), (9, 15)),
    ]:  # fmt: skip
        labels[z, slice(*rows), slice(*columns)], ids[z, slice(*rows), slice(*columns)] = 1, number
    labels[0, 12:15, 20:24] = 1
    labels[0, 18:20, 10:14], labels[0, 20, 10:14] = 3, 255
    ids[0, 18:21, 10:14], ids[0, 0, 0] = 6, 3
    return stack_of(labels, objects=ids)


def test_numbered_objects_stay_two_where_they_touch_and_one_in_several_parts(
    numbered: LabelStack, tmp_path: Path
) -> None:
    (table,) = write_labels(tmp_path / "objects.csv", [numbered])
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    told = [(row["plane"][-4:], row["object"], row["class"], row["area_px"], row["object_id"]) for row in rows]
    assert told == [
        ("z000", "1", "cell", "36", "70000"), ("z000", "2", "cell", "36", "4"), ("z000", "3", "cell", "28", "9"),
        ("z000", "4", "cell", "12", ""), ("z000", "5", "nucléus", "8", "6"),
        ("z001", "1", "cell", "36", "4"),
    ]  # fmt: skip
    for name in ("coco", "coco-rle"):
        (path,) = write_labels(tmp_path / f"{name}.json", [numbered], format=name)
        annotations = json.loads(path.read_text("utf-8"))["annotations"]
        assert [(a["image_id"], a["category_id"], a["area"], a.get("object_id")) for a in annotations] == [
            (1, 1, 36, 70_000), (1, 1, 36, 4), (1, 1, 28, 9), (1, 1, 12, None), (1, 3, 8, 6), (2, 1, 36, 4),
        ]  # fmt: skip
        for each, area in zip(annotations, (36, 36, 28, 12, 8, 36), strict=True):
            assert decode(each["segmentation"], (24, 32)).sum() == area
        if name == "coco":
            assert [len(each["segmentation"]) for each in annotations] == [1, 1, 2, 1, 1, 1]
    (folder,) = write_labels(tmp_path / "yolo", [numbered], format="yolo")
    lines = (folder / "labels" / "cells_z000.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "0", "0", "0", "1"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_coco_of_objects_in_parts_is_read_by_pycocotools(numbered: LabelStack, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO
    (path,) = write_labels(tmp_path / "all.json", [numbered], format="coco")
    told = coco(str(path))
    assert [int(told.annToMask(each).sum()) for each in told.loadAnns(told.getAnnIds())] == [36, 36, 28, 12, 8, 36]


def test_numbers_that_fit_no_labels_are_refused() -> None:
    labels = np.ones((20, 30), np.uint8)
    with pytest.raises(ExportError, match=r"objects of 'cells' have shape \(20, 20\), but its labels \(20, 30\)"):
        stack_of(labels, objects=labels[:, :20])
    with pytest.raises(ExportError, match="would hold values of type float64"):
        stack_of(labels, objects=labels / 2)
    with pytest.raises(ExportError, match="number objects already"):
        LabelStack(labels, "cells", objects=labels)


# ---------------------------------------------------------------------------- PNG
def test_an_indexed_png_holds_labels_and_the_colours_of_classes(tmp_path: Path) -> None:
    labels = blobs()
    (path,) = write_labels(tmp_path / "a b µ.png", stack_of(labels))
    with PIL.Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), labels)
        colours = np.asarray(picture.convert("RGB"))
    assert (colours[labels == 1] == (255, 128, 0)).all() and (colours[labels == 3] == (0, 128, 255)).all()
    assert (colours[labels == 0] == 0).all()


def test_the_decided_planes_of_a_stack_become_png_files_of_a_folder(tmp_path: Path) -> None:
    stack = blobs((2, 3, 20, 24))
    written = write_labels(
        tmp_path / "out.png", stack_of(stack, notes={(0, 1): PlaneNote("painted"), (1, 2): PlaneNote("accepted")})
    )
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "out/cells_t000_z001.png", "out/cells_t001_z002.png",
    ]  # fmt: skip
    with PIL.Image.open(written[1]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), stack[1, 2])


def test_a_png_refuses_ids_that_a_palette_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="ids up to 256, a PNG palette 255; choose TIFF"):
        write_labels(tmp_path / "a.png", LabelStack(np.full((20, 20), 256)))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- NIfTI
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_labels_lie_where_their_image_lies(tmp_path: Path, suffix: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -4], [0, 0.1, 3, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.zeros((24, 20, 5), np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2, 1)
    nibabel.save(image, tmp_path / "image.nii.gz")
    labels = blobs((5, 20, 24))
    (path,) = write_labels(tmp_path / f"labels{suffix}", stack_of(labels, source=tmp_path / "image.nii.gz"))
    back = nibabel.load(path)
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(back.dataobj), labels.T)
    assert back.get_data_dtype() == np.uint8 and back.header.get_xyzt_units() == ("mm", "sec")
    assert int(back.header["sform_code"]) == int(nibabel.load(tmp_path / "image.nii.gz").header["sform_code"])


def test_nifti_of_other_images_has_the_size_of_a_voxel(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    labels = blobs((2, 5, 20, 24), ids=(1, 300))
    stack = stack_of(labels, spacing=(60, 2, 0.5, 0.25), units=("s", "um", "um", "um"), classes=None)
    back = nibabel.load(write_labels(tmp_path / "labels.nii", stack)[0])
    assert back.header.get_zooms() == pytest.approx((0.25, 0.5, 2, 60))
    assert back.header.get_xyzt_units() == ("micron", "sec") and back.get_data_dtype() == np.uint16
    np.testing.assert_allclose(np.diag(back.affine), (-0.25, -0.5, 2, 1))
    np.testing.assert_array_equal(np.asarray(back.dataobj), labels.T)
    movie = nibabel.load(write_labels(tmp_path / "movie.nii", stack_of(blobs((3, 20, 24)), axes="TYX"))[0])
    assert movie.shape == (24, 20, 1, 3)


# ---------------------------------------------------------------------------- OME-Zarr
def make_image(path: Path, version: str, levels: int = 3) -> npt.NDArray[np.uint16]:
    """An image as ome-zarr's own writer makes it."""
    pytest.importorskip("ome_zarr")
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_multiscale

    data = np.random.default_rng(0).integers(0, 9999, (2, 3, 130, 96)).astype(np.uint16)
    steps = [[{"type": "scale", "scale": [1.0, 2.0, 0.5 * 2**k, 0.25 * 2**k]}] for k in range(levels)]
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "zyx")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ome-zarr's own code
        write_multiscale(
            [data[..., : (130 >> k) << k : 2**k, :: 2**k] for k in range(levels)], str(path),
            fmt={"0.4": FormatV04, "0.5": FormatV05}[version](), axes=axes, coordinate_transformations=steps,
        )  # fmt: skip
    return data


@pytest.mark.filterwarnings("ignore")  # of ome-zarr's own code
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_labels_are_found_by_ome_zarr_itself(tmp_path: Path, version: str) -> None:
    path = tmp_path / "an image.ome.zarr"
    make_image(path, version)
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    labels = blobs((3, 130, 96))
    write_labels(path, stack_of(labels, spacing=(2, 0.5, 0.25), units="um"))
    nodes = list(Reader(parse_url(str(path)))())
    (found,) = [
        node for node in nodes if str(node.zarr.path if hasattr(node.zarr, "path") else node).endswith("labels/labels")
    ]
    assert [tuple(level.shape) for level in found.data] == [(3, 130, 96), (3, 65, 48), (3, 32, 24)]
    np.testing.assert_array_equal(np.asarray(found.data[0]), labels)
    assert found.data[0].dtype == np.uint8
    assert set(np.unique(np.asarray(found.data[1]))) <= {0, 1, 3}
    np.testing.assert_allclose(found.metadata["color"][1], np.array([255, 128, 0, 255]) / 255)
    assert found.metadata["properties"][3]["class"] == "nucléus"
    steps = found.metadata["coordinateTransformations"]
    assert steps[0][0]["scale"] == [2.0, 0.5, 0.25] and steps[1][0]["scale"] == [2.0, 1.0, 0.5]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_second_set_of_labels_is_listed_beside_the_first_and_none_is_replaced_unasked(
    tmp_path: Path, version: str
) -> None:
    zarr = pytest.importorskip("zarr")
    from napari_fewshot.io.ome_labels import write_ome_labels

    path = tmp_path / "image.zarr"
    make_image(path, version)
    first, second = blobs((3, 130, 96)), blobs((3, 130, 96), seed=1)
    write_ome_labels(path, stack_of(first), name="mine")
    write_ome_labels(path, stack_of(second), name="others")
    attributes = dict(zarr.open_group(path / "labels", mode="r").attrs)
    assert attributes.get("ome", attributes)["labels"] == ["mine", "others"]
    with pytest.raises(ExportError, match="exists already"):
        write_ome_labels(path, stack_of(second), name="mine")
    np.testing.assert_array_equal(zarr.open_array(path / "labels/mine/0", mode="r")[:], first)
    write_ome_labels(path, stack_of(second), name="mine", overwrite=True)
    np.testing.assert_array_equal(zarr.open_array(path / "labels/mine/0", mode="r")[:], second)
    assert sorted(each.name for each in (path / "labels").iterdir() if each.is_dir()) == ["mine", "others"]
    with pytest.raises(ExportError, match="do not lie on the image"):
        write_ome_labels(path, stack_of(first[:2]), name="new")
    assert not (path / "labels/new").exists()


def test_labels_without_an_image_get_a_group_and_levels_of_their_own(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    labels = blobs((700, 1025))
    (path,) = write_labels(tmp_path / "new.ome.zarr", stack_of(labels, spacing=(0.5, 0.5), units="um"))
    assert path == tmp_path / "new.ome.zarr/labels/labels"
    np.testing.assert_array_equal(zarr.open_array(path / "0", mode="r")[:], labels)
    assert zarr.open_array(path / "1", mode="r").shape == (350, 513)
    told = json.loads((path / ".zattrs").read_text())["multiscales"][0]
    assert [axis.get("unit") for axis in told["axes"]] == ["micrometer"] * 2
    (tmp_path / "notes.zarr").write_text("mine")
    with pytest.raises(ExportError, match="is no OME-Zarr"):
        write_labels(tmp_path / "notes.zarr", stack_of(labels))
    assert (tmp_path / "notes.zarr").read_text() == "mine"


# ---------------------------------------------------------------------------- every format
@pytest.mark.parametrize("chosen", LABEL_FORMATS, ids=lambda each: each.name)
def test_nothing_is_left_behind_where_a_folder_cannot_be_written(tmp_path: Path, chosen: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    stacks = [stack_of(blobs())] if chosen.joint else stack_of(blobs())
    with pytest.raises(ExportError):
        write_labels(chosen.named(tmp_path / "file" / "out"), stacks, format=chosen.name)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "in the way")]


@pytest.mark.parametrize("chosen", LABEL_FORMATS, ids=lambda each: each.name)
def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("os.rename", full)
    stacks = [stack_of(blobs())] if chosen.joint else stack_of(blobs())
    with pytest.raises(ExportError, match="is full; free some space"):
        write_labels(tmp_path / "out", stacks, format=chosen.name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chosen", LABEL_FORMATS, ids=lambda each: each.name)
def test_names_with_spaces_and_letters_of_all_kinds_are_written(tmp_path: Path, chosen: Any) -> None:
    stacks = [stack_of(blobs(), name="Zellkörper 細胞 #1")]
    written = write_labels(tmp_path / "mit Leerzeichen µ" / "alle", stacks, format=chosen.name)
    assert written and all(path.exists() for path in written)


def test_several_images_get_files_named_after_them(tmp_path: Path) -> None:
    stacks = [stack_of(blobs(), name=name) for name in ("a", "A", "../b")]
    written = write_labels(tmp_path / "out", stacks, format="tiff")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "out/a_labels.tif", "out/A_labels_2.tif", "out/b_labels.tif",
    ]  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(written[2]), blobs())


def test_the_suffix_tells_the_format_and_an_unknown_one_is_refused() -> None:
    names = {
        path: format_of(path).name for path in ("a.tif", "a.nii", "a.NII.GZ", "a.ome.zarr/", "a.json", "a.csv", "a.png")
    }
    assert list(names.values()) == ["tiff", "nifti", "nifti", "ome-zarr", "coco", "csv", "png"]
    with pytest.raises(ExportError, match="let it end in one of"):
        format_of("a.xyz")
    with pytest.raises(SettingsError, match="there is no format 'xyz'; choose one of: tiff"):
        label_format("xyz")


def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(SettingsError, match=r'pip install "napari-fewshot\[nifti\]"'):
        write_labels(tmp_path / "a.nii", stack_of(blobs()))


def test_the_example_of_the_page_on_files_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs/files.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(page.split("```python\n")[-1].split("```")[0], "files.md", "exec"), {})
    assert tifffile.imread("cells.tif").shape == (3, 64, 64)
    assert "cells_z000" in Path("objects.csv").read_text("utf-8")
