"""What the layer link is made of, each part by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels

from napari_fewshot.ui.linked_images import LinkedImages
from napari_fewshot.ui.overlay_layer import SliceOverlay
from napari_fewshot.ui.state import Overlay, OverlayPicture
from napari_fewshot.ui.viewer_layers import ViewerLayers

STACK = np.zeros((3, 16, 20), np.uint8)


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    viewer = make_napari_viewer()
    for name in "ab":
        viewer.add_image(STACK, name=name)
    return viewer


def test_changes_of_our_own_are_quiet_and_keep_the_selection(viewer: Any) -> None:
    layers, heard = ViewerLayers(viewer), []
    layers.connect(viewer.layers.events.inserted, lambda event: heard.append(layers.is_changing))
    layers.select(viewer.layers["a"])
    labels = Labels(STACK, name="ours")
    layers.insert_above(viewer.layers["a"], labels)
    assert [layer.name for layer in layers] == ["a", "ours", "b"]
    assert layers.is_selected(viewer.layers["a"]) and heard == [True]
    viewer.add_labels(STACK, name="theirs")
    assert heard == [True, False] and not layers.is_changing
    layers.remove(labels)
    layers.remove(labels)  # is not there any more
    layers.close()
    viewer.add_labels(STACK, name="others")
    assert [layer.name for layer in layers] == ["a", "b", "theirs", "others"] and len(heard) == 2


def test_images_keep_their_uid_and_new_ones_get_another(viewer: Any) -> None:
    images = LinkedImages(ViewerLayers(viewer))
    news, gone = images.refresh()
    assert [linked.uid for linked in news] == ["a", "b"] and not gone
    viewer.layers["a"].name = "renamed"
    viewer.add_image(STACK, name="a")
    viewer.layers.remove("b")
    news, gone = images.refresh()
    assert [linked.uid for linked in news] == ["a (2)"] and [linked.uid for linked in gone] == ["b"]
    assert [(linked.uid, linked.image.name) for linked in images] == [("a", "renamed"), ("a (2)", "a")]
    assert images.find(("a", 2)) == (images["a"], (2,)) and images.find(("b", 0)) == (None, (0,))


def test_labels_of_that_name_are_found_only_if_they_fit_and_are_no_numbered_cells(viewer: Any) -> None:
    viewer.add_labels(np.zeros((3, 16, 20), np.uint8), name="a labels")
    viewer.add_labels(np.zeros((16, 16), np.uint8), name="b labels")
    images = LinkedImages(ViewerLayers(viewer))
    images.refresh()
    assert images.labels_of(images["a"]) is viewer.layers["a labels"] and images.labels_of(images["b"]) is None
    assert images.adopt_labels(images["a"]) and not images.adopt_labels(images["b"])
    viewer.layers.remove("a labels")
    viewer.add_labels(np.full((3, 16, 20), 1000), name="a labels")
    images.refresh()
    assert images["a"].labels is None and images.labels_of(images["a"]) is None


def test_a_picture_over_a_slice_goes_with_its_image(viewer: Any) -> None:
    layers = ViewerLayers(viewer)
    images, overlay = LinkedImages(layers), SliceOverlay(layers)
    images.refresh()
    overlay.show(images["a"], (1,), OverlayPicture(Overlay.UNCERTAINTY, "uncertainty", np.ones((16, 20), np.float32)))
    assert overlay.is_there and [layer.name for layer in layers] == ["a", "a uncertainty", "b"]
    news, gone = images.refresh()
    overlay.on_layers(gone)
    assert not news and overlay.is_there  # it is no image to label
    viewer.layers.remove("a")
    overlay.on_layers(images.refresh()[1])
    assert not overlay.is_there and [layer.name for layer in layers] == ["b"]
