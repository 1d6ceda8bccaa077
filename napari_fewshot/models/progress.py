"""Long work tells whoever asked for it how far it is, before each tile; what they raise ends it there.

Who is told hangs on the running call (a context variable) and not on the features that are gone through: a method may
keep shots of one `learn` for the next, which somebody else asked for.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from napari_fewshot.segmenter import TileProgress


class _Count:
    """Tiles of one call, each counted once however often it is gone through."""

    def __init__(self, progress: TileProgress) -> None:
        self.progress = progress
        self.expected = 0
        self.done: set[Hashable] = set()

    def tell(self) -> None:
        total = max(1, self.expected)
        self.progress(min(len(self.done), total - 1), total)


_COUNT: ContextVar[_Count | None] = ContextVar("count", default=None)


@contextmanager
def told(progress: TileProgress | None) -> Iterator[None]:
    """Tell of all tiles that are gone through inside, in this thread; start to count at none."""
    token = _COUNT.set(None if progress is None else _Count(progress))
    try:
        yield
    finally:
        _COUNT.reset(token)


def expect(tiles: int) -> None:
    """Announce so many tiles more."""
    count = _COUNT.get()
    if count is not None:
        count.expected += tiles


def heed() -> None:
    """Let whoever asked for the work give up here: in between, in a loop that takes long without any tile."""
    count = _COUNT.get()
    if count is not None:
        count.tell()


@contextmanager
def one_tile(*what: Hashable) -> Iterator[None]:
    """Go through a tile: whoever asked is told before it, and it counts as done after it."""
    heed()
    yield
    count = _COUNT.get()
    if count is not None:
        count.done.add(what)
