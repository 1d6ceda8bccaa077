import dask.array as da
import numpy as np
import pytest

from napari_fewshot import Frame
from napari_fewshot.errors import ImageError
from napari_fewshot.frames import content_digest, frame_name


def test_a_key_is_said_as_a_person_would() -> None:
    assert frame_name("coins") == "coins"
    assert frame_name(("coins",)) == "coins"
    assert frame_name(("movie", 0, 12)) == "movie [0, 12]"
    assert Frame(("stack", 3), np.zeros((16, 16))).name == "stack [3]"


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (20, 30, 1), (20, 30, 3), (20, 30, 7)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int64", "float16", "float32", "float64", ">u2"])
def test_any_real_image_comes_back_as_it_is(shape: tuple[int, ...], dtype: str) -> None:
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    pixels = Frame("a", image).read()
    assert pixels.dtype == image.dtype
    np.testing.assert_array_equal(pixels, image)


def test_a_bool_image_counts_as_zeros_and_ones() -> None:
    pixels = Frame("a", np.eye(16, dtype=bool)).read()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.eye(16, dtype=np.uint8))


def test_a_strided_view_is_read_in_order() -> None:
    image = np.arange(64 * 64).reshape(64, 64)
    pixels = Frame("a", image[::2, ::-1].T).read()
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, image[::2, ::-1].T)


def test_a_function_is_called_only_when_pixels_are_needed() -> None:
    calls = []

    def load() -> np.ndarray:
        calls.append("load")
        return np.zeros((16, 24), np.uint8)

    frame = Frame("a", load)
    assert frame.size is None
    assert calls == []
    assert frame.read().shape == (16, 24)
    assert calls == ["load"]


def test_a_lazy_array_tells_its_size_without_being_read() -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise AssertionError("read too early")

    lazy = da.zeros((32, 48, 3), chunks=16).map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0)))
    assert Frame("a", lazy).size == (32, 48)
    with pytest.raises(AssertionError, match="read too early"):
        Frame("a", lazy).read()


def test_a_lazy_array_is_read_into_memory() -> None:
    image = np.arange(32 * 48).reshape(32, 48)
    np.testing.assert_array_equal(Frame("a", da.from_array(image, chunks=16)).read(), image)


@pytest.mark.parametrize("shape", [(), (50,), (2, 20, 20, 3)])
def test_an_image_that_is_not_one_slice_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=rf"'a' has {len(shape)} dimension\(s\).*give one slice of it"):
        Frame("a", np.zeros(shape)).read()


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "datetime64[s]"])
def test_values_that_are_not_real_numbers_are_refused(dtype: str) -> None:
    with pytest.raises(ImageError, match=r"'a' holds values of type .*convert it to real numbers"):
        Frame("a", np.zeros((16, 16), dtype)).read()


@pytest.mark.parametrize("shape", [(0, 20), (20, 0), (20, 20, 0)])
def test_an_empty_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"'a' is empty, shape .*load an image that has pixels"):
        Frame("a", np.zeros(shape)).read()


@pytest.mark.parametrize("shape", [(15, 100), (100, 15), (1, 1)])
def test_an_image_below_16_pixels_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"'a' is {shape[0]} x {shape[1]} pixels; at least 16 x 16 are needed"):
        Frame("a", np.zeros(shape)).read()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_refused(value: float) -> None:
    image = np.zeros((16, 16))
    image[2, 3] = image[4, 5] = value
    with pytest.raises(ImageError, match=r"'a' has 2 pixel value\(s\) that are NaN or infinite.*nan_to_num"):
        Frame("a", image).read()


def test_content_digest_tells_arrays_apart_by_shape_type_and_value() -> None:
    array = np.zeros((4, 9), np.uint8)
    changed = array.copy()
    changed[3, 8] = 1
    others = [array.reshape(9, 4), array.astype(np.int8), changed]
    assert content_digest(array) == content_digest(array.copy()) == content_digest(np.asfortranarray(array))
    assert len({content_digest(a) for a in [array, *others]}) == 4
