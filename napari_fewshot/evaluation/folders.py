"""Data sets in folders, ``<set>/images`` and ``<set>/labels``: learn from a few images, judge on the others."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any, Final

import numpy as np

from napari_fewshot import __version__
from napari_fewshot.errors import ImageError, SettingsError, SupportError
from napari_fewshot.evaluation.metrics import Counts, count, mean
from napari_fewshot.evaluation.timing import Timed, propose_timed
from napari_fewshot.frames import Frame, Image, Labels
from napari_fewshot.io.journal import Journal
from napari_fewshot.io.names import TIFF
from napari_fewshot.io.rasters import read_image, read_label_map
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot, SupportSet

_LABELS: Final = (".png", *TIFF)
_IMAGES: Final = (*_LABELS, ".jpg", ".jpeg")


@dataclass(frozen=True)
class FolderProtocol:
    """How data sets are asked.

    The first K images, in an order drawn by seed, that show something are shots with complete masks; those after them
    are queries, whether or not they show anything. All classes that the shots show are looked for together.
    """

    shots: Annotated[tuple[int, ...], "Numbers of labelled images to learn from, one after the other."] = (1, 3, 5)
    seeds: Annotated[int, "Orders to draw: 0, 1, ... up to so many."] = 3
    queries: Annotated[int | None, "Images to judge on, of those that are left; None for all."] = None
    least_foreground: Annotated[
        float, "Share of labelled pixels from which on an image is taken to show something."
    ] = 0.001

    def __post_init__(self) -> None:
        if min((*self.shots, self.seeds, 1 if self.queries is None else self.queries), default=0) < 1:
            raise SettingsError("shots, seeds and queries must be 1 or more")


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and label maps of one kind, read when they are needed.

    A set in which nothing is background (cells and their borders, say) gets its largest class as background.

    Attributes
    ----------
    name
        Of its folder.
    images, labels
        Files of the same names, in the same order.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    @property
    def digest(self) -> str:
        """Hash of names and sizes of all files: what was measured on others is measured again."""
        told = [f"{file.name} {file.stat().st_size}" for file in (*self.images, *self.labels)]
        return hashlib.blake2b("\n".join(told).encode(), digest_size=8).hexdigest()


def find_sets(root: Path) -> tuple[DataSet, ...]:
    """Find all data sets below a folder, or the one that it is: PNG, TIFF, and JPEG for images.

    Images without a label map of the same name are left out.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if not root.is_dir():
        raise SettingsError(f"{root} is not a folder; name the one that holds the data sets")
    folders = [root] if (root / "images").is_dir() else sorted(folder for folder in root.iterdir() if folder.is_dir())
    sets = tuple(found for folder in folders if (found := _data_set(folder)) is not None)
    if not sets:
        raise SettingsError(
            f"there is no data set in {root}: looked for SET/images/NAME.png with SET/labels/NAME.png "
            "(PNG or TIFF, and JPEG for images)"
        )
    return sets


def choose_sets(
    sets: Sequence[DataSet], only: Sequence[str] | None, data: Path, kind: str = "data set", having: str = ""
) -> tuple[DataSet, ...]:
    """Keep those sets that somebody named; all where nobody did.

    Parameters
    ----------
    sets
        What was found in ``data``.
    only
        Names.
    data, kind, having
        For the message: where they are, what they are called, and what they must have (" with objects").

    Raises
    ------
    SettingsError
        If one that was named is not there.
    """
    names = [each.name for each in sets]
    missing = [name for name in only or () if name not in names]
    if missing:
        raise SettingsError(f"there is no {kind} {missing[0]}{having} in {data}; there are: {', '.join(names)}")
    return tuple(each for each in sets if not only or each.name in only)


@dataclass(frozen=True)
class SetOutcome:
    """What came out on one data set with one number of shots in one order.

    Attributes
    ----------
    name
        Of the data set.
    shots, seed
        How many images were taught, and which order was drawn.
    iou, dice
        Pixels of all queries added up for each class that the shots show, mean over classes, in [0, 1]; None where no
        class is there or proposed.
    queries
        How many images were judged.
    features
        Median seconds for the features of an image seen for the first time; None where all were known.
    method
        Median seconds for a proposal, once features are known.
    learn
        Seconds for learning, the features of the shots included.
    failure
        Why nothing could be learnt or proposed; "" otherwise.
    """

    name: str
    shots: int
    seed: int
    iou: float | None = None
    dice: float | None = None
    queries: int = 0
    features: float | None = None
    method: float | None = None
    learn: float | None = None
    failure: str = ""


def evaluate_sets(
    segmenter: FewShotSegmenter,
    sets: Sequence[DataSet],
    protocol: FolderProtocol | None = None,
    journal: Journal | None = None,
) -> Iterator[SetOutcome]:
    """Go through all data sets, numbers of shots and orders, lazily.

    Parameters
    ----------
    segmenter
        What is measured; it never sees the labels of a query.
    sets
        See `find_sets`.
    protocol
        How.
    journal
        Where outcomes are kept; those that it holds are not computed again.

    Yields
    ------
    SetOutcome
        One for each, but none for what a data set has too few images for: K that show something, and a query.

    Raises
    ------
    SettingsError, ReadError
        If a file cannot be read.
    """
    protocol = protocol or FolderProtocol()
    for data_set in sets:
        desk = _Desk(segmenter, data_set, protocol)
        digest = data_set.digest
        for shots in protocol.shots:
            for seed in range(protocol.seeds):
                key = f"{data_set.name}, {shots} shots, seed {seed}, {digest}"
                record = None if journal is None else journal.records.get(key)
                if record is not None:
                    outcome = SetOutcome(**record["outcome"])
                else:
                    asked = desk.ask(shots, seed)
                    if asked is None:
                        continue
                    outcome = asked
                    if journal is not None:
                        journal.add(key, {"outcome": asdict(outcome)})
                yield outcome


