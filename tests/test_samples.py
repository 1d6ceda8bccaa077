"""The sample data: real, offline, and valid for napari."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_fewshot.imaging.phantom import CELL, NUCLEUS, touching_cells
from napari_fewshot.io import samples
from napari_fewshot.io.samples import LayerData, Sample

SMALL = partial(touching_cells, (4, 96, 96), cells=12)


@pytest.mark.parametrize("make", [samples.ihc_tiles, samples.coins, samples.synthetic_cells])
def test_samples_become_napari_image_layers_with_names(make: Callable[[], list[LayerData]]) -> None:
    layer = pytest.importorskip("napari.layers").Layer
    layers = [layer.create(*layer_data) for layer_data in make()]
    assert {type(made).__name__ for made in layers} == {"Image"}
    names = [made.name for made in layers]
    assert all(names)
    assert len(set(names)) == len(names)
    assert all(np.asarray(made.data).std() > 0 for made in layers)


def test_cells_are_numbered_on_three_slices_only_and_shots_of_them_have_their_numbers() -> None:
    (image, _, _), (ids, attributes, kind) = samples.numbered_cells()
    assert kind == "labels" and attributes["name"] == "numbered cells objects" and ids.shape == image.shape
    assert [z for z in range(len(ids)) if ids[z].any()] == list(samples.NUMBERED)
    sample = samples.numbered_sample()
    for z in samples.NUMBERED:
        shot = sample.shot(z)
        assert shot.instances is not None
        np.testing.assert_array_equal(shot.instances, ids[z])
        np.testing.assert_array_equal(shot.labels == CELL, ids[z] > 0)
        assert ids[z].max() > 5


def test_the_tiles_are_a_stack_of_colour_pictures() -> None:
    layer = pytest.importorskip("napari.layers").Layer
    (tiles,) = (layer.create(*layer_data) for layer_data in samples.ihc_tiles())
    assert tiles.rgb
    assert tiles.data.shape == (9, 170, 170, 3)
    assert tiles.ndim == 3


def test_coins_lie_below_each_other_and_none_is_cut() -> None:
    layers = samples.coins()
    tops = [attributes["translate"][0] for _, attributes, _ in layers]
    bottoms = [top + data.shape[0] for top, (data, _, _) in zip(tops, layers, strict=True)]
    assert all(bottom < top for bottom, top in zip(bottoms, tops[1:], strict=False))
    for mask in samples.coins_sample().masks.values():
        assert not mask[[0, -1]].any()


def test_synthetic_cells_carry_their_voxel_size_and_start_unpainted() -> None:
    layers = samples.synthetic_cells()
    assert [kind for _, _, kind in layers] == ["image"]
    layer = pytest.importorskip("napari.layers").Layer.create(*layers[0])
    assert tuple(layer.scale) == (2.0, 0.5, 0.5)
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    assert tuple(layer.axis_labels) == ("z", "y", "x")


def test_the_truth_of_synthetic_cells_fits_on_their_image() -> None:
    create = pytest.importorskip("napari.layers").Layer.create
    image, truth = (create(*layer_data) for layer_data in samples.synthetic_cells_with_truth())
    assert type(truth).__name__ == "Labels"
    assert truth.data.shape == image.data.shape
    assert tuple(truth.scale) == tuple(image.scale)
    assert set(np.unique(truth.data)) == {0, CELL, NUCLEUS}


@pytest.mark.parametrize("make", [samples.ihc_sample, samples.coins_sample, partial(samples.cells_sample, make=SMALL)])
def test_every_frame_of_a_sample_can_be_taught(make: Callable[[], Sample]) -> None:
    sample = make()
    assert len({frame.key for frame in sample.frames}) == len(sample.frames) == len(sample.masks)
    ids = {c.id for c in sample.classes}
    for index in range(len(sample.frames)):
        shot = sample.shot(index)
        assert set(shot.class_ids) <= ids
        assert not shot.is_partial


def test_frames_and_napari_layers_show_the_same_pixels() -> None:
    ((stack, _, _),) = samples.ihc_tiles()
    np.testing.assert_array_equal(stack[4], samples.ihc_sample().frames[4].read())
    for (strip, _, _), frame in zip(samples.coins(), samples.coins_sample().frames, strict=True):
        np.testing.assert_array_equal(strip, frame.read())


def test_the_mask_of_the_tiles_is_on_brown_tissue() -> None:
    sample = samples.ihc_sample()
    red, blue = (np.concatenate([f.read()[..., c].ravel() for f in sample.frames]).astype(float) for c in (0, 2))
    mask = np.concatenate([m.ravel() for m in sample.masks.values()]) > 0
    brownness = red - blue
    assert 0.3 < mask.mean() < 0.8
    assert brownness[mask].mean() > brownness[~mask].mean() + 30
    assert not sample.masks_are_true


def test_the_mask_of_the_coins_has_24_discs() -> None:
    from skimage.measure import label, regionprops

    sample = samples.coins_sample()
    discs = [region for mask in sample.masks.values() for region in regionprops(label(mask))]
    assert len(discs) == 24
    assert all(disc.solidity > 0.9 for disc in discs)


def test_samples_need_no_network() -> None:
    code = """
        import socket

        def refuse(*args, **kwargs):
            raise AssertionError("a sample went to the network")

        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
        from napari_fewshot.io import samples
        print(len(samples.ihc_tiles()), len(samples.coins()), len(samples.synthetic_cells()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1", "4", "1"]


# ---------------------------------------------------------------------------- the simulation
def test_the_same_seed_makes_the_same_stack_bit_for_bit() -> None:
    a, b, c = SMALL(seed=3), SMALL(seed=3), SMALL(seed=4)
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert (a.labels != c.labels).any()


def test_cells_touch_and_nuclei_lie_inside_their_cells() -> None:
    phantom = touching_cells((12, 192, 192), cells=40)
    assert (phantom.instances > 0).sum() == (phantom.labels > 0).sum()
    across = (phantom.instances[..., 1:], phantom.instances[..., :-1])
    pairs = {(int(a), int(b)) for a, b in zip(across[0].ravel(), across[1].ravel(), strict=True) if a and b and a != b}
    assert len({tuple(sorted(pair)) for pair in pairs}) > 10
    with_nucleus = np.unique(phantom.instances[phantom.labels == NUCLEUS])
    assert 0 not in with_nucleus
    assert len(with_nucleus) > 20


def test_nuclei_are_brighter_than_cells_and_cells_than_background_in_every_slice() -> None:
    phantom = touching_cells()
    for plane, labels in zip(phantom.image, phantom.labels, strict=True):
        background, cell, nucleus = (plane[labels == i].mean() for i in (0, CELL, NUCLEUS))
        assert background < cell < nucleus


def test_light_fades_with_depth_and_noise_is_in_every_plane() -> None:
    phantom = touching_cells(seed=1)
    cells = [plane[labels == CELL].mean() for plane, labels in zip(phantom.image, phantom.labels, strict=True)]
    assert np.mean(cells[-3:]) < 0.8 * np.mean(cells[:3])
    assert all(np.std(np.diff(plane[:4].astype(float))) > 5 for plane in phantom.image)


def test_without_nuclei_there_is_one_class() -> None:
    phantom = SMALL(seed=0, nuclei=False)
    assert set(np.unique(phantom.labels)) == {0, CELL}
    assert [c.id for c in samples.cells_sample(make=partial(SMALL, nuclei=False)).classes] == [CELL]


def test_a_cell_has_the_same_size_in_micrometres_whatever_the_voxels() -> None:
    coarse = touching_cells((10, 128, 128), (2.0, 1.0, 1.0), cells=20)
    fine = touching_cells((20, 256, 256), (1.0, 0.5, 0.5), cells=20)
    volume = [np.prod(p.spacing) * (p.labels > 0).sum() for p in (coarse, fine)]
    assert volume[0] == pytest.approx(volume[1], rel=0.15)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 72), st.integers(1, 72)),
    step=st.sampled_from([0.25, 0.5, 1.0, 4.0]),
    cells=st.integers(0, 16),
    nuclei=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape=(2, 32, 32), step=0.5, cells=8, nuclei=True, seed=2)  # texture left less than no light in a corner
@example(shape=(4, 96, 96), step=0.5, cells=8, nuclei=False, seed=1)
@example(shape=(1, 1, 1), step=0.5, cells=1, nuclei=True, seed=0)  # a single voxel has no texture
@settings(max_examples=40, deadline=None)
def test_stacks_of_any_size_and_seed_can_be_simulated(
    shape: tuple[int, int, int], step: float, cells: int, nuclei: bool, seed: int
) -> None:
    phantom = touching_cells(shape, (2.0, step, step), cells=cells, nuclei=nuclei, seed=seed)
    assert phantom.image.shape == phantom.labels.shape == phantom.instances.shape == shape
    assert phantom.image.max() < 65535
    assert phantom.instances.max() <= cells
    assert ((phantom.labels > 0) == (phantom.instances > 0)).all()


def test_the_stack_of_the_sample_is_what_was_measured_on() -> None:
    phantom = touching_cells()
    assert phantom.image.mean() == pytest.approx(298.8615, rel=1e-4)
    assert phantom.image.std() == pytest.approx(280.8740, rel=1e-4)
    assert (phantom.labels > 0).sum() == 240764
