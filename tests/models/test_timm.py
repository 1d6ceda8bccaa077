"""Any model of timm as a backbone: right features at the right place, with the right weights or none at all."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from napari_fewshot import Frame, Shot, SupportSet
from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.models import licence_notice, load_segmenter
from napari_fewshot.models import weights as stock
from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.backbones.timm_models import TimmTrunk, weights_of
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without weights and without internet."""

    def refuse(*_: object) -> None:
        raise OSError("no route to host")

    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setattr(stock, "own_folder", lambda: folder)
    monkeypatch.setattr(stock, "cached_from_hub", lambda *_: None)
    monkeypatch.setattr(stock, "download_from_hub", refuse)
    monkeypatch.delenv(stock.FOLDER_VARIABLE, raising=False)
    return folder


def random_weights(model: str) -> dict[str, Tensor]:
    """The architecture only is tested with these; the package never makes random weights."""
    torch.manual_seed(0)
    weights: dict[str, Tensor] = timm.create_model(model, pretrained=False).state_dict()
    # Residual branches that begin as zero do not stay so when a network is trained.
    return {k: v + 1 if k.endswith("weight") and not v.any() else v for k, v in weights.items()}


def trunk(name: str) -> TimmTrunk:
    return TimmTrunk(f"timm:{name}", random_weights(name.partition("@")[0]))


