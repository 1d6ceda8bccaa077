"""What methods with a trained head have in common; docs/adding-a-trained-method.md is the recipe for one more.

A head is a network on the features of the backbone, which stays as it is. It answers for one class at a time: is this
it, or anything else? What it knows of the shots comes from the same summaries that are used without training, so that
training and use go through the same code.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, get_type_hints

import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid, Level
from napari_fewshot.models.blocks.losses import balanced_bce, dice_loss
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.one_vs_rest import one_vs_rest
from napari_fewshot.models.blocks.resampling import probabilities, upsample
from napari_fewshot.models.heads import channels_of, fill, find_head, no_head
from napari_fewshot.models.methods.base import AdditiveMethod, AdditiveState, SupportFeatures
from napari_fewshot.models.weights import fingerprint
from napari_fewshot.support import UNLABELLED

Summary = TypeVar("Summary")
Solution = TypeVar("Solution")


@dataclass(frozen=True, eq=False)
class Episode:
    """What a head is trained on, one at a time.

    Attributes
    ----------
    shots
        1 or more, of pictures of one kind.
    query
        Features of another crop of that kind.
    labels
        (H, W) int64 of the query: 0, the classes, 255 where nothing is known.
    class_ids
        (1,), or more for methods that tell classes apart jointly.
    """

    shots: tuple[SupportFeatures, ...]
    query: FeaturePyramid
    labels: Tensor
    class_ids: tuple[int, ...] = (1,)


class HeadConfig(Protocol):
    """Frozen dataclass of numbers and texts: everything that decides the shape of a head.

    Attributes
    ----------
    strides
        Of the levels that its features come from, fine to coarse.
    """

    strides: tuple[int, ...]

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """Make the one that is trained by default, for features of so many channels per stride."""
        ...

    @classmethod
    def paper(cls) -> Self:
        """Make the one of the publication, with the backbone that it is quoted with."""
        ...


class TrainedMethod(AdditiveMethod[Summary, Solution], Generic[Summary, Solution]):
    """A method with a head.

    A subclass names its ``configuration`` and its ``network``, and writes `summarise`, `combine` and
    `logits`. `summarise` has no part in training: what is learnt on the side of the support belongs to `combine`.

    Parameters
    ----------
    config
        Of the head.
    head
        The network, trained or to be trained; by default a fresh one.
    """

    name: ClassVar[str]
    configuration: ClassVar[type[Any]]
    """A `HeadConfig`."""

    network: ClassVar[type[nn.Module]]
    """Makes a head of a configuration, from random initialisation."""

    standardised: ClassVar[bool] = True
    """See `MatchingLevels`."""

    def __init__(self, config: Any, head: nn.Module | None = None) -> None:
        self.config = config
        self.head = self.network(config) if head is None else head
        self.levels = MatchingLevels(config.strides, self.standardised)

    @abstractmethod
    def logits(self, solution: Solution, query: FeaturePyramid) -> tuple[Tensor, Level]:
        """Answer for every class alone.

        Returns
        -------
        logits : Tensor
            (C, h, w) of "this class, and not anything else".
        level : Level
            On whose cells they lie.
        """

    @classmethod
    def fresh(cls, backbone: Backbone) -> Self:
        """Make one to be trained on the features of a backbone."""
        return cls(cls.configuration.for_features(channels_of(backbone), backbone.matching_strides))

    @classmethod
    def trained(cls, backbone: Backbone) -> Self:
        """Make one with the head that was trained on the features of a backbone.

        Raises
        ------
        SettingsError
            If there is none.
        WeightsError
            If its file is damaged, or made for another version of the method.
        """
        method = cls.trained_or_none(backbone)
        if method is None:
            raise no_head(cls.name)
        return method

    @classmethod
    def trained_or_none(cls, backbone: Backbone) -> Self | None:
        """As `trained`, but None where there is no such head."""
        found = find_head(cls.name, backbone)
        if found is None:
            return None
        tensors = found.read()
        with torch.random.fork_rng(devices=[]):  # what it begins with is drawn, and then overwritten
            method = cls(config_of(cls.configuration, found.config))
        fill(method.head, tensors, found.path.name)
        return method

    @property
    def key(self) -> str:
        """Identity of the weights of the head."""
        return f"{self.name}-{fingerprint(self.head.state_dict())}"

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Named losses of one episode, to be added up; gradients reach the head.

        By default those of `segmentation_losses` on the pixels of the query.
        """
        solution = self.combine([self.summarise(shot) for shot in episode.shots], episode.class_ids)
        logits, level = self.logits(solution, episode.query)
        return segmentation_losses(logits, level, episode)

    def predict(self, state: AdditiveState[Summary, Solution], query: FeaturePyramid) -> Tensor:
        """Join the answers for all classes."""
        logits, level = self.logits(state.solution, query)
        return probabilities(one_vs_rest(logits), level, query.size)

    def on_head(self, values: Tensor) -> Tensor:
        """Values in the precision of the head, and the head on their device."""
        some = next(self.head.parameters())
        if some.device != values.device:
            self.head.to(values.device)
        return values.to(some.dtype)


def segmentation_losses(logits: Tensor, level: Level, episode: Episode, weight: float = 1.0) -> dict[str, Tensor]:
    """Balanced cross-entropy and Dice of answers (C, h, w) for each class alone, on the pixels of the query."""
    pixels = upsample(logits, level, episode.query.size)  # (C, H, W)
    known = episode.labels != UNLABELLED
    wanted = torch.stack([episode.labels == class_id for class_id in episode.class_ids])
    pairs: Sequence[tuple[Tensor, Tensor]] = [(p[known], w[known]) for p, w in zip(pixels, wanted, strict=True)]
    return {
        "entropy": weight * torch.stack([balanced_bce(p, w) for p, w in pairs]).mean(),
        "dice": weight * torch.stack([dice_loss(p.sigmoid(), w) for p, w in pairs]).mean(),
    }


def config_of(configuration: type[Any], values: Mapping[str, Any]) -> Any:
    """Make a configuration of what a file tells; lists become tuples again."""
    known = get_type_hints(configuration)
    return configuration(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})
