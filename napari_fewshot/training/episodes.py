"""Learning to be fitted: the network is trained through the closed form of the classifier that will stand on it.

An episode is what a user does: a few crops of one kind of image are labelled, wholly or with some patches, and the
rest is to be found on others. Ridge regression on the support's features is solved exactly, and the loss on the query
flows back through the solution into the features (Bertinetto et al., ICLR 2019, R2-D2, here per pixel and with any
number of classes). The teacher's features stay a second aim, so that what few labelled sets do not ask for is kept.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.backbones.mica import STRIDES, normalised
from napari_fewshot.models.backbones.torchvision_trunks import TorchvisionTrunk
from napari_fewshot.models.blocks.resampling import sample
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.training.augmentation import change, crop, draw_look, draw_view
from napari_fewshot.training.distillation import Distillation, DistillationCrops, DistilSettings
from napari_fewshot.training.pictures import PictureSet
from napari_fewshot.training.products import MICA
from napari_fewshot.training.sources import Sources
from napari_fewshot.training.stages import Bench, Ready, StageKind

_LEAST: Final = 24
"""Pixels that a class must have on the support, and one of them on the query, for an episode to ask for it."""

_OWN: Final = 0.75
_FLOOR: Final = 0.08  # as blocks/standardise.py has them for use


@dataclass(frozen=True)
class EpisodesSettings:
    """What a recipe says of episodes.

    Attributes
    ----------
    teacher
        Backbone of torchvision whose features stay a second aim.
    size
        Of the crops of an episode, in pixels; a multiple of 16.
    queries
        Crops to be labelled in an episode.
    most_shots
        Crops to learn from: 1 to so many.
    pixels
        Looked at per label: on every shot, and twice as many on the queries together.
    taught
        Weight of the teacher.
    others, other_size
        Crops of any picture that are compared with the teacher, per episode, and their size.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    """

    teacher: str = "resnet18"
    size: int = 192
    queries: int = 3
    most_shots: int = 5
    pixels: int = 400
    taught: float = 0.5
    others: int = 6
    other_size: int = 160

    def __post_init__(self) -> None:
        DistilSettings(self.teacher, self.others, self.other_size)
        DistilSettings(self.teacher, size=self.size)
        if min(self.queries, self.most_shots, self.pixels) < 1:
            raise SettingsError("queries, most_shots and pixels must be 1 or more")
        if self.taught < 0:
            raise SettingsError(f"taught is {self.taught}; give 0 or more")


EpisodeBatch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Crops (K + Q, 3, S, S), the support first; their labels (K + Q, S, S) int64: 0 background, 1..C, 255 not labelled;
K; and other crops (B, 3, S', S') for the teacher."""


class EpisodeDraws:
    """Draws episodes: one set, K of 1 to 5 crops to learn from, Q to be labelled.

    Parameters
    ----------
    sources
        Those with labels give episodes, all give other crops.
    settings
        How many of what size.
    """

    def __init__(self, sources: Sources, settings: EpisodesSettings) -> None:
        self.sources = sources.labelled()
        self.size = settings.size
        self.queries = settings.queries
        self.most_shots = settings.most_shots
        self.others = DistillationCrops(sources, settings.others, settings.other_size)

    def __call__(self, rng: np.random.Generator) -> EpisodeBatch:
        """Draw one episode."""
        while True:
            episode = self._try(rng)
            if episode is not None:
                return (*episode, self.others(rng))

    def _try(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor] | None:
        """Draw once; None where nothing is to be learnt."""
        drawn = self.sources.draw_set(rng)
        shots = int(rng.choice(np.arange(1, self.most_shots + 1), p=falling(self.most_shots)))
        images, labels = related_crops(drawn, shots + self.queries, self.size, rng)
        merged = _merged(labels, drawn, rng)
        if rng.random() < 0.35:
            merged[:shots] = patches(merged[:shots], rng)
        kept = [value for value in class_values(merged) if _asked_for(merged, value, shots)]
        if len(kept) < 2:
            return None
        order = torch.full((256,), UNLABELLED)
        for new, value in enumerate(kept):
            order[value] = new
        return images, order[merged], torch.tensor(shots)


