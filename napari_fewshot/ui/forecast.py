"""What pressing Propose will cost, in words, from what it cost before."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.imaging.cost import Estimate, Meter, Rates, estimate
from napari_fewshot.models.cache_settings import GIB, CacheSettings, CacheUsage
from napari_fewshot.models.registry import backbone_card, list_segmenters
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.ui.machine import Room

_RESERVE: Final = GIB  # of the disk, which the cache leaves to other programs


class Forecast:
    """Knows the shapes of the images, which of them were computed already, and what runs have cost.

    Parameters
    ----------
    room
        Tells what the computer has to spare.
    """

    def __init__(self, room: Callable[[CacheSettings], Room]) -> None:
        self._room = room
        self._shapes: dict[FrameKey, tuple[int, ...]] = {}
        self._known: dict[SegmenterSettings, set[FrameKey]] = {}
        self._meters: dict[SegmenterSettings, Meter] = {}

    # ------------------------------------------------------------------ what happens
    def follow(self, frames: Mapping[FrameKey, Frame]) -> None:
        """Take note of the images that there are now."""
        shapes = {key: shape for key, frame in frames.items() if (shape := _shape(frame))}
        changed = {key for key, shape in self._shapes.items() if shapes.get(key) != shape}
        for known in self._known.values():
            known -= changed
        self._shapes = shapes

    def begin(self, settings: SegmenterSettings) -> None:
        """Take note that a run begins."""
        self._meter(settings).begin()

    def done(self, settings: SegmenterSettings, key: FrameKey, now: float) -> None:
        """Take note that an image of a run is done."""
        if key in self._shapes:
            self._meter(settings).saw(self._shapes[key], self.is_known(settings, key), now)
            self.computed(settings, key)

    def computed(self, settings: SegmenterSettings, key: FrameKey) -> None:
        """Take note that the features of an image are there."""
        self._known.setdefault(_features_of(settings), set()).add(key)

    def forget(self) -> None:
        """Take note that no features are kept any more."""
        self._known.clear()

    # ------------------------------------------------------------------ what is to be expected
    def is_known(self, settings: SegmenterSettings, key: FrameKey) -> bool:
        """Whether the features of an image are there."""
        return key in self._known.get(_features_of(settings), ())

    def estimate(
        self, settings: SegmenterSettings, limits: CacheSettings, keys: Iterable[FrameKey], classes: int
    ) -> Estimate | None:
        """Tell what a run over these images will cost; None where their sizes are not known, or there are none."""
        shapes = {key: self._shapes[key] for key in keys if key in self._shapes}
        if not shapes:
            return None
        rates = self._meter(settings).rates
        known = [shape for key, shape in shapes.items() if self.is_known(settings, key)]
        fresh = [shape for key, shape in shapes.items() if not self.is_known(settings, key)]
        memory, disk = limits.memory_bytes, limits.disk_bytes
        cost = estimate(fresh, known, rates, classes=classes, memory_limit=memory, disk_limit=disk)
        if exceeds(cost, limits):  # what was kept first was given up for what came last
            cost = estimate([*fresh, *known], [], rates, classes=classes, memory_limit=memory, disk_limit=disk)
        return cost

    def warning(self, cost: Estimate, limits: CacheSettings, kept: CacheUsage) -> str:
        """Say what there is not enough of beside what is taken already, and what to do; "" where all is well."""
        room = self._room(limits)
        memory, disk = cost.memory_bytes - kept.memory_bytes, cost.disk_bytes - kept.disk_bytes
        if room.memory is not None and memory > room.memory:
            return (
                f"This may need {size(memory)} of memory, and {size(room.memory)} are free. Close other "
                "programs, tick fewer images, or lower the limit for memory under Advanced."
            )
        spare = None if room.disk is None else max(0, room.disk - _RESERVE)
        if exceeds(cost, limits):
            fits = spare is None or cost.feature_bytes <= spare
            what = "raise the limit for disk space under Advanced" if fits else "tick fewer images at a time"
            return (
                f"What is computed for these images takes {size(cost.feature_bytes)}, more than may be kept, so every "
                f"pass computes it again. To make corrections quick, {what}."
            )
        if spare is not None and disk > spare:
            return (
                f"Up to {size(disk)} of disk space may be needed, and {size(spare)} can be used. What does "
                "not fit is computed again next time. Free some space, or lower the limit under Advanced."
            )
        return ""

    def _meter(self, settings: SegmenterSettings) -> Meter:
        if settings not in self._meters:
            self._meters[settings] = Meter(_guess(settings))
        return self._meters[settings]


def exceeds(cost: Estimate, limits: CacheSettings) -> bool:
    """Whether the features of all these images are more than may be kept."""
    return cost.feature_bytes > max(limits.memory_bytes, limits.disk_bytes)


def in_words(cost: Estimate) -> str:
    """Say an estimate as a person would.

    >>> in_words(Estimate(40, (2048, 2048), 0, 25.2, 1 << 30, 5 << 29, 0, False))
    '40 slices of 2048 x 2048: about 25 s, 1.0 GiB memory, 2.5 GiB disk'
    """
    many = "1 slice" if cost.frames == 1 else f"{cost.frames} slices"
    each = f"{many}, {cost.pixels / 1e6:.1f} megapixels" if cost.size is None else f"{many} of {_by(cost.size)}"
    time = f"{'roughly' if cost.is_rough else 'about'} {duration(cost.seconds)}"
    disk = f", {size(cost.disk_bytes)} disk" if cost.disk_bytes else ""
    return f"{each}: {time}, {size(cost.memory_bytes)} memory{disk}"


def size(count: int) -> str:
    """Say a number of bytes.

    >>> size(0), size(130_000_000), size(3 << 30)
    ('0 MiB', '124 MiB', '3.0 GiB')
    """
    mebibytes = count / (1 << 20)
    if mebibytes < 1000:
        return f"{max(round(mebibytes), int(count > 0))} MiB"
    return f"{mebibytes / 1024:.1f} GiB"


def duration(seconds: float) -> str:
    """Say a time span as a person would.

    >>> duration(12.4), duration(75), duration(7300)
    ('12 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _by(size_: tuple[int, int]) -> str:
    return f"{size_[0]} x {size_[1]}"


def _shape(frame: Frame) -> tuple[int, ...] | None:
    shape = getattr(frame.image, "shape", None)
    return None if shape is None or len(shape) < 2 or 0 in shape else tuple(map(int, shape))


def _features_of(settings: SegmenterSettings) -> SegmenterSettings:
    """Features depend on backbone and device, not on the method."""
    return SegmenterSettings(backbone=settings.backbone, device=settings.device)


def _guess(settings: SegmenterSettings) -> Rates:
    backbone = backbone_card(settings.backbone)
    method = next((card.seconds for card in list_segmenters() if card.name == settings.method), 0.1)
    return Rates(backbone.seconds + method, method, backbone.feature_bytes, backbone.per_channel)
