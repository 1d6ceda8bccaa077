"""What was computed lately, within a limit: a window that slides along with whoever asks."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Memo(Generic[KeyT, ValueT]):
    """A function that remembers its newest results; one that is gone is computed again, and is the same.

    Parameters
    ----------
    work
        The function.
    room
        How many results are kept; the one that was asked for longest ago goes first.
    """

    def __init__(self, work: Callable[[KeyT], ValueT], room: int) -> None:
        self._work, self._room = work, room
        self._known: OrderedDict[KeyT, ValueT] = OrderedDict()

    def __call__(self, key: KeyT) -> ValueT:
        """Return the result for a key."""
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        value = self._work(key)
        self._known[key] = value
        while len(self._known) > self._room:
            self._known.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._known)
