"""Pictures to train on: read from folders, on the scale that images are segmented on, drawn by their share."""

from pathlib import Path

import numpy as np
import pytest
from skimage import io

from napari_fewshot.errors import ReadError, SettingsError
from napari_fewshot.training.pictures import Picture, PictureSet, bundled_pictures, data_cards, picture, read_sets
from napari_fewshot.training.sources import Sources, gather


def test_sets_are_read_with_their_labels(data_sets: Path) -> None:
    colour, gray = read_sets(data_sets)
    assert (colour.name, gray.name) == ("colour", "gray")
    assert [p.pixels.shape for p in (*colour.pictures, *gray.pictures)] == [(3, 48, 64)] * 3 + [(1, 48, 64)] * 3
    for each in (*colour.pictures, *gray.pictures):
        assert each.pixels.dtype == each.labels.dtype == np.uint8
        assert each.pixels[:, each.labels == 1].min() > each.pixels[:, each.labels == 0].max()
        assert (each.labels[:4] == 255).all()
    assert colour.class_ids == gray.class_ids == (1,)


def test_an_image_of_any_type_fills_the_range_of_bytes() -> None:
    rng = np.random.default_rng(0)
    for image in (
        rng.integers(300, 5000, (40, 50), np.uint16),
        rng.normal(size=(40, 50)),
        rng.normal(size=(40, 50, 4)),
    ):
        made = picture(image)
        assert made.pixels.shape[0] == (1 if image.ndim == 2 else 3)
        assert made.pixels.min() == 0 and made.pixels.max() == 255 and made.labels is None
    two = picture(rng.normal(size=(40, 50, 2)))
    assert two.pixels.shape == (1, 40, 50)  # the second channel is left out


def test_a_set_without_labels_is_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "new" / "images").mkdir(parents=True)
    io.imsave(tmp_path / "new" / "images" / "a.png", np.eye(32, dtype=np.uint8) * 200, check_contrast=False)
    (only,) = read_sets(tmp_path)
    assert only.pictures[0].labels is None and only.class_ids == ()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros((30, 32), np.uint8), r"labels.a\.png is \(30, 32\), but its image is \(32, 32\)"),
        (np.full((32, 32), 300, np.uint16), "each class, not each object"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_name(tmp_path: Path, labels: np.ndarray, told: str) -> None:
    for kind, pixels in (("images", np.eye(32, dtype=np.uint8)), ("labels", labels)):
        (tmp_path / "new" / kind).mkdir(parents=True)
        io.imsave(tmp_path / "new" / kind / "a.png", pixels, check_contrast=False)
    with pytest.raises(SettingsError, match=told):
        read_sets(tmp_path)


def test_folders_that_hold_nothing_to_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no data set below"):
        read_sets(tmp_path)
    with pytest.raises(SettingsError, match="not a folder"):
        read_sets(tmp_path / "none")
    (tmp_path / "new" / "images").mkdir(parents=True)
    with pytest.raises(SettingsError, match="holds no image"):
        read_sets(tmp_path)
    (tmp_path / "new" / "images" / "a.png").write_text("not a picture")
    with pytest.raises(ReadError, match=r"a\.png cannot be read"):
        read_sets(tmp_path)


def test_licences_are_told_where_a_set_states_them(data_sets: Path) -> None:
    assert data_cards(data_sets) == [
        {"name": "colour", "licence": "not stated", "source": "not stated"},
        {"name": "gray", "licence": "CC0 1.0", "source": "example.org/gray"},
    ]


def test_images_of_scikit_image_are_installed_with_it() -> None:
    bundled = bundled_pictures()
    assert len(bundled.pictures) > 20
    assert all(p.labels is None and min(p.pixels.shape[1:]) > 60 for p in bundled.pictures)


# ---------------------------------------------------------------------------- how often what is drawn
def tagged(name: str, value: int, labels: bool = True) -> PictureSet:
    pixels = np.full((1, 8, 8), value, np.uint8)
    return PictureSet(name, (Picture(pixels, np.ones((8, 8), np.uint8) if labels else None),))


def test_pictures_are_drawn_by_the_share_of_their_set() -> None:
    sources = Sources((tagged("a", 1), tagged("b", 2), tagged("c", 3)), (0.7, 0.3, 0.0))
    rng = np.random.default_rng(0)
    drawn = [int(sources.draw(rng).pixels[0, 0, 0]) for _ in range(1000)]
    assert drawn.count(1) == pytest.approx(700, abs=50) and drawn.count(3) == 0


def test_what_has_labels_keeps_its_proportions() -> None:
    sources = Sources((tagged("a", 1), tagged("b", 2, labels=False), tagged("c", 3)), (0.2, 0.5, 0.3)).labelled()
    assert [s.name for s in sources.sets] == ["a", "c"]
    assert sources.shares == pytest.approx((0.4, 0.6))
    with pytest.raises(SettingsError, match="no picture to train on has labels"):
        Sources((tagged("b", 2, labels=False),), (1.0,)).labelled()


def test_real_sets_share_alike_and_made_ones_get_the_rest(data_sets: Path) -> None:
    sources = gather(data_sets, real=0.5, bundled=0.0, worlds=2, views=1, seed=0)
    shares = dict(zip([s.name for s in sources.sets], sources.shares, strict=True))
    assert shares == pytest.approx({"colour": 0.25, "gray": 0.25, "scikit-image": 0, "made 0": 0.25, "made 1": 0.25})
    again = gather(data_sets, real=0.5, bundled=0.0, worlds=2, views=1, seed=0)
    np.testing.assert_array_equal(sources.sets[-1].pictures[0].pixels, again.sets[-1].pictures[0].pixels)


def test_without_a_folder_everything_is_made_or_bundled() -> None:
    sources = gather(None, real=0.5, bundled=0.25, worlds=1, views=2, seed=0)
    assert sources.shares == pytest.approx((0.25, 0.75))
    assert len(sources.sets[-1].pictures) == 2