def related_crops(drawn: PictureSet, number: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw crops of one kind of picture, at about one magnification, with one look.

    Returns
    -------
    images : Tensor
        (number, 3, size, size) in about [0, 1].
    labels : Tensor
        (number, size, size) int64, 255 where nothing is known.
    """
    zoom = float(np.exp(rng.uniform(np.log(0.35), np.log(2))))
    turn = np.pi if rng.random() < 0.5 else 0.3
    look = draw_look(rng)
    images, labels = [], []
    for which in _different(rng, len(drawn.pictures), number):
        view = draw_view(rng, (zoom * 0.8, zoom * 1.25), turn)
        image, known = crop(drawn.pictures[which], view, size)
        images.append(change(image, look, rng))
        labels.append(known)
    return torch.stack(images).contiguous(memory_format=torch.channels_last), torch.stack(labels)


def falling(most: int) -> np.ndarray:
    """Few shots more often than many."""
    weights = 1 / np.arange(1, most + 1)
    return np.asarray(weights / weights.sum())


def _different(rng: np.random.Generator, there: int, wanted: int) -> list[int]:
    """Numbers of pictures, none twice before all were taken."""
    rounds = [rng.permutation(there) for _ in range(-(-wanted // there))]
    return [int(n) for n in np.concatenate(rounds)[:wanted]]


def class_values(labels: Tensor) -> list[int]:
    """Values of labels, ascending, without what is not labelled."""
    return [int(v) for v in labels.unique() if v != UNLABELLED]


def _merged(labels: Tensor, drawn: PictureSet, rng: np.random.Generator) -> Tensor:
    """Now and then ask for one class against everything else."""
    ids = drawn.class_ids
    if len(ids) > 1 and rng.random() < 0.4:
        wanted = int(rng.choice(ids))
        return torch.where(labels == UNLABELLED, labels, (labels == wanted).long())
    return labels


def patches(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Keep labels on a few discs only, as somebody leaves who paints a little of everything."""
    seen = torch.zeros_like(labels, dtype=torch.bool)
    size = labels.shape[-1]
    ys, xs = torch.arange(size)[:, None], torch.arange(size)[None]
    for shot, known in enumerate(labels):
        for value in class_values(known):
            places = (known == value).nonzero()
            for at in rng.integers(len(places), size=int(rng.integers(1, 5))):
                y, x = places[at].tolist()
                radius = float(rng.uniform(2, 9))
                seen[shot] |= ((ys - y) ** 2 + (xs - x) ** 2 <= radius**2) & (known == value)
    return torch.where(seen, labels, UNLABELLED)


def _asked_for(labels: Tensor, value: int, shots: int) -> bool:
    """Whether a label can be learnt from the support; the background also where no query shows it."""
    taught = int((labels[:shots] == value).sum())
    return taught >= _LEAST and (value == BACKGROUND or bool((labels[shots:] == value).any()))


class Episodic(nn.Module):
    """Ridge regression on what the network makes of the support, judged on the query.

    The batch normalisation of the network stands still: the crops of one episode are too much alike to tell means.

    Parameters
    ----------
    distillation
        The network with its teacher, whose loss is added.
    taught
        Weight of that loss.
    pixels
        See `EpisodesSettings`.
    """

    def __init__(self, distillation: Distillation, taught: float = 0.5, pixels: int = 400) -> None:
        super().__init__()
        self.distillation = distillation
        self.taught = taught
        self.pixels = pixels
        self.log_shrinkage = nn.Parameter(torch.tensor(-4.0))
        self.log_sharpness = nn.Parameter(torch.tensor(2.0))

    def train(self, mode: bool = True) -> "Episodic":
        """Switch to training, but for batch normalisation."""
        super().train(mode)
        self.distillation.net.eval()
        return self

    def forward(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """Return the losses of one episode."""
        images, labels, shots = batch[0], batch[1], int(batch[2])
        standard = [_standardised(level.float()) for level in self.distillation.net(normalised(images))]
        classes = [int(v) for v in labels.unique() if v != UNLABELLED]
        taught, weights = self._support(standard, labels[:shots], classes)
        x = torch.cat([features for features, _ in taught])
        y = torch.cat([torch.full((len(f),), classes.index(value)) for f, value in taught]).to(x.device)
        solution = ridge(x, F.one_hot(y, len(classes)).float(), weights, self.log_shrinkage.exp())
        losses = {name: self.taught * value for name, value in self.distillation(batch[3]).items()}
        asked = [self._pixels(standard, shots, labels[shots:], value, 2 * self.pixels) for value in classes]
        total = x.new_zeros(())
        for index, features in enumerate(asked):
            if len(features):
                scores = self.log_sharpness.exp() * (features @ solution[:-1] + solution[-1])
                goal = torch.full((len(features),), index, device=x.device)
                total = total + F.cross_entropy(scores, goal) / sum(1 for each in asked if len(each))
        return {"episode": total, **losses}

    def _support(
        self, standard: list[Tensor], labels: Tensor, classes: list[int]
    ) -> tuple[list[tuple[Tensor, int]], Tensor]:
        """Features of pixels of each label, and what each pixel counts: every label the same."""
        found = [(self._pixels(standard, 0, labels, value, self.pixels * len(labels)), value) for value in classes]
        counts = [torch.full((len(f),), 1 / (len(found) * len(f)), device=f.device) for f, _ in found]
        return found, torch.cat(counts)

    def _pixels(self, standard: list[Tensor], first: int, labels: Tensor, value: int, most: int) -> Tensor:
        """Features (N, D) of up to ``most`` pixels with a label, on images from ``first`` on."""
        which, ys, xs = (labels == value).nonzero(as_tuple=True)
        if len(which) > most:
            some = torch.linspace(0, len(which) - 1, most, device=which.device).round().long()
            which, ys, xs = which[some], ys[some], xs[some]
        parts = []
        for image in range(len(labels)):
            here = which == image
            if here.any():
                levels = [
                    sample(f[first + image], Level(s), ys[here], xs[here])
                    for s, f in zip(STRIDES, standard, strict=True)
                ]
                parts.append(torch.cat(levels, 1))
        return torch.cat(parts) if parts else standard[0].new_zeros((0, sum(f.shape[1] for f in standard)))


def _standardised(features: Tensor) -> Tensor:
    """Bring (B, C, h, w) close to mean 0 and deviation 1 on every image, as is done for use."""
    mean, deviation = features.mean((2, 3), keepdim=True), features.var((2, 3), keepdim=True, correction=0)
    return (features - _OWN * mean) * (deviation.clamp_min(1e-8).sqrt() + _FLOOR) ** -_OWN


def ridge(x: Tensor, y: Tensor, weights: Tensor, shrinkage: Tensor) -> Tensor:
    """(X^T D X + lambda I)^-1 X^T D Y for (N, D) features with a constant joined to them: (D + 1, 1 + C)."""
    with torch.autocast(x.device.type, enabled=False):
        joined = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        weighted = joined * weights[:, None]
        gram = weighted.T @ joined
        penalty = torch.cat([shrinkage.expand(x.shape[1]), shrinkage.new_full((1,), 1e-6)])
        solution: Tensor = torch.linalg.solve(gram + penalty.diag(), weighted.T @ y)
        return solution


def prepare(settings: EpisodesSettings, bench: Bench) -> Ready:
    """Set the stage up: with the maps to the teacher that the stage before has learnt, where it has."""
    teacher = TorchvisionTrunk(settings.teacher)
    net = bench.begin()
    distillation = Distillation(net, teacher)
    teacher.to(str(bench.device))
    distillation.take_along(bench.before)
    module = Episodic(distillation, settings.taught, settings.pixels).to(memory_format=torch.channels_last)
    return Ready(module, net, EpisodeDraws(bench.sources(), settings))


KIND: Final = StageKind(EpisodesSettings, prepare, MICA)