# ---------------------------------------------------------------------------- levels
@pytest.mark.parametrize(
    ("name", "strides", "alignment", "channels"),
    [
        ("test_resnet", (2, 4, 8, 16), "corner", (32, 32, 48, 192)),
        ("test_efficientnet", (2, 4, 8, 16), "corner", (16, 24, 32, 48)),
        ("test_convnext", (4, 8, 16), "centre", (24, 32, 48)),
        ("test_vit", (16,), "centre", (3 * 64,)),
        ("test_resnet@2,5", (4, 32), "corner", (32, 96)),
        ("test_vit@1,6", (16,), "centre", (2 * 64,)),
        ("test_maxvit@1,2", (2, 4), "corner", (32, 32)),  # takes multiples of its windows only
        ("vit_small_patch14_dinov2@4,8", (14,), "centre", (2 * 384,)),
        ("vit_small_patch16_dinov3@4", (16,), "centre", (384,)),
        ("samvit_base_patch16_224@3", (16,), "centre", (768,)),
    ],
)
def test_a_model_makes_the_levels_that_it_announces(
    name: str, strides: tuple[int, ...], alignment: str, channels: tuple[int, ...]
) -> None:
    made = trunk(name)
    assert made.levels == tuple(Level(stride, alignment) for stride in strides)
    assert set(made.matching_strides) <= set(strides)
    coarsest = strides[-1]
    with torch.inference_mode():
        features = made(torch.rand(1, 3 * coarsest, 5 * coarsest))
    assert tuple(features) == made.levels
    for (level, f), expected in zip(features.items(), channels, strict=True):
        assert f.shape == (expected, 3 * coarsest // level.stride, 5 * coarsest // level.stride)
        assert torch.isfinite(f).all()


def test_patches_of_14_pixels_fit_images_of_any_size() -> None:
    extractor = FeatureExtractor(trunk("vit_small_patch14_dinov2@2"))
    pyramid = extractor(np.random.default_rng(0).random((50, 33, 3)).astype(np.float32))
    assert pyramid.size == (50, 33)
    assert pyramid.features[Level(14)].shape == (384, 4, 3)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_what_a_cell_sees_lies_around_the_place_where_it_is_said_to_be(name: str) -> None:
    """The centroid of the gradient of single cells, over many directions, is where `Level` puts the cell."""
    made = trunk(name)
    image = (0.5 + 0.1 * torch.randn(1, 192, 192, generator=torch.Generator().manual_seed(1))).requires_grad_()
    places = torch.arange(192.0)
    for level, f in made(image).items():
        cell = f.shape[-1] // 2
        seen = torch.zeros(192, 192)
        for seed in range(24):
            direction = torch.randn(len(f), generator=torch.Generator().manual_seed(seed))
            (gradient,) = torch.autograd.grad(direction @ f[:, cell, cell], image, retain_graph=True)
            seen += gradient[0].square()
        expected = level.origin + level.stride * cell
        for axis in (0, 1):
            centroid = (seen.sum(1 - axis) @ places / seen.sum()).item()
            assert centroid == pytest.approx(expected, abs=max(0.5, level.stride / 4)), (level, axis)


def test_a_changed_patch_changes_its_own_cell_most() -> None:
    made = trunk("test_vit")
    image = torch.rand(3, 96, 160, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[:, 32:48, 112:128] = 1 - changed[:, 32:48, 112:128]
    with torch.inference_mode():
        difference = (made(changed)[Level(16)] - made(image)[Level(16)]).norm(dim=0)
    assert divmod(int(difference.argmax()), difference.shape[1]) == (2, 7)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_proposals_are_not_shifted(name: str, own_folder: Path) -> None:
    save_file(random_weights(name), own_folder / f"{name}.safetensors")

    def picture(y: int, x: int) -> tuple[Any, Any]:
        labels = np.zeros((96, 96), np.int32)
        labels[y : y + 32, x : x + 32] = 1
        noise = np.random.default_rng(y).normal(0, 10, labels.shape)
        return (80 + 100 * labels + noise).astype(np.float32), labels

    segmenter = load_segmenter("ridge", backbone=f"timm:{name}", device="cpu")
    assert segmenter.name == f"ridge on timm:{name} (cpu)"
    shots = [Shot(Frame(f"{at}", picture(*at)[0]), picture(*at)[1]) for at in ((16, 16), (40, 30), (20, 50))]
    image, truth = picture(33, 27)
    guess = segmenter.learn(SupportSet(shots)).propose(Frame("new", image)).labels == 1
    assert (guess & (truth == 1)).sum() / (guess | (truth == 1)).sum() > 0.8
    for found, true in zip(np.nonzero(guess), np.nonzero(truth), strict=True):
        assert found.mean() == pytest.approx(true.mean(), abs=1)


def test_position_embeddings_are_resampled_to_the_grid_of_the_image() -> None:
    """The same as a network that is built for images of that size, and given the same weights by timm."""
    weights = random_weights("test_vit")
    weights["pos_embed"] = torch.randn(weights["pos_embed"].shape, generator=torch.Generator().manual_seed(3))
    reference = timm.create_model("test_vit", img_size=(96, 160)).eval()
    reference.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(dict(weights), reference))
    made = TimmTrunk("timm:test_vit@6", weights)
    image = torch.rand(3, 96, 160)
    with torch.inference_mode():
        tokens = reference.forward_features(((image - 0.5) / 0.5)[None])[0, 1:]  # without the class token
        ours = made(image)[Level(16)] / made._scales[0]
    torch.testing.assert_close(ours, tokens.T.reshape(64, 6, 10), atol=1e-4, rtol=1e-3)


def test_levels_are_those_of_the_whole_network_on_normalised_images() -> None:
    weights = random_weights("convnext_atto")
    reference = timm.create_model("convnext_atto", features_only=True, out_indices=(0, 1, 2)).eval()
    reference.load_state_dict(
        {k.replace("stages.", "stages_").replace("stem.", "stem_"): v for k, v in weights.items()}, strict=False
    )
    made = TimmTrunk("timm:convnext_atto", weights)
    image = torch.rand(3, 64, 96)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = reference(((image - mean) / std)[None])
        for f, scale, whole in zip(made(image).values(), made._scales, expected, strict=True):
            torch.testing.assert_close(f / scale, whole[0], atol=1e-4, rtol=1e-3)


def test_features_have_about_unit_size_whatever_the_network() -> None:
    image = torch.from_numpy(np.random.default_rng(0).random((1, 8, 12)).astype(np.float32))
    image = torch.nn.functional.interpolate(image[None], (128, 192), mode="bicubic")[0]
    for name in ("test_resnet", "test_nfnet", "test_vit2"):
        with torch.inference_mode():
            for f in trunk(name)(image).values():
                assert 0.2 < f.std((1, 2)).square().mean().sqrt() < 5


# ---------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_resnt", "did you mean timm:test_resnet"),
        ("qqqq", r"no model 'qqqq'; see timm\.list_models"),
        ("test_vit.nonsense", "no weights 'nonsense' for 'test_vit'; there are: r160_in1k"),
        ("test_vit@", "must end in numbers from 1"),
        ("test_vit@0", "must end in numbers from 1"),
        ("test_vit@a,b", "must end in numbers from 1"),
        ("test_vit@7", "has 6 blocks or stages"),
        ("test_vit_relpos", "does not take images of any size"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused_with_a_hint(name: str, said: str) -> None:
    weights = random_weights(name.partition("@")[0]) if name.startswith("test_vit_") else {}
    with pytest.raises(SettingsError, match=said):
        TimmTrunk(f"timm:{name}", weights)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingsError, match=r'pip install "napari-fewshot\[timm\]"'):
        load_segmenter("ridge", backbone="timm:resnet18", device="cpu")


def test_the_key_tells_model_levels_and_weights_apart() -> None:
    weights = random_weights("test_vit")
    other = weights | {"norm.bias": weights["norm.bias"] + 1}
    keys = {
        TimmTrunk(name, w).key
        for name, w in (("timm:test_vit", weights), ("timm:test_vit@1", weights), ("timm:test_vit", other))
    }
    assert len(keys) == 3
    assert TimmTrunk("timm:test_vit@3,5,6", weights).key in keys  # the default, said in full
    assert all(key.startswith("timm:test_vit.r160_in1k@") for key in keys)


# ---------------------------------------------------------------------------- weights
def test_there_are_never_random_weights() -> None:
    with pytest.raises(WeightsError, match=r"timm:test_vit\.r160_in1k are not on this computer .*no route to host"):
        load_segmenter("ridge", backbone="timm:test_vit", device="cpu")
    weights = random_weights("test_vit")
    del weights["blocks.3.attn.qkv.weight"]
    with pytest.raises(WeightsError, match=r"1 tensor\(s\) missing \(blocks\.3\.attn\.qkv\.weight"):
        TimmTrunk("timm:test_vit", weights)


def test_weights_that_are_not_needed_may_be_missing_or_other() -> None:
    weights = random_weights("test_vit")
    whole = TimmTrunk("timm:test_vit@3", weights)
    trunk_only = {k: v for k, v in weights.items() if not k.startswith(("head.", "blocks.4.", "blocks.5."))}
    few_classes = weights | {"head.weight": torch.zeros(2, 64), "head.bias": torch.zeros(2)}
    image = torch.rand(1, 32, 32)
    for other in (trunk_only, few_classes):
        torch.testing.assert_close(TimmTrunk("timm:test_vit@3", other)(image), whole(image))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks.0.ls1.gamma": torch.ones(64)}, "1 tensor.s. unknown"),
        ({"reg_token": torch.ones(1, 4, 64)}, "1 tensor.s. unknown"),
        ({"blocks.0.norm1.weight": torch.ones(7)}, "size mismatch for blocks.0.norm1.weight"),
    ],
)
def test_weights_of_another_network_are_refused(change: dict[str, Tensor], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        TimmTrunk("timm:test_vit", random_weights("test_vit") | change)


def test_weights_in_the_format_of_their_authors_are_translated() -> None:
    """As ConvNeXt's authors name their tensors."""
    weights = random_weights("convnext_atto")
    names = {
        "stem.": "downsample_layers.0.", ".conv_dw.": ".dwconv.", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2",
        ".blocks.": ".", "head.norm.": "norm.", "head.fc.": "head.",
        **{f"stages.{stage}.downsample": f"downsample_layers.{stage}" for stage in (1, 2, 3)},
    }  # fmt: skip
    theirs = {}
    for key, tensor in weights.items():
        for ours, name in names.items():
            key = key.replace(ours, name)
        theirs[key] = tensor
    assert theirs.keys() != weights.keys()
    image = torch.rand(3, 32, 32)
    expected = TimmTrunk("timm:convnext_atto", weights)(image)
    torch.testing.assert_close(TimmTrunk("timm:convnext_atto", theirs)(image), expected)


@pytest.mark.parametrize(
    ("file", "fits"),
    [
        ("test_vit.safetensors", True),
        ("test_vit.r160_in1k.safetensors", True),
        ("test_vit.other_tag.safetensors", False),
        ("test_vit2.safetensors", False),
    ],
)
def test_a_file_in_the_user_s_folder_is_known_by_model_and_tag(own_folder: Path, file: str, fits: bool) -> None:
    save_file(random_weights("test_vit"), own_folder / file)
    found = stock.locate(weights_of("timm:test_vit"))
    assert found == (own_folder / file if fits else None)


def test_a_file_without_tag_is_not_taken_for_weights_that_are_not_the_default(own_folder: Path) -> None:
    (own_folder / "resnet18.pth").touch()
    assert stock.locate(weights_of("timm:resnet18")) is not None
    assert stock.locate(weights_of("timm:resnet18.tv_in1k")) is None


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet18", ["resnet18.a1_in1k", "apache-2.0", "huggingface.co/timm/resnet18.a1_in1k", "ImageNet"]),
        ("vit_small_patch14_dinov2", ["lvd142m", "apache-2.0"]),
        ("vit_small_patch16_dinov3", ["dinov3-license", "Meta's own terms"]),
        ("convnextv2_atto", ["cc-by-nc-4.0", "non-commercial use only"]),
    ],
)
def test_the_licence_is_told_as_timm_states_it(model: str, said: list[str]) -> None:
    notice = licence_notice(f"timm:{model}@1")
    assert all(words in notice for words in said), notice
    assert ("ImageNet" in notice) == ("in1k" in notice)


