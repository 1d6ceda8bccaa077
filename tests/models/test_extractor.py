"""Backbones, extractor and cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.frames import Pixels
from napari_fewshot.imaging.intensity import is_colour, to_unit_range
from napari_fewshot.models import list_backbones, load_segmenter
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.backbones.scale_space import ScaleSpace
from napari_fewshot.models.backbones.torchvision_trunks import TRUNKS, TorchvisionTrunk, three_channels
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.devices import choose_device
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.weights import FOLDER_VARIABLE, read_weights, shipped_folder


def blob(sigma: float, size: int = 128) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.exp(-(x**2 + y**2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("size", [(16, 16), (17, 50), (64, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_have_the_shapes_that_they_announce(size: tuple[int, int], channels: int) -> None:
    image = np.random.default_rng(0).random((*size, channels)).astype(np.float32)
    pyramid = FeatureExtractor(ScaleSpace())(image)
    assert pyramid.size == size
    for level, features in pyramid.features.items():
        expected = tuple((s + 15) // 16 * 16 // level.stride for s in size)
        assert features.shape == ((15 if level.stride == 1 else 14) * channels, *expected)
        assert torch.isfinite(features).all()


def test_scale_space_measures_a_blob_at_its_own_scale() -> None:
    """-sigma^2 Hess has its largest response, in the middle of a blob, where sigma is the blob's (Lindeberg 1998)."""
    image = torch.from_numpy(blob(8.0))[None]
    responses = {}
    for level, f in ScaleSpace()(image).items():
        first = 1 if level.stride == 1 else 0  # past the raw intensity
        middle = f.shape[-1] // 2
        for i, sigma in enumerate((1, 2)):
            responses[level.stride * sigma] = -f[first + 7 * i + 2, middle, middle].item()
    best = max(responses, key=lambda s: responses[s])
    assert best in (8, 16)
    assert all(r > 0 for r in responses.values())


def test_scale_space_turns_with_the_image() -> None:
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    turned = {level: f.rot90(1, (1, 2)) for level, f in ScaleSpace()(image).items()}
    for level, f in ScaleSpace()(image.rot90(1, (1, 2))).items():
        torch.testing.assert_close(f, turned[level], atol=1e-4, rtol=1e-3)


def test_features_do_not_depend_on_gain_and_offset_of_the_image() -> None:
    image = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    a, b = FeatureExtractor(ScaleSpace())(image), FeatureExtractor(ScaleSpace())(300 * image - 70)
    for level in a.levels:
        torch.testing.assert_close(a.features[level], b.features[level], atol=1e-3, rtol=1e-3)


def test_colour_keeps_its_balance_and_fluorescence_does_not() -> None:
    rng = np.random.default_rng(0)
    colour = np.stack([rng.integers(0, 200, (32, 32)), rng.integers(0, 50, (32, 32)), np.zeros((32, 32))], -1)
    assert is_colour(colour.astype(np.uint8)) and not is_colour(colour.astype(np.uint16))
    assert to_unit_range(colour.astype(np.uint8)).max((1, 2)).tolist() == pytest.approx([1, 0.25, 0], abs=0.02)
    assert to_unit_range(colour.astype(np.uint16)).max((1, 2)).tolist() == pytest.approx([1, 1, 0], abs=0.02)


def test_a_hot_pixel_does_not_darken_the_image() -> None:
    image = np.random.default_rng(0).integers(100, 200, (128, 128)).astype(np.uint16)
    image[5, 5] = 65535
    assert np.median(to_unit_range(image)) > 0.4
    assert to_unit_range(image).max() == 2


def test_constant_images_are_recognised() -> None:
    extractor = FeatureExtractor(ScaleSpace())
    one_hot_pixel = np.zeros((32, 32), np.uint8)
    one_hot_pixel[3, 4] = 1
    assert extractor.open(Pixels(np.full((32, 32, 3), (1, 2, 3)), "")).is_constant
    assert not extractor.open(Pixels(one_hot_pixel, "")).is_constant
    assert not to_unit_range(np.full((32, 32), 9)).any()


def test_an_image_goes_through_the_backbone_once() -> None:
    class Counting(ScaleSpace):
        calls = 0

        def __call__(self, image: torch.Tensor) -> dict[Level, torch.Tensor]:
            Counting.calls += 1
            return super().__call__(image)

    extractor = FeatureExtractor(Counting())
    image = np.random.default_rng(0).random((32, 32))
    first = extractor(image)
    assert extractor(image.copy()).features[Level(1)] is first.features[Level(1)]
    extractor(image + 1)
    assert Counting.calls == 2


def pyramid_of(kilobytes: int) -> FeaturePyramid:
    return FeaturePyramid({Level(1): torch.zeros(kilobytes, 16, 16)}, (16, 16))


