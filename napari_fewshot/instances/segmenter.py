"""A segmenter that tells objects apart, made of one that tells classes apart."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Frame, Instances, Labels
from napari_fewshot.instances.embedding import Embedder, EmbeddingModel, NumberedShot
from napari_fewshot.instances.fitting import with_classes
from napari_fewshot.instances.growing import GrowSettings
from napari_fewshot.instances.growth import LEAST_FOREGROUND, Sprouts, better, choose_growth, grown, sprouts
from napari_fewshot.instances.objects import taught_objects
from napari_fewshot.instances.parts import parts_of
from napari_fewshot.instances.splitting import Clues, SplitSettings, split
from napari_fewshot.instances.tuning import Chosen, Rehearsed, choose, usual_radius
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Concept, FewShotSegmenter, TileProgress
from napari_fewshot.support import UNLABELLED, Shot, SupportSet

Engine = Literal["auto", "watershed", "dml"]
ENGINES: Final = get_args(Engine)

_FOLDS: Final = 5
"""Groups that many shots are left out in, one after the other."""


class InstanceSegmenter:
    """A `FewShotSegmenter` whose proposals carry the ids of objects.

    It learns twice from the same shots: what is of which class, as without ids, and which pixels are core and which rim
    of an object. Then it tries on shots that it leaves out, halves of them if there is but one, how objects are best
    told apart: by a watershed, or grown from seeds in an embedding where there is one to be had.

    Parameters
    ----------
    classes
        Tells classes apart.
    parts
        Another one of the same kind, which tells cores from rims; they can share what keeps features.
    settings
        How objects are told apart; None to choose it on the shots.
    embedding
        Learns which pixels are of one object; None for watersheds only.
    engine
        "watershed" or "dml" for that one, "auto" for the watershed unless the embedding is clearly better on shots that
        were left out.

    Raises
    ------
    SettingsError
        If settings or engine ask for an embedding, and there is none.

    Examples
    --------
    >>> from napari_fewshot import load_segmenter
    >>> load_segmenter("panet", device="cpu", instances=True).name
    'panet on mica (cpu), objects'
    """

    def __init__(
        self,
        classes: FewShotSegmenter,
        parts: FewShotSegmenter,
        settings: SplitSettings | GrowSettings | None = None,
        embedding: EmbeddingModel | None = None,
        engine: Engine = "auto",
    ) -> None:
        if engine not in ENGINES:
            raise SettingsError(f"there is no engine '{engine}'; choose one of: {', '.join(ENGINES)}")
        if embedding is None and (engine == "dml" or isinstance(settings, GrowSettings)):
            raise SettingsError(
                "there is no trained embedding of objects for this backbone; use the engine watershed, or train one: "
                "docs/training.md says how"
            )
        self.classes = classes
        self.parts = parts
        self.settings = settings
        self.embedding = None if engine == "watershed" else embedding
        self.engine = engine
        self._chosen: tuple[tuple[str, ...], Chosen] | None = None

    @property
    def name(self) -> str:
        """The one it is made of."""
        return f"{self.classes.name}, objects"

    @property
    def weights(self) -> dict[str, str]:
        """What identifies the weights, by part: those of classes, and of the embedding where there is one."""
        known: dict[str, str] = dict(getattr(self.classes, "weights", {}))
        return known | ({} if self.embedding is None else {"objects": self.embedding.key})

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> "InstanceConcept":
        """Learn classes, cores and rims, and how to tell objects apart; see `FewShotSegmenter`."""
        support.check()
        counted = support.counted_ids
        chosen = self._choose(support, counted, progress)
        embedder = None
        if self.embedding is not None and isinstance(chosen.settings, GrowSettings):
            embedder = self.embedding.fit(_numbered(support.canonical(), counted), chosen.radius)
        return InstanceConcept(*self._learnt(support, counted, progress), counted, chosen, embedder)

    def prepare(self, frame: Frame) -> Iterator[None]:
        """Do ahead of time what proposing takes, where the segmenter offers it; see `Prepares`."""
        ahead: Callable[[Frame], Iterator[None]] | None = getattr(self.classes, "prepare", None)
        return iter(()) if ahead is None else ahead(frame)

    def _learnt(
        self, support: SupportSet, counted: tuple[int, ...], progress: TileProgress | None
    ) -> tuple[Concept, Concept]:
        classes = self.classes.learn(support, progress=progress)
        return classes, self.parts.learn(parts_of(support, counted), progress=progress)

    def _choose(self, support: SupportSet, counted: tuple[int, ...], progress: TileProgress | None) -> Chosen:
        shots = support.canonical()
        key = tuple(shot.digest for shot in shots)
        if self._chosen is None or self._chosen[0] != key:
            radius = usual_radius(taught_objects(shot, counted) for shot in shots)
            if self.settings is not None:
                return Chosen(self.settings, radius)
            self._chosen = key, self._best(list(self._rehearsed(shots, counted, radius, progress)), radius)
        return self._chosen[1]

    def _best(self, shots: list[tuple[Rehearsed, Sprouts | None]], radius: float) -> Chosen:
        with_sprouts = [(shot, of) for shot, of in shots if of is not None]
        if self.engine == "dml":
            return choose_growth(with_sprouts, radius)
        chosen = choose([shot for shot, _ in shots], radius)
        return better(chosen, choose_growth(with_sprouts, radius)) if with_sprouts else chosen

    def _rehearsed(
        self, shots: tuple[Shot, ...], counted: tuple[int, ...], radius: float, progress: TileProgress | None
    ) -> Iterator[tuple[Rehearsed, Sprouts | None]]:
        """Propose for each shot from others, or for each half of the only one from the other half."""
        folds = min(len(shots), _FOLDS)
        if folds == 1:
            yield from self._in_halves(shots[0], counted, radius, progress)
            return
        for fold in range(folds):
            others = SupportSet(shot for i, shot in enumerate(shots) if i % folds != fold)
            if there := tuple(c for c in counted if c in others.class_ids):
                yield from self._asked(others, shots[fold::folds], counted, there, radius, progress)

    def _in_halves(
        self, shot: Shot, counted: tuple[int, ...], radius: float, progress: TileProgress | None
    ) -> Iterator[tuple[Rehearsed, Sprouts | None]]:
        halves = _halves(shot, taught_objects(shot, counted))
        for half, other in (halves, halves[::-1]):
            if there := tuple(c for c in counted if c in half.class_ids):
                yield from self._asked(SupportSet([half]), (other,), counted, there, radius, progress)

    def _asked(
        self,
        taught: SupportSet,
        shots: tuple[Shot, ...],
        counted: tuple[int, ...],
        there: tuple[int, ...],
        radius: float,
        progress: TileProgress | None,
    ) -> Iterator[tuple[Rehearsed, Sprouts | None]]:
        """Propose for shots from others, which teach the classes that are ``there``."""
        concepts = self._learnt(taught, there, progress)
        embedder = None
        if self.embedding is not None:
            embedder = self.embedding.fit(_numbered(taught.canonical(), there), radius)
        for shot in shots:
            clues = _seen(concepts, shot.frame, there, progress)
            found = None if embedder is None else sprouts(embedder, shot.frame, clues, radius, LEAST_FOREGROUND)
            yield _judged(shot, clues, counted), found


@dataclass(frozen=True, eq=False)
class InstanceConcept:
    """A `Concept` that tells objects apart.

    Attributes
    ----------
    classes, parts
        What was learnt of classes, and of cores and rims.
    counted
        Classes that come in objects; labels of others stay as they are, without ids.
    chosen
        How objects are told apart.
    embedder
        What was learnt of which pixels are of one object; None where a watershed tells them apart.
    """

    classes: Concept
    parts: Concept
    counted: tuple[int, ...]
    chosen: Chosen
    embedder: Embedder | None = None

    @property
    def support(self) -> SupportSet:
        """The shots it was learnt from."""
        return self.classes.support

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        """Propose labels and objects for a frame; see `Concept`.

        Every pixel of a class that comes in objects belongs to one, and an object is of the class that is most probable
        over all of its pixels.
        """
        proposal = self.classes.propose(frame, progress=progress)
        settings, radius = self.chosen.settings, self.chosen.radius
        if isinstance(settings, GrowSettings):
            assert self.embedder is not None  # the segmenter sees to it
            clues = _clues(proposal, None, self.counted)
            ids = grown(self.embedder, frame, clues, settings, radius)
        else:
            clues = _clues(proposal, self.parts.propose(frame, progress=progress), self.counted)
            ids = split(clues, settings, radius)
        labels, ids = with_classes(ids, proposal, self.counted)
        return replace(proposal, labels=labels, instances=ids, confidence=_confidence(proposal, labels))


def _seen(
    concepts: tuple[Concept, Concept], frame: Frame, counted: tuple[int, ...], progress: TileProgress | None
) -> Clues:
    """What concepts of classes and of parts know of a frame."""
    classes, parts = concepts
    return _clues(classes.propose(frame, progress=progress), parts.propose(frame, progress=progress), counted)


def _clues(classes: Proposal, parts: Proposal | None, counted: tuple[int, ...]) -> Clues:
    foreground = _sum(classes, counted)
    if parts is None:
        return Clues(foreground, foreground, foreground)
    core = _sum(parts, [2 * i + 2 for i in range(len(counted))])
    return Clues(foreground, core, _sum(parts, range(1, 2 * len(counted) + 1)))


def _sum(proposal: Proposal, class_ids: Iterable[int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    rows = [1 + proposal.class_ids.index(c) for c in class_ids if c in proposal.class_ids]
    return np.asarray(proposal.probabilities[rows].sum(0), np.float32)


def _confidence(proposal: Proposal, labels: Labels) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Probability of the label that each pixel has in the end."""
    rows: Mapping[int, int] = {c: i for i, c in enumerate((0, *proposal.class_ids))}
    at = np.zeros(UNLABELLED + 1, np.intp)
    at[list(rows)] = list(rows.values())
    return np.asarray(np.take_along_axis(proposal.probabilities, at[labels][None], 0)[0], np.float32)


