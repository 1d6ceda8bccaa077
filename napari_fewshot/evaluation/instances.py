"""Data sets with objects, ``<set>/instances`` beside images and labels: learn from a few, count on the others."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from napari_fewshot.errors import ImageError, SettingsError, SupportError
from napari_fewshot.evaluation.folders import DataSet, FolderProtocol, draw_images, find_sets
from napari_fewshot.evaluation.instance_metrics import ObjectCounts, count_objects
from napari_fewshot.frames import Frame, Instances, Labels
from napari_fewshot.io.journal import Journal
from napari_fewshot.io.names import TIFF
from napari_fewshot.io.rasters import read_image, read_label_map, read_raster
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.support import UNLABELLED, Shot, SupportSet

_SUFFIXES: Final = (".png", *TIFF)


@dataclass(frozen=True)
class ObjectOutcome:
    """What came out on one data set with one number of shots in one order.

    Attributes
    ----------
    name
        Of the data set.
    shots, seed
        How many images were taught, and which order was drawn.
    counts
        Objects of all queries.
    queries
        How many images were judged.
    learn, propose
        Seconds for learning, and for the median query.
    failure
        Why nothing could be learnt or proposed; "" otherwise.
    """

    name: str
    shots: int
    seed: int
    counts: ObjectCounts = ObjectCounts()  # noqa: RUF009, frozen
    queries: int = 0
    learn: float = 0.0
    propose: float = 0.0
    failure: str = ""


def find_object_sets(root: Path) -> tuple[DataSet, ...]:
    """Find all data sets below a folder that have a folder of ids beside images and labels.

    Raises
    ------
    SettingsError
        If there is none.
    """
    found = tuple(each for each in find_sets(root) if all(_ids_file(image) is not None for image in each.images))
    if not found:
        raise SettingsError(f"no data set in {root} has objects: looked for SET/instances/NAME.png (PNG or TIFF)")
    return found


def evaluate_objects(
    segmenter: FewShotSegmenter,
    sets: Sequence[DataSet],
    protocol: FolderProtocol | None = None,
    journal: Journal | None = None,
) -> Iterator[ObjectOutcome]:
    """Go through all data sets, numbers of shots and orders, lazily.

    Shots and queries are those that `evaluate_sets` draws; shots carry the ids of their objects.

    Parameters
    ----------
    segmenter
        What is measured; its proposals carry ids.
    sets
        See `find_object_sets`.
    protocol
        How.
    journal
        Where outcomes are kept; those that it holds are not computed again.

    Yields
    ------
    ObjectOutcome
        One for each, but none for what a data set has too few images for.

    Raises
    ------
    SettingsError, ReadError
        If a file cannot be read, or proposals carry no ids.
    """
    protocol = protocol or FolderProtocol()
    for data_set in sets:
        labels = [read_label_map(file) for file in data_set.labels]
        for shots in protocol.shots:
            for seed in range(protocol.seeds):
                key = f"{data_set.name}, {shots} shots, seed {seed}, {data_set.digest}"
                known = None if journal is None else journal.records.get(key)
                if known is not None:
                    yield _outcome(known["outcome"])
                    continue
                drawn = draw_images(labels, protocol, shots, seed)
                if drawn is None:
                    continue
                outcome = _asked(segmenter, data_set, labels, drawn, seed)
                if journal is not None:
                    journal.add(key, {"outcome": asdict(outcome)})
                yield outcome


def _asked(
    segmenter: FewShotSegmenter,
    data_set: DataSet,
    labels: list[Labels],
    drawn: tuple[list[int], list[int]],
    seed: int,
) -> ObjectOutcome:
    support, queries = drawn
    counts, times = ObjectCounts(), []
    try:
        taught = SupportSet(
            Shot(_frame(data_set, i), labels[i], instances=_ids(data_set, i, labels[i])) for i in support
        )
        start = perf_counter()
        concept = segmenter.learn(taught)
        learn = perf_counter() - start
        for i in queries:
            start = perf_counter()
            found = concept.propose(_frame(data_set, i)).instances
            times.append(perf_counter() - start)
            if found is None:
                raise SettingsError(f"{segmenter.name} does not tell objects apart; load it with instances=True")
            counts += count_objects(found, _ids(data_set, i, labels[i]), labels[i] != UNLABELLED)
    except (SupportError, ImageError) as error:
        return ObjectOutcome(data_set.name, len(support), seed, failure=str(error))
    return ObjectOutcome(data_set.name, len(support), seed, counts, len(queries), learn, float(np.median(times)))


def _frame(data_set: DataSet, i: int) -> Frame:
    return Frame(f"{data_set.name}/{data_set.images[i].stem}", read_image(data_set.images[i]))


def _ids(data_set: DataSet, i: int, labels: Labels) -> Instances:
    file = _ids_file(data_set.images[i])
    assert file is not None
    ids = read_raster(file, indices=True)
    if ids.shape != labels.shape:
        raise SettingsError(f"{file} is {ids.shape}, but its labels are {labels.shape}; give them one size")
    return np.where((labels > 0) & (labels != UNLABELLED), ids, 0).astype(np.int32)


def _ids_file(image: Path) -> Path | None:
    folder = image.parent.parent / "instances"
    return next((file for suffix in _SUFFIXES if (file := folder / f"{image.stem}{suffix}").is_file()), None)


def _outcome(record: dict[str, object]) -> ObjectOutcome:
    told = record["counts"]
    assert isinstance(told, dict)
    counts = ObjectCounts(tuple(told["right"]), told["proposed"], told["true"])
    return ObjectOutcome(**{**record, "counts": counts})  # type: ignore[arg-type]