def test_the_cache_gives_up_what_was_used_longest_ago() -> None:
    cache = FeatureCache(limit=3 * 1024)
    for name in "abc":
        cache.put(name, pyramid_of(1))
    cache.get("a")
    cache.put("d", pyramid_of(1))
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
    assert cache.size == 3 * 1024
    cache.put("huge", pyramid_of(4))
    assert cache.get("huge") is None and cache.get("a") is not None
    cache.put("a", pyramid_of(2))
    assert cache.size <= 3 * 1024
    cache.clear()
    assert cache.size == 0 and cache.get("d") is None


def test_unknown_names_get_the_list_of_known_ones() -> None:
    with pytest.raises(SettingsError, match="choose one of: auto, ridge, logistic, panet"):
        load_segmenter("magic")
    with pytest.raises(SettingsError, match="choose one of: mica, scale-space"):
        load_segmenter(backbone="magic")
    with pytest.raises(SettingsError, match="choose auto or one of: cpu"):
        choose_device("abacus")
    assert choose_device("cpu") == "cpu"


def test_every_trunk_has_a_card() -> None:
    assert {card.name for card in list_backbones() if card.needs_weights} == set(TRUNKS)


@pytest.mark.parametrize("name", TRUNKS)
def test_trunks_make_the_levels_that_they_announce(name: str) -> None:
    """The architecture only: random weights are made here and passed in, the package never does so."""
    import torchvision

    net = getattr(torchvision.models, name)()
    trunk = TorchvisionTrunk(name, net.state_dict())
    for level, f in trunk(torch.rand(1, 32, 48)).items():
        assert f.shape[-2:] == (32 // level.stride, 48 // level.stride)
    if name.startswith("resnet"):  # the levels are those of the whole network
        x = torch.rand(1, 3, 32, 48)
        net.eval()
        with torch.inference_mode():
            whole = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x))))))
        mean, std = trunk._mean, trunk._std
        level = Level(8, "corner")
        scaled = trunk._scales[trunk.levels.index(level)] * whole[0]
        torch.testing.assert_close(trunk(x[0] * std + mean)[level], scaled, atol=1e-4, rtol=1e-4)


def test_real_features_of_every_backbone_have_about_unit_size(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skimage import data

    monkeypatch.setenv(FOLDER_VARIABLE, str(shared_data / "weights"))
    for backbone in (ScaleSpace(), TorchvisionTrunk("resnet18")):
        for features in FeatureExtractor(backbone)(data.camera()).features.values():
            assert 0.4 < features.float().flatten(1).std(1).mean().item() < 2.5


def test_any_number_of_channels_becomes_three() -> None:
    for n in (1, 2, 3, 4, 7):
        planes = torch.rand(n, 4, 4)
        assert three_channels(planes).shape == (3, 4, 4)
        torch.testing.assert_close(three_channels(planes.expand(n, 4, 4) * 0 + 1), torch.ones(3, 4, 4))


def test_without_weights_there_is_no_trunk_but_a_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("napari_fewshot.models.downloads.urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(WeightsError, match=r"resnet18.*NAPARI_FEWSHOT_WEIGHTS.*scale-space"):
        load_segmenter("panet", backbone="resnet18", device="cpu")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="not a folder"):
        load_segmenter("panet", backbone="resnet18", device="cpu")


def test_damaged_or_foreign_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "resnet18.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(WeightsError, match="download it again"):
        load_segmenter("panet", backbone="resnet18", device="cpu")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match="do not fit resnet18"):
        load_segmenter("panet", backbone="resnet18", device="cpu")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "weights.pth")
    torch.save(Bomb(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "weights.pth")
    assert not (tmp_path / "exploded").exists()


def test_shipped_weights_are_found() -> None:
    assert (shipped_folder() / "index.json").is_file()


def test_real_resnet_weights_from_a_folder_beat_the_image_itself(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of one kind in natural images: PANet on ImageNet features finds a lesion that intensity does not."""
    from skimage import io

    from napari_fewshot import Frame, Shot, SupportSet

    monkeypatch.setenv(FOLDER_VARIABLE, str(shared_data / "weights"))
    segmenter = load_segmenter("panet", backbone="resnet18", device="cpu")
    folder = shared_data / "data" / "dev" / "weizmann_horse"
    names = sorted(p.name for p in (folder / "images").glob("*.png"))[:6]
    images = [io.imread(folder / "images" / n)[..., :3] for n in names]
    labels = [(io.imread(folder / "labels" / n) == 1).astype(np.int32) for n in names]
    concept = segmenter.learn(
        SupportSet(Shot(Frame(n, i), m) for n, i, m in zip(names[:3], images, labels, strict=False))
    )
    ious = []
    for name, image, truth in zip(names[3:], images[3:], labels[3:], strict=True):
        guess = concept.propose(Frame(name, image)).labels
        ious.append(((guess == 1) & (truth == 1)).sum() / ((guess == 1) | (truth == 1)).sum())
    assert np.mean(ious) > 0.45
