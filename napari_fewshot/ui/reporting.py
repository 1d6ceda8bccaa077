"""What a person is told of how things go and of what went wrong, in their names for things. Knows no Qt."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import frame_name
from napari_fewshot.session import Session
from napari_fewshot.ui.notices import Notices
from napari_fewshot.ui.ports import Layers, View


class Reporter:
    """Keeps the error that was not read yet, and notices, and says both in words.

    Parameters
    ----------
    view
        Shows messages.
    session
        Has the frames that messages speak of.
    layers
        Know what these are called now.
    """

    def __init__(self, view: View, session: Session, layers: Layers) -> None:
        self.error = ""
        self.notices = Notices()
        self._view, self._session, self._layers = view, session, layers

    def say(self, message: str) -> None:
        """Say something in passing."""
        self._view.notify(message)

    def fail(self, error: Exception) -> None:
        """Tell of an error: a person's mistake as a message, a defect in full."""
        if isinstance(error, FewShotError):
            self.tell_error(self.in_words(str(error)))
        else:
            self.error = f"Something unexpected went wrong: {type(error).__name__}: {error}. Nothing you did is lost."
            self._view.notify(self.error, error=error, is_error=True)

    def tell_error(self, message: str) -> None:
        """Tell what went wrong; it stays until it is read or something else is done."""
        self.error = message[:1].upper() + message[1:]
        self._view.notify(self.error, is_error=True)

    def in_words(self, message: str) -> str:
        """Say frames by the name that their layers have now."""
        if "'" not in message:  # most have nothing to say at all, and there may be thousands of frames
            return message
        keys = {*self._session.frames, *self._session.support.keys}
        for key in keys:
            if f"'{frame_name(key)}'" in message:
                message = message.replace(f"'{frame_name(key)}'", f"'{self._layers.name(key)}'")
        return message


class Reporting(Protocol):
    """What tells of errors, and draws how things are afterwards."""

    @property
    def reporter(self) -> Reporter:
        """Keeps what is told."""
        ...

    def refresh(self) -> None:
        """Draw everything as it is now."""
        ...


_P = ParamSpec("_P")
_R = TypeVar("_R", bound=Reporting)


def reported(method: Callable[Concatenate[_R, _P], None]) -> Callable[Concatenate[_R, _P], None]:
    """Show what goes wrong instead of letting it pass: a person's mistake as a message, a defect in full."""

    @wraps(method)
    def command(self: _R, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        self.reporter.error = ""
        try:
            method(self, *args, **kwargs)
        except FewShotError as error:
            self.reporter.fail(error)
        except Exception as error:
            self.reporter.fail(error)
            self.refresh()
            raise
        self.refresh()

    return command


def watched(method: Callable[Concatenate[_R, _P], None]) -> Callable[Concatenate[_R, _P], None]:
    """Show what a person can mend also where nothing was pressed: sliders moved, layers came or went."""

    @wraps(method)
    def reaction(self: _R, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except FewShotError as error:
            self.reporter.fail(error)
        self.refresh()

    return reaction
