"""Training on a graphics card: on a real one, or on an emulated one where there is none."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_fewshot import list_segmenters
from napari_fewshot.models.devices import moved
from napari_fewshot.models.loading import load_backbone
from napari_fewshot.training.bank import BankEpisodes, BankSettings, FeatureBank, open_bank
from napari_fewshot.training.course import Course, start_engine
from napari_fewshot.training.heads import HeadSettings, HeadTraining
from napari_fewshot.training.products import untrained
from napari_fewshot.training.recipe import read_recipe
from napari_fewshot.training.sources import gather
from tests.emulated_card import emulated_card

STAGES = {
    "backbone": (
        'kind = "distil"\nteacher = "mobilenet_v2"\nbatch = 2',
        'kind = "episodes"\nteacher = "mobilenet_v2"\nothers = 2\nother_size = 32',
    ),
    "head": ('kind = "head"\nmethod = "pfenet"\ngroups = 1\ncrops = 3\nmost_shots = 2\nbatch = 1',),
    "objects": ('kind = "objects"\ncrops = 2\nbatch = 2',),
}

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def card() -> Iterator[None]:
    with nullcontext() if torch.cuda.is_available() else emulated_card():
        yield


@pytest.fixture(scope="module")
def bank(data_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    folder, settings = tmp_path_factory.mktemp("bank") / "b", BankSettings(groups=1, crops=3, size=32)
    return open_bank(folder, settings, load_backbone("mica"), lambda: gather(data_sets, 1.0, 0.0, 0, 1, 1), 1)


@pytest.mark.parametrize("method", [card.name for card in list_segmenters() if card.head])
def test_the_losses_of_a_head_and_their_slopes_agree_with_the_cpu(method: str, bank: FeatureBank) -> None:
    batch = BankEpisodes(bank, 1, 2)(np.random.default_rng(3))
    losses, slopes = [], []
    for device in ("cuda", "cpu"):
        torch.manual_seed(0)
        made, _ = untrained(HeadSettings(method))
        module = HeadTraining(made, bank.levels).to(device)
        found = module(moved(batch, device))
        total = torch.stack(list(found.values())).sum()
        total.backward()
        gradients = [p.grad for p in module.head.parameters() if p.grad is not None]
        assert gradients and all(gradient.device == total.device for gradient in gradients)
        losses.append({name: value.item() for name, value in found.items()})
        slopes.append(sum(float(gradient.square().sum()) for gradient in gradients))
    assert total.device.type == "cpu" and losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert slopes[0] == pytest.approx(slopes[1], rel=5e-2) and slopes[0] > 0


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize("product", STAGES)
def test_a_course_ends_with_weights(product: str, data_sets: Path, numbered: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    stages = "".join(f"[[stages]]\n{kind}\nsteps = 1\nsize = 32\n" for kind in STAGES[product])
    file.write_text(f'name = "mine"\n[pictures]\nreal = 1\nbundled = 0\nworlds = 0\n{stages}')
    course = Course(read_recipe(file), tmp_path / "out", numbered if product == "objects" else data_sets, workers=0)
    engine = start_engine("cuda", precision="32-true" if product == "backbone" else "16-mixed")
    assert engine.device.type == "cuda"
    reports = [progress.report for progress in course.run(engine)]
    assert len(reports) == len(STAGES[product])
    assert all(np.isfinite(value) for report in reports for value in report.losses.values())
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(course.weights).values())
