"""Which axes of an image are its plane, its sliders and its channels."""

import numpy as np
import pytest

from napari_fewshot.errors import ImageError, MaskError
from napari_fewshot.ui.axes import Layout, guess_channel_axis


@pytest.mark.parametrize(
    ("shape", "rgb", "channel_axis", "sliders", "frame_shape"),
    [
        ((20, 30), False, None, (), (20, 30)),
        ((20, 30, 3), True, None, (), (20, 30, 3)),
        ((20, 30, 4), True, None, (), (20, 30, 4)),
        ((5, 20, 30), False, None, (5,), (20, 30)),
        ((5, 20, 30), False, 0, (), (20, 30, 5)),
        ((20, 30, 5), False, 2, (), (20, 30, 5)),
        ((4, 5, 20, 30), False, None, (4, 5), (20, 30)),
        ((2, 5, 20, 30), False, 0, (5,), (20, 30, 2)),
        ((5, 2, 20, 30), False, 1, (5,), (20, 30, 2)),
        ((5, 20, 2, 30), False, 2, (5,), (20, 30, 2)),
        ((5, 20, 30, 3), True, None, (5,), (20, 30, 3)),
        ((3, 4, 2, 20, 30), False, 2, (3, 4), (20, 30, 2)),
    ],
)
def test_a_frame_is_cut_out_with_its_channels_last(
    shape: tuple[int, ...],
    rgb: bool,
    channel_axis: int | None,
    sliders: tuple[int, ...],
    frame_shape: tuple[int, ...],
) -> None:
    data = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    layout = Layout(shape, rgb, channel_axis)
    assert layout.stack_shape == sliders and layout.frame_shape == frame_shape
    positions = list(layout.positions())
    assert len(positions) == np.prod(sliders, dtype=int)
    whole = (slice(None), slice(None))
    frames = [layout.take(data, position)[whole] for position in positions]
    assert all(frame.shape == frame_shape for frame in frames)
    assert len(np.unique(np.concatenate([frame.ravel() for frame in frames]))) == data.size, "every pixel once"


@pytest.mark.parametrize("channel_axis", [None, 0, 1, 2, 3])
def test_labels_lie_on_their_image_and_are_the_same_for_all_channels(channel_axis: int | None) -> None:
    layout = Layout((4, 5, 6, 7), channel_axis=channel_axis)
    labels = layout.empty_labels()
    assert layout.fits(labels)
    position = tuple(size - 1 for size in layout.stack_shape)
    labels[layout.label_index(position, labels.ndim)] = 3
    assert (labels[layout.label_index(position, labels.ndim)] == 3).all()
    stack = layout.stack_of(labels)
    assert stack.shape == (*layout.stack_shape, *layout.size)
    assert (stack == 3).sum() == np.prod(layout.size)
    if layout.keeps_channel_axis and channel_axis is not None:
        assert labels.shape == layout.shape
        for channel in range(layout.shape[channel_axis]):
            np.testing.assert_array_equal(labels.take(channel, channel_axis), stack)


def test_labels_of_another_image_are_refused() -> None:
    with pytest.raises(MaskError, match="2 axes but their image has 3"):
        Layout((3, 20, 20)).label_index((0,), 2)
    assert not Layout((3, 20, 20)).fits(np.zeros((3, 20, 21), np.uint8))
    assert not Layout((2, 3, 20, 20), channel_axis=1).fits(np.zeros((2, 3, 20, 20), np.uint8)), "one for each channel"


@pytest.mark.parametrize(("shape", "axis"), [((20,), None), ((20, 30), 0), ((2, 20, 30), 3)])
def test_an_image_without_a_plane_is_refused(shape: tuple[int, ...], axis: int | None) -> None:
    with pytest.raises(ImageError):
        Layout(shape, channel_axis=axis)


@pytest.mark.parametrize(
    ("labels", "rgb", "axis"),
    [
        (("z", "c", "y", "x"), False, 1),
        (("Channel", "y", "x"), False, 0),
        (("z", "c", "y", "x"), True, None),
        (("-3", "-2", "-1"), False, None),
        (("c", "x"), False, None),
        (("c", "channel", "y", "x"), False, None),
    ],
)
def test_a_channel_axis_is_guessed_from_its_name(labels: tuple[str, ...], rgb: bool, axis: int | None) -> None:
    assert guess_channel_axis(labels, rgb) == axis
