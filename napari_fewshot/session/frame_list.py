"""The frames of a session: those to label, and those that were removed and are still saved."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from napari_fewshot.frames import Frame, FrameKey, image_name


class FrameList:
    """Frames to label, in the order in which they came, and others of which something is known.

    Attributes
    ----------
    listed
        Those to label.
    absent
        Those that were removed, and are saved with all that is known of them.
    """

    def __init__(self) -> None:
        self.restore({})

    def everything(self) -> dict[FrameKey, Frame]:
        """Return a copy of both; any thread may ask."""
        return {**dict(self._absent), **dict(self._listed)}

    def of_image(self, name: str) -> list[Frame]:
        """Return those to label that are of an image."""
        return [frame for key, frame in self._listed.items() if image_name(key) == name]

    def in_order_from(self, first: FrameKey | None) -> list[FrameKey]:
        """Return all to label in the order of interest to somebody who looks at one."""
        return sorted(self._listed, key=lambda key: _distance(key, first))

    def add(self, frame: Frame) -> bool:
        """Add a frame to label, or put it in the place of that with its key. Returns whether it was not there."""
        is_new = self._listed.get(frame.key) is not frame
        self._listed[frame.key] = frame
        self._absent.pop(frame.key, None)
        return is_new

    def add_missing(self, frame: Frame) -> None:
        """Add a frame to label unless there is one with its key."""
        if frame.key not in self._listed:
            self.add(frame)

    def remove(self, keys: Iterable[FrameKey], said: Collection[FrameKey]) -> None:
        """Label these no more; all of an image are kept beside the others if anything was said on one of these.

        Parameters
        ----------
        keys
            Those to remove.
        said
            All on which anything was proposed, decided or painted.
        """
        gone = {key: self._listed[key] for key in keys if key in self._listed}
        images = {image_name(key) for key in gone if key in said}
        self._absent |= {key: frame for key, frame in gone.items() if image_name(key) in images}
        for key in gone:  # in this order, so that a copy that is made meanwhile lacks none
            del self._listed[key]

    def restore(self, frames: Mapping[FrameKey, Frame]) -> None:
        """Hold these to label, and no others."""
        self._listed, self._absent = dict(frames), dict[FrameKey, Frame]()
        self.listed: Mapping[FrameKey, Frame] = MappingProxyType(self._listed)
        self.absent: Mapping[FrameKey, Frame] = MappingProxyType(self._absent)


def _distance(key: FrameKey, first: FrameKey | None) -> tuple[int, int]:
    """How far a frame is from the one somebody looks at: the same, in the same stack, elsewhere."""
    if first is None or key == first:
        return (0, 0)
    if isinstance(key, str) or isinstance(first, str) or key[0] != first[0] or len(key) != len(first):
        return (2, 0)
    steps = zip(key[1:], first[1:], strict=True)
    return (1, sum(abs(a - b) for a, b in steps if isinstance(a, int) and isinstance(b, int)))
