"""From one state of a session to the next: what is taught, and what classes are called."""

from collections.abc import Mapping
from dataclasses import replace

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.session.objects import aligned, numbered_shots
from napari_fewshot.session.open_proposals import painted_over
from napari_fewshot.session.state import SessionState
from napari_fewshot.support import LabelClass, Shot, SupportSet


def taught(state: SessionState, shot: Shot) -> SessionState:
    """Learn from a shot: one before it on its frame is replaced, what was decided there no longer is."""
    proposals = dict(state.proposals)
    waiting = proposals.pop(shot.key, None)
    if waiting is not None and shot.is_partial and waiting.labels.shape == shot.labels.shape:
        proposals[shot.key] = aligned(painted_over(waiting, shot), state.support.with_shot(shot))
    support = state.support if shot.instances is None else numbered_shots(state.support)
    return replace(
        state,
        support=support.with_shot(shot),
        proposals=proposals,
        accepted={k: v for k, v in state.accepted.items() if k != shot.key},
        objects={k: v for k, v in state.objects.items() if k != shot.key},
        rejected=state.rejected - {shot.key},
        origins=state.origins_when_taught(shot),
        aside=state.aside - {shot.key},
    )


def with_names(state: SessionState, classes: tuple[LabelClass, ...]) -> SessionState:
    """Give classes their new names and colours, and add new ones; those that are not mentioned stay."""
    named = {c.id: c for c in (*state.support.classes, *classes)}
    return replace(state, support=state.support.with_classes(named.values()))


def with_pixels(state: SessionState, frames: Mapping[FrameKey, Frame]) -> SessionState:
    """Let shots and tags be of these frames, where they are about one of them."""
    support = state.support
    shots = [replace(shot, frame=frames[shot.key]) if shot.key in frames else shot for shot in support.shots]
    tags = [replace(tag, frame=frames[tag.key]) if tag.key in frames else tag for tag in support.tags]
    return replace(state, support=SupportSet(shots, support.classes, tags))
