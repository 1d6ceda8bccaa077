"""Numbers of objects that are the same on all slices of an image, or at all times."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from napari_fewshot.frames import Frame, FrameKey, Instances, image_name
from napari_fewshot.volumes.series import series_along


class ObjectNumbers:
    """Links objects of slices, and remembers which numbers they had: no other object gets one of these."""

    def __init__(self) -> None:
        self._free: dict[str, int] = {}  # of images whose slices are linked

    def free(self, name: str) -> int:
        """Return a number that no object of an image has had, nor a larger one; 0 where slices are not linked."""
        return self._free.get(name, 0)

    @property
    def linked(self) -> dict[str, int]:
        """Images whose slices are linked, each with its `free` number."""
        return dict(self._free)

    def restore(self, linked: Mapping[str, int]) -> None:
        """Take over what was linked when a session was saved; see `linked`."""
        self._free = dict(linked)

    def note(self, key: FrameKey, ids: Instances | None) -> None:
        """Where slices are linked, remember which numbers were given."""
        name = image_name(key)
        if ids is not None and name in self._free:
            self._free[name] = max(self._free[name], int(ids.max(initial=0)) + 1)

    def link(
        self,
        name: str,
        frames: Iterable[Frame],
        objects: Callable[[FrameKey], Instances | None],
        along: str,
        reach: float = 0.0,
    ) -> dict[FrameKey, Instances]:
        """Return those frames of an image on which objects need other numbers, with these; from now on it is linked.

        Parameters
        ----------
        name
            Of the image.
        frames
            All of it.
        objects
            (H, W) what is on a frame, None where objects are not told apart.
        along
            Letter of the axis.
        reach
            See `napari_fewshot.instances.linking.matched`.
        """
        from napari_fewshot.instances.linking import linked  # slow to import

        news, free = {}, 1
        for series in series_along(frames, along).values():
            keys = [series.frames[place].key for place in sorted(series.frames)]
            there = {key: ids for key in keys if (ids := objects(key)) is not None}
            if len({ids.shape for ids in there.values()}) > 1:
                continue
            for (key, before), ids in zip(there.items(), linked(there.values(), reach=reach, free=free), strict=True):
                free = max(free, int(ids.max(initial=0)) + 1)
                if not np.array_equal(ids, before):
                    news[key] = ids
        self._free[name] = free
        return news
