"""Episodes of few-shot segmentation: K shots of each of C classes, and one query, drawn by seed and judged."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Annotated, Any

import numpy as np

from napari_fewshot import __version__
from napari_fewshot.errors import ImageError, SettingsError, SupportError
from napari_fewshot.evaluation.metrics import Counts, ImageCounts, Scores, Totals, count
from napari_fewshot.evaluation.pools import Pool
from napari_fewshot.evaluation.reading import resized, resized_labels
from napari_fewshot.evaluation.timing import propose_timed
from napari_fewshot.frames import Frame, Image, Labels
from napari_fewshot.io.journal import Journal
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.support import UNLABELLED, LabelClass, Shot, SupportSet


@dataclass(frozen=True)
class Protocol:
    """How episodes are made.

    HSNet asks for 1,000 of them (`data/pascal.py`, `data/coco.py`), PANet for 1,000 with each of five seeds
    (`config.py`), PFENet for 5,000 on PASCAL-5i and 20,000 on COCO-20i (`test.py`), where it finds 1,000 unstable.

    HSNet squashes images to 400 x 400 px and judges there, PANet to 417 x 417; PFENet pads to 473 or 641 and judges at
    the size of the longer side. ``size`` does the first; None leaves images as they are, which is how they are used.
    """

    shots: Annotated[int, "Labelled images of each class."] = 1
    ways: Annotated[int, "Classes to tell apart in an episode."] = 1
    episodes: Annotated[int, "Queries in all; the first of a longer run are those of a shorter one."] = 1000
    seed: Annotated[int, "What the draws depend on."] = 0
    size: Annotated[
        int | None, "Squash images and masks to squares of so many pixels; None leaves them as they are."
    ] = None

    def __post_init__(self) -> None:
        if min(self.shots, self.ways, self.episodes) < 1 or self.seed < 0:
            raise SettingsError("shots, ways and episodes must be 1 or more, and the seed 0 or more")
        if self.size is not None and self.size < 16:
            raise SettingsError(f"size is {self.size} px; give 16 or more, or none to leave images as they are")


@dataclass(frozen=True)
class Episode:
    """What is asked: images by name.

    Attributes
    ----------
    number
        0, 1, ...
    class_ids
        Of the benchmark; ``class_ids[i]`` is i + 1 in label maps.
    support
        Names of the K shots of each class.
    query
        Shows at least one of the classes, and is none of the shots.
    """

    number: int
    class_ids: tuple[int, ...]
    support: tuple[tuple[str, ...], ...]
    query: str


@dataclass(frozen=True)
class Outcome:
    """What came out of an episode.

    Attributes
    ----------
    episode
        What was asked.
    counts
        Pixels, by the class ids of the benchmark.
    features, method
        Seconds for the query, see `timing`.
    failure
        Why nothing was proposed, which counts as background everywhere; "" otherwise.
    """

    episode: Episode
    counts: ImageCounts
    features: float = 0.0
    method: float = 0.0
    failure: str = ""


def usable_classes(pool: Pool, protocol: Protocol) -> tuple[int, ...]:
    """Return the classes that enough images show for any episode.

    Raises
    ------
    SettingsError
        If they are fewer than an episode needs.
    """
    needed = protocol.shots * protocol.ways + 1
    usable = tuple(c for c, names in sorted(pool.members.items()) if len(names) >= needed)
    if len(usable) < protocol.ways:
        most = max((len(names) for names in pool.members.values()), default=0)
        raise SettingsError(
            f"{_title(pool)}: {len(usable)} of its {len(pool.members)} classes are on the {needed} images or more that "
            f"episodes of {protocol.ways} class(es) with {protocol.shots} shot(s) take (at most {most}): "
            "ask for fewer shots, or complete the data set"
        )
    return usable


def draw(pool: Pool, protocol: Protocol, number: int) -> Episode:
    """Draw an episode; each depends on the seed and its number alone.

    Classes are drawn evenly, then images of them, as in HSNet's loader for COCO and in PANet; PFENet and HSNet go
    through the list of images of PASCAL-5i instead, so that a frequent class is asked for more often. mIoU weighs all
    classes alike whatever their number.

    Raises
    ------
    SettingsError
        If there are too few images.
    """
    rng = np.random.default_rng([protocol.seed, number])
    usable = usable_classes(pool, protocol)
    class_ids = tuple(usable[i] for i in rng.choice(len(usable), protocol.ways, replace=False))
    query = str(rng.choice(pool.members[class_ids[int(rng.integers(protocol.ways))]]))
    taken = {query}
    support = []
    for class_id in class_ids:
        free = [name for name in pool.members[class_id] if name not in taken]
        support.append(tuple(free[i] for i in rng.choice(len(free), protocol.shots, replace=False)))
        taken.update(support[-1])
    return Episode(number, class_ids, tuple(support), query)


def evaluate(
    segmenter: FewShotSegmenter, pool: Pool, protocol: Protocol | None = None, journal: Journal | None = None
) -> Iterator[Outcome]:
    """Carry out one episode after the other, lazily: images are read when their episode is due.

    Parameters
    ----------
    segmenter
        What is measured; it never sees the mask of a query.
    pool
        What episodes are drawn from.
    protocol
        How; by default one shot, one class, 1,000 episodes.
    journal
        Where outcomes are kept, see `open_journal`; those that it holds are not computed again.

    Yields
    ------
    Outcome
        In the order of their numbers, those of the journal included.

    Raises
    ------
    SettingsError
        If there are too few images, or one is missing.
    """
    protocol = protocol or Protocol()
    for number in range(protocol.episodes):
        known = None if journal is None else journal.records.get(str(number))
        if known is not None:
            yield _outcome(known)
            continue
        outcome = _judged(segmenter, pool, protocol, draw(pool, protocol, number))
        if journal is not None:
            journal.add(str(number), _record(outcome))
        yield outcome


def journal_settings(segmenter: FewShotSegmenter, pool: Pool, protocol: Protocol, features: str = "") -> dict[str, Any]:
    """Return what outcomes depend on, for a `Journal`; the number of episodes is not among it: more can follow.

    Parameters
    ----------
    segmenter, pool, protocol
        As for `evaluate`.
    features
        What tells the features of this segmenter from those of others of its name: trained anew, say.
    """
    return {
        "benchmark": pool.name,
        "fold": pool.fold,
        "data": pool.about,
        "images": pool.digest,
        "segmenter": segmenter.name,
        "features": features,
        "version": __version__,
        **{name: value for name, value in asdict(protocol).items() if name != "episodes"},
    }


@dataclass(frozen=True)
class Summary:
    """One cell of a table: what a segmenter reached on one fold.

    Attributes
    ----------
    scores
        Over all episodes.
    episodes, failures
        How many there were, and in how many nothing was proposed.
    features, method
        Median seconds for a query, see `timing`.
    """

    scores: Scores
    episodes: int
    failures: int
    features: float
    method: float


@dataclass
class Tally:
    """Outcomes added up as they come."""

    totals: Totals = field(default_factory=Totals)
    episodes: int = 0
    failures: int = 0
    seconds: list[tuple[float, float]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in one."""
        self.totals.add(outcome.counts)
        self.episodes += 1
        if outcome.failure:
            self.failures += 1
        else:
            self.seconds.append((outcome.features, outcome.method))

    def summary(self) -> Summary:
        """Return what they come to until now."""
        features, method = zip(*self.seconds, strict=True) if self.seconds else ((0.0,), (0.0,))
        return Summary(self.totals.scores(), self.episodes, self.failures, median(features), median(method))


