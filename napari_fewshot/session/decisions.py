"""From one state of a session to the next: what is taught, forgotten, accepted and rejected."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from napari_fewshot.frames import FrameKey
from napari_fewshot.provenance import OriginMap, of_proposal
from napari_fewshot.session.objects import aligned, followed, numbered_shots
from napari_fewshot.session.open_proposals import painted_over, unpainted
from napari_fewshot.session.state import LabelMap, SessionState
from napari_fewshot.support import UNLABELLED, LabelClass, Shot, SupportSet


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


def forgotten(state: SessionState, key: FrameKey) -> SessionState:
    """Learn no more from a frame, and take back what was decided there; what was painted goes off its proposal."""
    proposals, shot = dict(state.proposals), state.shot(key)
    waiting = proposals.pop(key, None)
    if waiting is not None and shot is not None and shot.labels.shape == waiting.labels.shape:
        waiting = unpainted(waiting, None, shot)
    if waiting is not None:
        proposals[key] = aligned(waiting, state.support)
    undecided = without(state, {key})
    return replace(undecided, support=state.support.without(key), proposals=proposals, aside=state.aside - {key})


def without(state: SessionState, keys: Collection[FrameKey]) -> SessionState:
    """Drop what is proposed and what was accepted on these frames."""
    return replace(
        state,
        proposals={k: p for k, p in state.proposals.items() if k not in keys},
        accepted={k: labels for k, labels in state.accepted.items() if k not in keys},
        origins={k: origins for k, origins in state.origins.items() if k not in keys},
        objects={k: ids for k, ids in state.objects.items() if k not in keys},
    )


def accepted(state: SessionState, decided: Mapping[FrameKey, LabelMap], support: SupportSet) -> SessionState:
    """Decide on open proposals.

    Parameters
    ----------
    state
        In which they are open.
    decided
        (H, W) what is accepted of each.
    support
        What is learnt from afterwards.
    """
    origins = {key: _origins_of(state, key, labels) for key, labels in decided.items()}
    objects = {key: followed(state.proposals[key].instances, labels, support) for key, labels in decided.items()}
    return replace(
        state,
        support=support,
        proposals={k: p for k, p in state.proposals.items() if k not in decided},
        accepted={**state.accepted, **decided},
        origins={**state.origins, **origins},
        objects={**state.objects, **{key: ids for key, ids in objects.items() if ids is not None}},
    )


def _origins_of(state: SessionState, key: FrameKey, labels: LabelMap) -> OriginMap:
    """Who says what, once a proposal is accepted with these labels."""
    waiting = state.proposals[key]
    corrections, changed = waiting.corrections, labels != waiting.labels
    if changed.any():
        before = np.full(labels.shape, UNLABELLED, np.uint8) if corrections is None else corrections
        corrections = np.where(changed, labels, before).astype(np.uint8)
    origins = of_proposal(labels, corrections, state.shot(key), decided=True)
    return state.origins_of_open(key, origins)


def rejected(state: SessionState, keys: Collection[FrameKey]) -> SessionState:
    """Throw open proposals away."""
    return replace(
        state,
        proposals={k: p for k, p in state.proposals.items() if k not in keys},
        rejected=state.rejected.union(keys),
    )


def with_names(state: SessionState, classes: tuple[LabelClass, ...]) -> SessionState:
    """Give classes their new names and colours, and add new ones; those that are not mentioned stay."""
    named = {c.id: c for c in (*state.support.classes, *classes)}
    return replace(state, support=state.support.with_classes(named.values()))
