"""A model of timm that a person names: whether there is one, and under which terms, found out in a thread. No Qt."""

from functools import partial
from typing import Final

from psygnal import Signal

from napari_fewshot.errors import FewShotError
from napari_fewshot.models.registry import TIMM_PREFIX
from napari_fewshot.ui.jobs import Failed, ModelNames, Terms, look_up_job
from napari_fewshot.ui.ports import Features, Runner
from napari_fewshot.ui.state import ModelState

_WAITING: Final = "Type the name of a model and press Enter. Until then nothing changes."


class ModelChoice:
    """Looks up names of models; only one that exists, and whose terms are on screen, is ever used.

    Parameters
    ----------
    features
        Knows models and their terms.
    runner
        A thread to ask in: timm takes some seconds to load.
    """

    chosen = Signal(str)
    """There is such a model; use it from now on (the name of a backbone)."""
    changed = Signal()
    """There is something new to show."""

    def __init__(self, features: Features, runner: Runner) -> None:
        self.state = ModelState()
        self._features, self._runner = features, runner
        self._names: tuple[str, ...] = ()
        self._known: Terms | None = None
        self._is_open = False

    def open(self) -> None:
        """Somebody wants a model of timm: offer what there is, and what they named before."""
        self._is_open = True
        if self._known is not None:
            self._take(self._known)
        else:
            self._show(_WAITING)
            self._ask("")

    def close(self) -> None:
        """They want something else after all; what is still looked up comes too late."""
        self._is_open = False
        self._runner.stop()

    def name(self, text: str) -> None:
        """Look up a name as a person types it, with or without ``timm:``."""
        wanted = text.strip().removeprefix(TIMM_PREFIX).strip()
        if not wanted:
            self._show(_WAITING)
        elif self._known is not None and self._known.backbone == TIMM_PREFIX + wanted:
            self._take(self._known)
        else:
            self._show(f"Looking for {wanted} ...")
            self._ask(TIMM_PREFIX + wanted)

    def _ask(self, backbone: str) -> None:
        self._runner.start(partial(look_up_job, self._features, backbone, not self._names), self._receive, 0)

    def _receive(self, item: object) -> None:
        if not self._is_open:
            return
        match item:
            case ModelNames():
                self._names = item.names
                self._show(self.state.text)
            case Terms():
                self._take(item)
            case Failed():
                error = item.error
                told = str(error) if isinstance(error, FewShotError) else f"{type(error).__name__}: {error}"
                self._show(told[:1].upper() + told[1:], is_trouble=True)

    def _take(self, terms: Terms) -> None:
        self._known = terms
        ahead = " It is downloaded once, the first time you press Propose." if terms.needs_download else ""
        self._show(f"Uses {terms.backbone}. {terms.notice}{ahead}")
        self.chosen.emit(terms.backbone)

    def _show(self, text: str, *, is_trouble: bool = False) -> None:
        self.state = ModelState(self._names, text, is_trouble)
        self.changed.emit()
