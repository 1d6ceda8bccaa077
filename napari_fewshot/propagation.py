"""From a support set to proposals for any number of frames, lazily: the caller owns progress and cancelling."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import numpy as np

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.imaging.cleanup import CleanUp, above_thresholds, clean_up
from napari_fewshot.instances.fitting import follow, with_taught
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Concept, FewShotSegmenter, TileProgress
from napari_fewshot.support import UNLABELLED, Shot, SupportSet
from napari_fewshot.volumes.concept import Surroundings
from napari_fewshot.volumes.series import is_wanted
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.tuning import learn_consistency

RunProgress = Callable[[FrameKey | None, int, int], None]
"""A `TileProgress` that is told first which frame is at work, None while learning."""


@dataclass(frozen=True, kw_only=True)
class PropagationSettings(CleanUp):
    """How proposals are made from a concept, and tidied."""

    skip_taught: Annotated[bool, "Leave out frames on which every pixel was labelled by hand."] = True
    volume: Annotated[VolumeSettings, "What proposals take from the slices around them."] = field(
        default_factory=VolumeSettings
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.volume, Mapping):  # as a session or a recipe tells it
            object.__setattr__(self, "volume", VolumeSettings(**self.volume))


@dataclass(frozen=True)
class FrameFailure:
    """A frame that nothing could be proposed for, and why."""

    key: FrameKey
    message: str


def propagate(
    segmenter: FewShotSegmenter,
    support: SupportSet,
    frames: Iterable[Frame],
    settings: PropagationSettings | None = None,
    *,
    on_failure: Callable[[FrameFailure], None] | None = None,
    progress: RunProgress | None = None,
    surroundings: Surroundings | None = None,
) -> Iterator[Proposal]:
    """Learn from the support set once, then propose for one frame after the other.

    Parameters
    ----------
    segmenter
        Where the masks come from, see `load_segmenter`.
    support
        What was taught.
    frames
        Read one at a time, in the order given; an endless iterator is fine unless slices share evidence
        (``settings.volume.along``). Those that are out of the range of slices are left out then.
    settings
        Defaults to ``PropagationSettings()``.
    on_failure
        Called for a frame that cannot be used; the rest goes on. Without it the first such frame raises.
    progress
        Called before each tile, so that large images show how far they are; what it raises ends the propagation there.
    surroundings
        Where slices share evidence: those that are looked at beside ``frames``, and what is decided on them.

    Yields
    ------
    Proposal
        One per frame. Pixels that a person labelled on a partly labelled frame keep their label.

    Raises
    ------
    SupportError
        At the first item, if there is nothing to learn from.
    ImageError
        If a frame cannot be used and there is no ``on_failure``.
    """
    settings = settings or PropagationSettings()
    shots = {shot.key: shot for shot in support}
    concept = segmenter.learn(support, progress=_about(None, progress))
    if settings.volume.are_used:
        frames = [frame for frame in frames if is_wanted(frame, settings.volume)]
        around = surroundings or Surroundings()
        around = replace(around, frames=(*frames, *around.frames))
        told = _about(None, progress)
        concept = learn_consistency(segmenter, concept, around.frames, settings.volume, progress=told).around(around)
    for frame in frames:
        shot = shots.get(frame.key)
        if shot is not None and settings.skip_taught and not shot.is_partial:
            continue
        try:
            yield propose_one(concept, frame, shot, settings, _about(frame.key, progress))
        except FewShotError as error:
            if on_failure is None:
                raise
            on_failure(FrameFailure(frame.key, str(error)))


def propose_one(
    concept: Concept,
    frame: Frame,
    shot: Shot | None,
    settings: PropagationSettings,
    progress: TileProgress | None = None,
) -> Proposal:
    """Propose for one frame, tidy up, and let what a person labelled on it stand."""
    proposal = concept.propose(frame, progress=progress)
    labels = proposal.labels
    sure = above_thresholds(labels, proposal.probabilities, (0, *proposal.class_ids), settings.thresholds)
    tidy = tidied(sure, None if shot is None else shot.said, settings)
    if tidy is labels:
        return proposal
    ids = proposal.instances
    if ids is not None:
        ids = follow(with_taught(ids, shot), tidy, concept.support.counted_ids)
    return replace(proposal, labels=tidy, uncleaned=None if settings.does_nothing else labels, instances=ids)


def tidied(labels: Labels, human: Labels | None, steps: CleanUp) -> Labels:
    """Tidy a label map without touching what a person labelled on it.

    What a person labelled is part of objects, and nothing else about them: a speck that touches it is no speck.

    Parameters
    ----------
    labels
        (H, W) as proposed.
    human
        (H, W) what a person labelled, 255 where they did not; None where they labelled nothing. On an image of another
        size it means nothing.
    steps
        What to do; thresholds are not looked at.

    Returns
    -------
    Labels
        (H, W), ``labels`` itself where nothing changes them.
    """
    if human is None or human.shape != labels.shape:
        return clean_up(labels, steps)
    return keep_human(clean_up(keep_human(labels, human), steps), human)


def _about(key: FrameKey | None, progress: RunProgress | None) -> TileProgress | None:
    return None if progress is None else partial(progress, key)


def keep_human(labels: Labels, human: Labels) -> Labels:
    """Put what a person labelled (anything but 255) over what was proposed. Returns a new array (H, W)."""
    return np.where(human != UNLABELLED, human, labels).astype(np.int32)
