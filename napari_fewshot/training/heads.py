"""A kind of stage: the head of a method, on features of a backbone that stays as it is.

One trainer for all of them: what is learnt is the method's business (`TrainedMethod.loss`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.loading import trained_method
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.trained import Episode, TrainedMethod
from napari_fewshot.models.registry import backbone_card
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.training.bank import BankEpisodes, BankSettings, Drawn, bank_name, open_bank
from napari_fewshot.training.products import HEAD, untrained
from napari_fewshot.training.stages import Bench, Ready, StageKind


@dataclass(frozen=True)
class HeadSettings:
    """What a recipe says of a head.

    Attributes
    ----------
    method
        Name of the method that it belongs to.
    backbone
        On whose features.
    part
        Name of the part of the head that is learnt, while the rest stays as it is; "" for all of it. For methods that
        are trained in several stages.
    batch
        Episodes per step and process.
    most_shots
        1 to so many shots in an episode.
    ways
        1 to so many classes in an episode.
    groups, crops, size
        Kinds of crops that episodes are drawn from, how many of each, and their size in pixels; a multiple of 16. Heads
        whose recipes agree in these, in the backbone, the pictures and the seed share one bank of features.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    """

    method: str
    backbone: str = "mica"
    part: str = ""
    batch: int = 4
    most_shots: int = 5
    ways: int = 1
    groups: int = 400
    crops: int = 6
    size: int = 160

    def __post_init__(self) -> None:
        trained_method(self.method)
        backbone_card(self.backbone)
        if min(self.batch, self.most_shots, self.ways, self.groups) < 1:
            raise SettingsError("batch, most_shots, ways and groups must be 1 or more")
        if self.crops <= self.most_shots:
            raise SettingsError(f"crops is {self.crops}; give more than the {self.most_shots} of most_shots")
        if self.size < 32 or self.size % 16:
            raise SettingsError(f"size is {self.size}; give a multiple of 16, from 32 on")

    @property
    def bank(self) -> BankSettings:
        """What the bank depends on."""
        return BankSettings(self.groups, self.crops, self.size)


class HeadTraining(nn.Module):
    """The losses of a head on a batch of episodes.

    Parameters
    ----------
    method
        With the head.
    levels
        Of the features that episodes bring.
    """

    def __init__(self, method: TrainedMethod[Any, Any], levels: tuple[Level, ...]) -> None:
        super().__init__()
        self.head = method.head
        self._method = method
        self._levels = levels

    def forward(self, batch: tuple[Tensor, list[Drawn]]) -> dict[str, Tensor]:
        """Return the losses, each averaged over the episodes that have it."""
        seed, episodes = batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))  # of dropout, say: the same after a stop
            losses = [self._method.loss(as_episode(drawn, self._levels)) for drawn in episodes]
        names = dict.fromkeys(name for each in losses for name in each)
        return {name: torch.stack([each[name] for each in losses if name in each]).mean() for name in names}


def as_episode(drawn: Drawn, levels: tuple[Level, ...]) -> Episode:
    """Put together what was drawn from a bank."""
    labels, size = drawn[0], (drawn[0].shape[-2], drawn[0].shape[-1])
    pyramids = [
        FeaturePyramid(dict(zip(levels, features, strict=True)), size) for features in zip(*drawn[1:], strict=True)
    ]
    shots = [SupportFeatures.whole(p, known, f"{i}") for i, (p, known) in enumerate(zip(pyramids, labels, strict=True))]
    classes = sorted({int(v) for v in labels[:-1].unique()} - {BACKGROUND, UNLABELLED})
    return Episode(tuple(shots[:-1]), pyramids[-1], labels[-1], tuple(classes))


def prepare(settings: HeadSettings, bench: Bench) -> Ready:
    """Set the stage up: the bank where it is missing, and the head as the stage before left it."""
    method, backbone = untrained(settings)
    state: Mapping[str, Tensor] = bench.begin().state_dict()
    method.head.load_state_dict(state)
    if settings.part:
        _freeze_all_but(settings.part, method.head)
    folder = bench.shared / bank_name(settings.bank, backbone.key, bench.origin, bench.seed)
    bank = open_bank(folder, settings.bank, backbone, bench.sources, bench.seed, str(bench.device))
    draws = BankEpisodes(bank, settings.batch, settings.most_shots, settings.ways)
    return Ready(HeadTraining(method, bank.levels), method.head, draws)


def _freeze_all_but(part: str, head: nn.Module) -> None:
    names = [name for name, _ in head.named_children()]
    if part not in names:
        raise SettingsError(f"part is '{part}'; give one of: {', '.join(names)}")
    for name, child in head.named_children():
        child.requires_grad_(name == part)


KIND: Final = StageKind(HeadSettings, prepare, HEAD)
