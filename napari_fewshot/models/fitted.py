"""What was learnt, on its own: without the network, so that it travels to other processes and is put on theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Frame
from napari_fewshot.models.devices import moved
from napari_fewshot.models.feature_segmenter import FeatureConcept, FeatureSegmenter
from napari_fewshot.models.reproducible import Identity, identity_of
from napari_fewshot.segmenter import Concept, FewShotSegmenter
from napari_fewshot.support import Shot, SupportSet


@dataclass(frozen=True, eq=False)
class Fitted:
    """The state of a method that was fitted to shots, on the CPU; may be pickled.

    Attributes
    ----------
    identity
        Of the segmenter that it belongs to.
    support
        What was taught, with the pixels in memory.
    state, channels
        See `FeatureConcept`.
    """

    identity: Identity
    support: SupportSet
    state: Any
    channels: Mapping[str, int]


def pack(concept: Concept, segmenter: FewShotSegmenter) -> Fitted:
    """Take what was learnt out of a concept.

    Raises
    ------
    SettingsError
        If it is of a segmenter that is not of this package.
    """
    if not isinstance(concept, FeatureConcept):
        raise SettingsError(f"'{segmenter.name}' cannot be sent to other processes; run it in one")
    shots = [Shot(Frame(shot.key, shot.frame.read()), shot.labels, shot.guessed) for shot in concept.support]
    support = SupportSet(shots, concept.support.classes)
    return Fitted(identity_of(segmenter), support, moved(concept.state, "cpu"), dict(concept.channels))


def unpack(fitted: Fitted, segmenter: FewShotSegmenter) -> Concept:
    """Make a concept of what was learnt elsewhere.

    Raises
    ------
    SettingsError
        If the segmenter has other weights.
    """
    here = identity_of(segmenter)
    if not isinstance(segmenter, FeatureSegmenter) or (here.features, here.head) != (
        fitted.identity.features,
        fitted.identity.head,
    ):
        raise SettingsError(
            f"a worker has the weights {here.features} {here.head}, but {fitted.identity.features} "
            f"{fitted.identity.head} are needed; install the same napari-fewshot and weights on all workers"
        )
    return FeatureConcept(fitted.support, segmenter.extractor, segmenter.method, fitted.state, fitted.channels)
