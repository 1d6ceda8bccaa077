"""OSLSM: one network writes the classifier of another (Shaban et al., BMVC 2017, arXiv 1709.03410).

The *support branch* looks at the class on one shot and emits the weights and the bias of a logistic classifier for
single pixels; *weight hashing* makes many of these of a short code. The classifier is applied to every cell of what the
*query branch* sees. Every shot has a classifier of its own, and a pixel is of the class where any of them says so. Here
a classifier corrects what the cosine with the average of its shot says, as `sgone` calibrates it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import single
from napari_fewshot.models.blocks.layers import conv
from napari_fewshot.models.blocks.matching import from_finest
from napari_fewshot.models.blocks.relevance import mean_of_rest
from napari_fewshot.models.blocks.support_maps import SupportMap, map_features, maps_of_class
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.shot_summary import ShotSummary, summarise_shot
from napari_fewshot.models.methods.similarity_cues import Similarity, similarities
from napari_fewshot.models.methods.trained import TrainedMethod

_PIXELS: Final = 400
"""Pixels of every label of a shot that its threshold is found on."""

_MOST: Final = 1.5
"""Bound of a correction, in logits: on images unlike those of its training a classifier can be sure and wrong."""


@dataclass(frozen=True)
class OSLSMConfig:
    """What decides the shape of the head.

    Attributes
    ----------
    channels
        Features of a cell.
    strides
        Of the levels that they come from.
    embedding
        Features that are classified, and so weights of a classifier.
    code
        Numbers that these weights are hashed from.
    hidden
        Width of the support branch.
    grid
        The support branch sees the class in so many rows and columns. 1: its average, wherever it is on the shot.
    background
        Whether it is told the average of everything else as well. The paper erases the background: it made classifiers
        vary so much that training did not converge.
    kernel
        Of the first convolution of the query branch.
    dropout
        Share of numbers in both branches that training leaves out.
    corrects
        Whether the answer is a correction of the calibrated similarity, and not made from nothing.
    """

    channels: int
    strides: tuple[int, ...]
    embedding: int = 64
    code: int = 48
    hidden: int = 96
    grid: int = 1
    background: bool = True
    kernel: int = 3
    dropout: float = 0.3
    corrects: bool = True

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """On the finest level that the backbone recommends for comparing, and all coarser ones."""
        strides = from_finest(channels, matching)
        return cls(sum(channels[stride] for stride in strides), strides)

    @classmethod
    def paper(cls) -> Self:
        """VGG-16 twice: its fully connected layers, and FCN-32s without its last, here on cells of stride 16."""
        return cls(512, (16,), 4096, 1000, 4096, grid=7, background=False, kernel=7, dropout=0.5, corrects=False)


class WeightHashing(nn.Module):
    """Many numbers of few: theta_i = zeta(i) x_kappa(i), with kappa and zeta drawn once (eqs. S1 and S3).

    Random signs keep copies of a number from acting together. The matrix is not trained, and kept with the weights.

    Parameters
    ----------
    inputs, outputs
        m and d of the paper.
    """

    matrix: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        signs = 2.0 * torch.randint(0, 2, (outputs, 1)) - 1  # zeta
        chosen = F.one_hot(torch.randint(0, inputs, (outputs,)), inputs)  # kappa
        self.register_buffer("matrix", signs * chosen)

    def forward(self, codes: Tensor) -> Tensor:
        """Expand codes (K, inputs) to (K, outputs)."""
        return F.linear(codes, self.matrix)


class OSLSMHead(nn.Module):
    """Both branches."""

    def __init__(self, config: OSLSMConfig) -> None:
        super().__init__()
        seen = config.channels * (config.grid**2 + config.background)
        last = nn.Linear(config.hidden, config.code)
        if config.corrects:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.support = nn.Sequential(
            *(nn.Linear(seen, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)),
            *(nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)),
            last,
        )
        self.hashing = WeightHashing(config.code, config.embedding + 1)
        self.query = nn.Sequential(
            *(*conv(config.channels, config.embedding, config.kernel), nn.Dropout2d(config.dropout)),
            *(*conv(config.embedding, config.embedding, 1), nn.Dropout2d(config.dropout)),
        )

    def classifiers(self, seen: Tensor) -> Tensor:
        """Write a classifier for each of K shots (eq. 1): (K, embedding + 1), the bias last."""
        theta: Tensor = self.hashing(self.support(seen))
        return theta

    def forward(self, embedded: Tensor, classifiers: Tensor) -> Tensor:
        """Apply K classifiers to an embedded query (embedding, h, w): logits (K, h, w) (eq. 2)."""
        return torch.einsum("kd,dhw->khw", classifiers[:, :-1], embedded) + classifiers[:, -1, None, None]


@dataclass(frozen=True, eq=False)
class Known:
    """What the shots say of one class.

    Attributes
    ----------
    classifiers
        (K, embedding + 1) of every shot that shows it.
    similarities
        What is known without training, from the same shots, each by itself.
    """

    classifiers: Tensor
    similarities: tuple[Similarity, ...]


class OSLSM(TrainedMethod[ShotSummary, tuple[Known, ...]]):
    """A classifier of every shot, and the largest answer of them."""

    name = "oslsm"
    configuration: ClassVar[type[OSLSMConfig]] = OSLSMConfig
    network = OSLSMHead

    def summarise(self, shot: SupportFeatures) -> ShotSummary:
        """Keep pixels, and maps where the support branch sees where things are."""
        return summarise_shot(shot, self.levels, _PIXELS, with_maps=self.config.grid > 1)

    def combine(self, summaries: Sequence[ShotSummary], class_ids: tuple[int, ...]) -> tuple[Known, ...]:
        """Write classifiers, each from its own shot alone."""
        return tuple(self._known(summaries, class_id) for class_id in class_ids)

    def _known(self, summaries: Sequence[ShotSummary], class_id: int) -> Known:
        showing = [summary for summary in summaries if class_id in summary.pixels.labels]
        alone = [similarities(self.levels, [summary.pixels], (class_id,))[0] for summary in showing]
        seen = torch.stack([self._seen(summary, class_id) for summary in showing])
        return Known(self.head.classifiers(self.on_head(seen)), tuple(alone))  # type: ignore[operator]

    def _seen(self, summary: ShotSummary, class_id: int) -> Tensor:
        """Numbers that the support branch gets of a shot: the class, and the rest where it is told of that."""
        mean = single(summary.pixels.labels[class_id].mean)
        if self.config.grid == 1:
            inside = mean
        else:
            (fullest,) = maps_of_class([summary.maps], class_id, most=1)
            inside = erased(fullest, class_id, self.config.grid).flatten()
        if not self.config.background:
            return inside
        rest = mean_of_rest(summary.pixels, class_id)
        return torch.cat([inside, torch.zeros_like(mean) if rest is None else single(rest)])

    def logits(self, solution: tuple[Known, ...], query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone, with the largest logit of all shots: their logical OR."""
        cells, level = self.levels.cells(query)
        embedded = self.head.query(self.on_head(cells)[None])[0]  # type: ignore[operator]
        return torch.stack([self._answers(known, cells, embedded).amax(0) for known in solution]), level

    def _answers(self, known: Known, cells: Tensor, embedded: Tensor) -> Tensor:
        """Logits (K, h, w) of every shot."""
        logits: Tensor = self.head(embedded, self.on_head(known.classifiers))
        if not self.config.corrects:
            return logits
        similarity = self.on_head(torch.stack([each.logit(cells) for each in known.similarities]))
        return similarity + _MOST * torch.tanh(logits / _MOST)


def erased(each: SupportMap, class_id: int, grid: int) -> Tensor:
    """Features (D, grid, grid) of a map on which everything but a class is zero.

    They are divided by the share of the map that is painted, so that what is small is not seen faintly.
    """
    shares = each.shares[class_id]
    return F.adaptive_avg_pool2d(map_features(each) * shares, grid) / shares.mean().clamp_min(1e-12)


def make(backbone: Backbone) -> OSLSM:
    """With the head that was trained on the features of the backbone."""
    return OSLSM.trained(backbone)
