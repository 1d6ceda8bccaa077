"""What training starts from, small: a teacher that knows nothing, and two data sets of a few tiny images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from skimage import io

from napari_fewshot.models.weights import FOLDER_VARIABLE


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights for ``mobilenet_v2``: random ones."""
    folder = tmp_path_factory.mktemp("teachers")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(torchvision.models.mobilenet_v2().state_dict(), folder / "mobilenet_v2.safetensors")
    return folder


@pytest.fixture
def teacher(teachers: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, found by its backbone's name."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(teachers))
    return teachers


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on noise, gray with a card; and the same in colour as TIFF, without one."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, suffix, channels in (("gray", ".png", ()), ("colour", ".tif", (3,))):
        for kind in ("images", "labels"):
            (root / name / kind).mkdir(parents=True)
        for number in range(3):
            labels = np.zeros((48, 64), np.uint8)
            labels[10 + 4 * number : 30, 20:40] = 1
            labels[:4] = 255
            image = rng.integers(0, 60, (48, 64, *channels)) + 150 * (labels == 1).reshape(
                48, 64, *(1,) * len(channels)
            )
            io.imsave(root / name / "images" / f"{number}{suffix}", image.astype(np.uint8), check_contrast=False)
            io.imsave(root / name / "labels" / f"{number}{suffix}", labels, check_contrast=False)
    meta = {"licence_data": "CC0 1.0", "source_repo": "example.org/gray"}
    (root / "gray" / "meta.json").write_text(json.dumps(meta))
    return root


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of discs that touch, one of them without numbers."""
    root = tmp_path_factory.mktemp("data")
    y, x = np.mgrid[:80, :96]
    ids = np.zeros((80, 96), np.uint16)
    for number in range(20):
        row, column = 8 + 16 * (number // 5), 10 + 18 * (number % 5)
        ids[(y - row) ** 2 + (x - column) ** 2 < 70] = 300 + number
    for kind in ("images", "labels", "instances"):
        (root / "discs" / kind).mkdir(parents=True)
    for name in "ab":
        io.imsave(
            root / "discs" / "images" / f"{name}.png",
            (30 + 150 * (ids > 0) + ids % 7).astype(np.uint8),
            check_contrast=False,
        )
        io.imsave(root / "discs" / "labels" / f"{name}.png", (ids > 0).astype(np.uint8), check_contrast=False)
    io.imsave(root / "discs" / "instances" / "a.png", ids, check_contrast=False)
    return root
