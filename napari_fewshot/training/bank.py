"""Features of crops, computed once for all heads that are trained on the same pictures, and episodes drawn from them.

Crops come in groups: of one kind of picture, at about one magnification, with one look. An episode is drawn within a
group. The bank is a folder of arrays that are mapped into memory, so it may be larger than that.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_fewshot.errors import SettingsError
from napari_fewshot.io.atomic import make_folder
from napari_fewshot.models.backbones.base import Backbone, Level
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.training.episodes import class_values, falling, patches, related_crops
from napari_fewshot.training.pictures import PictureSet
from napari_fewshot.training.sources import Sources

INDEX: Final = "bank.json"
"""The file that says what is in a bank."""
_FINEST: Final = 4
"""Stride of the finest level that is kept: finer ones would take most of the room."""

_LEAST: Final = 24
"""Pixels of a class on the support for an episode to ask for it."""

_SAME_PICTURE: Final = 0.2
"""Share of groups that are crops of a single picture."""

_ABSENT: Final = 0.06
"""Share of episodes whose query need not show the class."""

_INVERTED: Final = 0.08
"""Share of episodes in which the background is the class."""

_STROKES: Final = 0.25
"""Share of episodes whose support is labelled in patches only."""

Drawn = tuple[Tensor, ...]
"""Labels (K + 1, S, S) int64, 255 where nothing is known, then features (K + 1, C, h, w) of each level, fine to coarse.
The last one is the query."""


@dataclass(frozen=True)
class BankSettings:
    """How many crops of what size.

    Attributes
    ----------
    groups
        Kinds of crops.
    crops
        Of each kind.
    size
        In pixels.
    """

    groups: int
    crops: int
    size: int


class FeatureBank:
    """A bank that is there.

    Parameters
    ----------
    folder
        Of its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        told = json.loads((folder / INDEX).read_text("utf-8"))
        self.levels = tuple(Level(stride, alignment) for stride, alignment in told["levels"])
        self.crops = int(told["crops"])
        self._labels: npt.NDArray[np.uint8] = np.load(folder / "labels.npy", mmap_mode="r")
        self._features = [np.load(folder / _file(level), mmap_mode="r") for level in self.levels]

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._labels) // self.crops

    def labels(self, group: int) -> Tensor:
        """Labels (crops, S, S) int64 of a group."""
        return torch.from_numpy(self._labels[group * self.crops : (group + 1) * self.crops].astype(np.int64))

    def features(self, group: int, crops: npt.NDArray[np.int64]) -> list[Tensor]:
        """Features (n, C, h, w) of some crops of a group, level by level, in half precision."""
        return [torch.from_numpy(np.array(values[group * self.crops + crops])) for values in self._features]


def open_bank(
    folder: Path,
    settings: BankSettings,
    backbone: Backbone,
    sources: Callable[[], Sources],
    seed: int,
    device: str = "cpu",
) -> FeatureBank:
    """Open the bank in a folder, after filling it where it is not there yet.

    It becomes visible under its name when it is complete.

    Parameters
    ----------
    folder
        See `bank_name`.
    settings
        Of a new one.
    backbone
        Of whose features.
    sources
        Gathers the pictures, if it is called: it is not where the bank is there.
    seed
        Of what is drawn.
    device
        On which features are computed.
    """
    complete(folder, lambda empty: _fill(empty, settings, backbone.to(device), sources().labelled(), seed, device))
    return FeatureBank(folder)


