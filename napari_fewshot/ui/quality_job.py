"""Work for a thread: trying out what the shots are worth, and looking at frames. No Qt in here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from napari_fewshot.evaluation.trials import Outcome, Trial, try_out
from napari_fewshot.frames import Frame
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.support import SupportSet
from napari_fewshot.ui.jobs import Failed, Finished, Stage, seen
from napari_fewshot.ui.ports import Asker


@dataclass(frozen=True)
class Tried:
    """One trial is done."""

    outcomes: tuple[Outcome, ...]


def quality_job(
    segmenter: Callable[[], FewShotSegmenter],
    support: SupportSet,
    trials: Sequence[Trial],
    frames: Sequence[Frame],
    asker: Asker,
) -> Iterator[object]:
    """Yield what images look like, then what each trial came to; gives up between two of them.

    Parameters
    ----------
    segmenter
        Loads what is measured.
    support, trials
        See `try_out`.
    frames
        To be looked at.
    """
    try:
        yield Stage("Looking at your images ...")
        for frame in frames:
            if asker.gave_up():
                return
            yield seen(frame)
        if trials:
            yield Stage("Loading the model ...")
            for outcomes in try_out(segmenter(), support, trials):
                yield Tried(tuple(outcomes))
                if asker.gave_up():
                    return
    except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
        yield Failed(error)
        return
    yield Finished()
