"""The student is compared with what its teacher sees, and with nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.backbones.mica import STRIDES, WIDTHS, MicaNet
from napari_fewshot.models.backbones.scale_space import jets_of
from napari_fewshot.models.weights import FOLDER_VARIABLE
from napari_fewshot.training.distillation import Distillation, DistillationCrops, DistilSettings, prepare
from napari_fewshot.training.pictures import Picture, PictureSet
from napari_fewshot.training.sources import Sources
from napari_fewshot.training.stages import Bench

CHANNELS = {2: 18, 4: 48, 8: 96, 16: 192}
"""Of the teacher: with the 14 jets of stride 2, what the student has."""


class Stripes:
    """A teacher whose features are plain sums of shifted intensities."""

    def batch(self, images: Tensor) -> dict[Level, Tensor]:
        gray = images.mean(1)
        features = {}
        for stride, number in CHANNELS.items():
            kernels = torch.rand(number, 1, stride, stride, generator=torch.Generator().manual_seed(stride))
            features[Level(stride)] = nn.functional.conv2d(gray[:, None], kernels, stride=stride)
        return features


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def module() -> Distillation:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Distillation(MicaNet(), Stripes()).train()


def perfect(images: Tensor) -> dict[int, Tensor]:
    """Levels that hold the teacher's features, standardised, and the jets of the finest strides."""
    levels = {
        level.stride: nn.functional.batch_norm(features, None, None, training=True)
        for level, features in Stripes().batch(images).items()
    }
    gray = images.mean(1)
    levels[2] = torch.cat([levels[2], jets_of(gray, 2)], 1)
    levels[1] = nn.functional.pad(jets_of(gray, 1), (0, 0, 0, 0, 0, 1))
    return levels


def set_identity(mapping: nn.Module, first: int) -> None:
    """Make a linear map that takes channels from ``first`` on as they are."""
    nn.init.zeros_(mapping.bias)
    nn.init.zeros_(mapping.weight)
    for i in range(len(mapping.weight)):
        mapping.weight.data[i, first + i] = 1


def test_a_student_that_sees_what_its_teacher_sees_has_nothing_to_learn(module: Distillation, images: Tensor) -> None:
    for mapping in module.predict.values():
        set_identity(mapping, 0)
    set_identity(module.jets["1"], 0)
    set_identity(module.jets["2"], CHANNELS[2])
    losses = module.compared(images, perfect(images))
    assert set(losses) == {"stride 2", "stride 4", "stride 8", "stride 16", "jets 1", "jets 2"}
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(0, abs=1e-5), name


def test_a_student_that_sees_something_else_has(module: Distillation, images: Tensor) -> None:
    assert [tuple(f.shape[1:]) for f in module.net(images)] == [
        (width, 64 // stride, 64 // stride) for stride, width in zip(STRIDES, WIDTHS, strict=True)
    ]
    losses = module(images)
    assert all(loss.item() > 0.02 for loss in losses.values())


def test_a_few_steps_bring_the_student_closer(module: Distillation, images: Tensor) -> None:
    optimiser = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=3e-3)
    totals = []
    for _ in range(12):
        total = torch.stack(list(module(images).values())).sum()
        totals.append(float(total.detach()))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert totals[-1] < 0.7 * totals[0]


def test_the_teacher_is_no_part_of_what_is_trained_or_kept(teacher: Path) -> None:
    bench = Bench(flat_sources, MicaNet, torch.device("cpu"))
    ready = prepare(DistilSettings(teacher="mobilenet_v2", batch=2, size=32), bench)
    kept = {name.partition(".")[0] for name in ready.module.state_dict()}
    assert kept == {"net", "predict", "targets", "jets"}
    assert ready.module.net is ready.net
    batch = ready.batches(np.random.default_rng(0))
    sum(ready.module(batch).values()).backward()
    assert all(p.grad is not None for p in ready.net.parameters() if p.requires_grad)


@pytest.mark.parametrize("prefix", ["", "distillation."])
def test_a_later_stage_goes_on_with_the_maps_to_the_same_teacher(prefix: str, module: Distillation) -> None:
    before = {f"{prefix}{name}": tensor + 1 for name, tensor in module.state_dict().items()}
    net = {name: tensor.clone() for name, tensor in module.net.state_dict().items()}
    module.take_along(before)
    after = module.state_dict()
    for part in ("predict.2.weight", "targets.16.running_mean", "jets.1.bias"):
        assert torch.equal(after[part], before[f"{prefix}{part}"])
    assert all(torch.equal(value, net[name]) for name, value in module.net.state_dict().items())


def test_maps_to_another_teacher_are_left(module: Distillation) -> None:
    before = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    before["predict.2.weight"] = torch.zeros(5, 32, 1, 1)
    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.take_along(before)
    module.take_along({})
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_a_teacher_without_weights_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fewshot.models import weights

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(weights, "own_folder", lambda: tmp_path)
    monkeypatch.setattr(weights, "torch_folder", lambda: tmp_path)
    monkeypatch.setattr(weights, "download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    bench = Bench(flat_sources, MicaNet, torch.device("cpu"))
    with pytest.raises(WeightsError, match=r"weights of resnet18 are not on this computer .*no network"):
        prepare(DistilSettings(), bench)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"teacher": "resnet19"}, "no teacher 'resnet19'; choose one of: resnet18"),
        ({"batch": 1}, "give 2 or more"),
        ({"size": 100}, "multiple of 16"),
        ({"size": 16}, "from 32 on"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        DistilSettings(**wrong)


# ---------------------------------------------------------------------------- crops
def flat_sources() -> Sources:
    """Two sets of pictures, each of one brightness."""
    sets = [PictureSet(str(v), (Picture(np.full((1, 64, 64), v, np.uint8)),)) for v in (40, 200)]
    return Sources(tuple(sets), (0.5, 0.5))


def test_batches_are_the_same_for_the_same_seed() -> None:
    draw = DistillationCrops(flat_sources(), 3, 32)
    first, again, other = (draw(np.random.default_rng((7, 0, step))) for step in (1, 1, 2))
    assert first.shape == (3, 3, 32, 32) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_parts_of_some_crops_lie_over_others() -> None:
    """Without it a crop of a picture of one brightness has one brightness, but for noise and shading."""
    draw = DistillationCrops(flat_sources(), 4, 32)
    spreads = torch.cat([draw(np.random.default_rng(seed)).std((1, 2, 3)) for seed in range(10)])
    assert 0.1 < (spreads > 0.12).float().mean() < 0.6
