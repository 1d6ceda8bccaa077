"""The backbone of our own keeps the contract of backbones, with weights made on the spot."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.errors import WeightsError
from napari_fewshot.frames import Pixels
from napari_fewshot.models import backbone_card
from napari_fewshot.models import weights as stock
from napari_fewshot.models.backbones.mica import STRIDES, WIDTHS, Mica, MicaNet, fused, make, normalised
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.loading import weights_source
from napari_fewshot.models.weights import read_own, shipped

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """Of a fresh network, with statistics of a few pictures of noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MicaNet().train()
        with torch.no_grad():
            for _ in range(40):
                net(normalised(torch.rand(2, 3, 32, 32)))
    return {name: tensor.half() for name, tensor in fused(net).state_dict().items()}


@pytest.fixture
def mica(tensors: Tensors) -> Mica:
    return Mica(tensors)


def noise(channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_levels_have_the_shapes_that_are_promised(mica: Mica, channels: int) -> None:
    with torch.inference_mode():
        features = mica(noise(channels, 48, 80))
    assert tuple(features) == mica.levels
    assert [level.stride for level in features] == list(STRIDES)
    for level, f in features.items():
        assert f.shape == (WIDTHS[STRIDES.index(level.stride)], 48 // level.stride, 80 // level.stride)
        assert f.dtype == torch.float32 and f.isfinite().all()
    assert set(mica.matching_strides) <= set(STRIDES)


def test_the_same_image_gives_the_same_bits(tensors: Tensors) -> None:
    image = noise(1, 64, 64)
    before = image.clone()
    with torch.inference_mode():
        for a, b in zip(Mica(tensors)(image).values(), Mica(tensors)(image).values(), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(image, before)


def test_gray_is_three_equal_channels(mica: Mica) -> None:
    gray = noise(1, 32, 32)
    with torch.inference_mode():
        for a, b in zip(mica(gray).values(), mica(gray.repeat(3, 1, 1)).values(), strict=True):
            torch.testing.assert_close(a, b)


def test_making_it_draws_no_random_number(tensors: Tensors) -> None:
    state = torch.get_rng_state()
    Mica(tensors)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_key_tells_weights_apart(tensors: Tensors) -> None:
    other = dict(tensors)
    other["stem.0.bias"] = other["stem.0.bias"] + 1
    assert Mica(tensors).key == Mica(dict(tensors)).key != Mica(other).key
    assert Mica(tensors).key.startswith("mica-")


def test_no_cell_looks_further_than_the_halo(tensors: Tensors) -> None:
    """With positive weights and intensities every pixel that can have an influence has one."""
    net = Mica({name: tensor.abs().float() + 0.001 for name, tensor in tensors.items()})
    image = (1 + noise(3, 512, 512).double()).requires_grad_()
    net._net.double()
    for level, f in net(image).items():
        for cell in (256 // level.stride, 256 // level.stride + 1):
            (influence,) = torch.autograd.grad(f[:, cell, cell].sum(), image, retain_graph=True)
            reach = (influence.abs().sum((0, 1)) > 0).nonzero()
            covered = cell * level.stride, (cell + 1) * level.stride - 1
            furthest = max(covered[0] - int(reach[0]), int(reach[-1]) - covered[1])
            assert furthest <= net.halo
            assert level.stride not in (2, 8) or furthest > net.halo - 32  # no wider than it must be


def test_a_tile_has_the_features_of_its_image(mica: Mica) -> None:
    whole, tiled = (FeatureExtractor(mica, tile_values=values) for values in (1 << 22, 1 << 18))
    image = (255 * noise(1, 700, 640)[0].numpy()).astype(np.uint8)
    expected = whole(image).features
    opened = tiled.open(Pixels(image, "image"))
    assert len(opened.tiles) > 1
    for tile in opened.tiles:
        pyramid = opened.pyramid(tile)
        for level, f in pyramid.features.items():
            inner = tuple(slice(s.start // level.stride, s.stop // level.stride) for s in tile.inner)
            core = tuple(slice(s.start // level.stride, s.stop // level.stride) for s in tile.core)
            a, b = f[:, inner[0], inner[1]].float(), expected[level][:, core[0], core[1]].float()
            height, width = (min(x, y) for x, y in zip(a.shape[1:], b.shape[1:], strict=True))
            torch.testing.assert_close(a[:, :height, :width], b[:, :height, :width], rtol=5e-3, atol=5e-3)


def test_it_bears_to_work_in_half_precision(mica: Mica) -> None:
    image = noise(1, 64, 64)
    with torch.inference_mode():
        expected = mica(image)
        with torch.autocast("cpu", torch.bfloat16):
            features = mica(image)
    assert mica.mixed_precision
    for level, f in features.items():
        assert (f.float() - expected[level]).abs().max() < 0.05 * expected[level].abs().max()


def test_weights_that_do_not_fit_are_told_of(tensors: Tensors) -> None:
    with pytest.raises(WeightsError, match=r"weights of mica are not for this version .*napari-fewshot train"):
        Mica({name: tensor for name, tensor in tensors.items() if name != "stem.0.bias"})
    with pytest.raises(WeightsError, match="size mismatch"):
        Mica({**tensors, "stem.0.bias": torch.zeros(3)})


# ---------------------------------------------------------------------------- where weights come from
def put(folder: Path, tensors: Tensors, name: str = "tiny-v1") -> Path:
    """A folder of shipped weights: a file, and its card in the index."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.safetensors"
    save_file(tensors, file)
    card = {"name": name, "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (folder / "index.json").write_text(json.dumps({"version": 1, "weights": [card]}))
    return file


def test_shipped_weights_are_read_once_their_hash_is_right(tensors: Tensors, tmp_path: Path) -> None:
    file = put(tmp_path, tensors)
    assert Mica(shipped("tiny-v1", tmp_path)).key == Mica(tensors).key
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"tiny-v1\.safetensors is not the file that its card describes"):
        shipped("tiny-v1", tmp_path)
    file.unlink()
    with pytest.raises(WeightsError, match=r"cannot be read .*install napari-fewshot again"):
        shipped("tiny-v1", tmp_path)
    with pytest.raises(WeightsError, match="has no weights 'tiny-v2'"):
        shipped("tiny-v2", tmp_path)


def test_a_pickle_is_never_opened_even_with_the_right_hash(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (pytest.fail, ("unpickled",))

    file = put(tmp_path, {"a": torch.zeros(1)})
    torch.save(Trap(), file)
    index = json.loads((tmp_path / "index.json").read_text())
    index["weights"][0]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        shipped("tiny-v1", tmp_path)


@pytest.fixture
def own(tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with weights called ``lung``."""
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(tmp_path))
    save_file(tensors, tmp_path / "lung.safetensors")
    return tmp_path / "lung.safetensors"


def test_weights_of_one_s_own_are_a_backbone(own: Path, tensors: Tensors) -> None:
    assert make("mica:lung").key == Mica(tensors).key
    card = backbone_card("mica:lung")
    assert card.home == "mica:make" and card.needs_weights
    source = weights_source("mica:lung")
    assert source is not None and stock.locate(source) == own


def test_they_are_compared_with_the_card_beside_them(own: Path) -> None:
    card = own.with_suffix(".json")
    card.write_text(json.dumps({"sha256": hashlib.sha256(own.read_bytes()).hexdigest()}))
    assert read_own(own)
    card.write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="copy both files again"):
        make("mica:lung")
    card.write_text("no card")
    with pytest.raises(WeightsError, match=r"lung\.json cannot be read"):
        make("mica:lung")


def test_weights_that_are_nowhere_are_asked_for(own: Path) -> None:
    with pytest.raises(WeightsError, match=r"mica:liver; put your own, named liver\.safetensors"):
        make("mica:liver")


def test_a_method_finds_easy_objects_with_it(own: Path) -> None:
    def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:96, :96]
        centre = rng.uniform(25, 70, 2)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 18**2
        return np.where(disc, 0.8, 0.2) + 0.05 * rng.standard_normal((96, 96)), disc.astype(np.int32)

    image, labels = scene(0)
    concept = load_segmenter("ridge", backbone="mica:lung", device="cpu").learn(
        SupportSet([Shot(Frame("a", image), labels)])
    )
    image, labels = scene(1)
    found = concept.propose(Frame("b", image)).labels == 1
    assert (found & (labels == 1)).sum() / (found | (labels == 1)).sum() > 0.8
