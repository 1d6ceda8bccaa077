"""Learning to see from a teacher: a small network predicts the features of a large one, from random initialisation.

Teacher and student look at the same heavily changed crop (Beyer et al., CVPR 2022, "A good teacher is patient and
consistent"), so that few pictures give many different inputs (Asano & Saeed, ICLR 2023). What the student predicts
are the teacher's levels, standardised, through one linear map each; these maps are thrown away afterwards.
No number of the teacher's is copied. The finest levels learn hand-made features as well: Gaussian derivative jets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.mica import STRIDES, WIDTHS, MicaNet, normalised
from napari_fewshot.models.backbones.scale_space import jets_of
from napari_fewshot.models.backbones.torchvision_trunks import TRUNKS, TorchvisionTrunk
from napari_fewshot.training.augmentation import blend_mask, change, crop, draw_look, draw_view
from napari_fewshot.training.products import MICA
from napari_fewshot.training.sources import Sources
from napari_fewshot.training.stages import Bench, Ready, StageKind

_JETS: Final = {1: 15, 2: 14}
"""Hand-made features of the finest strides."""

_JET_SHARE: Final = 4
"""One crop in so many is compared with them: they are slow."""

_JET_WEIGHT: Final = 0.3


@dataclass(frozen=True)
class DistilSettings:
    """What a recipe says of this stage.

    Attributes
    ----------
    teacher
        Backbone of torchvision, whose weights are found like anywhere else; see `models.weights`.
    batch
        Crops per step and process.
    size
        Of the crops, in pixels; a multiple of 16.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    """

    teacher: str = "resnet18"
    batch: int = 12
    size: int = 160

    def __post_init__(self) -> None:
        if self.teacher not in TRUNKS:
            raise SettingsError(f"there is no teacher '{self.teacher}'; choose one of: {', '.join(TRUNKS)}")
        if self.batch < 2:
            raise SettingsError(f"batch is {self.batch}; give 2 or more, so that crops can be laid over each other")
        if self.size < 2 * STRIDES[-1] or self.size % STRIDES[-1]:
            raise SettingsError(f"size is {self.size}; give a multiple of {STRIDES[-1]}, from {2 * STRIDES[-1]} on")


class Distillation(nn.Module):
    """The student with a linear map from each level to the teacher's level of the same stride.

    Parameters
    ----------
    net
        The student.
    teacher
        Frozen, on the CPU; it may be moved to where the losses will be computed afterwards.
    """

    def __init__(self, net: MicaNet, teacher: TorchvisionTrunk) -> None:
        super().__init__()
        self.net = net
        self._teacher = teacher
        with torch.inference_mode():
            levels = teacher.batch(torch.zeros(1, 3, STRIDES[-1], STRIDES[-1]))
        channels = {level.stride: f.shape[1] for level, f in levels.items() if level.stride in STRIDES}
        self.predict = nn.ModuleDict({str(s): nn.Conv2d(_width(s), c, 1) for s, c in channels.items()})
        standard = {str(s): nn.BatchNorm2d(c, affine=False, momentum=0.01) for s, c in channels.items()}
        self.targets = nn.ModuleDict(standard)
        self.jets = nn.ModuleDict({str(s): nn.Conv2d(_width(s), c, 1) for s, c in _JETS.items()})

    def take_along(self, before: Mapping[str, Tensor]) -> None:
        """Go on with the maps of an earlier stage, if they lead to the same teacher's levels.

        Parameters
        ----------
        before
            Named tensors of a module that was, or had, a `Distillation`.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("net.")}
        found = {name: t for name in own for other, t in before.items() if f".{other}".endswith(f".{name}")}
        if found.keys() == own.keys() and all(found[name].shape == own[name].shape for name in own):
            self.load_state_dict(found, strict=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the losses for crops (B, 3, S, S) in about [0, 1]."""
        return self.compared(images, dict(zip(STRIDES, self.net(normalised(images)), strict=True)))

    def compared(self, images: Tensor, levels: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Return the losses for crops whose levels (B, C, S / s, S / s) the network has made already."""
        losses = {}
        for stride, target in self._taught(images).items():
            wanted = self.targets[str(stride)](target.float())
            given = self.predict[str(stride)](levels[stride]).float()
            cosine = F.cosine_similarity(given, wanted, dim=1).mean()
            losses[f"stride {stride}"] = F.smooth_l1_loss(given, wanted) + 1 - cosine
        some = images[: max(1, len(images) // _JET_SHARE)].float()
        for stride in _JETS:
            given = self.jets[str(stride)](levels[stride][: len(some)]).float()
            losses[f"jets {stride}"] = _JET_WEIGHT * F.smooth_l1_loss(given, jets_of(some.mean(1), stride))
        return losses

    @torch.no_grad()
    def _taught(self, images: Tensor) -> dict[int, Tensor]:
        """Features (B, C, S / s, S / s) of the teacher at each stride."""
        made = self._teacher.batch(images.clamp(0, 1))
        return {level.stride: f for level, f in made.items() if str(level.stride) in self.predict}


def _width(stride: int) -> int:
    return WIDTHS[STRIDES.index(stride)]


class DistillationCrops:
    """Batches of crops; of some, a part lies over another."""

    def __init__(self, sources: Sources, batch: int, size: int) -> None:
        self.sources = sources
        self.batch = batch
        self.size = size

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw one batch (B, 3, S, S)."""
        crops = []
        for _ in range(self.batch):
            image, _ = crop(self.sources.draw(rng), draw_view(rng), self.size)
            crops.append(change(image, draw_look(rng), rng))
        images = torch.stack(crops).contiguous(memory_format=torch.channels_last)
        for i in range(self.batch):
            if rng.random() < 0.35:
                over = blend_mask(rng, self.size)
                images[i] = torch.where(over, images[i], images[(i + 1) % self.batch])
        return images


def prepare(settings: DistilSettings, bench: Bench) -> Ready:
    """Set the stage up."""
    teacher = TorchvisionTrunk(settings.teacher)
    net = bench.begin()
    module = Distillation(net, teacher).to(memory_format=torch.channels_last)
    teacher.to(str(bench.device))
    module.take_along(bench.before)
    return Ready(module, net, DistillationCrops(bench.sources(), settings.batch, settings.size))


KIND: Final = StageKind(DistilSettings, prepare, MICA)
