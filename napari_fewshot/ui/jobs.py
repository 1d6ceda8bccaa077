"""Work for a thread: making proposals, preparing images, looking up and after things, writing files. No Qt in here."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.imaging.glimpse import Glimpse, glimpse
from napari_fewshot.io.formats import label_format, write_labels
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.models.freed_memory import give_back
from napari_fewshot.propagation import FrameFailure
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import FewShotSegmenter, Prepares, SegmenterSettings
from napari_fewshot.session import Run
from napari_fewshot.ui.ports import Asker, Features

_LONGEST_REST = 1.0  # seconds
_ROWS = 256  # that are rounded at once
_NAP = 0.02  # seconds, after which somebody who wants it to stop is heard


@dataclass(frozen=True)
class Stage:
    """What is being done, in words."""

    text: str


@dataclass(frozen=True)
class Tiles:
    """How far a large image is.

    Attributes
    ----------
    key
        The image; None for those that are being learnt from.
    done, total
        Tiles.
    """

    key: FrameKey | None
    done: int
    total: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What an image looks like; None where it cannot be read."""

    key: FrameKey
    glimpse: Glimpse | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """How probable each label is on an image, in a quarter of the memory that the proposal takes.

    Attributes
    ----------
    key
        The image.
    label_ids
        Background and the classes, in the order of ``probabilities``.
    probabilities
        (1 + C, H, W) uint8, 255 for certain.
    """

    key: FrameKey
    label_ids: tuple[int, ...]
    probabilities: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, proposal: Proposal) -> "Evidence":
        """Round the probabilities of a proposal, some rows at a time: a large one may lie in a file."""
        source = proposal.probabilities  # (1 + C, H, W)
        rounded = np.empty(source.shape, np.uint8)
        for top in range(0, source.shape[1], _ROWS):
            rows = slice(top, top + _ROWS)
            rounded[:, rows] = np.rint(255 * np.clip(source[:, rows], 0, 1))
        return cls(proposal.key, (0, *proposal.class_ids), rounded)


@dataclass(frozen=True)
class Prepared:
    """An image is ready, or cannot be made so."""

    key: FrameKey


@dataclass(frozen=True)
class Written:
    """A file was written."""

    path: Path


@dataclass(frozen=True)
class ModelNames:
    """Models of timm that there are."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """There is such a backbone.

    Attributes
    ----------
    backbone
        Its name.
    notice
        What to know before using its weights.
    needs_download
        Whether they are not on this computer yet.
    """

    backbone: str
    notice: str
    needs_download: bool


@dataclass(frozen=True)
class Failed:
    """The job ended with an error."""

    error: Exception


@dataclass(frozen=True)
class Finished:
    """The job came to its end."""


class _Stopped(Exception):
    """Somebody asked the job to stop."""


def propose_job(run: Run, known: frozenset[FrameKey], asker: Asker) -> Iterator[object]:
    """Yield stages, proposals and failures of a run; gives up between two tiles, and tells how far large images are.

    What images look like is told as well, but for those that are known.
    """
    frames = {frame.key: frame for frame in run.frames}
    failures: deque[FrameFailure] = deque()

    def note_failure(failure: FrameFailure) -> None:
        failures.append(failure)
        if asker.gave_up():
            raise _Stopped

    def note_tile(key: FrameKey | None, done: int, total: int) -> None:
        if asker.gave_up():
            raise _Stopped
        if total > 1:
            asker.tell(Tiles(key, done, total))

    try:
        yield Stage("Loading the model ...")
        run.segmenter()
        yield Stage("Learning from what you taught ...")
        for shot in run.support:
            if shot.key not in known:
                asker.tell(seen(shot.frame))
        for proposal in run.proposals(note_failure, note_tile):
            while failures:
                yield failures.popleft()
            if proposal.key not in known:
                asker.tell(seen(frames[proposal.key]))
            asker.tell(Evidence.of(proposal))
            yield proposal
        yield from failures
    except _Stopped:
        return
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)
        return
    finally:
        give_back()
    yield Finished()


def glimpse_job(waiting: deque[Frame], asker: Asker) -> Iterator[object]:
    """Look at one image after the other, until none waits; more may come while it is at it."""
    while waiting and not asker.gave_up():
        yield seen(waiting.popleft())
    yield Finished()


def seen(frame: Frame) -> Seen:
    """Look at an image. What stands in the way of reading it is told when it is worked with."""
    try:
        return Seen(frame.key, glimpse(frame))
    except Exception:  # noqa: BLE001 - readers of files raise all kinds; a table without this picture is no harm
        return Seen(frame.key, None)


def prepare_job(
    segmenter: Callable[[], FewShotSegmenter],
    frames: Sequence[Frame],
    may_load: Callable[[], bool],
    asker: Asker,
) -> Iterator[object]:
    """Prepare one image after the other, resting as long as it works: somebody paints meanwhile.

    What a person could mend is passed over in silence: nobody has asked for anything yet, and proposing will tell.
    """
    try:
        if not may_load():
            return
        worker = segmenter()
        if not isinstance(worker, Prepares):
            return
        for frame in frames:
            try:
                begun = time.monotonic()
                for _ in worker.prepare(frame):
                    _rest(time.monotonic() - begun, asker)
                    if asker.gave_up():
                        return
                    begun = time.monotonic()
            except FewShotError:
                pass
            yield Prepared(frame.key)
    except FewShotError:
        return
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)


def _rest(seconds: float, asker: Asker) -> None:
    end = time.monotonic() + min(seconds, _LONGEST_REST)
    while time.monotonic() < end and not asker.gave_up():
        time.sleep(_NAP)


def tidy_job(features: Features, asker: Asker) -> Iterator[object]:
    """Do what was asked for with the kept features, and yield what they take then."""
    try:
        yield features.tidy()
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)


def look_up_job(features: Features, backbone: str, with_names: bool, asker: Asker) -> Iterator[object]:
    """Find out which models there are, and the terms of one unless its name is ""."""
    try:
        if with_names:
            yield ModelNames(tuple(features.model_names()))
        if backbone and not asker.gave_up():
            notice = features.terms(backbone)
            yield Terms(backbone, notice, features.needs_download(SegmenterSettings(backbone=backbone)))
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)


def export_job(
    stacks: Sequence[tuple[Path, LabelStack]],
    format: str,
    overwrite: bool,
    afterwards: Callable[[], Iterator[object]],
    asker: Asker,
) -> Iterator[object]:
    """Write one file after the other, yielding each; stacks of the same path go into one file.

    What comes afterwards, such as a recipe, is yielded as well.
    """
    files: dict[Path, list[LabelStack]] = {}
    for path, stack in stacks:
        files.setdefault(path, []).append(stack)
    try:
        for path, together in files.items():
            if asker.gave_up():
                return
            yield Stage(f"Writing {path.name} ...")
            content = together if label_format(format).joint else together[0]
            for written in write_labels(path, content, format=format, overwrite=overwrite):
                yield Written(written)
        yield from afterwards()
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)
        return
    yield Finished()
