"""What a run would cost, told before it is started. Knows no Qt."""

from dataclasses import dataclass

from napari_fewshot.session import FrameState, Session
from napari_fewshot.ui.forecast import Forecast, in_words
from napari_fewshot.ui.upkeep import Upkeep


@dataclass(frozen=True)
class Prospect:
    """What a run would cost, in words."""

    estimate: str = ""
    warning: str = ""
    not_preparing: str = ""


class Prospects:
    """Finds out what a run would cost, once until something changes.

    Parameters
    ----------
    session
        Has the images and the settings.
    forecast
        Knows what was measured.
    upkeep
        Knows what is kept.
    """

    def __init__(self, session: Session, forecast: Forecast, upkeep: Upkeep) -> None:
        self._session, self._forecast, self._upkeep = session, forecast, upkeep
        self._known: Prospect | None = None
        session.frame_changed.connect(self.forget)
        session.support_changed.connect(self.forget)

    def forget(self, _: object = None) -> None:
        """Find out anew when somebody asks next."""
        self._known = None

    def now(self) -> Prospect:
        """Return what a run would cost."""
        if self._known is None:
            limits, settings, session = self._upkeep.features.settings, self._session.settings, self._session
            decided = (FrameState.TAUGHT, FrameState.ACCEPTED)
            keys = [key for key in session.frames if session.state(key) not in decided]
            cost = self._forecast.estimate(settings, limits, keys, max(1, len(session.classes)))
            self._known = Prospect(
                "" if cost is None else in_words(cost),
                "" if cost is None else self._forecast.warning(cost, limits, self._upkeep.usage),
                self._upkeep.not_preparing if self._upkeep.preferences.prepare else "",
            )
        return self._known