def test_a_licence_that_nobody_states_is_not_made_up() -> None:
    models = [m for m in timm.list_pretrained() if timm.get_pretrained_cfg(m).license in (None, "unknown")]
    assert models
    assert "states no licence" in licence_notice(f"timm:{models[0]}")


# ---------------------------------------------------------------------------- real weights
def test_a_real_transformer_finds_horses(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import io

    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(shared_data / "weights"))
    segmenter = load_segmenter("panet", backbone="timm:vit_tiny_patch16_224", device="cpu")
    folder = shared_data / "data" / "dev" / "weizmann_horse"
    names = sorted(p.name for p in (folder / "images").glob("*.png"))[:6]
    images = [io.imread(folder / "images" / n)[..., :3] for n in names]
    labels = [(io.imread(folder / "labels" / n) == 1).astype(np.int32) for n in names]
    shots = [Shot(Frame(n, i), m) for n, i, m in zip(names[:3], images, labels, strict=False)]
    concept = segmenter.learn(SupportSet(shots))
    ious = []
    for name, image, truth in zip(names[3:], images[3:], labels[3:], strict=True):
        guess = concept.propose(Frame(name, image)).labels
        ious.append(((guess == 1) & (truth == 1)).sum() / ((guess == 1) | (truth == 1)).sum())
    assert np.mean(ious) > 0.6