def complete(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill the folder of a bank where it is not there yet; it becomes visible under its name when it is complete.

    Parameters
    ----------
    folder
        Of the bank, with its `INDEX`.
    fill
        Makes the folder that it is given, and writes the files.
    """
    if (folder / INDEX).is_file():
        return
    make_folder(folder.parent)
    partial = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.partial")
    try:
        fill(partial)
        if not folder.exists():  # somebody else may have been faster: theirs is the same
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def bank_name(settings: BankSettings, backbone_key: str, origin: str, seed: int) -> str:
    """Name for the folder of a bank, by everything that its content depends on."""
    told = repr((asdict(settings), backbone_key, origin, seed, _FINEST, _SAME_PICTURE))
    return f"features-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


@torch.inference_mode()
def _fill(folder: Path, settings: BankSettings, backbone: Backbone, sources: Sources, seed: int, device: str) -> None:
    folder.mkdir()
    levels = [level for level in backbone.levels if level.stride >= _FINEST] or list(backbone.levels[-1:])
    arrays: dict[Level, npt.NDArray[np.float16]] = {}
    total = settings.groups * settings.crops
    shape = (total, settings.size, settings.size)
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, shape)
    for group in range(settings.groups):
        images, known = _draw_group(np.random.default_rng((seed, group)), sources, settings)
        for number, image in enumerate(images, group * settings.crops):
            made = backbone(image.to(device))
            for level in levels:
                features = made[level].cpu().half().numpy()
                if level not in arrays:
                    file = folder / _file(level)
                    arrays[level] = np.lib.format.open_memmap(file, "w+", np.float16, (total, *features.shape))
                arrays[level][number] = features
        labels[group * settings.crops : (group + 1) * settings.crops] = known.numpy().astype(np.uint8)
    del labels, arrays  # which writes what is left to write
    told = {"levels": [(level.stride, level.alignment) for level in levels], "crops": settings.crops}
    (folder / INDEX).write_text(json.dumps(told), "utf-8")


def _draw_group(rng: np.random.Generator, sources: Sources, settings: BankSettings) -> tuple[Tensor, Tensor]:
    """Crops (n, 3, S, S) and labels (n, S, S), some of which show a class."""
    while True:
        drawn = sources.draw_set(rng)
        if rng.random() < _SAME_PICTURE:
            drawn = PictureSet(drawn.name, (drawn.pictures[rng.integers(len(drawn.pictures))],))
        images, labels = related_crops(drawn, settings.crops, settings.size, rng)
        showing = sum(any(v != BACKGROUND for v in class_values(known)) for known in labels)
        if showing >= min(2, settings.crops):
            return images, labels


def _file(level: Level) -> str:
    return f"stride-{level.stride}.npy"


class BankEpisodes:
    """Draws batches of episodes from a bank; see `Drawn`.

    Parameters
    ----------
    bank
        Where crops come from.
    batch
        Episodes.
    most_shots
        1 to so many shots each, few more often than many.
    ways
        Classes of an episode: 1 to so many, told from everything else.

    Raises
    ------
    SettingsError
        If the bank has too few crops in a group.
    """

    def __init__(self, bank: FeatureBank, batch: int, most_shots: int, ways: int = 1) -> None:
        if most_shots >= bank.crops:
            raise SettingsError(f"most_shots is {most_shots}, but groups have {bank.crops} crops; give more crops")
        self.bank, self.batch, self.most_shots, self.ways = bank, batch, most_shots, ways

    def __call__(self, rng: np.random.Generator) -> tuple[Tensor, list[Drawn]]:
        """Draw a batch, and a number for whatever else is random in a step."""
        return torch.tensor(int(rng.integers(1 << 31))), [self._draw(rng) for _ in range(self.batch)]

    def _draw(self, rng: np.random.Generator) -> Drawn:
        while True:
            drawn = self._try(rng)
            if drawn is not None:
                return drawn

    def _try(self, rng: np.random.Generator) -> Drawn | None:
        """Draw once; None where nothing is to be learnt."""
        group = int(rng.integers(len(self.bank)))
        shots = int(rng.choice(np.arange(1, self.most_shots + 1), p=falling(self.most_shots)))
        chosen = rng.permutation(self.bank.crops)[: shots + 1]
        labels = self.bank.labels(group)[torch.from_numpy(chosen)]
        inverted = rng.random() < _INVERTED
        if inverted:
            labels = torch.where(labels == UNLABELLED, labels, (labels == BACKGROUND).long())
        if rng.random() < _STROKES:
            labels[:shots] = patches(labels[:shots], rng)
        absent = rng.random() < _ABSENT
        offered = [v for v in class_values(labels[:shots]) if v != BACKGROUND and _offered(labels, v, shots, absent)]
        if not offered:
            return None
        wanted = rng.permutation(offered)[: int(rng.integers(1, self.ways + 1))]
        order = torch.zeros(256, dtype=torch.long)  # what is not asked for is background
        order[UNLABELLED] = UNLABELLED
        for new, value in enumerate(wanted, 1):
            order[int(value)] = new
        return (order[labels], *self.bank.features(group, chosen))


def _offered(labels: Tensor, value: int, shots: int, absent: bool) -> bool:
    return int((labels[:shots] == value).sum()) >= _LEAST and (absent or bool((labels[shots:] == value).any()))