def folder_journal_settings(
    segmenter: FewShotSegmenter, protocol: FolderProtocol, features: str = ""
) -> dict[str, Any]:
    """Return what outcomes depend on, for a `Journal`; further shots, seeds and sets can follow.

    Parameters
    ----------
    segmenter, protocol
        As for `evaluate_sets`.
    features
        What tells the features of this segmenter from those of others of its name: trained anew, say.
    """
    return {
        "benchmark": "folder",
        "segmenter": segmenter.name,
        "features": features,
        "version": __version__,
        "queries": protocol.queries,
        "least foreground": protocol.least_foreground,
    }


def draw_images(
    labels: Sequence[Labels], protocol: FolderProtocol, shots: int, seed: int
) -> tuple[list[int], list[int]] | None:
    """Return which images of a data set are taught and which are asked; None where there are too few.

    It is the order that the project's yardstick draws (docs/benchmarks.md), so that figures can be compared.
    """
    order = [int(i) for i in np.random.default_rng(1000 * seed + 7).permutation(len(labels))]
    support = [i for i in order if _shows_something(labels[i], protocol.least_foreground)][:shots]
    queries = [i for i in order if i not in support][: protocol.queries]
    return (support, queries) if len(support) == shots and queries else None


class _Desk:
    """One data set at work: what was read of it."""

    def __init__(self, segmenter: FewShotSegmenter, data_set: DataSet, protocol: FolderProtocol) -> None:
        self.segmenter = segmenter
        self.data_set = data_set
        self.protocol = protocol
        self._labels: list[Labels] | None = None
        self._seen: set[int] = set()

    def ask(self, shots: int, seed: int) -> SetOutcome | None:
        labels = self.labels()
        drawn = draw_images(labels, self.protocol, shots, seed)
        if drawn is None:
            return None
        try:
            return self._asked(*drawn, shots, seed)
        except (SupportError, ImageError) as error:
            return SetOutcome(self.data_set.name, shots, seed, failure=str(error))

    def labels(self) -> list[Labels]:
        if self._labels is None:
            labels = [read_label_map(file) for file in self.data_set.labels]
            self._labels = labels if any((each == BACKGROUND).any() for each in labels) else _with_background(labels)
        return self._labels

    def _asked(self, support: list[int], queries: list[int], shots: int, seed: int) -> SetOutcome:
        taught = SupportSet(Shot(self._frame(i), self.labels()[i]) for i in support)
        start = perf_counter()
        concept = self.segmenter.learn(taught)
        learn = perf_counter() - start
        self._seen.update(support)
        total = {class_id: Counts() for class_id in taught.class_ids}
        times: list[Timed] = []
        fresh: list[float] = []
        for i in queries:
            timed = propose_timed(self.segmenter, concept, self._frame(i))
            times.append(timed)
            if i not in self._seen:
                fresh.append(timed.features)
            self._seen.add(i)
            counted = count(timed.proposal.labels, self.labels()[i], taught.class_ids)
            total = {c: counts + counted.classes[c] for c, counts in total.items()}
        return SetOutcome(
            self.data_set.name,
            shots,
            seed,
            mean(counts.iou for counts in total.values()),
            mean(counts.dice for counts in total.values()),
            len(queries),
            median(fresh) if fresh else None,
            median(each.method for each in times),
            learn,
        )

    def _frame(self, i: int) -> Frame:
        return Frame(f"{self.data_set.name}/{self.data_set.images[i].stem}", self._image(i))

    def _image(self, i: int) -> Image:
        image = read_image(self.data_set.images[i])
        if image.shape[:2] != self.labels()[i].shape:
            raise SettingsError(
                f"{self.data_set.labels[i]} is {self.labels()[i].shape}, but its image is {image.shape[:2]}; "
                "give them one size"
            )
        return image


def _shows_something(labels: Labels, least: float) -> bool:
    return float(((labels != BACKGROUND) & (labels != UNLABELLED)).mean()) >= least


def _with_background(labels: list[Labels]) -> list[Labels]:
    """Take the largest class for background."""
    areas = np.sum([np.bincount(each.ravel(), minlength=256) for each in labels], axis=0)  # (256,)
    areas[UNLABELLED] = 0
    return [np.where(each == areas.argmax(), BACKGROUND, each).astype(np.int32) for each in labels]


def _data_set(folder: Path) -> DataSet | None:
    if not (folder / "images").is_dir():
        return None
    pairs = []
    for file in sorted(file for file in (folder / "images").iterdir() if file.suffix.lower() in _IMAGES):
        known = [labels for suffix in _LABELS if (labels := folder / "labels" / f"{file.stem}{suffix}").is_file()]
        if known:
            pairs.append((file, known[0]))
    return DataSet(folder.name, *(tuple(files) for files in zip(*pairs, strict=True))) if pairs else None