def _judged(segmenter: FewShotSegmenter, pool: Pool, protocol: Protocol, episode: Episode) -> Outcome:
    support = _support(pool, protocol, episode)
    image, truth = _read(pool, protocol, episode, episode.query)
    positions = tuple(range(1, len(episode.class_ids) + 1))
    nothing = np.zeros_like(truth)
    try:
        timed = propose_timed(segmenter, segmenter.learn(support), Frame(episode.query, image))
    except (SupportError, ImageError) as error:
        counted = count(nothing, truth, positions)
        return Outcome(episode, _by_class_id(counted, episode), failure=str(error))
    counted = count(timed.proposal.labels, truth, positions)
    return Outcome(episode, _by_class_id(counted, episode), timed.features, timed.method)


def _support(pool: Pool, protocol: Protocol, episode: Episode) -> SupportSet:
    """K shots of each class; what a shot of one class shows of another one is unknown, as in PANet's loader."""
    shots = []
    for position, names in enumerate(episode.support, start=1):
        for name in names:
            image, labels = _read(pool, protocol, episode, name)
            other = (labels != 0) & (labels != position)
            shots.append(Shot(Frame(name, image), np.where(other, UNLABELLED, labels)))
    named = [LabelClass(i, pool.class_names[c]) for i, c in enumerate(episode.class_ids, start=1)]
    return SupportSet(shots, named)


def _read(pool: Pool, protocol: Protocol, episode: Episode, name: str) -> tuple[Image, Labels]:
    image, labels = pool.image(name), pool.labels(name, episode.class_ids)
    if image.shape[:2] != labels.shape:
        raise SettingsError(
            f"{_title(pool)}: image '{name}' is {image.shape[0]} x {image.shape[1]} px but its mask "
            f"{labels.shape[0]} x {labels.shape[1]}; fetch both again"
        )
    if protocol.size is None:
        return image, labels
    return resized(image, protocol.size), resized_labels(labels, protocol.size)


def _by_class_id(counted: ImageCounts, episode: Episode) -> ImageCounts:
    classes = {episode.class_ids[position - 1]: counts for position, counts in counted.classes.items()}
    return ImageCounts(classes, counted.foreground, counted.background)


def _title(pool: Pool) -> str:
    return pool.name if pool.fold is None else f"{pool.name}, fold {pool.fold}"


def _record(outcome: Outcome) -> dict[str, Any]:
    episode, counts = outcome.episode, outcome.counts
    return {
        "classes": list(episode.class_ids),
        "support": [list(names) for names in episode.support],
        "query": episode.query,
        "counts": [_numbers(counts.classes[c]) for c in episode.class_ids],
        "foreground": _numbers(counts.foreground),
        "background": _numbers(counts.background),
        "seconds": [round(outcome.features, 4), round(outcome.method, 4)],
        "failure": outcome.failure,
    }


def _outcome(record: Mapping[str, Any]) -> Outcome:
    class_ids = tuple(record["classes"])
    support = tuple(tuple(names) for names in record["support"])
    features, method = record["seconds"]
    counts = ImageCounts(
        {c: Counts(*numbers) for c, numbers in zip(class_ids, record["counts"], strict=True)},
        Counts(*record["foreground"]),
        Counts(*record["background"]),
    )
    return Outcome(
        Episode(int(record["key"]), class_ids, support, record["query"]), counts, features, method, record["failure"]
    )


def _numbers(counts: Counts) -> list[int]:
    return [counts.shared, counts.proposed, counts.true]