def test_a_transformer_proposes_in_tiles_about_what_it_proposes_in_one_piece(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the same: a tile is all that it sees. The tolerance is that of `TimmTrunk.halo`."""
    from skimage import data
    from skimage.color import rgb2hed

    tissue = data.immunohistochemistry()
    image = np.block([[[tissue], [tissue[:, ::-1]]], [[tissue[::-1]], [tissue[::-1, ::-1]]]])  # (1024, 1024, 3)
    stained = (rgb2hed(image)[..., 2] > 0.05).astype(np.int32)
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(shared_data / "weights"))
    segmenter = load_segmenter("panet", backbone="timm:vit_tiny_patch16_224", device="cpu")
    assert isinstance(segmenter, FeatureSegmenter)
    concept = segmenter.learn(SupportSet([Shot(Frame("a", tissue), stained[:512, :512])]))
    whole = concept.propose(Frame("q", image)).labels
    segmenter.extractor.tile_values = 3 * 700 * 700
    tiled = concept.propose(Frame("q", image)).labels
    assert (tiled == whole).mean() > 0.93
    assert (tiled == stained).mean() > (whole == stained).mean() - 0.01


def test_features_of_real_weights_are_those_of_the_whole_network(shared_data: Path) -> None:
    """Normalised with mean and deviation 0.5, as this network was trained, at the size that it was trained for."""
    weights = stock.read_weights(shared_data / "weights" / "vit_tiny_patch16_224.pth")
    whole = timm.create_model("vit_tiny_patch16_224").eval()
    whole.load_state_dict(weights)
    made = TimmTrunk("timm:vit_tiny_patch16_224@12", weights)
    image = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = whole.forward_features(((image - 0.5) / 0.5)[None])[0, 1:]
        ours = made(image)[Level(16)] / made._scales[0]
    torch.testing.assert_close(ours, tokens.T.reshape(192, 14, 14), atol=2e-3, rtol=1e-3)