def _numbered(shots: tuple[Shot, ...], counted: tuple[int, ...]) -> tuple[NumberedShot, ...]:
    return tuple(NumberedShot(shot, taught_objects(shot, counted)) for shot in shots)


def _judged(shot: Shot, clues: Clues, counted: tuple[int, ...]) -> Rehearsed:
    return Rehearsed(clues, taught_objects(shot, counted), shot.labels != UNLABELLED)


def _halves(shot: Shot, ids: Instances) -> tuple[Shot, Shot]:
    """Cut a shot so that half of its objects are on either side, along the axis over which they are spread most."""
    centres = np.array([np.mean(np.nonzero(ids == i), axis=1) for i in range(1, int(ids.max()) + 1)])
    axis = 0 if len(centres) < 2 else int(np.ptp(centres, axis=0).argmax())
    middle = float(np.median(centres[:, axis])) if len(centres) else shot.labels.shape[0] / 2
    side = np.arange(shot.labels.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1)) < middle  # no object at all
    first = np.broadcast_to(side, shot.labels.shape).copy()
    for number, centre in enumerate(centres, start=1):  # an object is on one side as a whole
        first[ids == number] = bool(centre[axis] < middle)
    return _only(shot, ids, first), _only(shot, ids, ~first)


def _only(shot: Shot, ids: Instances, where: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Shot:
    labels = np.where(where, shot.labels, UNLABELLED).astype(np.int32)
    return Shot(shot.frame, labels, instances=np.where(where, ids, 0))
