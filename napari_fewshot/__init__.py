"""Few-shot mask propagation for napari: paint one mask, get proposals everywhere else.

The public names are imported on first use, so that ``import napari_fewshot`` costs nothing: numpy comes
with the first value, torch with the first segmenter, napari and Qt only with the dock.

>>> from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
>>> segmenter = load_segmenter("auto")                                   # doctest: +SKIP
>>> concept = segmenter.learn(SupportSet([Shot(Frame("a", image), labels)]))  # doctest: +SKIP
>>> concept.propose(Frame("b", other_image)).labels                      # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fewshot.boxes import Box
    from napari_fewshot.errors import FewShotError
    from napari_fewshot.frames import Frame
    from napari_fewshot.models import list_segmenters, load_segmenter
    from napari_fewshot.propagation import PropagationSettings, propagate
    from napari_fewshot.proposals import Proposal
    from napari_fewshot.session import Session, open_session
    from napari_fewshot.support import LabelClass, Shot, SupportSet, Tag
    from napari_fewshot.volumes.settings import VolumeSettings
    from napari_fewshot.volumes.views import shots_across

__version__ = "0.1.0"

_HOME = {
    "Box": "boxes",
    "FewShotError": "errors",
    "Frame": "frames",
    "LabelClass": "support",
    "PropagationSettings": "propagation",
    "Proposal": "proposals",
    "Session": "session",
    "Shot": "support",
    "SupportSet": "support",
    "Tag": "support",
    "VolumeSettings": "volumes.settings",
    "list_segmenters": "models",
    "load_segmenter": "models",
    "open_session": "session",
    "propagate": "propagation",
    "shots_across": "volumes.views",
}

__all__ = [
    "Box",
    "FewShotError",
    "Frame",
    "LabelClass",
    "PropagationSettings",
    "Proposal",
    "Session",
    "Shot",
    "SupportSet",
    "Tag",
    "VolumeSettings",
    "__version__",
    "list_segmenters",
    "load_segmenter",
    "open_session",
    "propagate",
    "shots_across",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home module the first time somebody asks for it (PEP 562)."""
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
